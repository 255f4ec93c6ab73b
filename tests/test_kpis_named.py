"""Leads and orders that calls name: each counts once in any period, step and group, whatever is rolled up."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets import roll_ups
from budgets.models import RollUp
from budgets.roll_ups import Standing
from kpis import facts
from kpis import named as named_module
from kpis.buckets import buckets
from kpis.models import NEVER, NamedDay, NamedSum
from kpis.named import Direct, Named, direct, named
from kpis.periods import Period
from tests.kpis_world import FIRST, LAST, random_records, write_past, write_random_past
from tests.test_budgets_daily import rolled_up_past_everything
from tests.test_kpis_queries import RAW_COSTS, raw

DAY = date(2026, 10, 1)
PERIODS = (
    Period(date(2026, 9, 1), date(2026, 11, 30)),
    Period(date(2026, 10, 1), date(2026, 10, 31)),
    Period(date(2026, 9, 25), date(2026, 11, 4)),
    # Longer than steps of days are shown for: months, the first and the last of them cut.
    Period(date(2026, 7, 20), date(2026, 11, 5)),
)


# --- The row before


def random_rows(organization: Organization, dice: random.Random, number: int) -> list[NamedDay]:
    keys = {
        (
            DAY + timedelta(days=dice.randrange(70)),
            dice.choice(["lead", "order"]),
            f"X-{dice.randrange(4)}",
            dice.choice(["", "offers"]),
            *dice.choice([("openai", "small"), ("openai", "large"), ("anthropic", "large")]),
        )
        for _ in range(number)
    }
    names = ("day", "kind", "external_id", "use_case", "provider", "model")
    return [
        NamedDay(
            organization=organization,
            cost_eur=dice.randrange(9),
            calls=1,
            **dict(zip(names, key, strict=True)),
        )
        for key in sorted(keys, key=lambda _key: dice.random())
    ]


def days_before(row: NamedDay, rows: list[NamedDay]) -> tuple[date, ...]:
    """The day of the row before it among all of its lead, its use case, its model, and both."""

    def before(*common: str) -> date:
        same = [
            (each.day, each.pk)
            for each in rows
            if all(getattr(each, name) == getattr(row, name) for name in ("kind", "external_id", *common))
        ]
        return max((each for each in same if each < (row.day, row.pk)), default=(NEVER, 0))[0]

    model = ("provider", "model")
    return before(), before("use_case"), before(*model), before("use_case", *model)


def all_rows(organization: Organization) -> list[NamedDay]:
    return list(NamedDay.objects.filter(organization=organization))


@pytest.mark.parametrize("seed", range(3))
def test_rows_know_the_row_before_them_whatever_comes_and_goes(organization: Organization, seed: int) -> None:
    dice = random.Random(seed)
    coming = random_rows(organization, dice, 120)
    while coming:
        number = dice.randint(1, 40)
        NamedDay.objects.bulk_create(coming[:number])
        coming = coming[number:]
        NamedDay.objects.filter(pk__in=dice.choices([row.pk for row in all_rows(organization)], k=5)).delete()
        rows = all_rows(organization)
        for row in rows:
            said = (row.before, row.before_in_use_case, row.before_by_model, row.before_in_both)
            assert said == days_before(row, rows)
    assert {said.before for said in rows} > {NEVER}


def test_rows_that_were_there_before_are_put_in_order(organization: Organization) -> None:
    NamedDay.objects.bulk_create(random_rows(organization, random.Random(4), 60))
    NamedDay.objects.filter(organization=organization).update(before=NEVER, before_in_both=DAY)
    with connection.cursor() as cursor:
        cursor.execute("SELECT kpi_named_days_order_statement('kpi_named_days d')")
        cursor.execute(cursor.fetchone()[0])
    rows = all_rows(organization)
    assert {(row.before, row.before_in_both) for row in rows} == {
        (days_before(row, rows)[0], days_before(row, rows)[3]) for row in rows
    }


def test_the_key_of_a_row_does_not_change(organization: Organization) -> None:
    NamedDay.objects.bulk_create(random_rows(organization, random.Random(4), 3))
    rows = NamedDay.objects.filter(organization=organization)
    for change in ({"day": DAY}, {"external_id": "erased"}, {"use_case": "x"}, {"model": "x"}):
        with pytest.raises(IntegrityError, match="does not change"):
            rows.update(**change)


NO_LOCK = """
DO $$ BEGIN
    EXECUTE replace(pg_get_functiondef('kpi_named_days_order'::regproc), '{0}', '{1}');
END $$
"""
LOCK = "PERFORM FROM roll_ups"


@pytest.fixture(params=[True, False], ids=["locked", "control"])
def is_locked(request: Any) -> Iterator[bool]:
    """Whether who writes rows waits for others that do; without, in the negative control, they do not."""
    if request.param:
        yield True
        return
    with connection.cursor() as cursor:
        cursor.execute(NO_LOCK.format(LOCK, "PERFORM NULL; -- " + LOCK))
        yield False
        cursor.execute(NO_LOCK.format("PERFORM NULL; -- " + LOCK, LOCK))


def test_two_who_write_rows_of_one_lead_at_once_see_each_others(
    organization: Organization, is_locked: bool
) -> None:
    rows = [
        NamedDay(organization=organization, kind="lead", external_id="L", day=day, cost_eur=1, calls=1)
        for day in (DAY, DAY + timedelta(days=1))
    ]

    def write_second() -> None:
        NamedDay.objects.bulk_create(rows[1:])
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            NamedDay.objects.bulk_create(rows[:1])
            second = pool.submit(write_second)
            # It waits in any case, at the latest for sums that both add to; by then it has looked.
            wait([second], timeout=0.5)
        second.result(timeout=30)
    befores = (
        NamedDay.objects.filter(organization=organization).order_by("day").values_list("before", flat=True)
    )
    assert list(befores) == [NEVER, DAY if is_locked else NEVER]


LEVELS = {
    "days": ("day", ("kind", "before")),
    "use_case_days": ("day", ("kind", "use_case", "before_in_use_case")),
    "model_days": ("day", ("kind", "provider", "model", "before_by_model")),
    "months": ("month", ("kind", "before")),
    "use_cases": ("month", ("kind", "use_case", "before_in_use_case")),
    "models": ("month", ("kind", "provider", "model", "before_by_model")),
}


def test_sums_are_those_of_the_rows_of_one_organization_and_of_all(organization: Organization) -> None:
    dice = random.Random(1)
    for _ in range(3):
        rows = {row.pk for row in all_rows(organization)}
        NamedDay.objects.bulk_create(random_rows(organization, dice, 30), ignore_conflicts=True)
        NamedDay.objects.filter(pk__in=dice.sample(sorted(rows), len(rows) // 2)).delete()
        NamedDay.objects.filter(organization=organization, kind="order").update(cost_eur=Decimal("0.5"))
        for level, (span, columns) in LEVELS.items():
            if level not in ("use_case_days", "model_days"):
                assert sums(level, columns, organization.pk) == added_up(span, columns, organization.pk)
            assert sums(level, columns, roll_ups.ALL) == added_up(span, columns, None)
    NamedDay.objects.filter(organization=organization).delete()
    assert not NamedSum.objects.filter(organization=organization).exists()


def sums(level: str, columns: tuple[str, ...], organization_id: int) -> list[tuple[Any, ...]]:
    names = ("before" if name.startswith("before") else name for name in columns)
    found = NamedSum.objects.filter(level=level, organization_id=organization_id, parts__gt=0)
    return sorted(found.values_list("day", *names, "parts", "cost_eur"))


def added_up(span: str, columns: tuple[str, ...], organization_id: int | None) -> list[tuple[Any, ...]]:
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT date_trunc('{span}', day::timestamp)::date, {names}, count(*), sum(cost_eur)"
            f" FROM kpi_named_days WHERE %s::bigint IS NULL OR organization_id = %s GROUP BY 1, {names}",
            [organization_id, organization_id],
        )
        return sorted(cursor.fetchall())


# --- What the reads say


@pytest.fixture(scope="module")
def past(database: None) -> list[Organization]:
    """Two organizations with random calls, far apart."""
    made = []
    for seed, zone in enumerate(("Europe/Berlin", "Pacific/Auckland")):
        organization = create_organization(
            name=f"Named {uuid4().hex[:12]}", time_zone=zone, acting="the tests"
        )
        write_random_past(organization, seed, count=250)
        made.append(organization)
    rolled_up_past_everything()
    facts.roll_up()
    return made


@pytest.fixture(params=range(4))
def rolled_up_to(request: Any, past: list[Organization]) -> Iterator[datetime]:
    """Some time up to which the past is rolled up, at last all of it; what is later is newer."""
    upto = FIRST + (LAST + timedelta(days=1) - FIRST) * request.param / 3
    with transaction.atomic():
        RollUp.objects.filter(name="names").update(upto=upto)
        for organization in past:
            roll_ups.roll_up_anew(facts.NAMES, organization_id=organization.pk)
        yield upto
        transaction.set_rollback(True)


NAMES = """
coalesce(sum(cost_eur) FILTER (WHERE metadata ->> 'lead_id' > ''), 0),
count(DISTINCT metadata ->> 'lead_id'),
coalesce(sum(cost_eur) FILTER (WHERE metadata ->> 'order_id' > ''), 0),
count(DISTINCT metadata ->> 'order_id')
"""
ANSWERS = RAW_COSTS + " AND purpose = 'answer'"


def plain(past: list[Organization], period: Period, use_case: str | None = None) -> Direct:
    rows = [raw(ANSWERS, NAMES, organization, period, use_case)[0] for organization in past]
    return Direct(*(sum(column) for column in zip(*rows, strict=True)))


def plain_groups(
    columns: str, organization: Organization, period: Period, use_case: str | None
) -> dict[tuple[str, ...], Direct]:
    group_by = f"{ANSWERS} AND (metadata ? 'lead_id' OR metadata ? 'order_id') GROUP BY {columns}"
    rows = raw(group_by, f"{columns}, {NAMES}", organization, period, use_case)
    return {row[:-4]: Direct(*row[-4:]) for row in rows}


@pytest.mark.parametrize("period", PERIODS, ids=str)
def test_reads_equal_plain_sql_wherever_the_roll_up_stands(
    past: list[Organization], rolled_up_to: datetime, period: Period
) -> None:
    steps, ids = buckets(period.first, period.last).steps, [each.pk for each in past]
    for use_case in (None, "", "offers"):
        found = named([step.first for step in steps], ids, period, use_case)
        assert found.total == plain(past, period, use_case) == direct(ids, period, use_case)
        assert found.steps == [plain(past, Period(step.first, step.last), use_case) for step in steps]
        for organization in past:
            found = named([period.first], [organization.pk], period, use_case)
            assert found.by_use_case == plain_groups("use_case", organization, period, use_case)
            assert found.by_model == plain_groups("provider, model", organization, period, use_case)


def test_only_who_asks_for_every_organization_gets_sums_of_all(past: list[Organization]) -> None:
    everybody = list(Organization.objects.values_list("pk", flat=True))
    assert roll_ups.standing(facts.NAMES, everybody).of_all
    assert not roll_ups.standing(facts.NAMES, everybody[1:]).of_all
    assert not roll_ups.standing(facts.NAMES, [*everybody[1:], 10**9]).of_all
    for ids in ([roll_ups.ALL], [*everybody, roll_ups.ALL]):
        with pytest.raises(ValueError, match="no organization"):
            direct(ids, PERIODS[0])


def test_an_organization_that_comes_while_all_are_read_is_not_among_them(past: list[Organization]) -> None:
    everybody = list(Organization.objects.values_list("pk", flat=True))
    asked: list[bool] = []

    def question(at: Standing) -> int:
        if not asked:
            create_organization(name=f"New {uuid4().hex[:12]}", time_zone="UTC", acting="the tests")
        asked.append(at.of_all)
        return len(asked)

    assert roll_ups.ask(facts.NAMES, everybody, question) == 2
    assert asked == [True, False]


@pytest.mark.parametrize("use_case", [None, "", "offers"])
def test_sums_of_all_organizations_say_what_those_of_each_say(
    past: list[Organization], rolled_up_to: datetime, use_case: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = list(Organization.objects.values_list("pk", flat=True))

    def reads() -> list[Named]:
        steps = [buckets(period.first, period.last).steps for period in PERIODS]
        return [
            named([step.first for step in each], everybody, period, use_case)
            for each, period in zip(steps, PERIODS, strict=True)
        ]

    of_all = reads()
    standing = roll_ups.standing
    monkeypatch.setattr(roll_ups, "standing", lambda *of: replace(standing(*of), of_all=False))
    assert of_all == reads()
    assert of_all[0].total.leads > 0


# --- One by one


def test_of_very_many_leads_a_sample_is_looked_at(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(3)
    records = random_records(organization, dice, 900)
    for record in records:
        record.purpose, record.metadata = "answer", {"lead_id": f"L-{dice.randrange(700)}", "order_id": "O-1"}
    write_past(organization=organization, records=records, decisions=[])
    exact = named([PERIODS[0].first], [organization.pk], PERIODS[0]).spread
    monkeypatch.setattr(named_module, "SAMPLE", 200)
    for newest_first in (False, True):
        found = read_spread(organization, newest_first)
        assert found["order"] == exact["order"]
        lead, all_leads = found["lead"], exact["lead"]
        assert (lead.named, lead.mean_eur) == (all_leads.named, all_leads.mean_eur)
        assert 100 < lead.looked_at < 300 < all_leads.looked_at == all_leads.named
        assert lead.median_eur == pytest.approx(all_leads.median_eur, rel=Decimal("0.3"))


def read_spread(organization: Organization, newest_first: bool) -> Any:
    """The spread, with everything rolled up, or nothing: the same leads are in the sample."""
    with transaction.atomic():
        if newest_first:
            RollUp.objects.filter(name="names").update(upto=datetime(2020, 1, 1, tzinfo=UTC))
            roll_ups.roll_up_anew(facts.NAMES, organization_id=organization.pk)
        found = named([PERIODS[0].first], [organization.pk], PERIODS[0]).spread
        transaction.set_rollback(True)
    return found
