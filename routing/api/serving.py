"""One way from a valid request to its answer, whole or as a stream, for all faces of the gateway."""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from aigov.errors import GatewayError
from aigov.organizations.principals import Principal
from aigov.web.errors import gateway_error, request_id_of
from aigov.web.event_stream import EventStream, watch_client
from providers.types import Delta, StreamStart
from routing import gateway
from routing.api.answers import headers_of, headers_of_stream
from routing.course import Completion, Course
from routing.requests import CompletionRequest
from routing.streaming import Live

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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


async def answer(
    request: Request, *, asked: CompletionRequest, face: Face, streamed: bool
) -> HttpResponseBase:
    """The answer to `asked` in the format of `face`.

    Raises:
        GatewayError: there is none; of a stream as long as nothing was sent.
    """
    principal: Principal = request.auth  # type: ignore[assignment]
    request_id = request_id_of(request)
    if streamed:
        live = await gateway.stream(principal=principal, request=asked, request_id=request_id)
        return await _stream(request, live, face)
    completion = await gateway.complete(principal=principal, request=asked, request_id=request_id)
    # No DRF `Response`: Django would render it in a thread.
    return HttpResponse(
        json_bytes(face.body(completion)), content_type="application/json", headers=headers_of(completion)
    )


def json_bytes(value: Any) -> bytes:
    return _encode(value).encode()


def event(name: str, data: Any) -> bytes:
    """A server-sent event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_bytes(data))


async def _stream(request: Request, live: Live, face: Face) -> EventStream:
    try:
        watch_client(request)
        start = await live.begin()
    except BaseException:
        live.leave()
        raise
    frames = face.frames(live.course, _named_as_asked(live.course, start))
    return EventStream(
        _events(request, live, frames), headers=headers_of_stream(live.course), leave=live.leave
    )


def _named_as_asked(course: Course, start: StreamStart) -> StreamStart:
    """`start` with the model's name as the settings have it, as in a whole answer."""
    return replace(start, model=course.attempts[-1].candidate.model) if course.has_begun else start


async def _events(request: Request, live: Live, frames: Frames) -> AsyncGenerator[bytes, None]:
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
