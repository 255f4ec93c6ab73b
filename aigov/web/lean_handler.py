"""Django's handler for the hot path's addresses, without its threads.

Django serves a request in a thread of its own as soon as one middleware is not async, runs each hook of the
others in it, and sends `request_started` and `request_finished` through it too: about half of a completion's
CPU time. Sessions, cookies and the ORM's connections, for which these are there, do not exist on
the hot path. So its addresses have `request_headers` as their only middleware, and no thread.

A plain answer is not cut short by its client's going away; a stream is closed at once.
"""

from typing import Any

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.urls import set_script_prefix

from aigov.web.body_limit import Message, Receive, Send
from aigov.web.event_stream import ClientWatch, EventStream, send_events
from aigov.web.middleware import request_headers

#: Async views that neither use the ORM nor sessions.
PATHS = frozenset({"/api/v1/completions", "/v1/chat/completions", "/v1/messages", "/healthz", "/readyz"})


class LeanHandler(ASGIHandler):
    """Views under it must be async and must not touch Django's ORM: nobody closes its connections."""

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        view: Any = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        self._middleware_chain = convert_exception_to_response(request_headers(view))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        try:
            with ClientWatch(receive) as watch:
                await self._serve(scope, body, send, watch)
        finally:
            body.close()

    async def _serve(self, scope: Message, body: Any, send: Send, watch: ClientWatch) -> None:
        request: Any
        response: Any
        request, response = self.create_request(scope, body)
        if request is not None:
            request.client_watch = watch
            response = await self.get_response_async(request)
        if response.streaming:
            watch.start()
        else:
            response.headers.setdefault("Content-Length", str(len(response.content)))
        await self.send_response(response, send)

    async def send_response(self, response: Any, send: Any) -> None:
        if isinstance(response, EventStream):
            await send_events(response, send)
        else:
            await super().send_response(response, send)
