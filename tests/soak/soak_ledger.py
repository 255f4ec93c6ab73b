"""A million random operations on the ledger, each admitted or refused as a plain model says (`make soak`).

LEDGER_OPERATIONS  how many (1,000,000)
LEDGER_SEED        of the random choices (1)
"""

import asyncio
import os
import random
import time
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

from aigov import database, snapshots
from aigov.errors import BudgetExceeded
from aigov.money import NANO_EURO
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.ledger import Charge
from tests.conftest import month_account
from tests.ledger_world import charge_of, reserve, settle
from tests.test_budgets_ledger_machine import Account

OPERATIONS = int(os.environ.get("LEDGER_OPERATIONS", "1000000"))
SEED = int(os.environ.get("LEDGER_SEED", "1"))
COMPARE_EVERY = 2_000
OPEN_HOLDS_MAX = 200
WEIGHTS = {
    "reserve": 50,
    "settle": 24,
    "void": 10,
    "estimate": 6,
    "overrun": 4,
    "expire": 3,
    "repeat": 2,
    "cap": 1,
}

Hold = tuple[UUID, Decimal, str, str]


class Driver:
    """The ledger and its model, moved side by side."""

    def __init__(self, organization: Organization, charge: Charge, account_id: int) -> None:
        self.account_id = account_id
        self.chance = random.Random(SEED)
        self.organization = organization
        self.charge = charge
        self.model = {("organization", ""): Account(Decimal(1000))}
        self.open: list[Hold] = []
        self.ended: list[Hold] = []
        self.admitted = self.refused = 0

    async def step(self) -> None:
        kind = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind not in ("reserve", "cap", "repeat") and not self.open or len(self.open) > OPEN_HOLDS_MAX:
            kind = "reserve" if not self.open else "settle"
        await getattr(self, kind)()

    async def reserve(self) -> None:
        hold = (
            uuid4(),
            self.amount(),
            self.chance.choice(["", "u-1", "u-2"]),
            self.chance.choice(["", "leads"]),
        )
        charge = replace(self.charge, user=hold[2], use_case=hold[3])
        touched = self.touched(hold)
        fits = all(account.fits(hold[1]) for account in touched)
        try:
            await reserve(charge, str(hold[1]), hold_id=hold[0])
        except BudgetExceeded:
            assert not fits, f"refused, though it fits: {hold}"
            self.refused += 1
            return
        assert fits, f"admitted, though it does not fit: {hold}"
        self.admitted += 1
        self.open.append(hold)
        for account in touched:
            account.holds[hold[0]] = hold[1]

    async def settle(self) -> None:
        hold = self.take()
        cost = (hold[1] * self.chance.randrange(1001) / 1000).quantize(NANO_EURO)
        await settle(hold[0], str(cost))
        self.end(hold, cost)

    async def overrun(self) -> None:
        hold = self.take()
        cost = hold[1] + self.amount()
        await settle(hold[0], str(cost))
        self.end(hold, cost)

    async def void(self) -> None:
        hold = self.take()
        await ledger.void(hold_id=hold[0])
        self.end(hold, Decimal(0))

    async def estimate(self) -> None:
        hold = self.take()
        await ledger.settle_estimated(hold_id=hold[0], reason="timed_out")
        self.end(hold, hold[1])

    async def expire(self) -> None:
        hold = self.take()
        async with database.connection() as conn:
            await conn.execute("UPDATE budget_holds SET expires_at = 'epoch' WHERE id = %s", (hold[0],))
            await conn.execute("SELECT ledger_expire_one()")
        answered_late = self.chance.random() < 0.5
        cost = self.amount() if answered_late else hold[1]
        if answered_late:
            await settle(hold[0], str(cost))
        self.end(hold, cost)
        if not answered_late:
            self.ended.pop()  # its answer may still come, and would correct it

    async def repeat(self) -> None:
        if self.ended:
            hold = self.chance.choice(self.ended)
            assert await settle(hold[0], "1") is None
            await ledger.void(hold_id=hold[0])

    async def cap(self) -> None:
        """Mostly room for some more, now and then less than is out."""
        whole = self.model["organization", ""]
        whole.cap = max(whole.spent + self.chance.randrange(-2, 60), Decimal(0))
        async with database.connection() as conn:
            await conn.execute(
                "UPDATE budget_accounts SET cap_eur = %s WHERE id = %s", (whole.cap, self.account_id)
            )

    async def compare(self) -> None:
        async with database.connection() as conn:
            cursor = await conn.execute(
                "SELECT scope, subject, spent_eur, held_eur FROM budget_accounts WHERE organization_id = %s",
                (self.organization.pk,),
            )
            async for scope, subject, spent, held in cursor:
                account = self.model[scope, subject]
                assert (spent, held) == (account.spent, account.held), (scope, subject)

    def amount(self) -> Decimal:
        return self.chance.randrange(1, 2_000_000_000) * NANO_EURO

    def take(self) -> Hold:
        return self.open.pop(self.chance.randrange(len(self.open)))

    def touched(self, hold: Hold) -> list[Account]:
        keys = [("organization", ""), ("user", hold[2]), ("use_case", hold[3])]
        return [
            self.model.setdefault(key, Account(None)) for key in keys if key[0] == "organization" or key[1]
        ]

    def end(self, hold: Hold, cost: Decimal) -> None:
        self.ended = [*self.ended[-100:], hold]
        for account in self.touched(hold):
            del account.holds[hold[0]]
            account.spent += cost


async def drive(driver: Driver) -> None:
    async with database.pool_opened(), snapshots.kept_fresh():
        for done in range(1, OPERATIONS + 1):
            await driver.step()
            if done % COMPARE_EVERY == 0 or done == OPERATIONS:
                await driver.compare()


def test_a_million_operations(organization: Organization) -> None:
    driver = Driver(organization, charge_of(organization), month_account(organization).pk)
    began = time.monotonic()
    asyncio.run(drive(driver))
    print(
        f"\n{OPERATIONS} operations in {time.monotonic() - began:.0f} s: {driver.admitted} holds admitted,"
        f" {driver.refused} refused, 0 wrong"
    )
    assert ledger.differences() == []
