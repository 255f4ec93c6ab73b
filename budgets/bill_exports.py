"""The tables of the reconciliation as files: the rows of the screen, their amounts with all places."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils.text import slugify
from django.utils.translation import gettext as _

from aigov.downloads import download
from aigov.money import NANO_EURO
from aigov.organizations.exports import FORMATS
from aigov.spreadsheets import Column, Kind, Row, csv_rows, file_chunks, xlsx_file
from budgets.admin_months import month_text
from budgets.bill_pages import (
    PERCENT,
    VIEW,
    check,
    chosen_day,
    day_rows,
    found_or_404,
    model_rows,
    month_in,
    provider_name,
    provider_rows,
    rows_of_day,
)
from budgets.reconciliation import deltas

#: Dollars and per cent that are quotients end somewhere.
PLACES = Decimal("1e-12")


def overview_file(request: HttpRequest, month: str, file_format: str) -> HttpResponseBase:
    """A month's providers."""
    check(request, VIEW)
    first = month_in(month)
    title = _("Reconciliation, %(month)s") % {"month": month_text(first)}
    return _file(request, file_format, title, Column(_("Provider")), provider_rows(deltas(first)))


def table_file(
    request: HttpRequest, month: str, provider: str, table: str, file_format: str
) -> HttpResponseBase:
    """One of the tables of a provider's month: its models, its days, or the models of one day."""
    check(request, VIEW)
    found = found_or_404(month, provider)
    first, rows = Column(_("Model")), model_rows(found)
    words = [provider_name(provider), month_text(found.month)]
    if table == "days":
        first, rows = Column(_("Day"), Kind.DATE), day_rows(found)
        words.append(_("By day (UTC)"))
    elif table == "day":
        day = chosen_day(request, found)
        if day is None:
            raise Http404
        rows = rows_of_day(found, day)
        words.append(day.day.isoformat())
    elif table != "models":
        raise Http404
    return _file(request, file_format, ", ".join(words), first, rows)


def _file(
    request: HttpRequest, file_format: str, title: str, first: Column, rows: Iterable[Mapping[str, Any]]
) -> HttpResponseBase:
    columns = [
        *(first, Column(_("Bill"), Kind.USD), Column(_("Ledger"), Kind.USD)),
        *(Column(_("Difference"), Kind.USD), Column(_("in euro"), Kind.EURO)),
        *(Column(_("in per cent"), Kind.NUMBER), Column(_("State")), Column(_("Note"))),
    ]
    values = [_values(row) for row in rows]
    if file_format not in FORMATS:
        raise Http404
    chunks = (
        csv_rows(columns, values)
        if file_format == "csv"
        else file_chunks(xlsx_file(columns, values, title=title))
    )
    return download(request, chunks, filename=f"{slugify(title)}.{file_format}")


def _values(row: Mapping[str, Any]) -> Row:
    found = row["comparison"]
    return [
        row.get("day") or row["name"],
        *(_exact(amount, PLACES) for amount in (found.bill_usd, found.ledger_usd, found.delta_usd)),
        _exact(found.delta_eur, NANO_EURO),
        None if found.ratio is None else _exact(found.ratio * PERCENT, PLACES),
        str(row.get("state", "")),
        row.get("note", ""),
    ]


def _exact(amount: Decimal, places: Decimal) -> Decimal:
    """With as many places as it has, at most `places`."""
    return Decimal(f"{amount.quantize(places).normalize():f}")
