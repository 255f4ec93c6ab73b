"""What a call costs at most, and what it has cost: exact, in US dollars, without I/O.

A `PriceRow` holds a model's rates from an instant on. Rates may depend on the length of the prompt: each
`Band` applies to ALL tokens of a request whose total input is larger than `from_tokens`, as both providers
bill it. Nothing is rounded here; the ledger rounds up once, in euro.

The promise that holds rest on: for every usage with `input_total` ≤ `input_tokens_max` and `output_total` ≤
`output_tokens_max`, `true_cost_usd` ≤ `worst_case_usd` of the same row.
"""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.answers import arguments_object, instruction, wrapper_schema
from providers.types import Image, Part, ProviderRequest, Text, Tool, ToolCall, Usage

#: Tokens around each message: OpenAI's documented count is 3, and 3 once for the answer's start. Anthropic's
#: is of the same size. More than double it, so that a change of format does no harm.
TOKENS_PER_MESSAGE = 8
TOKENS_PER_REQUEST = 64
#: Around each part, tool call, result and definition.
TOKENS_PER_PART = 32
#: What a provider adds of its own where there are tools, or where the answer is structured. Anthropic
#: documents up to 804 tokens of system prompt for tools (Claude Opus 4.7), and that structured output adds
#: such a prompt.
TOKENS_PER_SPECIAL_REQUEST = 1_000
#: The most that a picture costs, by the `detail` that is asked for; None: any other.
#: OpenAI: as it is, a picture may have 30,000 patches of 32 × 32 pixels (more are refused; smaller limits for
#: older models), each up to 2.46 tokens. Closely looked at, it costs most at gpt-4o-mini: 2,833 tokens and
#: 5,667 for each of up to 8 tiles. With low detail: 1,536 patches of 2.46 tokens at models that have no such
#: detail; 2,833 tokens at gpt-4o-mini.
#: Anthropic: patches of 28 × 28 pixels, after it was reduced to 2,576 pixels at its longer side.
IMAGE_TOKENS: dict[str, dict[str | None, int]] = {
    "openai": {None: 73_800, "high": 2_833 + 8 * 5_667, "low": 3_779},
    "anthropic": {None: 92 * 92},
}


class Unpriced(LookupError):
    """No row says what this model costs on this service tier: it is refused, never priced at 0."""

    def __init__(self, provider: str, model: str, service_tier: str) -> None:
        super().__init__(f"{provider} {model} ({service_tier}) has no price")
        self.provider = provider
        self.model = model
        self.service_tier = service_tier


@dataclass(frozen=True, slots=True)
class Band:
    """Rates in US dollars per million tokens.

    Args:
        from_tokens: the band applies where `input_total` is larger than this; the first band (0) also to 0.
    """

    from_tokens: int
    input: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A model's rates from `valid_from` on; `bands` ascend by `from_tokens`, and the first begins at 0."""

    id: int
    provider: str
    model: str
    service_tier: str
    valid_from: datetime
    bands: tuple[Band, ...]


class PriceBook:
    """All price rows. The newest `valid_from` that has come wins; of two with the same, the later row."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self._rows: dict[tuple[str, str, str], list[PriceRow]] = {}
        for row in sorted(rows, key=lambda row: (row.valid_from, row.id)):
            self._rows.setdefault((row.provider, row.model, row.service_tier), []).append(row)

    def at(self, provider: str, model: str, service_tier: str, instant: datetime) -> PriceRow:
        """The row in force at `instant` (aware).

        Raises:
            Unpriced: there is none. A service tier that we do not know has none.
        """
        rows = self._rows.get((provider, model, service_tier), [])
        count = bisect_right(rows, instant, key=lambda row: row.valid_from)
        if count == 0:
            raise Unpriced(provider, model, service_tier)
        return rows[count - 1]

    def rows(self, provider: str, model: str, service_tier: str) -> tuple[PriceRow, ...]:
        """All rows of a model on a tier, oldest first."""
        return tuple(self._rows.get((provider, model, service_tier), ()))

    def models(self, provider: str) -> frozenset[str]:
        """The models of `provider` that have any price."""
        return frozenset(model for name, model, _ in self._rows if name == provider)


def true_cost_usd(row: PriceRow, usage: Usage) -> Decimal:
    """What `usage` costs by `row`, exact. Reasoning is part of the output and billed as such."""
    band = band_for(row, usage.input_total)
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    per_million = (
        band.input * (usage.input_total - cached)
        + band.cache_read * usage.cache_read
        + band.cache_write_5m * usage.cache_write_5m
        + band.cache_write_1h * usage.cache_write_1h
        + band.output * usage.output_total
    )
    return per_million.scaleb(-6)


def worst_case_usd(row: PriceRow, *, input_tokens_max: int, output_tokens_max: int) -> Decimal:
    """The most that a call within both bounds can cost by `row`, exact.

    Every input token is taken at the dearest input rate and every output token at the dearest output rate of
    any band that can be reached: a provider may write its cache unasked, and a longer prompt need not be a
    dearer one.
    """
    reachable = [row.bands[0], *(band for band in row.bands[1:] if band.from_tokens < input_tokens_max)]
    dearest_input = max(_dearest_input(band) for band in reachable)
    dearest_output = max(band.output for band in reachable)
    return (dearest_input * input_tokens_max + dearest_output * output_tokens_max).scaleb(-6)


def band_for(row: PriceRow, input_total: int) -> Band:
    """The rates of a request with so many input tokens in all."""
    for band in reversed(row.bands[1:]):
        if input_total > band.from_tokens:
            return band
    return row.bands[0]


def _dearest_input(band: Band) -> Decimal:
    return max(band.input, band.cache_read, band.cache_write_5m, band.cache_write_1h)


def input_tokens_bound(request: ProviderRequest, *, provider: str) -> int:
    """More tokens than `provider` counts for `request`, whichever way its adapter asks (`providers.answers`).

    A token stands for at least one byte of UTF-8, so the bytes of everything that is sent are a bound; what
    is JSON is counted twice, as we send it and as the provider may write it out for its model. The stated
    constants are for what the providers add themselves, and for pictures.
    """
    prompt = request.prompt
    tokens = TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE * (len(prompt.messages) + 1)
    for message in prompt.messages:
        tokens += sum(_part_bound(part, provider) for part in message.parts)
    tokens += _text_bytes(instruction(request, structured=False) or "")
    if prompt.tools:
        tokens += TOKENS_PER_SPECIAL_REQUEST + sum(_tool_bound(tool) for tool in prompt.tools)
    if request.want_confidence or prompt.response_schema is not None or prompt.json_object:
        tokens += TOKENS_PER_SPECIAL_REQUEST + _json_bytes(wrapper_schema(request))
        tokens += _text_bytes((prompt.schema_name or "") + (prompt.schema_description or ""))
    return tokens


def _part_bound(part: Part, provider: str) -> int:
    match part:
        case Text():
            tokens = _text_bytes(part.text)
        case Image():
            tokens = _image_bound(part, provider) + _text_bytes(part.url or "")
        case ToolCall():
            # A large number may be longer as the object has it than as the model wrote it.
            tokens = _text_bytes(part.id + part.name + part.arguments)
            tokens += _json_bytes(arguments_object(part.arguments))
        case _:
            tokens = _text_bytes(part.call_id)
            tokens += sum(_part_bound(each, provider) for each in part.content)
    return tokens + TOKENS_PER_PART


def _image_bound(image: Image, provider: str) -> int:
    bounds = IMAGE_TOKENS.get(provider, IMAGE_TOKENS["openai"])
    return bounds.get(image.detail, bounds[None])


def _tool_bound(tool: Tool) -> int:
    written = {"name": tool.name, "description": tool.description or "", "parameters": tool.parameters}
    return TOKENS_PER_PART + _json_bytes(written)


def _json_bytes(value: Any) -> int:
    """The bytes of `value` as JSON, twice: once with every character that is not ASCII escaped."""
    return len(json.dumps(value)) + _text_bytes(json.dumps(value, ensure_ascii=False))


def _text_bytes(text: str) -> int:
    """The bytes of `text` in UTF-8, as it is or in NFKC, as some tokenizers take it (U+FDFA: 3 → 33)."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii():
        return size
    return max(size, len(unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")))
