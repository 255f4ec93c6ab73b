"""One call to a provider over its official SDK: what is the same for all of them.

The SDKs know the address, sign the request and mark it as theirs; their own retries are off, because the
gateway owns retries, holds and failover. They write each kind of call once, and the calls that follow have
the same head: to write it anew, and to build their pydantic models of the answer, costs more than all else on
the path.

A model that refuses log-probabilities or structured output is asked again without, once, and the process
remembers it. An error answer is not billed, so this costs time alone.
"""

import abc
import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

import httpx2

from aigov.web.renderers import json_bytes
from providers.adapters import faults
from providers.adapters.streaming import UNREADABLE, StreamedAnswer, StreamReading, Timer
from providers.adapters.transport import CONNECT_TIMEOUT_S, STREAM_HEADERS, Head, ProviderClient, Response
from providers.answers import Asked, ask
from providers.errors import CallerError, Malformed, NotSent
from providers.features import unsupported
from providers.types import ProviderReply, ProviderRequest, StreamItem

#: Models of which a process remembers what they refuse.
LEARNED_MAX = 1_000
#: Who took so long to see that a connection did not come about was busy itself, or had none free.
OWN_DELAY_S = 1.4 * CONNECT_TIMEOUT_S

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

    def stream(
        self, request: ProviderRequest, *, deadline: float, first_content_by: float
    ) -> AsyncGenerator[StreamItem, None]:
        """The answer to `request` as it comes: its start, its pieces one by one, and at last the whole of it.

        Closing the generator closes the connection at once, wherever the answer is.

        Args:
            deadline: for the whole answer, in seconds of the loop's clock.
            first_content_by: for its first words, refusal or tool call; signs of life do not count.

        Raises:
            ProviderError: it did not come, or broke off; its `billed` says what that means for the money, and
                its `reply` has what came, where the cost of that is known.
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

    @property
    def post(self) -> Callable[..., Awaitable[Any]]: ...

    async def close(self) -> None: ...


class SdkAdapter(abc.ABC):
    """An adapter over an official SDK's client; a wire format writes its requests and reads its answers."""

    name: str
    path: ClassVar[str]
    request_id_header: ClassVar[str]
    #: What the SDK raises.
    sdk_error: ClassVar[type[Exception]]

    def __init__(self, client: SdkClient, http_client: ProviderClient, *, logprobs: bool) -> None:
        # At DEBUG an SDK writes whole requests, prompts included, into the log.
        logging.getLogger(self.name).setLevel(logging.INFO)
        self._client = client
        self._http_client = http_client
        #: Of plain and of streamed calls, as the SDK has written it for the first of each.
        self._heads: dict[bool, Head] = {}
        self._logprobs = logprobs
        self._without_logprobs: set[str] = set()
        self._without_structured: set[str] = set()

    async def complete(self, request: ProviderRequest, *, deadline: float) -> ProviderReply:
        response, asked = await self._post(request, Timer(deadline), stream=False)
        request_id = response.headers.get(self.request_id_header)
        try:
            return self._reply(json.loads(response.content), request, asked, request_id)
        except UNREADABLE as error:
            raise Malformed(
                f"the answer of {self.name} cannot be read", provider=self.name, request_id=request_id
            ) from error

    async def stream(
        self, request: ProviderRequest, *, deadline: float, first_content_by: float
    ) -> AsyncGenerator[StreamItem, None]:
        timer = Timer(deadline, first_content_by)
        response, asked = await self._post(request, timer, stream=True)
        try:
            request_id = response.headers.get(self.request_id_header)
            answer = self._streamed(request, asked, request_id)
            reading = StreamReading(response, answer, timer, provider=self.name, request_id=request_id)
            while not reading.ended:
                for event in await reading.events():
                    for item in reading.read(event):
                        yield item
            await reading.drain()
            yield reading.reply()
        finally:
            await response.aclose()

    async def probe(self, *, deadline: float) -> None:
        raw = await self._answer(self._client.models.with_raw_response.list(), Timer(deadline))
        try:
            json.loads(raw.http_response.content)["data"]
        except (TypeError, ValueError, LookupError, RecursionError) as error:
            raise Malformed(f"the answer of {self.name} cannot be read", provider=self.name) from error

    async def aclose(self) -> None:
        await self._client.close()

    @abc.abstractmethod
    def _body(self, request: ProviderRequest, asked: Asked, *, stream: bool) -> dict[str, Any]:
        """The request in the provider's format."""

    @abc.abstractmethod
    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
        """What `body` says.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: it is no answer with its usage.
        """

    @abc.abstractmethod
    def _streamed(self, request: ProviderRequest, asked: Asked, request_id: str | None) -> StreamedAnswer:
        """What reads the events of a streamed answer."""

    async def _post(self, request: ProviderRequest, timer: Timer, *, stream: bool) -> tuple[Response, Asked]:
        """The provider's answer, of which only the head has come where it is a stream; and what was asked."""
        asked = self._asked(request, stream=stream)
        content = json_bytes(self._body(request, asked, stream=stream))
        try:
            return await self._send(content, timer, stream=stream), asked
        except CallerError as error:
            if not self._learn(request, asked, error):
                raise
        # What was refused is not asked for again, so this happens twice at most.
        return await self._post(request, timer, stream=stream)

    def _asked(self, request: ProviderRequest, *, stream: bool) -> Asked:
        param = unsupported(self.name, request.prompt, model=request.model)
        if param is not None:
            raise CallerError(
                f"{self.name} does not support {param}",
                provider=self.name,
                code="unsupported_parameter",
                param=param,
            )
        return ask(
            request,
            logprobs=self._logprobs and request.model not in self._without_logprobs,
            structured=request.model not in self._without_structured,
            stream=stream,
        )

    async def _send(self, content: bytes, timer: Timer, *, stream: bool) -> Response:
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            return await self._send_once(content, timer, stream=stream)
        except NotSent as error:
            if error.kind != "connect_timeout" or clock() - begun < OWN_DELAY_S:
                raise
        # The time-out itself came late: this process had no time to connect. Nothing was sent.
        try:
            return await self._send_once(content, timer, stream=stream)
        except NotSent as error:
            error.blames_model = error.kind != "connect_timeout"
            raise

    async def _send_once(self, content: bytes, timer: Timer, *, stream: bool) -> Response:
        if timer.until <= asyncio.get_running_loop().time():
            raise NotSent(f"no time was left to ask {self.name}", provider=self.name, kind="no_time_left")
        return await self._answer(self._call(content, stream=stream), timer)

    async def _call(self, content: bytes, *, stream: bool) -> Response:
        """One call. The SDK writes the first one's head, which then serves for all: they differ in their body
        alone, and to write it anew costs the SDK more than all that aiohttp does."""
        head = self._heads.get(stream)
        if head is not None:
            again = await self._http_client.send_body(head, content, stream=stream)
            if not 200 <= again.status_code < 300:
                raise faults.ErrorStatus(again)
            return again
        options = {"headers": STREAM_HEADERS} if stream else {}
        response: httpx2.Response = await self._client.post(
            self.path, cast_to=httpx2.Response, content=content, stream=stream, options=options
        )
        self._heads[stream] = Head.of(response.request)
        return response

    async def _answer(self, call: Awaitable[T], timer: Timer) -> T:
        """What the SDK's `call` gives, or what it raises as a ProviderError."""
        try:
            async with asyncio.timeout_at(timer.until):
                return await call
        except TimeoutError as error:
            raise timer.late(self.name) from error
        except (self.sdk_error, httpx2.HTTPError, faults.ErrorStatus, faults.AnswerTooLarge) as error:
            raise faults.provider_error(
                error, provider=self.name, request_id_header=self.request_id_header
            ) from error

    def _learn(self, request: ProviderRequest, asked: Asked, error: CallerError) -> bool:
        """Whether `error` says that the model lacks something that was `asked` for and can be left out."""
        wanted = request.prompt.top_logprobs is not None
        if asked.logprobs and not wanted and faults.refuses_logprobs(error):
            learned = self._without_logprobs
        elif asked.schema is not None and faults.refuses_structured_output(error):
            learned = self._without_structured
        else:
            return False
        if len(learned) >= LEARNED_MAX:
            return False
        learned.add(request.model)
        return True
