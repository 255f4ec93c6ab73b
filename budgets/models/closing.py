"""The closing of months: one row for each time that one was closed.

The triggers of `budgets/sql/closing.sql` fill in the figures, and keep a closed month as it is.
"""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization
from budgets.models.approvals import ApprovalRequest
from budgets.models.books import BudgetAccount, EuroField


class MonthClose(models.Model):
    """A month of an organization that is closed, or was until it was reopened. Written by `budgets.closing`.

    The figures are those of the organization's own account at the close: the cap with which the month began,
    the cap at its end, what was spent, and how many cost records say so; and the time zone by which its days
    are told, whatever the organization's is later.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="month_closes", verbose_name=_("organization")
    )
    month = models.DateField(_("month"))
    closed_at = models.DateTimeField(_("closed"))
    closed_by = models.CharField(_("closed by"), max_length=254)
    reason = models.TextField(_("reason"), blank=True)
    opening_cap_eur = EuroField(_("cap at the beginning"), null=True, editable=False)
    cap_eur = EuroField(_("cap at the end"), null=True, editable=False)
    spent_eur = EuroField(_("spent"), default=0, editable=False)
    records = models.PositiveBigIntegerField(_("cost records"), default=0, editable=False)
    time_zone = models.CharField(_("time zone"), max_length=64, default="", editable=False)
    reopened_at = models.DateTimeField(_("reopened"), null=True)
    reopened_by = models.CharField(_("reopened by"), max_length=254, blank=True)
    request = models.OneToOneField(
        ApprovalRequest, models.PROTECT, null=True, related_name="reopened", verbose_name=_("request")
    )

    class Meta:
        db_table = "budget_month_closes"
        verbose_name = _("close of a month")
        verbose_name_plural = _("closes of months")
        ordering = ["-closed_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "month"],
                condition=Q(reopened_at__isnull=True),
                name="month_closed_once",
            ),
            models.CheckConstraint(condition=Q(month__day=1), name="month_close_month_is_first_day"),
            models.CheckConstraint(
                condition=Q(reopened_at__isnull=True, request__isnull=True)
                | Q(reopened_at__isnull=False, request__isnull=False),
                name="month_close_reopened_by_request",
            ),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="month_close_by_month")]

    def __str__(self) -> str:
        return f"{self.organization} {self.month:%Y-%m}"


class AccountingMonth(BudgetAccount):
    """An organization's month as the page of month closes shows it: its own account, and no part's."""

    class Meta:
        proxy = True
        verbose_name = _("month")
        verbose_name_plural = _("month close")
