"""How much of a cap is used up: the per cent, the colour, and the bar."""

from decimal import Decimal
from typing import Any

import pytest
from django.utils import translation

from budgets.ledger import Balance
from budgets.months import fullness
from budgets.progress import Level, percent_text, progress, progress_bar

SPACE = "\N{NO-BREAK SPACE}"


def balance(cap: str | None, spent: str, held: str) -> Balance:
    return Balance(None if cap is None else Decimal(cap), Decimal(spent), Decimal(held))


def used(cap: str, spent: str, held: str) -> Any:
    found = progress(balance(cap, spent, held))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("spent", "held", "level", "text"),
    [
        ("0", "0", "calm", "0"),
        ("0.000000001", "0", "calm", "< 1"),
        ("79.99", "0", "calm", "79"),
        ("70", "9.999999999", "calm", "79"),
        ("80", "0", "near", "80"),
        ("70", "10", "near", "80"),
        ("99.999999999", "0", "near", "99"),
        ("100", "0", "full", "100"),
        ("60", "40", "full", "100"),
        ("120", "5", "full", "125"),
    ],
)
def test_amber_from_80_and_red_from_100_and_the_text_says_the_same(
    spent: str, held: str, level: Level, text: str
) -> None:
    found = used("100", spent, held)
    assert (found.level, percent_text(found)) == (level, f"{text}{SPACE}%")


def test_the_bar_has_spent_and_held_apart_and_never_runs_over() -> None:
    found = used("100", "70", "10")
    assert (found.spent_width, found.held_width) == (70, 10)
    over = used("100", "90", "30")
    assert (over.spent_width, over.held_width) == (90, 10)
    far_over = used("100", "130", "30")
    assert (far_over.spent_width, far_over.held_width) == (100, 0)


def test_a_cap_of_nothing_is_full() -> None:
    assert used("0", "0", "0").level == "full"
    assert percent_text(used("0", "0", "0")) == f"100{SPACE}%"
    assert percent_text(used("0", "5", "0")) == f"> 999{SPACE}%"
    assert percent_text(used("0.000001", "5", "0")) == f"> 999{SPACE}%"


def test_corrections_may_have_made_the_spent_negative() -> None:
    assert used("100", "-5", "0").spent_width == 0
    assert used("100", "-5", "0").level == "calm"


def test_without_a_cap_there_is_no_bar() -> None:
    assert progress(balance(None, "5", "0")) is None
    assert progress_bar(balance(None, "5", "0")) == "no cap"


def test_the_style_is_the_same_in_every_language() -> None:
    with translation.override("de"):
        bar = progress_bar(balance("100", "12.5", "3"))
    assert 'style="width: 12.50%"' in bar
    assert 'style="width: 3.00%"' in bar


def test_the_fullest_are_those_without_a_cent_left() -> None:
    mixed = [
        balance("10", "1", "8"),
        balance("0", "0", "0"),
        balance(None, "9", "9"),
        balance("10", "1", "0"),
    ]
    assert [each.cap_eur for each in sorted(mixed, key=fullness)] == [None, 10, 10, 0]
    assert sorted(mixed, key=fullness)[1].held_eur == 0
