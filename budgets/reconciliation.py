"""The ledger against the providers' bills: by provider and month, drilled down to days and models.

Like is compared with like. Bills have UTC days, so a month here is one of UTC, and a call counts on the UTC
day on which its charge was settled. A correction of a call counts on that call's day; one that was made for a
provider's month as a whole counts in that month. A day that is not over is compared up to when its
bill was read; one that is over and not on the bill is named, and counts as billed with 0. Organizations
account by their local months: `edges` shows how the two come to the same sum.

Bills are in US dollars. Euro are dollars at the rate of the ledger's own records: what the compared calls
cost in euro, by what they cost in dollars.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from django.db import connection
from django.db.models import Sum

from aigov import clock
from aigov.registry.snapshot import load_settings_sync
from budgets.fx import FxTable, Rate
from budgets.models import (
    LATE_ANSWER,
    AcceptedDifference,
    ApprovalRequest,
    BillDay,
    BillLine,
    BudgetAccount,
    FxRate,
    RequestKind,
    RequestState,
    Scope,
)

TOLERANCE_RATIO = "ai.reconciliation.tolerance.ratio"
TOLERANCE_USD = "ai.reconciliation.tolerance.usd"
ZERO = Decimal(0)
#: Local midnights are up to 14 hours from UTC's, and a charge up to two hours and some from its hold.
EDGE = timedelta(hours=20)
_DATED = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|latest)$", re.ASCII)

State = Literal[
    "nothing", "reconciled", "accepted", "within", "no_bill", "incomplete", "waiting", "out_of_bounds"
]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was billed, and what the ledger says of the same calls.

    Args:
        corrections_usd: of the ledger, what was put right later.
        estimated_usd: of the calls, those whose cost nobody knows and which may never have been billed.
        default_rate: euro for a dollar where there are no calls to tell.
    """

    bill_usd: Decimal = ZERO
    calls_usd: Decimal = ZERO
    calls_eur: Decimal = ZERO
    corrections_usd: Decimal = ZERO
    corrections_eur: Decimal = ZERO
    estimated_usd: Decimal = ZERO
    calls: int = 0
    default_rate: Decimal = ZERO

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(
            self.bill_usd + other.bill_usd,
            self.calls_usd + other.calls_usd,
            self.calls_eur + other.calls_eur,
            self.corrections_usd + other.corrections_usd,
            self.corrections_eur + other.corrections_eur,
            self.estimated_usd + other.estimated_usd,
            self.calls + other.calls,
            self.default_rate or other.default_rate,
        )

    @property
    def eur_per_usd(self) -> Decimal:
        return self.calls_eur / self.calls_usd if self.calls_usd > 0 else self.default_rate

    @property
    def ledger_usd(self) -> Decimal:
        return self.calls_usd + self.corrections_usd

    @property
    def ledger_eur(self) -> Decimal:
        return self.calls_eur + self.corrections_eur

    @property
    def delta_usd(self) -> Decimal:
        """By how much the bill is higher than the ledger."""
        return self.bill_usd - self.ledger_usd

    @property
    def delta_eur(self) -> Decimal:
        return self.delta_usd * self.eur_per_usd

    @property
    def bill_eur(self) -> Decimal:
        return self.ledger_eur + self.delta_eur

    @property
    def ratio(self) -> Decimal | None:
        """The difference by the bill; None where nothing was billed and something should have been."""
        if not self.delta_usd:
            return ZERO
        return self.delta_usd / self.bill_usd if self.bill_usd else None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Up to where a difference counts as none: a part of the bill, or an amount, whichever is more."""

    ratio: Decimal
    usd: Decimal

    def holds(self, delta_usd: Decimal, bill_usd: Decimal) -> bool:
        return abs(delta_usd) <= max(abs(bill_usd) * self.ratio, self.usd)


@dataclass(frozen=True, slots=True)
class DayComparison:
    """One UTC day of a provider, and each of its models.

    Args:
        is_billed: whether anything stands on that day's bill.
        is_over: whether the whole day is compared.
    """

    day: date
    total: Comparison
    models: Mapping[str, Comparison]
    is_billed: bool
    is_over: bool


@dataclass(frozen=True, slots=True)
class ProviderMonth:
    """A provider's month: the ledger against the bill, and what was done about their difference.

    Args:
        models: with what was posted for the month as a whole.
        unposted: likewise, but without that: each model's difference as it was before anything was posted.
        accepted: what of the difference was accepted as it is.
        waiting: corrections that wait for a second person.
        is_over: whether the month is.
        known_until: up to when the bill is known; None: not at all.
    """

    provider: str
    month: date
    total: Comparison
    days: Sequence[DayComparison]
    models: Mapping[str, Comparison]
    unposted: Mapping[str, Comparison]
    accepted: Sequence[AcceptedDifference]
    waiting: Sequence[ApprovalRequest]
    tolerance: Tolerance
    is_over: bool
    known_until: datetime | None

    @property
    def accepted_usd(self) -> Decimal:
        return sum((one.amount_usd for one in self.accepted), ZERO)

    @property
    def open_usd(self) -> Decimal:
        """The difference, but for what was accepted of it."""
        return self.total.delta_usd - self.accepted_usd

    @property
    def missing(self) -> list[DayComparison]:
        """The days that are over, cost something and are not on the bill."""
        return [day for day in self.days if day.is_over and not day.is_billed and day.total.ledger_usd]

    @property
    def is_within(self) -> bool:
        return self.tolerance.holds(self.open_usd, self.total.bill_usd)

    @property
    def state(self) -> State:
        if not self.total.ledger_usd and not self.total.bill_usd:
            return "nothing"
        if self.is_within:
            if not self.tolerance.holds(self.total.delta_usd, self.total.bill_usd):
                return "accepted"
            return "reconciled" if self.is_over else "within"
        if self.known_until is None:
            return "no_bill"
        if self.missing:
            return "incomplete"
        return "waiting" if self.waiting else "out_of_bounds"

    def is_model_within(self, model: str) -> bool:
        found = self.models[model]
        return self.tolerance.holds(found.delta_usd, found.bill_usd)


@dataclass(frozen=True, slots=True)
class Edges:
    """How the organizations' local months and a month of UTC come to the same sum, in euro:

    spent − of_other_utc_months + of_other_local_months − not_compared + corrections = compared

    Args:
        spent: what the months' budgets say.
        of_other_utc_months: of it, calls that lie in another month of UTC.
        of_other_local_months: calls of this month of UTC that lie in another month of their organization.
        not_compared: calls since the day's bill was read.
        corrections: corrections and late entries, which stand in one month and belong to another.
        compared: what is compared with the bills.
    """

    spent: Decimal
    of_other_utc_months: Decimal
    of_other_local_months: Decimal
    not_compared: Decimal
    corrections: Decimal
    compared: Decimal


Cells = dict[tuple[str, date, str], Comparison]


def is_reconciled(month: date) -> bool:
    """Whether `month` is over in UTC, and the ledger agrees with all bills, but for what was accepted.
    (A difference that was posted to the ledger is none any more.)"""
    return clock.now() >= midnight(clock.next_month(month)) and all(one.is_within for one in deltas(month))


def deltas(month: date) -> list[ProviderMonth]:
    """Each provider that cost or billed anything in `month` (its first day), a month of UTC.

    A fixed number of queries.
    """
    cells = _cells(month)
    month_wide = _month_wide(month)
    bill_days = list(BillDay.objects.filter(day__gte=month, day__lt=clock.next_month(month)))
    providers = {name for name, _day, _model in cells} | {name for name, _model in month_wide}
    providers |= {row.provider for row in bill_days}
    accepted = list(AcceptedDifference.objects.filter(month=month).select_related("accepted_by"))
    waiting = list(open_corrections(month))
    rate, tolerance = _default_rate(month, cells), _tolerance()
    is_over = clock.now() >= midnight(clock.next_month(month))
    found = []
    for provider in sorted(providers):
        own = {(day, model): cell for (name, day, model), cell in cells.items() if name == provider}
        default = sum(own.values(), Comparison()).eur_per_usd or rate
        wide = {m: _in_usd(cell, default) for (name, m), cell in month_wide.items() if name == provider}
        days = {row.day: row for row in bill_days if row.provider == provider}
        found.append(
            ProviderMonth(
                provider=provider,
                month=month,
                total=sum((*own.values(), *wide.values()), Comparison(default_rate=default)),
                days=_days(own, days, default),
                models=_models(own, wide, default),
                unposted=_models(own, {}, default),
                accepted=[one for one in accepted if one.provider == provider],
                waiting=[one for one in waiting if one.provider == provider],
                tolerance=tolerance,
                is_over=is_over,
                known_until=max((row.covers_until for row in days.values()), default=None),
            )
        )
    return found


def delta(month: date, provider: str) -> ProviderMonth | None:
    """One provider's month; None where there is nothing of it."""
    return next((found for found in deltas(month) if found.provider == provider), None)


def open_corrections(month: date) -> Iterable[ApprovalRequest]:
    """The corrections of providers' amounts that wait for a second person."""
    return ApprovalRequest.objects.filter(
        kind=RequestKind.CORRECTION, month=month, state=RequestState.OPEN
    ).exclude(provider="")


def edges(month: date, compared: Sequence[ProviderMonth]) -> Edges:
    """The way from the organizations' local months to what is compared with the bills."""
    spent = BudgetAccount.objects.filter(month=month, scope=Scope.ORGANIZATION).aggregate(
        sum=Sum("spent_eur", default=ZERO)
    )["sum"]
    with connection.cursor() as cursor:
        cursor.execute(_EDGES, _span(month))
        outside, inside, not_compared = cursor.fetchone()
    reached = sum((found.total.ledger_eur for found in compared), ZERO)
    return Edges(
        spent=spent,
        of_other_utc_months=outside,
        of_other_local_months=inside,
        not_compared=not_compared,
        corrections=reached - (spent - outside + inside - not_compared),
        compared=reached,
    )


def bare_model(name: str) -> str:
    """A model's name without its date, as the ledger has it: `gpt-4o-2024-08-06` and “Claude Haiku 4.5” are
    `gpt-4o` and `claude-haiku-4-5`."""
    name = name.strip().lower()
    if name.startswith("claude "):
        name = re.sub(r"[ .]+", "-", name)
    return _DATED.sub("", name)


def midnight(day: date) -> datetime:
    """The beginning of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# --- Put together


def _days(
    own: Mapping[tuple[date, str], Comparison], bill_days: Mapping[date, BillDay], default: Decimal
) -> list[DayComparison]:
    found = []
    for day in sorted({*bill_days, *(day for day, _model in own)}):
        models = {
            model: sum((cell,), Comparison(default_rate=default))
            for (at, model), cell in sorted(own.items())
            if at == day
        }
        known = bill_days.get(day)
        found.append(
            DayComparison(
                day=day,
                total=sum(models.values(), Comparison(default_rate=default)),
                models=models,
                is_billed=any(cell.bill_usd for cell in models.values()),
                is_over=known is None or known.covers_until >= midnight(day) + timedelta(days=1),
            )
        )
    return found


def _models(
    own: Mapping[tuple[date, str], Comparison], wide: Mapping[str, Comparison], default: Decimal
) -> dict[str, Comparison]:
    models: dict[str, Comparison] = {}
    for model, cell in [*((model, cell) for (_day, model), cell in own.items()), *wide.items()]:
        models[model] = models.get(model, Comparison(default_rate=default)) + cell
    return dict(sorted(models.items()))


def _in_usd(correction: Comparison, rate: Decimal) -> Comparison:
    """A correction that was made in euro, in dollars at the rate of the calls."""
    usd = correction.corrections_usd or (correction.corrections_eur / rate if rate else ZERO)
    return Comparison(corrections_usd=usd, corrections_eur=correction.corrections_eur)


def _default_rate(month: date, cells: Cells) -> Decimal:
    if rate := sum(cells.values(), Comparison()).eur_per_usd:
        return rate
    rates = FxRate.objects.values_list("id", "valid_from", "eur_per_unit")
    return FxTable(Rate(*row) for row in rates).on(clock.next_month(month)).eur_per_usd


def _tolerance() -> Tolerance:
    settings = load_settings_sync()
    ratio, usd = (settings.value(key, organization_id=None) for key in (TOLERANCE_RATIO, TOLERANCE_USD))
    return Tolerance(Decimal(str(ratio)), Decimal(str(usd)))


# --- Read


def _cells(month: date) -> Cells:
    """The month's bills and calls, by provider, UTC day and model."""
    cells: Cells = {}

    def add(provider: str, day: date, model: str, amounts: Comparison) -> None:
        key = provider, day, bare_model(model)
        cells[key] = cells.get(key, Comparison()) + amounts

    lines = BillLine.objects.filter(bill_day__day__gte=month, bill_day__day__lt=clock.next_month(month))
    billed = lines.order_by().values_list("bill_day__provider", "bill_day__day", "model")
    for provider, day, model, amount_usd in billed.annotate(sum=Sum("amount_usd")):
        add(provider, day, model, Comparison(bill_usd=amount_usd))
    with connection.cursor() as cursor:
        cursor.execute(_CALLS, _span(month))
        for provider, day, model, *amounts in cursor.fetchall():
            add(provider, day, model, Comparison(ZERO, *amounts))
    return cells


def _month_wide(month: date) -> dict[tuple[str, str], Comparison]:
    """The corrections that were made for a provider's month as a whole, by provider and model."""
    found: dict[tuple[str, str], Comparison] = {}
    with connection.cursor() as cursor:
        cursor.execute(_MONTH_WIDE, [month])
        for provider, model, usd, eur in cursor.fetchall():
            key = provider, bare_model(model)
            correction = Comparison(corrections_usd=usd, corrections_eur=eur)
            found[key] = found.get(key, Comparison()) + correction
    return found


def _span(month: date) -> dict[str, Any]:
    return {
        "month": month,
        "start": midnight(month),
        "end": midnight(clock.next_month(month)),
        "today": midnight(clock.now().date()),
        "edge": EDGE,
    }


#: Calls as they are compared: of a day whose bill is known, until when it is; else of the days that are over.
_COMPARED = """
    c.corrects_id IS NULL AND c.request_id IS NULL AND c.provider <> ''
    AND c.created_at < CASE WHEN b.id IS NULL THEN %(today)s ELSE b.covers_until END
"""
_WITH_BILL_DAY = """
    ai_costs c LEFT JOIN bill_days b
    ON b.provider = c.provider AND b.day = (c.created_at AT TIME ZONE 'UTC')::date
"""
#: An answer that came after its hold had expired makes a known cost of an estimated one; it is no correction.
_CALLS = f"""
WITH calls AS (
    SELECT c.* FROM {_WITH_BILL_DAY}
    WHERE c.created_at >= %(start)s AND c.created_at < %(end)s AND {_COMPARED}
), entries AS (
    SELECT provider, model, created_at, cost_usd AS calls_usd, cost_eur AS calls_eur, 0 AS corrections_usd,
           0 AS corrections_eur, CASE WHEN estimated THEN cost_usd ELSE 0 END AS estimated_usd, 1 AS calls
    FROM calls
    UNION ALL
    SELECT e.provider, e.model, e.created_at, c.cost_usd, c.cost_eur, 0, 0, -e.cost_usd, 0
    FROM calls e JOIN ai_costs c ON c.corrects_id = e.id WHERE c.reason = '{LATE_ANSWER}'
    UNION ALL
    SELECT e.provider, e.model, e.created_at, 0, 0, coalesce(c.cost_usd, c.cost_eur / e.eur_per_usd),
           c.cost_eur, 0, 0
    FROM calls e JOIN ai_costs c ON c.corrects_id = e.id WHERE c.reason <> '{LATE_ANSWER}'
)
SELECT provider, (created_at AT TIME ZONE 'UTC')::date, model, coalesce(sum(calls_usd), 0), sum(calls_eur),
       sum(corrections_usd), sum(corrections_eur), coalesce(sum(estimated_usd), 0), sum(calls)::bigint
FROM entries GROUP BY 1, 2, 3
"""
_MONTH_WIDE = """
SELECT c.provider, c.model, coalesce(sum(c.cost_usd), 0), sum(c.cost_eur)
FROM ai_costs c JOIN budget_requests r ON r.id = c.request_id
WHERE c.corrects_id IS NULL AND r.kind = 'correction' AND r.month = %s AND c.provider <> ''
GROUP BY 1, 2
"""
_EDGES = f"""
SELECT coalesce(sum(cost_eur) FILTER (WHERE NOT inside AND month = %(month)s), 0),
       coalesce(sum(cost_eur) FILTER (WHERE inside AND month <> %(month)s), 0),
       coalesce(sum(cost_eur) FILTER (WHERE inside AND NOT compared), 0)
FROM (
    SELECT c.cost_eur, c.month, c.created_at >= %(start)s AND c.created_at < %(end)s AS inside,
           {_COMPARED} AS compared
    FROM {_WITH_BILL_DAY}
    WHERE c.created_at >= %(start)s - %(edge)s AND c.created_at < %(end)s + %(edge)s
      AND c.corrects_id IS NULL AND c.request_id IS NULL
) calls
"""
