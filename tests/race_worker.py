"""A process of `test_budgets_races`: many clients that spend at once until they are refused.

python -m tests.race_worker ledger|check_then_update ORGANIZATION CLIENTS AMOUNT
"""

import asyncio
import os
import sys
from decimal import Decimal

import django
import psycopg

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
django.setup()

from aigov import clock, database, snapshots  # noqa: E402
from aigov.errors import BudgetExceeded  # noqa: E402
from aigov.organizations.models import Organization  # noqa: E402
from tests.ledger_world import charge_of, reserve, settle  # noqa: E402


async def spend_by_ledger(organization: Organization, charge: object, amount: Decimal) -> None:
    while True:
        try:
            hold_id = await reserve(charge, str(amount))  # type: ignore[arg-type]
        except BudgetExceeded as error:
            if error.in_flight:
                continue
            return
        await asyncio.sleep(0)
        await settle(hold_id, str(amount))


async def spend_by_check_then_update(organization: Organization, charge: object, amount: Decimal) -> None:
    """The way of the field: look whether it fits, call, charge afterwards."""
    where = "organization_id = %s AND scope = 'organization' AND month = %s"
    key = (organization.pk, clock.month_of(clock.now(), organization.time_zone))
    while True:
        async with database.connection() as conn:
            cursor = await conn.execute(f"SELECT cap_eur - spent_eur FROM budget_accounts WHERE {where}", key)
            (left,) = await cursor.fetchone()  # type: ignore[misc]
        if left < amount:
            return
        await asyncio.sleep(0.001)
        async with database.connection() as conn:
            update = f"UPDATE budget_accounts SET spent_eur = spent_eur + %s WHERE {where}"
            await conn.execute(update, (amount, *key))


WAYS = {"ledger": spend_by_ledger, "check_then_update": spend_by_check_then_update}


async def main(way: str, organization: Organization, clients: int, amount: Decimal) -> None:
    charge = await asyncio.to_thread(charge_of, organization)
    async with database.pool_opened(), snapshots.kept_fresh():
        # Not one of the pool's, which may not wait that long.
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
            # The barrier: the test holds this lock until all processes wait for it.
            await conn.execute("SET statement_timeout = 0")
            await conn.execute("SELECT pg_advisory_lock_shared(%s)", (organization.pk,))
        await asyncio.gather(*(WAYS[way](organization, charge, amount) for _ in range(clients)))


if __name__ == "__main__":
    way, organization_id, clients, amount = sys.argv[1:]
    asyncio.run(main(way, Organization.objects.get(pk=organization_id), int(clients), Decimal(amount)))
