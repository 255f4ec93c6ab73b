"""A period cut into the steps of its figures: days, or months where days would be too many to see."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, TypeVar

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aigov import clock
from kpis.tables import Column

T = TypeVar("T")

DAYS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class Bucket:
    """Local days from `first` to `last`, both included, that are one step of a figure."""

    first: date
    last: date
    label: str


@dataclass(frozen=True, slots=True)
class Buckets:
    """The steps of a period; `kind` says whether they are days or months."""

    steps: Sequence[Bucket]
    kind: Literal["day", "month"]

    @property
    def labels(self) -> list[str]:
        return [step.label for step in self.steps]

    @property
    def column(self) -> Column:
        return Column(_("Day") if self.kind == "day" else _("Month"), self.kind)

    def gathered(self, rows: Iterable[T], day_of: Callable[[T], date]) -> list[list[T]]:
        """The rows of each step."""
        ordered = sorted(rows, key=day_of)
        found: list[list[T]] = [[] for _step in self.steps]
        at = 0
        for row in ordered:
            day = day_of(row)
            while at < len(self.steps) and self.steps[at].last < day:
                at += 1
            if at < len(self.steps) and self.steps[at].first <= day:
                found[at].append(row)
        return found


def buckets(first: date, last: date) -> Buckets:
    """The steps from `first` to `last`. A month that the period cuts is as long as the period has of it."""
    days = (last - first).days + 1
    if days <= DAYS_SHOWN_MAX:
        every_day = [first + timedelta(days=number) for number in range(days)]
        return Buckets([Bucket(day, day, date_format(day, _("j M"))) for day in every_day], "day")
    steps = []
    begin = first
    while begin <= last:
        end = min(clock.next_month(begin) - timedelta(days=1), last)
        steps.append(Bucket(begin, end, date_format(begin, _("M Y"))))
        begin = clock.next_month(begin)
    return Buckets(steps, "month")
