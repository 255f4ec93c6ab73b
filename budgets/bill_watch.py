"""What is done every day on its own: the bills of the last days are read, and compared with the ledger.

A bill may change for some days, so the last week is read again each time. A provider whose bill cannot be had
does not keep the others from being read.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.conf import settings

from aigov import clock
from budgets import reconciliation
from budgets.bills import import_from_provider
from providers.errors import ProviderError
from providers.models import ProviderName

log = logging.getLogger(__name__)

DAYS = 8
#: A day that is not on the bill yet is waited for so long.
LATE = timedelta(days=3)
ACTING = "daily import of bills"


@dataclass(frozen=True, slots=True)
class Finding:
    """A provider's month whose difference is out of bounds, and the models that are."""

    provider: str
    month: date
    difference_usd: Decimal
    bill_usd: Decimal
    models: tuple[str, ...]


def import_last_days() -> None:
    """Reads the bills of the days that are over, a week and a day back, where there is a key."""
    today = clock.now().date()
    first, last = today - timedelta(days=DAYS), today - timedelta(days=1)
    for provider in settings.BILLING:
        try:
            import_from_provider(provider=provider, first=first, last=last, acting=ACTING)
        except ProviderError as error:
            log.warning("the bill of %s cannot be read: %s", provider, error)
    for month in sorted({first.replace(day=1), last.replace(day=1)}):
        for finding in findings(month):
            _tell(finding)


def findings(month: date) -> Iterator[Finding]:
    """The providers whose bill differs from the ledger by more than it may, or stays away."""
    for found in reconciliation.deltas(month):
        late = clock.now().date() - LATE
        stays_away = found.state == "incomplete" and any(one.day < late for one in found.missing)
        if found.state == "out_of_bounds" or stays_away:
            models = tuple(model for model in found.models if not found.is_model_within(model))
            yield Finding(found.provider, month, found.open_usd, found.total.bill_usd, models)


def _tell(finding: Finding) -> None:
    log.warning(
        "the bill of %s for %s is %s USD off the ledger, of %s USD; by model: %s",
        *(ProviderName(finding.provider).label, f"{finding.month:%Y-%m}"),
        *(finding.difference_usd, finding.bill_usd, ", ".join(finding.models)),
    )
