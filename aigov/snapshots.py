"""Short-lived copies of slow-changing tables, so that the hot path asks them without a query.

Each process holds every `Snapshot` whole. One task (`keep_fresh`) listens on PostgreSQL's channel
`aigov_changed`, on which triggers of the tables name the kind of thing that changed, and loads that kind
anew: a change is in force in every process within a second. While the listener has no connection, it tries
again each second; a snapshot that could not be confirmed for `STALE_AFTER_S` is not used any more, so that a
revoked key or a lowered limit can never live on in a process that has lost touch.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import psycopg

from aigov import database

log = logging.getLogger(__name__)

CHANNEL = "aigov_changed"
STALE_AFTER_S = 5.0
CONFIRM_EVERY_S = 1.0
FIRST_LOAD_WAIT_S = 3.0

T = TypeVar("T")

_all: dict[str, "Snapshot[Any]"] = {}


class Snapshot(Generic[T]):
    """A copy of one kind of thing.

    Args:
        kind: what the tables' triggers send on the channel.
        load: reads the whole kind through a connection.
    """

    def __init__(self, *, kind: str, load: Callable[[database.Connection], Awaitable[T]]) -> None:
        self.kind = kind
        self._load = load
        self._value: T | None = None
        self._loaded_at = self._confirmed_at = float("-inf")
        _all[kind] = self

    @property
    def current(self) -> T:
        """The copy, without any I/O.

        Raises:
            BudgetUnavailable: it could not be confirmed for `STALE_AFTER_S`.
        """
        if self._value is None or not self.is_fresh:
            raise database.unavailable()
        return self._value

    @property
    def latest(self) -> T | None:
        """The copy, however old; for what must not stop a call that is already paid."""
        return self._value

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._confirmed_at < STALE_AFTER_S

    async def refresh(self, conn: database.Connection | None = None) -> T:
        """Loads the kind anew, for a process that must see its own change at once."""
        if conn is None:
            async with database.connection() as pooled:
                return await self.refresh(pooled)
        asked_at = time.monotonic()
        value = await self._load(conn)
        # Of two loads at once, the one that began later knows more, whichever ends last.
        if asked_at >= self._loaded_at:
            self._value, self._loaded_at = value, asked_at
            self.confirm(asked_at)
        return value

    def confirm(self, at: float) -> None:
        """Nothing had changed up to `at` (monotonic seconds)."""
        if self._value is not None:
            self._confirmed_at = max(self._confirmed_at, at)


def all_fresh() -> bool:
    """Whether every snapshot of this process may be used."""
    return all(snapshot.is_fresh for snapshot in _all.values())


async def refresh_all() -> None:
    async with database.connection() as conn:
        for snapshot in list(_all.values()):
            await snapshot.refresh(conn)


@asynccontextmanager
async def kept_fresh() -> AsyncIterator[None]:
    """Keeps all snapshots fresh for the time of the block, which begins with them unless the database is
    away.
    """
    task = asyncio.create_task(_keep_fresh(), name="snapshots")
    try:
        await _first_load()
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _first_load() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOAD_WAIT_S):
            while not all_fresh():
                await asyncio.sleep(0.01)


async def _keep_fresh() -> None:
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
                await _follow(conn)
        except (psycopg.Error, OSError) as error:
            log.warning("change notices are interrupted: %s", error)
        await asyncio.sleep(CONFIRM_EVERY_S)


async def _follow(conn: database.Connection) -> None:
    # LISTEN comes before the first load: what changes in between is announced.
    await conn.execute(f"LISTEN {CHANNEL}")
    kinds = set(_all)
    while True:
        asked_at = time.monotonic()
        await conn.execute("SELECT 1")
        failed = {kind for kind in kinds & set(_all) if not await _refreshed(_all[kind], conn)}
        for kind in set(_all) - kinds:
            _all[kind].confirm(asked_at)
        kinds = failed | await _next_changes(conn)


async def _refreshed(snapshot: Snapshot[Any], conn: database.Connection) -> bool:
    try:
        await snapshot.refresh(conn)
    except (psycopg.OperationalError, OSError):
        raise
    except Exception:
        # A defect of one loader, or in its rows: that snapshot goes stale and says so, the others live on.
        log.exception("the snapshot of %s could not be loaded", snapshot.kind)
        return False
    return True


async def _next_changes(conn: database.Connection) -> set[str]:
    return {notice.payload async for notice in conn.notifies(timeout=CONFIRM_EVERY_S, stop_after=1)}
