"""What an organization's month adds up to: read in one snapshot, so that every sum is the ledger's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Count, QuerySet, Sum

from aigov import clock
from aigov.money import ZERO
from aigov.organizations.models import Organization
from budgets.charge_days import charge_day, day_in
from budgets.ledger import Balance
from budgets.models import LATE_ANSWER, BudgetAccount, CostRecord, MonthClose, Scope
from budgets.months import balance_of

#: A month has few corrections by people; of more, and of late entries, the rest is one line.
LISTED_MAX = 200


@dataclass(frozen=True, slots=True)
class Amount:
    """What some records add up to.

    Args:
        of: what they have in common: a day, a use case, or a provider, model and tier.
    """

    of: Sequence[date | str]
    records: int
    cost_eur: Decimal


@dataclass(frozen=True, slots=True)
class Entry:
    """One record that the statement names: a correction, or a late entry."""

    id: int
    day: date
    cost_eur: Decimal
    model: str
    reason: str
    corrects_id: int | None
    corrects_month: date | None
    asked_by: str
    decided_by: str


@dataclass(frozen=True, slots=True)
class Entries:
    """The first `LISTED_MAX` of them, and what the others add up to."""

    listed: Sequence[Entry]
    total: Amount

    @property
    def others(self) -> Amount:
        shown = sum((entry.cost_eur for entry in self.listed), ZERO)
        return Amount((), self.total.records - len(self.listed), self.total.cost_eur - shown)


@dataclass(frozen=True, slots=True)
class RateUsed:
    """An exchange rate by which records of the month were charged."""

    eur_per_usd: Decimal
    records: int
    cost_usd: Decimal
    cost_eur: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    """An organization's month. The amounts by day, by use case and by model each add up to what is spent.

    Args:
        time_zone: by which its days are told: of a closed month, the organization's at the close.
        close: None where the month is not closed.
    """

    organization: Organization
    month: date
    time_zone: str
    close: MonthClose | None
    as_of: datetime
    balance: Balance
    cap_is_of_month: bool
    is_over: bool
    days: Sequence[Amount]
    use_cases: Sequence[Amount]
    models: Sequence[Amount]
    corrections: Entries
    by_itself: Amount
    late: Entries
    estimated: Amount
    rates: Sequence[RateUsed]


def statement(account: BudgetAccount) -> Statement:
    """The statement of the month of `account`, an organization's own."""
    with _one_snapshot():
        account = BudgetAccount.objects.select_related("organization").get(
            pk=account.pk, scope=Scope.ORGANIZATION
        )
        organization, month, now = account.organization, account.month, clock.now()
        close = MonthClose.objects.filter(organization=organization, month=month, reopened_at=None).first()
        time_zone = close.time_zone if close else organization.time_zone
        records = CostRecord.objects.filter(organization=organization, month=month)
        corrections = records.filter(hold_id__isnull=True)
        return Statement(
            organization=organization,
            month=month,
            time_zone=time_zone,
            close=close,
            as_of=now,
            balance=balance_of(account),
            cap_is_of_month=account.cap_is_of_month,
            is_over=clock.month_of(now, time_zone) > month,
            days=_by(records.annotate(day=day_in(month, time_zone)), "day"),
            use_cases=_dearest_first(_by(records, "use_case")),
            models=_dearest_first(_by(records, "provider", "model", "tier")),
            corrections=_entries(corrections.exclude(reason=LATE_ANSWER, request=None), time_zone),
            by_itself=_sum(corrections.filter(reason=LATE_ANSWER, request=None)),
            late=_entries(records.filter(late=True), time_zone),
            estimated=_sum(records.filter(estimated=True)),
            rates=_rates(records),
        )


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """All reads see the same instant, though calls are settled meanwhile."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _by(records: "QuerySet[CostRecord]", *names: str) -> list[Amount]:
    found = records.order_by(*names).values_list(*names).annotate(Count("id"), Sum("cost_eur"))
    return [Amount(row[: len(names)], *row[len(names) :]) for row in found]


def _dearest_first(amounts: list[Amount]) -> list[Amount]:
    return sorted(amounts, key=lambda amount: -amount.cost_eur)


def _sum(records: "QuerySet[CostRecord]") -> Amount:
    found = records.aggregate(records=Count("id"), cost_eur=Sum("cost_eur"))
    return Amount((), found["records"], found["cost_eur"] or ZERO)


def _entries(records: "QuerySet[CostRecord]", time_zone: str) -> Entries:
    shown = records.order_by("created_at", "id").select_related("corrects", "request__decided_by")
    return Entries([_entry(record, time_zone) for record in shown[:LISTED_MAX]], _sum(records))


def _entry(record: CostRecord, time_zone: str) -> Entry:
    request, corrected = record.request, record.corrects
    return Entry(
        id=record.pk,
        day=charge_day(record.created_at, record.month, time_zone),
        cost_eur=record.cost_eur,
        model=" ".join(filter(None, (record.provider, record.model))),
        reason=request.reason if request else record.reason,
        corrects_id=record.corrects_id,
        corrects_month=corrected.month if corrected else None,
        asked_by=request.asked_by if request else "",
        decided_by=str(request.decided_by or "") if request else "",
    )


def _rates(records: "QuerySet[CostRecord]") -> list[RateUsed]:
    charged = records.filter(eur_per_usd__isnull=False, cost_usd__isnull=False)
    found = charged.order_by("eur_per_usd").values_list("eur_per_usd")
    return [RateUsed(*row) for row in found.annotate(Count("id"), Sum("cost_usd"), Sum("cost_eur"))]
