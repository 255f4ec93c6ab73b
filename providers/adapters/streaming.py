"""Reading a streamed answer: its pieces as they come, its end, and every way in which it can break.

What a provider sends to keep the connection alive (comments, pings, chunks without content) shows that it
lives, not that it answers: it moves no time limit.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

import aiohttp
import httpx2

from providers.adapters import faults
from providers.adapters.sse import EventDecoder
from providers.adapters.transport import Response
from providers.errors import Malformed, ProviderError, TimedOut
from providers.types import Delta, ProviderReply, StreamStart, TextDelta

#: Several times what the longest answer needs, with log-probabilities; it is not kept, but for the text.
STREAM_BYTES_MAX = 256 * 1024 * 1024
#: After the end of the answer: for the end of the body, without which the connection could not serve again.
DRAIN_S = 0.1
#: What a body raises that is no answer.
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)


@dataclass(slots=True)
class Timer:
    """Until when the next piece of an answer must come, in seconds of the loop's clock.

    Args:
        first_content_by: ends with the first content.
    """

    deadline: float
    first_content_by: float = inf

    @property
    def until(self) -> float:
        return min(self.deadline, self.first_content_by)

    def late(self, provider: str) -> TimedOut:
        """What it means that `until` has passed."""
        if self.deadline <= self.first_content_by:
            return TimedOut(f"{provider} did not answer in time", provider=provider)
        message = f"no word of {provider}'s answer came in time"
        return TimedOut(message, provider=provider, kind="no_first_content")


class StreamedAnswer(Protocol):
    """What a wire format makes of a stream's events: pure.

    Args:
        ended: whether the provider has said that the answer is over.
    """

    ended: bool

    def read(self, event: bytes) -> Iterable[StreamStart | Delta]:
        """What `event` adds to the answer.

        Raises:
            ErrorEvent: that the provider cannot go on.
            TypeError, ValueError, LookupError, AttributeError: it is no event of this format.
        """

    def reply(self) -> ProviderReply | None:
        """The answer so far; None where its final usage has not come.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: what has come is no answer.
        """


class StreamReading:
    """One streamed answer, from its head to its end. Errors carry what had come, where its cost is known."""

    def __init__(
        self,
        response: Response,
        answer: StreamedAnswer,
        timer: Timer,
        *,
        provider: str,
        request_id: str | None,
    ) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._chunks: AsyncIterator[bytes] = aiter(response.stream)
        self._answer = answer
        self._timer = timer
        self._provider = provider
        self._request_id = request_id
        self._decoder = EventDecoder()
        self._size = 0

    @property
    def ended(self) -> bool:
        return self._answer.ended

    async def events(self) -> list[bytes]:
        """The events that the next bytes complete, once they have come.

        Raises:
            TimedOut: they have not come in time.
            ConnectionLost, Malformed: none will come.
        """
        chunk = await self._chunk()
        self._size += len(chunk)
        if not chunk:
            raise self._malformed("ended before its end")
        try:
            if self._size > STREAM_BYTES_MAX:
                raise faults.AnswerTooLarge
            return self._decoder.feed(chunk)
        except faults.AnswerTooLarge as error:
            raise self._malformed("is too large") from error

    def read(self, event: bytes) -> Iterable[StreamStart | Delta]:
        """What `event` adds to the answer.

        Raises:
            ErrorAnswer: that the provider cannot go on.
            Malformed: the event cannot be read.
        """
        try:
            items = self._answer.read(event)
        except faults.ErrorEvent as error:
            told = faults.error_event(error, provider=self._provider, request_id=self._request_id)
            raise self._with_reply(told) from error
        except UNREADABLE as error:
            raise self._malformed("cannot be read") from error
        if self._timer.first_content_by != inf and any(map(_is_content, items)):
            self._timer.first_content_by = inf
        return items

    def reply(self) -> ProviderReply:
        """The whole answer, after its end.

        Raises:
            Malformed: its usage has not come.
        """
        try:
            reply = self._answer.reply()
        except UNREADABLE as error:
            raise self._malformed("cannot be read") from error
        if reply is None:
            raise self._malformed("has no usage")
        return reply

    async def drain(self) -> None:
        """Reads the end of the body, so that the connection can serve again; else it will be closed."""
        with suppress(TimeoutError, httpx2.HTTPError, aiohttp.ClientError):
            async with asyncio.timeout(DRAIN_S):
                await anext(self._chunks, b"")

    async def _chunk(self) -> bytes:
        # A provider that sends without pause would never let the time-out below come to pass.
        if asyncio.get_running_loop().time() >= self._timer.until:
            raise self._with_reply(self._timer.late(self._provider))
        try:
            async with asyncio.timeout_at(self._timer.until):
                return await anext(self._chunks, b"")
        except TimeoutError as error:
            raise self._with_reply(self._timer.late(self._provider)) from error
        except (httpx2.HTTPError, aiohttp.ClientError) as error:
            told = faults.transport_error(error, provider=self._provider, request_id=self._request_id)
            raise self._with_reply(told) from error

    def _malformed(self, what: str) -> ProviderError:
        message = f"the answer of {self._provider} {what}"
        return self._with_reply(Malformed(message, provider=self._provider, request_id=self._request_id))

    def _with_reply(self, error: ProviderError) -> ProviderError:
        with suppress(*UNREADABLE):
            error.reply = self._answer.reply()
        return error


def _is_content(item: StreamStart | Delta) -> bool:
    return not isinstance(item, StreamStart) and not (isinstance(item, TextDelta) and not item.text)
