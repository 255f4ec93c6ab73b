"""What the dashboards and the API read: each a fixed number of queries on the roll-ups and what is newer.

All of them take the organizations that the reader may see, a `Period` of local days, and, but for where it
says otherwise, a use case to which costs and requests are narrowed. Leads and orders belong to no use case: a
use case's cost per lead is its cost by all leads of the period. Today is live in all of them.
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
from kpis.facts import ATTEMPTS, DECISIONS, FAILOVERS, HISTOGRAMS, NAMED, NAMES, REQUESTS
from kpis.periods import Period

Kind = Literal["lead", "order"]


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


@dataclass(slots=True)
class Direct:
    """The calls that name a lead or an order: what they cost, and how many distinct ones they name."""

    lead_cost_eur: Decimal = ZERO
    leads: int = 0
    order_cost_eur: Decimal = ZERO
    orders: int = 0

    def add(self, kind: str, cost_eur: Decimal, named: int) -> None:
        if kind == "lead":
            self.lead_cost_eur, self.leads = self.lead_cost_eur + cost_eur, self.leads + named
        else:
            self.order_cost_eur, self.orders = self.order_cost_eur + cost_eur, self.orders + named

    @property
    def cost_per_lead_eur(self) -> Decimal | None:
        return definitions.cost_per(self.lead_cost_eur, self.leads)

    @property
    def cost_per_order_eur(self) -> Decimal | None:
        return definitions.cost_per(self.order_cost_eur, self.orders)


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


def direct(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Direct:
    """What the calls of a period that name a lead or an order cost; 2 queries, and the slowest."""
    return direct_by_step([period.first], organization_ids, period, use_case)[0]


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
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[date, Business]:
    """Cost, leads and orders of each day, without which calls name one; 3 queries."""
    costs = {costs.group[0]: costs for costs in _costs_by(organization_ids, period, use_case, "day")}
    outcomes: dict[date, Outcomes] = {}
    for day, *row in _outcomes_by(organization_ids, period, "day", "kind"):
        outcomes.setdefault(day, Outcomes()).add(*row)
    return {
        day: Business(
            costs[day].cost_eur if day in costs else ZERO,
            costs[day].calls if day in costs else 0,
            outcomes.get(day, Outcomes()),
        )
        for day in _days_so_far(period, [*costs, *outcomes])
    }


def direct_by_step(
    firsts: Sequence[date], organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> list[Direct]:
    """As `direct`, of each of the steps that begin on `firsts`; a lead counts once in each; 2 queries."""
    found = [Direct() for _step in firsts]
    for step, *row in _named_by(organization_ids, period, use_case, "step", "kind", firsts=firsts):
        found[step - 1].add(*row)
    return found


def requests_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[date, Requests]:
    """How each day's requests ended: routes, cache, escalations, failures, what was saved; 2 queries."""
    found: dict[date, Requests] = {}
    for day, *row in _requests_by(organization_ids, period, use_case, "day", "route", "error_code"):
        found.setdefault(day, Requests()).add(*row)
    return {day: found.get(day, Requests()) for day in _days_so_far(period, found)}


def tier_cost_by_day(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[date, dict[str, Decimal]]:
    """What each day's calls of each tier cost; corrections without a call have the tier ''."""
    found: dict[date, dict[str, Decimal]] = {}
    for costs in _costs_by(organization_ids, period, use_case, "day", "tier"):
        found.setdefault(costs.group[0], {})[costs.group[1]] = costs.cost_eur
    return {day: found.get(day, {}) for day in _days_so_far(period, found)}


def _days_so_far(period: Period, found: Iterable[date]) -> list[date]:
    last = max([clock.now().date(), *found])
    return [day for day in period.days if day <= last]


# --- By group


@dataclass(frozen=True, slots=True)
class GroupBusiness:
    """A use case's or a model's cost, calls, and what its calls that name a lead or an order cost."""

    group: tuple[str, ...]
    cost_eur: Decimal
    calls: int
    direct: Direct


def business_by(
    group: Literal["use_case", "model"],
    organization_ids: Sequence[int],
    period: Period,
    use_case: str | None = None,
) -> list[GroupBusiness]:
    """Cost by use case, or by provider and model, the dearest first; 4 queries."""
    columns = ("use_case",) if group == "use_case" else ("provider", "model")
    direct: dict[tuple[str, ...], Direct] = {}
    for row in _named_by(organization_ids, period, use_case, *columns, "kind"):
        direct.setdefault(row[: len(columns)], Direct()).add(*row[len(columns) :])
    found = _costs_by(organization_ids, period, use_case, *columns)
    return [
        GroupBusiness(costs.group, costs.cost_eur, costs.calls, direct.get(costs.group, Direct()))
        for costs in sorted(found, key=lambda costs: -costs.cost_eur)
    ]


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
    for kind, label, number, requests in _histograms(organization_ids, period, use_case):
        if kind == bins.CONFIDENCE:
            setattr(histogram[number], label, requests)
    return histogram


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times from request to answer, in ms; None where there is no answer."""

    answers: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def latencies(
    organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> dict[str, Latencies]:
    """Latencies by route, and of all answers (''); 2 queries."""
    by_route: dict[str, dict[int, int]] = {"": {}}
    for kind, route, number, requests in _histograms(organization_ids, period, use_case):
        if kind == bins.LATENCY:
            by_route.setdefault(route, {})[number] = requests
            by_route[""][number] = by_route[""].get(number, 0) + requests
    return {route: _latencies(counted) for route, counted in by_route.items()}


def latencies_by_step(
    firsts: Sequence[date], organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> list[Latencies]:
    """Latencies of all answers in each of the steps that begin on `firsts`; 2 queries."""
    rows = roll_ups.read(
        DECISIONS,
        "SELECT width_bucket(day, %(firsts)s::date[]), bin, sum(requests)::bigint"
        f" FROM ({DECISIONS.with_newer(HISTOGRAMS)}) r WHERE kind = %(kind)s AND {_OF_USE_CASE}"
        " GROUP BY 1, 2",
        firsts=list(firsts),
        kind=bins.LATENCY,
        **_chosen(organization_ids, period, use_case),
    )
    counted: list[dict[int, int]] = [{} for _step in firsts]
    for step, number, requests in rows:
        counted[step - 1][number] = requests
    return [_latencies(each) for each in counted]


def _latencies(counted: Mapping[int, int]) -> Latencies:
    percentiles = [definitions.latency_percentile_ms(counted, share) for share in (0.5, 0.95, 0.99)]
    return Latencies(sum(counted.values()), *percentiles)


def _histograms(
    organization_ids: Sequence[int], period: Period, use_case: str | None
) -> list[tuple[Any, ...]]:
    return roll_ups.sums_by(
        *(DECISIONS, HISTOGRAMS, "kind", "label", "bin"),
        **_chosen(organization_ids, period, use_case),
    )


@dataclass(frozen=True, slots=True)
class CostDistribution:
    """What the calls cost that name one lead (or order): over all that are named, in euro."""

    named: int
    mean_eur: Decimal | None
    p10_eur: Decimal | None
    median_eur: Decimal | None
    p90_eur: Decimal | None
    max_eur: Decimal | None


def direct_cost_distribution(
    kind: Kind, organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> CostDistribution:
    """How the cost of a lead (or order) is spread over those that calls name; 2 queries."""
    quantile = "percentile_disc({}) WITHIN GROUP (ORDER BY cost_eur)"
    rows = roll_ups.read(
        NAMES,
        f"SELECT count(*), avg(cost_eur)::numeric(18, 9), {quantile.format(0.1)}, {quantile.format(0.5)},"
        f" {quantile.format(0.9)}, max(cost_eur) FROM (SELECT sum(cost_eur) AS cost_eur"
        f" FROM ({NAMES.with_newer(NAMED)}) r WHERE kind = %(kind)s AND {_OF_USE_CASE}"
        " GROUP BY organization_id, external_id) one",
        kind=kind,
        **_chosen(organization_ids, period, use_case),
    )
    return CostDistribution(*rows[0])


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


_OF_USE_CASE = "(%(use_case)s::text IS NULL OR use_case = %(use_case)s)"


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


def _named_by(
    ids: Sequence[int], period: Period, use_case: str | None, *group: str, firsts: Sequence[date] = ()
) -> list[tuple[Any, ...]]:
    """Rows of the group, what the calls cost, and how many distinct leads or orders they name.

    `step` among the group is a step's number, from 1, where steps begin on the days `firsts`.
    """
    columns = ", ".join(group)
    rows = f"SELECT *, width_bucket(day, %(firsts)s::date[]) AS step FROM ({NAMES.with_newer(NAMED)}) named"
    return roll_ups.read(
        NAMES,
        f"SELECT {columns}, sum(cost_eur), count(*) FROM ("
        f"SELECT {columns}, sum(cost_eur) AS cost_eur FROM ({rows}) r WHERE {_OF_USE_CASE}"
        f" GROUP BY {columns}, organization_id, external_id) one GROUP BY {columns}",
        firsts=list(firsts),
        **_chosen(ids, period, use_case),
    )


def _outcomes_by(organization_ids: Sequence[int], period: Period, *group: str) -> list[tuple[Any, ...]]:
    """Rows of the group, how many leads or orders, and their value."""
    columns = ", ".join(group)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, count(*), sum(value_eur) FROM kpi_outcomes"
            " WHERE organization_id = ANY(%s) AND day BETWEEN %s AND %s"
            f" GROUP BY {columns}",
            [list(organization_ids), period.first, period.last],
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
