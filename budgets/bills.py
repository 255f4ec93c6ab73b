"""The providers' bills come in: read from the provider, or from a file that somebody has looked at first.

Days are imported whole. One that is imported again replaces what was known of it, and where that had been the
whole day's bill, the audit trail says from what to what it changed. An import that brings nothing new leaves
no trace. Two at once wait for each other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby

from django.db import connection, transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.audit import Acting, actor_name, write_audit_entry
from budgets.bill_files import BillFile, read_bill_file
from budgets.models import BillDay, BillImport, BillLine, BillSource
from providers.billing import DAYS_MAX, BilledAmount, read_bill
from providers.models import ProviderName

LOCK = 7_290_313
#: A file that nobody has confirmed for so long is forgotten.
FILE_LIFETIME = timedelta(days=1)
FILES_WAITING_MAX = 20

Key = tuple[str, date]
#: What stands on a day's bill, by model and description.
Lines = dict[tuple[str, str], Decimal]


@dataclass(frozen=True, slots=True)
class DayChange:
    """What an import says of a day, and what was known before; None: nothing."""

    provider: str
    day: date
    before_usd: Decimal | None
    after_usd: Decimal


def import_from_provider(*, provider: str, first: date, last: date, acting: Acting) -> list[DayChange]:
    """Reads and keeps the bill of the UTC days from `first` to `last`; returns what is new or changed.

    Raises:
        ProviderError: it could not be had; nothing was changed.
    """
    read_at = clock.now()
    days: dict[Key, Lines] = {
        (provider, first + timedelta(days=number)): {} for number in range((last - first).days + 1)
    }
    for amount in read_bill(provider, first, last):
        if (provider, amount.day) in days:
            _add(days, amount)
    return _import(days, source=BillSource.API, read_at=read_at, acting=acting)


@transaction.atomic
def keep_file(*, name: str, content: bytes, acting: Acting) -> BillImport:
    """Keeps a file until somebody has looked at what it would change, and confirms it.

    Raises:
        BadRequest: it is no bill; `param` is `file`.
    """
    read_bill_file(content)
    waiting = BillImport.objects.filter(imported_at=None)
    waiting.filter(created_at__lt=clock.now() - FILE_LIFETIME).delete()
    if waiting.count() >= FILES_WAITING_MAX:
        raise BadRequest(_("Too many files wait to be confirmed."), param="file")
    return BillImport.objects.create(
        source=BillSource.CSV,
        file_name=name[:200],
        content=content,
        created_at=clock.now(),
        created_by=actor_name(acting)[:254],
    )


def waiting_file(import_id: int) -> tuple[BillImport, BillFile] | None:
    """A file that waits to be confirmed, and what it says."""
    kept = BillImport.objects.filter(pk=import_id, imported_at=None).first()
    return None if kept is None else (kept, read_bill_file(bytes(kept.content or b"")))


def changes_of(lines: Iterable[BilledAmount]) -> list[DayChange]:
    """What `lines` would change, by day."""
    days: dict[Key, Lines] = {}
    for line in lines:
        _add(days, line)
    before = _known(days)
    return [_change(key, days[key], before.get(key)) for key in sorted(days)]


@transaction.atomic
def import_file(*, import_id: int, without_errors: bool, acting: Acting, reason: str = "") -> list[DayChange]:
    """Imports a file that waits; returns the days that are new or changed.

    Args:
        without_errors: leave the rows out that cannot be read; otherwise such a file is refused.

    Raises:
        BadRequest: the file no longer waits, or has rows that cannot be read.
    """
    kept = BillImport.objects.select_for_update().filter(pk=import_id, imported_at=None).first()
    if kept is None:
        raise BadRequest(_("This file no longer waits; please choose it again."), param="file")
    said = read_bill_file(bytes(kept.content or b""))
    if said.errors and not without_errors:
        raise BadRequest(_("Some rows cannot be read; nothing was imported."), param="without_errors")
    days: dict[Key, Lines] = {}
    for line in said.lines:
        _add(days, line)
    kept.content, kept.imported_at = None, clock.now()
    kept.save(update_fields=["content", "imported_at"])
    return _import(
        days, source=BillSource.CSV, read_at=kept.created_at, acting=acting, kept=kept, reason=reason
    )


def _add(days: dict[Key, Lines], amount: BilledAmount) -> None:
    lines = days.setdefault((amount.provider, amount.day), {})
    key = amount.model, amount.description
    lines[key] = lines.get(key, Decimal(0)) + amount.amount_usd


@transaction.atomic
def _import(
    days: Mapping[Key, Lines],
    *,
    source: BillSource,
    read_at: datetime,
    acting: Acting,
    kept: BillImport | None = None,
    reason: str = "",
) -> list[DayChange]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    before = _known(days)
    rows = {(row.provider, row.day): row for row in _day_rows(days)}
    changed = [key for key in sorted(days) if before.get(key) != days[key]]
    for key in set(days).difference(changed):
        BillDay.objects.filter(pk=rows[key].pk).update(covers_until=_covers_until(key, read_at))
    if not changed:
        return []
    batch = kept or BillImport.objects.create(
        source=source, created_at=read_at, imported_at=clock.now(), created_by=actor_name(acting)[:254]
    )
    for key in changed:
        _replace(key, days[key], batch=batch, covers_until=_covers_until(key, read_at))
    changes = [_change(key, days[key], before.get(key)) for key in changed]
    was_whole = {key for key, row in rows.items() if row.covers_until >= day_end(row.day)}
    _audit(changes, was_whole, batch=batch, acting=acting, reason=reason)
    return changes


def _day_rows(keys: Collection[Key]) -> Sequence[BillDay]:
    days = [day for _provider, day in keys]
    found = BillDay.objects.filter(day__gte=min(days), day__lte=max(days)).prefetch_related("lines")
    return [row for row in found if (row.provider, row.day) in keys]


def _known(keys: Collection[Key]) -> dict[Key, Lines]:
    return {
        (row.provider, row.day): {(line.model, line.description): line.amount_usd for line in row.lines.all()}
        for row in _day_rows(keys)
    }


def _replace(key: Key, lines: Lines, *, batch: BillImport, covers_until: datetime) -> None:
    provider, day = key
    row, _created = BillDay.objects.update_or_create(
        provider=provider, day=day, defaults={"batch": batch, "covers_until": covers_until}
    )
    row.lines.all().delete()
    BillLine.objects.bulk_create(
        BillLine(bill_day=row, model=model, description=description, amount_usd=amount)
        for (model, description), amount in lines.items()
    )


def _covers_until(key: Key, read_at: datetime) -> datetime:
    return min(day_end(key[1]), read_at)


def day_end(day: date) -> datetime:
    """The instant at which the UTC day is over."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _change(key: Key, after: Lines, before: Lines | None) -> DayChange:
    known = None if before is None else sum(before.values(), Decimal(0))
    return DayChange(*key, before_usd=known, after_usd=sum(after.values(), Decimal(0)))


def _audit(
    changes: Sequence[DayChange], was_whole: set[Key], *, batch: BillImport, acting: Acting, reason: str
) -> None:
    """An entry for each provider's import, and one for each day whose bill had been whole and has changed."""
    for provider, found in groupby(changes, key=lambda change: change.provider):
        days = list(found)
        write_audit_entry(
            organization=None,
            acting=acting,
            action="bill.import",
            target=f"{ProviderName(provider).label}, {batch.file_name or batch.get_source_display()}",
            after={
                "days": len(days),
                "first_day": days[0].day.isoformat(),
                "last_day": days[-1].day.isoformat(),
                "amount_usd": _usd(sum((day.after_usd for day in days), Decimal(0))),
            },
            reason=reason,
        )
    for change in changes:
        if (change.provider, change.day) in was_whole and change.before_usd is not None:
            write_audit_entry(
                organization=None,
                acting=acting,
                action="bill.change",
                target=f"{ProviderName(change.provider).label} {change.day}",
                before={"amount_usd": _usd(change.before_usd)},
                after={"amount_usd": _usd(change.after_usd)},
                reason=reason,
            )


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def importable_days(today: date, month: date) -> tuple[date, date] | None:
    """The first and the last day of `month` whose bill can be read; None where it has not begun."""
    last = min(clock.next_month(month) - timedelta(days=1), today)
    assert (last - month).days < DAYS_MAX
    return (month, last) if month <= last else None
