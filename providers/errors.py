"""Why a provider gave no answer, and what that means for the money.

    ProviderError
    ├── NotSent             billed no     refused, DNS, TLS, connect or pool time-out, no time left
    ├── ConnectionLost      billed maybe  reset or cut after the request was sent
    ├── TimedOut            billed maybe  the deadline passed after the request was sent
    ├── Deserted            billed maybe  nobody listens to the stream any more
    ├── Malformed           billed maybe  a 200 that cannot be read, or has no usage
    └── ErrorAnswer         billed no     the provider answered with an error status; billed maybe where it
        │                                 said so in a stream that had begun
        ├── CallerError     4xx; another provider would say the same: no failover
        ├── BadCredentials  401, 403: ours; fail over and alert
        ├── SpendLimitReached   our account there has no money left; fail over and alert
        ├── RateLimited     429; cool down for `retry_after_s`
        ├── Overloaded      503, 529
        └── ServerError     any other 5xx, or a redirect

Messages name the provider and the kind of failure, never a key, a prompt or an answer.
"""

from typing import ClassVar, Literal

from providers.types import ProviderReply

Billed = Literal["no", "maybe", "yes"]


class ProviderError(Exception):
    """A call without an answer.

    Args:
        message: one plain sentence, fit for a log and for an error answer of ours.
        provider: its name, such as `openai`.
        kind: what happened, for programs, decisions and metrics; the class has a default.
        status: the HTTP status that was answered, if one was.
        code, param: the provider's own word for it, and the field of the request that it names.
        request_id: the provider's, for its support.
        retry_after_s: for how long the provider asks to be left alone.
        billed: whether the call costs money; the class has a default.
        reply: what had come of a streamed answer, where its usage had come too: its true cost is known.
    """

    kind: str = "provider_error"
    billed: Billed = "maybe"
    #: Whether it may say something of the model to others; an organization that would not wait does not.
    blames_model = True
    failover: ClassVar[bool] = True
    alert: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        kind: str | None = None,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        billed: Billed | None = None,
        reply: ProviderReply | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.kind = kind or self.kind
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.billed = billed or self.billed
        self.reply = reply


class NotSent(ProviderError):
    kind = "refused_connection"
    billed = "no"


class ConnectionLost(ProviderError):
    kind = "connection_lost"


class TimedOut(ProviderError):
    kind = "timed_out"


class Deserted(ProviderError):
    kind = "deserted"
    failover = False


class Malformed(ProviderError):
    kind = "malformed"


class ErrorAnswer(ProviderError):
    kind = "error_answer"
    billed = "no"


class CallerError(ErrorAnswer):
    kind = "bad_request"
    failover = False


class BadCredentials(ErrorAnswer):
    kind = "bad_credentials"
    alert = True


class SpendLimitReached(ErrorAnswer):
    kind = "spend_limit"
    alert = True


class RateLimited(ErrorAnswer):
    kind = "rate_limited"


class Overloaded(ErrorAnswer):
    kind = "overloaded"


class ServerError(ErrorAnswer):
    kind = "server_error"
