"""Mail that waits to be sent, written in the transaction of what it tells of."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Mail(models.Model):
    """A mail to one person. Written and sent by `budgets.mail` alone; `due_at` is when it is tried next."""

    recipient = models.EmailField(_("to"))
    subject = models.CharField(_("subject"), max_length=300)
    body = models.TextField(_("text"))
    queued_at = models.DateTimeField(_("queued"))
    due_at = models.DateTimeField(_("due"))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    sent_at = models.DateTimeField(_("sent"), null=True)

    class Meta:
        db_table = "mails"
        verbose_name = _("mail")
        verbose_name_plural = _("mails")
        indexes = [models.Index(fields=["due_at"], condition=Q(sent_at__isnull=True), name="mail_to_send")]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"
