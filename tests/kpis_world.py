"""What the key figures' tests share: random calls and requests of the past, whose books balance."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from aigov import clock
from aigov.demo.past import write_past
from aigov.organizations.models import Organization
from budgets.models import CostRecord
from kpis.models import Outcome
from routing.models import Decision

FIRST, LAST = datetime(2026, 9, 20, tzinfo=UTC), datetime(2026, 11, 10, tzinfo=UTC)
USE_CASES = ("", "leads", "offers")
ERRORS = ("no_provider_available", "organization_budget_exceeded", "client_gone", "answer_broken")
MODELS = {"small": ("openai", "gpt-4o-mini"), "large": ("anthropic", "claude-sonnet-4-6")}


def moment(dice: random.Random) -> datetime:
    """Any time from `FIRST` to `LAST`, often around midnight, and around a month's end most of all."""
    at = FIRST + dice.random() * (LAST - FIRST)
    if dice.random() < 0.3:
        at = datetime(2026, dice.choice([10, 11]), 1, tzinfo=UTC) + timedelta(minutes=dice.randint(-200, 200))
    return at.replace(microsecond=dice.randrange(1_000_000))


def amount(dice: random.Random) -> Decimal:
    return Decimal(dice.randint(1, 10**9)).scaleb(-9)


def cost_record(organization: Organization, at: datetime, cost: Decimal, **more: Any) -> CostRecord:
    fixed: dict[str, Any] = {
        "organization": organization,
        "month": clock.month_of(at, organization.time_zone),
        "created_at": at,
        "hold_id": uuid4(),
        "provider": "openai",
        "model": "gpt-4o-mini",
        "tier": "small",
        "cost_eur": cost,
        "held_eur": cost,
        "cost_usd": cost,
        "input_total": 100,
        "output_total": 10,
    }
    return CostRecord(**{**fixed, **more})


def decision(organization: Organization, at: datetime, **more: Any) -> Decision:
    fixed: dict[str, Any] = {
        "id": f"cmp_{uuid4().hex}",
        "organization": organization,
        "created_at": at,
        "wanted": "auto",
        "route": "small",
        "threshold": 0.7,
        "attempts": [],
        "cost_eur": Decimal(0),
        "latency_ms": 100,
    }
    return Decision(**{**fixed, **more})


def random_records(organization: Organization, dice: random.Random, count: int) -> list[CostRecord]:
    records = []
    for _ in range(count):
        at = moment(dice)
        # A call that was let in before a month's end may be settled after it.
        let_in = at - timedelta(seconds=dice.choice([0, 0, 0, 1, 60]))
        provider, model = MODELS[tier := dice.choice(["small", "large"])]
        names = {"lead_id": f"L-{dice.randint(1, 9)}", "order_id": f"O-{dice.randint(1, 4)}", "team": "x"}
        named = dice.sample(sorted(names), dice.randint(0, 3))
        records.append(
            cost_record(
                organization,
                at,
                amount(dice),
                month=clock.month_of(let_in, organization.time_zone),
                use_case=dice.choice(USE_CASES),
                user=dice.choice(["", "u-1", "u-2"]),
                purpose=dice.choice(["answer", "answer", "check"]),
                metadata={name: names[name] for name in named},
                **{"provider": provider, "model": model, "tier": tier},
            )
        )
    return records


def random_decisions(organization: Organization, dice: random.Random, count: int) -> list[Decision]:
    return [random_decision(organization, dice) for _ in range(count)]


def random_decision(organization: Organization, dice: random.Random) -> Decision:
    route = dice.choice(["small", "small", "large", "cache", "degraded", ""])
    attempts: list[dict[str, Any]] = []
    if dice.random() < 0.3:
        attempts.append(attempt("small", dice.choice(["failed", "skipped_circuit_open"]), error="timed_out"))
    if dice.random() < 0.2:
        attempts.append(attempt("small", "failed", error="broken_off"))
    if route in ("small", "degraded") or (route == "large" and dice.random() < 0.7):
        outcome = "accepted" if route == "small" else "low_confidence"
        attempts.append(attempt("small", outcome, confidence=dice.choice([None, 0.0, 0.35, 0.7, 1.0])))
    if route == "large":
        attempts.append(attempt("large", "accepted"))
    return decision(
        organization,
        moment(dice),
        use_case=dice.choice(USE_CASES),
        wanted=dice.choice(["auto", "auto", "small"]),
        route=route,
        error_code="" if route else dice.choice(ERRORS),
        attempts=attempts if route != "cache" else [],
        cost_eur=Decimal(0) if route == "cache" else amount(dice),
        saved_eur=amount(dice) if route == "cache" else Decimal(0),
        all_large_eur=amount(dice) if route and dice.random() < 0.9 else None,
        latency_ms=dice.choice([0, 1, 2, 3, 250, 1024, 40_000, 500_000]),
    )


def attempt(tier: str, outcome: str, **more: Any) -> dict[str, Any]:
    provider, model = MODELS[tier]
    return {"tier": tier, "provider": provider, "model": model, "outcome": outcome, **more}


def random_outcomes(organization: Organization, dice: random.Random, count: int) -> list[Outcome]:
    made = []
    for number in range(count):
        at = moment(dice)
        made.append(
            Outcome(
                organization=organization,
                kind=dice.choice(["lead", "order"]),
                external_id=str(number),
                occurred_at=at,
                day=clock.day_of(at, organization.time_zone),
                value_eur=amount(dice),
                received_at=clock.now(),
            )
        )
    return made


def write_random_past(organization: Organization, seed: int, count: int = 150) -> None:
    dice = random.Random(seed)
    write_past(
        organization=organization,
        records=random_records(organization, dice, count),
        decisions=random_decisions(organization, dice, count),
    )
    Outcome.objects.bulk_create(random_outcomes(organization, dice, 40))


def all_of(organizations: Sequence[Organization]) -> list[int]:
    return [organization.pk for organization in organizations]


WHOLE = (date(2026, 9, 1), date(2026, 11, 30))
