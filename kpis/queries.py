"""What the dashboards and the API read: each a fixed number of queries on the roll-ups and what is newer.

All of them take the organizations that the reader may see, a `Period` of local days, and, but for where it
says otherwise, a use case to which costs and requests are narrowed. Leads and orders belong to no use case: a
use case's cost per lead is its cost by all leads of the period. Today is live in all of them. Where it is of
all organizations, a question to the roll-ups takes one query more (`budgets.roll_ups.ask`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from django.db import connection

from aigov import clock
from aigov.money import ZERO
from aigov.organizations.models import Organization
from budgets import daily, roll_ups
from budgets.models import BudgetAccount, Scope
from kpis import bins, definitions
from kpis.definitions import FAILURES
from kpis.facts import ATTEMPTS, DECISIONS, FAILOVERS, HISTOGRAMS, REQUESTS
from kpis.named import Direct, direct
from kpis.periods import Period

#: What a period is cut into; the first step begins with the period.
Step = Literal["day", "month"]


@dataclass(slots=True)
class Requests:
    """How requests ended. `by_error`: how many had no answer, by error code."""

    small: int = 0
    large: int = 0
    degraded: int = 0
    cache: int = 0
    failed: int = 0
    refused: int = 0
    judged: int = 0
    escalated: int = 0
    rescued: int = 0
    cost_eur: Decimal = ZERO
    saved_eur: Decimal = ZERO
    all_large_eur: Decimal = ZERO
    by_error: dict[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return self.small + self.large + self.degraded + self.cache

    @property
    def cache_hit_rate(self) -> float | None:
        return definitions.cache_hit_rate(self.cache, self.answered)

    @property
    def escalation_rate(self) -> float | None:
        return definitions.escalation_rate(self.escalated, self.judged)

    @property
    def availability(self) -> float | None:
        return definitions.availability(self.answered, self.failed)

    @property
    def availability_without_fallback(self) -> float | None:
        return definitions.availability_without_fallback(self.answered, self.rescued, self.failed)

    def add(self, route: str, error_code: str, *sums: Any) -> None:
        """Adds a row of the requests' roll-up."""
        cost_eur, saved_eur, all_large_eur, requests, judged, escalated, rescued = sums
        if route:
            setattr(self, route, getattr(self, route) + requests)
        else:
            self.failed += requests if error_code in FAILURES else 0
            self.refused += 0 if error_code in FAILURES else requests
            self.by_error[error_code] = self.by_error.get(error_code, 0) + requests
        self.judged += judged
        self.escalated += escalated
        self.rescued += rescued
        self.cost_eur += cost_eur
        self.saved_eur += saved_eur
        self.all_large_eur += all_large_eur


@dataclass(slots=True)
class Outcomes:
    """Leads and orders, and what they are worth."""

    leads: int = 0
    orders: int = 0
    value_eur: Decimal = ZERO

    def add(self, kind: str, count: int, value_eur: Decimal) -> None:
        self.leads += count if kind == "lead" else 0
        self.orders += count if kind == "order" else 0
        self.value_eur += value_eur


@dataclass(frozen=True, slots=True)
class Business:
    """What was spent and what it brought: by all cost, and by the calls that name a lead or an order."""

    cost_eur: Decimal = ZERO
    calls: int = 0
    outcomes: Outcomes = field(default_factory=Outcomes)
    direct: Direct = field(default_factory=Direct)

    @property
    def cost_per_lead_eur(self) -> Decimal | None:
        return definitions.cost_per(self.cost_eur, self.outcomes.leads)

    @property
    def cost_per_order_eur(self) -> Decimal | None:
        return definitions.cost_per(self.cost_eur, self.outcomes.orders)

    @property
    def return_on_spend(self) -> float | None:
        return definitions.return_on_spend(self.outcomes.value_eur, self.cost_eur)


@dataclass(frozen=True, slots=True)
class Figures:
    """The key figures of a period."""

    business: Business
    requests: Requests

    @property
    def savings_factor(self) -> float | None:
        return definitions.savings_factor(self.requests.all_large_eur, self.business.cost_eur)

    @property
    def saved_eur(self) -> Decimal:
        return definitions.saved_eur(self.requests.all_large_eur, self.business.cost_eur)


@dataclass(frozen=True, slots=True)
class Overview:
    """The period's figures beside those of the period before, and what each organization's today has cost."""

    now: Figures
    before: Figures
    today_eur: Decimal
    as_of: datetime


def overview(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Overview:
    return Overview(
        now=figures(organization_ids, period, use_case),
        before=figures(organization_ids, period.before, use_case),
        today_eur=today_eur(organization_ids, use_case),
        as_of=clock.now(),
    )


def figures(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Figures:
    """The key figures of a period; 7 queries."""
    spent = spending(organization_ids, period, use_case)
    return Figures(
        replace(spent, direct=direct(organization_ids, period, use_case)),
        requests(organization_ids, period, use_case),
    )


def requests(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Requests:
    """How the requests of a period ended; 2 queries."""
    found = Requests()
    for route, error_code, *sums in _requests_by(organization_ids, period, use_case, "route", "error_code"):
        found.add(route, error_code, *sums)
    return found


def spending(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Business:
    """What a period cost and brought, without which calls name a lead or an order; 3 queries."""
    costs = _costs_by(organization_ids, period, use_case)
    outcomes = Outcomes()
    for kind, count, value_eur in _outcomes_by(organization_ids, period, "kind"):
        outcomes.add(kind, count, value_eur)
    return Business(costs[0].cost_eur if costs else ZERO, costs[0].calls if costs else 0, outcomes)


def today_eur(organization_ids: Sequence[int], use_case: str | None = None) -> Decimal:
    """What the organizations have spent today, each on its own local day; 3 queries."""
    now = clock.now()
    zones = Organization.objects.filter(pk__in=organization_ids).values_list("pk", "time_zone")
    today = {pk: clock.day_of(now, zone) for pk, zone in zones}
    if not today:
        return ZERO
    around = Period(min(today.values()), max(today.values()))
    found = _costs_by(organization_ids, around, use_case, "organization_id", "day")
    return sum((costs.cost_eur for costs in found if today[costs.group[0]] == costs.group[1]), ZERO)


# --- By day


def cost_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[date, Decimal]:
    """What each day cost; days without a record are 0, and days to come are left out."""
    found = {costs.group[0]: costs.cost_eur for costs in _costs_by(organization_ids, period, use_case, "day")}
    return {day: found.get(day, ZERO) for day in _days_so_far(period, found)}


def business_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None, *, step: Step = "day"
) -> dict[date, Business]:
    """Cost, leads and orders of each day (or month), without which calls name one; 3 queries."""
    found = _costs_by(organization_ids, period, use_case, step)
    costs = {max(each.group[0], period.first): each for each in found}
    outcomes: dict[date, Outcomes] = {}
    for at, *row in _outcomes_by(organization_ids, period, step, "kind"):
        outcomes.setdefault(max(at, period.first), Outcomes()).add(*row)
    return {
        day: Business(
            costs[day].cost_eur if day in costs else ZERO,
            costs[day].calls if day in costs else 0,
            outcomes.get(day, Outcomes()),
        )
        for day in _steps_so_far(period, [*costs, *outcomes], step)
    }


def requests_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None, *, step: Step = "day"
) -> dict[date, Requests]:
    """How each day's (or month's) requests ended: routes, cache, failures, what was saved; 2 queries."""
    found: dict[date, Requests] = {}
    for at, *row in _requests_by(organization_ids, period, use_case, step, "route", "error_code"):
        found.setdefault(max(at, period.first), Requests()).add(*row)
    return {day: found.get(day, Requests()) for day in _steps_so_far(period, found, step)}


def tier_cost_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None, *, step: Step = "day"
) -> dict[date, dict[str, Decimal]]:
    """What each day's (or month's) calls of each tier cost; corrections without a call have the tier ''."""
    found: dict[date, dict[str, Decimal]] = {}
    for costs in _costs_by(organization_ids, period, use_case, step, "tier"):
        found.setdefault(max(costs.group[0], period.first), {})[costs.group[1]] = costs.cost_eur
    return {day: found.get(day, {}) for day in _steps_so_far(period, found, step)}


def _days_so_far(period: Period, found: Iterable[date]) -> list[date]:
    last = max([clock.now().date(), *found])
    return [day for day in period.days if day <= last]


def _steps_so_far(period: Period, found: Iterable[date], step: Step) -> list[date]:
    """The first days of a period's steps."""
    days = _days_so_far(period, found)
    return days if step == "day" else [day for day in days if day.day == 1 or day == period.first]


# --- By group


def dearest_by(
    group: Literal["use_case", "model"],
    organization_ids: Sequence[int],
    period: Period,
    use_case: str | None = None,
) -> list[daily.Costs]:
    """Cost by use case, or by provider and model, the dearest first; 2 queries."""
    columns = ("use_case",) if group == "use_case" else ("provider", "model")
    found = _costs_by(organization_ids, period, use_case, *columns)
    return sorted(found, key=lambda costs: -costs.cost_eur)


def top_users(organization_ids: Sequence[int], period: Period, limit: int = 20) -> list[daily.UserCost]:
    """The users who spent most, over all use cases; 2 queries."""
    return daily.user_costs(organization_ids, period.first, period.last, limit=limit)


# --- Distributions


@dataclass(slots=True)
class ConfidenceBin:
    """How many small answers of a confidence from `low` to `high` were accepted, escalated, degraded."""

    low: float
    high: float
    accepted: int = 0
    escalated: int = 0
    degraded: int = 0


def confidence_histogram(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> list[ConfidenceBin]:
    """How sure the small model was, and what became of its answer; 2 queries."""
    histogram = [ConfidenceBin(*bins.confidence_range(number)) for number in range(bins.CONFIDENCE_BINS)]
    for label, number, requests in _histogram(
        *(bins.CONFIDENCE, organization_ids, period, use_case), "label", "bin"
    ):
        setattr(histogram[number], label, requests)
    return histogram


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times from request to answer, in ms; None where there is no answer."""

    answers: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


NO_ANSWERS = Latencies(0, None, None, None)


def latencies(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[str, Latencies]:
    """Latencies by route, and of all answers (''); 2 queries."""
    by_route: dict[str, dict[int, int]] = {"": {}}
    for route, number, requests in _histogram(
        *(bins.LATENCY, organization_ids, period, use_case), "label", "bin"
    ):
        by_route.setdefault(route, {})[number] = requests
        by_route[""][number] = by_route[""].get(number, 0) + requests
    return {route: _latencies(counted) for route, counted in by_route.items()}


def latencies_by_step(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None, *, step: Step = "day"
) -> dict[date, Latencies]:
    """Latencies of all answers in each step that has one; 2 queries."""
    counted: dict[date, dict[int, int]] = {}
    for at, number, requests in _histogram(bins.LATENCY, organization_ids, period, use_case, step, "bin"):
        counted.setdefault(max(at, period.first), {})[number] = requests
    return {at: _latencies(each) for at, each in counted.items()}


def _latencies(counted: Mapping[int, int]) -> Latencies:
    percentiles = [definitions.latency_percentile_ms(counted, share) for share in (0.5, 0.95, 0.99)]
    return Latencies(sum(counted.values()), *percentiles)


def _histogram(
    kind: str, organization_ids: Sequence[int], period: Period, use_case: str | None, *group: str
) -> list[tuple[Any, ...]]:
    chosen = _chosen(organization_ids, period, use_case)
    return roll_ups.sums_by(DECISIONS, HISTOGRAMS, *group, **chosen, kind=kind)


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often calls to a model ended in one way; `error` where they failed."""

    provider: str
    model: str
    tier: str
    outcome: str
    error: str
    attempts: int


def attempts(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> list[Attempts]:
    """How calls ended by provider and model, failures by reason; 2 queries."""
    group = ("provider", "model", "tier", "outcome", "error")
    rows = roll_ups.sums_by(DECISIONS, ATTEMPTS, *group, **_chosen(organization_ids, period, use_case))
    return [Attempts(*row) for row in rows]


#: Who failed, and who answered instead.
ProviderPair = tuple[str, str]


def failovers_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[date, dict[ProviderPair, int]]:
    """How many of each day's requests one provider answered for another; 2 queries."""
    found: dict[date, dict[ProviderPair, int]] = {}
    pair = ("failed_provider", "provider")
    rows = roll_ups.sums_by(DECISIONS, FAILOVERS, "day", *pair, **_chosen(organization_ids, period, use_case))
    for day, failed, answered, requests in rows:
        found.setdefault(day, {})[failed, answered] = requests
    return {day: found.get(day, {}) for day in _days_so_far(period, found)}


def costs_of(
    organization_ids: Sequence[int], period: Period, use_case: str | None, *group: str
) -> dict[tuple[Any, ...], Decimal]:
    """What each group cost; 2 queries."""
    return {found.group: found.cost_eur for found in _costs_by(organization_ids, period, use_case, *group)}


def use_cases(organization_ids: Sequence[int], period: Period) -> list[str]:
    """The use cases that the months of a period have accounts of, by name, for a filter; 1 query."""
    months = (period.first.replace(day=1), period.last)
    accounts = BudgetAccount.objects.filter(
        organization__in=organization_ids, month__range=months, scope=Scope.USE_CASE
    )
    return list(accounts.order_by("subject").values_list("subject", flat=True).distinct())


# --- What the reads stand on


def _chosen(organization_ids: Sequence[int], period: Period, use_case: str | None) -> dict[str, Any]:
    return {
        "organization_ids": list(organization_ids),
        "first": period.first,
        "last": period.last,
        "use_case": use_case,
    }


def _costs_by(
    organization_ids: Sequence[int], period: Period, use_case: str | None, *group: str
) -> list[daily.Costs]:
    return daily.costs_by(*group, **_chosen(organization_ids, period, use_case))


def _requests_by(
    organization_ids: Sequence[int], period: Period, use_case: str | None, *group: str
) -> list[tuple[Any, ...]]:
    return roll_ups.sums_by(DECISIONS, REQUESTS, *group, **_chosen(organization_ids, period, use_case))


def _outcomes_by(organization_ids: Sequence[int], period: Period, *group: str) -> list[tuple[Any, ...]]:
    """Rows of the group, how many leads or orders, and their value."""
    columns = ", ".join(roll_ups.MONTH if name == "month" else name for name in group)
    # By day first: a month is worked out for each day, and not for each lead.
    days = (
        "SELECT day, kind, count(*) AS outcomes, sum(value_eur) AS value_eur FROM kpi_outcomes"
        " WHERE organization_id = ANY(%s) AND day BETWEEN %s AND %s GROUP BY day, kind"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, sum(outcomes)::bigint, sum(value_eur) FROM ({days}) d GROUP BY {columns}",
            [list(organization_ids), period.first, period.last],
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
