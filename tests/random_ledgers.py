"""Ledgers in which everything has happened that can happen to a charge, for tests that compare sums."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import connection

from aigov import background, clock, database, snapshots
from aigov.errors import BudgetUnavailable
from aigov.money import NANO_EURO
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.fx import FX_TABLE, to_eur
from budgets.ledger import Charge, TrueCost
from budgets.models import ApprovalRequest, CostRecord, Hold, RequestKind
from providers.price_book import PRICE_BOOK
from providers.pricing import PriceRow, true_cost_usd
from providers.types import Usage
from tests.ledger_world import charge_of, reserve

MODELS = (
    ("openai", "gpt-4o-mini", "small"),
    ("openai", "gpt-4o", "large"),
    ("anthropic", "claude-sonnet-4-5", "large"),
)
ENDS = ("settled",) * 6 + ("estimated", "voided", "expired", "answered late", "overrun", "open")

DRAIN_WAIT_S = 30.0


@contextmanager
def event_loop() -> Iterator[asyncio.Runner]:
    """A loop with the ledger's connections and the process's copies."""
    with asyncio.Runner() as runner:
        opened = database.pool_opened()
        runner.run(opened.__aenter__())
        try:
            runner.run(snapshots.refresh_all())
            yield runner
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def play(organization: Organization, *, seed: int, calls: int = 30) -> None:
    """Lets `calls` calls of random models, users and use cases happen, and end in all ways there are.

    On a machine that is so busy that its database is taken for away, some of them are refused.
    """
    chance = random.Random(seed)
    for _ in range(calls):
        provider, model, tier = chance.choice(MODELS)
        price = PRICE_BOOK.current.at(provider, model, "standard", clock.now())
        charge: Charge = await sync_to_async(charge_of)(
            organization,
            user=chance.choice(("", "u-1", "=u-2")),
            use_case=chance.choice(("", "leads", "Angebote; über 1.000 €")),
            provider=provider,
            model=model,
            tier=tier,
            price_id=price.id,
            metadata=chance.choice(({}, {"lead_id": "L-1", "tags": ["a", 1]})),
        )
        with suppress(BudgetUnavailable):
            await _end(charge, price, chance.choice(ENDS), chance)
    await background.drained(wait_s=DRAIN_WAIT_S)


async def _end(charge: Charge, price: PriceRow, end: str, chance: random.Random) -> None:
    cost = _true_cost(price, chance)
    held = cost.cost_eur * (Decimal("0.5") if end == "overrun" else 2) + NANO_EURO
    hold_id = await reserve(charge, str(held.quantize(NANO_EURO)), hold_id=uuid4(), lifetime_s=3600)
    if end in ("settled", "overrun"):
        await ledger.settle(hold_id=hold_id, cost=cost)
    elif end == "estimated":
        await ledger.settle_estimated(hold_id=hold_id, reason="timed_out")
    elif end == "voided":
        await ledger.void(hold_id=hold_id)
    elif end in ("expired", "answered late"):
        await sync_to_async(_expire)(hold_id)
        if end == "answered late":
            await ledger.settle(hold_id=hold_id, cost=cost)


def _true_cost(price: PriceRow, chance: random.Random) -> TrueCost:
    cached = chance.choice((0, chance.randrange(5_000)))
    short, long = (chance.choice((0, chance.randrange(900))) for _ in range(2))
    usage = Usage(
        input_total=cached + short + long + chance.randrange(20_000),
        cache_read=cached,
        cache_write_5m=short,
        cache_write_1h=long,
        output_total=chance.randrange(3_000),
    )
    usd = true_cost_usd(price, usage)
    eur = to_eur(usd, FX_TABLE.current.on(date.today()))
    return TrueCost(cost_eur=eur, cost_usd=usd, usage=usage, raw_usage={"tokens": usage.input_total})


def _expire(hold_id: Any) -> None:
    Hold.objects.filter(pk=hold_id).update(expires_at="2000-01-01T00:00Z")
    ledger.expire_holds()


def correct_by_hand(
    organization: Organization, amount_eur: str, *, corrects: CostRecord | None = None, late: bool = False
) -> CostRecord:
    """A correction that a second person has approved, in this month."""
    now = clock.now()
    month = clock.month_of(now, organization.time_zone)
    request = ApprovalRequest.objects.create(
        organization=organization,
        kind=RequestKind.CORRECTION,
        month=month,
        amount_eur=Decimal(amount_eur),
        corrects=corrects,
        reason="the bill says otherwise",
        asked_by="finance@example.com",
        asked_at=now,
        expires_at=now + timedelta(days=7),
    )
    record = CostRecord.objects.create(
        organization=organization,
        month=month,
        corrects=corrects,
        request=request,
        created_at=now,
        cost_eur=Decimal(amount_eur),
        provider=corrects.provider if corrects else "",
        model=corrects.model if corrects else "",
        use_case=corrects.use_case if corrects else "",
        user=corrects.user if corrects else "",
        reason="the bill says otherwise",
        late=late,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM ledger_move(%s, %s, %s, %s, %s, 0)",
            [organization.pk, month, record.user, record.use_case, record.cost_eur],
        )
    return record
