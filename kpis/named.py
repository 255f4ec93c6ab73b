"""What the calls cost that name a lead or an order: in all, by step of a period, by group, and one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from aigov.money import ZERO
from budgets import roll_ups
from kpis import definitions
from kpis.facts import NAMED, NAMES
from kpis.periods import Period

Kind = Literal["lead", "order"]


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
class CostDistribution:
    """What the calls cost that name one lead (or order): over all that are named, in euro."""

    named: int = 0
    mean_eur: Decimal | None = None
    p10_eur: Decimal | None = None
    median_eur: Decimal | None = None
    p90_eur: Decimal | None = None
    max_eur: Decimal | None = None


@dataclass(slots=True)
class Named:
    """The calls of a period that name a lead or an order: in all, by step, by group, and one by one."""

    steps: list[Direct]
    total: Direct = field(default_factory=Direct)
    by_use_case: dict[tuple[str, ...], Direct] = field(default_factory=dict)
    by_model: dict[tuple[str, ...], Direct] = field(default_factory=dict)
    spread: dict[str, CostDistribution] = field(default_factory=dict)


_OF_USE_CASE = "(%(use_case)s::text IS NULL OR use_case = %(use_case)s)"
# The rows are read once, and those of each lead (or order) added up within each group that is asked for.
_NAMED = f"""
WITH one AS MATERIALIZED (
    SELECT kind, step, use_case, provider, model, sum(cost_eur) AS cost_eur,
           CASE GROUPING(step, use_case, model) WHEN 3 THEN 'step' WHEN 5 THEN 'use_case' WHEN 6 THEN 'model'
                ELSE 'all' END AS of
    FROM (SELECT *, width_bucket(day, %(firsts)s::date[]) AS step FROM ({{rows}}) named) r
    WHERE {_OF_USE_CASE}
    GROUP BY kind, organization_id, external_id, GROUPING SETS ((), (step), (use_case), (provider, model))
)
SELECT of, step, use_case, provider, model, kind, count(*), sum(cost_eur), NULL, NULL, NULL, NULL, NULL
FROM one WHERE of <> 'all' GROUP BY of, step, use_case, provider, model, kind
UNION ALL
SELECT of, NULL, NULL, NULL, NULL, kind, count(*), sum(cost_eur), avg(cost_eur)::numeric(18, 9),
       percentile_disc(0.1) WITHIN GROUP (ORDER BY cost_eur),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY cost_eur),
       percentile_disc(0.9) WITHIN GROUP (ORDER BY cost_eur), max(cost_eur)
FROM one WHERE of = 'all' GROUP BY of, kind
"""


def direct(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Direct:
    """What the calls of a period that name a lead or an order cost; 2 queries, and the slowest."""
    found = Direct()
    for row in roll_ups.read(
        NAMES,
        "SELECT kind, sum(cost_eur), count(*) FROM (SELECT kind, sum(cost_eur) AS cost_eur"
        f" FROM ({NAMES.with_newer(NAMED)}) r WHERE {_OF_USE_CASE}"
        " GROUP BY kind, organization_id, external_id) one GROUP BY kind",
        **_chosen(organization_ids, period, use_case),
    ):
        found.add(*row)
    return found


def named(
    firsts: Sequence[date], organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> Named:
    """As `direct`, for each of the steps that begin on `firsts`, for each use case and for each provider and
    model; a lead counts once in each. And how the cost of a lead (or order) is spread over all. 2 queries.
    """
    found = Named([Direct() for _step in firsts])
    chosen = {"firsts": list(firsts), **_chosen(organization_ids, period, use_case)}
    for of, step, of_use_case, provider, model, kind, number, cost_eur, *spread in roll_ups.read(
        NAMES, _NAMED.format(rows=NAMES.with_newer(NAMED)), **chosen
    ):
        if of == "step":
            found.steps[step - 1].add(kind, cost_eur, number)
        elif of == "use_case":
            found.by_use_case.setdefault((of_use_case,), Direct()).add(kind, cost_eur, number)
        elif of == "model":
            found.by_model.setdefault((provider, model), Direct()).add(kind, cost_eur, number)
        else:
            found.total.add(kind, cost_eur, number)
            found.spread[kind] = CostDistribution(number, *spread)
    return found


def _chosen(organization_ids: Sequence[int], period: Period, use_case: str | None) -> dict[str, Any]:
    return {
        "organization_ids": list(organization_ids),
        "first": period.first,
        "last": period.last,
        "use_case": use_case,
    }
