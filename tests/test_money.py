"""Euro as people read it."""

from decimal import Decimal

import pytest
from django.utils import translation

from aigov.money import EURO_MAX, euro_for_people, exact_euro_for_people, usd_for_people

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        *(("0", "0.00"), ("0.000000000", "0.00"), ("1", "1.00"), ("1000", "1,000.00")),
        *(("1234567.891", "1,234,567.89"), ("12.345", "12.35"), ("1.005", "1.01")),
        *(("0.0000612", "0.0000612"), ("0.012345678", "0.01235"), ("0.5", "0.50"), ("0.123456", "0.1235")),
        *(("0.000000001", "0.000000001"), ("0.000012345", "0.00001235"), ("0.000001234", "0.000001234")),
        *(("0.99994", "0.9999"), ("0.99996", "1.00"), ("0.009999996", "0.01")),
        *(("-0.0000612", "-0.0000612"), ("-12.345", "-12.35")),
    ],
)
def test_readers_see_cents_and_of_less_than_a_euro_four_digits(amount: str, shown: str) -> None:
    assert euro_for_people(Decimal(amount)) == f"{shown}{SPACE}€"


def test_dollars_are_written_as_euro_are() -> None:
    assert usd_for_people(Decimal("-1234.567")) == f"-1,234.57{SPACE}$"
    assert usd_for_people(Decimal("0.000345678")) == f"0.0003457{SPACE}$"


def test_the_largest_amount_is_shown() -> None:
    assert euro_for_people(EURO_MAX) == f"1,000,000,000.00{SPACE}€"
    assert exact_euro_for_people(EURO_MAX) == f"999,999,999.999999999{SPACE}€"


def test_a_german_reads_german_figures() -> None:
    with translation.override("de"):
        assert euro_for_people(Decimal("1234.5")) == f"1.234,50{SPACE}€"
        assert euro_for_people(Decimal("0.0000612")) == f"0,0000612{SPACE}€"
        assert exact_euro_for_people(Decimal("1234.567")) == f"1.234,567{SPACE}€"


@pytest.mark.parametrize(("amount", "shown"), [("12.345678901", "12.345678901"), ("7.100000000", "7.10")])
def test_the_exact_amount_has_all_its_places(amount: str, shown: str) -> None:
    assert exact_euro_for_people(Decimal(amount)) == f"{shown}{SPACE}€"
