"""What the calls cost that name a lead or an order: in all, by step of a period, by group, and one by one.

A lead that calls name on several days counts once in a period: on the first of its rows in it, the one whose
row before lies before the period (`kpis/sql/named.sql`). One that is not rolled up yet counts where no row of
the period names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from aigov.money import ZERO
from budgets import roll_ups
from budgets.roll_ups import Standing
from kpis import definitions
from kpis.facts import NAMED, NAMES
from kpis.models import SampleOf
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
    """What the calls cost that name one lead (or order), in euro.

    The mean is of all that are `named`; the others of the `looked_at`, a sample where these are very many.
    """

    named: int = 0
    looked_at: int = 0
    mean_eur: Decimal | None = None
    p10_eur: Decimal | None = None
    median_eur: Decimal | None = None
    p90_eur: Decimal | None = None
    max_eur: Decimal | None = None

    @property
    def is_sample(self) -> bool:
        return self.looked_at < self.named


@dataclass(slots=True)
class Named:
    """The calls of a period that name a lead or an order: in all, by step, by group, and one by one."""

    steps: list[Direct]
    total: Direct = field(default_factory=Direct)
    by_use_case: dict[tuple[str, ...], Direct] = field(default_factory=dict)
    by_model: dict[tuple[str, ...], Direct] = field(default_factory=dict)
    spread: dict[str, CostDistribution] = field(default_factory=dict)


#: Of more leads (or orders) than this, so many are looked at one by one.
SAMPLE = 10_000
_SAMPLE_OF = SampleOf.template % {"expressions": "external_id"}


@dataclass(frozen=True, slots=True)
class _Among:
    """The rows among which a row knows the one before it: those of a lead that have these columns in common.

    Args:
        before: the column of `kpi_named_days` that has its day.
        months: the level of their sums, where there is one.
        days, days_of_all: the same by day, of each organization and of all together.
    """

    columns: tuple[str, ...]
    before: str
    months: str = ""
    days: str = ""
    days_of_all: str = ""


_ALL = _Among((), "before", "months", "days", "days")
_OF_USE_CASE = _Among(("use_case",), "before_in_use_case", "use_cases", "", "use_case_days")
_OF_MODEL = _Among(("provider", "model"), "before_by_model", "models", "", "model_days")
_OF_BOTH = _Among(("use_case", "provider", "model"), "before_in_both")

# What is rolled up: a period's whole months, and the days at its edges.
_ROLLED_UP = """
SELECT kind, {group}day, before, parts, cost_eur FROM kpi_named_sums
WHERE level = '{among.months}' AND {wanted} AND day >= %(months_first)s AND day < %(months_end)s{only}
UNION ALL
SELECT kind, {group}day, {before}, {parts}, cost_eur FROM {days}
  AND (day >= %(first)s AND day < %(months_first)s OR day >= %(months_end)s AND day <= %(last)s){only}"""
_STEP = "width_bucket(day, %(firsts)s::date[]) AS step"
_STEP_FIRST = "(%(firsts)s::date[])[step]"
_STEP_LAST = "coalesce((%(firsts)s::date[])[step + 1] - 1, %(last)s)"
_NAMED_IN = """EXISTS (
    SELECT FROM kpi_named_days d WHERE d.organization_id = one.organization_id AND d.kind = one.kind
       AND d.external_id = one.external_id{same} AND d.day BETWEEN {first} AND {last})"""
# A lead (or order) that is newer than the roll-up counts in the first of the steps that name it.
_COUNTED = f"""
SELECT kind, {{group}}step, sum(cost_eur), coalesce(sum(in_step), 0)::bigint,
       coalesce(sum(in_all), 0)::bigint
FROM (
    SELECT kind, {{group}}step, sum(cost_eur) AS cost_eur,
           sum(parts) FILTER (WHERE before < {_STEP_FIRST}) AS in_step,
           sum(parts) FILTER (WHERE before < %(first)s) AS in_all
    FROM (SELECT kind, {{group}}{_STEP}, before, parts, cost_eur FROM ({_ROLLED_UP}) r) r
    GROUP BY kind, {{group}}step
    UNION ALL
    SELECT kind, {{group}}step, cost_eur, (NOT {{in_step}})::integer,
           (ordinal = 1 AND NOT {{in_all}})::integer
    FROM (
        SELECT *, row_number() OVER (
            PARTITION BY organization_id, kind, external_id{{common}} ORDER BY step
        ) AS ordinal
        FROM (
            SELECT organization_id, kind, external_id{{common}}, step, sum(cost_eur) AS cost_eur
            FROM (SELECT *, {_STEP} FROM {{newer}}{{only}}) r
            GROUP BY organization_id, kind, external_id{{common}}, step
        ) r
    ) one
) r GROUP BY kind, {{group}}step
"""
_SPREAD = """
SELECT count(*), percentile_disc(0.1) WITHIN GROUP (ORDER BY cost_eur),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY cost_eur),
       percentile_disc(0.9) WITHIN GROUP (ORDER BY cost_eur), max(cost_eur)
FROM (
    SELECT sum(cost_eur) AS cost_eur
    FROM (
        SELECT organization_id, external_id, cost_eur FROM kpi_named_days
        WHERE {wanted} AND day BETWEEN %(first)s AND %(last)s AND kind = %(kind)s{sampled}{only}
        UNION ALL
        SELECT organization_id, external_id, cost_eur FROM {newer} AND kind = %(kind)s{newer_sampled}{only}
    ) r GROUP BY organization_id, external_id
) one
"""


def direct(organization_ids: Sequence[int], period: Period, use_case: str | None = None) -> Direct:
    """What the calls of a period that name a lead or an order cost; 2 queries, of all organizations 3."""

    def total(at: Standing) -> Direct:
        return _Reading(at, organization_ids, period, use_case).steps([period.first]).total

    return roll_ups.ask(NAMES, organization_ids, total)


def named(
    firsts: Sequence[date], organization_ids: Sequence[int], period: Period, use_case: str | None = None
) -> Named:
    """As `direct`, for each of the steps that begin on `firsts`, for each use case and for each provider and
    model; a lead counts once in each. And how the cost of a lead (or order) is spread over all. At most 6
    queries, of all organizations 7.
    """

    def all_of_them(at: Standing) -> Named:
        read = _Reading(at, organization_ids, period, use_case)
        found = read.steps(firsts)
        found.by_use_case = read.groups("use_case")
        found.by_model = read.groups("provider", "model")
        found.spread = read.spread(found.total)
        return found

    return roll_ups.ask(NAMES, organization_ids, all_of_them)


class _Reading:
    """The questions about one selection."""

    def __init__(
        self, at: Standing, organization_ids: Sequence[int], period: Period, use_case: str | None
    ) -> None:
        self._at = at
        self._values = {"organization_ids": list(organization_ids), "use_case": use_case}
        self._period = period
        self._only = "" if use_case is None else " AND use_case = %(use_case)s"
        self._newer = NAMES.newer(NAMED)

    def steps(self, firsts: Sequence[date]) -> Named:
        """The total, and each step. Steps that are not months are days, or the whole period."""
        found = Named([Direct() for _step in firsts])
        for kind, step, cost_eur, in_step, in_all in self._counted(firsts):
            found.steps[step - 1].add(kind, cost_eur, in_step)
            found.total.add(kind, cost_eur, in_all)
        return found

    def groups(self, *group: str) -> dict[tuple[str, ...], Direct]:
        found: dict[tuple[str, ...], Direct] = {}
        for kind, *values, _step, cost_eur, _in_step, in_all in self._counted([self._period.first], *group):
            found.setdefault(tuple(values), Direct()).add(kind, cost_eur, in_all)
        return found

    def spread(self, total: Direct) -> dict[str, CostDistribution]:
        of_kind = {
            "lead": (total.leads, total.cost_per_lead_eur),
            "order": (total.orders, total.cost_per_order_eur),
        }
        return {kind: self._spread(kind, *of) for kind, of in of_kind.items() if of[0]}

    def _spread(self, kind: str, named: int, mean_eur: Decimal | None) -> CostDistribution:
        is_sample = named > SAMPLE
        statement = _SPREAD.format(
            wanted=roll_ups.WANTED,
            newer=self._newer,
            only=self._only,
            sampled=" AND sample < %(samples)s" if is_sample else "",
            newer_sampled=f" AND {_SAMPLE_OF} < %(samples)s" if is_sample else "",
        )
        samples = max(SampleOf.PARTS * SAMPLE // named, 1)
        [(looked_at, *spread)] = self._read(statement, kind=kind, samples=samples)
        return CostDistribution(named, looked_at, mean_eur, *spread)

    def _counted(self, firsts: Sequence[date], *group: str) -> list[tuple[Any, ...]]:
        among = _among({*group, *(["use_case"] if self._only else [])})
        same = "".join(f" AND d.{name} = one.{name}" for name in among.columns)
        statement = _COUNTED.format(
            among=among,
            group="".join(f"{name}, " for name in group),
            common="".join(f", {name}" for name in among.columns),
            wanted=self._wanted,
            newer=self._newer,
            only=self._only,
            in_step=_NAMED_IN.format(same=same, first=_STEP_FIRST, last=_STEP_LAST),
            in_all=_NAMED_IN.format(same=same, first="%(first)s", last="%(last)s"),
            **self._days(among),
        )
        return self._read(statement, firsts=list(firsts), **self._months(among, firsts))

    def _days(self, among: _Among) -> dict[str, str]:
        """Where the days are, and what its columns are called there."""
        level = among.days_of_all if self._at.of_all else among.days
        if level:
            days = f"kpi_named_sums WHERE level = '{level}' AND {self._wanted}"
            return {"days": days, "before": "before", "parts": "parts"}
        return {"days": f"kpi_named_days WHERE {roll_ups.WANTED}", "before": among.before, "parts": "1"}

    def _months(self, among: _Among, firsts: Sequence[date]) -> dict[str, date]:
        """The whole months that are read as such: none where a step begins within one."""
        months = roll_ups.whole_months(self._period.first, self._period.last)
        if among.months and all(first.day == 1 for first in firsts[1:]):
            return months
        return {"months_first": months["months_end"], "months_end": months["months_end"]}

    @property
    def _wanted(self) -> str:
        return roll_ups.WANTED_ALL if self._at.of_all else roll_ups.WANTED

    def _read(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        span = {"first": self._period.first, "last": self._period.last}
        return roll_ups.read(statement, self._at, **self._values, **span, **values)


def _among(columns: set[str]) -> _Among:
    return next(among for among in (_ALL, _OF_USE_CASE, _OF_MODEL, _OF_BOTH) if columns <= set(among.columns))
