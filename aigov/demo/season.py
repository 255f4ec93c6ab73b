"""The demo's past: sixty days of a sales team's calls, leads and orders, so that the dashboards have a story.

All of it is made up, by dice that fall the same way each time, and says so: each cost record's remark, the
metadata of every record and decision, and on every page the organization's name. Tokens are priced by the
price book, as any call's are. Working days are busier than weekends, the team grows into it, one afternoon a
provider is down, and some leads become orders.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from aigov import clock
from aigov.demo.corpus import USERS
from aigov.demo.past import write_past
from aigov.demo.prices import Cost, Prices
from aigov.money import ZERO
from aigov.organizations.models import Organization
from budgets.models import CostRecord
from kpis.outcomes import Told, record_table
from providers.circuit_history import record_turns
from providers.models import CircuitTurn
from providers.types import Tier, Usage
from routing.models import Decision

DAYS = 60
SEED = 2026
REMARK = "demo history"
MARK = {"demo": True}
THRESHOLD = 0.7
#: How busy the days of the week are, Monday first, and how much of it the first day has of the last.
WEEK = (1.0, 1.1, 1.05, 1.0, 0.85, 0.12, 0.06)
START_SHARE = 0.65
#: So many days ago one provider was down from 14 to 16 o'clock.
OUTAGE_DAYS_AGO = 17
OUTAGE_HOURS = (14, 16)
#: The part of calls to the provider that is down that its open circuit spares, and for how long it opens.
RESTS_SHARE = 0.7
REST_S, TRIAL_S = 60, 20
#: For how long after an order its contract is worked on.
REVIEW = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Work:
    """A use case: requests on a usual day, tokens in and out, how sure the small model is of it (a beta
    distribution's parameters; None: the large model is asked at once), and how often it is asked again.
    """

    use_case: str
    a_day: float
    tokens_in: int
    tokens_out: int
    sureness: tuple[float, float] | None
    repeated: float = 0.0


WORKS = (
    Work("lead_classification", 40, 900, 12, (9, 2), 0.22),
    Work("email_triage", 40, 1_400, 10, (7, 2), 0.18),
    Work("reply_draft", 22, 20_000, 450, (7, 2.5), 0.05),
    Work("meeting_summary", 30, 90_000, 1_200, (9, 2.2)),
    Work("contract_review", 12, 100_000, 4_000, None),
)


@dataclass(slots=True)
class Season:
    """What is being made up, and the dice and prices that it goes by."""

    organization: Organization
    prices: Prices
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    records: list[CostRecord] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    new_leads: list[Told] = field(default_factory=list)
    orders: list[Told] = field(default_factory=list)


def play_season(*, organization: Organization, prices: Prices, acting: str) -> int:
    """Writes the season of an organization that has no costs yet; how many requests it has."""
    if CostRecord.objects.filter(organization=organization).exists():
        return 0
    season = Season(organization, prices)
    today = clock.day_of(clock.now(), organization.time_zone)
    for days_ago in range(DAYS, 0, -1):
        _play_day(season, today - timedelta(days=days_ago), days_ago)
    write_past(organization=organization, records=season.records, decisions=season.decisions)
    record_table(organization=organization, outcomes=[*season.new_leads, *season.orders], acting=acting)
    record_turns(_outage(season, today - timedelta(days=OUTAGE_DAYS_AGO)))
    return len(season.decisions)


def _play_day(season: Season, day: date, days_ago: int) -> None:
    dice = season.dice
    busy = WEEK[day.weekday()] * (1 - (1 - START_SHARE) * days_ago / DAYS)
    for work in WORKS:
        for _ in range(round(work.a_day * busy * dice.uniform(0.75, 1.25))):
            at = _working_hour(dice, day, season.organization.time_zone)
            is_down = days_ago == OUTAGE_DAYS_AGO and OUTAGE_HOURS[0] <= at.hour < OUTAGE_HOURS[1]
            _play_request(season, work, at, is_down)


def _outage(season: Season, day: date) -> Iterator[CircuitTurn]:
    """How the circuits of the provider that is down open again and again, until it is back."""
    zone = ZoneInfo(season.organization.time_zone)
    begin, end = (datetime(day.year, day.month, day.day, hour, tzinfo=zone) for hour in OUTAGE_HOURS)
    for model in season.prices.models["openai"].values():
        circuit = {"provider": "openai", "model": model, "switch": "automatic"}
        at = begin + timedelta(seconds=season.dice.uniform(60, 300))
        while at < end:
            until = at + timedelta(seconds=REST_S)
            yield CircuitTurn(**circuit, at=at, retry_at=until, reason="server_error")
            at = until + timedelta(seconds=season.dice.uniform(1, TRIAL_S))
        yield CircuitTurn(**circuit, at=end + timedelta(seconds=season.dice.uniform(1, REST_S)))


def _working_hour(dice: random.Random, day: date, time_zone: str) -> datetime:
    hour = min(max(dice.gauss(dice.choice([10.2, 14.8]), 1.6), 6), 21)
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone))
    return midnight + timedelta(seconds=int(hour * 3600), microseconds=dice.randrange(10**6))


# --- One request


@dataclass(slots=True)
class Request:
    """A request while it is being answered."""

    id: str
    at: datetime
    work: Work
    usage: Usage
    user: str
    metadata: dict[str, Any]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    cost_eur: Decimal = ZERO


def _play_request(season: Season, work: Work, at: datetime, is_down: bool) -> None:
    dice = season.dice
    usage = Usage(
        input_total=max(int(dice.gauss(work.tokens_in, work.tokens_in / 4)), 50),
        output_total=max(int(dice.gauss(work.tokens_out, work.tokens_out / 4)), 3),
    )
    named = _named(season, work, at)
    request = Request(f"cmp_{uuid4().hex}", at, work, usage, dice.choice(USERS), {**MARK, **named})
    if dice.random() < work.repeated:
        _decide(season, request, "cache", "small", saved_eur=_price(season, "small", usage).eur)
        return
    if is_down and dice.random() < 0.15:
        _fail(season, request, "openai", "small")
        _fail(season, request, "anthropic", "small")
        _decide(season, request, "", "small", error_code="no_provider_available")
        return
    _answer(season, request, is_down)


def _answer(season: Season, request: Request, is_down: bool) -> None:
    dice, sureness = season.dice, request.work.sureness
    if sureness is None:
        _ask(season, request, "large", is_down)
        _decide(season, request, "large", "large")
        return
    confidence = round(dice.betavariate(*sureness), 4)
    _ask(season, request, "small", is_down, confidence=confidence)
    if confidence >= THRESHOLD:
        _decide(season, request, "small", "small", confidence)
        return
    request.attempts[-1]["outcome"] = "low_confidence"
    if dice.random() < 0.04:
        _decide(season, request, "degraded", "small", confidence)
        return
    _ask(season, request, "large", is_down)
    _decide(season, request, "large", "large")


def _ask(season: Season, request: Request, tier: Tier, is_down: bool, **more: Any) -> None:
    """One paid call; the provider that is down is tried in vain first."""
    if is_down:
        _fail(season, request, "openai", tier)
    provider = "anthropic" if is_down else "openai"
    cost = season.prices.cost(provider, tier, request.usage)
    latency_ms = int(season.dice.lognormvariate(6.3 if tier == "small" else 7.6, 0.45))
    request.attempts.append(
        {
            **{"tier": tier, "provider": provider, "model": cost.model, "outcome": "accepted", **more},
            **{"latency_ms": latency_ms, "cost_eur": f"{cost.eur:.9f}", "signals": {}},
        }
    )
    request.cost_eur += cost.eur
    season.records.append(_record(season, request, tier, provider, cost))


def _fail(season: Season, request: Request, provider: str, tier: Tier) -> None:
    """A call in vain; the provider that is down mostly rests, and is not even called."""
    rests = provider == "openai" and season.dice.random() < RESTS_SHARE
    ended = (
        {"outcome": "skipped_circuit_open", "latency_ms": 0}
        if rests
        else {"outcome": "failed", "error": "server_error", "latency_ms": 180}
    )
    model = season.prices.models[provider][tier]
    request.attempts.append(
        {
            **{"tier": tier, "provider": provider, "model": model, **ended},
            **{"cost_eur": "0.000000000", "confidence": None, "signals": {}},
        }
    )


def _record(season: Season, request: Request, tier: Tier, provider: str, cost: Cost) -> CostRecord:
    organization = season.organization
    return CostRecord(
        organization=organization,
        month=clock.month_of(request.at, organization.time_zone),
        user=request.user,
        use_case=request.work.use_case,
        completion_id=request.id,
        attempt=len(request.attempts) - 1,
        **{"provider": provider, "model": cost.model, "tier": tier},
        **{"price_id": cost.price_id, "fx_rate_id": cost.fx_rate_id, "eur_per_usd": cost.eur_per_usd},
        **{"cost_eur": cost.eur, "held_eur": cost.eur, "cost_usd": cost.usd},
        metadata=request.metadata,
        hold_id=uuid4(),
        created_at=request.at,
        reason=REMARK,
        service_tier=request.usage.service_tier,
        input_total=request.usage.input_total,
        output_total=request.usage.output_total,
        **dict.fromkeys(("cache_read", "cache_write_5m", "cache_write_1h", "reasoning"), 0),
    )


def _decide(
    season: Season, request: Request, route: str, tier: Tier, confidence: float | None = None, **more: Any
) -> None:
    last = request.attempts[-1] if request.attempts else {}
    large_eur = sum((Decimal(one["cost_eur"]) for one in request.attempts if one["tier"] == "large"), ZERO)
    answered = {
        "tier": tier,
        "provider": last.get("provider", "openai"),
        "model": last.get("model", season.prices.models["openai"]["small"]),
        "all_large_eur": large_eur if route == "large" else _price(season, "large", request.usage).eur,
    }
    season.decisions.append(
        Decision(
            id=request.id,
            organization=season.organization,
            key_id="demo",
            created_at=request.at,
            use_case=request.work.use_case,
            user=request.user,
            wanted="auto",
            route=route,
            **(answered if route else {}),
            confidence=confidence,
            threshold=THRESHOLD,
            attempts=request.attempts,
            cost_eur=request.cost_eur,
            cached=route == "cache",
            finish_reason="stop" if route else "",
            latency_ms=sum(one["latency_ms"] for one in request.attempts) or 4,
            metadata=request.metadata,
            **more,
        )
    )


def _price(season: Season, tier: Tier, usage: Usage) -> Cost:
    return season.prices.cost("openai", tier, usage)


# --- Leads and orders


def _named(season: Season, work: Work, at: datetime) -> dict[str, str]:
    """What the request is for: a new lead is classified, some that are known are written to, and contracts
    are reviewed for leads that have ordered.
    """
    dice = season.dice
    if work.use_case == "lead_classification":
        number = f"{len(season.new_leads) + 1:05d}"
        lead = f"L-{number}"
        season.new_leads.append(Told("lead", lead, at, Decimal(0)))
        ordered_at = at + timedelta(days=dice.randint(1, 9))
        if dice.random() < 0.11 and ordered_at < clock.now():
            season.orders.append(Told("order", f"O-{number}", ordered_at, order_value(dice)))
        return {"lead_id": lead}
    if work.use_case == "reply_draft" and season.new_leads and dice.random() < 0.5:
        return {"lead_id": dice.choice(season.new_leads[-60:]).external_id}
    if work.use_case == "contract_review":
        placed = [order for order in season.orders if timedelta() < at - order.occurred_at < REVIEW]
        if placed and dice.random() < 0.5:
            order_id = dice.choice(placed).external_id
            return {"lead_id": order_id.replace("O", "L"), "order_id": order_id}
    return {}


def order_value(dice: random.Random) -> Decimal:
    """Mostly some hundred euro to a few thousand."""
    return Decimal(dice.lognormvariate(7.2, 0.8)).quantize(Decimal("0.01"))
