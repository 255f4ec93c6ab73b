"""Looks at all organizations for what deserves an alert, in a number of queries that does not grow with them.

`evaluate` looks at accounts, providers and overruns every minute; `evaluate_days` at forecasts and unusual
days, which need eight weeks of daily costs, every ten. Refused calls are noticed by `routing.tasks`. Both may
run twice at once, and make good what they have missed while they did not run.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import F, Q

from aigov import clock
from aigov.organizations.models import Organization
from aigov.registry.effective import Settings
from aigov.registry.snapshot import load_settings_sync
from budgets.alerts import rules
from budgets.alerts.raising import raise_alerts, resolve_others
from budgets.alerts.rules import Account, Finding, UnusualDay
from budgets.daily import day_costs
from budgets.forecast import WEEK, WEEKS_MAX, days_before, forecast
from budgets.models import Alert, AlertKind, BudgetAccount, CostRecord, Scope
from budgets.months import balance_of
from providers.status import ask_store

#: Overruns are looked for this far back, should no worker have run.
OVERRUNS_SINCE = timedelta(days=2)
OVERRUNS_MAX = 1_000

Months = Mapping[int, date]


def evaluate() -> None:
    """Raises what accounts, providers and single calls give reason for, and notes what is over."""
    looked_at = clock.now()
    settings = load_settings_sync()
    months = {
        id_: clock.month_of(looked_at, zone)
        for id_, zone in Organization.objects.values_list("pk", "time_zone")
        if settings.knows(id_)
    }
    findings = [*_of_accounts(settings, months), *_overruns(looked_at)]
    kinds = [AlertKind.THRESHOLD, AlertKind.OVER_CAP]
    known = ask_store()
    if known.answers:
        after = settings.value("ai.providers.alert.down.after", organization_id=None)
        findings += rules.providers_down(known.states, now=looked_at, after=after)
        kinds.append(AlertKind.PROVIDER_DOWN)
    raise_alerts(findings)
    resolve_others(kinds, findings, looked_at=looked_at)
    _resolve_refusals_of_past_months(months)


def evaluate_days() -> None:
    """Raises what the days' costs give reason for: a month that will end over its cap, an unusual day."""
    looked_at = clock.now()
    settings = load_settings_sync()
    todays = {
        id_: looked_at.astimezone(ZoneInfo(zone)).date()
        for id_, zone in Organization.objects.values_list("pk", "time_zone")
        if settings.knows(id_)
    }
    costs = _costs(todays)
    months = {id_: today.replace(day=1) for id_, today in todays.items()}
    own = {account.organization_id: account for account in _accounts(months, Q(scope=Scope.ORGANIZATION))}
    findings = [
        finding
        for id_, of_days in costs.items()
        for finding in (
            *(_forecasts(own[id_], of_days, todays[id_]) if id_ in own else ()),
            *_unusual_days(id_, of_days, todays[id_], _limits(settings, id_)),
        )
    ]
    raise_alerts(findings)
    resolve_others([AlertKind.FORECAST], findings, looked_at=looked_at)


# --- Accounts


def _of_accounts(settings: Settings, months: Months) -> Iterator[Finding]:
    thresholds: dict[int, list[int]] = {
        id_: settings.value("ai.budget.alert.thresholds", organization_id=id_) for id_ in months
    }
    lowest = min((percent for chosen in thresholds.values() for percent in chosen), default=0)
    # Of the many accounts of users, only those are read that can give reason for an alert.
    used = F("spent_eur") + F("held_eur")
    wanted = Q(spent_eur__gt=0, spent_eur__gte=F("cap_eur") * lowest / 100) if lowest else Q(pk__in=())
    for account in _accounts(months, wanted | Q(cap_eur__lt=used)):
        yield from rules.thresholds_crossed(account, thresholds[account.organization_id])
        yield from rules.over_cap(account)


def _accounts(months: Months, wanted: Q) -> Iterator[Account]:
    """The accounts of the organizations' present months; one query."""
    rows = BudgetAccount.objects.filter(wanted, month__in=set(months.values()), cap_eur__isnull=False)
    for row in rows.order_by().iterator():
        if row.month == months.get(row.organization_id):
            yield Account(row.pk, row.organization_id, row.scope, row.subject, row.month, balance_of(row))


def _resolve_refusals_of_past_months(months: Months) -> None:
    present = {rules.month_period(month) for month in months.values()}
    refused = Alert.objects.filter(kind=AlertKind.BUDGET_REFUSED, resolved_at__isnull=True)
    refused.exclude(period__in=present).update(resolved_at=clock.now())


# --- Single calls


def _overruns(now: datetime) -> Iterator[Finding]:
    records = CostRecord.objects.filter(overrun=True, created_at__gte=now - OVERRUNS_SINCE)
    records = records.select_related("organization").order_by("created_at")
    for record in records[:OVERRUNS_MAX]:
        day = record.created_at.astimezone(ZoneInfo(record.organization.time_zone)).date()
        yield rules.overrun(
            record.organization_id, day, record.provider, record.model, record.held_eur, record.cost_eur
        )


# --- Days


def _costs(todays: Months) -> dict[int, dict[date, Decimal]]:
    """What the last weeks' days have cost, by organization."""
    found: dict[int, dict[date, Decimal]] = defaultdict(dict)
    if todays:
        first = min(todays.values()) - timedelta(days=WEEK * WEEKS_MAX)
        for cost in day_costs(list(todays), first, max(todays.values())):
            found[cost.organization_id][cost.day] = cost.cost_eur
    return found


def _forecasts(account: Account, costs: Mapping[date, Decimal], today: date) -> Iterator[Finding]:
    found = forecast(list(costs.items()), month=account.month, today=today)
    return rules.forecast_over_cap(account, found)


def _unusual_days(
    organization_id: int, costs: Mapping[date, Decimal], today: date, limits: UnusualDay
) -> Iterator[Finding]:
    """Today so far, and yesterday, whose last minutes may not have been looked at."""
    for day in (today - timedelta(days=1), today):
        if day in costs:
            others = days_before(costs, day)
            yield from rules.unusual_day(organization_id, day, costs[day], others, limits)


def _limits(settings: Settings, organization_id: int) -> UnusualDay:
    def value(name: str) -> object:
        return settings.value(f"ai.budget.alert.unusual_day.{name}", organization_id=organization_id)

    return UnusualDay(
        score_min=Decimal(str(value("score"))),
        days_min=value("days"),  # type: ignore[arg-type]
        amount_min_eur=value("amount"),  # type: ignore[arg-type]
    )


def notice_refusals(refused: Iterable[tuple[int, date, Scope, str]]) -> None:
    """Raises an alert for each account (organization, month, scope, subject) that has refused a call."""
    raise_alerts([rules.budget_refused(*one) for one in refused])
