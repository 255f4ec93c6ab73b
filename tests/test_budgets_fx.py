"""Dollars into euro."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.fx import FxTable, Rate, to_eur

OLD = Rate(1, date(2026, 1, 1), Decimal("0.90"))
NEW = Rate(2, date(2026, 11, 2), Decimal("0.86"))
MENDED = Rate(3, date(2026, 1, 1), Decimal("0.91"))


def test_the_newest_rate_up_to_the_day_holds() -> None:
    table = FxTable([NEW, OLD])
    assert table.on(date(2026, 11, 1)) == OLD
    assert table.on(date(2026, 11, 2)) == NEW
    assert table.on(date(2027, 1, 1)) == NEW


def test_of_two_rates_for_a_day_the_later_row_holds() -> None:
    assert FxTable([MENDED, OLD]).on(date(2026, 1, 1)) == MENDED


def test_without_a_rate_nothing_is_priced() -> None:
    with pytest.raises(LookupError, match="2025-12-31"):
        FxTable([OLD]).on(date(2025, 12, 31))


@pytest.mark.parametrize(
    ("usd", "eur"),
    [("0", "0"), ("1", "0.86"), ("0.000000001", "0.000000001"), ("0.0000312", "0.000026832"), ("3", "2.58")],
)
def test_euro_are_rounded_up_once(usd: str, eur: str) -> None:
    assert to_eur(Decimal(usd), NEW) == Decimal(eur)


@given(st.decimals(0, 1000, places=12), st.decimals("0.0000000001", 10, places=10))
def test_euro_are_never_less_than_the_dollars_and_at_most_a_nano_euro_more(
    usd: Decimal, rate: Decimal
) -> None:
    excess = to_eur(usd, Rate(1, date(2026, 1, 1), rate)) - usd * rate
    assert 0 <= excess < Decimal("1e-9")
