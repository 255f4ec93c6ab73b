"""Leads and orders, and the roll-ups of what was asked: what the dashboards read beside the costs' days."""

from datetime import date
from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.money import EURO_MAX
from aigov.organizations.models import Organization, User
from budgets.models import EuroField


class OutcomeKind(models.TextChoices):
    LEAD = "lead", _("lead")
    ORDER = "order", _("order")


class SampleOf(models.Func):
    """Which of so many `PARTS` of all texts one belongs to, by its hash; a power of two."""

    PARTS = 1_024
    template = f"(hashtextextended(%(expressions)s, 0) & {PARTS - 1})::smallint"


class Outcome(models.Model):
    """A lead or an order of an organization, as its CRM tells us of it. Written by `kpis.outcomes` alone.

    `day` is its local day, by the organization's time zone when it was told.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="outcomes", verbose_name=_("organization")
    )
    kind = models.CharField(_("kind"), max_length=8, choices=OutcomeKind.choices)
    external_id = models.CharField(_("id in the CRM"), max_length=200)
    occurred_at = models.DateTimeField(_("at"))
    day = models.DateField(_("day"), editable=False)
    value_eur = EuroField(_("value"), default=0)
    received_at = models.DateTimeField(_("received"))

    class Meta:
        db_table = "kpi_outcomes"
        verbose_name = _("lead or order")
        verbose_name_plural = _("leads and orders")
        ordering = ["-occurred_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind", "external_id"], name="outcome_once"),
            models.CheckConstraint(condition=Q(kind__in=OutcomeKind.values), name="outcome_kind_known"),
            models.CheckConstraint(condition=~Q(external_id=""), name="outcome_has_id"),
            models.CheckConstraint(
                condition=Q(value_eur__gte=0, value_eur__lte=EURO_MAX), name="outcome_value_not_negative"
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "day"], include=["kind", "value_eur"], name="outcome_by_day"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}"


#: Before every day.
NEVER = date.min


class NamedDay(models.Model):
    """What the calls that name one lead or order cost on one day: a roll-up of cost records.

    `before`: the day of the row before it of the same lead or order, kept by `kpis/sql/named.sql`; and so
    among the rows of its use case, of its model, and of both. `sample`: one of 1,024 parts of all leads and
    orders, each as good as any other.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    kind = models.CharField(max_length=8, choices=OutcomeKind.choices)
    external_id = models.CharField(max_length=200)
    use_case = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=32, blank=True)
    model = models.CharField(max_length=100, blank=True)
    cost_eur = EuroField()
    calls = models.BigIntegerField()
    before = models.DateField(db_default=NEVER)
    before_in_use_case = models.DateField(db_default=NEVER)
    before_by_model = models.DateField(db_default=NEVER)
    before_in_both = models.DateField(db_default=NEVER)
    sample = models.GeneratedField(
        expression=SampleOf("external_id"), output_field=models.SmallIntegerField(), db_persist=True
    )

    class Meta:
        db_table = "kpi_named_days"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "external_id", "day", "use_case", "provider", "model"],
                name="named_day_once",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "day"], name="named_by_day"),
            models.Index(fields=["sample", "day"], name="named_by_sample"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.kind} {self.external_id}"


class NamedSum(models.Model):
    """Sums of days' named leads and orders, as `budgets.models.CostSum`.

    The leads that calls name in a period are the `parts` of its days or months with `before` earlier than it.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    kind = models.CharField(max_length=8)
    use_case = models.CharField(max_length=200, blank=True, db_default="")
    provider = models.CharField(max_length=32, blank=True, db_default="")
    model = models.CharField(max_length=100, blank=True, db_default="")
    before = models.DateField()
    parts = models.BigIntegerField()
    cost_eur = EuroField()

    class Meta:
        db_table = "kpi_named_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "day", "kind", "use_case", "provider", "model", "before"],
                name="kpi_named_sums_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.day} {self.kind}"


class RequestDay(models.Model):
    """How the requests of one kind ended on one day: a roll-up of decisions.

    `error_code` is empty where there was an answer, and `route`, `provider` and `model` where there was none.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True)
    route = models.CharField(max_length=8, blank=True)
    provider = models.CharField(max_length=32, blank=True)
    model = models.CharField(max_length=100, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    requests = models.BigIntegerField()
    judged = models.BigIntegerField()
    escalated = models.BigIntegerField()
    rescued = models.BigIntegerField()
    cost_eur = EuroField()
    saved_eur = EuroField()
    all_large_eur = EuroField()

    class Meta:
        db_table = "kpi_request_days"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "use_case", "route", "provider", "model", "error_code"],
                name="request_day_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.use_case} {self.route or self.error_code}"


class HistogramDay(models.Model):
    """How many requests of one day fell into a bin of `kpis.bins`: a roll-up of decisions.

    `label`: for a confidence, what became of the small answer (accepted, escalated, degraded); for a latency,
    the route.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=16)
    label = models.CharField(max_length=16)
    bin = models.SmallIntegerField()
    requests = models.BigIntegerField()

    class Meta:
        db_table = "kpi_histogram_days"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "use_case", "kind", "label", "bin"], name="histogram_day_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.kind} {self.label} {self.bin}"


class AttemptDay(models.Model):
    """How the attempts with one model ended on one day: a roll-up of decisions."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=32, blank=True)
    model = models.CharField(max_length=100, blank=True)
    tier = models.CharField(max_length=8, blank=True)
    outcome = models.CharField(max_length=24)
    error = models.CharField(max_length=64, blank=True)
    attempts = models.BigIntegerField()

    class Meta:
        db_table = "kpi_attempt_days"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "use_case", "provider", "model", "tier", "outcome", "error"],
                name="attempt_day_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.provider} {self.outcome}"


class FailoverDay(models.Model):
    """How often `provider` answered on one day for one that had failed: a roll-up of decisions."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True)
    failed_provider = models.CharField(max_length=32)
    provider = models.CharField(max_length=32)
    requests = models.BigIntegerField()

    class Meta:
        db_table = "kpi_failover_days"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "use_case", "failed_provider", "provider"],
                name="failover_day_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.failed_provider} → {self.provider}"


class RequestSum(models.Model):
    """Sums of days' requests by fewer columns, or by month, as `budgets.models.CostSum`."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True, db_default="")
    route = models.CharField(max_length=8, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    parts = models.BigIntegerField()
    requests = models.BigIntegerField()
    judged = models.BigIntegerField()
    escalated = models.BigIntegerField()
    rescued = models.BigIntegerField()
    cost_eur = EuroField()
    saved_eur = EuroField()
    all_large_eur = EuroField()

    class Meta:
        db_table = "kpi_request_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "day", "use_case", "route", "error_code"],
                name="kpi_request_sums_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.day} {self.route or self.error_code}"


class HistogramSum(models.Model):
    """Sums of days' histograms over all use cases, as `budgets.models.CostSum`."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    kind = models.CharField(max_length=16)
    label = models.CharField(max_length=16)
    bin = models.SmallIntegerField()
    parts = models.BigIntegerField()
    requests = models.BigIntegerField()

    class Meta:
        db_table = "kpi_histogram_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "kind", "day", "label", "bin"],
                name="kpi_histogram_sums_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.kind} {self.label} {self.bin}"


class AttemptSum(models.Model):
    """Sums of days' attempts over all use cases, as `budgets.models.CostSum`."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    provider = models.CharField(max_length=32, blank=True)
    model = models.CharField(max_length=100, blank=True)
    tier = models.CharField(max_length=8, blank=True)
    outcome = models.CharField(max_length=24)
    error = models.CharField(max_length=64, blank=True)
    parts = models.BigIntegerField()
    attempts = models.BigIntegerField()

    class Meta:
        db_table = "kpi_attempt_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "day", "provider", "model", "tier", "outcome", "error"],
                name="kpi_attempt_sums_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.provider} {self.outcome}"


class OutcomeHook(models.Model):
    """An address of ours to which a CRM sends leads and orders, signed with a secret of its own.

    Written by `kpis.hooks` alone. The secret is sealed: it is shown once, and needed again at each delivery.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="outcome_hooks", verbose_name=_("organization")
    )
    name = models.CharField(_("name"), max_length=200)
    secret_sealed = models.BinaryField(editable=False, max_length=256)
    created_at = models.DateTimeField(_("created"), editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    class Meta:
        db_table = "kpi_outcome_hooks"
        verbose_name = _("CRM webhook")
        verbose_name_plural = _("CRM webhooks")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name


class HookDelivery(models.Model):
    """A message that a webhook has taken, kept for as long as its signature would let it in again."""

    hook = models.ForeignKey(OutcomeHook, models.CASCADE, related_name="deliveries")
    message_id = models.CharField(max_length=200)
    received_at = models.DateTimeField()

    class Meta:
        db_table = "kpi_hook_deliveries"
        constraints = [models.UniqueConstraint(fields=["hook", "message_id"], name="hook_delivery_once")]

    def __str__(self) -> str:
        return self.message_id


class Rhythm(models.TextChoices):
    WEEKLY = "weekly", _("every week, on Monday")
    MONTHLY = "monthly", _("every month, on its first day")


class DigestSubscription(models.Model):
    """A person's wish for an organization's key figures by e-mail. Written by `kpis.digests` alone.

    `sent_for` is the last day of the newest period that was sent, so that each is sent once.
    """

    organization = models.ForeignKey(
        Organization, models.CASCADE, related_name="+", verbose_name=_("organization")
    )
    user = models.ForeignKey(User, models.CASCADE, related_name="digests", verbose_name=_("person"))
    rhythm = models.CharField(_("how often"), max_length=8, choices=Rhythm.choices)
    language = models.CharField(_("language"), max_length=8, editable=False)
    sent_for = models.DateField(_("sent up to"), editable=False)

    class Meta:
        db_table = "kpi_digest_subscriptions"
        verbose_name = _("e-mail with key figures")
        verbose_name_plural = _("e-mails with key figures")
        constraints = [
            models.UniqueConstraint(fields=["organization", "user", "rhythm"], name="digest_once"),
            models.CheckConstraint(condition=Q(rhythm__in=Rhythm.values), name="digest_rhythm_known"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}, {self.get_rhythm_display()}"
