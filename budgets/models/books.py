"""The books: accounts with caps, the holds of calls in flight, and one cost record for each paid call.

Only `budgets.ledger` writes the money columns. What must always be true of them stands in the database:
CHECKs, unique constraints, and triggers that forbid changing a cost record.
"""

from datetime import date

from django.db import models
from django.db.models import F, Q
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from aigov.money import EURO_MAX
from aigov.organizations.models import Organization
from providers.models import Price


class EuroField(models.DecimalField):  # type: ignore[type-arg]
    """An amount in euro with nine places, the ledger's precision."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "max_digits": 18, "decimal_places": 9})  # type: ignore[arg-type]

    def deconstruct(self) -> tuple[str, str, list[object], dict[str, object]]:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, list(args), kwargs


class Scope(models.TextChoices):
    ORGANIZATION = "organization", _("organization")
    USER = "user", _("user")
    USE_CASE = "use_case", _("use case")


class Purpose(models.TextChoices):
    ANSWER = "answer", _("answer")
    CHECK = "check", _("check")


class FxRate(models.Model):
    """Euro for one unit of a currency, from a day on. Never changed: a later row for the same day wins."""

    currency = models.CharField(_("currency"), max_length=3, default="USD")
    valid_from = models.DateField(_("valid from"))
    eur_per_unit = models.DecimalField(_("euro per unit"), max_digits=18, decimal_places=10)
    source = models.CharField(_("source"), max_length=100)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "fx_rates"
        verbose_name = _("exchange rate")
        verbose_name_plural = _("exchange rates")
        ordering = ["-valid_from", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(eur_per_unit__gt=0), name="fx_rate_positive"),
            models.CheckConstraint(condition=Q(currency="USD"), name="fx_rate_currency_usd"),
        ]

    def __str__(self) -> str:
        return f"1 {self.currency} = {self.eur_per_unit} EUR ({self.valid_from})"


class BudgetAccount(models.Model):
    """What an organization, one of its users or one of its use cases may spend in a month, and has.

    `cap_eur` is the cap in force: the standing cap of the settings registry, or, where `cap_is_of_month`,
    the one that finance has set for this month. No cap (null) is possible for users and use cases only.
    Triggers keep `opening_cap_eur`, the cap with which the account began, and `closed`, whether its month is.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="budget_accounts", verbose_name=_("organization")
    )
    scope = models.CharField(_("scope"), max_length=16, choices=Scope.choices)
    subject = models.CharField(_("user or use case"), max_length=200, blank=True)
    month = models.DateField(_("month"))
    cap_eur = EuroField(_("cap"), null=True)
    cap_is_of_month = models.BooleanField(_("set for this month"), default=False)
    spent_eur = EuroField(_("spent"), default=0, editable=False)
    held_eur = EuroField(_("held"), default=0, editable=False)
    opening_cap_eur = EuroField(_("cap at the beginning"), null=True, editable=False)
    closed = models.BooleanField(_("closed"), default=False, db_default=False, editable=False)

    class Meta:
        db_table = "budget_accounts"
        verbose_name = _("month's budget")
        verbose_name_plural = _("months' budgets")
        ordering = ["-month", "organization", "scope", "subject"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "month", "scope", "subject"], name="budget_account_once"
            ),
            models.CheckConstraint(condition=Q(held_eur__gte=0), name="budget_account_held_not_negative"),
            models.CheckConstraint(
                # The upper bound keeps NaN out, which PostgreSQL takes for the largest number.
                condition=Q(cap_eur__isnull=False, cap_eur__gte=0, cap_eur__lte=EURO_MAX)
                | Q(cap_eur__isnull=True, scope__in=["user", "use_case"]),
                name="budget_account_cap_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(scope="organization", subject="")
                | (Q(scope__in=["user", "use_case"]) & ~Q(subject="")),
                name="budget_account_subject_fits_scope",
            ),
            models.CheckConstraint(condition=Q(month__day=1), name="budget_account_month_is_first_day"),
        ]

    def __str__(self) -> str:
        part = f" {self.scope.replace('_', ' ')} {self.subject}" if self.subject else ""
        return f"{self.organization}{part} {self.month:%Y-%m}"

    @property
    def heading(self) -> str:
        """As a page about it is called, in the reader's language."""
        whose = " · ".join(filter(None, (self.organization.name, self.subject)))
        return f"{whose}, {date_format(self.month, 'YEAR_MONTH_FORMAT')}"


class Charged(models.Model):
    """What a hold fixes and its cost record repeats."""

    organization = models.ForeignKey(Organization, models.PROTECT, verbose_name=_("organization"))
    month = models.DateField(_("month"))
    user = models.CharField(_("user"), max_length=200, blank=True)
    use_case = models.CharField(_("use case"), max_length=200, blank=True)
    completion_id = models.CharField(_("completion"), max_length=40, blank=True)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=0)
    purpose = models.CharField(_("purpose"), max_length=8, choices=Purpose.choices, default=Purpose.ANSWER)
    provider = models.CharField(_("provider"), max_length=32, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    tier = models.CharField(_("tier"), max_length=8, blank=True)
    price = models.ForeignKey(Price, models.PROTECT, null=True, verbose_name=_("price"), related_name="+")
    fx_rate = models.ForeignKey(
        FxRate, models.PROTECT, null=True, verbose_name=_("exchange rate"), related_name="+"
    )
    metadata = models.JSONField(_("metadata"), default=dict)

    class Meta:
        abstract = True


class Hold(Charged):
    """The worst case of a call in flight. The row goes when the call is settled, voided or expired."""

    id = models.UUIDField(primary_key=True)
    amount_eur = EuroField(_("amount"))
    amount_usd = models.DecimalField(_("amount in USD"), max_digits=22, decimal_places=12)
    created_at = models.DateTimeField(_("taken"))
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        db_table = "budget_holds"
        verbose_name = _("hold")
        verbose_name_plural = _("open holds")
        constraints = [models.CheckConstraint(condition=Q(amount_eur__gt=0), name="hold_positive")]
        indexes = [
            models.Index(fields=["expires_at"], name="hold_by_expiry"),
        ]

    def __str__(self) -> str:
        return str(self.id)


#: The reason on the correction by which an answer that came after its hold had expired replaces the estimate;
#: the ledger itself writes it.
LATE_ANSWER = "late_answer"


class CostRecord(Charged):
    """What one provider call cost, or a correction of it. Never changed: a further record corrects it."""

    hold_id = models.UUIDField(_("hold"), null=True, unique=True)
    corrects = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="corrections", verbose_name=_("corrects")
    )
    request = models.ForeignKey(
        "ApprovalRequest", models.PROTECT, null=True, related_name="records", verbose_name=_("request")
    )
    created_at = models.DateTimeField(_("at"))
    held_eur = EuroField(_("held"), default=0)
    cost_eur = EuroField(_("cost"))
    cost_usd = models.DecimalField(_("cost in USD"), max_digits=22, decimal_places=12, null=True)
    eur_per_usd = models.DecimalField(_("euro per USD"), max_digits=18, decimal_places=10, null=True)
    estimated = models.BooleanField(_("estimated"), default=False)
    overrun = models.BooleanField(_("over the hold"), default=False)
    late = models.BooleanField(_("late: of a closed month"), default=False, db_default=False)
    reason = models.CharField(_("why"), max_length=200, blank=True)
    service_tier = models.CharField(_("service tier"), max_length=32, blank=True)
    provider_request_id = models.CharField(_("provider's request"), max_length=100, blank=True)
    input_total = models.PositiveBigIntegerField(_("input tokens"), null=True)
    cache_read = models.PositiveBigIntegerField(_("read from the provider's cache"), null=True)
    cache_write_5m = models.PositiveBigIntegerField(_("written to it for 5 minutes"), null=True)
    cache_write_1h = models.PositiveBigIntegerField(_("written to it for an hour"), null=True)
    output_total = models.PositiveBigIntegerField(_("output tokens"), null=True)
    reasoning = models.PositiveBigIntegerField(_("of them reasoning"), null=True)
    raw_usage = models.JSONField(_("the provider's own usage"), null=True)

    class Meta:
        db_table = "ai_costs"
        verbose_name = _("cost record")
        verbose_name_plural = _("cost records")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    hold_id__isnull=False, corrects__isnull=True, request__isnull=True, cost_eur__gte=0
                )
                | (Q(hold_id__isnull=True) & (Q(corrects__isnull=False) | Q(request__isnull=False))),
                name="cost_record_charges_or_corrects",
            ),
            models.CheckConstraint(
                condition=Q(overrun=False) | Q(cost_eur__gt=F("held_eur")) | Q(corrects__isnull=False),
                name="cost_record_overrun_is_over",
            ),
            # An answer that comes after its hold has expired corrects the estimate once.
            models.UniqueConstraint(
                fields=["corrects"], condition=Q(reason=LATE_ANSWER), name="cost_record_one_late_answer"
            ),
            models.UniqueConstraint(
                fields=["request"], condition=Q(request__isnull=False), name="cost_record_once_by_request"
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "month", "created_at"], name="cost_record_by_month"),
            models.Index(fields=["completion_id"], name="cost_record_by_completion"),
            models.Index(fields=["created_at"], condition=Q(overrun=True), name="cost_record_overrun"),
            # What is newer than the roll-up's watermark.
            models.Index(fields=["created_at", "organization"], name="cost_record_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.cost_eur} € {self.provider} {self.model}"

    @property
    def belongs_to(self) -> date:
        """The month of what it is about; of a late record an earlier one than that whose books it is in."""
        if self.corrects is not None:
            return self.corrects.month
        return self.month if self.request is None else self.request.month
