"""What calls cost by day, exact at every instant: the cost records' roll-up, and what is newer.

A cost counts to its local day within its accounting month (`cost_day` in `budgets/sql/daily.sql`), so that a
month's days add up to what the ledger says of it. Where an organization's time zone changes, days that were
rolled up keep the zone that they were counted by, and no month changes. Corrections and late records count on
the day that they were written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from budgets import roll_ups
from budgets.roll_ups import Level, Source, Target

#: What costs can be grouped by.
DIMENSIONS = ("organization_id", "day", "month", "use_case", "provider", "model", "tier", "purpose")

_DAY = "cost_day(s.month, s.created_at, o.time_zone) AS day"
_FROM = "FROM ai_costs s JOIN organizations_organization o ON o.id = s.organization_id WHERE"
# A correction has no hold: it changes the cost, and is no call of its own.
_CALL = "(s.hold_id IS NOT NULL)::integer AS calls"

_DAYS = Target(
    table="cost_days",
    key=DIMENSIONS,
    amounts=("cost_eur", "cost_usd"),
    counts=("calls", "input_total", "output_total"),
    rows=f"""
    SELECT s.organization_id, {_DAY}, s.month, s.use_case, s.provider, s.model, s.tier, s.purpose, s.cost_eur,
           coalesce(s.cost_usd, 0) AS cost_usd, {_CALL}, coalesce(s.input_total, 0) AS input_total,
           coalesce(s.output_total, 0) AS output_total
    {_FROM}""",
    sums_table="cost_sums",
    levels=(
        Level("day", "day", ("tier",), of="both"),
        Level("month", "month", ("tier",), of="both"),
        Level("kinds", "month", ("use_case", "provider", "model", "tier"), of="both"),
        Level("kind_days", "day", ("use_case", "provider", "model", "tier"), of="all"),
    ),
)
_USER_DAYS = Target(
    table="cost_user_days",
    key=("organization_id", "day", '"user"'),
    amounts=("cost_eur",),
    counts=("calls",),
    rows=f"""SELECT s.organization_id, {_DAY}, s."user", s.cost_eur, {_CALL} {_FROM} s."user" <> '' AND""",
    sums_table="cost_user_sums",
    levels=(Level("month", "month", ('"user"',)),),
)
COSTS = Source("costs", "ai_costs", "created_at", (_DAYS, _USER_DAYS))


def roll_up() -> int:
    """Brings the roll-up of the cost records up to date; how many it took in."""
    return roll_ups.roll_up(COSTS)


@dataclass(frozen=True, slots=True)
class Costs:
    """What the calls of one group cost.

    Args:
        group: the values of the dimensions that were asked for, in their order.
        calls: provider calls; a correction changes the cost and is no call.
    """

    group: tuple[Any, ...]
    cost_eur: Decimal
    cost_usd: Decimal
    calls: int
    input_total: int
    output_total: int


@dataclass(frozen=True, slots=True)
class DayCost:
    organization_id: int
    day: date
    cost_eur: Decimal
    calls: int


@dataclass(frozen=True, slots=True)
class UserCost:
    organization_id: int
    user: str
    cost_eur: Decimal
    calls: int


def costs_by(
    *dimensions: str, organization_ids: Sequence[int], first: date, last: date, use_case: str | None = None
) -> list[Costs]:
    """What the organizations' calls of `first` to `last`, both inclusive, cost, by any of `DIMENSIONS`.

    Two queries, however long the period. Groups without a record are left out; without dimensions there is
    one group at most.
    """
    unknown = set(dimensions) - set(DIMENSIONS)
    if unknown:
        raise ValueError(f"no dimensions of costs: {', '.join(sorted(unknown))}")
    rows = roll_ups.sums_by(
        COSTS,
        _DAYS,
        *dimensions,
        organization_ids=organization_ids,
        first=first,
        last=last,
        use_case=use_case,
    )
    at = len(dimensions)
    return [Costs(row[:at], *row[at:]) for row in rows]


def day_costs(organization_ids: Sequence[int], first: date, last: date) -> list[DayCost]:
    """What each organization spent on each day of `first` to `last`; days without a record are left out."""
    found = costs_by("organization_id", "day", organization_ids=organization_ids, first=first, last=last)
    return [DayCost(costs.group[0], costs.group[1], costs.cost_eur, costs.calls) for costs in found]


def user_costs(organization_ids: Sequence[int], first: date, last: date, *, limit: int) -> list[UserCost]:
    """The users who spent most from `first` to `last`, at most `limit` of them."""
    by_user = roll_ups.sums(COSTS, _USER_DAYS, ("organization_id", '"user"'))
    rows = roll_ups.read(
        f'SELECT * FROM ({by_user}) users ORDER BY cost_eur DESC, organization_id, "user" LIMIT %(limit)s',
        roll_ups.standing(COSTS, organization_ids),
        **{"organization_ids": list(organization_ids), "first": first, "last": last, "limit": limit},
    )
    return [UserCost(*row) for row in rows]
