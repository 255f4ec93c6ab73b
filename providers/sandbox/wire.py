"""What both wire formats have in common: a call that was understood, or the reason why it was not."""

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from providers.sandbox.brain import Answer, Question
from providers.sandbox.catalogue import Model
from providers.sandbox.switches import Switches, Wishes, wishes_in
from providers.sandbox.tokens import prompt_tokens

#: Ids are unique in a process and unlikely to meet those of another.
_PREFIX = secrets.token_hex(6)
_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """An id such as `chatcmpl-9f86d081884c00000001`."""
    return f"{prefix}{_PREFIX}{next(_numbers):08x}"


class Refused(Exception):
    """A call that the provider answers with an error, by the caller's fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Call:
    """One completion that is asked for.

    `texts` are all texts that were sent, for counting the prompt; `top_logprobs` is None where no
    log-probabilities are wanted.
    """

    model: Model
    system: str
    text: str
    texts: list[str]
    output_tokens_max: int
    schema: str | None = None
    stop: tuple[str, ...] = ()
    reasoning: int = 0
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    service_tier: str = "default"

    @property
    def input_tokens(self) -> int:
        return prompt_tokens(self.texts)

    def wishes(self, header: str | None) -> Wishes:
        return wishes_in("\n".join(self.texts), self.model, header)

    def question(self, wishes: Wishes, switches: Switches) -> Question:
        """What the model is asked, with what this call or all calls force upon its answer."""
        return Question(
            model=self.model,
            system=self.system,
            text=self.text,
            schema=self.schema,
            stop=self.stop,
            output_tokens_max=self.output_tokens_max,
            reasoning=self.reasoning,
            confidence=switches.confidence if wishes.confidence is None else wishes.confidence,
            content=switches.content if wishes.content is None else wishes.content,
            length=wishes.tokens,
        )


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class Wire(Protocol):
    """A provider's wire format; the modules `openai_wire` and `anthropic_wire` are the two."""

    PROVIDER: str
    REQUEST_ID_HEADER: str

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raises Refused where the key is missing or wrong; names of `headers` are in lower case."""

    def read(self, body: Any) -> Call:
        """The call in `body`. Raises Refused as the provider would."""

    def usage(self, call: Call, answer: Answer) -> Mapping[str, Any]:
        """The usage object of an answer."""

    def completion(self, call: Call, answer: Answer, usage: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body of a plain answer."""

    def events(self, call: Call, answer: Answer, usage: Mapping[str, Any]) -> Iterator[bytes]:
        """The events of a stream, each whole."""

    def keep_alive(self) -> bytes:
        """An event without content."""

    def stream_error(self) -> bytes:
        """An error event, sent after the 200."""

    def refusal(self, refused: Refused, request_id: str) -> ErrorAnswer:
        """The answer to a call by whose fault there is none."""

    def failure(self, mode: str, retry_after: str | None, request_id: str) -> ErrorAnswer:
        """The error answer called `mode`, such as `500` or `429-spend-limit`."""

    def models(self) -> Mapping[str, Any]:
        """The list of models."""


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which some have a `text`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def whole_number(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    """The whole number called `name` in `body`, None where it is missing. Raises Refused out of bounds."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise Refused(
            400, f"{name}: must be a whole number from {low} to {high}", param=name, code="invalid_value"
        )
    return value
