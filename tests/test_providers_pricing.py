"""Cost to the nano-euro, from a provider's own usage object to the euro on the record."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigov.money import round_up
from providers.adapters import anthropic_wire, openai_wire
from providers.answers import ask
from providers.price_source import CONTEXTS, source_rows
from providers.pricing import (
    Band,
    PriceBook,
    PriceRow,
    Unpriced,
    input_tokens_bound,
    true_cost_usd,
    worst_case_usd,
)
from providers.types import (
    Image,
    Message,
    Part,
    Prompt,
    ProviderRequest,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)

EUR_PER_USD = Decimal("0.8639")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BASE = datetime(2020, 1, 1, tzinfo=UTC)


@cache
def book() -> PriceBook:
    rows = enumerate(source_rows(), start=1)
    return PriceBook(
        PriceRow(number, row.provider, row.model, row.service_tier, row.valid_from, row.bands)
        for number, row in rows
    )


def gpt(
    prompt: int,
    completion: int,
    *,
    cached: int = 0,
    written: int = 0,
    reasoning: int = 0,
    tier: str = "default",
) -> dict[str, Any]:
    """OpenAI's answer, as far as money goes."""
    return {
        "service_tier": tier,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        },
    }


def claude(fresh: int, output: int, **fields: Any) -> dict[str, Any]:
    """Anthropic's answer, as far as money goes."""
    return {"usage": {"input_tokens": fresh, "output_tokens": output, "service_tier": "standard", **fields}}


def written(five_minutes: int, one_hour: int, *, read: int = 0) -> dict[str, Any]:
    return {
        "cache_creation_input_tokens": five_minutes + one_hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": one_hour},
        "cache_read_input_tokens": read,
    }


def read_usage(provider: str, answer: Mapping[str, Any]) -> Usage:
    if provider == "openai":
        return openai_wire.usage(answer["usage"], service_tier=answer["service_tier"])
    return anthropic_wire.usage(answer["usage"])


# Each sum stands beside its line: tokens × dollars per million, as the price lists have them.
CASES = [
    # 1000×0.15 + 100×0.60 = 210
    ("openai", "gpt-4o-mini", "2026-11-22", gpt(1000, 100), "0.00021", "0.000181419"),
    # 86×0.15 + 1920×0.075 + 300×0.60 = 336.9
    ("openai", "gpt-4o-mini", "2026-11-22", gpt(2006, 300, cached=1920), "0.0003369", "0.000291048"),
    # 1500×2.50 + 500×10 = 8750
    ("openai", "gpt-4o", "2026-11-22", gpt(1500, 500), "0.00875", "0.007559125"),
    # 476×2.50 + 1024×1.25 + 10×10 = 2570
    ("openai", "gpt-4o", "2026-11-22", gpt(1500, 10, cached=1024), "0.00257", "0.002220223"),
    # 300×1.25 + 1500×10 = 15375: reasoning is part of the output
    ("openai", "gpt-5", "2026-11-22", gpt(300, 1500, reasoning=1200), "0.015375", "0.013282463"),
    # 300×0.25 + 100×0.125 + 40×1 = 127.5
    (
        "openai",
        "gpt-4o-mini",
        "2026-11-22",
        gpt(400, 40, cached=100, tier="priority"),
        "0.0001275",
        "0.000110148",
    ),
    # 488×0.625 + 512×0.0625 + 200×5 = 1337
    ("openai", "gpt-5", "2026-11-22", gpt(1000, 200, cached=512, tier="flex"), "0.001337", "0.001155035"),
    # 1000×1.25 + 100×5 = 1750
    ("openai", "gpt-4o", "2026-11-22", gpt(1000, 100, tier="batch"), "0.00175", "0.001511825"),
    # 600×0.075 + 400×0.075 + 100×0.30 = 105: the batch table has no cached rate, so it stays standard
    (
        "openai",
        "gpt-4o-mini",
        "2026-11-22",
        gpt(1000, 100, cached=400, tier="batch"),
        "0.000105",
        "0.000090710",
    ),
    # 3000×5 + 2000×0.50 + 5000×6.25 + 1000×30 = 77250, the day before the price fell
    (
        "openai",
        "gpt-5.6-sol",
        "2026-08-20",
        gpt(10_000, 1000, cached=2000, written=5000),
        "0.07725",
        "0.066736275",
    ),
    # 3000×4 + 2000×0.40 + 5000×5 + 1000×20 = 57800, the day that it fell
    (
        "openai",
        "gpt-5.6-sol",
        "2026-08-21",
        gpt(10_000, 1000, cached=2000, written=5000),
        "0.0578",
        "0.049933420",
    ),
    # 272000×4 + 10×20 = 1088200, the longest prompt of the first band
    ("openai", "gpt-5.6-sol", "2026-11-22", gpt(272_000, 10), "1.0882", "0.940095980"),
    # 272001×8 + 10×30 = 2176308: one token more, and all are dearer
    ("openai", "gpt-5.6-sol", "2026-11-22", gpt(272_001, 10), "2.176308", "1.880112482"),
    # 1×0.15 + 1×0.60 = 0.75: rounded up to the nano-euro, once
    ("openai", "gpt-4o-mini-2024-07-18", "2026-11-22", gpt(1, 1), "0.00000075", "0.000000648"),
    ("openai", "gpt-4o-mini", "2026-11-22", gpt(0, 0), "0", "0.000000000"),
    # 160×10 + 100×40 = 5600, and 160×2 + 100×8 = 1120 from 2025-06-10 on
    ("openai", "o3", "2025-06-09", gpt(160, 100), "0.0056", "0.004837840"),
    ("openai", "o3", "2025-06-10", gpt(160, 100), "0.00112", "0.000967568"),
    # 1000×1 + 100×5 = 1500
    ("anthropic", "claude-haiku-4-5", "2026-11-22", claude(1000, 100), "0.0015", "0.001295850"),
    # 50×1 + 2000×0.10 + 20×5 = 350
    (
        "anthropic",
        "claude-haiku-4-5",
        "2026-11-22",
        claude(50, 20, cache_read_input_tokens=2000),
        "0.00035",
        "0.000302365",
    ),
    # 10×1 + 1500×1.25 + 5×5 = 1910
    (
        "anthropic",
        "claude-haiku-4-5",
        "2026-11-22",
        claude(10, 5, **written(1500, 0)),
        "0.00191",
        "0.001650049",
    ),
    # 10×1 + 1500×2 + 5×5 = 3035
    (
        "anthropic",
        "claude-haiku-4-5",
        "2026-11-22",
        claude(10, 5, **written(0, 1500)),
        "0.003035",
        "0.002621937",
    ),
    # 7×1 + 500×1.25 + 1000×2 + 3000×0.10 + 111×5 = 3487
    (
        "anthropic",
        "claude-haiku-4-5-20251001",
        "2026-11-22",
        claude(7, 111, **written(500, 1000, read=3000)),
        "0.003487",
        "0.003012420",
    ),
    # 1×1 + 800×1.25 + 1×5 = 1006: without a split all writes are five-minute ones
    (
        "anthropic",
        "claude-haiku-4-5",
        "2026-11-22",
        claude(1, 1, cache_creation_input_tokens=800),
        "0.001006",
        "0.000869084",
    ),
    # 150000×3 + 30000×0.30 + 20000×3.75 + 1000×15 = 549000: 200,000 in all, the last of the first band
    (
        "anthropic",
        "claude-sonnet-4-5",
        "2026-11-22",
        claude(150_000, 1000, **written(20_000, 0, read=30_000)),
        "0.549",
        "0.474281100",
    ),
    # 150001×6 + 30000×0.60 + 20000×7.50 + 1000×22.50 = 1090506: what the cache holds counts for the band
    (
        "anthropic",
        "claude-sonnet-4-5",
        "2026-11-22",
        claude(150_001, 1000, **written(20_000, 0, read=30_000)),
        "1.090506",
        "0.942088134",
    ),
    # 1000×0.50 + 100×2.50 = 750
    (
        "anthropic",
        "claude-haiku-4-5",
        "2026-11-22",
        claude(1000, 100, service_tier="batch"),
        "0.00075",
        "0.000647925",
    ),
    # 200001×10 + 10×37.50 = 2000385, and 200001×5 + 10×25 = 1000255 since long prompts cost the same
    ("anthropic", "claude-opus-4-6", "2026-03-12", claude(200_001, 10), "2.000385", "1.728132602"),
    ("anthropic", "claude-opus-4-6", "2026-03-13", claude(200_001, 10), "1.000255", "0.864120295"),
    # 100×10 + 10×50 = 1500, in fast mode
    ("anthropic", "claude-opus-4-8", "2026-11-22", claude(100, 10, speed="fast"), "0.0015", "0.001295850"),
    # 100×3 + 2000×15 = 30300: thinking is part of the output
    (
        "anthropic",
        "claude-sonnet-4-5",
        "2026-11-22",
        claude(100, 2000, output_tokens_details={"thinking_tokens": 1500}),
        "0.0303",
        "0.026176170",
    ),
]


@pytest.mark.parametrize(("provider", "model", "day", "answer", "usd", "eur"), CASES)
def test_a_call_costs_what_the_price_list_says_to_the_nano_euro(
    provider: str, model: str, day: str, answer: Mapping[str, Any], usd: str, eur: str
) -> None:
    usage = read_usage(provider, answer)
    instant = datetime.fromisoformat(day).replace(tzinfo=UTC)
    cost_usd = true_cost_usd(book().at(provider, model, usage.service_tier, instant), usage)
    assert cost_usd == Decimal(usd)
    assert f"{round_up(cost_usd * EUR_PER_USD):.9f}" == eur


def test_the_price_of_a_day_begins_at_its_midnight_in_utc() -> None:
    last = book().at("openai", "o3", "standard", datetime(2025, 6, 9, 23, 59, 59, 999_999, tzinfo=UTC))
    first = book().at("openai", "o3", "standard", datetime(2025, 6, 10, tzinfo=UTC))
    assert (last.bands[0].input, first.bands[0].input) == (Decimal(10), Decimal(2))


@pytest.mark.parametrize(
    ("provider", "model", "service_tier", "instant"),
    [
        ("openai", "gpt-unheard-of", "standard", NOW),
        ("anthropic", "gpt-4o", "standard", NOW),
        ("openai", "gpt-4o", "scale", NOW),
        ("anthropic", "claude-haiku-4-5", "standard:us", NOW),
        ("anthropic", "claude-haiku-4-5", "priority", NOW),
        ("openai", "gpt-4o", "batch", datetime(2026, 10, 13, tzinfo=UTC)),
        ("openai", "gpt-4o-audio-preview", "standard", NOW),
        ("openai", "gpt-image-1", "standard", NOW),
        ("openai", "text-embedding-3-small", "standard", NOW),
    ],
)
def test_what_has_no_price_is_refused_and_never_free(
    provider: str, model: str, service_tier: str, instant: datetime
) -> None:
    with pytest.raises(Unpriced, match=f"{provider} {model}"):
        book().at(provider, model, service_tier, instant)


def row(number: int, valid_from: datetime, rate: str) -> PriceRow:
    price = Decimal(rate)
    return PriceRow(
        number, "openai", "m", "standard", valid_from, (Band(0, price, price, price, price, price),)
    )


def test_the_newest_valid_row_wins_and_of_two_with_one_date_the_later_row() -> None:
    june, july = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    rows = [row(3, june, "3"), row(2, july, "2"), row(1, june, "1"), row(4, BASE, "4")]
    prices = PriceBook(rows)
    assert prices.at("openai", "m", "standard", datetime(2026, 5, 31, tzinfo=UTC)).id == 4
    assert prices.at("openai", "m", "standard", june).id == 3
    assert prices.at("openai", "m", "standard", NOW).id == 2
    assert [each.id for each in prices.rows("openai", "m", "standard")] == [4, 1, 3, 2]
    assert prices.models("openai") == {"m"}
    assert prices.models("anthropic") == frozenset()


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_read": 6, "cache_write_5m": 3, "cache_write_1h": 2},
        {"reasoning": 6},
        {"cache_read": -1},
        {"reasoning": -1},
    ],
)
def test_parts_beyond_their_total_are_no_usage(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        Usage(input_total=10, output_total=5, **fields)


counts = st.integers(min_value=0, max_value=400_000)
rates = st.decimals(min_value=0, max_value=100, places=4, allow_nan=False)


@st.composite
def usages(draw: st.DrawFn, limit: int = 400_000) -> Usage:
    total = draw(st.integers(min_value=0, max_value=limit))
    cuts = sorted(draw(st.integers(min_value=0, max_value=total)) for _ in range(3))
    output = draw(st.integers(min_value=0, max_value=100_000))
    return Usage(
        input_total=total,
        output_total=output,
        cache_read=cuts[0],
        cache_write_5m=cuts[1] - cuts[0],
        cache_write_1h=cuts[2] - cuts[1],
        reasoning=draw(st.integers(min_value=0, max_value=output)),
    )


@st.composite
def price_rows(draw: st.DrawFn) -> PriceRow:
    starts = draw(st.lists(st.integers(min_value=1, max_value=400_000), max_size=4, unique=True))
    bands = tuple(Band(start, *(draw(rates) for _ in range(5))) for start in (0, *sorted(starts)))
    return PriceRow(1, "openai", "m", "standard", BASE, bands)


@given(price=price_rows(), usage=usages(), more_input=counts, more_output=counts)
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    price: PriceRow, usage: Usage, more_input: int, more_output: int
) -> None:
    worst = worst_case_usd(
        price,
        input_tokens_max=usage.input_total + more_input,
        output_tokens_max=usage.output_total + more_output,
    )
    assert true_cost_usd(price, usage) <= worst


@given(price=price_rows(), output=counts)
def test_the_worst_case_is_reached_by_a_usage_and_so_is_no_larger_than_it_must_be(
    price: PriceRow, output: int
) -> None:
    # One band: the dearest kind of input for all tokens is a usage like any other.
    flat = replace(price, bands=price.bands[:1])
    kinds: list[dict[str, Any]] = [
        {},
        {"cache_read": 1000},
        {"cache_write_5m": 1000},
        {"cache_write_1h": 1000},
    ]
    costs = [true_cost_usd(flat, Usage(input_total=1000, output_total=output, **kind)) for kind in kinds]
    assert max(costs) == worst_case_usd(flat, input_tokens_max=1000, output_tokens_max=output)


def test_a_band_counts_for_the_worst_case_only_where_the_prompt_can_reach_it() -> None:
    price = book().at("anthropic", "claude-sonnet-4-5", "standard", NOW)
    assert worst_case_usd(price, input_tokens_max=200_000, output_tokens_max=0) == Decimal("1.2")
    assert worst_case_usd(price, input_tokens_max=200_001, output_tokens_max=1) == Decimal("2.4000345")


ORACLE_MODELS = [
    ("openai", "gpt-4o-mini", "standard"),
    ("openai", "gpt-4o-mini", "batch"),
    ("openai", "gpt-4o", "priority"),
    ("openai", "gpt-5", "flex"),
    ("openai", "gpt-5.6-sol", "standard"),
    ("openai", "o4-mini", "flex"),
    ("anthropic", "claude-haiku-4-5", "standard"),
    ("anthropic", "claude-haiku-5-5", "standard"),
    ("anthropic", "claude-sonnet-4-5", "batch"),
    ("anthropic", "claude-opus-4-8", "fast"),
]


@given(
    usage=usages(),
    chosen=st.sampled_from(ORACLE_MODELS),
    instant=st.datetimes(datetime(2026, 10, 14), datetime(2027, 1, 1), timezones=st.just(UTC)),
)
def test_the_price_book_agrees_with_the_public_list_on_every_usage(
    usage: Usage, chosen: tuple[str, str, str], instant: datetime
) -> None:
    provider, model, service_tier = chosen
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_total,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
            cache_write_1h_tokens=usage.cache_write_1h,
            output_tokens=usage.output_total,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=instant,
        price_context=CONTEXTS[provider][service_tier] or None,
    )
    ours = true_cost_usd(book().at(provider, model, service_tier, instant), usage)
    assert ours == theirs.total_price


BODIES = {"openai": openai_wire.request_body, "anthropic": anthropic_wire.request_body}


def words(value: Any, name: str = "") -> int:
    """The bytes of all that the model reads of a request, but for pictures."""
    if name in ("model", "stop", "stop_sequences", "service_tier", "data", "type", "role") or value is None:
        return 0
    if name in ("schema", "parameters", "input_schema", "input"):
        return size(json.dumps(value, ensure_ascii=False))
    if isinstance(value, Mapping):
        return sum(words(each, key) for key, each in value.items())
    if isinstance(value, list):
        return sum(words(each) for each in value)
    return 0 if not isinstance(value, str) or value.startswith("data:") else size(value)


def size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


SCHEMA = {
    "type": "object",
    "properties": {"größe": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
    "required": ["größe", "next"],
    "additionalProperties": False,
    "$defs": {"node": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}},
}


short = st.text(max_size=20)
marks = st.sampled_from([None, "5m", "1h"])
texts = st.builds(Text, short, marks)
pictures = st.builds(
    Image, url=st.just("https://example.com/ä.png"), detail=st.sampled_from([None, "low", "high"])
)
pictures |= st.just(Image(data="aGk=" * 99, media_type="image/png"))
arguments = short | st.dictionaries(short, st.integers() | short).map(json.dumps)
arguments |= st.sampled_from(['{"a": 1e15}', '{"a":[1e9,1e9]}', "{", ""])
calls = st.builds(ToolCall, short, short, arguments, marks)
results = st.builds(ToolResult, short, st.lists(texts, max_size=3).map(tuple), st.booleans(), marks)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    role = draw(st.sampled_from(["system", "user", "assistant"]))
    parts = {"system": texts, "user": texts | pictures | results, "assistant": texts | calls}[role]
    content = draw(short | st.lists(parts, max_size=4).map(tuple))
    return Message(role, content)  # type: ignore[arg-type]


tools = st.builds(
    Tool,
    name=short,
    parameters=st.dictionaries(short, short | st.lists(short)),
    description=st.none() | short,
    strict=st.none() | st.booleans(),
    cache=marks,
)
forms = st.sampled_from([{}, {"response_schema": SCHEMA}, {"labels": ("A", "größer")}, {"json_object": True}])


@given(
    turns=st.lists(messages(), min_size=1, max_size=5),
    form=forms,
    offered=st.lists(tools, max_size=3),
    name=short,
    choice=st.none() | st.builds(ToolChoice, st.just("named"), short),
    want_confidence=st.booleans(),
    answered=st.sampled_from(["openai", "anthropic"]),
    logprobs=st.booleans(),
    structured=st.booleans(),
    stream=st.booleans(),
)
def test_the_bound_counts_every_byte_that_an_adapter_sends_whichever_way_it_asks(
    turns: list[Message],
    form: dict[str, Any],
    offered: list[Tool],
    name: str,
    choice: ToolChoice | None,
    want_confidence: bool,
    answered: str,
    logprobs: bool,
    structured: bool,
    stream: bool,
) -> None:
    prompt = Prompt(
        messages=tuple(turns),
        tools=tuple(offered),
        tool_choice=choice if offered and name else None,
        schema_name=name,
        schema_description=name,
        sampling=Sampling(reasoning_effort="high"),
        **form,
    )
    request = ProviderRequest("m", prompt, 10, want_confidence)
    asked = ask(request, logprobs=logprobs and answered == "openai", structured=structured, stream=stream)
    sent = BODIES[answered](request, asked, stream=stream)
    assert input_tokens_bound(request, provider=answered) >= words(sent)


def bound_of(provider: str, *parts: Part, **fields: Any) -> int:
    prompt = Prompt((Message("user", parts or ""),), **fields)
    return input_tokens_bound(ProviderRequest("m", prompt, 1, want_confidence=False), provider=provider)


def openai_patches(width: int, height: int) -> int:
    return -(-width // 32) * -(-height // 32)


@pytest.mark.parametrize(
    ("provider", "detail", "tokens"),
    [
        # 6,400 × 4,800 pixels as they are: 30,000 patches, the most that is taken, at 1.2 tokens
        ("openai", None, openai_patches(6_400, 4_800) * 12 // 10),
        ("openai", "auto", openai_patches(6_400, 4_800) * 12 // 10),
        ("openai", "original", 63_450),  # measured: 9,000 × 6,000 pixels
        ("openai", None, 48_169),  # gpt-4o-mini: 2,833 + 8 × 5,667
        ("openai", "high", 48_169),
        ("openai", "high", 2_500 * 246 // 100),
        ("openai", "low", 2_833),
        ("openai", "low", 1_536 * 246 // 100),
        ("anthropic", None, 4_784),
        ("anthropic", "high", 4_784),
        ("elsewhere", None, 48_169),
    ],
)
def test_a_picture_is_bound_by_what_the_dearest_model_makes_of_it(
    provider: str, detail: Any, tokens: int
) -> None:
    by_data = Image(data="aGk=", media_type="image/png", detail=detail)
    by_address = Image(url="https://example.com/a.png", detail=detail)
    in_a_result = ToolResult("c", (by_data,))
    for part in (by_data, by_address, in_a_result):
        assert bound_of(provider, part) - bound_of(provider) >= tokens
    assert bound_of(provider, by_data, by_data) - bound_of(provider, by_data) >= tokens


def test_a_pictures_data_is_no_text() -> None:
    small, large = (Image(data="aGk=" * n, media_type="image/png") for n in (1, 100_000))
    assert bound_of("openai", small) == bound_of("openai", large)


@pytest.mark.parametrize("provider", BODIES)
def test_tools_are_bound_with_the_system_prompt_that_anthropic_adds_for_them(provider: str) -> None:
    plain = bound_of(provider)
    assert bound_of(provider, tools=(Tool("t", {}),)) - plain >= 804
    assert bound_of(provider, response_schema=SCHEMA) - plain >= 804


def test_the_bound_counts_what_a_tokenizer_makes_of_a_compatibility_character() -> None:
    def bound(text: str) -> int:
        prompt = Prompt((Message("user", text),))
        request = ProviderRequest("m", prompt, 1, want_confidence=False)
        return input_tokens_bound(request, provider="openai")

    # U+FDFA is 3 bytes, and 33 after NFKC, which some tokenizers apply.
    assert bound("\ufdfa") - bound("") == 33
    assert bound("ä") - bound("") == 2
