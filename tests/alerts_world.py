"""What the tests of alerts share: days that have cost something, and an organization's alerts."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from django.db.models import F

from aigov import clock
from aigov.organizations.models import Organization
from budgets.accounts import open_month
from budgets.alerts.raising import raise_alerts
from budgets.alerts.rules import Finding
from budgets.daily import COSTS
from budgets.models import Alert, AlertKind, BudgetAccount, CostRecord, Severity
from budgets.roll_ups import roll_up_anew


def today(organization: Organization) -> date:
    return clock.now().astimezone(ZoneInfo(organization.time_zone)).date()


def costs(organization: Organization, by_day: dict[date, Decimal], **more: Any) -> None:
    """Cost records of past days, with what their months' accounts then say."""
    zone = ZoneInfo(organization.time_zone)
    CostRecord.objects.bulk_create(
        CostRecord(
            organization=organization,
            month=day.replace(day=1),
            hold_id=uuid4(),
            # In the very first second of the local day: in UTC it may be the day before.
            created_at=datetime.combine(day, time(), zone),
            cost_eur=cost,
            **{"held_eur": cost, "provider": "openai", "model": "gpt-4o-mini", "tier": "small", **more},
        )
        for day, cost in by_day.items()
    )
    for day, cost in by_day.items():
        account = open_month(organization=organization, month=day.replace(day=1))
        BudgetAccount.objects.filter(pk=account.pk).update(spent_eur=F("spent_eur") + cost)
    # Written as of the past, they are older than what the roll-up has seen.
    roll_up_anew(COSTS, organization_id=organization.pk)


def every_day(organization: Organization, euro: str, *, days: int) -> dict[date, Decimal]:
    """The same cost on each of the last whole days."""
    return {today(organization) - timedelta(days=at): Decimal(euro) for at in range(1, days + 1)}


def raise_alert(
    *,
    kind: AlertKind,
    period: str,
    key: str,
    figures: dict[str, Any],
    organization: Organization | None = None,
    severity: Severity = Severity.WARNING,
) -> Alert:
    """Raises one alert, of the whole platform where there is no organization."""
    organization_id = organization.pk if organization else None
    [alert] = raise_alerts([Finding(organization_id, kind, period, key, severity, figures)])
    return alert


def alerts(organization: Organization | None, kind: str | None = None) -> list[Alert]:
    """The organization's alerts, oldest first."""
    found = Alert.objects.filter(organization=organization).order_by("pk")
    return list(found if kind is None else found.filter(kind=kind))


def open_kinds(organization: Organization) -> list[str]:
    return [alert.kind for alert in alerts(organization) if alert.is_open]
