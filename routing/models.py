"""The decisions: how each request was answered or refused, with what it cost and how sure the answer was."""

from django.db import models
from django.db.models import Func
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization
from budgets.models import EuroField


class Decision(models.Model):
    """One completion. No text is kept, only hashes, counts, costs and signals.

    `all_large_eur` is what the answer would have cost with the large model alone (`charging.all_large_eur`);
    null where there is no answer, or no price to say so.
    """

    id = models.CharField(_("completion"), max_length=40, primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, verbose_name=_("organization"))
    key_id = models.CharField(_("API key"), max_length=16)
    request_id = models.CharField(_("request"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("at"))
    use_case = models.CharField(_("use case"), max_length=200, blank=True)
    user = models.CharField(_("user"), max_length=200, blank=True)
    wanted = models.CharField(_("asked for"), max_length=100)
    prompt_sha256 = models.CharField(_("prompt's hash"), max_length=64)
    route = models.CharField(_("route"), max_length=8, blank=True)
    tier = models.CharField(_("tier"), max_length=8, blank=True)
    provider = models.CharField(_("provider"), max_length=32, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    confidence = models.FloatField(_("confidence"), null=True)
    confidence_method = models.CharField(_("confidence method"), max_length=64, blank=True)
    threshold = models.FloatField(_("threshold"))
    attempts = models.JSONField(_("attempts"))
    usage = models.JSONField(_("usage"), null=True)
    cost_eur = EuroField(_("cost"))
    cached = models.BooleanField(_("cached"), default=False)
    saved_eur = EuroField(_("saved by the cache"), default=0)
    all_large_eur = EuroField(_("cost with the large model alone"), null=True)
    finish_reason = models.CharField(_("finish reason"), max_length=16, blank=True)
    error_code = models.CharField(_("refused because"), max_length=64, blank=True)
    latency_ms = models.PositiveIntegerField(_("latency in ms"))
    metadata = models.JSONField(_("metadata"), default=dict)
    recorded_at = models.DateTimeField(
        _("recorded"), db_default=Func(function="clock_timestamp"), editable=False
    )

    class Meta:
        db_table = "ai_decisions"
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ["-created_at"]
        indexes = [
            # With what the month's figures need, so that they are read from the index alone.
            models.Index(
                fields=["organization", "-created_at"],
                include=["route", "saved_eur"],
                name="decision_figures",
            ),
            models.Index(fields=["-created_at"], name="decision_by_time"),
            # The few that a cap has refused, of which finance is told.
            models.Index(
                fields=["created_at"],
                condition=models.Q(error_code__endswith="_budget_exceeded"),
                name="decision_refused_by_cap",
            ),
            # What is newer than the roll-up's watermark.
            models.Index(fields=["recorded_at", "organization"], name="decision_by_recording"),
        ]

    def __str__(self) -> str:
        return self.id


class Demotion(models.Model):
    """A route that asks only the small model for a while. Written by `routing.demotion` and a trigger."""

    organization = models.ForeignKey(Organization, models.CASCADE, verbose_name=_("organization"))
    use_case = models.CharField(_("use case"), max_length=200, blank=True)
    cause = models.CharField(
        _("because of"),
        max_length=16,
        choices=[("budget", _("the budget")), ("providers", _("the providers"))],
    )
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"))

    class Meta:
        db_table = "ai_demotions"
        verbose_name = _("demotion")
        verbose_name_plural = _("demotions")
        constraints = [
            models.UniqueConstraint(fields=["organization", "use_case"], name="demotion_once_per_route")
        ]

    def __str__(self) -> str:
        return f"{self.organization} {self.use_case}".strip()
