"""Roll-ups that are exact at every instant: tables of sums by key, and what is newer than they are.

A `Source` is a table whose rows carry the time of their writing, taken by clock_timestamp() in the statement
that writes them. `roll_up` adds its newest rows to the source's `Target`s; `sums` reads a target's rows
together with what is not in it yet. Each row counts once: it is in the roll-up if it was written before the
watermark (`RollUp.upto`), and newer otherwise. The watermark never passes a row that may still appear,
however slow its transaction: see `roll_up_horizon` in `budgets/sql/daily.sql`.

A target may have sums by fewer of its columns, by month, and of all organizations together, which triggers
keep (`budgets/sql/sums.sql`). A read takes the coarsest that knows what it asks for: a period is its whole
months, and the days at its edges.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeVar

from django.db import connection, transaction

from aigov import clock
from budgets.models import RollUp

T = TypeVar("T")

#: A run ends after so many batches of so many rows; the next run goes on from there.
BATCH_ROWS = 50_000
BATCHES_MAX = 20

#: The sums of all organizations together are kept as those of this one, which does not exist.
ALL = 0


@dataclass(frozen=True, slots=True)
class Level:
    """Sums of a target's rows by day or month and the columns that are `kept`.

    `of` each organization, of all together, or both.
    """

    name: str
    span: Literal["day", "month"]
    kept: tuple[str, ...]
    of: Literal["each", "all", "both"] = "each"


@dataclass(frozen=True, slots=True)
class Target:
    """A table of sums.

    Args:
        sums_table, levels: where its sums by fewer columns are; of days, and of months, the coarsest first.
        key: its columns that are unique together, `organization_id` and `day` the first of them.
        amounts, counts: what is added up, amounts with decimals and counts without.
        rows: a SELECT of all these columns from the source, which it calls `s`; it ends with a WHERE that is
            open for a further condition.
    """

    table: str
    key: tuple[str, ...]
    amounts: tuple[str, ...]
    counts: tuple[str, ...]
    rows: str
    sums_table: str = ""
    levels: tuple[Level, ...] = ()

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

    def read_from(self, columns: Collection[str], *, by_day: bool, of_all: bool) -> Iterator[str]:
        """The tables, each with its WHERE, that together have a period's rows with these columns."""
        days = self._level("day", columns, of_all) or f"{self.table} WHERE {WANTED}"
        months = None if by_day else self._level("month", columns, of_all)
        if months is None:
            yield f"{days} AND day BETWEEN %(first)s AND %(last)s"
            return
        yield f"{months} AND day >= %(months_first)s AND day < %(months_end)s"
        yield f"{days} AND day >= %(first)s AND day < %(months_first)s"
        yield f"{days} AND day >= %(months_end)s AND day <= %(last)s"

    def _level(self, span: Literal["day", "month"], columns: Collection[str], of_all: bool) -> str | None:
        for level in self.levels:
            if level.span == span and set(columns) <= set(level.kept):
                if of_all and level.of != "each":
                    return f"{self.sums_table} WHERE level = '{level.name}' AND {WANTED_ALL}"
                if level.of != "all":
                    return f"{self.sums_table} WHERE level = '{level.name}' AND {WANTED}"
        return None


#: The rows of the organizations that are wanted; where they are all there are, and the table has their sums.
WANTED, WANTED_ALL = "organization_id = ANY(%(organization_ids)s)", f"organization_id = {ALL}"


@dataclass(frozen=True, slots=True)
class Source:
    """The table whose rows are rolled up, and into what. `name` is its watermark's."""

    name: str
    table: str
    written_at: str
    targets: tuple[Target, ...]

    def places(
        self, target: Target, columns: Collection[str], *, by_day: bool, of_all: bool = False
    ) -> Iterator[str]:
        """Where a period's rows of `target` are, with what they need of these columns: each with its WHERE.

        What is newer than the roll-up is the last of them, under one snapshot with the others. Parameters of
        the statement: `organization_ids`, `first`, `last`, and what `read` adds. `since`, the watermark as it
        was read just before, tells the planner how few rows are newer; the watermark that counts is read in
        the statement itself. It never goes back.

        Where days need not be told apart (not `by_day`), a whole month may have its first day. Where the
        organizations that are wanted are all there are (`of_all`), their rows may be those of `ALL`.
        """
        kept = set(columns) - {"organization_id", "day"}
        yield from target.read_from(kept, by_day=by_day, of_all=of_all and "organization_id" not in columns)
        yield self.newer(target)

    def newer(self, target: Target) -> str:
        """What is newer than the roll-up: one row for each of the source's, with its WHERE."""
        return (
            f"({target.rows} s.{self.written_at} >= %(since)s"
            f" AND s.{self.written_at} >= (SELECT upto FROM roll_ups WHERE name = '{self.name}')"
            f" AND s.{WANTED}) newer WHERE day BETWEEN %(first)s AND %(last)s"
        )


def roll_up(source: Source) -> int:
    """Brings the source's targets up to date; how many rows they took in.

    Safe at any time and twice at once: a batch and its watermark are one transaction under the watermark's
    lock, and who does not get the lock leaves the work to who has it.
    """
    taken_in = 0
    for _ in range(BATCHES_MAX):
        rows = roll_up_batch(source)
        taken_in += rows
        if rows < BATCH_ROWS:
            break
    return taken_in


@transaction.atomic
def roll_up_batch(source: Source) -> int:
    """Takes in the oldest `BATCH_ROWS` rows that are not in the source's targets yet; how many there were."""
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


@dataclass(frozen=True, slots=True)
class Standing:
    """What a read must know beforehand.

    Args:
        since: up to when the source is rolled up; what is newer is added at each read.
        of_all: the organizations that are wanted are all that there are.
    """

    since: datetime
    of_all: bool


def standing(source: Source, organization_ids: Collection[int]) -> Standing:
    """How a source stands to a read of these organizations; 1 query.

    Raises:
        ValueError: `ALL` is among them, which no reader may name.
    """
    if ALL in organization_ids:
        raise ValueError("there is no organization of that number")
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [list(organization_ids), source.name])
        [found] = cursor.fetchall()
    return Standing(*found)


_STANDING = """
SELECT upto, NOT EXISTS (SELECT FROM organizations_organization WHERE id <> ALL(%s))
FROM roll_ups WHERE name = %s
"""


def ask(source: Source, organization_ids: Collection[int], question: Callable[[Standing], T]) -> T:
    """The answer to a question that reads of these organizations.

    It is asked again where an organization has been created meanwhile: then they are not all any more, and
    the sums of all may have what is not the reader's. 1 query beside the question's, 2 where they are all.
    """
    at = standing(source, organization_ids)
    found = question(at)
    if at.of_all and not standing(source, organization_ids).of_all:
        return question(replace(at, of_all=False))
    return found


#: The first day of a row's month, where rows are grouped by months.
MONTH = "date_trunc('month', day::timestamp)::date"


def sums_by(
    source: Source,
    target: Target,
    *group: str,
    organization_ids: Sequence[int],
    first: date,
    last: date,
    use_case: str | None = None,
    **only: str,
) -> list[tuple[Any, ...]]:
    """Rows of the `group` columns, and the target's amounts and counts added up over a period, in that order.

    Two queries (of all organizations three), however long the period. Groups without a row are left out.

    Args:
        group: columns of the target's key; `month` is the first day of a day's month.
        only: values that columns must have.
    """
    wanted = only if use_case is None else {**only, "use_case": use_case}
    values = {"organization_ids": list(organization_ids), "first": first, "last": last, **wanted}

    def question(at: Standing) -> list[tuple[Any, ...]]:
        return read(sums(source, target, group, wanted, of_all=at.of_all), at, **values)

    if "organization_id" in group:  # each one's own sums, whether they are all or not
        return question(standing(source, organization_ids))
    return ask(source, organization_ids, question)


def sums(
    source: Source,
    target: Target,
    group: Sequence[str],
    wanted: Collection[str] = (),
    *,
    of_all: bool = False,
) -> str:
    """A SELECT of what `sums_by` says; `wanted` are the columns that must have the values of their names.

    Each place's rows are added up where they are, and then the few sums of all places.
    """
    columns = {*group, *wanted} - {"month"}
    shown = [f"{MONTH} AS month" if name == "month" else name for name in group]
    numbers = ", ".join(str(at + 1) for at in range(len(group)))
    by_group = f" GROUP BY {numbers}" if group else " HAVING count(*) > 0"
    ordered = f" ORDER BY {numbers}" if group else ""
    only = "".join(f" AND {name} = %({name})s" for name in wanted)
    added = ", ".join([*shown, *(f"sum({name}) AS {name}" for name in target.sums)])
    parts = " UNION ALL ".join(
        f"(SELECT {added} FROM {place}{only}{by_group})"
        for place in source.places(target, columns, by_day="day" in group, of_all=of_all)
    )
    amounts = [f"sum({name}) AS {name}" for name in target.amounts]
    counts = [f"sum({name})::bigint AS {name}" for name in target.counts]
    return f"SELECT {', '.join((*group, *amounts, *counts))} FROM ({parts}) r{by_group}{ordered}"


def read(statement: str, at: Standing, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement that stands on `Source.newer` or on `sums`.

    `values` may have whole months of their own: those of the period are taken otherwise.
    """
    months = whole_months(values["first"], values["last"])
    with connection.cursor() as cursor:
        cursor.execute(statement, {**months, **values, "since": at.since})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def whole_months(first: date, last: date) -> dict[str, date]:
    """Where the whole months of a period begin, and the day after them; both after `last` if it has none."""
    after = last + timedelta(days=1)
    begin = first if first.day == 1 else clock.next_month(first)
    end = after.replace(day=1)
    if begin >= end:
        begin = end = after
    return {"months_first": begin, "months_end": end}
