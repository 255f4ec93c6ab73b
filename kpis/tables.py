"""The numbers behind every figure, as a table: shown beneath it, and given away as CSV or XLSX.

A table holds the values themselves. How they are written is for the reader: on the page in their language,
in a spreadsheet as numbers.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from django.utils.formats import date_format, number_format
from django.utils.timezone import localtime

from aigov import spreadsheets
from aigov.money import euro_for_people

#: How the values of a column are written; a share is between 0 and 1.
Kind = Literal["text", "day", "month", "instant", "euro", "count", "share", "factor", "ms", "s"]
Value = str | date | datetime | Decimal | int | float | None

NOTHING = "–"
RIGHT_ALIGNED = ("euro", "count", "share", "factor", "ms", "s")
NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    kind: Kind = "text"

    @property
    def is_number(self) -> bool:
        return self.kind in RIGHT_ALIGNED


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as the page shows it; `address` is where it leads, if anywhere."""

    text: str
    is_number: bool
    address: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of raw values under their columns; `addresses`: where each row leads, one a row or none at all."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Value, ...]]
    addresses: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows)
        assert len(self.addresses) in (0, len(self.rows))

    def shown(self) -> Iterator[list[Cell]]:
        """The rows for people; a row's address is at its first cell."""
        for index, row in enumerate(self.rows):
            cells = [
                Cell(write(value, column.kind), column.is_number)
                for value, column in zip(row, self.columns, strict=True)
            ]
            if self.addresses:
                cells[0] = Cell(cells[0].text, cells[0].is_number, self.addresses[index])
            yield cells


def write(value: Value, kind: Kind) -> str:
    """`value` for people, in the language of the page; a dash for none."""
    if value is None or value == "":
        return NOTHING
    return _WRITERS[kind](value)


def percent(share: float | Decimal) -> str:
    """`0.987` as `98.7 %`; what is nearly everything or nearly nothing is not rounded to it."""
    places = 1
    if 0.999 < share < 1 or 0 < share < 0.001:
        places = 2
    shown = min(max(round(Decimal(share) * 100, places), _least(share)), _most(share))
    return f"{number_format(shown, decimal_pos=places, use_l10n=True)}{NBSP}%"


def _least(share: float | Decimal) -> Decimal:
    return Decimal("0.01") if share > 0 else Decimal(share) * 100


def _most(share: float | Decimal) -> Decimal:
    return Decimal("99.99") if share < 1 else Decimal(share) * 100


def _decimal(places: int, unit: str) -> Callable[[Any], str]:
    def written(value: Any) -> str:
        number = number_format(round(value, places), decimal_pos=places, use_l10n=True, force_grouping=True)
        return f"{number}{NBSP}{unit}"

    return written


def _count(value: Any) -> str:
    return number_format(value, use_l10n=True, force_grouping=True)


def _instant(value: Any) -> str:
    at = localtime(value)
    return f"{date_format(at, 'DATE_FORMAT')}, {date_format(at, 'H:i:s')}"


_WRITERS: Mapping[Kind, Callable[[Any], str]] = {
    "text": str,
    "day": lambda value: date_format(value, "DATE_FORMAT"),
    "month": lambda value: date_format(value, "F Y"),
    "instant": _instant,
    "euro": euro_for_people,
    "count": _count,
    "share": percent,
    "factor": _decimal(2, "×"),
    "ms": _decimal(0, "ms"),
    "s": _decimal(0, "s"),
}


# --- As files

_SHEET_KINDS: Mapping[Kind, spreadsheets.Kind] = {
    "text": spreadsheets.Kind.TEXT,
    "day": spreadsheets.Kind.DATE,
    "month": spreadsheets.Kind.MONTH,
    "instant": spreadsheets.Kind.INSTANT,
    "euro": spreadsheets.Kind.EURO,
    "count": spreadsheets.Kind.COUNT,
    "share": spreadsheets.Kind.NUMBER,
    "factor": spreadsheets.Kind.NUMBER,
    "ms": spreadsheets.Kind.NUMBER,
    "s": spreadsheets.Kind.NUMBER,
}
FORMATS = ("csv", "xlsx")


def chunks(table: Table, file_format: str, *, title: str) -> Generator[bytes]:
    """The table as a file of that format: the values themselves, with all their places."""
    columns = [spreadsheets.Column(each.title, _SHEET_KINDS[each.kind]) for each in table.columns]
    if file_format == "csv":
        return spreadsheets.csv_rows(columns, table.rows)
    return spreadsheets.file_chunks(spreadsheets.xlsx_file(columns, table.rows, title=title))
