"""Any sequence of events leaves the ledger where a plain model of it is.

The machine plays reserve, settle, void, expire and cap changes against the database and against a few lines
of Python, and compares every figure after each step. Its long run is `make soak`.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from aigov import database, snapshots
from aigov.errors import BudgetExceeded
from aigov.money import NANO_EURO
from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets import accounts, ledger
from budgets.models import BudgetAccount, CostRecord, Hold
from tests.ledger_world import charge_of, reserve, settle

STEPS = int(os.environ.get("LEDGER_STEPS", "40"))
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "15"))

amounts = st.integers(1, 2_000_000_000).map(lambda nano: nano * NANO_EURO)
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
        return self.runner.run(work)

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


class LedgerMachine(RuleBasedStateMachine):
    loop: Loop
    holds = Bundle("holds")
    ended = Bundle("ended")

    @initialize(cap=amounts)
    def begin(self, cap: Decimal) -> None:
        name = f"Machine {uuid4().hex[:12]}"
        self.organization: Organization = create_organization(name=name, acting="the tests")
        account = accounts.open_month(organization=self.organization)
        accounts.set_month_cap(account=account, cap_eur=cap, acting="the tests", reason="a test")
        self.charge = charge_of(self.organization)
        self.model: dict[tuple[str, str], Account] = {("organization", ""): Account(cap)}
        self.ends: dict[UUID, str] = {}
        self.loop.run(snapshots.refresh_all())

    @rule(target=holds, amount=amounts, user=users, use_case=use_cases)
    def reserve(self, amount: Decimal, user: str, use_case: str) -> tuple[UUID, Decimal, str, str]:
        charge = replace(self.charge, user=user, use_case=use_case)
        touched = self._touched(user, use_case)
        hold_id, admitted = uuid4(), all(account.fits(amount) for account in touched)
        try:
            self.loop.run(reserve(charge, str(amount), hold_id=hold_id))
        except BudgetExceeded:
            assert not admitted, "refused, though it fits"
            return hold_id, amount, user, use_case
        assert admitted, "admitted, though it does not fit"
        for account in touched:
            account.holds[hold_id] = amount
        return hold_id, amount, user, use_case

    @rule(target=ended, hold=consumes(holds), share=st.integers(0, 1_000))
    def settle(self, hold: tuple[UUID, Decimal, str, str], share: int) -> tuple[UUID, Decimal, str, str]:
        cost = (hold[1] * share / 1_000).quantize(NANO_EURO)
        self.loop.run(settle(hold[0], str(cost)))
        self._end(hold, cost)
        return hold

    @rule(target=ended, hold=consumes(holds), more=amounts)
    def overrun(self, hold: tuple[UUID, Decimal, str, str], more: Decimal) -> tuple[UUID, Decimal, str, str]:
        self.loop.run(settle(hold[0], str(hold[1] + more)))
        self._end(hold, hold[1] + more)
        return hold

    @rule(target=ended, hold=consumes(holds))
    def settle_estimated(self, hold: tuple[UUID, Decimal, str, str]) -> tuple[UUID, Decimal, str, str]:
        self.loop.run(ledger.settle_estimated(hold_id=hold[0], reason="timed_out"))
        self._end(hold, hold[1])
        return hold

    @rule(target=ended, hold=consumes(holds))
    def void(self, hold: tuple[UUID, Decimal, str, str]) -> tuple[UUID, Decimal, str, str]:
        self.loop.run(ledger.void(hold_id=hold[0]))
        self._end(hold, Decimal(0))
        return hold

    @rule(hold=consumes(holds), late=st.one_of(st.none(), amounts))
    def expire(self, hold: tuple[UUID, Decimal, str, str], late: Decimal | None) -> None:
        Hold.objects.filter(pk=hold[0]).update(expires_at="2000-01-01T00:00Z")
        ledger.expire_holds()
        cost = hold[1]
        if late is not None:
            self.loop.run(settle(hold[0], str(late)))
            cost = late
        self._end(hold, cost)

    @rule(hold=ended, cost=amounts)
    def repeat(self, hold: tuple[UUID, Decimal, str, str], cost: Decimal) -> None:
        assert self.loop.run(settle(hold[0], str(cost))) is None
        self.loop.run(ledger.void(hold_id=hold[0]))

    @rule(cap=amounts)
    def change_cap(self, cap: Decimal) -> None:
        account = accounts.open_month(organization=self.organization)
        accounts.set_month_cap(account=account, cap_eur=cap, acting="the tests", reason="a test")
        self.model["organization", ""].cap = cap

    @invariant()
    def every_figure_is_the_models(self) -> None:
        if not hasattr(self, "model"):
            return
        for account in BudgetAccount.objects.filter(organization=self.organization):
            model = self.model[account.scope, account.subject]
            assert (account.cap_eur, account.spent_eur, account.held_eur) == (
                model.cap,
                model.spent,
                model.held,
            )
        costs = sum(r.cost_eur for r in CostRecord.objects.filter(organization=self.organization))
        held = sum(h.amount_eur for h in Hold.objects.filter(organization=self.organization))
        whole = self.model["organization", ""]
        assert (costs, held) == (whole.spent, whole.held)

    def _touched(self, user: str, use_case: str) -> list[Account]:
        keys = [("organization", ""), ("user", user), ("use_case", use_case)]
        return [
            self.model.setdefault(key, Account(None)) for key in keys if key[0] == "organization" or key[1]
        ]

    def _end(self, hold: tuple[UUID, Decimal, str, str], cost: Decimal) -> None:
        for account in self._touched(hold[2], hold[3]):
            if account.holds.pop(hold[0], None) is not None:
                account.spent += cost


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
