"""A second model is asked where the first one is slow, and the first answer is taken: off unless it is set.

The loser is cancelled, and charged as a call that may have been billed; so it is rare, and has its own hold.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from providers.failover import RetryBudget

T = TypeVar("T")
Call = Coroutine[Any, Any, T]

#: One call in twenty is hedged at most.
CALLS_PER_HEDGE = 20

_hedges = RetryBudget(calls_per_retry=CALLS_PER_HEDGE, reserve=1)


async def hedged(call: "Call[T]", *, after_s: float, other: "Callable[[], Call[T] | None]") -> T:
    """What `call` gives; or what `other` gives, where the first takes longer than `after_s` seconds.

    Args:
        other: makes the second call; None: there is none to be made.

    Raises:
        Exception: what `call` or, where both fail, the last of them raises.
    """
    _hedges.earn()
    tasks = [asyncio.create_task(call)]
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if not tasks[0].done() and _hedges.spend() and (second := other()) is not None:
            tasks.append(asyncio.create_task(second))
        return await _first_success(tasks)
    finally:
        await _end(tasks)


async def _first_success(tasks: "Iterable[asyncio.Task[T]]") -> T:
    pending = set(tasks)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        successes = [task for task in done if task.exception() is None]
        if successes or not pending:
            return (successes or list(done))[0].result()


async def _end(tasks: "Iterable[asyncio.Task[T]]") -> None:
    """Cancels what still runs, and waits until it has been charged."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
