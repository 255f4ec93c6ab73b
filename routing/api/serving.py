"""One way from a valid request to its answer, whole or as a stream, for all faces of the gateway."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from django.http import JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from aigov.errors import GatewayError
from aigov.organizations.principals import Principal
from aigov.web.errors import gateway_error, request_id_of
from providers.types import Delta, StreamStart
from routing import gateway
from routing.api.answers import headers_of, headers_of_stream
from routing.course import Completion, Course
from routing.requests import CompletionRequest
from routing.streaming import Live

EVENT_STREAM = "text/event-stream; charset=utf-8"


class Frames(Protocol):
    """One stream in one face's format. Each method gives the bytes of no, one or several events."""

    def begin(self) -> bytes:
        """What comes before the first piece."""
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
    return JsonResponse(face.body(completion), headers=headers_of(completion))


async def _stream(request: Request, live: Live, face: Face) -> StreamingHttpResponse:
    try:
        start = await live.begin()
    except BaseException:
        live.leave()
        raise
    frames = face.frames(live.course, start)
    return StreamingHttpResponse(
        _events(request, live, frames), content_type=EVENT_STREAM, headers=headers_of_stream(live.course)
    )


async def _events(request: Request, live: Live, frames: Frames) -> AsyncIterator[bytes]:
    try:
        yield frames.begin()
        async for delta in live.deltas():
            yield frames.delta(delta)
        yield frames.end(await live.completion())
    except Exception as error:
        yield frames.error(gateway_error(request, error))
    finally:
        live.leave()
