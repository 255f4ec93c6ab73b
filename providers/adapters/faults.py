"""From what the SDKs raise to what it means for the money.

The SDKs wrap httpx2's exceptions, which wrap aiohttp's, and on the way a reset connection may become a
`ConnectTimeout`: so the innermost exception decides, which is the one that aiohttp raised.
"""

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2

from aigov import clock
from providers.errors import (
    BadCredentials,
    CallerError,
    ConnectionLost,
    ErrorAnswer,
    Malformed,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    SpendLimitReached,
    TimedOut,
)

if TYPE_CHECKING:
    from providers.adapters.transport import Response

RETRY_AFTER_MAX_S = 3_600.0
#: How much of a provider's message about a refused request is passed on.
MESSAGE_MAX = 500

_NEVER_SENT: dict[type[Exception], str] = {
    aiohttp.ClientConnectorDNSError: "dns",
    aiohttp.ClientSSLError: "tls",
    aiohttp.ServerFingerprintMismatch: "tls",
    aiohttp.ClientConnectorError: "refused_connection",
    aiohttp.ConnectionTimeoutError: "connect_timeout",
    aiohttp.ClientHttpProxyError: "proxy",
    aiohttp.InvalidURL: "bad_url",
    httpx2.PoolTimeout: "connect_timeout",
    httpx2.UnsupportedProtocol: "bad_url",
}
_SPEND_LIMIT_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
    }
)
#: An error within a stream has no status of its own: the one that its code or type has elsewhere.
_STATUS_OF_EVENT = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}
#: Anthropic says so in a plain `invalid_request_error`.
_SPEND_LIMIT_TEXT = re.compile(
    r"credit balance is too low|reached your specified API usage limits", re.IGNORECASE
)
_UNSUPPORTED_CODES = frozenset({"unsupported_value", "unsupported_parameter"})
_UNSUPPORTED_TEXT = re.compile(
    r"not support|unsupported|not available|not permitted|not allowed", re.IGNORECASE
)
_STRUCTURED_TEXT = re.compile(
    r"does not support (the )?(structured|output)"
    r"|(structured outputs?|output.?format|output.?config|response_format)\b.{0,60}"
    r"(not (supported|available)|unsupported) (by|with|for|on|in) this model",
    re.IGNORECASE | re.DOTALL,
)


class AnswerTooLarge(Exception):
    """The answer, or one event of a stream, is larger than we read."""


class ErrorStatus(Exception):
    """An answer with an error's status; the SDKs raise one of their own, which has its `response` too."""

    def __init__(self, response: "Response") -> None:
        super().__init__()
        self.response = response


class ErrorEvent(Exception):
    """The provider says within a stream that it cannot go on.

    Args:
        error: its `error` object.
    """

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The `error` object, in which both providers agree but for `details`."""

    type: str
    code: str
    param: str | None
    message: str


def provider_error(error: Exception, *, provider: str, request_id_header: str) -> ProviderError:
    """What `error`, raised by an SDK or in its place for a call, means."""
    response = getattr(error, "response", None)
    if response is not None:
        return error_answer(response, provider=provider, request_id_header=request_id_header)
    return transport_error(error, provider=provider)


def transport_error(error: Exception, *, provider: str, request_id: str | None = None) -> ProviderError:
    """What it means that a call ended in `error`, without an answer or within one."""
    causes = list(_causes(error))
    for cause in causes:
        for never_sent, kind in _NEVER_SENT.items():
            if isinstance(cause, never_sent):
                return NotSent(f"{provider} could not be reached ({kind})", provider=provider, kind=kind)
    told: dict[str, Any] = {"provider": provider, "request_id": request_id}
    if any(isinstance(cause, AnswerTooLarge | aiohttp.ClientResponseError) for cause in causes):
        return Malformed(f"the answer of {provider} cannot be read", **told)
    # Only a time-out that says it was reading: httpx2's class is also what a reset connection is given.
    if any(isinstance(cause, aiohttp.SocketTimeoutError | asyncio.TimeoutError) for cause in causes):
        return TimedOut(f"{provider} did not answer in time", **told)
    return ConnectionLost(f"the connection to {provider} was lost", **told)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__


def error_answer(response: "Response", *, provider: str, request_id_header: str) -> ErrorAnswer:
    """What an answer with an error status means; it is never billed."""
    body = error_body(response)
    kind = _kind_of(response.status_code, body)
    # Only the caller's own mistakes are told in the provider's words: others may name our account or key.
    words = f": {body.message[:MESSAGE_MAX]}" if kind is CallerError and body.message else ""
    return kind(
        f"{provider} answered {response.status_code}{words}",
        provider=provider,
        status=response.status_code,
        code=body.code or body.type or None,
        param=body.param,
        request_id=response.headers.get(request_id_header),
        retry_after_s=retry_after_s(response.headers),
    )


def error_event(event: ErrorEvent, *, provider: str, request_id: str | None) -> ErrorAnswer:
    """What an error within a stream means. The answer had begun, so it may be billed."""
    body = _error_body(event.error)
    status = _STATUS_OF_EVENT.get(body.code) or _STATUS_OF_EVENT.get(body.type, 500)
    return _kind_of(status, body)(
        f"{provider} broke its answer off",
        provider=provider,
        code=body.code or body.type or None,
        param=body.param,
        request_id=request_id,
        billed="maybe",
    )


def _kind_of(status: int, body: ErrorBody) -> type[ErrorAnswer]:
    if _is_spend_limit(status, body):
        return SpendLimitReached
    if status in (401, 403):
        return BadCredentials
    if status == 429:
        return RateLimited
    if status in (503, 529):
        return Overloaded
    if status in (408, 409, 425) or not 400 <= status < 500:
        return ServerError
    return CallerError


def _is_spend_limit(status: int, body: ErrorBody) -> bool:
    if status == 402 or {body.code, body.type} & _SPEND_LIMIT_CODES:
        return True
    return status == 400 and _SPEND_LIMIT_TEXT.search(body.message) is not None


def error_body(response: "Response") -> ErrorBody:
    """The error object of `response`, with empty fields where it has none."""
    try:
        error = json.loads(response.content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError, httpx2.StreamError):
        error = None
    return _error_body(error)


def _error_body(error: Any) -> ErrorBody:
    fields: dict[str, Any] = error if isinstance(error, dict) else {}
    details = fields.get("details")
    code = fields.get("code") or (details.get("error_code") if isinstance(details, dict) else None)
    return ErrorBody(
        type=_text(fields.get("type")),
        code=_text(code),
        param=_text(fields.get("param")) or None,
        message=_text(fields.get("message")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def refuses_logprobs(error: CallerError) -> bool:
    """Whether a model has said that it gives no log-probabilities.

    Where the provider names the parameter, that alone counts: its message may quote the caller's own schema.
    """
    named = "logprobs" in (error.param or error.message)
    unsupported = error.code in _UNSUPPORTED_CODES or _UNSUPPORTED_TEXT.search(error.message) is not None
    return named and unsupported


def refuses_structured_output(error: CallerError) -> bool:
    """Whether a model has said that it has no structured output; a refused schema is the caller's error."""
    if error.param is not None and error.code in _UNSUPPORTED_CODES:
        return error.param.startswith("response_format")
    return _STRUCTURED_TEXT.search(error.message) is not None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to wait: `retry-after-ms`, else `retry-after` (seconds or a date).

    In seconds, from 0 to `RETRY_AFTER_MAX_S`; None where it does not say so in a form that can be read.
    """
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        return _bounded(seconds / 1_000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value is not None:
        seconds = _seconds_until(value)
    return None if seconds is None else _bounded(seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str) -> float | None:
    try:
        return (parsedate_to_datetime(date) - clock.now()).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
