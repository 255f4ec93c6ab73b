"""The hot path's connections: one at a time has each, none is lost, and who came first is served first."""

import asyncio
import random

import pytest

from aigov import database

WAIT_S = 30.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_WAIT_S", "AWAY_WAIT_S", "PATIENT_WAIT_S"):
        monkeypatch.setattr(database, name, WAIT_S)


async def all_at_once() -> set[database.Connection]:
    """As many connections as there may be, held by as many at the same time."""
    together = asyncio.Barrier(database.CONNECTIONS_MAX)

    async def one() -> database.Connection:
        async with database.connection(wait_s=WAIT_S) as conn:
            async with asyncio.timeout(WAIT_S):
                await together.wait()
            return conn

    return set(await asyncio.gather(*(one() for _ in range(database.CONNECTIONS_MAX))))


async def test_whoever_is_cancelled_takes_no_connection_with_him() -> None:
    chance = random.Random(7)

    async def brief() -> None:
        async with database.connection(wait_s=WAIT_S) as conn:
            await conn.execute("SELECT pg_sleep(0.001)")

    async with database.pool_opened():
        for _ in range(20):
            tasks = [asyncio.create_task(brief()) for _ in range(3 * database.CONNECTIONS_MAX)]
            for task in chance.sample(tasks, k=len(tasks) // 2):
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await all_at_once()) == database.CONNECTIONS_MAX


async def test_who_came_first_is_served_first() -> None:
    served: list[int] = []

    async def waiting(number: int) -> None:
        async with database.connection(wait_s=WAIT_S):
            served.append(number)

    async with database.pool_opened():
        async with asyncio.TaskGroup() as tasks:
            held = [database.connection(wait_s=WAIT_S) for _ in range(database.CONNECTIONS_MAX)]
            for one in held:
                await one.__aenter__()
            for number in range(20):
                tasks.create_task(waiting(number))
            await asyncio.sleep(0)
            for one in held:
                await one.__aexit__(None, None, None)
        assert served == list(range(20))


async def test_a_connection_whose_time_is_over_goes_by_psycopgs_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "KEPT_S", 0.0)
    async with database.pool_opened():
        for _ in range(3):
            assert len(await all_at_once()) == database.CONNECTIONS_MAX


async def test_nobody_waits_for_a_connection_once_they_are_closed() -> None:
    async with database.pool_opened():
        pool = database._pools[asyncio.get_running_loop()]
        await pool.close()
        with pytest.raises(database.NotConnected):
            async with asyncio.timeout(WAIT_S / 2), database.connection(wait_s=WAIT_S):
                pass
