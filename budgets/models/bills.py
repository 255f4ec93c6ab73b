"""What the providers have billed, a day at a time in UTC, and which differences were accepted.

Bills belong to the whole platform and to no organization. A day that is imported again replaces what was
known of it; the audit trail says what changed.
"""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import User
from providers.models import ProviderName


class BillSource(models.TextChoices):
    API = "api", _("read from the provider")
    CSV = "csv", _("from a file")


class UsdField(models.DecimalField):  # type: ignore[type-arg]
    """A signed amount in US dollars with twelve places, as the ledger's cost records have."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "max_digits": 22, "decimal_places": 12})  # type: ignore[arg-type]

    def deconstruct(self) -> tuple[str, str, list[object], dict[str, object]]:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, list(args), kwargs


class BillImport(models.Model):
    """One import of days of bills. Of a file that waits for its confirmation `content` is kept until then."""

    source = models.CharField(_("source"), max_length=8, choices=BillSource.choices)
    file_name = models.CharField(_("file"), max_length=200, blank=True)
    content = models.BinaryField(null=True)
    created_at = models.DateTimeField(_("at"))
    created_by = models.CharField(_("by"), max_length=254)
    imported_at = models.DateTimeField(_("imported"), null=True)

    class Meta:
        db_table = "bill_imports"
        verbose_name = _("import of bills")
        verbose_name_plural = _("imports of bills")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(source__in=BillSource.values), name="bill_import_source"),
            models.CheckConstraint(
                condition=Q(imported_at__isnull=False, content__isnull=True)
                | Q(imported_at__isnull=True, content__isnull=False),
                name="bill_import_waits_with_content",
            ),
        ]

    def __str__(self) -> str:
        return self.file_name or f"{self.get_source_display()} {self.created_at:%Y-%m-%d}"


class BillDay(models.Model):
    """That a provider's bill for a UTC day is known: its lines, of which there may be none.

    `covers_until` is the instant up to which calls can be on it: the day's end, or when it was read, where
    the day was not over then.
    """

    provider = models.CharField(_("provider"), max_length=32, choices=ProviderName.choices)
    day = models.DateField(_("day (UTC)"))
    covers_until = models.DateTimeField(_("up to"))
    currency = models.CharField(_("currency"), max_length=3, default="USD", editable=False)
    batch = models.ForeignKey(BillImport, models.PROTECT, related_name="days", verbose_name=_("import"))

    class Meta:
        db_table = "bill_days"
        verbose_name = _("day of a bill")
        verbose_name_plural = _("reconciliation")
        ordering = ["provider", "day"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "day"], name="bill_day_once"),
            models.CheckConstraint(
                condition=Q(provider__in=ProviderName.values), name="bill_day_provider_known"
            ),
            models.CheckConstraint(condition=Q(currency="USD"), name="bill_day_currency_usd"),
        ]
        indexes = [models.Index(fields=["day"], name="bill_day_by_day")]

    def __str__(self) -> str:
        return f"{self.get_provider_display()} {self.day}"


class BillLine(models.Model):
    """An amount on a day's bill: of a model where the provider names one."""

    bill_day = models.ForeignKey(BillDay, models.CASCADE, related_name="lines")
    model = models.CharField(_("model"), max_length=200, blank=True)
    description = models.CharField(_("what for"), max_length=300, blank=True)
    amount_usd = UsdField(_("amount in USD"))

    class Meta:
        db_table = "bill_lines"
        verbose_name = _("line of a bill")
        verbose_name_plural = _("lines of bills")
        ordering = ["bill_day", "model", "description"]
        constraints = [
            models.UniqueConstraint(fields=["bill_day", "model", "description"], name="bill_line_once")
        ]

    def __str__(self) -> str:
        return f"{self.description or self.model} {self.amount_usd} USD"


class AcceptedDifference(models.Model):
    """That a month's difference with a provider was accepted as it is. It holds for that amount: if the bill
    or the ledger changes, what is beyond it is open again."""

    provider = models.CharField(_("provider"), max_length=32, choices=ProviderName.choices)
    month = models.DateField(_("month (UTC)"))
    amount_usd = UsdField(_("difference in USD"))
    reason = models.TextField(_("reason"))
    accepted_by = models.ForeignKey(User, models.PROTECT, related_name="+", verbose_name=_("accepted by"))
    accepted_at = models.DateTimeField(_("accepted"))

    class Meta:
        db_table = "bill_differences"
        verbose_name = _("accepted difference")
        verbose_name_plural = _("accepted differences")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(month__day=1), name="bill_difference_month_is_first_day"),
            models.CheckConstraint(condition=~Q(reason=""), name="bill_difference_has_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.get_provider_display()} {self.month:%Y-%m}: {self.amount_usd} USD"
