"""The month-end forecast: what must always hold of it, and how often its range has."""

import math
import random
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from aigov.clock import next_month
from budgets.forecast import WEEK, WEEKS_MAX, Forecast, forecast

MONTH, TODAY = date(2026, 11, 1), date(2026, 11, 18)
CENTS = st.integers(min_value=-2_000, max_value=100_000).map(lambda cents: Decimal(cents) / 100)


def days(costs: list[Decimal], *, until: date) -> list[tuple[date, Decimal]]:
    """The costs of the days before `until`, the last of them yesterday's."""
    return [(until - timedelta(days=len(costs) - at), cost) for at, cost in enumerate(costs)]


def known(costs: list[Decimal], of_today: str = "0", *, month: date = MONTH, today: date = TODAY) -> Forecast:
    found = forecast([*days(costs, until=today), (today, Decimal(of_today))], month=month, today=today)
    assert found is not None
    return found


@given(costs=st.lists(CENTS, max_size=70), of_today=CENTS, day=st.integers(min_value=1, max_value=30))
def test_never_below_what_is_spent_and_inside_its_range(
    costs: list[Decimal], of_today: Decimal, day: int
) -> None:
    today = MONTH.replace(day=day)
    daily = [*days(costs, until=today), (today, of_today)]
    random.shuffle(daily)
    found = forecast(daily, month=MONTH, today=today)
    spent = sum(cost for at, cost in daily if at >= MONTH)
    assert found is not None
    assert spent <= found.low_eur <= found.expected_eur <= found.high_eur
    assert found.method


@given(
    cost=CENTS.filter(lambda cost: cost >= 0),
    number=st.integers(min_value=WEEK, max_value=70),
    day=st.integers(min_value=1, max_value=30),
)
def test_a_constant_history_goes_on_exactly(cost: Decimal, number: int, day: int) -> None:
    today = MONTH.replace(day=day)
    found = known([cost] * number, today=today)
    in_month = min(number, day - 1) + 30 - day + 1
    assert found.expected_eur == found.low_eur == found.high_eur == cost * in_month


@given(week=st.lists(CENTS.filter(lambda cost: cost >= 0), min_size=WEEK, max_size=WEEK))
def test_a_week_that_repeats_itself_goes_on_exactly(week: list[Decimal]) -> None:
    found = known(week * 4)
    by_day = dict(days(week * 10, until=TODAY + timedelta(weeks=6)))
    truth = sum(by_day[MONTH + timedelta(days=at)] for at in range(30))
    assert found.expected_eur == truth
    assert found.low_eur == found.high_eur == truth


def test_what_today_has_cost_already_is_not_expected_again() -> None:
    assert known([Decimal(10)] * 28, "4").expected_eur == 300
    assert known([Decimal(10)] * 28, "25").expected_eur == 300 + 15


def test_one_odd_day_moves_nothing() -> None:
    costs = [Decimal(10)] * 42
    costs[10] = Decimal(5_000)
    assert known(costs).expected_eur == 300


def test_a_trend_goes_on_and_fades() -> None:
    costs = [Decimal(10 + week) for week in range(8) for _ in range(WEEK)]
    found = known(costs, today=MONTH)
    flat, straight = 17 * 30, sum(18 + at // WEEK for at in range(30))
    assert flat < found.expected_eur < straight
    assert "trend" in found.method


def test_nothing_known_is_said_so() -> None:
    assert forecast([], month=MONTH, today=TODAY) is None


def test_less_than_a_week_is_a_wide_guess() -> None:
    found = known([Decimal(10)] * 6)
    assert found.is_guess and "Less than a week" in found.method
    # 60 € spent and 13 days to come at 10 €, give or take all of them.
    assert (found.low_eur, found.expected_eur, found.high_eur) == (60, 190, 320)
    assert known([], "3", today=MONTH).expected_eur == 90
    assert not known([Decimal(10)] * WEEK).is_guess


def test_a_month_that_is_over_is_what_it_cost() -> None:
    found = known([Decimal(10)] * 40, month=date(2026, 10, 1))
    assert found.low_eur == found.expected_eur == found.high_eur == 230


def test_a_month_to_come_has_all_its_days_ahead() -> None:
    assert known([Decimal(10)] * 40, month=date(2026, 12, 1)).expected_eur == 310


def held(weeks: int, *, noise: float, growth: float, tries: int = 300) -> float:
    """How often the range held in so many months of weekly patterns with random days and steady growth."""
    chance, hits = random.Random(f"{weeks} {noise} {growth}"), 0
    for _ in range(tries):
        first = date(2026, 1, 1) + timedelta(days=chance.randrange(200))
        today = first + timedelta(days=weeks * WEEK + (chance.randrange(WEEK) if weeks < WEEKS_MAX else 0))
        month = today.replace(day=1)
        pattern = [chance.uniform(24, 36) if day < 5 else chance.uniform(2, 12) for day in range(WEEK)]
        daily = []
        for at in range((next_month(month) - first).days):
            day = first + timedelta(days=at)
            euro = pattern[day.weekday()] * math.exp(chance.gauss(0, noise)) * (1 + growth * at / WEEK)
            daily.append((day, Decimal(f"{euro:.6f}")))
        found = forecast([pair for pair in daily if pair[0] < today], month=month, today=today)
        truth = sum(cost for day, cost in daily if day >= month)
        assert found is not None
        hits += found.low_eur <= truth <= found.high_eur
    return hits / tries


def test_the_range_of_80_percent_holds_about_as_often() -> None:
    """As docs/alerts.md says."""
    for noise in (0.1, 0.3, 0.6):
        for growth in (0.0, 0.05):
            for weeks in (4, 6, 8):
                assert 0.66 <= held(weeks, noise=noise, growth=growth) <= 0.86
