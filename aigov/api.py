"""The base of async API views: DRF's request, permissions and errors, without a thread."""

from inspect import isawaitable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.views import APIView


class JsonAlone(BaseContentNegotiation):
    """We speak JSON, whatever a client would like better."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """A DRF view whose handlers are `async`.

    Its checks run in the event loop: authentication and permissions only look into the process's memory, so
    that they need no thread. An answer that must have none either is a `JsonResponse`, since Django renders
    DRF's `Response` in a thread.
    """

    content_negotiation_class = JsonAlone

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        response: Any
        try:
            self.initial(self.request, *args, **kwargs)
            response = self._handler()(self.request, *args, **kwargs)
            if isawaitable(response):
                response = await response
        except Exception as exc:
            response = self.handle_exception(exc)
        self.response = self.finalize_response(self.request, response, *args, **kwargs)
        return self.response

    def _handler(self) -> Any:
        method = str(self.request.method).lower()
        if method not in self.http_method_names:
            return self.http_method_not_allowed
        return getattr(self, method, self.http_method_not_allowed)
