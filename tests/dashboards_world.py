"""A history that dashboards can show: weeks of calls up to now, with leads, escalations and failures."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from aigov import clock
from aigov.demo.past import write_past
from aigov.organizations.models import Organization
from budgets.models import CostRecord
from kpis.models import Outcome
from routing.models import Decision
from tests.kpis_world import attempt, cost_record, decision

SMALL_EUR, LARGE_EUR = Decimal("0.021"), Decimal("0.34")
USE_CASES = ("lead_classification", "reply_draft", "contract_summary")
WEEKEND = (5, 6)


def write_history(
    organization: Organization,
    *,
    days: int,
    calls_a_day: int,
    at_weekends: int | None = None,
    seed: int = 1,
) -> None:
    """Gives the organization a past of `days` days up to now, with a quarter of the calls at weekends."""
    dice = random.Random(seed)
    weekend = calls_a_day // 4 if at_weekends is None else at_weekends
    calls = [_Call(organization, at, dice) for at in _moments(days, calls_a_day, weekend, dice)]
    write_past(
        organization=organization,
        records=[record for call in calls for record in call.records],
        decisions=[call.decision for call in calls],
    )
    Outcome.objects.bulk_create(outcome for call in calls for outcome in call.outcomes)


def _moments(days: int, calls_a_day: int, weekend: int, dice: random.Random) -> Iterator[datetime]:
    now = clock.now()
    for back in reversed(range(days)):
        midnight = (now - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        calls = calls_a_day if midnight.weekday() not in WEEKEND else weekend
        latest = min((now - midnight).total_seconds(), 20 * 3600)
        yield from (midnight + timedelta(seconds=dice.uniform(0, latest)) for _call in range(calls))


class _Call:
    """A request with what it cost, and what came of it."""

    def __init__(self, organization: Organization, at: datetime, dice: random.Random) -> None:
        self.organization, self.at, self.dice = organization, at, dice
        self.number = dice.getrandbits(48)
        self.use_case = dice.choices((*USE_CASES, ""), (5, 3, 2, 1))[0]
        self.user = f"u-{min(int(dice.expovariate(0.4)), 12)}"
        self.metadata = self._named()
        self.records: list[CostRecord] = []
        self.attempts: list[dict[str, Any]] = []
        self.decision = self._decided(dice.choices(("auto", "cache", "refused", "failed"), (85, 12, 2, 1))[0])
        self.outcomes = self._outcomes()

    def _named(self) -> dict[str, str]:
        if self.use_case != "lead_classification":
            return {"order_id": f"O-{self.number}"} if self.dice.random() < 0.15 else {}
        return {"lead_id": f"L-{self.number}"}

    def _decided(self, course: str) -> Decision:
        if course == "auto":
            return self._routed()
        if course == "cache":
            return self._made(route="cache", saved_eur=SMALL_EUR, all_large_eur=LARGE_EUR, latency_ms=4)
        code = "no_provider_available" if course == "failed" else "organization_budget_exceeded"
        return self._made(error_code=code, latency_ms=900)

    def _routed(self) -> Decision:
        if self.dice.random() < 0.03:
            self.attempts.append(attempt("small", "failed", error="overloaded", confidence=None))
        confidence = min(self.dice.betavariate(5, 1.4), 0.999)
        sure = confidence >= 0.7
        self._paid("small", SMALL_EUR)
        outcome = "accepted" if sure else "low_confidence"
        self.attempts.append(attempt("small", outcome, confidence=round(confidence, 4)))
        if not sure and self.dice.random() < 0.93:
            self._paid("large", LARGE_EUR)
            self.attempts.append(attempt("large", "accepted", confidence=None))
            return self._made(route="large", confidence=confidence, latency_ms=self._ms(1800))
        route = "small" if sure else "degraded"
        return self._made(route=route, confidence=confidence, latency_ms=self._ms(420))

    def _ms(self, middle: int) -> int:
        return int(middle * self.dice.lognormvariate(0, 0.35))

    def _paid(self, tier: str, about_eur: Decimal) -> None:
        cost_eur = (about_eur * Decimal(repr(self.dice.uniform(0.6, 1.5)))).quantize(Decimal("0.000000001"))
        provider, model = ("openai", "gpt-4o-mini") if tier == "small" else ("anthropic", "claude-sonnet-4-6")
        self.records.append(
            cost_record(
                *(self.organization, self.at, cost_eur),
                **{"use_case": self.use_case, "user": self.user, "metadata": self.metadata},
                **{"provider": provider, "model": model, "tier": tier},
            )
        )

    def _made(self, **more: Any) -> Decision:
        cost_eur = sum((record.cost_eur for record in self.records), Decimal(0))
        fixed = {
            "use_case": self.use_case,
            "user": self.user,
            "metadata": self.metadata,
            "attempts": self.attempts,
            "cost_eur": cost_eur,
            "all_large_eur": cost_eur if more.get("route") == "large" else LARGE_EUR,
        }
        return decision(self.organization, self.at, **{"route": "", **fixed, **more})

    def _outcomes(self) -> Iterator[Outcome]:
        for name, kind, value_eur in (("lead_id", "lead", Decimal(0)), ("order_id", "order", Decimal(90))):
            if name in self.metadata:
                yield Outcome(
                    organization=self.organization,
                    kind=kind,
                    external_id=self.metadata[name],
                    occurred_at=self.at,
                    day=clock.day_of(self.at, self.organization.time_zone),
                    value_eur=value_eur,
                    received_at=clock.now(),
                )
