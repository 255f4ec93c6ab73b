"""Any sequence of events leaves the ledger where a plain model of it is.

The machine plays reserve, settle, void, expire, late answers, corrections, cap changes, and the closing and
reopening of the month against the database and against a few lines of Python, and compares every figure after
each step. Its long run is `make soak`.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from aigov import database, snapshots
from aigov.errors import BadRequest, BudgetExceeded
from aigov.money import NANO_EURO
from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets import accounts, ledger
from budgets.closing import close_month, reopen_month
from budgets.corrections import post_correction
from budgets.models import BudgetAccount, CostRecord, Hold
from tests.ledger_world import approved, charge_of, last_month, reserve, settle, this_month

STEPS = int(os.environ.get("LEDGER_STEPS", "40"))
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "15"))

amounts = st.integers(1, 2_000_000_000).map(lambda nano: nano * NANO_EURO)
caps = st.integers(1, 20_000_000_000).map(lambda nano: nano * NANO_EURO)
users = st.sampled_from(["", "u-1", "u-2"])
use_cases = st.sampled_from(["", "leads"])


@dataclass
class Account:
    """The model: one account, by the promise's own words."""

    cap: Decimal | None
    spent: Decimal = Decimal(0)
    holds: dict[UUID, Decimal] = field(default_factory=dict)

    @property
    def held(self) -> Decimal:
        return sum(self.holds.values(), Decimal(0))

    def fits(self, amount: Decimal) -> bool:
        return self.cap is None or self.spent + self.held + amount <= self.cap


class Loop:
    """An event loop with the ledger's connections, kept for all examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.runner.run(self._open())

    async def _open(self) -> None:
        await self.stack.enter_async_context(database.pool_opened())
        await snapshots.refresh_all()

    def run(self, work: Any) -> Any:
        return self.runner.run(self._with_fresh_snapshots(work))

    async def _with_fresh_snapshots(self, work: Any) -> Any:
        # Between two steps nothing keeps them fresh, and steps are slow on a busy machine.
        if not snapshots.all_fresh():
            await snapshots.refresh_all()
        return await work

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


#: Its id and amount, user and use case.
Taken = tuple[UUID, Decimal, str, str]


class LedgerMachine(RuleBasedStateMachine):
    """Charges are for the month that is over, which is closed and reopened meanwhile."""

    loop: Loop
    holds = Bundle("holds")
    ended = Bundle("ended")

    @initialize(cap=caps)
    def begin(self, cap: Decimal) -> None:
        name = f"Machine {uuid4().hex[:12]}"
        self.organization: Organization = create_organization(name=name, acting="the tests")
        self.months = (last_month(self.organization), this_month(self.organization))
        self.model: dict[tuple[date, str, str], Account] = {}
        for month in self.months:
            self._set_cap(month, cap)
            self.model[month, "organization", ""] = Account(cap)
        self.charge = charge_of(self.organization, month=self.months[0])
        self.closed = False
        self.months_of_holds: dict[UUID, date] = {}
        self.taken: dict[UUID, Taken] = {}
        self.expired: set[UUID] = set()
        self.net: dict[UUID, Decimal] = {}
        self.loop.run(snapshots.refresh_all())

    @property
    def open_month(self) -> date:
        return self.months[self.closed]

    @rule(target=holds, amount=amounts, user=users, use_case=use_cases)
    def reserve(self, amount: Decimal, user: str, use_case: str) -> Taken:
        charge = replace(self.charge, user=user, use_case=use_case)
        touched = self._touched(self.open_month, user, use_case)
        hold_id, admitted = uuid4(), all(account.fits(amount) for account in touched)
        try:
            self.loop.run(reserve(charge, str(amount), hold_id=hold_id))
        except BudgetExceeded:
            assert not admitted, "refused, though it fits"
            return hold_id, amount, user, use_case
        assert admitted, "admitted, though it does not fit"
        self.months_of_holds[hold_id] = self.open_month
        self.taken[hold_id] = (hold_id, amount, user, use_case)
        for account in touched:
            account.holds[hold_id] = amount
        return self.taken[hold_id]

    @rule(target=ended, hold=consumes(holds), share=st.integers(0, 1_000))
    def settle(self, hold: Taken, share: int) -> Taken:
        cost = (hold[1] * share / 1_000).quantize(NANO_EURO)
        self.loop.run(settle(hold[0], str(cost)))
        self._end(hold, cost)
        return hold

    @rule(target=ended, hold=consumes(holds), more=amounts)
    def overrun(self, hold: Taken, more: Decimal) -> Taken:
        self.loop.run(settle(hold[0], str(hold[1] + more)))
        self._end(hold, hold[1] + more)
        return hold

    @rule(target=ended, hold=consumes(holds))
    def settle_estimated(self, hold: Taken) -> Taken:
        self.loop.run(ledger.settle_estimated(hold_id=hold[0], reason="timed_out"))
        if hold[0] not in self.expired:
            self._end(hold, hold[1])
        return hold

    @rule(target=ended, hold=consumes(holds))
    def void(self, hold: Taken) -> Taken:
        self.loop.run(ledger.void(hold_id=hold[0]))
        self._end(hold, None)
        return hold

    @rule(hold=holds)
    def expire(self, hold: Taken) -> None:
        """Whatever ends it later is a late answer."""
        self._expire([hold[0]])

    @rule(hold=ended, cost=amounts)
    def repeat(self, hold: Taken, cost: Decimal) -> None:
        if hold[0] in self.expired:  # its end was an estimate, too: its answer may still come
            return
        assert self.loop.run(settle(hold[0], str(cost))) is None
        self.loop.run(ledger.void(hold_id=hold[0]))

    @rule(hold=st.one_of(holds, ended), amount=amounts, sign=st.sampled_from([1, -1]))
    def correct(self, hold: Taken, amount: Decimal, sign: int) -> None:
        if hold[0] not in self.net:
            return
        amount *= sign
        touched = self._touched(self._posting_month(hold), hold[2], hold[3])
        allowed = self.net[hold[0]] + amount >= 0 and (
            amount > 0 or all(account.spent + amount >= 0 for account in touched)
        )
        charge = CostRecord.objects.get(hold_id=hold[0])
        try:
            post_correction(
                organization=self.organization,
                month=charge.month,
                amount_eur=amount,
                corrects=charge,
                request=None,
                reason="a test",
                acting="the tests",
            )
        except BadRequest:
            assert not allowed, "refused, though nothing falls below zero"
            return
        assert allowed, "posted, though something falls below zero"
        self._post(hold, amount)

    @rule(ended_before=st.booleans())
    def close(self, ended_before: bool) -> None:
        held = self.model[self.months[0], "organization", ""].holds
        if ended_before:
            self._expire(list(held))
        try:
            close_month(
                organization=self.organization, month=self.months[0], acting="the tests", reason="a test"
            )
        except BadRequest:
            assert self.closed or held, "refused, though it can be closed"
            return
        assert not self.closed and not held, "closed, though it cannot be"
        self.closed = True

    @precondition(lambda self: self.closed)
    @rule()
    def reopen(self) -> None:
        month = self.months[0]
        request = approved(self.organization, "reopening", month)
        reopen_month(organization=self.organization, month=month, request=request, acting="the tests")
        self.closed = False

    @rule(cap=caps)
    def change_cap(self, cap: Decimal) -> None:
        self._set_cap(self.open_month, cap)
        self.model[self.open_month, "organization", ""].cap = cap

    @invariant()
    def every_figure_is_the_models(self) -> None:
        if not hasattr(self, "net"):
            return
        for account in BudgetAccount.objects.filter(organization=self.organization):
            model = self.model[account.month, account.scope, account.subject]
            assert (account.cap_eur, account.spent_eur, account.held_eur, account.closed) == (
                *(model.cap, model.spent, model.held),
                self.closed and account.month == self.months[0],
            )
        for month in self.months:
            of_month = {"organization": self.organization, "month": month}
            costs = sum(record.cost_eur for record in CostRecord.objects.filter(**of_month))
            held = sum(hold.amount_eur for hold in Hold.objects.filter(**of_month))
            whole = self.model[month, "organization", ""]
            assert (costs, held) == (whole.spent, whole.held)

    def teardown(self) -> None:
        if hasattr(self, "net"):
            assert ledger.differences(organization_id=self.organization.pk) == []

    def _set_cap(self, month: date, cap: Decimal) -> None:
        account = accounts.open_month(organization=self.organization, month=month)
        accounts.set_month_cap(account=account, cap_eur=cap, acting="the tests", reason="x")

    def _touched(self, month: date, user: str, use_case: str) -> list[Account]:
        keys = [("organization", ""), ("user", user), ("use_case", use_case)]
        return [
            self.model.setdefault((month, *key), Account(None))
            for key in keys
            if key[0] == "organization" or key[1]
        ]

    def _expire(self, holds: list[UUID]) -> None:
        Hold.objects.filter(pk__in=holds).update(expires_at="2000-01-01T00:00Z")
        ledger.expire_holds()
        for hold in holds:
            if hold in self.taken and hold not in self.net:
                self._end(self.taken[hold], self.taken[hold][1])
                self.expired.add(hold)

    def _end(self, hold: Taken, cost: Decimal | None) -> None:
        """The end of a hold, if it was taken: at a cost, or (None) without a record; once, or late."""
        if hold[0] in self.expired:
            self.expired.remove(hold[0])
            self._post(hold, (cost or Decimal(0)) - self.net[hold[0]])
        elif self.taken.pop(hold[0], None):
            for account in self._touched(self.months_of_holds[hold[0]], hold[2], hold[3]):
                del account.holds[hold[0]]
                account.spent += cost or 0
            if cost is not None:
                self.net[hold[0]] = cost

    def _posting_month(self, hold: Taken) -> date:
        return max(self.months_of_holds[hold[0]], self.open_month)

    def _post(self, hold: Taken, amount: Decimal) -> None:
        for account in self._touched(self._posting_month(hold), hold[2], hold[3]):
            account.spent += amount
        self.net[hold[0]] += amount


@pytest.fixture(scope="module", autouse=True)
def loop(database: None) -> Iterator[None]:
    LedgerMachine.loop = Loop()
    yield
    LedgerMachine.loop.close()


class TestLedger(LedgerMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
