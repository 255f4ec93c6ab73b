"""The records of how requests ended: many share a statement, and none suffers for another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from asgiref.sync import sync_to_async as in_thread

from aigov import background, clock, database
from aigov.organizations.models import Organization
from routing import decisions
from routing.models import Decision

WAIT_S = 30.0


@pytest.fixture(autouse=True)
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    for name in ("CONNECT_WAIT_S", "AWAY_WAIT_S", "PATIENT_WAIT_S"):
        monkeypatch.setattr(database, name, WAIT_S)
    async with database.pool_opened():
        yield
        await background.drained(wait_s=WAIT_S)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement was to write."""
    sizes: list[int] = []
    insert = decisions._insert

    async def counted(rows: Sequence[decisions.Row]) -> None:
        sizes.append(len(rows))
        await insert(rows)

    monkeypatch.setattr(decisions, "_insert", counted)
    return sizes


def row(organization: Organization, **more: Any) -> decisions.Row:
    return {
        **decisions._UNANSWERED,
        "id": f"cmp_{uuid4().hex}",
        "organization_id": organization.pk,
        "key_id": "k",
        "request_id": "r",
        "created_at": clock.now().isoformat(),
        "use_case": "",
        "user": "",
        "wanted": "auto",
        "prompt_sha256": "0" * 64,
        "threshold": 0.7,
        "attempts": [],
        "cost_eur": "0.000061200",
        "latency_ms": 1,
        "metadata": {"lead_id": "L-1"},
        **more,
    }


async def test_those_that_end_at_once_share_a_statement(
    organization: Organization, statements: list[int]
) -> None:
    rows = [row(organization) for _ in range(50)]
    await asyncio.gather(*map(decisions._write, rows))
    assert sum(statements) == 50 and len(statements) <= 2
    written = await in_thread(Decision.objects.filter(organization=organization).count)()
    assert written == 50
    assert not decisions._latest and not decisions._gathering


async def test_one_that_the_database_refuses_harms_no_other(
    organization: Organization, statements: list[int]
) -> None:
    wrong = row(organization, request_id="x" * 65)
    rows = [row(organization), wrong, row(organization)]
    ends = await asyncio.gather(*map(decisions._write, rows), return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), psycopg.errors.StringDataRightTruncation, type(None)]
    assert statements == [3, 1, 1, 1]
    written = await in_thread(Decision.objects.filter(organization=organization).count)()
    assert written == 2


async def test_whoever_is_cancelled_leaves_his_record(organization: Organization) -> None:
    writing = asyncio.create_task(decisions._write(row(organization)))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await background.drained(wait_s=WAIT_S)
    assert await in_thread(Decision.objects.filter(organization=organization).count)() == 1
