"""An answer on its way: whole, in pieces, late, broken, or not at all; and counted by what became of it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from providers.sandbox.brain import Answer
from providers.sandbox.caching import Cached
from providers.sandbox.server import Connection, chunk, head
from providers.sandbox.switches import ERROR_ANSWERS, Fault
from providers.sandbox.tally import Story, Tally
from providers.sandbox.tokens import encode
from providers.sandbox.wire import Call, ErrorAnswer, Event, Wire

HANG_S_MAX = 3600
TRICKLE_S = 0.1
#: Events that a stream has sent before a `stream_error`.
EVENTS_BEFORE_ERROR = 3
STREAM_TYPE = "text/event-stream; charset=utf-8"
#: The answer is made, and billed, and only the way to the client is broken.
BROKEN_ON_THE_WAY = frozenset(["malformed", "truncate", "cut_after_chunk", "cut", "cutclean"])


@dataclass(slots=True)
class Reply:
    """What is to be said to a call, and how.

    Args:
        usage: of the whole answer.
        delay_s: before anything comes.
        ttft_s: between the headers of a stream and its first event.
        pause_s: between the events of a stream.
    """

    wire: Wire
    call: Call
    story: Story
    answers: Sequence[Answer]
    cached: Cached
    usage: Mapping[str, Any]
    fault: Fault | None
    delay_s: float
    ttft_s: float
    pause_s: float

    @property
    def headers(self) -> Mapping[str, str]:
        return {self.wire.REQUEST_ID_HEADER: self.story.request_id}

    @property
    def said_usage(self) -> Mapping[str, Any] | None:
        return None if self.fault is not None and self.fault.name == "nousage" else self.usage

    def body(self) -> bytes:
        return encode(self.wire.completion(self.call, self.answers, self.said_usage))

    def plain(self) -> bytes:
        body = self.body()
        return head(200, self.headers, content_type="application/json", length=len(body)) + body

    def events(self) -> Iterable[Event]:
        return self.wire.events(self.call, self.answers, self.said_usage)


def usage_of(
    wire: Wire, call: Call, answers: Sequence[Answer], cached: Cached, *, sent: int | None = None
) -> Mapping[str, Any]:
    """The usage of the whole answer, or of one that ended after `sent` tokens."""
    output = sum(answer.output_tokens for answer in answers) if sent is None else sent
    reasoning = min(output, sum(answer.reasoning_tokens for answer in answers))
    return wire.usage(call, output=output, reasoning=reasoning, cached=cached)


async def answer_in_time(reply: Reply, connection: Connection, tally: Tally) -> None:
    """The answer after its delay, whole or broken, counted by what became of it."""
    story, fault = reply.story, reply.fault
    whole = fault is None or fault.name in ("slow", "nousage")
    tally.begin(stream=story.stream)
    try:
        await asyncio.sleep(reply.delay_s)
        if whole and story.stream:
            await _stream(reply, connection, reply.events())
        elif whole:
            connection.write(reply.plain())
        elif fault is not None:
            await _broken(reply, connection, fault)
    except (asyncio.CancelledError, ConnectionError):
        outcome = "abandoned" if whole or fault is None else fault.name
        tally.fail(story, outcome, _billed(reply), gone=True)
        raise
    finally:
        tally.end(stream=story.stream)
    if whole:
        tally.answer(story, reply.usage)
    elif fault is not None:
        tally.fail(story, fault.name, _billed(reply), gone=False)


def _billed(reply: Reply) -> Mapping[str, Any] | None:
    """What a provider would bill for an answer that did not arrive: of a stream what was sent of it."""
    fault = reply.fault
    if reply.story.stream:
        if not reply.story.begun:
            return None
        sent = reply.story.tokens
        return usage_of(reply.wire, reply.call, reply.answers, reply.cached, sent=sent)
    if fault is None or fault.name in BROKEN_ON_THE_WAY:
        return reply.usage
    return None


# --- Streams


async def _stream(
    reply: Reply, connection: Connection, events: Iterable[Event], *, whole: bool = True
) -> None:
    """The start of a stream and `events`, with a pause between them, or in one write without.

    A stream that is not `whole` lacks its end, as far as HTTP is concerned.
    """
    story = reply.story
    start = head(200, reply.headers, content_type=STREAM_TYPE, length=None)
    if not reply.pause_s and not reply.ttft_s:
        sent = list(events)
        connection.write(
            start + b"".join(chunk(event.data) for event in sent) + (chunk(b"") if whole else b"")
        )
        for event in sent:
            story.note(event.tokens)
        return
    connection.write(start)
    await asyncio.sleep(reply.ttft_s)
    waiting = None
    for event in events:
        if waiting is not None:
            connection.write(chunk(waiting.data))
            story.note(waiting.tokens)
            await asyncio.sleep(reply.pause_s)
        waiting = event
    if waiting is not None:
        # The end comes with the last event, since clients go when they have read it.
        connection.write(chunk(waiting.data) + (chunk(b"") if whole else b""))
        story.note(waiting.tokens)


async def _broken(reply: Reply, connection: Connection, fault: Fault) -> None:
    """The answer as far as `fault` lets it come."""
    name = fault.name
    if reply.story.stream and name in ("error", "stream_error"):
        kept = _until(reply, fault) if name == "error" else list(reply.events())[:EVENTS_BEFORE_ERROR]
        await _stream(reply, connection, [*kept, Event(reply.wire.stream_error(reply.story.request_id))])
    elif reply.story.stream and name in ("cut_after_chunk", "truncate", "cut", "cutclean"):
        await _stream(reply, connection, _until(reply, fault), whole=name == "cutclean")
        if name != "cutclean":
            connection.close()
    elif name in ("cut_after_chunk", "truncate", "cut"):
        body = reply.body()
        start = head(200, reply.headers, content_type="application/json", length=len(body))
        connection.write(start + body[: len(body) // 2])
        connection.close()
    elif name == "cutclean":
        body = reply.body()
        start = head(200, reply.headers, content_type="application/json", length=None)
        connection.write(start + chunk(body[: len(body) // 2]) + chunk(b""))
    else:
        streaming = reply.story.stream
        await unanswered(connection, reply.wire, fault, reply.story.request_id, streaming=streaming)


def _until(reply: Reply, fault: Fault) -> list[Event]:
    """The events before the stream breaks off: so many of them, half of them, or so many with content."""
    events = list(reply.events())
    if fault.name == "cut_after_chunk":
        return events[: fault.number]
    if fault.name == "truncate":
        return events[: len(events) // 2]
    kept, content = [], 0
    for event in events:
        if event.tokens and content == fault.number:
            break
        kept.append(event)
        content += bool(event.tokens)
    return kept


# --- In place of an answer


async def unanswered(
    connection: Connection, wire: Wire, fault: Fault, request_id: str, *, streaming: bool
) -> None:
    """What comes in place of an answer; on a plain call an error in a stream is a 500."""
    headers = {wire.REQUEST_ID_HEADER: request_id}
    if fault.name in ERROR_ANSWERS:
        connection.write(as_error(wire.failure(fault.name, fault.argument, request_id)))
    elif fault.name == "hang":
        await asyncio.sleep(HANG_S_MAX)
    elif fault.name == "trickle":
        await _trickle(connection, wire, headers, streaming=streaming)
    elif fault.name == "malformed":
        connection.write(_malformed(headers, streaming=streaming))
    elif fault.name == "reset":
        connection.reset()
    else:
        connection.write(as_error(wire.failure("500", None, request_id)))


def _malformed(headers: Mapping[str, str], *, streaming: bool) -> bytes:
    """A 200 whose JSON breaks off, though HTTP says that it is whole."""
    broken = b'{"id": "broken", "usage": {'
    body = b"event: message_start\ndata: %b\n\n" % broken if streaming else broken
    content_type = STREAM_TYPE if streaming else "application/json"
    return head(200, headers, content_type=content_type, length=len(body)) + body


async def _trickle(
    connection: Connection, wire: Wire, headers: Mapping[str, str], *, streaming: bool
) -> None:
    """Signs of life without content, while the client stays: events, or white space before the JSON."""
    content_type = STREAM_TYPE if streaming else "application/json"
    connection.write(head(200, headers, content_type=content_type, length=None))
    for _ in range(int(HANG_S_MAX / TRICKLE_S)):
        connection.write(chunk(wire.keep_alive() if streaming else b" "))
        await asyncio.sleep(TRICKLE_S)


def as_json(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> bytes:
    body = encode(value)
    return head(status, headers or {}, content_type="application/json", length=len(body)) + body


def as_error(answer: ErrorAnswer) -> bytes:
    return as_json(answer.body, status=answer.status, headers=answer.headers)
