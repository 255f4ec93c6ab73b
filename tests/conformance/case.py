"""What a case is: a call as a user would write it, and what is known of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.conformance.said import Check, speaks

Client = Literal["openai", "anthropic"]
CLIENTS: tuple[Client, ...] = ("openai", "anthropic")
#: plain: `create`; stream: `create(stream=True)`, chunk by chunk; helper: the client's own `stream(…)`.
Way = Literal["plain", "stream", "helper"]
WAYS: tuple[Way, ...] = ("plain", "stream", "helper")
Call = Mapping[str, Any]


def call(**parameters: Any) -> Call:
    """The parameters of a call, but for its `model`."""
    return parameters


@dataclass(frozen=True)
class Case:
    """A feature, by an example.

    Args:
        client: whose call it is, and whose models answer it.
        holds: what is true of any model's answer.
        parsed: the call gives classes, and the client makes objects of them: `parse(…)`, `stream(…)`.
        results: what the caller's tools answer; the conversation goes on until the model has no more calls.
        refused: the other provider's models cannot honour it, and the gateway names this parameter.
        twin: the same call in the other client's format; None: the other's case of the same name.
        marker: makes the sandbox do what a model does by itself (`docs/sandbox.md`).
        live: False: only the sandbox can be made to do it.
        ours: it is the gateway's own, so no provider can be asked for it.
    """

    feature: str
    client: Client
    call: Call
    holds: Check = speaks
    ways: tuple[Way, ...] = WAYS
    parsed: bool = False
    results: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    twin: Call | None = None
    marker: str = ""
    live: bool = True
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.client}: {self.feature}"

    @property
    def other(self) -> Client:
        return "anthropic" if self.client == "openai" else "openai"

    def twin_among(self, cases: Iterable["Case"]) -> "Case":
        """The same in the other client's format. Raises LookupError where there is none."""
        if self.twin is not None:
            return Case(self.feature, self.other, self.twin, marker=self.marker)
        found = [case for case in cases if case.client == self.other and case.feature == self.feature]
        if not found:
            raise LookupError(f"{self} has neither a twin nor a parameter that the other provider refuses")
        return found[0]


@dataclass(frozen=True)
class Refusal:
    """A call that is refused before anything is paid.

    Args:
        error: the client's class.
        param: how the gateway names what is wrong; None: nothing in the request is.
        alike: the provider refuses it in the same way; else it is the gateway that does not offer it.
        key: another API key than the right one.
        model: another model than the usual one.
    """

    feature: str
    client: Client
    call: Call
    error: str = "BadRequestError"
    status: int = 400
    param: str | None = None
    alike: bool = False
    key: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        return f"{self.client}: {self.feature}"
