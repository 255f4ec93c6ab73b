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


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One call, to one model.

    Args:
        max_output_tokens: the bound on what the answer costs; reasoning counts towards it.
        labels: the answer must be exactly one of these.
        response_schema: a JSON Schema of an object that the answer must have. Not with `labels`.
        want_confidence: whether the answer should come with a signal of how sure the model is:
            log-probabilities, or, where the model has none, what it says of itself.
    """

    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    labels: tuple[str, ...] = ()
    response_schema: Mapping[str, Any] | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
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
