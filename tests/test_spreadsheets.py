"""Tables as files: what was written is read back, and nothing of it is a formula."""

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import openpyxl
import pytest
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st

from aigov import spreadsheets
from aigov.spreadsheets import ENGLISH, GERMAN, Column, Kind, csv_line, csv_rows, file_chunks, xlsx_file

COLUMNS = [
    *(Column("Text"), Column("Cost", Kind.EURO), Column("Calls", Kind.COUNT)),
    *(Column("Month", Kind.MONTH), Column("At", Kind.INSTANT), Column("Open")),
]
AT = datetime(2026, 11, 23, 11, 30, tzinfo=UTC)
ROW = ["Müller & Söhne; “x”", Decimal("-1234.567890123"), 12, date(2026, 11, 1), AT, True]


def csv_text(rows: list[list[Any]]) -> str:
    return b"".join(csv_rows(COLUMNS, rows)).decode("utf-8-sig")


def sheets(rows: Iterator[list[Any]] | list[list[Any]], title: str = "A list") -> Any:
    return openpyxl.load_workbook(BytesIO(b"".join(file_chunks(xlsx_file(COLUMNS, rows, title=title)))))


def test_csv_in_english_is_what_programs_read() -> None:
    assert csv_text([ROW]).splitlines()[1] == (
        '"Müller & Söhne; “x”",-1234.567890123,12,2026-11-01,2026-11-23 12:30:00,"yes"'
    )


def test_csv_in_german_is_what_a_german_excel_opens() -> None:
    with override("de"):
        assert csv_text([ROW]).splitlines()[1].startswith('"Müller & Söhne; “x”";-1234,567890123;12;2026-11')


def test_csv_begins_with_the_mark_by_which_excel_knows_utf_8() -> None:
    assert b"".join(csv_rows(COLUMNS, [])).startswith(b'\xef\xbb\xbf"Text"')


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=5))
def test_csv_keeps_every_text(rows: list[list[str]]) -> None:
    """Read by Python's own reader of RFC 4180; an apostrophe may have come before a text."""
    for dialect in (ENGLISH, GERMAN):
        text = "".join(csv_line(row, dialect) for row in rows)
        read = list(csv.reader(StringIO(text, newline=""), delimiter=dialect.separator, strict=True))
        assert [[cell.removeprefix("'") for cell in row] for row in read] == [
            [cell.removeprefix("'") for cell in row] for row in rows
        ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1+1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert csv_line([text], ENGLISH) == f'"\'{text}"\r\n'
    cell = sheets([[text, None, None, None, None, None]]).worksheets[0]["A2"]
    assert cell.data_type == "s"
    assert cell.value.endswith(text.strip())


def test_a_text_is_one_cell_in_whatever_program() -> None:
    """A comma's file opened where the semicolon stands between cells."""
    assert csv_line(["x;=1+1", 'a"b'], ENGLISH) == '"x;=1+1","a""b"\r\n'


def test_a_negative_number_stays_a_number() -> None:
    assert csv_line([Decimal("-0.000000001"), -5, -0.5, None], GERMAN) == "-0,000000001;-5;-0,5;\r\n"
    assert csv_line([Decimal("1E-9")], ENGLISH) == "0.000000001\r\n"


def test_xlsx_has_numbers_and_dates_and_a_frozen_header() -> None:
    sheet = sheets([ROW]).worksheets[0]
    text, cost, calls, month, at, is_open = sheet[2]
    assert [cell.value for cell in sheet[1]] == [column.title for column in COLUMNS]
    assert (text.value, cost.value, calls.value) == (ROW[0], -1234.567890123, 12)
    assert "€" in cost.number_format
    assert (month.value, at.value) == (datetime(2026, 11, 1), datetime(2026, 11, 23, 12, 30))
    assert (is_open.value, sheet.freeze_panes) == ("yes", "A2")


def test_xlsx_goes_on_on_a_further_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "SHEET_ROWS_MAX", 3)
    rows = [[f"row {number}", None, number, None, None, None] for number in range(6)]
    book = sheets(iter(rows), title="Organisation: [a very long name of a list]")
    assert [sheet.max_row for sheet in book.worksheets] == [4, 4]
    assert [row[0] for sheet in book for row in sheet.iter_rows(min_row=2, values_only=True)] == [
        row[0] for row in rows
    ]
    assert len({name.casefold() for name in book.sheetnames}) == 2


def test_a_text_that_is_too_long_for_a_cell_is_cut_off() -> None:
    sheet = sheets([["x" * 40_000, None, None, None, None, None]]).worksheets[0]
    assert len(sheet["A2"].value) == spreadsheets.CELL_CHARACTERS_MAX
