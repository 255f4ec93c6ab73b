"""What the demo's made-up calls cost: by the price book, the exchange rate and the models in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from aigov import clock, database
from aigov.registry.effective import Settings
from aigov.registry.snapshot import load_settings
from budgets.fx import FxTable, load_fx_table, to_eur
from providers.price_book import load_price_book
from providers.pricing import PriceBook, true_cost_usd
from providers.types import Tier, Usage


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs, and by what."""

    model: str
    usd: Decimal
    eur: Decimal
    price_id: int
    fx_rate_id: int
    eur_per_usd: Decimal


@dataclass(frozen=True, slots=True)
class Prices:
    """All that is needed to price a call to an organization's models; `models` is by provider and tier."""

    book: PriceBook
    fx: FxTable
    models: Mapping[str, Mapping[str, str]]
    now: datetime

    def cost(self, provider: str, tier: Tier, usage: Usage) -> Cost:
        """What a call to the provider's model of that tier costs for the tokens of `usage`."""
        model, rate = self.models[provider][tier], self.fx.on(self.now.date())
        row = self.book.at(provider, model, "standard", self.now)
        usd = true_cost_usd(row, usage)
        return Cost(model, usd, to_eur(usd, rate), row.id, rate.id, rate.eur_per_usd)


async def load_prices(organization_id: int) -> Prices:
    """The prices, the exchange rate and the models in force."""
    async with database.pool_opened(), database.connection() as conn:
        settings = await load_settings(conn)
        book, fx = await load_price_book(conn), await load_fx_table(conn)
    return Prices(book, fx, _models(settings, organization_id), clock.now())


def _models(settings: Settings, organization_id: int) -> dict[str, Mapping[str, str]]:
    return {
        provider: settings.value(f"ai.providers.{provider}.models", organization_id=organization_id)
        for provider in ("openai", "anthropic")
    }
