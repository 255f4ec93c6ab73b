"""Sums of the roll-ups: at each level the sums of the rows that there are, whatever is done to these rows."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from aigov.organizations.models import Organization
from budgets import daily, roll_ups
from budgets.models import CostDay, CostSum
from budgets.roll_ups import Level, Target
from kpis import facts
from tests.kpis_world import write_random_past
from tests.ledger_world import spend
from tests.test_budgets_daily import rolled_up_past_everything

TARGETS = [
    target
    for source in (daily.COSTS, facts.DECISIONS, facts.NAMES)
    for target in source.targets
    if target.levels
]


def rows_of(statement: str, *of: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, of)
        return sorted(cursor.fetchall())


def kept(target: Target, level: Level, organization_id: int) -> list[tuple[Any, ...]]:
    columns = ", ".join(("day", *level.kept, *target.sums))
    statement = (
        f"SELECT {columns} FROM {target.sums_table} WHERE level = '{level.name}' AND organization_id = %s"
    )
    return rows_of(statement, organization_id)


def wanted(target: Target, level: Level, organization_id: int | None) -> list[tuple[Any, ...]]:
    """The sums of the rows of one organization, or of all."""
    span = (
        "day"
        if level.span == "day"
        else "make_date(extract(year FROM day)::int, extract(month FROM day)::int, 1)"
    )
    columns = ", ".join((span, *level.kept, *(f"sum({name})" for name in target.sums)))
    places = ", ".join(str(at + 1) for at in range(1 + len(level.kept)))
    if organization_id is None:
        return rows_of(f"SELECT {columns} FROM {target.table} GROUP BY {places}")
    return rows_of(
        f"SELECT {columns} FROM {target.table} WHERE organization_id = %s GROUP BY {places}", organization_id
    )


def agree(organization: Organization) -> Iterator[int]:
    """How many rows each level has; they are the sums of the roll-up's, also of all organizations."""
    for target in TARGETS:
        for level in target.levels:
            if level.of != "each":
                assert kept(target, level, roll_ups.ALL) == wanted(target, level, None), (target.table, level)
            if level.of != "all":
                found = kept(target, level, organization.pk)
                assert found == wanted(target, level, organization.pk), (target.table, level)
                yield len(found)


def test_every_level_is_the_sum_of_its_rows(organization: Organization) -> None:
    write_random_past(organization, seed=7)
    rolled_up_past_everything()
    facts.roll_up()
    assert all(list(agree(organization)))


def test_sums_follow_changes_and_what_is_taken_away(organization: Organization) -> None:
    spend(organization, "0.25", "0.5", use_case="leads", user="u-1")
    rolled_up_past_everything()
    days = CostDay.objects.filter(organization=organization)
    days.update(cost_eur=7)
    assert CostSum.objects.get(organization=organization, level="month").cost_eur == 7
    assert any(list(agree(organization)))
    days.delete()
    assert not CostSum.objects.filter(organization=organization).exists()
    roll_ups.roll_up_anew(daily.COSTS, organization_id=organization.pk)
    assert CostSum.objects.get(organization=organization, level="day").cost_eur == Decimal("0.75")


def test_what_is_taken_back_is_taken_back_from_the_sums(organization: Organization) -> None:
    spend(organization, "0.25")
    rolled_up_past_everything()
    with transaction.atomic():
        CostDay.objects.filter(organization=organization).update(cost_eur=7)
        transaction.set_rollback(True)
    assert any(list(agree(organization)))


def test_sums_are_made_of_the_rows_that_there_are(organization: Organization) -> None:
    spend(organization, "0.25")
    rolled_up_past_everything()
    begin = "SELECT roll_up_sums_begin('cost_days', 'cost_sums', %s, VARIADIC %s)"
    with transaction.atomic(), connection.cursor() as cursor:
        CostSum.objects.filter(organization=organization).delete()
        (target,) = (target for target in TARGETS if target.table == "cost_days")
        levels = [f"{level.name}|{level.span}|{', '.join(level.kept)}|{level.of}" for level in target.levels]
        cursor.execute(begin, [", ".join(target.sums), levels])
    assert any(list(agree(organization)))


@pytest.mark.parametrize(
    ("first", "last", "begin", "end"),
    [
        ((2026, 10, 1), (2026, 11, 30), (2026, 10, 1), (2026, 12, 1)),
        ((2026, 9, 30), (2026, 11, 3), (2026, 10, 1), (2026, 11, 1)),
        ((2026, 12, 31), (2027, 2, 28), (2027, 1, 1), (2027, 3, 1)),
    ],
)
def test_the_whole_months_of_a_period(first: Any, last: Any, begin: Any, end: Any) -> None:
    found = roll_ups.whole_months(date(*first), date(*last))
    assert found == {"months_first": date(*begin), "months_end": date(*end)}


@pytest.mark.parametrize(
    ("first", "last"), [((2026, 11, 2), (2026, 11, 30)), ((2026, 11, 1), (2026, 11, 29))]
)
def test_a_period_without_a_whole_month(first: Any, last: Any) -> None:
    after = date(*last) + timedelta(days=1)
    assert roll_ups.whole_months(date(*first), date(*last)) == {"months_first": after, "months_end": after}
