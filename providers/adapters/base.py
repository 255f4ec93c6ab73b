"""One call to a provider over its official SDK: what is the same for all of them.

The SDKs build and sign the request, pool connections and know the errors; their own retries are off, because
the gateway owns retries, holds and failover. The answer is taken as the raw response: building the SDKs'
pydantic models costs more than all else on the path.

A model that refuses log-probabilities or structured output is asked again without, once, and the process
remembers it. An error answer is not billed, so this costs time alone.
"""

import abc
import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

import aiohttp
import httpx2

from providers.adapters import faults
from providers.answers import Asked, ask
from providers.errors import CallerError, Malformed, NotSent, TimedOut
from providers.types import ProviderReply, ProviderRequest

CONNECT_TIMEOUT_S = 0.25
#: For a connection in all: waiting for a free one, DNS, TCP and TLS. What comes later may have been billed.
POOL_TIMEOUT_S = 0.5
CONNECTIONS_MAX = 1_000
#: Shorter than the providers', so that no request goes into a connection that is just being closed.
KEEPALIVE_S = 15.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
#: Models of which a process remembers what they refuse.
LEARNED_MAX = 1_000
#: Alternatives asked for in each place: as many as there are where they are labels' probabilities.
TOP_LOGPROBS_LABELS = 20
TOP_LOGPROBS_TEXT = 5

T = TypeVar("T")


class Adapter(Protocol):
    """A provider's wire format."""

    name: str

    async def complete(self, request: ProviderRequest, *, deadline: float) -> ProviderReply:
        """The answer to `request`, by `deadline` (in seconds of the loop's clock).

        Raises:
            ProviderError: there is none; its `billed` says what that means for the money.
        """
        ...

    async def probe(self, *, deadline: float) -> None:
        """Asks for the list of models, which costs nothing; returns if the provider gives it.

        Raises:
            ProviderError: it does not.
        """
        ...

    async def aclose(self) -> None:
        """Closes the connections; no call may follow."""
        ...


class SdkClient(Protocol):
    @property
    def models(self) -> Any: ...

    async def post(self, path: str, *, cast_to: type[httpx2.Response], content: bytes) -> httpx2.Response: ...

    async def close(self) -> None: ...


class SdkAdapter(abc.ABC):
    """An adapter over an official SDK's client; a wire format writes its requests and reads its answers."""

    name: str
    path: ClassVar[str]
    request_id_header: ClassVar[str]
    #: What the SDK raises.
    sdk_error: ClassVar[type[Exception]]

    def __init__(self, client: SdkClient, *, logprobs: bool) -> None:
        # At DEBUG an SDK writes whole requests, prompts included, into the log.
        logging.getLogger(self.name).setLevel(logging.INFO)
        self._client = client
        self._logprobs = logprobs
        self._without_logprobs: set[str] = set()
        self._without_structured: set[str] = set()

    async def complete(self, request: ProviderRequest, *, deadline: float) -> ProviderReply:
        asked = ask(
            request,
            logprobs=self._logprobs and request.model not in self._without_logprobs,
            structured=request.model not in self._without_structured,
        )
        try:
            return await self._call(request, asked, deadline)
        except CallerError as error:
            if not self._learn(request.model, asked, error):
                raise
        # What was refused is not asked for again, so this happens twice at most.
        return await self.complete(request, deadline=deadline)

    async def probe(self, *, deadline: float) -> None:
        raw = await self._answer(self._client.models.with_raw_response.list(), deadline)
        try:
            json.loads(raw.http_response.content)["data"]
        except (TypeError, ValueError, LookupError, RecursionError) as error:
            raise Malformed(f"the answer of {self.name} cannot be read", provider=self.name) from error

    async def aclose(self) -> None:
        await self._client.close()

    @abc.abstractmethod
    def _body(self, request: ProviderRequest, asked: Asked) -> dict[str, Any]:
        """The request in the provider's format."""

    @abc.abstractmethod
    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
        """What `body` says.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: it is no answer with its usage.
        """

    async def _call(self, request: ProviderRequest, asked: Asked, deadline: float) -> ProviderReply:
        content = json.dumps(self._body(request, asked)).encode()
        response = await self._post(content, deadline)
        request_id = response.headers.get(self.request_id_header)
        try:
            return self._reply(json.loads(response.content), request, asked, request_id)
        except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
            raise Malformed(
                f"the answer of {self.name} cannot be read", provider=self.name, request_id=request_id
            ) from error

    async def _post(self, content: bytes, deadline: float) -> httpx2.Response:
        if deadline <= asyncio.get_running_loop().time():
            raise NotSent(f"no time was left to ask {self.name}", provider=self.name, kind="no_time_left")
        return await self._answer(
            self._client.post(self.path, cast_to=httpx2.Response, content=content), deadline
        )

    async def _answer(self, call: Awaitable[T], deadline: float) -> T:
        """What the SDK's `call` gives, or what it raises as a ProviderError."""
        try:
            async with asyncio.timeout_at(deadline):
                return await call
        except TimeoutError as error:
            raise TimedOut(f"{self.name} did not answer in time", provider=self.name) from error
        except (self.sdk_error, httpx2.HTTPError, aiohttp.ClientError, faults.AnswerTooLarge) as error:
            raise faults.provider_error(
                error, provider=self.name, request_id_header=self.request_id_header
            ) from error

    def _learn(self, model: str, asked: Asked, error: CallerError) -> bool:
        """Whether `error` says that the model lacks something that was `asked` for and can be left out."""
        if asked.logprobs and faults.refuses_logprobs(error):
            learned = self._without_logprobs
        elif asked.schema is not None and faults.refuses_structured_output(error):
            learned = self._without_structured
        else:
            return False
        if len(learned) >= LEARNED_MAX:
            return False
        learned.add(model)
        return True


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


async def _limit_body(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _LimitedBody(response.stream)


def client_options() -> dict[str, Any]:
    """How an SDK's `DefaultAioHttpClient` is built: limits stated, no redirects (they could carry our key
    away),
    no compression (it would let a small answer grow without limit). A call is bounded by its deadline."""
    return {
        "timeout": httpx2.Timeout(connect=CONNECT_TIMEOUT_S, pool=POOL_TIMEOUT_S, read=None, write=None),
        "limits": httpx2.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=KEEPALIVE_S),
        "headers": {"accept-encoding": "identity"},
        "event_hooks": {"response": [_limit_body]},
        "follow_redirects": False,
    }


def count(value: Any) -> int:
    """A count of tokens, as a provider gives it.

    Raises:
        TypeError: it is no whole number.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a count of tokens is no whole number")
    return value


def part(counts: Mapping[str, Any] | None, name: str) -> int:
    """A count that a provider may leave out, which then is 0."""
    return count((counts or {}).get(name) or 0)
