"""One way from an exception to an answer, for every view.

    GatewayError                         as it says itself
    DRF's and Django's own exceptions    the same envelope; `param` is the path of the field
    the database can't be reached        503 budget_unavailable
    anything else                        500 without internals; the log has them, under the request's id

DRF views come through `handle_exception`, plain views through `lean_view`, and what happens
outside every view through Django's handlers at the end.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import psycopg
from django import db
from django.core import exceptions as django_errors
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf_errors

from aigov import database, errors
from aigov.errors import BudgetExceeded, GatewayError
from aigov.web.authentication import CHALLENGE
from aigov.web.parsers import BodyTooLarge

log = logging.getLogger(__name__)

#: Seconds after which a repeat is invited where the error itself names none.
RETRY_AFTER_S = 1
#: Wrong fields that one answer lists.
DETAILS_MAX = 20
#: Paths under which every answer is JSON.
API_PREFIXES = ("/api/", "/v1/")
#: The paths that Anthropic's API has alone; the list of models has both APIs' clients.
ANTHROPIC_PREFIX, SHARED_PREFIX = "/v1/messages", "/v1/models"

_DATABASE_DOWN = (psycopg.OperationalError, psycopg.InterfaceError, db.OperationalError, db.InterfaceError)
_BASE_FIELDS = {"non_field_errors", "detail"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
}

Body = Callable[[GatewayError, str], dict[str, Any]]
View = Callable[..., Any]


class InternalError(GatewayError):
    """A defect of ours: nobody outside is told more than the request's id."""

    code = "internal_error"


class OtherStatus(errors.BadRequest):
    """A refusal by HTTP's own rules: 405, 406, 415 …"""

    def __init__(self, message: str, *, status: int, code: str, allow: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.allow = allow


# --- The answer


def openai_body(error: GatewayError, request_id: str = "") -> dict[str, Any]:
    """The envelope of the OpenAI API, which our own endpoints have too."""
    return {
        "error": {
            "message": str(error.message),
            "type": error.type,
            "param": error.param,
            "code": error.code,
            "metadata": error.metadata,
        }
    }


def anthropic_body(error: GatewayError, request_id: str = "") -> dict[str, Any]:
    """The envelope of the Anthropic API, which names the field in the message."""
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
    message = f"{error.param}: {error.message}" if error.param else str(error.message)
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id or None,
    }


def speaks_anthropic(path: str, headers: Mapping[str, str]) -> bool:
    """Whether a request to `path` with `headers` (looked up by lower-case name) is in Anthropic's format."""
    if path.startswith(SHARED_PREFIX):
        return "anthropic-version" in headers
    return path.startswith(ANTHROPIC_PREFIX)


def body_for(path: str, headers: Mapping[str, str]) -> Body:
    """The envelope that a request's errors come in."""
    return anthropic_body if speaks_anthropic(path, headers) else openai_body


def headers_of(error: GatewayError) -> dict[str, str]:
    """What the error says to the client program rather than to its reader."""
    headers = {}
    retryable = error.retryable or (isinstance(error, BudgetExceeded) and error.in_flight)
    if error.status in (402, 429) or error.status >= 500:
        headers["x-should-retry"] = "true" if retryable else "false"
    if error.retry_after_s is not None or retryable:
        headers["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, OtherStatus) and error.allow:
        headers["Allow"] = error.allow
    if isinstance(error, errors.RateLimited):
        headers |= error.headers
    return headers


def error_response(request: Any, exc: Exception, *, body: Body | None = None) -> JsonResponse:
    """The answer to a request that ended in `exc`, in `body`'s envelope; None: in that of its address."""
    error = gateway_error(request, exc)
    body = body or body_for(request.path_info, request.headers)
    return JsonResponse(body(error, request_id_of(request)), status=error.status, headers=headers_of(error))


def handle_exception(exc: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """The answer to a DRF request that ended in `exc` (DRF's `EXCEPTION_HANDLER`).

    It is no DRF `Response`: Django would render it in a thread.
    """
    return error_response(context["request"], exc)


def lean_view(*, methods: Collection[str], body: Body | None = None) -> Callable[[View], View]:
    """Decorates a view without DRF, sync or async, for programs: its errors become answers.

    Args:
        methods: the HTTP methods that it has; any other is 405.
        body: the envelope of its errors; None: that of its address.

    Requests are exempt from Django's CSRF check, since they are let in by a key, never by a cookie.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        async def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                _require_method(request, methods)
                response: HttpResponseBase = await view(request, *args, **kwargs)
            except Exception as exc:
                return error_response(request, exc, body=body)
            return response

        @wraps(view)
        def answer_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                _require_method(request, methods)
                response: HttpResponseBase = view(request, *args, **kwargs)
            except Exception as exc:
                return error_response(request, exc, body=body)
            return response

        return csrf_exempt(answer if iscoroutinefunction(view) else answer_sync)

    return decorate


def request_id_of(request: Any) -> str:
    """The id that `aigov.web.middleware` gave the request."""
    request_id: str = getattr(request, "request_id", "")
    return request_id


# --- What an exception means


def gateway_error(request: Any, exc: Exception) -> GatewayError:
    """What `exc` is to the client; a defect is logged here, and nothing else."""
    if isinstance(exc, GatewayError):
        return exc
    if isinstance(exc, drf_errors.APIException):
        return _of_drf(exc)
    if isinstance(exc, Http404):
        return errors.NotFound("There is nothing at this address.")
    if isinstance(exc, django_errors.PermissionDenied):
        return errors.PermissionDenied("This is not allowed.")
    if isinstance(exc, django_errors.RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(exc, django_errors.ValidationError):
        return _of_django_validation(exc)
    if isinstance(exc, django_errors.SuspiciousOperation | django_errors.BadRequest):
        return errors.BadRequest("The request is malformed.")
    if isinstance(exc, _DATABASE_DOWN):
        log.warning("the database can't be reached, request %s: %s", request_id_of(request), exc)
        return database.unavailable()
    log.error("unhandled error, request %s", request_id_of(request), exc_info=exc)
    return _defect(request)


def _defect(request: Any) -> InternalError:
    request_id = request_id_of(request)
    return InternalError(f"Something went wrong on our side. Please quote the request {request_id}.")


def _require_method(request: HttpRequest, methods: Collection[str]) -> None:
    if request.method not in methods:
        allow = ", ".join(methods)
        message = f"{request.method} is not possible here, only {allow}."
        raise OtherStatus(message, status=405, code="method_not_allowed", allow=allow)


def _of_drf(exc: drf_errors.APIException) -> GatewayError:
    if isinstance(exc, drf_errors.ValidationError):
        return _of_details(exc.detail)
    message = str(exc.detail)
    if isinstance(exc, drf_errors.AuthenticationFailed | drf_errors.NotAuthenticated):
        return errors.AuthenticationFailed(message)
    if isinstance(exc, drf_errors.PermissionDenied):
        return errors.PermissionDenied(message)
    if isinstance(exc, drf_errors.NotFound):
        return errors.NotFound(message)
    if isinstance(exc, drf_errors.Throttled):
        return errors.RateLimited(message, retry_after_s=getattr(exc, "wait", None))
    if exc.status_code >= 500:
        return InternalError(message)
    return OtherStatus(message, status=exc.status_code, code=exc.default_code)


def _of_details(detail: Any) -> GatewayError:
    wrong = [entry for entry, _place in zip(_flat(detail, ""), range(DETAILS_MAX), strict=False)]
    if not wrong:
        return errors.BadRequest("The request is malformed.")
    param, message, code = wrong[0]
    listed = [{"param": path or None, "message": text} for path, text, _code in wrong]
    metadata = {"errors": listed} if len(listed) > 1 else {}
    return errors.BadRequest(message, param=param or None, code=code, metadata=metadata)


def _of_django_validation(exc: django_errors.ValidationError) -> GatewayError:
    return _of_details(exc.message_dict if hasattr(exc, "error_dict") else exc.messages)


def _flat(detail: Any, path: str) -> Iterator[tuple[str, str, str | None]]:
    """(path, message, code) of every message in a nested `detail`, in its order."""
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            yield from _flat(inner, _join(path, key))
    elif isinstance(detail, list | tuple):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list | tuple)
            yield from _flat(inner, f"{path}[{index}]" if nested else path)
    else:
        yield path, str(detail), getattr(detail, "code", None)


def _join(path: str, key: object) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    if key in _BASE_FIELDS or key == django_errors.NON_FIELD_ERRORS:
        return path
    return f"{path}.{key}" if path else str(key)


# --- Outside every view (`handler400` … in `aigov.urls`)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return _outside(request, exception) or defaults.bad_request(request, exception)


def handler403(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return _outside(request, exception) or defaults.permission_denied(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return _outside(request, exception) or defaults.page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponseBase:
    if is_api(request):
        return error_response(request, _defect(request))
    return defaults.server_error(request)


@csrf_exempt
async def unknown_address(request: HttpRequest, *_matched: str) -> HttpResponseBase:
    """The view of every path under `API_PREFIXES` that no other view has."""
    return error_response(request, Http404())


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(API_PREFIXES)


def _outside(request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
    return error_response(request, exception) if is_api(request) else None
