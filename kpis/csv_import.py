"""Leads and orders from a table as CRMs and spreadsheets export it: every cell is read or its line named.

UTF-8, UTF-16 or Windows-1252; semicolons, commas or tabs between cells; with semicolons the decimal comma,
otherwise the point; dates as 2026-11-22 or 22.11.2026, with or without a time, which is the organization's
local time where it has no offset. The first line names the columns, in any order. An amount such as `1.234`
can be read in two ways and is refused, whatever stands between the cells.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from aigov.errors import BadRequest
from aigov.money import EURO_MAX, NANO_PLACES
from aigov.spreadsheets import csv_text, separator_in
from budgets.amounts import has_two_readings, parse_amount
from kpis.outcomes import EXTERNAL_ID_CHARACTERS_MAX, Told, is_possible

FILE_BYTES_MAX = 1024 * 1024
ROWS_MAX = 10_000
#: What a column may be called, in small letters.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "kind": ("kind", "type", "art", "typ"),
    "external_id": ("external_id", "id", "nummer", "number"),
    "occurred_at": ("occurred_at", "date", "datum", "zeitpunkt"),
    "value_eur": ("value_eur", "value", "wert", "betrag"),
}
REQUIRED = ("kind", "external_id", "occurred_at")
KINDS: Mapping[str, str] = {"lead": "lead", "order": "order", "auftrag": "order", "bestellung": "order"}
_GERMAN_DATES = ("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong in a line of the file, counted as people count, its header being line 1."""

    line: int
    column: str
    message: str


@dataclass(frozen=True, slots=True)
class Table:
    """What was read, and what could not be."""

    outcomes: tuple[Told, ...]
    mistakes: tuple[Mistake, ...]


def decoded(content: bytes) -> str:
    """The file's text.

    Raises:
        BadRequest: it is too large, or no text.
    """
    if len(content) > FILE_BYTES_MAX:
        raise BadRequest(_("The file is larger than 1 MiB; please divide it."), param="file")
    try:
        return csv_text(content)
    except ValueError:
        raise BadRequest(_("The file is no text, such as a CSV file."), param="file") from None


def read_table(text: str, *, time_zone: str) -> Table:
    """The leads and orders of a CSV file's text.

    Raises:
        BadRequest: it has no lines, too many, or a column is missing.
    """
    delimiter = separator_in(text)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    places = _places(next(rows, []))
    outcomes: list[Told] = []
    mistakes: list[Mistake] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(outcomes) + len(mistakes) >= ROWS_MAX:
            message = _("The file has more than %(count)d lines; please divide it.") % {"count": ROWS_MAX}
            raise BadRequest(message, param="file")
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in places.items()}
        read = _read_row(cells, comma=delimiter == ";", time_zone=time_zone)
        if isinstance(read, Told):
            outcomes.append(read)
        else:
            mistakes.append(Mistake(rows.line_num, *read))
    return Table(tuple(outcomes), tuple(mistakes))


def _places(header: list[str]) -> dict[str, int]:
    """Where each column stands."""
    titles = [title.strip().lower() for title in header]
    places = {
        name: next(at for at, title in enumerate(titles) if title in names)
        for name, names in COLUMNS.items()
        if set(titles) & set(names)
    }
    missing = [name for name in REQUIRED if name not in places]
    if missing:
        message = _("The first line has no column %(columns)s.") % {"columns": ", ".join(missing)}
        raise BadRequest(message, param="file")
    return places


def _read_row(cells: Mapping[str, str], *, comma: bool, time_zone: str) -> Told | tuple[str, str]:
    """The row's lead or order; or the column that is wrong, and why."""
    kind = KINDS.get(cells["kind"].lower())
    if kind is None:
        return "kind", _("“%(text)s” is neither lead nor order.") % {"text": cells["kind"][:40]}
    if not 0 < len(cells["external_id"]) <= EXTERNAL_ID_CHARACTERS_MAX:
        return "external_id", _("There is no id, or one of more than 200 characters.")
    occurred_at = _instant(cells["occurred_at"], time_zone)
    if occurred_at is None or not is_possible(occurred_at):
        return "occurred_at", _("“%(text)s” is no date that a lead or order can have.") % {
            "text": cells["occurred_at"][:40]
        }
    amount = cells.get("value_eur", "")
    if has_two_readings(amount):
        return "value_eur", _("“%(text)s” can be read in two ways.") % {"text": amount[:40]}
    value = _value(amount, comma=comma)
    if value is None:
        return "value_eur", _("“%(text)s” is no amount in euro.") % {"text": amount[:40]}
    return Told(kind, cells["external_id"], occurred_at, value)


def _instant(text: str, time_zone: str) -> datetime | None:
    found = None
    for form in (None, *_GERMAN_DATES):
        try:
            found = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
        except ValueError:
            continue
        break
    if found is None or found.tzinfo is not None:
        return found
    return found.replace(tzinfo=ZoneInfo(time_zone))


def _value(text: str, *, comma: bool) -> Decimal | None:
    if not text:
        return Decimal(0)
    point, group = (",", ".") if comma else (".", ",")
    try:
        value = parse_amount(text, point=point, group=group)
    except ValueError:
        return None
    exponent = value.as_tuple().exponent
    fits = isinstance(exponent, int) and -exponent <= NANO_PLACES and value <= EURO_MAX
    return value if fits else None
