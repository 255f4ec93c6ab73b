"""Tables as files of spreadsheets: read from CSV, and written row by row in constant memory, CSV and XLSX.

A value stays what it is: a number is a number with all its places, a date a date, and a text never becomes a
formula. CSV is UTF-8 with a byte order mark (by which Excel knows it), its lines as in RFC 4180. In English
it has the comma between cells and the point in numbers; in German the semicolon and the decimal comma, which
is what a German Excel opens by a double click. Dates are ISO 8601 in both, instants in the pages' time zone.
"""

import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from itertools import chain, islice
from typing import IO, Any

import xlsxwriter
from django.utils.timezone import localtime
from django.utils.translation import get_language, gettext

CHUNK_BYTES = 64 * 1024
#: What one sheet holds beneath its header; what is longer goes on on a further sheet.
SHEET_ROWS_MAX = 1_048_575
#: What one cell of XLSX holds; a longer text is cut off.
CELL_CHARACTERS_MAX = 32_767
SHEET_NAME_CHARACTERS_MAX = 31
#: The rows by which a sheet's columns are given their widths, and the bounds of these.
SAMPLE_ROWS = 200
WIDTH_MIN, WIDTH_MAX = 9, 60
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: A spreadsheet takes a text that begins so for a formula; the last ones are their full-width forms.
FORMULA_BEGINS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
#: Texts whose cell of CSV is kept for when they come again.
KNOWN_TEXTS, KNOWN_CHARACTERS_MAX = 8_192, 100
_NO_SHEET_NAME = re.compile(r"[\[\]:*?/\\]")


class Kind(StrEnum):
    """How a column's numbers and dates are shown; what they are does not change by it."""

    TEXT = "text"
    NUMBER = "number"
    COUNT = "count"
    EURO = "euro"
    USD = "usd"
    SHARE = "share"
    DATE = "date"
    MONTH = "month"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    kind: Kind = Kind.TEXT


Row = Sequence[Any]


# --- CSV


@dataclass(frozen=True, slots=True)
class Dialect:
    """What stands between cells, and what between a number's whole and its parts."""

    separator: str
    point: str


ENGLISH, GERMAN = Dialect(",", "."), Dialect(";", ",")


def dialect_of(language: str | None) -> Dialect:
    """How the spreadsheets of those who speak `language` read CSV."""
    return GERMAN if (language or "").startswith("de") else ENGLISH


def csv_rows(columns: Sequence[Column], rows: Iterable[Row]) -> Generator[bytes]:
    """The table as CSV, in chunks, as the spreadsheets of the language in force read it."""
    dialect = dialect_of(get_language())
    return csv_chunks([column.title for column in columns], rows, dialect, begin=BYTE_ORDER_MARK)


def csv_chunks(
    titles: Sequence[str], rows: Iterable[Row], dialect: Dialect, *, begin: bytes = b""
) -> Generator[bytes]:
    """A table as CSV, in chunks; for programs without a byte order mark."""
    lines = [csv_line(titles, dialect)]
    size = 0
    yield begin
    for row in rows:
        line = csv_line(row, dialect)
        lines.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield "".join(lines).encode()
            lines, size = [], 0
    yield "".join(lines).encode()


def csv_line(row: Iterable[Any], dialect: Dialect) -> str:
    """One line. Every text is quoted, also against programs that split cells at another character."""
    cells = [
        "" if value is None else _csv_text(value) if type(value) is str else _csv_cell(value, dialect)
        for value in row
    ]
    return dialect.separator.join(cells) + "\r\n"


def _csv_cell(value: Any, dialect: Dialect) -> str:
    written = _WRITTEN.get(type(value))
    if written is None:
        return _text_cell(str(value))
    return written(value).replace(".", dialect.point) if type(value) in _WITH_POINT else written(value)


def _csv_text(text: str) -> str:
    """Most texts of a table are short and come again and again."""
    return _known_text_cell(text) if len(text) <= KNOWN_CHARACTERS_MAX else _text_cell(text)


def _text_cell(text: str) -> str:
    return '"' + harmless(text).replace('"', '""') + '"'


_known_text_cell = lru_cache(maxsize=KNOWN_TEXTS)(_text_cell)


def harmless(text: str) -> str:
    """`text`, with an apostrophe before it where a spreadsheet would take it for a formula."""
    return "'" + text if text.startswith(FORMULA_BEGINS) or text.lstrip().startswith(FORMULA_BEGINS) else text


#: How a value is written that is no text. By its type alone, for a file has millions of cells.
_WRITTEN: Mapping[type, Callable[[Any], str]] = {
    bool: lambda value: _text_cell(yes_or_no(value)),
    int: str,
    float: repr,
    Decimal: lambda value: f"{value:f}",
    datetime: lambda value: f"{localtime(value):%Y-%m-%d %H:%M:%S}",
    date: date.isoformat,
}
_WITH_POINT = (float, Decimal)


def yes_or_no(value: bool) -> str:
    return gettext("yes") if value else gettext("no")


def csv_text(content: bytes) -> str:
    """The text of a CSV file: UTF-8, UTF-16 or Windows' encoding, which has a character for nearly every byte
    and so is tried last.

    Raises:
        ValueError: it is no text.
    """
    encodings = ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError("no text")


def separator_in(text: str) -> str:
    """What separates the columns of a CSV file: what its first line has most of."""
    return max(",;\t", key=text.partition("\n")[0].count)


# --- XLSX


def xlsx_file(columns: Sequence[Column], rows: Iterable[Row], *, title: str) -> IO[bytes]:
    """The table as an XLSX file, open at its beginning; it is gone once it is closed."""
    with closing(Book()) as book:
        book.add_table(title, columns, rows)
        return book.finished()


def file_chunks(file: IO[bytes]) -> Generator[bytes]:
    """The file's bytes, in chunks; closes it at the end."""
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class Book:
    """An XLSX file in the making: tables, one after the other, each on a sheet of its own.

    Each row goes to a temporary file at once.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._workbook = xlsxwriter.Workbook(
            self._file,
            {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False},
        )
        self._header = self._workbook.add_format(
            {"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"}
        )
        self._formats = {
            kind: self._workbook.add_format({"num_format": pattern}) for kind, pattern in _patterns().items()
        }
        self._names: set[str] = set()
        self._finished = False

    def add_table(self, title: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Adds a sheet with the table; where it is longer than a sheet, further ones."""
        remaining = iter(rows)
        sample = list(islice(remaining, SAMPLE_ROWS))
        widths = [_width(column, [row[at] for row in sample]) for at, column in enumerate(columns)]
        remaining = chain(sample, remaining)
        first: Row | None = next(remaining, None)
        while True:
            self._add_sheet(title, columns, widths, chain([] if first is None else [first], remaining))
            first = next(remaining, None)
            if first is None:
                return

    def finished(self) -> IO[bytes]:
        """The file, open at its beginning; nothing can be added any more."""
        self._workbook.close()
        self._finished = True
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Throws away what has not been finished."""
        if not self._finished:
            self._file.close()

    def _add_sheet(
        self, title: str, columns: Sequence[Column], widths: Sequence[int], rows: Iterator[Row]
    ) -> None:
        sheet = self._workbook.add_worksheet(self._free_name(title))
        for at, width in enumerate(widths):
            sheet.set_column(at, at, width)
        sheet.freeze_panes(1, 0)
        for at, column in enumerate(columns):
            sheet.write_string(0, at, column.title, self._header)
        writers = [(at, self._formats.get(column.kind), column.kind) for at, column in enumerate(columns)]
        for line, row in enumerate(islice(rows, SHEET_ROWS_MAX), start=1):
            for at, cell_format, kind in writers:
                _write(sheet, line, at, row[at], cell_format, kind)

    def _free_name(self, title: str) -> str:
        base = _NO_SHEET_NAME.sub(" ", title).strip(" '") or "Sheet"
        name, number = base[:SHEET_NAME_CHARACTERS_MAX].strip(" '"), 1
        while name.casefold() in self._names:
            number += 1
            name = f"{base[: SHEET_NAME_CHARACTERS_MAX - 6].strip()} ({number})"
        self._names.add(name.casefold())
        return name


def _write(sheet: Any, line: int, at: int, value: Any, cell_format: Any, kind: Kind) -> None:
    match value:
        case None:
            return
        case bool():
            sheet.write_string(line, at, yes_or_no(value))
        case Decimal() | int() | float():
            sheet.write_number(line, at, value, cell_format)
        case datetime():
            sheet.write_datetime(line, at, localtime(value).replace(tzinfo=None), cell_format)
        case date():
            sheet.write_datetime(line, at, value, cell_format)
        case _:
            sheet.write_string(line, at, str(value)[:CELL_CHARACTERS_MAX])


def _patterns() -> dict[Kind, str]:
    """Excel's own patterns; the separators in numbers are those of the reader's Excel."""
    day = "dd.mm.yyyy" if dialect_of(get_language()) is GERMAN else "yyyy-mm-dd"
    return {
        Kind.NUMBER: "#,##0.############",
        Kind.COUNT: "#,##0",
        Kind.EURO: '#,##0.00####### "€"',
        Kind.USD: '#,##0.00########## "USD"',
        Kind.SHARE: "0 %",
        Kind.DATE: day,
        Kind.MONTH: "mmm yyyy",
        Kind.INSTANT: f"{day} hh:mm:ss",
    }


def _width(column: Column, values: Iterable[Any]) -> int:
    longest = max((len(str(value)) for value in values if value is not None), default=0)
    if column.kind == Kind.INSTANT:
        longest = len("2026-11-23 12:00:00")
    return max(WIDTH_MIN, min(WIDTH_MAX, max(longest, len(column.title)) + 2))
