"""The hot path's connections: one psycopg pool for each event loop, every statement its own transaction.

Django's ORM serves the admin and the tasks; a completion takes its few statements through here. Where
PostgreSQL cannot be reached the answer is `BudgetUnavailable` in under a second: without the ledger
nothing may be spent. Where it has taken a statement and hangs, the connection is cut from this side in the
end: what has become of the statement is then as unknown as after any other loss of a connection.
"""

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from pydantic_core import to_json

from aigov.errors import BudgetUnavailable

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECTIONS_MAX = 16
CONNECT_WAIT_S = 0.7
#: For the next ones, once the database is away. A connection that comes later is kept for those after them.
AWAY_WAIT_S = 0.1
PATIENT_WAIT_S = 5.0
#: After this a connection is looked at by psycopg's pool, which replaces the oldest.
KEPT_S = 60.0
STATEMENT_TIMEOUT_MS = 5_000
#: For all statements of a block. The server breaks a statement off before, unless it hangs.
SILENCE_MAX_S = STATEMENT_TIMEOUT_MS / 1000 + 1

UNAVAILABLE = "The ledger cannot be reached. Please repeat the request shortly."

log = logging.getLogger(__name__)


class Pool(AsyncConnectionPool[Connection]):
    """The connections, and when the database has last answered and failed, on the monotonic clock.

    psycopg's pool opens and replaces them. For `KEPT_S` they are lent to us, and go from one who needs
    them to the next without it: its own way costs more than a statement, most of all where many wait.
    """

    answered_at = failed_at = float("-inf")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: deque[Connection] = deque()
        self._queue: deque[asyncio.Future[Connection]] = deque()
        #: What is lent to us, and until when (monotonic seconds).
        self._lent: dict[Connection, float] = {}
        self._borrowing: set[asyncio.Task[Any]] = set()

    @property
    def is_away(self) -> bool:
        """Whether the last that was seen of the database is its failure."""
        return self.failed_at > self.answered_at

    async def take(self, wait_s: float) -> Connection:
        """A free connection; waited for longer while others are served: the database is busy then, not away.

        Raises:
            PoolTimeout: there is none within `wait_s` seconds; or, of a busy database, `PATIENT_WAIT_S`.
        """
        if self._idle:
            return self._idle.popleft()
        if self.closed:
            raise PoolClosed("the connections are closed")
        until = time.monotonic() + PATIENT_WAIT_S
        while True:
            try:
                return await self._next(AWAY_WAIT_S if self.is_away else wait_s)
            except PoolTimeout:
                now = time.monotonic()
                if now - self.answered_at > wait_s:
                    self._failed(f"no connection within {wait_s} s")
                if self.is_away or now > until:
                    raise

    async def give_back(self, conn: Connection) -> None:
        """Takes a connection back. If it is broken, the idle ones are so too as a rule, and are replaced."""
        broken = conn.closed
        self._failed("a connection broke") if broken else self._answered()
        whole = conn.pgconn.transaction_status == TransactionStatus.IDLE
        if whole and not self.closed and time.monotonic() < self._lent[conn]:
            self._hand_on(conn)
            return
        await self._return(conn)
        if broken:
            await self._replace_all()

    async def close(self, timeout: float = 5.0) -> None:
        borrowing = list(self._borrowing)
        for task in borrowing:
            task.cancel()
        await asyncio.gather(*borrowing, return_exceptions=True)
        while self._idle:
            await self._return(self._idle.popleft())
        await super().close(timeout)

    async def _next(self, wait_s: float) -> Connection:
        """The next connection that is given back or opened; who came first is served first."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection] = loop.create_future()
        self._queue.append(waiter)
        self._borrow(wait_s)
        timer = loop.call_later(wait_s, _give_up, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())  # it came in the moment of the cancellation
            else:
                with suppress(ValueError):
                    self._queue.remove(waiter)
            raise
        finally:
            timer.cancel()

    def _hand_on(self, conn: Connection) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(conn)
                return
        self._idle.append(conn)

    def _borrow(self, wait_s: float) -> None:
        """Asks psycopg's pool for one more, if there may be more."""
        if len(self._lent) + len(self._borrowing) < self.max_size:
            task = asyncio.create_task(self._borrow_one(wait_s), name="one more connection")
            self._borrowing.add(task)

    async def _borrow_one(self, wait_s: float) -> None:
        try:
            conn = await self.getconn(timeout=wait_s)
        except (PoolTimeout, PoolClosed):
            return
        finally:
            self._borrowing.difference_update([asyncio.current_task()])
        self._lent[conn] = time.monotonic() + KEPT_S
        self._hand_on(conn)

    async def _return(self, conn: Connection) -> None:
        del self._lent[conn]
        await self.putconn(conn)
        if self._queue:
            self._borrow(CONNECT_WAIT_S)

    async def _replace_all(self) -> None:
        await self.drain()
        self._lent = dict.fromkeys(self._lent, 0.0)
        while self._idle:
            await self._return(self._idle.popleft())

    def _answered(self) -> None:
        if self.is_away:
            log.warning("the database answers again")
        self.answered_at = time.monotonic()

    def _failed(self, how: str) -> None:
        if not self.is_away:
            log.warning("the database is away: %s", how)
        self.failed_at = time.monotonic()


def _give_up(waiter: "asyncio.Future[Connection]") -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout("no connection has become free in time"))


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


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
    pool = Pool(
        conninfo(),
        min_size=2,
        max_size=CONNECTIONS_MAX,
        timeout=CONNECT_WAIT_S,
        reconnect_timeout=2,
        configure=_configure,
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


async def _configure(conn: Connection) -> None:
    # Six times as fast as the standard library's.
    set_json_dumps(to_json, conn)


class connection:
    """A connection in autocommit, for a block.

    Args:
        wait_s: for how long to wait for a free one. What ends a hold may wait longer than what takes it.

    Raises:
        NotConnected: there is none within `wait_s` seconds.
        BudgetUnavailable: it broke while in use, or the database said nothing within `SILENCE_MAX_S`.
    """

    # A class, because a generator's way through contextlib costs several times as much.

    __slots__ = ("_conn", "_pool", "_silence", "_wait_s")

    def __init__(self, *, wait_s: float = CONNECT_WAIT_S) -> None:
        self._wait_s = wait_s

    async def __aenter__(self) -> Connection:
        loop = asyncio.get_running_loop()
        self._pool = _pools[loop]
        try:
            self._conn = await self._pool.take(self._wait_s)
        except (PoolTimeout, PoolClosed) as error:
            raise NotConnected(UNAVAILABLE, retry_after_s=1) from error
        self._silence = loop.call_later(SILENCE_MAX_S, _cut, self._conn)
        return self._conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._silence.cancel()
        await self._pool.give_back(self._conn)
        if isinstance(error, psycopg.OperationalError):
            raise unavailable() from error


def _cut(conn: Connection) -> None:
    """Ends a connection under whoever waits for its answer, who then sees that it is lost.

    To cancel him instead would not do: psycopg then asks the server to stop, and waits for it once more.
    """
    log.warning("the database says nothing within %.0f s: its connection is cut", SILENCE_MAX_S)
    with (
        suppress(OSError, psycopg.OperationalError),
        socket.socket(fileno=os.dup(conn.pgconn.socket)) as same,
    ):
        same.shutdown(socket.SHUT_RDWR)


def unavailable() -> BudgetUnavailable:
    return BudgetUnavailable(UNAVAILABLE, retry_after_s=1)
