"""What a month will have cost at its end, with the range in which that lies four times out of five. Pure.

    expected = spent so far + Σ over the days that are left of  level(week) × share(weekday)

`level` is the cost of a week: the median of the past weeks' totals, moved along a trend once four whole weeks
are known. The trend is the median of the slopes between all pairs of weeks (Theil and Sen), and fades by a
tenth with each week ahead (the damped trend of Gardner and McKenzie, 1985). `share` is the weekday's part of
a week, by the medians of its past days. Medians, so that one odd day moves nothing. With a single week known
this is the seasonal naive method: the same day of last week (Hyndman and Athanasopoulos, Forecasting:
Principles and Practice, 3rd edition, 5.2).

The range comes from the residuals' empirical quantiles (ibid., 5.5): by how much past days missed what the
pattern says of them. The sum of m days to come misses by

    q × √(m + π/2 × m²/n × (1 + 12 c² / (k² − 1)))

where q is the 10 % or 90 % quantile of the residuals of n days in k weeks, and c how many weeks lie between
the middle of these weeks and that of the days to come: m for the days themselves, the rest for what a line
through k points does not know of its height and slope (the variance of a regression's prediction), π/2
because medians know less than means. Residuals of a fitted pattern are too small, by √(k / (k − 1)).
docs/alerts.md says how often the range has held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import combinations
from statistics import median

from django.utils.translation import gettext as _

from aigov.clock import next_month
from aigov.money import NANO_EURO, ZERO

WEEK = 7
WEEKS_MAX = 8
DAYS_MIN = WEEK
TREND_WEEKS_MIN = 4
TREND_KEPT = Decimal("0.9")
LOW_QUANTILE, HIGH_QUANTILE = Decimal("0.1"), Decimal("0.9")
#: The variance of a median, by that of a mean, of normal values: half of pi.
OF_MEDIANS = Decimal("1.57")
#: How wide the range is while less than a week is known: up to so many times what is expected.
WIDE = 2

Day = tuple[date, Decimal]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month's end.

    Args:
        low_eur: between it and `high_eur` the month ends with a probability of about 80 %.
        method: how it was reckoned, in a sentence for people.
        days_known: the whole days that it goes by; below 7 it is hardly more than a guess.
    """

    expected_eur: Decimal
    low_eur: Decimal
    high_eur: Decimal
    method: str
    days_known: int

    @property
    def is_guess(self) -> bool:
        return self.days_known < DAYS_MIN


def forecast(daily: Sequence[Day], *, month: date, today: date) -> Forecast | None:
    """The month-end forecast; None where nothing is known yet.

    Args:
        daily: days with their costs in euro, each once, in any order; a day that is missing cost nothing. Of
            the days before `today`, the last eight weeks count; `today` itself is still running.
    """
    if not daily:
        return None
    costs = dict(daily)
    spent = sum((cost for day, cost in daily if _same_month(day, month) and day <= today), ZERO)
    left = _days_left(month, today)
    past = days_before(costs, today)
    if not left:
        return Forecast(spent, spent, spent, _("The month is over: this is what it cost."), len(past))
    of_today = max(costs.get(today, ZERO), ZERO)
    if len(past) < DAYS_MIN:
        return _by_mean(past or [of_today], spent, of_today, len(left), len(past))
    return _by_pattern(past, spent, of_today, left, today)


def _same_month(day: date, month: date) -> bool:
    return (day.year, day.month) == (month.year, month.month)


def _days_left(month: date, today: date) -> list[date]:
    """The days of `month` that are not over, today among them."""
    first = max(month.replace(day=1), today)
    return [first + timedelta(days=at) for at in range((next_month(month) - first).days)]


def days_before(costs: Mapping[date, Decimal], today: date) -> list[Decimal]:
    """What the whole days before `today` cost, in order, from the first one known; eight weeks at most."""
    first = max(min(costs), today - timedelta(days=WEEK * WEEKS_MAX))
    days = range(max((today - first).days, 0))
    # A correction may leave a day below zero; nobody expects another.
    return [max(costs.get(first + timedelta(days=at), ZERO), ZERO) for at in days]


def _by_mean(past: Sequence[Decimal], spent: Decimal, of_today: Decimal, left: int, known: int) -> Forecast:
    """Each day costs what a day has cost on average."""
    mean = sum(past, ZERO) / len(past)
    ahead = mean * (left - 1) + max(mean - of_today, ZERO)
    method = _("The average day so far. Less than a week is known, so the range is wide.")
    return _rounded(spent, ahead, -ahead, ahead * (WIDE - 1), method, known)


def _by_pattern(
    past: Sequence[Decimal], spent: Decimal, of_today: Decimal, left: Sequence[date], today: date
) -> Forecast:
    weeks = len(past) // WEEK
    # Whole weeks alone, the last of which ends yesterday: in each, the place of a day is its weekday.
    known = past[-weeks * WEEK :]
    shares, (level, slope) = _shares(known), _level(known)
    ahead = [level * shares[(day - today).days % WEEK] for day in left]
    if slope:
        for at, day in enumerate(left):
            moved = level + slope * _faded((day - today).days // WEEK + 1)
            ahead[at] = max(moved, ZERO) * shares[(day - today).days % WEEK]
    if left[0] == today:
        ahead[0] = max(ahead[0] - of_today, ZERO)
    low, high = _misses(known, shares, level, slope, len(left))
    return _rounded(spent, sum(ahead, ZERO), low, high, _method(weeks), len(past))


def _shares(known: Sequence[Decimal]) -> list[Decimal]:
    """Each weekday's part of a week, by the median of its days; by their mean where all medians are 0."""
    for typical in (median, lambda days: sum(days, ZERO) / len(days)):
        of_weekdays = [typical(known[at::WEEK]) for at in range(WEEK)]
        if total := sum(of_weekdays, ZERO):
            return [of_weekday / total for of_weekday in of_weekdays]
    return [ZERO] * WEEK


def _level(known: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """What the last week cost by the line through all weeks, and by how much each next week costs more."""
    totals = [sum(known[at : at + WEEK], ZERO) for at in range(0, len(known), WEEK)]
    slope = ZERO
    if len(totals) >= TREND_WEEKS_MIN:
        slope = median((b - a) / (at_b - at_a) for (at_a, a), (at_b, b) in combinations(enumerate(totals), 2))
    last = len(totals) - 1
    return max(median(total + slope * (last - at) for at, total in enumerate(totals)), ZERO), slope


def _faded(weeks_ahead: int) -> Decimal:
    return sum((TREND_KEPT**week for week in range(1, weeks_ahead + 1)), ZERO)


def _misses(
    known: Sequence[Decimal], shares: Sequence[Decimal], level: Decimal, slope: Decimal, days: int
) -> tuple[Decimal, Decimal]:
    """By how much the sum of `days` days to come may turn out lower (not above 0) and higher (not below)."""
    weeks = len(known) // WEEK
    if weeks == 1:  # a single week keeps to its own pattern exactly, and says nothing of how days vary
        residuals = [cost - level / WEEK for cost in known]
        too_small = Decimal(1)
    else:
        residuals = [
            cost - (level - slope * (weeks - 1 - at // WEEK)) * shares[at % WEEK]
            for at, cost in enumerate(known)
        ]
        too_small = (Decimal(weeks) / (weeks - 1)).sqrt()
    scale = too_small * _scale(weeks, days)
    residuals.sort()
    low, high = (quantile(residuals, part) for part in (LOW_QUANTILE, HIGH_QUANTILE))
    return min(low, ZERO) * scale, max(high, ZERO) * scale


def _scale(weeks: int, days: int) -> Decimal:
    """How many residuals of one day the sum of `days` days to come misses by."""
    apart = Decimal(weeks) / 2 + Decimal(days) / (2 * WEEK)
    trend = 12 * apart**2 / (weeks**2 - 1) if weeks > 1 else ZERO
    return (days + OF_MEDIANS * days**2 / (weeks * WEEK) * (1 + trend)).sqrt()


def quantile(ordered: Sequence[Decimal], part: Decimal) -> Decimal:
    """The value below which `part` of the values lie, between two of them in proportion (type 7 of Hyndman
    and Fan, 1996)."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _method(weeks: int) -> str:
    if weeks == 1:
        return _("Each day costs what the same weekday cost last week.")
    if weeks < TREND_WEEKS_MIN:
        return _("The usual cost of each weekday in the last %(weeks)d weeks.") % {"weeks": weeks}
    return _(
        "The usual cost of each weekday in the last %(weeks)d weeks, and the trend from week to week."
    ) % {"weeks": weeks}


def _rounded(
    spent: Decimal, ahead: Decimal, low: Decimal, high: Decimal, method: str, days_known: int
) -> Forecast:
    ahead, low, high = (amount.quantize(NANO_EURO) for amount in (ahead, low, high))
    expected = spent + ahead
    return Forecast(expected, spent + max(ahead + low, ZERO), expected + high, method, days_known)
