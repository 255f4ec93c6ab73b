"""What both wire formats have in common: a call that was understood, or the reason why it was not."""

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from providers.sandbox.brain import Answer, Question
from providers.sandbox.caching import Cached, Segment
from providers.sandbox.catalogue import Model
from providers.sandbox.switches import Switches, Wishes, targets_of, wishes_in
from providers.sandbox.tokens import prompt_tokens
from providers.sandbox.tools import Choice, Tool, ToolCall, calls_for

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


@dataclass(slots=True)
class Call:
    """One completion that is asked for.

    Args:
        texts: all texts that were sent, for counting the prompt.
        added_tokens: what the prompt has besides its texts: images, and what the provider adds for tools.
        asked: the text of the last message, where it is the user's turn; else empty.
        choices: how many answers are wanted.
        top_logprobs: None where no log-probabilities are wanted.
        segments: the prompt from its beginning, where parts of it are to be cached; else empty.
        segments_least: how many tokens a cached prefix has at least.
    """

    model: Model
    system: str
    text: str
    texts: list[str]
    output_tokens_max: int
    added_tokens: int = 0
    asked: str = ""
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice()
    schema: str | None = None
    json_object: bool = False
    stop: tuple[str, ...] = ()
    choices: int = 1
    reasoning: int = 0
    stream: bool = False
    include_usage: bool = False
    obfuscated: bool = False
    top_logprobs: int | None = None
    service_tier: str = "default"
    segments: tuple[Segment, ...] = ()
    segments_least: int = 0

    @property
    def input_tokens(self) -> int:
        return prompt_tokens(self.texts) + self.added_tokens

    def wishes(self, header: str | None) -> Wishes:
        return wishes_in("\n".join(self.texts), self.model, self.stream, header)

    def questions(self, wishes: Wishes, switches: Switches) -> list[Question]:
        """What the model is asked, once for each answer, with what this call or all calls force upon it.

        Raises:
            BadSwitch: a marker asks for a tool that is not there.
        """
        calls: tuple[ToolCall, ...] = ()
        if self.tools:
            calls = calls_for(self.tools, self.choice, self.asked, targets_of(self.model, self.stream))
        return [
            Question(
                model=self.model,
                system=self.system,
                text=self.text,
                calls=calls,
                schema=self.schema,
                json_object=self.json_object,
                stop=self.stop,
                output_tokens_max=self.output_tokens_max,
                reasoning=self.reasoning,
                confidence=switches.confidence if wishes.confidence is None else wishes.confidence,
                content=switches.content if wishes.content is None else wishes.content,
                length=wishes.tokens,
                refused=wishes.refuse,
                sample=sample,
            )
            for sample in range(self.choices)
        ]


class Event(NamedTuple):
    """A part of a stream: its bytes, and how many tokens of output it carries: 0 where it has no content."""

    data: bytes
    tokens: int = 0


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

    def usage(self, call: Call, *, output: int, reasoning: int, cached: Cached) -> Mapping[str, Any]:
        """The usage object of an answer with so many tokens of `output`, which includes `reasoning`."""

    def completion(
        self, call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        """The body of a plain answer; without its usage where that is None."""

    def events(
        self, call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None
    ) -> Iterator[Event]:
        """The events of a stream, each whole; without usage where that is None."""

    def keep_alive(self) -> bytes:
        """An event without content."""

    def stream_error(self, request_id: str) -> bytes:
        """An error event, sent after the 200."""

    def refusal(self, refused: Refused, request_id: str) -> ErrorAnswer:
        """The answer to a call by whose fault there is none."""

    def failure(self, mode: str, argument: str | None, request_id: str) -> ErrorAnswer:
        """The error answer called `mode`, such as `500` or `429-spend-limit`.

        Args:
            argument: the code of a spend limit; of any other the seconds of its Retry-After.
        """

    def models(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        """The list of models, or the page of it that `query` asks for."""

    def model(self, name: str) -> Mapping[str, Any]:
        """One model. Raises Refused where there is none of that name."""
