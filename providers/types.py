"""What every adapter takes and gives, whatever its provider's wire format is.

Usage has **inclusive** totals: `input_total` contains what was read from and written to the
provider's prompt cache, `output_total` contains reasoning. OpenAI counts so itself; the Anthropic
adapter adds its parts up. Mixing the two conventions is how a token is paid for twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Tier = Literal["small", "large"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
#: For how long a provider is asked to keep what comes before a mark in its prompt cache.
CacheLifetime = Literal["5m", "1h"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    cache: CacheLifetime | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by its address (the provider fetches it) or by its data.

    Args:
        data: in base64, with its `media_type`; None where there is a `url`.
        detail: how closely OpenAI's models look at it; None: as they like.
    """

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    cache: CacheLifetime | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish that a tool be called.

    Args:
        id: what the result names it by; as the provider gave it.
        arguments: JSON text, as the model wrote it; it need not be valid.
    """

    id: str
    name: str
    arguments: str
    cache: CacheLifetime | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool has answered, in a user's message."""

    call_id: str
    content: tuple[Text | Image, ...]
    is_error: bool = False
    cache: CacheLifetime | None = None


Part = Text | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of the conversation.

    Args:
        content: plain text, or parts in their order. Tool calls stand in the assistant's messages, after its
            text; tool results stand in the user's, before anything else.
    """

    role: Literal["system", "user", "assistant"]
    content: str | tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content, plain text too, as parts."""
        return (Text(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The content's own text, without tool calls and results."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to be called.

    Args:
        parameters: a JSON Schema of its arguments, which is an object.
        strict: whether the arguments must fit the schema exactly; None: the provider's default.
    """

    name: str
    parameters: Mapping[str, Any]
    description: str | None = None
    strict: bool | None = None
    cache: CacheLifetime | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model must, may or may not ask for a tool.

    Args:
        name: the one tool that it must ask for, with `mode` `named`.
    """

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; None: the provider's default. What only one provider has is honoured by
    it alone (`providers.features`)."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, whichever model that is.

    Args:
        labels: the answer must be exactly one of these.
        response_schema: a JSON Schema of an object that the answer must have. Not with `labels`.
        schema_name, schema_description: what the caller calls the schema, and says of it.
        schema_strict: whether the answer must keep to the schema exactly; None: the provider's default.
        json_object: the answer must be some JSON object. Not with `labels` or `response_schema`.
        parallel_tool_calls: whether one answer may ask for several tools; None: the provider's default.
        stop: the answer ends before any of these.
        top_logprobs: the caller wants log-probabilities, with this many alternatives (0 to 20) in each place.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    response_schema: Mapping[str, Any] | None = None
    schema_name: str | None = None
    schema_description: str | None = None
    schema_strict: bool | None = True
    json_object: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One call, to one model.

    Args:
        max_output_tokens: the bound on what the answer costs; reasoning counts towards it.
        want_confidence: whether the answer should come with a signal of how sure the model is:
            log-probabilities, or, where the model has none, what it says of itself. A stream, and an answer
            that may ask for a tool, never come with the latter: it would need another form of answer.
    """

    model: str
    prompt: Prompt
    max_output_tokens: int
    want_confidence: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; the totals are inclusive.

    Args:
        cache_read, cache_write_5m, cache_write_1h: parts of `input_total`.
        reasoning: part of `output_total`.
        service_tier: the price book's word for what came back: `standard`, `batch`, `flex`, `priority`,
            `fast`; anything else as the provider says it, and then it has no price.

    Raises:
        ValueError: a count is negative, or a part is larger than its total.
    """

    input_total: int
    output_total: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    service_tier: str = "standard"

    def __post_init__(self) -> None:
        cached = (self.cache_read, self.cache_write_5m, self.cache_write_1h)
        if min(*cached, self.reasoning, self.input_total, self.output_total) < 0:
            raise ValueError("a count of tokens is negative")
        if sum(cached) > self.input_total or self.reasoning > self.output_total:
            raise ValueError("a part of the tokens is larger than its total")


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the answer, with the likeliest alternatives in its place as (text, logprob)."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """An answer that came whole, with what it is billed by.

    Args:
        content: the text; of a structured answer its JSON text; of a refusal the model's words.
        parsed: the object that answers a `response_schema`, None where it is no valid JSON object.
        tokens: of `content` only; None where the model gives no log-probabilities.
        verbalized: how sure the model says it is, 0 to 1; None where it was not asked or did not say.
        model: as the provider names it, often a dated snapshot of the model asked for.
        raw_usage: the provider's own usage object, kept for reconciliation.
        tool_calls: the tools that the model asks for, in its order.
        refused: whether `content` is the words of a refusal.
        stop_sequence: which of the request's stop sequences ended the answer, where the provider says so.
        raw_logprobs: OpenAI's `logprobs` object, where the caller wanted log-probabilities.
    """

    content: str
    parsed: Any | None
    finish_reason: FinishReason
    usage: Usage
    tokens: tuple[Token, ...] | None
    verbalized: float | None
    request_id: str | None
    model: str
    raw_usage: Mapping[str, Any]
    tool_calls: tuple[ToolCall, ...] = ()
    refused: bool = False
    stop_sequence: str | None = None
    raw_logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The first item of a streamed answer, before any content.

    Args:
        model: as the provider names it.
        usage: what the provider says of the input, where it says so at the start (Anthropic does).
    """

    model: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next words of a streamed answer.

    Args:
        refused: whether they belong to a refusal.
        raw_logprobs: OpenAI's `logprobs` object of these words, where the caller wanted it.
    """

    text: str
    refused: bool = False
    raw_logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a tool call in a streamed answer.

    Args:
        index: which of the answer's tool calls, from 0.
        id, name: in the call's first piece alone.
        arguments: the next characters of its JSON text.
    """

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


#: A piece of a streamed answer's content.
Delta = TextDelta | ToolCallDelta
#: A streamed answer: its start, its content, and at last the whole of it.
StreamItem = StreamStart | Delta | ProviderReply
