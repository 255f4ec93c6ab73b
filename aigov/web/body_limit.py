"""No body larger than the limit gets in.

Django stores a request's whole body, on disk where it is large, before anybody has looked at the key;
so the limit stands in front of Django.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aigov.web.errors import openai_body
from aigov.web.parsers import BodyTooLarge, body_bytes_max

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
            await _refuse(send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # Django tidies up after a client that has gone, and does not answer it.
            return message if received <= body_bytes_max() else {"type": "http.disconnect"}

        await application(scope, counting, send)
        if received > body_bytes_max():
            await _refuse(send)

    return limited_application


def _stated_length(scope: Message) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Send) -> None:
    error = BodyTooLarge()
    body = json.dumps(openai_body(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
