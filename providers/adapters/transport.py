"""How the SDKs reach the providers: every limit of a connection is stated here."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from django.conf import settings

from providers.adapters import faults

CONNECT_TIMEOUT_S = 0.25
#: For a connection in all: waiting for a free one, DNS, TCP and TLS. What comes later may have been billed.
POOL_TIMEOUT_S = 0.5
#: To one provider: as many as a process has requests under way, and a few for probes. Who waited in vain for
#: one would take the provider for dead.
CONNECTIONS_MAX = settings.IN_FLIGHT_MAX + 100
#: Shorter than the providers', so that no request goes into a connection that is just being closed.
KEEPALIVE_S = 15.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
#: What asks for a stream, whose bytes its reader counts.
STREAM_HEADERS = {"accept": "text/event-stream"}


def client_options() -> dict[str, Any]:
    """How an SDK's `DefaultAioHttpClient` is built: limits stated, no redirects (they could carry our key
    away), no compression (it would let a small answer grow without limit). Its deadline bounds a call."""
    return {
        "timeout": httpx2.Timeout(connect=CONNECT_TIMEOUT_S, pool=POOL_TIMEOUT_S, read=None, write=None),
        "limits": httpx2.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=KEEPALIVE_S),
        "headers": {"accept-encoding": "identity"},
        "event_hooks": {"response": [_limit_body]},
        "follow_redirects": False,
    }


async def _limit_body(response: httpx2.Response) -> None:
    streamed = response.request.headers.get("accept") == STREAM_HEADERS["accept"]
    if streamed and response.status_code == 200:
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _LimitedBody(response.stream)


class _LimitedBody(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise faults.AnswerTooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
