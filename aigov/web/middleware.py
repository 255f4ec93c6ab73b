"""What every answer carries: the request's id, and the headers that bind browsers."""

import re
import secrets
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Handler = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]

AnyResponse = TypeVar("AnyResponse", bound=HttpResponseBase)

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

_POLICY = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


def policy_text(policy: dict[str, str]) -> str:
    """`policy` as the header has it."""
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())


STRICT_POLICY = policy_text(_POLICY)
# The admin's Alpine.js evaluates expressions and writes style attributes.
ADMIN_POLICY = policy_text(
    {**_POLICY, "script-src": "'self' 'unsafe-eval'", "style-src-attr": "'unsafe-inline'"}
)
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


def request_id_from(incoming: str | None) -> str:
    """The id that a request is known by: the caller's own where it is sane, else a new one."""
    if incoming and REQUEST_ID.fullmatch(incoming):
        return incoming
    return f"req_{secrets.token_hex(12)}"


@sync_and_async_middleware
def request_headers(get_response: Handler) -> Handler:
    """Sets `request.request_id` before the view, and the headers of every answer after it."""
    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            _receive(request)
            return dress(request, cast(HttpResponseBase, await get_response(request)))

        return answer

    def answer_sync(request: HttpRequest) -> HttpResponseBase:
        _receive(request)
        return dress(request, cast(HttpResponseBase, get_response(request)))

    return answer_sync


def _receive(request: HttpRequest) -> None:
    request.request_id = request_id_from(request.META.get("HTTP_X_REQUEST_ID"))  # type: ignore[attr-defined]
    if "HTTP_TRANSFER_ENCODING" in request.META:
        # A body sent in chunks names no length, and DRF takes that for no body.
        request.META["CONTENT_LENGTH"] = str(len(request.body))


#: Of every answer to a program; `dress` gives them to the others as well.
_ALWAYS = {
    "Content-Security-Policy": STRICT_POLICY,
    "Permissions-Policy": PERMISSIONS_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
_ALWAYS_RAW = [(name.lower().encode(), value.encode()) for name, value in _ALWAYS.items()]


def dress(request: Any, response: AnyResponse) -> AnyResponse:
    """Gives `response` the headers of every answer, unless it has its own."""
    headers = response.headers
    for name, value in _own_headers(request).items():
        headers[name] = value
    if request.path_info.startswith("/admin/"):
        headers.setdefault("Content-Security-Policy", ADMIN_POLICY)
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    return response


def headers_of_all(request: Any) -> list[tuple[bytes, bytes]]:
    """The headers of every answer to a program, as ASGI has them."""
    own = [(name.encode(), value.encode()) for name, value in _own_headers(request).items()]
    return own + _ALWAYS_RAW


def _own_headers(request: Any) -> dict[str, str]:
    request_id: str = request.request_id
    # `request-id` is where Anthropic's client looks.
    anthropic = {"request-id": request_id} if request.path_info.startswith("/v1/") else {}
    return {"x-request-id": request_id, **anthropic}
