"""One way from a valid request to its answer, whole or as a stream, for all faces of the gateway."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol

from aigov import background
from aigov.errors import GatewayError
from aigov.web import idempotency, limits
from aigov.web.direct import HttpAnswer, JsonRequest, Whole
from aigov.web.errors import error_response, gateway_error, request_id_of
from aigov.web.event_stream import CONTENT_TYPE, EventStream, watch_client
from aigov.web.idempotency import UNCLAIMED, Claim, Replay
from aigov.web.limits import Slot
from aigov.web.renderers import json_bytes
from providers.types import Delta, StreamStart
from routing import gateway
from routing.api.answers import headers_of, headers_of_stream
from routing.course import Completion, Course
from routing.listener import Listener
from routing.requests import CompletionRequest
from routing.streaming import Live, pieces

JSON = "application/json"


class Frames(Protocol):
    """One stream in one face's format. Each method gives the bytes of no, one or several events."""

    def begin(self, first: Delta | None) -> bytes:
        """What comes before the first piece; None: the answer is empty."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """The next piece of the answer."""
        ...

    def end(self, completion: Completion) -> bytes:
        """What comes after the last piece: why it ended, its usage, and our extras."""
        ...

    def error(self, error: GatewayError) -> bytes:
        """That the answer has broken off; nothing comes after it."""
        ...


class Face(Protocol):
    """One of the formats that the gateway speaks."""

    def body(self, completion: Completion) -> Mapping[str, Any]:
        """A whole answer."""
        ...

    def frames(self, course: Course, start: StreamStart) -> Frames:
        """A new stream."""
        ...


async def answer(request: JsonRequest, *, asked: CompletionRequest, face: Face, streamed: bool) -> HttpAnswer:
    """The answer to `asked` in the format of `face`.

    Raises:
        GatewayError: there is none; of a stream as long as nothing was sent.
    """
    principal = request.auth
    key = idempotency.key_of(request.headers)
    async with AsyncExitStack() as until_the_work_begins:
        slot = until_the_work_begins.enter_context(await limits.admit(principal))
        claim = await idempotency.begin(
            organization_id=principal.organization_id,
            key=key,
            address=f"{request.path} {face!r} {streamed=}",
            body=repr(asked).encode() if key else b"",
        )
        if isinstance(claim, Replay):
            return Whole(claim.status, {**claim.headers, **slot.headers}, claim.body)
        await until_the_work_begins.enter_async_context(claim)
        course = await Course.begin(
            principal=principal,
            request=asked,
            request_id=request_id_of(request),
            listener=Listener() if streamed else None,
        )
        work = background.spawn(
            _work(request, course, face, claim, slot), name=f"completion {course.request_id}"
        )
        until_the_work_begins.pop_all()
    if streamed:
        return await _stream(request, Live(course, work), face, slot.headers)
    whole = _whole(face, await asyncio.shield(work))
    return replace(whole, headers={**whole.headers, **slot.headers})


async def _work(request: JsonRequest, course: Course, face: Face, claim: Claim, slot: Slot) -> Completion:
    """Everything that is done for a request, whether or not its client is still there."""
    with slot:
        async with claim:
            try:
                completion = await gateway.complete(course)
            except Exception as error:
                await _keep_error(request, course, claim, error)
                raise
            if claim is not UNCLAIMED:
                whole = _whole(face, completion)
                await claim.finish(status=whole.status, headers=whole.headers, body=whole.body)
            return completion


async def _keep_error(request: JsonRequest, course: Course, claim: Claim, error: Exception) -> None:
    """Keeps the error as the answer, where a repetition would only cost again."""
    if claim is UNCLAIMED:
        return
    told = gateway_error(request, error)
    if idempotency.must_be_replayed(told, paid=course.cost_eur > 0):
        response = error_response(request, told)
        await claim.finish(status=response.status_code, headers=dict(response.items()), body=response.content)


def _whole(face: Face, completion: Completion) -> Whole:
    """A finished completion in the format of `face`: as one body, or as all the events of a stream."""
    headers = headers_of(completion)
    if completion.course.listener is None:
        return Whole(200, {"content-type": JSON, **headers}, json_bytes(face.body(completion)))
    answer = completion.answer
    frames = face.frames(completion.course, StreamStart(answer.model, answer.usage))
    deltas = list(pieces(answer))
    events = (frames.begin(deltas[0] if deltas else None), *map(frames.delta, deltas), frames.end(completion))
    return Whole(200, {"content-type": CONTENT_TYPE, **headers}, b"".join(events))


def event(name: str, data: Any) -> bytes:
    """A server-sent event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_bytes(data))


async def _stream(request: JsonRequest, live: Live, face: Face, headers: Mapping[str, str]) -> EventStream:
    try:
        watch_client(request)
        start = await live.begin()
    except BaseException:
        live.leave()
        raise
    frames = face.frames(live.course, _named_as_asked(live.course, start))
    known = headers_of_stream(live.course) if live.course.has_begun else headers_of(await live.completion())
    return EventStream(_events(request, live, frames), headers={**known, **headers}, leave=live.leave)


def _named_as_asked(course: Course, start: StreamStart) -> StreamStart:
    """`start` with the model's name as the settings have it, as in a whole answer."""
    return replace(start, model=course.attempts[-1].candidate.model) if course.has_begun else start


async def _events(request: JsonRequest, live: Live, frames: Frames) -> AsyncGenerator[bytes, None]:
    try:
        deltas = live.deltas()
        first = await anext(deltas, None)
        if opening := frames.begin(first) + (b"" if first is None else frames.delta(first)):
            yield opening
        async for delta in deltas:
            if piece := frames.delta(delta):
                yield piece
        yield frames.end(await live.completion())
    except Exception as error:
        yield frames.error(gateway_error(request, error))
