"""Amounts as people write them."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from budgets.amounts import CapField, parse_amount

ENGLISH = {"point": ".", "group": ","}
GERMAN = {"point": ",", "group": "."}


@pytest.mark.parametrize(
    ("text", "language", "amount"),
    [
        ("1200", ENGLISH, "1200"),
        ("1,200.50", ENGLISH, "1200.50"),
        ("1,200", ENGLISH, "1200"),
        ("1200,50", ENGLISH, "1200.50"),
        ("1,200,000.000000001", ENGLISH, "1200000.000000001"),
        ("0.001", ENGLISH, "0.001"),
        ("1.200,50", GERMAN, "1200.50"),
        ("1.200", GERMAN, "1200"),
        ("1200.50", GERMAN, "1200.50"),
        ("1.200.000", GERMAN, "1200000"),
        (" 1\N{NO-BREAK SPACE}200,50 € ", GERMAN, "1200.50"),
    ],
)
def test_an_amount_is_read_in_the_pages_language(text: str, language: dict[str, str], amount: str) -> None:
    assert parse_amount(text, **language) == Decimal(amount)


@pytest.mark.parametrize(("text", "language"), [("1.200", ENGLISH), ("1,200", GERMAN), ("100.000", ENGLISH)])
def test_what_another_language_reads_a_thousandfold_is_refused(text: str, language: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="thousandfold"):
        parse_amount(text, **language)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e3", "NaN", "1,20,0", "1.200.50", "12,00.5", "1.200,50.1", "٣", "1,200,50", ".5", "5."],
)
@pytest.mark.parametrize("language", [ENGLISH, GERMAN])
def test_what_is_no_amount_is_refused(text: str, language: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        parse_amount(text, **language)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-5", "must not be negative"),
        ("1e99", "“1e99” is no amount"),
        ("NaN", "“NaN” is no amount"),
        ("1.200", "read in one way only"),
        ("0.0000000001", "An amount in euro is 0 or more, at most .* nine decimal places"),
    ],
)
def test_a_refused_amount_is_told_why(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CapField().clean(text)
