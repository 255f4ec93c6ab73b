"""What calls cost by day: a roll-up of the cost records, exact at every instant.

Celery adds to the roll-up what was written since the last time (`roll_up`); a read adds up the roll-up's days
and, in the same statement, the records that are newer. So each record counts once: it is in the roll-up if it
was written before the watermark (`RollUp.upto`), and live otherwise. The watermark never passes a record that
may still appear: see `roll_up_horizon` in `budgets/sql/daily.sql`.

A cost counts to its local day within its accounting month (`cost_day`, there too), so that a month's days add
up to what the ledger says of it. Where an organization's time zone changes, days that were rolled up keep the
zone that they were counted by, and no month changes. Corrections and late records count on the day that they
were written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from budgets.models import RollUp

#: A run of `roll_up` ends after so many batches of so many records; the next run goes on from there.
BATCH_RECORDS = 50_000
BATCHES_MAX = 20

DIMENSIONS = ("organization_id", "day", "month", "use_case", "provider", "model", "tier", "purpose")
_KEY = ", ".join(DIMENSIONS)
_SUMS = ("cost_eur", "cost_usd", "calls", "input_total", "output_total")

# The records of a span of time as the roll-up counts them; a correction is no call of its own.
_RECORDS = """
SELECT c.organization_id, cost_day(c.month, c.created_at, o.time_zone) AS day, c.month, c.use_case,
       c.provider, c.model, c.tier, c.purpose, c."user", c.cost_eur, coalesce(c.cost_usd, 0) AS cost_usd,
       (c.hold_id IS NOT NULL)::integer AS calls, coalesce(c.input_total, 0) AS input_total,
       coalesce(c.output_total, 0) AS output_total
FROM ai_costs c JOIN organizations_organization o ON o.id = c.organization_id
"""


def _added_up(table: str, key: str, sums: Sequence[str], where: str) -> str:
    """The statement that adds the records of `where` to a roll-up's table."""
    unique = key.replace("month, ", "")
    return (
        f"INSERT INTO {table} AS d ({key}, {', '.join(sums)})"
        f" SELECT {key}, {', '.join(f'sum({name})' for name in sums)} FROM ({_RECORDS} WHERE {where}) r"
        f" GROUP BY {key} ON CONFLICT ({unique}) DO UPDATE"
        f" SET {', '.join(f'{name} = d.{name} + excluded.{name}' for name in sums)}"
    )


_SPAN = "c.created_at >= %(since)s AND c.created_at < %(upto)s"
_OF_ONE = "c.organization_id = %(organization)s AND c.created_at < %(upto)s"
_USER_KEY = 'organization_id, day, "user"'
_USER_SUMS = ("cost_eur", "calls")


@transaction.atomic
def _roll_up_batch() -> int:
    """Adds the next records and moves the watermark; how many, 0 where another run is at it."""
    since = _lock_watermark()
    if since is None:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_END_OF_BATCH, {"since": since, "records": BATCH_RECORDS})
        (upto,) = cursor.fetchone()
        if upto <= since:
            return 0
        span = {"since": since, "upto": upto}
        cursor.execute("SELECT count(*) FROM ai_costs c WHERE " + _SPAN, span)
        (records,) = cursor.fetchone()
        _add(cursor, _SPAN, span)
        RollUp.objects.filter(name="costs").update(upto=upto)
    return int(records)


def _add(cursor: Any, where: str, values: dict[str, Any]) -> None:
    cursor.execute(_added_up("cost_days", _KEY, _SUMS, where), values)
    cursor.execute(
        _added_up("cost_user_days", _USER_KEY, _USER_SUMS, where + " AND c.\"user\" <> ''"), values
    )


def _lock_watermark() -> datetime | None:
    locked = RollUp.objects.select_for_update(skip_locked=True).filter(name="costs")
    return locked.values_list("upto", flat=True).first()


# The horizon is taken in a statement before the one that reads: what was written before it is then seen.
_END_OF_BATCH = """
SELECT coalesce((
    SELECT created_at FROM ai_costs WHERE created_at > %(since)s AND created_at < horizon
    ORDER BY created_at OFFSET %(records)s LIMIT 1
), horizon) FROM (SELECT roll_up_horizon() AS horizon OFFSET 0) h
"""


def roll_up() -> int:
    """Brings the roll-up up to date; how many records it took in.

    Safe at any time and twice at once: a batch and its watermark are one transaction under the watermark's
    lock, and who does not get the lock leaves the work to who has it.
    """
    taken_in = 0
    for _ in range(BATCHES_MAX):
        records = _roll_up_batch()
        taken_in += records
        if records < BATCH_RECORDS:
            break
    return taken_in


@transaction.atomic
def roll_up_anew(*, organization_id: int) -> None:
    """Counts an organization's days again from its records, in one transaction."""
    upto = RollUp.objects.select_for_update().get(name="costs").upto
    with connection.cursor() as cursor:
        for table in ("cost_days", "cost_user_days"):
            cursor.execute(f"DELETE FROM {table} WHERE organization_id = %s", [organization_id])
        _add(cursor, _OF_ONE, {"organization": organization_id, "upto": upto})


# --- Reads


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
    grouped = "".join(f"{name}, " for name in dimensions)
    sums = ", ".join(f"sum({name})::{kind}" for name, kind in zip(_SUMS, _KINDS, strict=True))
    rows = _read(
        f"SELECT {grouped}{sums} FROM ({_live_and_rolled_up('cost_days', (*DIMENSIONS, *_SUMS))}) r"
        + ("" if use_case is None else " WHERE use_case = %(use_case)s")
        + (f" GROUP BY {grouped[:-2]} ORDER BY {grouped[:-2]}" if grouped else " HAVING count(*) > 0"),
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
    columns = ("organization_id", "day", '"user"', *_USER_SUMS)
    rows = _read(
        'SELECT organization_id, "user", sum(cost_eur), sum(calls)::bigint'
        f" FROM ({_live_and_rolled_up('cost_user_days', columns)}) r WHERE \"user\" <> ''"
        ' GROUP BY organization_id, "user" ORDER BY 3 DESC, 1, 2 LIMIT %(limit)s',
        organization_ids=organization_ids,
        first=first,
        last=last,
        limit=limit,
    )
    return [UserCost(*row) for row in rows]


_KINDS = ("numeric", "numeric", "bigint", "bigint", "bigint")


def _live_and_rolled_up(table: str, columns: Sequence[str]) -> str:
    """The roll-up's rows of a period and the newer records, under one snapshot.

    `since` is the watermark as it was read a moment before, so that the planner knows how few records are
    newer; the one that counts is read in the statement itself.
    """
    wanted = "organization_id = ANY(%(organization_ids)s) AND day BETWEEN %(first)s AND %(last)s"
    listed = ", ".join(columns)
    return (
        f"SELECT {listed} FROM {table} WHERE {wanted} UNION ALL SELECT {listed} FROM ({_RECORDS}"
        " WHERE c.created_at >= %(since)s"
        " AND c.created_at >= (SELECT upto FROM roll_ups WHERE name = 'costs')"
        f" AND c.organization_id = ANY(%(organization_ids)s)) live WHERE {wanted}"
    )


def _read(statement: str, *, organization_ids: Sequence[int], **values: Any) -> list[tuple[Any, ...]]:
    since = RollUp.objects.values_list("upto", flat=True).get(name="costs")
    with connection.cursor() as cursor:
        cursor.execute(statement, {**values, "organization_ids": list(organization_ids), "since": since})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
