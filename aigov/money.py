"""Euro as `Decimal` with nine places; no float ever touches money."""

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from django.utils.formats import number_format

NANO_EURO = Decimal("0.000000001")
ZERO = Decimal(0).quantize(NANO_EURO)
#: The largest amount that NUMERIC(18, 9) holds.
EURO_MAX = Decimal("999999999.999999999")
CENT_PLACES = 2
NANO_PLACES = 9
#: The digits that people are shown of an amount below one euro, where a cent would say too little.
SMALL_DIGITS = 4


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


def euro_for_people(amount: Decimal) -> str:
    """`amount` in euro for readers, in their language's way of writing it: cents from one euro on, four
    significant digits below (`0.0000612 €`), half a digit rounded up.
    """
    return _written(_rounded(amount))


def usd_for_people(amount: Decimal) -> str:
    """`amount` in US dollars for readers, as `euro_for_people` writes euro."""
    return _written(_rounded(amount), sign="$")


def _rounded(amount: Decimal) -> Decimal:
    places = CENT_PLACES
    if 0 < abs(amount) < 1:
        places = min(SMALL_DIGITS - 1 - amount.adjusted(), NANO_PLACES)
    return amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def exact_euro_for_people(amount: Decimal) -> str:
    """`amount` in euro as `euro_for_people` writes it, with all the places that it has."""
    return _written(amount)


def exact_usd_for_people(amount: Decimal) -> str:
    """`amount` in US dollars as `usd_for_people` writes it, with all the places that it has."""
    places = max(CENT_PLACES, -int(amount.normalize().as_tuple().exponent))
    return (
        f"{number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)}\N{NO-BREAK SPACE}$"
    )


def _written(amount: Decimal, *, sign: str = "€") -> str:
    places = len(cap_text(amount).partition(".")[2])
    number = number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)
    return f"{number}\N{NO-BREAK SPACE}{sign}"
