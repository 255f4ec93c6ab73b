"""Alerts by mail."""

from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.utils.translation import gettext as _
from django.utils.translation import override

from aigov.organizations.models import User
from budgets.alerts import words
from budgets.alerts.webhook import NotTaken
from budgets.models import Alert, AlertDelivery


def send(delivery: AlertDelivery) -> None:
    """Sends the alert, in the language of the person whose address it is; raises `NotTaken`."""
    person = User.objects.filter(email=delivery.address).first()
    with override((person and person.language) or settings.LANGUAGE_CODE):
        subject, text = _one_line(words.title(delivery.alert)), _text(delivery.alert)
    try:
        send_mail(subject, text, None, [delivery.address])
    except (SMTPException, OSError) as error:
        raise NotTaken(_("The mail server did not take it: %(why)s.") % {"why": error}) from error


def _text(alert: Alert) -> str:
    lines = (
        words.text(alert),
        _("Act on it: %(url)s") % {"url": words.absolute(words.address(alert))},
        _("The alert: %(url)s") % {"url": words.absolute(words.page(alert))},
    )
    return "\n\n".join(lines) + "\n"


def _one_line(title: str) -> str:
    """A name may hold what no header may."""
    return " ".join(title.split())
