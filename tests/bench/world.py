"""The organizations that the bench spends as, the ledger alone, and the look at the books at the end.

Imported after Django is set up.
"""

import asyncio
import time

import uvloop
from django.core.management import call_command
from django.db import connections

from aigov import database, processes, snapshots
from aigov.organizations.create import create_organization
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from budgets import accounts, ledger
from budgets.models import CostRecord, Hold
from routing.models import Decision
from tests.ledger_world import charge_of, reserve, settle

AMOUNT, COST = "0.0002", "0.00001"
#: A settlement that found no free connection is repeated every half second.
LAST_SETTLEMENTS_WAIT_S = 10.0


def migrated() -> None:
    call_command("migrate", interactive=False, verbosity=0)


def make_organization(name: str) -> Organization:
    """With its month opened."""
    organization = create_organization(name=name, tenant=None, time_zone=None, acting="bench")
    accounts.open_month(organization=organization)
    return organization


def key_of(organization: Organization) -> str:
    _, key = create_api_key(organization=organization, name="bench", scopes=Scope.values, acting="bench")
    connections.close_all()
    return key


def pairs_per_s(organization: Organization, *, tasks: int, seconds: float) -> float:
    """Holds taken and settled on one account, over and over, by `tasks` tasks at once."""
    charge = charge_of(organization)
    connections.close_all()

    async def one(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            await settle(await reserve(charge, AMOUNT), COST)
            done += 1
        return done

    async def all_at_once() -> float:
        async with database.pool_opened(), snapshots.kept_fresh():
            await settle(await reserve(charge, AMOUNT), COST)
            began = time.perf_counter()
            done = await asyncio.gather(*(one(began + seconds) for _ in range(tasks)))
            return sum(done) / (time.perf_counter() - began)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(all_at_once())


def check_books(organization: Organization, answered: int) -> str:
    """A sentence; or the end, where an answer has no record or an account is not the sum of its rows."""
    processes.within(LAST_SETTLEMENTS_WAIT_S, lambda: not Hold.objects.exists())
    settled = CostRecord.objects.filter(organization=organization, estimated=False).count()
    decisions = Decision.objects.filter(organization=organization, route="small").count()
    left, differences = Hold.objects.count(), ledger.differences()
    if not settled == decisions == answered or left or differences:
        raise SystemExit(
            f"{answered} answers, but {settled} settled and {decisions} decided for, {left} holds left,"
            f" {len(differences)} differences: nothing measured here counts."
        )
    return f"All {answered:,} completions have their cost record and decision, and the books balance."
