"""Ledger records of any instant, the same calls on the sandbox's bill, and months for one test alone."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
from django.db import connection

from aigov import clock
from aigov.organizations.models import Organization
from budgets.accounts import open_month
from budgets.bills import import_from_provider
from budgets.fx import FxTable, Rate, to_eur
from budgets.models import BillDay, BillImport, BillLine, BillSource, FxRate
from budgets.reconciliation import deltas, edges, is_reconciled
from providers.models import Price
from providers.price_book import price_row
from providers.pricing import PriceBook, Unpriced, true_cost_usd
from providers.types import Usage

MODELS = {
    "openai": ("gpt-4o-mini", "gpt-4o", "gpt-5.4"),
    "anthropic": ("claude-haiku-4-5", "claude-sonnet-4-5"),
}
TIERS = {"openai": ("standard", "standard", "batch", "flex"), "anthropic": ("standard", "batch")}
#: Tests share a database, and bills have no organization: so each takes a month of its own, with prices.
_months: Iterator[date] = iter([date(2020 + number // 12, number % 12 + 1, 1) for number in range(1, 48)])


def own_month() -> date:
    return next(_months)


ZONES = ("Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati")
MARCH, APRIL = date(2024, 3, 1), date(2024, 4, 1)
#: A line of OpenAI's bill has no more digits than a float.
EXACT = Decimal("1e-9")

Maker = Callable[..., Organization]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made, and what it used."""

    organization: Organization
    at: datetime
    provider: str
    model: str
    service_tier: str
    usage: Usage

    @property
    def month(self) -> date:
        return clock.month_of(self.at, self.organization.time_zone)

    def on_the_bill(self) -> dict[str, Any]:
        """As the provider meters it (`POST /sandbox/usage`)."""
        write = {"openai": openai_usage, "anthropic": anthropic_usage}[self.provider]
        told = {"provider": self.provider, "model": self.model, "at": self.at.timestamp()}
        return {**told, "service_tier": self.service_tier, "usage": write(self.usage)}


def openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output_total,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    }


def anthropic_usage(usage: Usage) -> dict[str, Any]:
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.input_total - usage.cache_read - written,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output_total,
    }


def random_calls(
    chances: random.Random,
    number: int,
    organizations: Sequence[Organization],
    first: datetime,
    last: datetime,
) -> Iterator[Call]:
    """Calls of every kind: short and long, from caches and into them, on every service tier with a price."""
    book = price_book()
    for _ in range(number):
        provider = chances.choice(list(MODELS))
        fresh = (
            int(chances.lognormvariate(7, 1.6))
            if chances.random() < 0.97
            else chances.randint(190_000, 400_000)
        )
        parts = [chances.randint(0, 20_000) if chances.random() < 0.3 else 0 for _ in range(3)]
        read, written_5m, written_1h = (parts[0], 0, 0) if provider == "openai" else parts
        model, tier = chances.choice(MODELS[provider]), chances.choice(TIERS[provider])
        yield Call(
            organization=chances.choice(organizations),
            at=first + (last - first) * chances.random(),
            provider=provider,
            model=model,
            service_tier=tier if _is_priced(book, provider, model, tier, first) else "standard",
            usage=Usage(
                input_total=fresh + read + written_5m + written_1h,
                output_total=int(chances.lognormvariate(5, 1.5)),
                cache_read=read,
                cache_write_5m=written_5m,
                cache_write_1h=written_1h,
            ),
        )


def _is_priced(book: PriceBook, provider: str, model: str, tier: str, at: datetime) -> bool:
    try:
        return bool(book.at(provider, model, tier, at))
    except Unpriced:
        return False


@contextmanager
def random_rates(chances: random.Random, first: date, days: int) -> Iterator[None]:
    """An exchange rate for each day; afterwards they have the one that all other tests reckon with."""
    all_days = [first + timedelta(days=number) for number in range(days)]
    usual = FxRate.objects.earliest("id").eur_per_unit
    _write_rates(all_days, [Decimal(chances.randint(8_000, 11_000)) / 10_000 for _ in all_days])
    try:
        yield
    finally:
        _write_rates(all_days, [usual] * days)


def _write_rates(days: Sequence[date], rates: Sequence[Decimal]) -> None:
    FxRate.objects.bulk_create(
        FxRate(valid_from=day, eur_per_unit=rate, source="the tests")
        for day, rate in zip(days, rates, strict=True)
    )


def price_book() -> PriceBook:
    rows = Price.objects.values_list("id", "provider", "model", "service_tier", "valid_from", "bands")
    return PriceBook(price_row(*row) for row in rows)


def charge(calls: Sequence[Call], *, estimated: bool = False) -> Decimal:
    """Puts `calls` into the ledger as if each was settled at its instant; returns their cost in dollars.

    The ledger writes the present instant, so the rows are written here; its function moves the accounts.
    """
    book, rates = price_book(), FxTable(Rate(*row) for row in _RATES.all())
    for organization, month in {(call.organization, call.month) for call in calls}:
        open_month(organization=organization, month=month)
    total = Decimal(0)
    with connection.cursor() as cursor:
        for call in calls:
            price = book.at(call.provider, call.model, call.service_tier, call.at)
            rate = rates.on(call.at.date())
            usd = true_cost_usd(price, call.usage)
            eur = to_eur(usd, rate)
            cursor.execute(
                _CHARGE,
                (
                    *(
                        call.organization.pk,
                        call.month,
                        call.provider,
                        call.model,
                        price.id,
                        rate.id,
                        uuid4(),
                    ),
                    *(call.at, eur, eur, usd, rate.eur_per_usd, estimated, call.service_tier),
                ),
            )
            cursor.execute(
                "SELECT ledger_move(%s, %s, '', '', %s, 0)", (call.organization.pk, call.month, eur)
            )
            total += usd
    return total


_RATES = FxRate.objects.values_list("id", "valid_from", "eur_per_unit")
_CHARGE = """
INSERT INTO ai_costs (
    organization_id, month, "user", use_case, completion_id, attempt, purpose, provider, model, tier,
    price_id, fx_rate_id, metadata, hold_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd,
    estimated, service_tier, overrun, reason, provider_request_id
) VALUES (
    %s, %s, '', '', '', 0, 'answer', %s, %s, '', %s, %s, '{}', %s, %s, %s, %s, %s, %s, %s, %s, false, '', ''
)
"""


def add_to_bill(control: httpx2.Client, calls: Sequence[Call]) -> None:
    for start in range(0, len(calls), 5_000):
        told = [call.on_the_bill() for call in calls[start : start + 5_000]]
        control.post("/sandbox/usage", json=told).raise_for_status()


def import_bills(first: date, last: date) -> None:
    for provider in ("openai", "anthropic"):
        import_from_provider(provider=provider, first=first, last=last, acting="the tests")


# --- Mock billing


def play_the_turn(number: int, make_organization: Maker, control: httpx2.Client) -> Decimal:
    """Calls in March and April 2024, a third of them at the turn, on the bill and in the ledger; their cost.

    March ends with the change to summer time in Berlin, an hour before its month ends there.
    """
    chances = random.Random(20240331)
    organizations = [make_organization(time_zone=zone) for zone in ZONES]
    first, turn, last = (datetime(2024, month, 1, tzinfo=UTC) for month in (3, 4, 5))
    at_the_turn = number // 3
    calls = [
        *random_calls(chances, number - at_the_turn, organizations, first, last),
        *random_calls(
            chances, at_the_turn, organizations, turn - timedelta(hours=36), turn + timedelta(hours=36)
        ),
    ]
    add_to_bill(control, calls)
    with random_rates(chances, MARCH - timedelta(days=2), 65):
        for month in (MARCH, APRIL):
            import_bills(month, clock.next_month(month) - timedelta(days=1))
        return charge(calls)


def check_the_turn(cost_usd: Decimal) -> None:
    """The ledger and the bill are one, down to each model and day, and so are the months in any zone."""
    months = {month: deltas(month) for month in (MARCH, APRIL)}
    everything = [found for month in months.values() for found in month]
    assert len(everything) == 4
    assert abs(sum(found.total.bill_usd for found in everything) - cost_usd) < EXACT
    for found in everything:
        assert found.state == "reconciled" and all(part.calls for part in found.models.values())
        for part in (found.total, *found.models.values(), *(day.total for day in found.days)):
            assert abs(part.delta_usd) < EXACT
            assert part.bill_eur - part.ledger_eur == part.delta_eur
    for month, providers in months.items():
        shown = edges(month, providers)
        assert shown.of_other_utc_months > 0 and shown.of_other_local_months > 0
        assert shown.not_compared == shown.corrections == 0
        assert shown.compared == sum(found.total.ledger_eur for found in providers)
        assert is_reconciled(month)


def call_at(organization: Organization, at: datetime, **more: Any) -> Call:
    """A call of a thousand tokens in and ten thousand out at gpt-4o: 0.1025 dollars."""
    usage = Usage(input_total=1_000, output_total=10_000)
    known: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o",
        "service_tier": "standard",
        "usage": usage,
    }
    return Call(organization=organization, at=at, **{**known, **more})


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def bill(
    provider: str, day: date, amounts: dict[str, str], *, covers_until: datetime | None = None
) -> BillDay:
    """A day's bill, by model."""
    batch = BillImport.objects.create(
        source=BillSource.API, created_at=clock.now(), imported_at=clock.now(), created_by="the tests"
    )
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    row = BillDay.objects.create(provider=provider, day=day, batch=batch, covers_until=covers_until or end)
    for model, amount in amounts.items():
        BillLine.objects.create(bill_day=row, model=model, description=f"{model}, output", amount_usd=amount)
    return row
