"""What a dashboard shows, as its address says it: the period, whose figures, and which use case.

    period=2026-11 | 2026-Q4 | range&from=2026-11-03&to=2026-11-17
    organization=3&organization=5      none: all of one's own
    use_case=lead_classification
    compare=off                        else with the period before

An address may have been typed, or be older than somebody's role; so what cannot be read is left out, and the
page says what it was and what is shown instead. Days are local days of each organization.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.http import QueryDict
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aigov import clock
from aigov.organizations.models import Organization
from kpis.periods import DAYS_MAX, Period

Kind = Literal["month", "quarter", "range"]

#: How far back and ahead one may look.
FIRST_YEAR, LAST_YEAR = 2020, 2100
MONTHS_OFFERED, QUARTERS_OFFERED = 24, 8
USE_CASE_CHARACTERS_MAX = 200

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_QUARTER = re.compile(r"(\d{4})-Q([1-4])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Picked:
    """A period as it was picked: local days from `first` to `last`, both included."""

    kind: Kind
    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def period(self) -> Period:
        return Period(self.first, self.last)

    @property
    def code(self) -> str:
        """What the parameter `period` says of it."""
        if self.kind == "month":
            return f"{self.first:%Y-%m}"
        if self.kind == "quarter":
            return f"{self.first.year}-Q{_quarter_of(self.first)}"
        return "range"

    def __str__(self) -> str:
        if self.kind == "month":
            return date_format(self.first, "F Y")
        if self.kind == "quarter":
            return _("Quarter %(number)s of %(year)s") % {
                "number": _quarter_of(self.first),
                "year": self.first.year,
            }
        return span_text(self.first, self.last)


def span_text(first: date, last: date) -> str:
    """`1 Nov 2026 – 23 Nov 2026`, or the one day."""
    begin, end = date_format(first, "DATE_FORMAT"), date_format(last, "DATE_FORMAT")
    return begin if first == last else f"{begin} – {end}"


def month_period(day: date) -> Picked:
    first = day.replace(day=1)
    return Picked("month", first, clock.next_month(first) - timedelta(days=1))


def quarter_period(day: date) -> Picked:
    first = date(day.year, 3 * _quarter_of(day) - 2, 1)
    last_month = first.replace(month=first.month + 2)
    return Picked("quarter", first, clock.next_month(last_month) - timedelta(days=1))


def _quarter_of(day: date) -> int:
    return (day.month + 2) // 3


def before(period: Picked) -> Picked:
    """The whole period before: the month, the quarter, or as many days."""
    eve = period.first - timedelta(days=1)
    if period.kind == "month":
        return month_period(eve)
    if period.kind == "quarter":
        return quarter_period(eve)
    return Picked("range", period.first - timedelta(days=period.days), eve)


def after(period: Picked) -> Picked:
    """The whole period after; `before` of it is `period` again."""
    morrow = period.last + timedelta(days=1)
    if period.kind == "month":
        return month_period(morrow)
    if period.kind == "quarter":
        return quarter_period(morrow)
    return Picked("range", morrow, period.last + timedelta(days=period.days))


def compared_with(period: Picked, today: date) -> Picked:
    """What `period` is compared with: the period before, and of that no more days than have gone by so far.

    Half a month compared with a whole one would always look cheap.
    """
    whole = before(period)
    if not period.first <= today < period.last:
        return whole
    same_day = whole.first + (today - period.first)
    return whole if same_day >= whole.last else Picked("range", whole.first, same_day)


# --- The address


@dataclass(frozen=True, slots=True)
class Selection:
    """What the address asks for.

    Args:
        offered: the organizations that the person may see, by name.
        chosen: those of them that were asked for; none: all.
        today: the latest of the organizations' local dates.
        today_everywhere: the earliest of them: the days before it are over in all of them.
        problems: what could not be read, in words.
    """

    picked: Picked
    offered: Sequence[Organization]
    chosen: frozenset[int]
    use_case: str
    compare: bool
    today: date
    today_everywhere: date
    problems: tuple[str, ...] = ()

    @property
    def organizations(self) -> Sequence[Organization]:
        return [each for each in self.offered if not self.chosen or each.pk in self.chosen]

    @property
    def organization_ids(self) -> list[int]:
        return [each.pk for each in self.organizations]

    @property
    def compared(self) -> Picked | None:
        return compared_with(self.picked, self.today_everywhere) if self.compare else None

    @property
    def query(self) -> str:
        """The parameters that bring here again, whole, with their question mark."""
        found: list[tuple[str, Any]] = [("period", self.picked.code)]
        if self.picked.kind == "range":
            found += [("from", self.picked.first.isoformat()), ("to", self.picked.last.isoformat())]
        found += [("organization", each.pk) for each in self.offered if each.pk in self.chosen]
        if self.use_case:
            found.append(("use_case", self.use_case))
        if not self.compare:
            found.append(("compare", "off"))
        return f"?{urlencode(found)}"

    def with_period(self, picked: Picked) -> "Selection":
        return replace(self, picked=picked)


def selection(given: QueryDict, offered: Sequence[Organization], now: datetime) -> Selection:
    """What `given` asks for of the organizations that are `offered`."""
    problems: list[str] = []
    chosen = _organizations(given, {each.pk for each in offered}, problems.append)
    shown = [each for each in offered if not chosen or each.pk in chosen]
    dates = local_dates(now, (each.time_zone for each in shown))
    today = max(dates)
    period = _period(given, today, problems.append)
    use_case = _use_case(given, problems.append)
    compare = _compare(given, problems.append)
    return Selection(period, offered, chosen, use_case, compare, today, min(dates), tuple(problems))


def local_dates(now: datetime, time_zones: Iterable[str]) -> set[date]:
    """The dates that it is in `time_zones`; without any, that of UTC."""
    return {now.astimezone(ZoneInfo(zone)).date() for zone in time_zones} or {now.date()}


def months_offered(today: date) -> list[Picked]:
    """This month and those before it."""
    return _back_from(month_period(today), MONTHS_OFFERED)


def quarters_offered(today: date) -> list[Picked]:
    return _back_from(quarter_period(today), QUARTERS_OFFERED)


def _back_from(period: Picked, number: int) -> list[Picked]:
    found = [period]
    while len(found) < number:
        found.append(before(found[-1]))
    return found


Tell = Callable[[str], None]


def _period(given: QueryDict, today: date, tell: Tell) -> Picked:
    code = given.get("period", "range" if given.get("from") or given.get("to") else "")
    default = month_period(today)
    if not code:
        return default
    if code == "range":
        return _range(given, default, tell)
    first = _first_day(code)
    if first is None:
        tell(
            _("Period: “%(given)s” is no month (2026-11) or quarter (2026-Q4). Shown is %(default)s.")
            % {"given": code[:40], "default": default}
        )
        return default
    return quarter_period(first) if "Q" in code else month_period(first)


def _first_day(code: str) -> date | None:
    month, quarter = _MONTH.fullmatch(code), _QUARTER.fullmatch(code)
    try:
        if month:
            found = date(int(month[1]), int(month[2]), 1)
        elif quarter:
            found = date(int(quarter[1]), 3 * int(quarter[2]) - 2, 1)
        else:
            return None
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year <= LAST_YEAR else None


def _range(given: QueryDict, default: Picked, tell: Tell) -> Picked:
    shown = {"default": default}
    first = _day(given, "from", _("From"), default, tell)
    last = _day(given, "to", _("To"), default, tell)
    if first is None or last is None:
        return default
    if first > last:
        tell(_("From: the first day is after the last. Shown is %(default)s.") % shown)
        return default
    if (last - first).days >= DAYS_MAX:
        tell(
            _("From, to: no more than %(days)s days fit. Shown is %(default)s.") % {"days": DAYS_MAX, **shown}
        )
        return default
    return Picked("range", first, last)


def _day(given: QueryDict, name: str, label: str, default: Picked, tell: Tell) -> date | None:
    text = given.get(name, "")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if FIRST_YEAR <= found.year <= LAST_YEAR:
        return found
    tell(
        _("%(field)s: “%(given)s” is no day, such as 2026-11-03. Shown is %(default)s.")
        % {"field": label, "given": text[:40], "default": default}
    )
    return None


def _organizations(given: QueryDict, offered: set[int], tell: Tell) -> frozenset[int]:
    """Those that are asked for and offered. That others exist is not told."""
    asked = [text for text in given.getlist("organization") if text]
    found = frozenset(int(text) for text in asked if re.fullmatch(r"[0-9]{1,18}", text)) & offered
    if len(found) < len(set(asked)):
        tell(
            _("Organization: not all that the address names are yours to see. They are left out.")
            if found
            else _("Organization: none that the address names is yours to see. Shown are all of yours.")
        )
    return found


def _use_case(given: QueryDict, tell: Tell) -> str:
    text = given.get("use_case", "")
    if len(text) <= USE_CASE_CHARACTERS_MAX and "\0" not in text:
        return text
    tell(_("Use case: there is none of that name. Shown are all."))
    return ""


def _compare(given: QueryDict, tell: Tell) -> bool:
    text = given.get("compare", "on")
    if text not in ("on", "off"):
        tell(_("Compare: “%(given)s” is neither on nor off. Shown is the comparison.") % {"given": text[:40]})
    return text != "off"
