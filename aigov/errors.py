"""Every error that a client of the gateway can see.

    GatewayError
    ├── BadRequest              400  the field is named in `param`
    │   └── ModelNotPriced      400
    ├── AuthenticationFailed    401
    ├── BudgetExceeded          402  the cap is reached, or the rest is held by calls in flight
    ├── PermissionDenied        403
    │   └── SecondPersonNeeded  403  it takes two people: ask, and somebody else approves
    ├── NotFound                404
    ├── IdempotencyConflict     422
    ├── RateLimited             429
    ├── BudgetUnavailable       503  no hold can be taken, so no provider is called
    ├── NoProviderAvailable     503
    ├── IdempotencyInProgress   503  the first request under the same key is still being answered
    ├── Overloaded              503  too much is under way
    └── AnswerBroken            502  a stream that had begun; as a rule it is told in the stream

One handler (`aigov.web.errors`) turns them into the envelope of the OpenAI API, or of the
Anthropic API on an Anthropic-style endpoint.
"""

from collections.abc import Callable, Mapping
from typing import Any


class GatewayError(Exception):
    """An answer other than 200.

    Args:
        message: one plain sentence for the person who reads the client's log.
        param: the field of the request that is wrong, as a path such as `messages[0].role`.
        code: what went wrong, for programs; the class has a default.
        metadata: further facts, such as the scope and amounts of a refused budget.
        retry_after_s: seconds after which a repeat may succeed.
    """

    status = 500
    type = "api_error"
    code: str | None = None
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class ModelNotPriced(BadRequest):
    code = "model_not_priced"


class AuthenticationFailed(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class BudgetExceeded(GatewayError):
    status = 402
    type = "budget_exceeded"
    code = "organization_budget_exceeded"

    @property
    def in_flight(self) -> bool:
        """Whether the money is only held by calls in flight, so that a repeat may succeed."""
        return self.code == "in_flight_budget_exhausted"


class PermissionDenied(GatewayError):
    status = 403
    type = "permission_error"


class SecondPersonNeeded(PermissionDenied):
    """It takes two people.

    Args:
        ask: asks for it in place of doing it, and says so in a sentence; None where it cannot be asked for.
    """

    code = "second_person_needed"

    def __init__(self, message: str, *, ask: Callable[[], str] | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.ask = ask


class NotFound(GatewayError):
    status = 404
    type = "not_found_error"
    code = "not_found"


class IdempotencyConflict(GatewayError):
    status = 422
    type = "invalid_request_error"
    code = "idempotency_conflict"


class RateLimited(GatewayError):
    """`headers`: the `x-ratelimit-…` headers of the answer."""

    status = 429
    type = "rate_limit_exceeded"
    code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.headers = dict(headers or {})


class BudgetUnavailable(GatewayError):
    status = 503
    type = "api_error"
    code = "budget_unavailable"
    retryable = True


class AnswerBroken(GatewayError):
    status = 502
    type = "api_error"
    code = "answer_broken"


class IdempotencyInProgress(GatewayError):
    # Not 409, which many clients take for final: after a 503 they come back when Retry-After says.
    status = 503
    type = "api_error"
    code = "idempotency_in_progress"
    retryable = True


class NoProviderAvailable(GatewayError):
    status = 503
    type = "api_error"
    code = "no_provider_available"
    retryable = True


class Overloaded(GatewayError):
    status = 503
    type = "api_error"
    code = "overloaded"
    retryable = True
