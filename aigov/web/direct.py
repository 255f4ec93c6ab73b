"""The short way of a completion through the web process: one request, one view, one answer.

Django makes a request of what came, finds a view by its address, goes through middleware and makes a
response; DRF does so once more around the view. That was a fifth of a completion's CPU time. So JSON that
is posted to a completions' address comes here, to the same view with the same authentication, parsing, errors
and headers. Whatever else comes to that address goes through Django and DRF, which say what is wrong with it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse

from aigov.api import ApiView
from aigov.organizations.principals import Principal
from aigov.web.authentication import principal_of
from aigov.web.body_limit import Message, Receive, Send
from aigov.web.errors import error_response
from aigov.web.event_stream import ClientWatch, EventStream, send_events
from aigov.web.middleware import dress, headers_of_all, request_id_from
from aigov.web.parsers import JsonParser, parse_json
from aigov.web.permissions import require_scope


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is sent in one piece."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_plain(self) -> bool:
        """Whether all its headers can be sent as they are; Django escapes or refuses the others."""
        return all(value.isascii() and value.isprintable() for value in self.headers.values())

    def for_django(self) -> HttpResponse:
        return HttpResponse(self.body, status=self.status, headers=self.headers)


HttpAnswer = Whole | EventStream


class JsonRequest:
    """A request as its view gets it: what Django's and DRF's have too, under the same names.

    Args:
        headers: by lower-case name.
        auth: whom it acts for; `data`: the JSON in its body. Both are there once it is let in.
    """

    auth: Principal
    data: Any

    def __init__(self, scope: Message, body: bytes, client_watch: ClientWatch) -> None:
        self.path = self.path_info = str(scope["path"])
        self.headers = _headers(scope)
        self.body = body
        self.client_watch = client_watch
        self.request_id = request_id_from(self.headers.get("x-request-id"))

    def let_in(self, required_scope: str) -> None:
        """Raises GatewayError where the key or the body is none, or the key lacks the scope."""
        self.auth = principal_of(self.headers)
        require_scope(self.auth, required_scope)
        self.data = parse_json(self.body) if self.body else {}


class DirectView(ApiView):
    """A view that DRF's way leads to as well."""

    required_scope: str

    @abstractmethod
    async def post(self, request: JsonRequest) -> HttpAnswer: ...

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(response, Whole):
            response = response.for_django()
        return super().finalize_response(request, response, *args, **kwargs)


def is_direct(scope: Message) -> bool:
    """Whether the request posts JSON."""
    if scope["method"] != "POST":
        return False
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value.partition(b";")[0].strip().lower() == JsonParser.media_type.encode())
    return False


class DirectHandler:
    """The ASGI application of one view, for requests that are direct."""

    def __init__(self, view: DirectView) -> None:
        self._view = view

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        with ClientWatch(receive) as watch:
            request = JsonRequest(scope, body, watch)
            answer: HttpAnswer | HttpResponse
            try:
                request.let_in(self._view.required_scope)
                answer = await self._view.post(request)
                if isinstance(answer, Whole) and not answer.is_plain:
                    answer = answer.for_django()
            except Exception as error:
                answer = error_response(request, error)
            if isinstance(answer, EventStream):
                watch.start()
                await send_events(dress(request, answer), send)
            else:
                await _send(request, answer, send)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the client has gone before its end."""
    chunks, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _headers(scope: Message) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _send(request: JsonRequest, answer: Any, send: Send) -> None:
    body, status, headers = (
        (answer.body, answer.status, answer.headers)
        if isinstance(answer, Whole)
        else (answer.content, answer.status_code, answer.headers)
    )
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    raw += headers_of_all(request)
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
