"""What takes two people: asked for by one, decided by another. The database keeps the two apart."""

from django.db import models
from django.db.models import F, Q
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization, User
from budgets.models.books import CostRecord, EuroField, Scope

SAME_ASKED_ONCE = "request_same_cap_asked_once"
CORRECTION_ASKED_ONCE = "request_correction_asked_once"


class RequestKind(models.TextChoices):
    CAP = "cap", _("cap")
    STANDING_CAP = "standing_cap", _("standing cap")
    CORRECTION = "correction", _("correction")
    REOPENING = "reopening", _("reopening of a month")


class RequestState(models.TextChoices):
    OPEN = "open", _("open")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    EXPIRED = "expired", _("expired")
    WITHDRAWN = "withdrawn", _("withdrawn")


class ApprovalRequest(models.Model):
    """A cap, a correction or a month's reopening that waits for a second person. Written by
    `budgets.approvals` alone.

    `amount_eur` is the cap that is asked for, or the signed amount of the correction; `before_eur` the cap
    that was in force then (null: none). A standing cap is asked for from `month` on. `asked_by_user` is the
    person who asks, or, where a service asks, the person who made its key: a key is nobody's second person.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="approval_requests", verbose_name=_("organization")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=RequestKind.choices)
    month = models.DateField(_("month"))
    scope = models.CharField(_("scope"), max_length=16, choices=Scope.choices, default=Scope.ORGANIZATION)
    subject = models.CharField(_("user or use case"), max_length=200, blank=True)
    amount_eur = EuroField(_("amount"), null=True)
    before_eur = EuroField(_("cap until then"), null=True)
    corrects = models.ForeignKey(
        CostRecord, models.PROTECT, null=True, related_name="+", verbose_name=_("corrects")
    )
    provider = models.CharField(_("provider"), max_length=32, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    reason = models.TextField(_("reason"))
    state = models.CharField(
        _("state"), max_length=16, choices=RequestState.choices, default=RequestState.OPEN
    )
    asked_by = models.CharField(_("asked by"), max_length=254)
    asked_by_user = models.ForeignKey(
        User, models.PROTECT, null=True, related_name="+", verbose_name=_("asked by")
    )
    asked_at = models.DateTimeField(_("asked"))
    expires_at = models.DateTimeField(_("expires"))
    decided_by = models.ForeignKey(
        User, models.PROTECT, null=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), null=True)
    decision_reason = models.TextField(_("reason of the decision"), blank=True)

    class Meta:
        db_table = "budget_requests"
        verbose_name = _("request")
        verbose_name_plural = _("requests")
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(month__day=1), name="request_month_is_first_day"),
            models.CheckConstraint(
                condition=Q(state=RequestState.OPEN, decided_at__isnull=True)
                | (~Q(state=RequestState.OPEN) & Q(decided_at__isnull=False)),
                name="request_open_until_decided",
            ),
            models.CheckConstraint(
                # Two nulls are not equal: nobody's request may be decided by nobody.
                condition=~Q(state__in=[RequestState.APPROVED, RequestState.REJECTED])
                | (
                    Q(decided_by__isnull=False)
                    & (Q(asked_by_user__isnull=True) | ~Q(asked_by_user=F("decided_by")))
                ),
                name="request_four_eyes",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=[RequestKind.CAP, RequestKind.STANDING_CAP],
                    amount_eur__gte=0,
                    amount_eur__isnull=False,
                )
                | Q(kind=RequestKind.CORRECTION, amount_eur__isnull=False)
                | Q(kind=RequestKind.REOPENING, amount_eur__isnull=True),
                name="request_amount_fits_kind",
            ),
            models.UniqueConstraint(
                # A second click, or a second person, asks for the same no second time.
                fields=["organization", "kind", "month", "scope", "subject", "amount_eur"],
                condition=Q(state=RequestState.OPEN, kind__in=[RequestKind.CAP, RequestKind.STANDING_CAP]),
                name=SAME_ASKED_ONCE,
            ),
            models.UniqueConstraint(
                # A correction says by how much: a second one would correct what the first has put right.
                fields=["corrects"],
                condition=Q(state=RequestState.OPEN, kind=RequestKind.CORRECTION),
                name=CORRECTION_ASKED_ONCE,
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "month"], condition=Q(state="open"), name="request_open_by_month"
            ),
        ]

    def __str__(self) -> str:
        return f"{capfirst(self.get_kind_display())} {self.organization} {self.month:%Y-%m}"

    @property
    def heading(self) -> str:
        """As a page about it is called, in the reader's language."""
        whose = " · ".join(filter(None, (self.organization.name, self.subject)))
        month = date_format(self.month, "YEAR_MONTH_FORMAT")
        return f"{capfirst(self.get_kind_display())}, {whose}, {month}"
