"""How the SDKs reach the providers: every limit of a connection is stated here."""

import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import httpx2
from django.conf import settings
from multidict import CIMultiDict
from yarl import URL

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
#: Of the SDKs' clients: no compression, which would let a small answer grow without limit.
HEADERS = {"accept-encoding": "identity"}
#: What asks for a stream, whose bytes its reader counts.
STREAM_HEADERS = {"accept": "text/event-stream"}

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=POOL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
#: What aiohttp raises, and lets through of TLS and the system.
_LOST = (aiohttp.ClientError, OSError)
#: How aiohttp has decoded headers.
_AS_CAME = ("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Head:
    """A request but for its body, as an SDK has written it: address, credentials, and the SDK's own marks."""

    method: str
    url: URL
    headers: CIMultiDict[str]

    @classmethod
    def of(cls, request: httpx2.Request) -> "Head":
        """The head of `request`; how long its body was is no part of it."""
        headers = CIMultiDict([(name.decode(), value.decode()) for name, value in request.headers.raw])
        headers.popall("content-length", None)
        return cls(request.method, URL(str(request.url), encoded=True), headers)


class Response(Protocol):
    """A provider's answer: httpx2's, where an SDK has asked, or ours, which costs less to make."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def stream(self) -> Any: ...

    async def aclose(self) -> None: ...


class ProviderClient(httpx2.AsyncClient):
    """The `http_client` of an SDK, whose requests go to aiohttp as they are.

    They need no redirects (which could carry our key away), cookies or hooks, and a call's deadline is its
    adapter's.
    """

    def __init__(self) -> None:
        super().__init__(timeout=httpx2.Timeout(None), transport=httpx2.AsyncBaseTransport())
        self._session: aiohttp.ClientSession | None = None
        self._tls = httpx2.create_ssl_context()  # which takes a while, so not in a request

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        answer = await self.send_body(Head.of(request), request.content, stream=stream)
        body: dict[str, Any] = (
            {"content": answer.content} if answer.stream is None else {"stream": answer.stream}
        )
        headers = [
            (name.encode(*_AS_CAME), value.encode(*_AS_CAME)) for name, value in answer.headers.items()
        ]
        return httpx2.Response(answer.status_code, headers=headers, request=request, **body)

    async def send_body(self, head: Head, body: bytes, *, stream: bool) -> "Answer":
        """The answer to `body` under `head`; of a stream's only its own head, if it is none of an error."""
        try:
            response = await self._open_session().request(
                head.method, head.url, headers=head.headers, data=body or None, allow_redirects=False
            )
            if stream and response.status == 200:
                return Answer(response.status, response.headers, stream=_Stream(response))
            async with response:
                return Answer(response.status, response.headers, content=await _read(response))
        except _LOST as error:
            # One that the SDKs know; the cause says what it was.
            raise httpx2.TransportError(str(error)) from error

    async def aclose(self) -> None:
        await super().aclose()
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """Begun with the first request, since it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S, ssl=self._tls
                ),
                timeout=_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=bool(urllib.request.getproxies()),
            )
        return self._session


@dataclass(frozen=True, slots=True)
class Answer:
    """Either the whole of it, or its stream."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes = b""
    stream: httpx2.AsyncByteStream | None = None

    async def aclose(self) -> None:
        if self.stream is not None:
            await self.stream.aclose()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except _LOST as error:
            raise httpx2.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._response.__aexit__(None, None, None)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            raise faults.AnswerTooLarge
        chunks.append(chunk)
    return b"".join(chunks)
