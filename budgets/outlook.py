"""Where a month is heading: what each of its days has cost so far, what the month before cost, and what the
forecast says of its end."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from aigov import clock
from aigov.money import ZERO
from budgets.daily import costs_by, day_costs
from budgets.forecast import WEEKS_MAX, Forecast, forecast
from budgets.models import BudgetAccount, Scope
from budgets.months import MonthOfOrganization

LOOK_BACK = timedelta(weeks=WEEKS_MAX)

Level = Literal["calm", "near", "full"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A month's course, in euro.

    Args:
        days: the cost of each day so far, from the first to today.
        last_month_eur: None where there was no month before.
        forecast: None where nothing has been spent yet from which one could be made.
    """

    days: Sequence[Decimal]
    last_month_eur: Decimal | None
    forecast: Forecast | None


def outlooks(rows: Sequence[MonthOfOrganization]) -> dict[int, Outlook]:
    """The outlook of each of `rows`, by its organization's id; two queries."""
    by_organization: dict[int, dict[date, Decimal]] = defaultdict(dict)
    if rows:
        first, last = _span(rows)
        for cost in day_costs([row.organization.pk for row in rows], first, last):
            by_organization[cost.organization_id][cost.day] = cost.cost_eur
    before = _last_months(rows)
    return {
        row.organization.pk: _outlook(
            by_organization[row.organization.pk], row.month, _today(row), before.get(row.organization.pk)
        )
        for row in rows
    }


def outlook_of_all(rows: Sequence[MonthOfOrganization]) -> Outlook:
    """The outlook of `rows` together, by the day that most of them have; two queries."""
    if not rows:
        return Outlook((), None, None)
    first, last = _span(rows)
    ids = [row.organization.pk for row in rows]
    costs = {
        group.group[0]: group.cost_eur
        for group in costs_by("day", organization_ids=ids, first=first, last=last)
    }
    before = _last_months(rows)
    latest = max(rows, key=lambda row: row.month)
    return _outlook(costs, latest.month, last, sum(before.values(), ZERO) if before else None)


def level_of_forecast(expected: Forecast | None, cap_eur: Decimal | None) -> Level:
    """The colour of a forecast: `full` where the cap is expected to be passed, `near` where it may be."""
    if expected is None or cap_eur is None or expected.high_eur <= cap_eur:
        return "calm"
    return "full" if expected.expected_eur > cap_eur else "near"


def _outlook(
    costs: Mapping[date, Decimal], month: date, today: date, last_month_eur: Decimal | None
) -> Outlook:
    so_far = [month + timedelta(days=number) for number in range((today - month).days + 1)]
    return Outlook(
        days=[costs.get(day, ZERO) for day in so_far],
        last_month_eur=last_month_eur,
        forecast=forecast(list(costs.items()), month=month, today=today),
    )


def _today(row: MonthOfOrganization) -> date:
    return clock.day_of(clock.now(), row.organization.time_zone)


def _span(rows: Sequence[MonthOfOrganization]) -> tuple[date, date]:
    days = [_today(row) for row in rows]
    return min(days) - LOOK_BACK, max(days)


def _last_months(rows: Sequence[MonthOfOrganization]) -> dict[int, Decimal]:
    """What the month before each row's cost, by its organization's id."""
    wanted = {row.organization.pk: clock.month_before(row.month) for row in rows}
    found = BudgetAccount.objects.filter(
        scope=Scope.ORGANIZATION, organization__in=wanted, month__in=set(wanted.values())
    )
    return {
        account.organization_id: account.spent_eur
        for account in found.only("organization_id", "month", "spent_eur")
        if account.month == wanted[account.organization_id]
    }
