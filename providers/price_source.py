"""Rows for the price book from the installed `genai-prices`, the public list that we seed from.

`python -m providers.price_source > providers/data/prices.json` writes the seed anew after an upgrade.

What the list leaves out, it bills at the next more general rate, and so do we: cache reads without a rate
cost as input, one-hour cache writes as five-minute ones, and those as input. Models are left out whose text
tokens alone do not make the price (audio, images, characters), and tools that we never ask for (searches) are
ignored.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import Any, get_args

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
)

from providers.price_book import ListedRow
from providers.pricing import Band

SOURCE = "genai-prices"
#: Prices without a date hold from here on.
BASE = datetime(2020, 1, 1, tzinfo=UTC)
#: Each service tier of ours, as the list's request context.
CONTEXTS: dict[str, dict[str, dict[str, str]]] = {
    "openai": {
        "standard": {},
        "batch": {"processing": "batch"},
        "flex": {"service_tier": "flex"},
        "priority": {"service_tier": "priority"},
        "fast": {"service_tier": "fast"},
    },
    "anthropic": {"standard": {}, "batch": {"processing": "batch"}, "fast": {"speed": "fast"}},
}
#: Dated names of Anthropic's that neither the list nor the SDK spells out.
_ANTHROPIC_DATED = (
    "claude-opus-4-1-20250805",
    "claude-sonnet-4-20250514",
    "claude-3-7-sonnet-20250219",
    "claude-3-5-haiku-20241022",
    "claude-3-haiku-20240307",
)
#: Sound, pictures, searches that are billed apart, and models that do not chat.
_NOT_TEXT_CHAT = re.compile(
    r"audio|image|tts|search|computer-use|instruct|ft[:-]|:|^(ada|babbage|curie|davinci|text-)", re.IGNORECASE
)
_TEXT_RATES = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok"}
_IGNORED_RATES = {"web_searches_kcount", "storage_searches_kcount"}


def source_version() -> str:
    return version("genai-prices")


def source_rows() -> list[ListedRow]:
    """All rows that the installed list gives, each where a rate changes."""
    providers = {provider.id: provider for provider in get_snapshot().providers}
    rows: list[ListedRow] = []
    for name, contexts in CONTEXTS.items():
        for model in sorted(_names(providers[name])):
            info = None if _NOT_TEXT_CHAT.search(model) else providers[name].find_model(model)
            if info is not None and _is_priced_by_text(info):
                for service_tier, context in contexts.items():
                    rows.extend(_rows(name, model, service_tier, context, info))
    return rows


def _names(provider: Provider) -> set[str]:
    """The names that models are asked for by: the list's own, and those that the official SDK knows."""
    names = {clause for model in provider.models for clause in (model.id, *_equal_names(model.match))}
    if provider.id == "openai":
        from openai.types.shared.chat_model import ChatModel

        return names | set(get_args(ChatModel))
    from anthropic.types.model import Model

    return names | set(_ANTHROPIC_DATED) | {name for part in get_args(Model) for name in get_args(part)}


def _equal_names(match: object) -> Iterator[str]:
    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _equal_names(clause)


def _is_priced_by_text(info: ModelInfo) -> bool:
    prices = [part.prices for part in _conditional(info)]
    rates = {key for price in prices for key, value in price.__dict__.items() if value is not None}
    return rates <= _TEXT_RATES | _IGNORED_RATES and {"input_mtok", "output_mtok"} <= rates


def _conditional(info: ModelInfo) -> list[ConditionalPrice]:
    return [ConditionalPrice(prices=info.prices)] if isinstance(info.prices, ModelPrice) else info.prices


def _rows(
    provider: str, model: str, service_tier: str, context: dict[str, str], info: ModelInfo
) -> Iterator[ListedRow]:
    variants = [
        variant
        for variant in info.price_variants or ()
        if variant.when == context and variant.prices.__dict__
    ]
    constraints = [part.constraint for part in _conditional(info)]
    constraints += [variant.constraint for variant in variants]
    if not all(
        constraint is None or isinstance(constraint, StartDateConstraint) for constraint in constraints
    ):
        return  # Rates that change with the time of day cannot be held by a row.
    dates = {part.start_date for part in constraints if isinstance(part, StartDateConstraint)}
    previous: tuple[Band, ...] | None = None
    for instant in sorted({BASE, *(_midnight(day) for day in dates)}):
        if context and not any(_is_active(variant, instant) for variant in variants):
            continue
        bands = _bands(info.get_prices(instant, context or None))
        if bands != previous:
            yield ListedRow(provider, model, service_tier, instant, bands)
            previous = bands


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _is_active(variant: PriceVariant, instant: datetime) -> bool:
    return variant.constraint is None or variant.constraint.active(instant)


def _bands(price: ModelPrice) -> tuple[Band, ...]:
    rates: dict[str, Any] = price.__dict__
    tiers = [tier.start for rate in rates.values() if isinstance(rate, TieredPrices) for tier in rate.tiers]
    return tuple(_band(rates, start) for start in sorted({0, *tiers}))


def _band(rates: dict[str, Any], start: int) -> Band:
    rate_input = _rate(rates["input_mtok"], start)
    write_5m = _rate(rates.get("cache_write_mtok"), start, rate_input)
    return Band(
        from_tokens=start,
        input=rate_input,
        cache_read=_rate(rates.get("cache_read_mtok"), start, rate_input),
        cache_write_5m=write_5m,
        cache_write_1h=_rate(rates.get("cache_write_1h_mtok"), start, write_5m),
        output=_rate(rates["output_mtok"], start),
    )


def _rate(rate: Decimal | TieredPrices | None, start: int, default: Decimal | None = None) -> Decimal:
    """The rate of the band that begins at `start`."""
    if rate is None:
        assert default is not None
        return default
    if isinstance(rate, TieredPrices):
        return next((tier.price for tier in reversed(rate.tiers) if tier.start <= start), rate.base)
    return rate


def bands_json(bands: tuple[Band, ...]) -> list[dict[str, Any]]:
    """`bands` as they are stored: rates as decimal strings."""
    return [
        {key: value if key == "from_tokens" else f"{value:f}" for key, value in asdict(band).items()}
        for band in bands
    ]


def main() -> None:
    rows = [
        json.dumps({**asdict(row), "valid_from": row.valid_from.isoformat(), "bands": bands_json(row.bands)})
        for row in source_rows()
    ]
    body = ",\n".join(rows)
    head = f'"source": "{SOURCE}", "source_version": "{source_version()}", "currency": "USD"'
    sys.stdout.write(f'{{{head}, "rows": [\n{body}\n]}}\n')


if __name__ == "__main__":
    main()
