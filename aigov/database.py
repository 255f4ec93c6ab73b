"""The hot path's connections: one psycopg pool for each event loop, every statement its own transaction.

Django's ORM serves the admin and the tasks; a completion takes its few statements through here. Where
PostgreSQL cannot be reached the answer is `BudgetUnavailable` in under a second: without the ledger
nothing may be spent.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from aigov.errors import BudgetUnavailable

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

CONNECTIONS_MAX = 10
CONNECT_WAIT_S = 0.8
PATIENT_WAIT_S = 5.0
STATEMENT_TIMEOUT_MS = 5_000

UNAVAILABLE = "The ledger cannot be reached. Please repeat the request shortly."

log = logging.getLogger(__name__)

#: When each pool has last served a statement, on the monotonic clock.
_served_at: WeakKeyDictionary[Pool, float] = WeakKeyDictionary()
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


async def _free(pool: Pool, wait_s: float) -> Connection:
    """A free connection; waited for longer while others are served: the database is busy then, not away."""
    until = time.monotonic() + PATIENT_WAIT_S
    while True:
        try:
            return await pool.getconn(timeout=wait_s)
        except PoolTimeout:
            now = time.monotonic()
            if now > until or now - _served_at.get(pool, float("-inf")) > wait_s:
                log.warning("no connection to the database within %.1f s", wait_s)
                raise


class NotConnected(BudgetUnavailable):
    """There was no connection, so nothing has reached the database."""


def conninfo() -> str:
    """libpq's connection string of the database that Django's settings name."""
    database = settings.DATABASES["default"]
    return make_conninfo(
        host=database["HOST"] or None,
        port=database["PORT"] or None,
        user=database["USER"] or None,
        password=database["PASSWORD"] or None,
        dbname=database["NAME"],
        **{
            "connect_timeout": 2,
            "tcp_user_timeout": 2_000,  # ms, for a server that has gone without a word
            "application_name": "aigov",
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            **database.get("OPTIONS", {}),  # such as sslmode, as DATABASE_URL says
        },
    )


@asynccontextmanager
async def pool_opened() -> AsyncIterator[None]:
    """Opens the running loop's pool for the time of the block. PostgreSQL may still be down."""
    pool: Pool = AsyncConnectionPool(
        conninfo(),
        min_size=2,
        max_size=CONNECTIONS_MAX,
        timeout=CONNECT_WAIT_S,
        reconnect_timeout=2,
        kwargs={"autocommit": True},
        open=False,
    )
    await pool.open()
    _pools[asyncio.get_running_loop()] = pool
    try:
        yield
    finally:
        _pools.pop(asyncio.get_running_loop(), None)
        await pool.close(timeout=2)


@asynccontextmanager
async def connection(*, wait_s: float = CONNECT_WAIT_S) -> AsyncIterator[Connection]:
    """A connection in autocommit.

    Args:
        wait_s: for how long to wait for a free one. What ends a hold may wait longer than what takes it.

    Raises:
        BudgetUnavailable: there is none within `wait_s` seconds, or it broke while in use.
    """
    pool = _pools[asyncio.get_running_loop()]
    try:
        conn = await _free(pool, wait_s)
        try:
            async with conn:
                yield conn
                _served_at[pool] = time.monotonic()
        finally:
            await pool.putconn(conn)
    except (PoolTimeout, PoolClosed) as error:
        raise NotConnected(UNAVAILABLE, retry_after_s=1) from error
    except psycopg.OperationalError as error:
        raise unavailable() from error


def unavailable() -> BudgetUnavailable:
    return BudgetUnavailable(UNAVAILABLE, retry_after_s=1)
