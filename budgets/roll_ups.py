"""Roll-ups that are exact at every instant: tables of sums by key, and what is newer than they are.

A `Source` is a table whose rows carry the time of their writing, taken by clock_timestamp() in the statement
that writes them. `roll_up` adds its newest rows to the source's `Target`s; `with_newer` gives a target's rows
together with what is not in it yet. Each row counts once: it is in the roll-up if it was written before the
watermark (`RollUp.upto`), and newer otherwise. The watermark never passes a row that may still appear,
however slow its transaction: see `roll_up_horizon` in `budgets/sql/daily.sql`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from budgets.models import RollUp

#: A run ends after so many batches of so many rows; the next run goes on from there.
BATCH_ROWS = 50_000
BATCHES_MAX = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A table of sums.

    Args:
        key: its columns that are unique together, `organization_id` and `day` among them.
        amounts, counts: what is added up, amounts with decimals and counts without.
        rows: a SELECT of all these columns from the source, which it calls `s`; it ends with a WHERE that is
            open for a further condition.
    """

    table: str
    key: tuple[str, ...]
    amounts: tuple[str, ...]
    counts: tuple[str, ...]
    rows: str

    @property
    def sums(self) -> tuple[str, ...]:
        return (*self.amounts, *self.counts)

    @property
    def columns(self) -> str:
        return ", ".join((*self.key, *self.sums))

    def add(self, which: str) -> str:
        """The statement that adds the source's rows of the condition `which`."""
        key = ", ".join(self.key)
        return (
            f"INSERT INTO {self.table} AS t ({self.columns})"
            f" SELECT {key}, {', '.join(f'sum({name})' for name in self.sums)}"
            f" FROM ({self.rows} {which}) r GROUP BY {key} ON CONFLICT ({key}) DO UPDATE"
            f" SET {', '.join(f'{name} = t.{name} + excluded.{name}' for name in self.sums)}"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """The table whose rows are rolled up, and into what. `name` is its watermark's."""

    name: str
    table: str
    written_at: str
    targets: tuple[Target, ...]

    def with_newer(self, target: Target) -> str:
        """A SELECT of a period's rows of `target`, and of what is newer than the roll-up, under one snapshot.

        Its parameters: `organization_ids`, `first`, `last`, and `since`, the watermark as it was read just
        before (`watermark`), which tells the planner how few rows are newer. The watermark that counts is
        read in the statement itself; it never goes back.
        """
        wanted = "organization_id = ANY(%(organization_ids)s) AND day BETWEEN %(first)s AND %(last)s"
        return (
            f"SELECT {target.columns} FROM {target.table} WHERE {wanted} UNION ALL"
            f" SELECT {target.columns} FROM ({target.rows} s.{self.written_at} >= %(since)s"
            f" AND s.{self.written_at} >= (SELECT upto FROM roll_ups WHERE name = '{self.name}')"
            f" AND s.organization_id = ANY(%(organization_ids)s)) newer WHERE {wanted}"
        )


def roll_up(source: Source) -> int:
    """Brings the source's targets up to date; how many rows they took in.

    Safe at any time and twice at once: a batch and its watermark are one transaction under the watermark's
    lock, and who does not get the lock leaves the work to who has it.
    """
    taken_in = 0
    for _ in range(BATCHES_MAX):
        rows = _roll_up_batch(source)
        taken_in += rows
        if rows < BATCH_ROWS:
            break
    return taken_in


@transaction.atomic
def _roll_up_batch(source: Source) -> int:
    watermarks = RollUp.objects.select_for_update(skip_locked=True).filter(name=source.name)
    since = watermarks.values_list("upto", flat=True).first()
    if since is None:
        return 0
    with connection.cursor() as cursor:
        # The horizon is taken in a statement before those that read: what was written before it is seen then.
        cursor.execute(_END_OF_BATCH.format(source=source), {"since": since, "rows": BATCH_ROWS})
        upto, rows = cursor.fetchone()
        if upto <= since:
            return 0
        span = f"s.{source.written_at} >= %(since)s AND s.{source.written_at} < %(upto)s"
        if rows:
            _add(cursor, source, span, {"since": since, "upto": upto})
    watermarks.update(upto=upto)
    return int(rows)


# The end is another time than the beginning, so that each batch gets on, however many rows share one.
_END_OF_BATCH = """
WITH horizon AS MATERIALIZED (SELECT roll_up_horizon() AS at), newer AS (
    SELECT {source.written_at} AS at FROM {source.table}
    WHERE {source.written_at} >= %(since)s AND {source.written_at} < (SELECT at FROM horizon)
    ORDER BY 1 LIMIT %(rows)s
)
SELECT coalesce((
    SELECT {source.written_at} FROM {source.table}
    WHERE {source.written_at} > (SELECT max(at) FROM newer) AND {source.written_at} < (SELECT at FROM horizon)
    ORDER BY 1 LIMIT 1
), (SELECT at FROM horizon)), (SELECT count(*) FROM newer)
"""


@transaction.atomic
def roll_up_anew(source: Source, *, organization_id: int) -> None:
    """Counts an organization's days again from its rows, as far as the watermark, in one transaction."""
    upto = RollUp.objects.select_for_update().get(name=source.name).upto
    with connection.cursor() as cursor:
        for target in source.targets:
            cursor.execute(f"DELETE FROM {target.table} WHERE organization_id = %s", [organization_id])
        of_one = f"s.organization_id = %(organization)s AND s.{source.written_at} < %(upto)s"
        _add(cursor, source, of_one, {"organization": organization_id, "upto": upto})


def _add(cursor: Any, source: Source, which: str, values: Mapping[str, Any]) -> None:
    for target in source.targets:
        cursor.execute(target.add(which), values)


def watermark(source: Source) -> datetime:
    """Up to when the source is rolled up; what is newer is added at each read."""
    return RollUp.objects.values_list("upto", flat=True).get(name=source.name)


def sums_by(
    source: Source,
    target: Target,
    *group: str,
    organization_ids: Sequence[int],
    first: date,
    last: date,
    use_case: str | None = None,
) -> list[tuple[Any, ...]]:
    """Rows of the `group` columns, and the target's amounts and counts added up over a period, in that order.

    Two queries, however long the period. Groups without a row are left out.
    """
    sums = [f"sum({name})" for name in target.amounts] + [f"sum({name})::bigint" for name in target.counts]
    columns = ", ".join(group)
    return read(
        source,
        f"SELECT {', '.join((*group, *sums))} FROM ({source.with_newer(target)}) r"
        " WHERE %(use_case)s::text IS NULL OR use_case = %(use_case)s"
        + (f" GROUP BY {columns} ORDER BY {columns}" if group else " HAVING count(*) > 0"),
        **{"organization_ids": list(organization_ids), "first": first, "last": last, "use_case": use_case},
    )


def read(source: Source, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement that stands on `source.with_newer`."""
    with connection.cursor() as cursor:
        cursor.execute(statement, {**values, "since": watermark(source)})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
