"""No body larger than the limit gets in.

Django stores a request's whole body, on disk where it is large, before anybody has looked at the key;
so the limit stands in front of Django.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from aigov.web.errors import body_for
from aigov.web.parsers import BodyTooLarge, body_bytes_max

#: What is read, and thrown away, of a body that is too large.
DRAINED_BYTES_MAX = 64 * 2**20
DRAIN_S = 10.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def limited(application: Application) -> Application:
    """`application` (ASGI), which never sees a body of more than `body_bytes_max()` bytes: 413."""

    async def limited_application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        if _stated_length(scope) > body_bytes_max():
            await _drain(receive)
            await _refuse(scope, send)
            return
        received, more = 0, False

        async def counting() -> Message:
            nonlocal received, more
            message = await receive()
            more = message.get("more_body", False)
            received += len(message.get("body", b""))
            # Django tidies up after a client that has gone, and does not answer it.
            return message if received <= body_bytes_max() else {"type": "http.disconnect"}

        await application(scope, counting, send)
        if received > body_bytes_max():
            if more:
                await _drain(receive)
            await _refuse(scope, send)

    return limited_application


def _stated_length(scope: Message) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _drain(receive: Receive) -> None:
    """Throws the rest of a body away, up to a bound: most clients only read an answer once all is sent."""
    drained, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while more and drained < DRAINED_BYTES_MAX:
                message = await receive()
                drained += len(message.get("body", b""))
                more = message.get("more_body", False)


async def _refuse(scope: Message, send: Send) -> None:
    error = BodyTooLarge()
    envelope = body_for(scope.get("path", ""), {})
    body = json.dumps(envelope(error, "")).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
