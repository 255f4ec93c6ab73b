"""What people are told: alerts, whom they go to, and each one's way there."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization, User


class AlertKind(models.TextChoices):
    THRESHOLD = "threshold", _("part of the cap spent")
    FORECAST = "forecast", _("forecast over the cap")
    UNUSUAL_DAY = "unusual_day", _("unusual day")
    BUDGET_REFUSED = "budget_refused", _("refused for want of budget")
    OVER_CAP = "over_cap", _("over the cap")
    OVERRUN = "overrun", _("call dearer than its hold")
    RECONCILIATION = "reconciliation", _("bill and books differ")
    PROVIDER_DOWN = "provider_down", _("provider not available")
    TEST = "test", _("test")


class Severity(models.TextChoices):
    NOTICE = "notice", _("notice")
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")


class Channel(models.TextChoices):
    MAIL = "mail", _("e-mail")
    WEBHOOK = "webhook", _("webhook")
    SLACK = "slack", _("Slack")


class DeliveryState(models.TextChoices):
    PENDING = "pending", _("on its way")
    SENT = "sent", _("delivered")
    DEAD = "dead", _("given up")


class Alert(models.Model):
    """Something that people should know of, raised once in its period. Written by `budgets.alerts` alone.

    An alert is open until somebody has acknowledged it, or what it told of is over (resolved).

    Args:
        organization: null for what concerns the whole platform; operators see to that.
        period: what it is raised once in: a month (`2026-11`) or a day (`2026-11-23`).
        key: what it is about within its kind, such as the account and the per cent.
        figures: what its words are made of; amounts are strings of euro.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, related_name="alerts", verbose_name=_("organization")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=AlertKind.choices)
    period = models.CharField(_("period"), max_length=10)
    key = models.CharField(_("key"), max_length=300)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity.choices)
    figures = models.JSONField(_("figures"), default=dict)
    raised_at = models.DateTimeField(_("raised"))
    resolved_at = models.DateTimeField(_("over"), null=True)
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True)
    acknowledged_by = models.ForeignKey(
        User, models.PROTECT, null=True, related_name="+", verbose_name=_("acknowledged by")
    )
    note = models.TextField(_("note"), blank=True)

    class Meta:
        db_table = "budget_alerts"
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "period", "key"],
                name="alert_once_in_its_period",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(acknowledged_at__isnull=True, acknowledged_by__isnull=True)
                | Q(acknowledged_at__isnull=False, acknowledged_by__isnull=False),
                name="alert_acknowledged_by_somebody",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "-raised_at"],
                condition=Q(resolved_at__isnull=True, acknowledged_at__isnull=True),
                name="alert_open",
            ),
            models.Index(fields=["organization", "-raised_at"], name="alert_by_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.period}"

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None and self.acknowledged_at is None


class AlertDestination(models.Model):
    """Whom an organization's alerts go to; without any, they go by mail to its finance staff.

    Args:
        organization: null for the alerts of the whole platform.
        address: what may be shown of the address: all of an e-mail address, no secret part of a URL.
        sealed: a URL and the secret that signs what goes there, encrypted (`aigov.web.sealing`).
        kinds: the kinds of alerts that go there; empty for all.
    """

    organization = models.ForeignKey(
        Organization,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="alert_destinations",
        verbose_name=_("organization"),
    )
    channel = models.CharField(_("by"), max_length=8, choices=Channel.choices)
    name = models.CharField(_("name"), max_length=200)
    address = models.CharField(_("address"), max_length=500)
    sealed = models.BinaryField(null=True, editable=False, max_length=4096)
    kinds = models.JSONField(_("kinds of alerts"), default=list, blank=True)
    active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        db_table = "budget_alert_destinations"
        verbose_name = _("destination")
        verbose_name_plural = _("destinations")
        ordering = ["organization", "name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kinds__contained_by=AlertKind.values), name="alert_destination_kinds_known"
            ),
            models.CheckConstraint(
                condition=Q(channel=Channel.MAIL, sealed__isnull=True)
                | (~Q(channel=Channel.MAIL) & Q(sealed__isnull=False)),
                name="alert_destination_sealed_url",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AlertDelivery(models.Model):
    """One alert's way to one address: on its way, delivered, or given up after too many tries.

    Args:
        target: what it goes to, a destination or a person, also after that has gone.
        destination: null where it goes to a person by default, or the destination has gone.
        next_try_at: not before then; while it is being sent, when another process may take it over.
    """

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="deliveries", verbose_name=_("alert"))
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, related_name="+", verbose_name=_("organization")
    )
    destination = models.ForeignKey(
        AlertDestination,
        models.SET_NULL,
        null=True,
        related_name="deliveries",
        verbose_name=_("destination"),
    )
    target = models.CharField(max_length=40, editable=False)
    channel = models.CharField(_("by"), max_length=8, choices=Channel.choices)
    address = models.CharField(_("to"), max_length=500)
    state = models.CharField(
        _("state"), max_length=8, choices=DeliveryState.choices, default=DeliveryState.PENDING
    )
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"))
    last_error = models.CharField(_("last error"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    sent_at = models.DateTimeField(_("delivered"), null=True)

    class Meta:
        db_table = "budget_alert_deliveries"
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["alert", "target"], name="alert_delivered_once"),
            models.CheckConstraint(
                condition=Q(state=DeliveryState.SENT, sent_at__isnull=False)
                | (~Q(state=DeliveryState.SENT) & Q(sent_at__isnull=True)),
                name="alert_delivery_sent_when",
            ),
        ]
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(state="pending"), name="alert_delivery_due"),
        ]

    def __str__(self) -> str:
        return f"{self.alert}: {self.address}"
