"""A month's days as a line."""

import re
from decimal import Decimal

import pytest

from budgets.sparkline import HEIGHT, MARGIN, WIDTH, sparkline


def points(drawn: str) -> list[tuple[float, float]]:
    found = re.search(r'points="([^"]*)"', drawn)
    assert found
    return [(float(x), float(y)) for x, y in (point.split(",") for point in found[1].split())]


def drawn(*values: str) -> str:
    return str(sparkline([Decimal(value) for value in values], said="the days"))


def test_the_largest_day_is_at_the_top_and_zero_at_the_bottom() -> None:
    assert points(drawn("0", "5", "10")) == [
        (MARGIN, HEIGHT - MARGIN),
        (WIDTH / 2, HEIGHT / 2),
        (WIDTH - MARGIN, MARGIN),
    ]


@pytest.mark.parametrize("values", [(), ("3",)])
def test_too_few_days_draw_nothing(values: tuple[str, ...]) -> None:
    assert drawn(*values) == ""


def test_days_without_cost_and_corrections_stay_at_the_bottom() -> None:
    assert [y for _x, y in points(drawn("0", "0"))] == [HEIGHT - MARGIN] * 2
    assert [y for _x, y in points(drawn("-4", "8"))] == [HEIGHT - MARGIN, MARGIN]


def test_it_says_what_it_shows() -> None:
    assert 'aria-label="&lt;b&gt;"' in str(sparkline([Decimal(1), Decimal(2)], said="<b>"))
