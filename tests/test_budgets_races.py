"""Many processes at once never pass a cap; without the ledger's one statement they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

from django.db import connection

from aigov.organizations.models import Organization
from budgets.models import BudgetAccount, CostRecord, Hold
from tests.conftest import month_account
from tests.services import SOURCE_FOLDER
from tests.web_processes import url_of_the_database

PROCESSES, CLIENTS_EACH = 4, 16
CALLS_WORTH = 100
AMOUNT = Decimal("0.01")
BARRIER_WAIT_S = 60.0


def raced(organization: Organization, way: str) -> Iterator[BudgetAccount]:
    """64 clients in 4 processes at a barrier spend until they are refused; yields the account meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [organization.pk])
        workers = [start_worker(organization, way) for _ in range(PROCESSES)]
        wait_for_all_at_the_barrier(organization)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [organization.pk])
    while any(worker.poll() is None for worker in workers):
        yield month_account(organization)
    assert [worker.returncode for worker in workers] == [0] * PROCESSES
    yield month_account(organization)


def start_worker(organization: Organization, way: str) -> subprocess.Popen[bytes]:
    arguments = [way, str(organization.pk), str(CLIENTS_EACH), str(AMOUNT)]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.race_worker", *arguments],
        cwd=SOURCE_FOLDER,
        env={**os.environ, "DATABASE_URL": url_of_the_database()},
    )


def wait_for_all_at_the_barrier(organization: Organization) -> None:
    until = time.monotonic() + BARRIER_WAIT_S
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                [organization.pk],
            )
            if cursor.fetchone() == (PROCESSES,):
                return
        time.sleep(0.05)
    raise TimeoutError("the workers do not come to the barrier")


def test_64_clients_in_4_processes_never_pass_the_cap(make_organization: Callable[..., Organization]) -> None:
    # Half an amount more than it is worth: the last call must be refused, not squeezed in.
    cap = AMOUNT * CALLS_WORTH + AMOUNT / 2
    organization = make_organization(cap_eur=str(cap))
    for seen, account in enumerate(raced(organization, "ledger")):
        assert account.spent_eur + account.held_eur <= cap, f"overspent, look {seen}"
    assert (account.spent_eur, account.held_eur) == (AMOUNT * CALLS_WORTH, 0)
    assert CostRecord.objects.filter(organization=organization).count() == CALLS_WORTH
    assert not Hold.objects.filter(organization=organization).exists()


def test_control_check_then_update_passes_the_cap(make_organization: Callable[..., Organization]) -> None:
    cap = AMOUNT * CALLS_WORTH
    organization = make_organization(cap_eur=str(cap))
    *_, account = raced(organization, "check_then_update")
    BudgetAccount.objects.filter(pk=account.pk).update(spent_eur=0)  # it was no ledger's doing
    assert account.spent_eur > cap, "the race that the ledger wins did not take place"
