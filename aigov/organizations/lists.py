"""The lists of the admin as tables: what a screen shows, value by value, for files.

A file has the rows of its screen and no others, in the same order, in all pages; its columns have the
screen's titles. A value is exact where the screen rounds it. Which value that is, a column says by
`exported`; without it, it is the field by which the column is sorted where that holds a number or a date,
and else the text that people see.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import label_for_field, lookup_field
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest
from django.utils.html import strip_tags
from django.utils.safestring import SafeString
from django.utils.text import capfirst, slugify
from django.utils.timezone import localtime

from aigov import clock
from aigov.spreadsheets import Column, Kind, Row

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.contrib.admin.views.main import ChangeList
else:
    from unfold.views import ChangeList

ROWS_AT_ONCE = 2_000
#: What stands for “nothing” on the screen, and is an empty cell in a file.
NOTHING = "–"

Show = TypeVar("Show", bound=Callable[..., Any])
Read = Callable[[Any], Any]
#: The path from a row to the value, or a title and how the value is read.
Part = str | tuple[Any, Read] | tuple[Any, Read, Kind]


class Rows(ChangeList):
    """A list that is called by what it shows, and offers to show all rows only where it does not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = capfirst(str(self.opts.verbose_name_plural))

    def get_filters(self, request: HttpRequest) -> Any:
        """Leads back to the list, without what was asked, where that is no filter of it."""
        try:
            return super().get_filters(request)
        except DisallowedModelAdminLookup as refusal:
            raise IncorrectLookupParameters from refusal

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count

    def download_links(self) -> list[tuple[str, str]]:
        """(name, address) of the files that have this list's rows."""
        query = self.get_query_string(remove=["p", "e"])
        return [("CSV", f"export/csv/{query}"), ("XLSX", f"export/xlsx/{query}")]


def exported(*parts: Part) -> Callable[[Show], Show]:
    """Says what a column of a list is in files: one value, or several, each a column of its own.

    A value that is named by its path has its field's title; a single one has the column's.
    """

    def decorate(show: Show) -> Show:
        show.exported = parts  # type: ignore[attr-defined]
        return show

    return decorate


@dataclass(frozen=True, slots=True)
class Listed:
    """A column of a file, and how its value is read from a row of the list."""

    column: Column
    read: Read


@dataclass(frozen=True, slots=True)
class ListTable:
    """A list as a table; its rows are read from the database while one goes through them."""

    title: str
    count: int
    columns: Sequence[Column]
    rows: Iterator[Row]

    def filename(self, file_format: str) -> str:
        """Such as `cost-records-2026-11-23.csv`."""
        return f"{slugify(self.title)}-{localtime(clock.now()):%Y-%m-%d}.{file_format}"


def list_table(page: "ModelAdmin[Any]", request: HttpRequest) -> ListTable:
    """The rows that `request` shows in the list `page`, all pages of them."""
    shown: Any = page.get_changelist_instance(request)
    listed = [part for name in page.get_list_display(request) for part in _listed(page, str(name))]
    found = shown.queryset.iterator(chunk_size=ROWS_AT_ONCE)
    return ListTable(
        title=shown.title,
        count=shown.result_count,
        columns=[part.column for part in listed],
        rows=([part.read(row) for part in listed] for row in found),
    )


def _listed(page: "ModelAdmin[Any]", name: str) -> Iterator[Listed]:
    title = capfirst(str(label_for_field(name, page.model, page)))
    field = _field(page.model, name)
    show: Any = getattr(page, name, None)
    if field is not None:
        yield Listed(Column(title, _kind(name, field)), partial(_value, field, name))
    elif hasattr(show, "exported"):
        for part in show.exported:
            yield _listed_part(page.model, name, part, title if len(show.exported) == 1 else None)
    else:
        yield _sorted_or_seen(page, name, title, show)


def _listed_part(model: type[models.Model], name: str, part: Part, title: str | None) -> Listed:
    if isinstance(part, str):
        field = _field(model, part)
        assert field is not None, part
        kind = Kind.EURO if name.endswith("_euro") else _kind(part, field)
        return Listed(Column(title or capfirst(str(field.verbose_name)), kind), partial(_value, field, part))
    own_title, read, *kinds = part
    return Listed(Column(title or capfirst(str(own_title)), kinds[0] if kinds else _kind(name, None)), read)


def _sorted_or_seen(page: "ModelAdmin[Any]", name: str, title: str, show: Any) -> Listed:
    order = getattr(show, "admin_order_field", None)
    path = order.removeprefix("-") if isinstance(order, str) else ""
    field = _field(page.model, path) if path else None
    if isinstance(field, models.DecimalField | models.IntegerField | models.FloatField | models.DateField):
        kind = Kind.EURO if name.endswith("_euro") else _kind(path, field)
        return Listed(Column(title, kind), partial(_value, field, path))
    return Listed(Column(title), lambda row: seen(lookup_field(name, row, page)[2]))


def seen(value: Any) -> str | None:
    """The text that people see in a cell; None where it says that there is nothing.

    Only our own HTML is without its tags in a file: what others wrote is whole, whatever it looks like.
    """
    text = (_without_tags(value) if isinstance(value, SafeString) else str(value)).strip()
    return None if text in ("", NOTHING) else text


def _without_tags(html: str) -> str:
    return unescape(strip_tags(html.replace("</span><span", "</span> · <span")))


def _field(model: type[models.Model], path: str) -> Any:
    """The field at `path` (`organization__name`); None where there is none."""
    field: Any = None
    for name in path.split(LOOKUP_SEP):
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:
            return None
        model = field.related_model or model
    return field


def _kind(name: str, field: Any) -> Kind:
    """By the name, as the style sheet goes by it, and by the field."""
    if name.endswith(("_euro", "_eur")):
        return Kind.EURO
    if name.endswith("_usd"):
        return Kind.USD
    match field:
        case models.DateTimeField():
            return Kind.INSTANT
        case models.DateField():
            return Kind.MONTH if name.endswith("month") else Kind.DATE
        case models.DecimalField() | models.FloatField():
            return Kind.NUMBER
        case models.IntegerField():
            return Kind.COUNT
        case _:
            return Kind.COUNT if name.endswith("_count") else Kind.NUMBER if _is_number(name) else Kind.TEXT


def _is_number(name: str) -> bool:
    return name.endswith(("_rate", "_number"))


def _value(field: Any, path: str, row: Any) -> Any:
    """What stands in the row at `path`: numbers and dates as they are, anything else in words."""
    *steps, last = path.split(LOOKUP_SEP)
    for step in steps:
        row = getattr(row, step, None)
    if row is None:
        return None
    value = getattr(row, last)
    if field.choices:
        value = str(getattr(row, f"get_{last}_display")())
    if isinstance(value, models.Model):
        return str(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return None if value == "" else value
