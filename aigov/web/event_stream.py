"""Answers that are sent piece by piece, and the going away of whoever gets them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from django.http import StreamingHttpResponse

from aigov.web.body_limit import Receive, Send

CONTENT_TYPE = "text/event-stream; charset=utf-8"


class EventStream(StreamingHttpResponse):
    """Server-sent events.

    Args:
        events: gives the events' bytes.
        headers: further headers of the answer.
        leave: is called at the end, however that comes, and at once when the client goes away.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str],
        leave: Callable[[], None],
    ) -> None:
        # Proxies are not to keep pieces back.
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, content_type=CONTENT_TYPE, headers={**unbuffered, **headers})
        self._resource_closers.append(leave)  # type: ignore[attr-defined]  # for Django's own handler
        self.events = events
        self.leave = leave


class ClientWatch:
    """Cancels the task that serves a request once its client goes away; used as a context around serving it.

    One for each request; it costs a task only where `start` was called. That the client has gone is a good
    end of the block.

    Args:
        receive: what the server says about the client, its body being read.
        gone: whether the client has gone away; then the task was cancelled.
    """

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From here on the running task is cancelled; a second call changes nothing."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(asyncio.current_task()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._listening is not None:
            self._listening.cancel()
        if not self.gone or not isinstance(error, asyncio.CancelledError):
            return False
        serving = asyncio.current_task()
        return serving is not None and serving.uncancel() <= 0

    async def _listen(self, serving: "asyncio.Task[Any] | None") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if serving is not None:
            serving.cancel()


async def send_events(response: EventStream, send: Send) -> None:
    """Sends the stream, and leaves it, however that ends."""
    headers = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    try:
        async with aclosing(response.events) as events:
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        response.leave()


def watch_client(request: Any) -> None:
    """Makes the view's task end once the client of `request` goes away, where its handler can tell."""
    watch: ClientWatch | None = getattr(request, "client_watch", None)
    if watch is not None:
        watch.start()
