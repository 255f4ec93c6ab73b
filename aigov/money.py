"""Euro as `Decimal` with nine places; no float ever touches money."""

from decimal import ROUND_CEILING, Decimal

NANO_EURO = Decimal("0.000000001")
ZERO = Decimal(0).quantize(NANO_EURO)
#: The largest amount that NUMERIC(18, 9) holds.
EURO_MAX = Decimal("999999999.999999999")


def round_up(amount: Decimal) -> Decimal:
    """`amount` in euro, rounded up to the nano-euro: once, at the end of a calculation."""
    return amount.quantize(NANO_EURO, rounding=ROUND_CEILING)


def euro_text(amount: Decimal) -> str:
    """`amount` in euro as the API shows it: a decimal string with all nine places."""
    return f"{amount:.9f}"


def cap_text(amount: Decimal) -> str:
    """A cap in euro as the API shows it: at least two places, and no more than it needs."""
    whole, _, fraction = f"{amount:.9f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2}"
