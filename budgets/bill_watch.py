"""What is done every day on its own: the bills of the last days are read, and compared with the ledger.

A bill may change for some days, so the last week is read again each time. A provider whose bill cannot be had
does not keep the others from being read. A month that differs raises one alert for its provider; the alert is
over when the month agrees, so months with an open alert are looked at again.
"""

import logging
from collections.abc import Iterator
from datetime import date, timedelta

from django.conf import settings

from aigov import clock
from aigov.money import NANO_EURO, euro_text
from budgets import reconciliation
from budgets.alerts.raising import raise_alerts, resolve_others
from budgets.alerts.rules import Finding
from budgets.bills import import_from_provider
from budgets.models import Alert, AlertKind, Severity
from providers.errors import ProviderError

log = logging.getLogger(__name__)

DAYS = 8
#: A day that is not on the bill yet is waited for so long.
LATE = timedelta(days=3)
MONTHS_MAX = 24
ACTING = "daily import of bills"


def watch() -> None:
    """Reads the bills of the last days, and raises an alert for what differs."""
    looked_at = clock.now()
    today = looked_at.date()
    first, last = today - timedelta(days=DAYS), today - timedelta(days=1)
    import_days(first, last)
    months = {first.replace(day=1), last.replace(day=1), *_months_with_alerts()}
    found = [finding for month in sorted(months) for finding in findings(month)]
    raise_alerts(found)
    resolve_others([AlertKind.RECONCILIATION], found, looked_at=looked_at)


def import_days(first: date, last: date) -> None:
    """Reads the bills of these days where there is a key; what cannot be had is logged."""
    for provider in settings.BILLING:
        try:
            import_from_provider(provider=provider, first=first, last=last, acting=ACTING)
        except ProviderError as error:
            log.warning("the bill of %s cannot be read: %s", provider, error)


def findings(month: date) -> Iterator[Finding]:
    """The providers whose bill differs from the ledger by more than it may, or stays away."""
    late = clock.now().date() - LATE
    for found in reconciliation.deltas(month):
        stays_away = found.state == "incomplete" and any(one.day < late for one in found.missing)
        if found.state == "out_of_bounds" or stays_away:
            yield Finding(
                organization_id=None,
                kind=AlertKind.RECONCILIATION,
                period=f"{month:%Y-%m}",
                key=found.provider,
                severity=Severity.WARNING,
                figures={
                    "provider": found.provider,
                    "billed_eur": euro_text(found.total.bill_eur.quantize(NANO_EURO)),
                    "booked_eur": euro_text(found.total.ledger_eur),
                    "models": [model for model in found.models if not found.is_model_within(model)],
                },
            )


def _months_with_alerts() -> Iterator[date]:
    alerts = Alert.objects.filter(
        kind=AlertKind.RECONCILIATION, organization=None, resolved_at=None, acknowledged_at=None
    )
    for period in alerts.order_by("-period").values_list("period", flat=True).distinct()[:MONTHS_MAX]:
        yield date.fromisoformat(f"{period}-01")
