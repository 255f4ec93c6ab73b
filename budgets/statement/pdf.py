"""The statement on paper: A4, each amount to the cent and, beside it, exact."""

from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language, gettext
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, TableCellFillMode
from fpdf.fonts import FontFace

from aigov.organizations.tenant_admin import NOTHING, count, euro, instant
from aigov.spreadsheets import Column, Kind
from budgets.progress import percent_text, progress
from budgets.statement.figures import Statement
from budgets.statement.sections import Section, facts_of, notes_of, sections_of, title_of

FONTS: Path = settings.BASE_DIR / "aigov" / "fonts"
FONT = "DejaVu"
EXACT_PLACES = 9
MARGIN_MM = 18
#: Grey by grey, and one colour for what is used up.
INK, PALE, LINE, SHADE = (17, 24, 39), (107, 114, 128), (209, 213, 219), (243, 244, 246)
BAR = {"calm": (22, 163, 74), "near": (217, 119, 6), "full": (220, 38, 38)}
WHITE = (255, 255, 255)
BAR_MM, BAR_TEXT_MM = 3.2, 34
TITLE_MM, ROW_MM = 7, 6.2
#: So many rows of a table at least stand together with its title, or with its total.
ROWS_TOGETHER = 4
WIDTHS_MM = {
    Kind.DATE: (24.0,),
    Kind.COUNT: (22.0,),
    Kind.NUMBER: (40.0,),
    Kind.USD: (32.0,),
    Kind.EURO: (24.0, 32.0),
}
NUMBERS = (Kind.NUMBER, Kind.COUNT, Kind.EURO, Kind.USD)


class Paper(FPDF):  # type: ignore[misc]
    """Pages with the same foot: what it is, when it was printed, and the page's number."""

    def __init__(self, statement: Statement) -> None:
        super().__init__(format="A4")
        self._foot = f"{statement.organization}, {title_of(statement)}"
        self._printed = gettext("Printed: %(at)s") % {"at": instant(statement.as_of)}
        self.add_font(FONT, "", FONTS / "DejaVuSansCondensed.ttf")
        self.add_font(FONT, "B", FONTS / "DejaVuSansCondensed-Bold.ttf")
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(True, margin=MARGIN_MM + 4)
        self.set_title(self._foot)
        self.set_lang(get_language() or "en")
        self.set_creation_date(statement.as_of)
        self.set_draw_color(*LINE)

    def footer(self) -> None:
        self.set_y(-MARGIN_MM + 2)
        self.write_in(7.5, PALE)
        third = self.epw / 3
        self.cell(third * 1.6, 4, self._foot)
        self.cell(third * 0.9, 4, self._printed, align="C")
        page = gettext("Page %(page)s of %(pages)s") % {"page": self.page_no(), "pages": "{nb}"}
        self.cell(third * 0.5, 4, page, align="R")

    def write_in(self, size: float, color: tuple[int, int, int] = INK, style: str = "") -> None:
        self.set_font(FONT, style, size)
        self.set_text_color(*color)


def statement_pdf(statement: Statement) -> bytes:
    """The statement in the language in force."""
    paper = Paper(statement)
    paper.add_page()
    _head(paper, statement)
    for section in sections_of(statement):
        _section(paper, section)
    _notes(paper, notes_of(statement))
    return bytes(paper.output())


def _head(paper: Paper, statement: Statement) -> None:
    paper.write_in(18, style="B")
    paper.cell(0, 9, title_of(statement), new_x="LMARGIN", new_y="NEXT")
    paper.ln(2)
    for title, value in facts_of(statement):
        paper.write_in(9, PALE)
        paper.cell(38, 5, title)
        paper.write_in(9)
        paper.multi_cell(0, 5, value, new_x="LMARGIN", new_y="NEXT")
    _bar(paper, statement)


def _bar(paper: Paper, statement: Statement) -> None:
    """How much of the cap is used up: spent in full colour, held by calls in flight lighter beside it."""
    used = progress(statement.balance)
    if used is None:
        return
    paper.ln(3)
    left, top, width = paper.l_margin + paper.c_margin, paper.get_y(), paper.epw - BAR_TEXT_MM
    color = BAR[used.level]
    parts = ((100.0, SHADE), (float(used.spent_width + used.held_width), _lighter(color)))
    for percent, fill in (*parts, (float(used.spent_width), color)):
        if percent:
            paper.set_fill_color(*fill)
            paper.rect(left, top, width * percent / 100, BAR_MM, style="F")
    paper.set_fill_color(*WHITE)
    paper.set_xy(left + width, top - 0.9)
    paper.write_in(9, style="B")
    said = gettext("%(percent)s of the cap") % {"percent": percent_text(used)}
    paper.cell(BAR_TEXT_MM, 5, said, new_x="LMARGIN", new_y="NEXT")


def _lighter(color: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple((part + 2 * 255) // 3 for part in color)


def _section(paper: Paper, section: Section) -> None:
    paper.ln(6)
    begin = min(len(section.rows), ROWS_TOGETHER) + 2
    if paper.will_page_break(TITLE_MM + begin * ROW_MM):  # a title or a total is not left alone
        paper.add_page()
    paper.write_in(11.5, style="B")
    paper.cell(0, TITLE_MM, section.title, new_x="LMARGIN", new_y="NEXT")
    paper.write_in(8.5)
    kinds = [column.kind for column in section.columns]
    with paper.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        cell_fill_mode=TableCellFillMode.NONE,
        headings_style=FontFace(emphasis="BOLD", color=PALE, size_pt=8),
        line_height=4.6,
        padding=(0.7, 1.2),
        text_align=tuple("RIGHT" if kind in NUMBERS else "LEFT" for kind in _shown_kinds(kinds)),
        col_widths=_widths(kinds, paper.epw),
        width=paper.epw,
    ) as table:
        table.row(_titles(section.columns))
        for row in section.rows:
            _line(table, row, kinds)
        if section.total:
            _line(table, section.total, kinds, FontFace(emphasis="BOLD", fill_color=SHADE))
    if section.note:
        paper.ln(1)
        paper.write_in(8, PALE)
        paper.multi_cell(0, 4.2, section.note, new_x="LMARGIN", new_y="NEXT")


def _line(table: Any, row: Iterable[Any], kinds: Iterable[Kind], style: FontFace | None = None) -> None:
    """A row; the exact amounts stand back behind those that people read."""
    line = table.row(style=style)
    for value, kind in zip(row, kinds, strict=True):
        text, *exact = _texts(value, kind)
        line.cell(text)
        for more in exact:
            line.cell(more, style=FontFace(color=PALE, size_pt=7.5))


def _notes(paper: Paper, notes: Iterable[str]) -> None:
    paper.ln(6)
    for note in notes:
        paper.write_in(8, PALE)
        paper.multi_cell(0, 4.2, note, new_x="LMARGIN", new_y="NEXT")
        paper.ln(1)


def _shown_kinds(kinds: Iterable[Kind]) -> list[Kind]:
    """On paper an amount has two columns: to the cent, and exact."""
    return [shown for kind in kinds for shown in ([kind] * 2 if kind == Kind.EURO else [kind])]


def _titles(columns: Iterable[Column]) -> list[str]:
    exact = gettext("Exact")
    return [
        title
        for column in columns
        for title in ([column.title, exact] if column.kind == Kind.EURO else [column.title])
    ]


def _widths(kinds: Iterable[Kind], whole: float) -> tuple[float, ...]:
    """In millimetres: what numbers and dates need, and the rest for the texts."""
    shown = [width for kind in kinds for width in WIDTHS_MM.get(kind, (0.0,))]
    texts = shown.count(0)
    rest = whole - sum(shown)
    return tuple(width or rest / texts for width in shown) if texts else tuple(shown)


def _texts(value: Any, kind: Kind) -> list[str]:
    if kind == Kind.EURO:
        return [euro(value), euro(value, places=EXACT_PLACES)] if value is not None else [NOTHING, ""]
    if kind == Kind.USD:
        return [f"{_number(value.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP))} USD"]
    if kind == Kind.COUNT:
        return [count(value)]
    if isinstance(value, date):
        return [date_format(value, "DATE_FORMAT")]
    return [_number(value) if isinstance(value, Decimal) else str(value or "")]


def _number(value: Decimal) -> str:
    return number_format(value, use_l10n=True, force_grouping=True)
