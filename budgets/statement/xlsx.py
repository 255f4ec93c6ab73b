"""The statement as a workbook: a sheet for each section."""

from contextlib import closing
from typing import IO

from django.utils.translation import gettext as _

from aigov.spreadsheets import Book, Column, Kind
from budgets.statement.figures import Statement
from budgets.statement.sections import facts_of, notes_of, sections_of, title_of


def statement_xlsx(statement: Statement) -> IO[bytes]:
    """The workbook, open at its beginning; it is gone once it is closed."""
    balance, *sections = sections_of(statement)
    facts = [*facts_of(statement), *balance.rows, *((note, None) for note in notes_of(statement))]
    with closing(Book()) as book:
        book.add_table(_("Statement"), [Column(title_of(statement)), Column("", Kind.EURO)], facts)
        for section in sections:
            rows = [*section.rows, *([section.total] if section.total else [])]
            book.add_table(section.title, section.columns, rows)
        return book.finished()
