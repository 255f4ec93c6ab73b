"""The price book's table, append-only and kept so by the database, and what became of circuits."""

import re
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

#: Without these two a call could cost nothing, and no cap would hold it.
NEVER_FREE = ("input", "output")
RATES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
BANDS_MAX = 20
#: Dollars per million tokens, up to six digits before the point.
_RATE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,12})?")


class ProviderName(models.TextChoices):
    OPENAI = "openai", "OpenAI"
    ANTHROPIC = "anthropic", "Anthropic"


class PriceSource(models.TextChoices):
    LIST = "genai-prices", _("public list (genai-prices)")
    CONTRACT = "contract", _("contract")
    BY_HAND = "by hand", _("by hand")


def validate_bands(bands: Any) -> None:
    """Raises a ValidationError that names the path of what is wrong in `bands`."""
    if not isinstance(bands, list) or not 1 <= len(bands) <= BANDS_MAX:
        raise ValidationError(_("A list of 1 to %(max)d bands is needed."), params={"max": BANDS_MAX})
    starts = []
    for at, band in enumerate(bands):
        if not isinstance(band, dict) or set(band) != {"from_tokens", *RATES}:
            fields = ", ".join(("from_tokens", *RATES))
            raise ValidationError(
                _("[%(at)d] needs exactly these: %(fields)s."), params={"at": at, "fields": fields}
            )
        starts.append(band["from_tokens"])
        for rate in RATES:
            if not _is_rate(band[rate], free=rate not in NEVER_FREE):
                message = _("[%(at)d].%(rate)s must be a decimal string of US dollars, such as “0.15”.")
                raise ValidationError(message, params={"at": at, "rate": rate})
    if any(type(start) is not int for start in starts) or starts[0] != 0 or starts != sorted(set(starts)):
        raise ValidationError(_("from_tokens must be whole numbers that begin with 0 and ascend."))


def _is_rate(text: Any, *, free: bool) -> bool:
    return isinstance(text, str) and _RATE.fullmatch(text) is not None and (free or Decimal(text) > 0)


class Price(models.Model):
    """A model's rates from an instant on.

    The newest `valid_from` that has come is in force; of two with the same, the row that was added later. So
    a correction is a further row, and each call's record can name the row that it was priced by for ever.
    """

    provider = models.CharField(_("provider"), max_length=32, choices=ProviderName.choices)
    model = models.CharField(_("model"), max_length=200)
    service_tier = models.CharField(_("service tier"), max_length=64, default="standard")
    valid_from = models.DateTimeField(_("valid from"))
    currency = models.CharField(_("currency"), max_length=3, default="USD", editable=False)
    bands = models.JSONField(
        _("rates"),
        validators=[validate_bands],
        help_text=_("US dollars per million tokens. A band applies to the whole of a longer request."),
    )
    source = models.CharField(
        _("source"), max_length=32, choices=PriceSource.choices, default=PriceSource.BY_HAND
    )
    source_version = models.CharField(_("version of the source"), max_length=100, blank=True)
    created_at = models.DateTimeField(_("added"), auto_now_add=True)

    class Meta:
        verbose_name = _("price")
        verbose_name_plural = _("prices")
        indexes = [
            models.Index(fields=["provider", "model", "service_tier", "-valid_from"], name="price_lookup")
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(provider__in=ProviderName.values), name="price_provider_known"
            ),
            models.CheckConstraint(condition=Q(source__in=PriceSource.values), name="price_source_known"),
            models.CheckConstraint(condition=Q(currency="USD"), name="price_currency_usd"),
            models.CheckConstraint(condition=~Q(model="") & ~Q(service_tier=""), name="price_model_named"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model} ({self.service_tier}) {self.valid_from:%Y-%m-%d}"


class CircuitTurn(models.Model):
    """From `at` on, a model's circuit stood so until its next turn. Written by `providers.circuit_history`.

    Open from `at` to `retry_at` and half-open from then on; closed where there is no `retry_at`. A switch
    that is not automatic goes before both. The model `*` is all of the provider's.
    """

    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    at = models.DateTimeField()
    retry_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=64, blank=True)
    switch = models.CharField(max_length=16)

    class Meta:
        db_table = "provider_circuit_turns"
        constraints = [
            models.UniqueConstraint(fields=["provider", "model", "at"], name="circuit_turn_once"),
            models.CheckConstraint(
                condition=Q(switch__in=["automatic", "forced_open", "forced_closed"]),
                name="circuit_turn_switch_known",
            ),
        ]
        indexes = [models.Index(fields=["at"], name="circuit_turn_at")]

    def __str__(self) -> str:
        return f"{self.provider} {self.model} {self.at:%Y-%m-%d %H:%M:%S}"
