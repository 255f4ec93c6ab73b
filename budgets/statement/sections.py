"""The statement in words: sections with a table each, the same on paper and in a workbook.

Every sum is the exact sum of exact amounts, and rounded only where it is shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.utils.formats import date_format, number_format
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aigov.money import ZERO
from aigov.organizations.tenant_admin import NOTHING, count, instant
from aigov.spreadsheets import Column, Kind, Row
from budgets.statement.figures import Amount, Entries, Entry, Statement
from providers.models import ProviderName


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the statement.

    Args:
        total: the last row of the table, which adds the others up.
        note: a sentence beneath it.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    total: Row | None = None
    note: str = ""


def title_of(statement: Statement) -> str:
    return _("Statement for %(month)s") % {"month": date_format(statement.month, "YEAR_MONTH_FORMAT")}


def filename_of(statement: Statement, file_format: str) -> str:
    """Such as `statement-acme-gmbh-2026-11.pdf`."""
    words = (_("Statement"), statement.organization.name, f"{statement.month:%Y-%m}")
    return f"{'-'.join(slugify(word) for word in words)}.{file_format}"


def facts_of(statement: Statement) -> list[tuple[str, str]]:
    """What the figures are of, and as of when."""
    state = _("over") if statement.is_over else _("still running: these figures are not final")
    close = statement.close
    closed = (
        _("%(at)s, by %(who)s") % {"at": instant(close.closed_at), "who": close.closed_by}
        if close
        else _("not yet")
    )
    return [
        (_("Organization"), str(statement.organization)),
        (_("Tenant"), str(statement.organization.tenant)),
        (_("Month"), f"{date_format(statement.month, 'YEAR_MONTH_FORMAT')} ({state})"),
        (_("Closed"), closed),
        (_("Time zone"), statement.time_zone),
        (_("As of"), instant(statement.as_of)),
    ]


def sections_of(statement: Statement) -> Iterator[Section]:
    """All sections, in their order; those of corrections, late entries and rates only where there are any."""
    yield _balance(statement)
    yield _by_day(statement)
    yield _by(_("By use case"), [Column(_("Use case"))], statement.use_cases)
    models = [Column(_("Provider")), Column(_("Model")), Column(_("Tier"))]
    yield _by(_("By model"), models, [_named(amount) for amount in statement.models])
    if statement.corrections.total.records or statement.by_itself.records:
        yield _corrections(statement)
    if statement.late.total.records:
        yield _late(statement.late)
    if statement.rates:
        yield _rates(statement)


def notes_of(statement: Statement) -> list[str]:
    """What a reader must know to follow the figures."""
    notes = [
        _(
            "The ledger counts in billionths of a euro. Amounts to the cent are rounded one by one, and the"
            " totals from their exact sums; so a total can differ by a few cents from the sum of the rounded"
            " amounts above it."
        ),
        _("Each charge is converted from US dollars at the rate on its record, and rounded up once."),
    ]
    if statement.estimated.records:
        notes.append(
            _(
                "%(count)s of the records, %(amount)s in all, are estimates: nobody knows what the provider"
                " billed."
            )
            % {"count": count(statement.estimated.records), "amount": _cents(statement.estimated.cost_eur)}
        )
    return notes


def _balance(statement: Statement) -> Section:
    balance = statement.balance
    cap = _("Cap, set for this month") if statement.cap_is_of_month else _("Cap, the standing one")
    rows: list[Row] = [
        [_("Opening: spent when the month began"), ZERO],
        [cap, balance.cap_eur],
        [_("Spent"), balance.spent_eur],
        [_("Held by calls in flight"), balance.held_eur],
        [_("Closing: left"), balance.remaining_eur],
    ]
    return Section(_("Opening and closing"), [Column(""), Column(_("Amount"), Kind.EURO)], rows)


def _named(amount: Amount) -> Amount:
    """Of a provider, a model and a tier; the provider as it calls itself."""
    provider, *others = amount.of
    names: dict[Any, str] = dict(ProviderName.choices)
    return replace(amount, of=(names.get(provider, provider), *others))


def _by_day(statement: Statement) -> Section:
    return _by(_("By day"), [Column(_("Day"), Kind.DATE)], statement.days)


def _by(title: str, columns: list[Column], amounts: Sequence[Amount]) -> Section:
    rows = [[*(of or NOTHING for of in amount.of), amount.records, amount.cost_eur] for amount in amounts]
    records = sum(amount.records for amount in amounts)
    total = [*_first(_("Total"), len(columns)), records, sum((a.cost_eur for a in amounts), ZERO)]
    return Section(
        title, [*columns, Column(_("Records"), Kind.COUNT), Column(_("Amount"), Kind.EURO)], rows, total
    )


def _first(text: str, width: int) -> list[str | None]:
    return [text, *[None] * (width - 1)]


def _corrections(statement: Statement) -> Section:
    rows, total = _entry_rows(statement.corrections), statement.corrections.total.cost_eur
    by_itself = statement.by_itself
    if by_itself.records:
        said = ngettext(
            "%(count)s estimate, put right by the answer that came late",
            "%(count)s estimates, put right by the answers that came late",
            by_itself.records,
        ) % {"count": count(by_itself.records)}
        rows.append([None, said, by_itself.cost_eur])
        total += by_itself.cost_eur
    note = _(
        "They are part of the amounts above, on the day on which they were posted; those that were posted"
        " after the end of the month, on its last day."
    )
    return _entries(_("Corrections"), rows, total, note)


def _late(late: Entries) -> Section:
    note = _("They belong to months that were closed already, and are part of the amounts above.")
    return _entries(_("Late entries"), _entry_rows(late), late.total.cost_eur, note)


def _entries(title: str, rows: Sequence[Row], total: Decimal, note: str) -> Section:
    columns = [Column(_("Day"), Kind.DATE), Column(_("What and why")), Column(_("Amount"), Kind.EURO)]
    return Section(title, columns, rows, [_("Total"), None, total], note)


def _entry_rows(entries: Entries) -> list[Row]:
    rows: list[Row] = [[entry.day, _what_and_why(entry), entry.cost_eur] for entry in entries.listed]
    others = entries.others
    if others.records:
        said = ngettext("%(count)s further one", "%(count)s further ones", others.records)
        rows.append([None, said % {"count": count(others.records)}, others.cost_eur])
    return rows


def _what_and_why(entry: Entry) -> str:
    """Such as: “Record 12, OpenAI gpt-4o: the bill says otherwise. Corrects record 7 of October 2026.”"""
    what = ", ".join(filter(None, (_("Record %(id)s") % {"id": entry.id}, entry.model)))
    sentences = [f"{what}: {entry.reason.rstrip('.')}." if entry.reason else f"{what}."]
    if entry.corrects_month is not None:
        month = date_format(entry.corrects_month, "YEAR_MONTH_FORMAT")
        sentences.append(
            _("Corrects record %(id)s of %(month)s.") % {"id": entry.corrects_id, "month": month}
        )
    if entry.asked_by:
        sentences.append(_("Asked by %(person)s.") % {"person": entry.asked_by})
    if entry.decided_by:
        sentences.append(_("Approved by %(person)s.") % {"person": entry.decided_by})
    return " ".join(sentences)


def _rates(statement: Statement) -> Section:
    columns = [
        *(Column(_("Euro for one US dollar"), Kind.NUMBER), Column(_("Records"), Kind.COUNT)),
        *(Column(_("In US dollars"), Kind.USD), Column(_("Amount"), Kind.EURO)),
    ]
    rows = [[rate.eur_per_usd, rate.records, rate.cost_usd, rate.cost_eur] for rate in statement.rates]
    return Section(_("Exchange rates"), columns, rows)


def _cents(amount: Decimal) -> str:
    return f"{number_format(amount, 2, use_l10n=True, force_grouping=True)}\N{NO-BREAK SPACE}€"
