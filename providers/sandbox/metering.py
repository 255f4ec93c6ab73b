"""What the sandbox bills: the tokens of every call that a provider would charge, and what they cost.

Tokens are summed by minute, model, service tier and length of the prompt, and priced by the public list when
somebody asks for the bill: a way of its own beside `providers.pricing`, so that each can show the other's
errors. What is to be wrong with a bill, and how late it is, say the switches (`BillFault`).
"""

import json
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from providers.sandbox import catalogue
from providers.sandbox.switches import BadSwitch, BillFault, Switches

KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
#: No rate of the list depends on the length of shorter prompts.
LONG_TOKENS_MIN = 100_000
DAY_S, DAY_MINUTES = 86_400, 1_440
#: Service tiers, as the list's request context; any other is priced as the standard one.
CONTEXTS: Mapping[tuple[str, str], dict[str, str]] = {
    ("openai", "batch"): {"processing": "batch"},
    ("openai", "flex"): {"service_tier": "flex"},
    ("openai", "priority"): {"service_tier": "priority"},
    ("openai", "fast"): {"service_tier": "fast"},
    ("anthropic", "batch"): {"processing": "batch"},
    ("anthropic", "fast"): {"speed": "fast"},
}


class Meter(NamedTuple):
    """What is summed together: `model` is the dated name, `from_tokens` where its band of rates begins."""

    minute: int
    provider: str
    model: str
    service_tier: str
    from_tokens: int

    @property
    def day(self) -> date:
        return datetime.fromtimestamp(self.minute * 60, UTC).date()


@dataclass(frozen=True, slots=True)
class BilledLine:
    """An amount of one day's bill."""

    meter: Meter
    kind: str
    tokens: int
    amount_usd: Decimal


class Metering:
    """The sums: for each meter the tokens of each kind, and at last how many calls; by the day since 1970."""

    def __init__(self) -> None:
        self.days: dict[int, dict[Meter, list[int]]] = {}

    def note(
        self,
        provider: str,
        model: str,
        usage: Mapping[str, Any],
        *,
        service_tier: str = "",
        at: float | None = None,
    ) -> None:
        """Adds a call's `usage`, as the provider writes it; `at` is Unix time."""
        found = catalogue.find(provider, model)
        tokens = _openai_tokens(usage) if provider == "openai" else _anthropic_tokens(usage)
        snapshot = found.snapshot if found else model
        tier = str(usage.get("service_tier") or service_tier or "standard")
        meter = Meter(
            minute=int((time.time() if at is None else at) // 60),
            provider=provider,
            model=snapshot,
            service_tier="standard" if tier == "default" else tier,
            from_tokens=_band_start(provider, snapshot, sum(tokens[:-1])),
        )
        day = self.days.setdefault(meter.minute // DAY_MINUTES, {})
        sums = day.setdefault(meter, [0] * (len(KINDS) + 1))
        for index, count in enumerate((*tokens, 1)):
            sums[index] += count

    def note_past(self, values: Any) -> None:
        """Adds calls made elsewhere: a list of `{"provider", "model", "at", "usage"}`. Raises BadSwitch."""
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            raise BadSwitch("The calls are a list of objects.")
        for one in values:
            if catalogue.find(str(one.get("provider")), str(one.get("model"))) is None:
                raise BadSwitch(f"There is no model {one.get('model')!r} of {one.get('provider')!r}.")
            if not isinstance(one.get("usage"), dict) or not isinstance(one.get("at"), int | float):
                raise BadSwitch("A call has its usage, and the Unix time at which it was made.")
        for one in values:
            tier = str(one.get("service_tier") or "")
            self.note(one["provider"], one["model"], one["usage"], service_tier=tier, at=one["at"])

    def within(self, provider: str, start_s: int, end_s: int) -> Iterator[tuple[Meter, list[int]]]:
        """The sums of the calls of `provider` from `start_s` on and before `end_s` (Unix time)."""
        for number in range(start_s // DAY_S, (end_s - 1) // DAY_S + 1):
            for meter, sums in self.days.get(number, {}).items():
                if meter.provider == provider and start_s <= meter.minute * 60 < end_s:
                    yield meter, sums

    def lines(self, provider: str, start_s: int, end_s: int, switches: Switches) -> Iterator[BilledLine]:
        """The bill's lines of that time, as far as they are there yet, and as wrong as they shall be."""
        billed_until_s = time.time() - switches.bill_delay_h * 3600
        for meter, sums in self.within(provider, start_s, end_s):
            faults = [fault for fault in switches.bill_faults if _strikes(fault, meter)]
            if meter.minute * 60 > billed_until_s or any(fault.missing for fault in faults):
                continue
            rates = list_rates(provider, meter.model, meter.service_tier, meter.day, meter.from_tokens)
            for kind, rate, tokens in zip(KINDS, rates, sums, strict=False):
                if tokens:
                    amount = rate.scaleb(-6) * tokens
                    for fault in faults:
                        amount += amount * Decimal(str(fault.percent)) / 100
                    yield BilledLine(meter, kind, tokens, amount)

    def save(self, path: Path) -> None:
        rows = [[*meter, sums] for day in self.days.values() for meter, sums in day.items()]
        path.write_text(json.dumps(rows), encoding="utf-8")

    def load(self, path: Path) -> None:
        for *meter, sums in json.loads(path.read_text(encoding="utf-8")):
            found = Meter(*meter)
            self.days.setdefault(found.minute // DAY_MINUTES, {})[found] = sums


def _strikes(fault: BillFault, meter: Meter) -> bool:
    found = catalogue.find(meter.provider, fault.model or "")
    return (
        fault.provider in (None, meter.provider)
        and (fault.model is None or (found.snapshot if found else fault.model) == meter.model)
        and fault.day in (None, meter.day.isoformat())
    )


# --- Tokens, in the order of KINDS


def _openai_tokens(usage: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """The prompt's tokens include what the cache has read and written."""
    details = usage.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    prompt, output = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return max(prompt - read - written, 0), read, written, 0, output


def _anthropic_tokens(usage: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """The input's tokens are those that the cache has neither read nor written."""
    created = usage.get("cache_creation") or {}
    written_1h = created.get("ephemeral_1h_input_tokens") or 0
    written_5m = (usage.get("cache_creation_input_tokens") or 0) - written_1h
    read = usage.get("cache_read_input_tokens") or 0
    return usage.get("input_tokens") or 0, read, written_5m, written_1h, usage.get("output_tokens") or 0


# --- Prices


def _band_start(provider: str, model: str, input_total: int) -> int:
    if input_total <= LONG_TOKENS_MIN:
        return 0
    starts = band_starts(provider, model)
    return starts[max(bisect_left(starts, input_total) - 1, 0)]


def _listed(provider: str, model: str) -> Any:
    # Loading the list takes longer than a call may, so it waits until it is needed.
    from genai_prices.data_snapshot import get_snapshot

    [found] = [one for one in get_snapshot().providers if one.id == provider]
    return found.find_model(model)


@lru_cache(maxsize=256)
def band_starts(provider: str, model: str) -> list[int]:
    """From how many tokens of input on the list has other rates: for prompts longer than that."""
    prices = _listed(provider, model).get_prices(datetime.now(UTC), None)
    return sorted({0, *(tier.start for rate in vars(prices).values() for tier in getattr(rate, "tiers", ()))})


@lru_cache(maxsize=4096)
def list_rates(
    provider: str, model: str, service_tier: str, day: date, from_tokens: int
) -> tuple[Decimal, ...]:
    """The list's dollars per million tokens, by kind; what it leaves out costs as the more general kind."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    prices = _listed(provider, model).get_prices(noon, CONTEXTS.get((provider, service_tier)))

    def rate(name: str, default: Decimal | None = None) -> Decimal:
        value = getattr(prices, name)
        if value is None:
            assert default is not None
            return default
        for tier in reversed(getattr(value, "tiers", ())):
            if tier.start <= from_tokens:
                return Decimal(tier.price)
        return Decimal(getattr(value, "base", value))

    full = rate("input_mtok")
    written = rate("cache_write_mtok", full)
    return (
        full,
        rate("cache_read_mtok", full),
        written,
        rate("cache_write_1h_mtok", written),
        rate("output_mtok"),
    )
