"""Costs by day: exact at every instant, beside writers, slow transactions and erased users."""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from aigov import clock
from aigov.organizations.models import Organization
from budgets import daily, ledger, roll_ups
from budgets.models import BudgetAccount, CostDay, CostRecord, CostUserDay, RollUp
from tests.ledger_world import SETTLE, charge_of, hold_sync, settle_sync, spend, this_month
from tests.web_processes import url_of_the_database

ALWAYS = (date(2000, 1, 1), date(2100, 1, 1))
WRITERS, CALLS_EACH = 4, 40


def total(organization: Organization) -> Decimal:
    found = daily.costs_by(organization_ids=[organization.pk], first=ALWAYS[0], last=ALWAYS[1])
    return found[0].cost_eur if found else Decimal(0)


def in_the_books(organization: Organization) -> Decimal:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(cost_eur), 0) FROM ai_costs WHERE organization_id = %s", [organization.pk]
        )
        return Decimal(cursor.fetchone()[0])


def rolled_up_past_everything() -> None:
    """Rolls up until what is written now is in: the horizon stays a second behind."""
    before = clock.now()
    pause = threading.Event()
    while RollUp.objects.get(name="costs").upto <= before:
        pause.wait(0.1)
        daily.roll_up()


def test_days_count_the_same_live_and_rolled_up(organization: Organization) -> None:
    spend(organization, "0.25", "0.5", use_case="leads", user="u-1")
    spend(organization, "0.125", purpose="check")

    def seen() -> Any:
        return (
            daily.day_costs([organization.pk], *ALWAYS),
            daily.costs_by(
                "use_case", "purpose", organization_ids=[organization.pk], first=ALWAYS[0], last=ALWAYS[1]
            ),
            daily.user_costs([organization.pk], *ALWAYS, limit=5),
        )

    live = seen()
    assert not CostDay.objects.filter(organization=organization).exists()
    rolled_up_past_everything()
    assert seen() == live
    assert CostDay.objects.filter(organization=organization).count() == 2
    days, by_use_case, by_user = live
    assert [(day.cost_eur, day.calls) for day in days] == [(Decimal("0.875"), 3)]
    assert [(costs.group, costs.cost_eur, costs.input_total) for costs in by_use_case] == [
        (("", "check"), Decimal("0.125"), 100),
        (("leads", "answer"), Decimal("0.75"), 200),
    ]
    assert [(user.user, user.cost_eur, user.calls) for user in by_user] == [("u-1", Decimal("0.75"), 2)]


def test_an_unknown_dimension_is_refused(organization: Organization) -> None:
    with pytest.raises(ValueError, match="metadata"):
        daily.costs_by("metadata", organization_ids=[organization.pk], first=ALWAYS[0], last=ALWAYS[1])


def test_a_correction_changes_the_cost_and_is_no_call(organization: Organization) -> None:
    late = hold_sync(charge_of(organization), lifetime_s=0)
    ledger.expire_holds()
    assert settle_sync(late, "0.4") == "corrected"
    for _ in range(2):
        (found,) = daily.costs_by(organization_ids=[organization.pk], first=ALWAYS[0], last=ALWAYS[1])
        assert (found.cost_eur, found.calls) == (Decimal("0.4"), 1)
        rolled_up_past_everything()


@pytest.mark.parametrize(
    ("month", "at", "zone", "day"),
    [
        (date(2026, 11, 1), datetime(2026, 11, 23, 22, 59, tzinfo=UTC), "Europe/Berlin", date(2026, 11, 23)),
        (date(2026, 11, 1), datetime(2026, 11, 23, 23, 0, tzinfo=UTC), "Europe/Berlin", date(2026, 11, 24)),
        (
            date(2026, 11, 1),
            datetime(2026, 11, 30, 23, 0, 4, tzinfo=UTC),
            "Europe/Berlin",
            date(2026, 11, 30),
        ),
        (date(2026, 12, 1), datetime(2026, 11, 30, 22, 0, tzinfo=UTC), "Europe/Berlin", date(2026, 12, 1)),
        (date(2026, 3, 1), datetime(2026, 3, 29, 22, 30, tzinfo=UTC), "Europe/Berlin", date(2026, 3, 30)),
        (
            date(2026, 11, 1),
            datetime(2026, 11, 24, 7, 0, tzinfo=UTC),
            "America/Los_Angeles",
            date(2026, 11, 23),
        ),
    ],
)
def test_a_cost_counts_to_its_local_day_within_its_month(
    month: date, at: datetime, zone: str, day: date
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cost_day(%s, %s, %s)", [month, at, zone])
        assert cursor.fetchone() == (day,)


def test_a_replaced_user_is_replaced_in_the_roll_up(organization: Organization) -> None:
    spend(organization, "0.25", user="maria@example.org")
    rolled_up_past_everything()
    spend(organization, "0.5", user="maria@example.org")
    records = CostRecord.objects.filter(organization=organization)
    with transaction.atomic():
        records.update(user="erased-1")
        BudgetAccount.objects.filter(organization=organization, scope="user").update(subject="erased-1")
    for _ in range(2):
        (found,) = daily.user_costs([organization.pk], *ALWAYS, limit=5)
        assert (found.user, found.cost_eur, found.calls) == ("erased-1", Decimal("0.75"), 2)
        assert not CostUserDay.objects.filter(user="maria@example.org").exists()
        rolled_up_past_everything()


def test_days_counted_anew_are_the_same(organization: Organization) -> None:
    spend(organization, "0.25", "0.5", user="u-1")
    rolled_up_past_everything()
    before = daily.day_costs([organization.pk], *ALWAYS)
    CostDay.objects.filter(organization=organization).update(cost_eur=7)
    assert daily.day_costs([organization.pk], *ALWAYS) != before
    roll_ups.roll_up_anew(daily.COSTS, organization_id=organization.pk)
    assert daily.day_costs([organization.pk], *ALWAYS) == before


# --- Beside writers


def looks_while_writing(organization: Organization) -> list[bool]:
    """Rolls up and reads, beside writers, until they are through; whether each look equals the books."""
    writers = [
        threading.Thread(target=closing, args=[lambda: spend(organization, *["0.001"] * CALLS_EACH)])
        for _ in range(WRITERS)
    ]
    rollers = [threading.Thread(target=closing, args=[lambda: roll_up_while(writers)]) for _ in range(2)]
    for thread in writers + rollers:
        thread.start()
    looks = []
    while any(writer.is_alive() for writer in writers):
        looks.append(equals_the_books(organization))
    for thread in writers + rollers:
        thread.join()
    return looks


def closing(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()


def roll_up_while(writers: list[threading.Thread]) -> None:
    while any(writer.is_alive() for writer in writers):
        daily.roll_up()


def equals_the_books(organization: Organization) -> bool:
    """Both sums under one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            return total(organization) == in_the_books(organization)
        finally:
            cursor.execute("COMMIT")


def test_every_look_beside_writers_and_two_roll_ups_is_exact(organization: Organization) -> None:
    looks = looks_while_writing(organization)
    assert looks
    assert all(looks)
    rolled_up_past_everything()
    assert total(organization) == in_the_books(organization) == Decimal("0.001") * WRITERS * CALLS_EACH


def settled_while_another_rolls_up(organization: Organization, roll_up: Callable[[], object]) -> Decimal:
    """What is seen of a charge whose transaction was still open when `roll_up` ran."""
    taken = hold_sync(charge_of(organization))
    with psycopg.connect(url_of_the_database()) as slow:
        slow.execute(SETTLE, (taken, "0.25", "0.25"))
        threading.Event().wait(1.5)  # longer than the horizon stays behind; no proof hangs on it
        roll_up()
    return total(organization)


def test_a_slow_transaction_holds_the_watermark_back(organization: Organization) -> None:
    assert settled_while_another_rolls_up(organization, daily.roll_up) == Decimal("0.25")
    rolled_up_past_everything()
    assert total(organization) == Decimal("0.25")


def test_control_a_watermark_that_follows_the_clock_loses_it(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    naive = roll_ups._END_OF_BATCH.replace("roll_up_horizon()", "clock_timestamp() - interval '1 second'")
    monkeypatch.setattr(roll_ups, "_END_OF_BATCH", naive)
    assert settled_while_another_rolls_up(organization, daily.roll_up) == 0
    roll_ups.roll_up_anew(daily.COSTS, organization_id=organization.pk)
    assert total(organization) == Decimal("0.25")


def test_batches_end_and_go_on(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled_up_past_everything()
    spend(organization, *["0.01"] * 7)
    monkeypatch.setattr(roll_ups, "BATCH_ROWS", 2)
    monkeypatch.setattr(roll_ups, "BATCHES_MAX", 1)
    rolled_up_past_everything()
    assert total(organization) == Decimal("0.07")
    assert CostDay.objects.get(organization=organization).calls == 7
    assert this_month(organization) == CostDay.objects.get(organization=organization).month


def test_reads_take_two_queries(organization: Organization, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        daily.day_costs([organization.pk], clock.now().date() - timedelta(days=800), clock.now().date())
