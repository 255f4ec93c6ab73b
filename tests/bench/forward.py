"""The floor under every gateway in Python: an ASGI callable that forwards with aiohttp, and governs nothing.

It holds no money, knows no key and records nothing. `BENCH_UPSTREAM` is where it forwards to.
"""

import os
from typing import Any

import aiohttp

URL = os.environ.get("BENCH_UPSTREAM", "") + "/chat/completions"
HEADERS = {"Authorization": "Bearer bench", "Content-Type": "application/json"}

_session: aiohttp.ClientSession


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    async with _session.post(URL, data=body, headers=HEADERS) as response:
        answer = await response.read()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def lifespan(receive: Any, send: Any) -> None:
    global _session
    await receive()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1_000)) as _session:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
