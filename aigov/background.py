"""Work that outlives the request that began it: a paid call whose client has gone, a write to repeat."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aigov.errors import BudgetUnavailable, GatewayError

log = logging.getLogger(__name__)

T = TypeVar("T")

REPEAT_EVERY_S = 0.5

_tasks: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Starts `work` in a task that is kept until it ends, whoever awaits it or goes away."""
    task = asyncio.create_task(work, name=name)
    _tasks.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    # Whoever awaited it may have gone: what was refused is recorded, and only a defect is news.
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, GatewayError):
        log.error("%s failed", task.get_name(), exc_info=error)


def repeat(once: Callable[[], Awaitable[object]], *, name: str, for_s: float) -> None:
    """Repeats `once` in the background until the database takes it, for `for_s` seconds at most."""
    spawn(_repeat(once, name, for_s), name=name)


async def now_or_later(once: Callable[[], Awaitable[T]], *, name: str, for_s: float) -> T | None:
    """What `once` gives; None where the database is away: then it is repeated in the background."""
    try:
        return await once()
    except BudgetUnavailable:
        log.warning("%s: not possible now, is tried again", name)
        repeat(once, name=name, for_s=for_s)
        return None


async def surely(once: Callable[[], Awaitable[T]], *, name: str, for_s: float) -> T | None:
    """As `now_or_later`, and whoever awaits it may be cancelled: it goes on."""
    return await asyncio.shield(spawn(now_or_later(once, name=name, for_s=for_s), name=name))


async def drained(*, wait_s: float) -> None:
    """Waits at most `wait_s` seconds for the running loop's tasks to end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    # Again and again: a task that is waited for may leave something to repeat.
    while (tasks := [task for task in _tasks if task.get_loop() is loop]) and loop.time() < until:
        await asyncio.wait(tasks, timeout=until - loop.time())


async def _repeat(once: Callable[[], Awaitable[object]], name: str, for_s: float) -> None:
    for _ in range(int(for_s / REPEAT_EVERY_S)):
        await asyncio.sleep(REPEAT_EVERY_S)
        try:
            await once()
        except BudgetUnavailable:
            continue
        return
    log.error("%s: given up after %d s", name, for_s)
