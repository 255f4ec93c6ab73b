"""Static files, for asynchronous servers: WhiteNoise finds them, and they are sent whole.

WhiteNoise's own middleware is synchronous, so that every request to anything would go through a thread, and
streams files in a way that Django warns of when it serves asynchronously.
"""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from whitenoise.middleware import WhiteNoiseMiddleware

Handler = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def static_files(get_response: Handler) -> Handler:
    """Answers what asks for a static file; everything else goes on."""
    files = WhiteNoiseMiddleware(get_response)
    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            found = await sync_to_async(_file)(files, request) if _is_static(files, request) else None
            return found or await cast(Awaitable[HttpResponseBase], get_response(request))

        return answer

    def answer_sync(request: HttpRequest) -> HttpResponseBase:
        found = _file(files, request) if _is_static(files, request) else None
        return found or cast(HttpResponseBase, get_response(request))

    return answer_sync


def _is_static(files: Any, request: HttpRequest) -> bool:
    return request.path_info.startswith(files.static_prefix)


def _file(files: Any, request: HttpRequest) -> HttpResponse | None:
    """The file that is asked for, as an answer; None where there is none."""
    path = request.path_info
    found = files.find_file(path) if files.autorefresh else files.files.get(path)
    if found is None:
        return None
    given = found.get_response(request.method, request.META)
    if given.file is None:
        response = HttpResponse(status=given.status)
    else:
        with given.file:
            response = HttpResponse(given.file.read(), status=given.status)
    del response.headers["content-type"]
    for name, value in given.headers:
        response.headers[name] = value
    return response
