"""A bounded channel from the work on an answer to the one client that gets it piece by piece."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from providers.types import Delta

#: A client that is slower than its model holds the model's stream up, from so many pieces on.
PIECES_WAITING_MAX = 256
#: For how long the rest of an answer is read that nobody listens to any more, to learn what it cost.
DRAIN_S = 2.0


class Listener:
    """One client that gets an answer piece by piece; one task sends, and one takes.

    Args:
        begun: whether anything was sent: from then on the answer is that model's, or it breaks off.
        gone: whether the client has left.
    """

    def __init__(self) -> None:
        self.begun = False
        self.gone = False
        self._ended = False
        self._pieces: deque[Delta] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.Timeout | None = None

    async def send(self, delta: Delta, *, until: float) -> None:
        """Hands `delta` on, waiting for a slow client; at once where it has left.

        Args:
            until: then (loop time) a client that is too slow counts as one that has left.
        """
        self.begun = True
        if self.gone:
            return
        self._pieces.append(delta)
        self._news.set()
        if len(self._pieces) >= PIECES_WAITING_MAX:
            self._room.clear()
            await self._wait_for_room(until)

    async def _wait_for_room(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._room.wait()
        except TimeoutError:
            self.leave()

    async def take(self) -> Delta | None:
        """The next piece; None after the last one."""
        while not self._pieces:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._pieces.popleft()

    def end(self) -> None:
        """Nothing more will be sent."""
        self._ended = True
        self._news.set()

    def leave(self) -> None:
        """The client has gone: what is under way has `DRAIN_S` seconds left."""
        self.gone = True
        self._room.set()
        if self._timer is not None and self._timer.when() is None:
            self._timer.reschedule(asyncio.get_running_loop().time() + DRAIN_S)

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """The block has `DRAIN_S` seconds from when the client has gone, and any time before that.

        Raises:
            TimeoutError: it was not enough.
        """
        async with asyncio.timeout(DRAIN_S if self.gone else None) as self._timer:
            try:
                yield
            finally:
                self._timer = None
