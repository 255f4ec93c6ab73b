"""Closing a month against what moves its money at the same instant: one is first, and the other sees it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from aigov import database as pool
from aigov.errors import BadRequest
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.accounts import open_month
from budgets.closing import close_month, is_closed
from budgets.models import BudgetAccount, CostRecord, Hold, MonthClose, Scope
from tests.ledger_world import figures, last_month, this_month

WAIT_S = 20.0
_RESERVE = """
SELECT outcome FROM ledger_reserve(%(hold)s, %(organization)s, %(month)s, '', '', 0.5, 0.5, interval '1 hour',
    '', 0, 'answer', 'openai', 'gpt-4o-mini', 'small', NULL, NULL, '{}')
"""
_SETTLE = """
SELECT outcome FROM ledger_settle(%(hold)s, 0.2, 0.2, false, '', '', '', 1, 0, 0, 0, 1, 0, '{}', NULL)
"""
_CORRECT = """
SELECT outcome, open_month
FROM ledger_correct(%(organization)s, %(month)s, 0.1, 0.1, %(charge)s, NULL, '', '', 'a test')
"""
_RECORD = """
INSERT INTO ai_costs (organization_id, month, "user", use_case, completion_id, attempt, purpose, provider,
    model, tier, metadata, hold_id, created_at, held_eur, cost_eur, estimated, overrun, reason, service_tier,
    provider_request_id)
VALUES (%(organization)s, %(month)s, '', '', '', 0, 'answer', 'openai', 'x', 'small', '{}', %(hold)s, now(),
    1, 1, false, false, '', '', '')
"""


class World:
    """An organization with a charge of 0.2 euro in the month that is over."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.month = last_month(organization)
        for month in (self.month, this_month(organization)):
            open_month(organization=organization, month=month)
        first = uuid4()
        self.run(_RESERVE, first)
        self.run(_SETTLE, first)
        self.charge = CostRecord.objects.get(hold_id=first)

    def values(self, hold: UUID) -> dict[str, Any]:
        ids = {"organization": self.organization.pk, "month": self.month, "hold": hold}
        return {**ids, "charge": getattr(self, "charge", None) and self.charge.pk}

    def run(self, statement: str, hold: UUID) -> Any:
        """In a connection of its own, committed."""
        with psycopg.connect(pool.conninfo(), autocommit=True) as conn:
            return conn.execute(statement, self.values(hold)).fetchone()

    @contextmanager
    def uncommitted(self, statement: str, hold: UUID) -> Iterator[None]:
        """The statement has run, and is committed when the block ends."""
        with psycopg.connect(pool.conninfo()) as conn:
            conn.execute(statement, self.values(hold))
            yield

    def close(self) -> MonthClose:
        return close_month(
            organization=self.organization, month=self.month, acting="finance", reason="a test"
        )


@pytest.fixture
def world(make_organization: Callable[..., Organization]) -> World:
    return World(make_organization())


def wait_for_a_waiting_backend(working: Future[Any]) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until = time.monotonic() + WAIT_S
    with psycopg.connect(pool.conninfo(), autocommit=True) as conn:
        while conn.execute(waiting).fetchone() is None:
            assert not working.done(), working.result()
            assert time.monotonic() < until, "it does not wait"
            time.sleep(0.01)


# --- The other is first


def test_a_hold_that_is_being_taken_keeps_the_month_open(world: World) -> None:
    hold = uuid4()
    with (
        pytest.raises(BadRequest, match="still in flight"),
        meanwhile_close(world, _RESERVE, hold) as closing,
    ):
        closing.result(WAIT_S)
    assert not is_closed(world.organization.pk, world.month)
    assert world.run("SELECT ledger_void(%(hold)s)", hold) == (True,)


def test_a_settlement_that_is_under_way_is_in_the_closed_figures(world: World) -> None:
    hold = uuid4()
    world.run(_RESERVE, hold)
    with meanwhile_close(world, _SETTLE, hold) as closing:
        closed = closing.result(WAIT_S)
    assert (closed.spent_eur, closed.records) == (Decimal("0.4"), 2)


def test_a_correction_that_is_under_way_is_in_the_closed_figures(world: World) -> None:
    with meanwhile_close(world, _CORRECT, uuid4()) as closing:
        closed = closing.result(WAIT_S)
    assert (closed.spent_eur, closed.records) == (Decimal("0.3"), 2)


def test_a_record_that_is_being_written_is_waited_for(world: World) -> None:
    with psycopg.connect(pool.conninfo()) as conn, ThreadPoolExecutor(1) as threads:
        conn.execute(_RECORD, world.values(uuid4()))
        closing = threads.submit(closed_in_thread, world)
        wait_for_a_waiting_backend(closing)
        conn.rollback()
        assert closing.result(WAIT_S).records == 1


@contextmanager
def meanwhile_close(world: World, statement: str, hold: UUID) -> Iterator[Future[Any]]:
    """The statement has run when the close begins, and is committed while that waits."""
    with ThreadPoolExecutor(1) as threads:
        with world.uncommitted(statement, hold):
            closing = threads.submit(closed_in_thread, world)
            wait_for_a_waiting_backend(closing)
        yield closing


def closed_in_thread(world: World) -> MonthClose:
    try:
        return world.close()
    finally:
        connection.close()


# --- The close is first


@pytest.mark.parametrize(
    ("statement", "outcome"), [(_RESERVE, ("closed",)), (_CORRECT, ("corrected", "the open month"))]
)
def test_what_comes_while_a_month_is_being_closed_finds_it_closed(
    world: World, statement: str, outcome: tuple[str, ...]
) -> None:
    with closing_first(world, statement) as coming:
        found = coming.result(WAIT_S)
    assert found == tuple(
        this_month(world.organization) if part == "the open month" else part for part in outcome
    )
    assert figures(world.organization, month=world.month) == (Decimal("0.2"), 0)
    assert ledger.differences(organization_id=world.organization.pk) == []


def test_no_record_slips_into_a_month_that_is_being_closed(world: World) -> None:
    with (
        closing_first(world, _RECORD) as coming,
        pytest.raises(psycopg.errors.IntegrityError, match="is closed"),
    ):
        coming.result(WAIT_S)


def test_of_two_who_close_at_once_one_is_told(world: World) -> None:
    with ThreadPoolExecutor(1) as threads, transaction.atomic():
        world.close()
        second = threads.submit(closed_in_thread, world)
        wait_for_a_waiting_backend(second)
    with pytest.raises(BadRequest, match="closed already"):
        second.result(WAIT_S)


@contextmanager
def closing_first(world: World, statement: str) -> Iterator[Future[Any]]:
    """The close has run when the statement comes, and is committed while that waits."""
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            world.close()
            coming = threads.submit(world.run, statement, uuid4())
            wait_for_a_waiting_backend(coming)
        yield coming


# --- Without the lock


def test_control_look_then_close_closes_a_month_with_a_hold(world: World) -> None:
    hold, looked, taken = uuid4(), threading.Event(), threading.Event()

    def look_then_close() -> None:
        with psycopg.connect(pool.conninfo()) as conn:
            conn.execute("SET LOCAL session_replication_role = replica")  # none of the triggers
            where = "WHERE organization_id = %(organization)s AND month = %(month)s"
            found = conn.execute(f"SELECT 1 FROM budget_holds {where}", world.values(hold)).fetchone()
            assert found is None
            looked.set()
            assert taken.wait(WAIT_S)
            conn.execute(f"UPDATE budget_accounts SET closed = true {where}", world.values(hold))

    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(look_then_close)
        assert looked.wait(WAIT_S)
        assert world.run(_RESERVE, hold) == ("held",)
        taken.set()
        closing.result(WAIT_S)
    assert is_closed(world.organization.pk, world.month)
    assert Hold.objects.filter(pk=hold).exists(), "the race that closing wins did not take place"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "UPDATE budget_accounts SET closed = false WHERE closed AND month = %(month)s"
            " AND organization_id = %(organization)s",
            world.values(hold),
        )
    assert world.run("SELECT ledger_void(%(hold)s)", hold) == (True,)


@pytest.mark.parametrize("statement", ["ours", "plain"])
def test_opening_an_account_that_is_there_locks_nothing(organization: Organization, statement: str) -> None:
    """The ledger locks users' accounts before the organization's; whoever opens one must not be in its way.

    The negative control: a plain insert, whose trigger runs although nothing is inserted.
    """
    month = open_month(organization=organization, user="u-1").month
    with transaction.atomic():
        if statement == "ours":
            open_month(organization=organization, user="u-1")
        else:
            with connection.cursor() as cursor:
                cursor.execute(PLAIN_INSERT, [organization.pk, month])
        assert is_free(organization) == (statement == "ours")


PLAIN_INSERT = """
INSERT INTO budget_accounts (organization_id, month, scope, subject, cap_is_of_month, spent_eur, held_eur)
VALUES (%s, %s, 'user', 'u-1', false, 0, 0) ON CONFLICT DO NOTHING
"""


def is_free(organization: Organization) -> bool:
    """Whether another connection can lock the organization's own accounts at once."""

    def locks() -> bool:
        own = BudgetAccount.objects.filter(organization=organization, scope=Scope.ORGANIZATION)
        try:
            with transaction.atomic():
                return bool(list(own.select_for_update(nowait=True)))
        except OperationalError:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(locks).result(timeout=30)
