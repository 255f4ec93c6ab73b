"""The fault table itself: what a provider can do instead of answering, and what it means."""

from dataclasses import dataclass

PROVIDERS = ("openai", "anthropic")


def other(provider: str) -> str:
    """Who is asked when `provider` fails."""
    return next(name for name in PROVIDERS if name != provider)


@dataclass(frozen=True, slots=True)
class End:
    """How the failing attempt ends.

    Args:
        kind: as it is recorded.
        charged: its whole hold is, for it may be billed; else nothing is.
        begun: whether the client has got words of it, so that no other model may be asked.
    """

    kind: str
    charged: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What a provider does instead of answering.

    Args:
        mode: the sandbox's name for it; empty: it refuses connections.
        providers: who fails so.
        timed: whether it takes a timer to know of it.
        anthropic_stream: where Anthropic's streams differ.
    """

    name: str
    mode: str
    plain: End
    stream: End
    providers: tuple[str, ...] = PROVIDERS
    timed: bool = False
    anthropic_stream: End | None = None

    def end(self, provider: str, *, stream: bool) -> End:
        if stream and provider == "anthropic" and self.anthropic_stream is not None:
            return self.anthropic_stream
        return self.stream if stream else self.plain


def known(name: str, mode: str, kind: str, *providers: str) -> Fault:
    """Known before anything was answered, and never billed."""
    return Fault(name, mode, End(kind), End(kind), providers or PROVIDERS)


LOST, LOST_AMID = End("connection_lost", charged=True), End("connection_lost", charged=True, begun=True)
UNREADABLE, UNREADABLE_AMID = End("malformed", charged=True), End("malformed", charged=True, begun=True)
LATE, SILENT = End("timed_out", charged=True), End("no_first_content", charged=True)
FAULTS = (
    known("refuse", "", "refused_connection"),
    Fault("reset", "reset", LOST, LOST),
    Fault("hang", "hang", LATE, SILENT, timed=True),
    Fault("trickled keep-alives", "trickle", LATE, SILENT, timed=True),
    known("429", "429:1", "rate_limited"),
    known("500", "500", "server_error"),
    known("503", "503", "overloaded"),
    known("529", "529", "overloaded"),
    known("401", "401", "bad_credentials"),
    *(
        known(f"spend limit: {code}", f"429-spend-limit:{code}", "spend_limit", "openai")
        for code in ("insufficient_quota", "project_spend_limit_exceeded")
    ),
    *(
        known(f"spend limit: {code}", f"429-spend-limit:{code}", "spend_limit", "anthropic")
        for code in ("enforced_spend_limit_reached", "contract_spend_limit_reached")
    ),
    known("spend limit: 400", "400-spend-limit", "spend_limit"),
    known("spend limit: 402", "402", "spend_limit"),
    Fault("malformed", "malformed", UNREADABLE, UNREADABLE),
    Fault("truncated", "truncate", LOST, LOST_AMID),
    Fault("cut before the first word", "cut:0", LOST, LOST),
    *(Fault(f"cut at chunk {at}", f"cut:{at}", LOST, LOST_AMID) for at in (1, 2, 5)),
    Fault("cut cleanly at chunk 3", "cutclean:3", UNREADABLE, UNREADABLE_AMID),
    # Anthropic's begins with a usage, so that its lack is known at once.
    Fault("no usage", "nousage", UNREADABLE, UNREADABLE_AMID, anthropic_stream=UNREADABLE),
    Fault(
        "error event before the first word",
        "error:0",
        End("server_error"),
        End("server_error", charged=True),
        anthropic_stream=End("overloaded", charged=True),
    ),
    Fault(
        "error event at chunk 3",
        "error:3",
        End("server_error"),
        End("server_error", charged=True, begun=True),
        anthropic_stream=End("overloaded", charged=True, begun=True),
    ),
)
