"""Amounts of euro as people write them, in the language that they read the page in.

`1,000.50` is a thousand euro and fifty cents to an English reader and `1.000,50` to a German one. What
is grouped as the page's language groups is read so; where grouping is out of place, as in `1200,50` on an
English page, the one separator can only be the decimal one. `1.000` on an English page is refused: a German
who means a thousand would have set a cap of one euro.
"""

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import get_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextInputWidget

from aigov.errors import BadRequest
from aigov.money import cap_text
from budgets.accounts import check_cap

CHARACTERS_MAX = 40
_PLAIN = re.compile(r"\d+([.,]\d+)?", re.ASCII)
#: A thousand to some, and one euro to others; nobody means a cap of one euro and no tenths of a cent.
_TWO_READINGS = re.compile(r"[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_NEGATIVE = re.compile(r"[-\N{MINUS SIGN}]\d", re.ASCII)
_IGNORED = str.maketrans("", "", " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}€")


def parse_amount(text: str, *, point: str, group: str) -> Decimal:
    """The amount that `text` says.

    Args:
        point: the language's decimal separator.
        group: what stands between its groups of three digits.

    Raises:
        ValueError: it says none.
    """
    bare = _bare(text)
    grouped = rf"[0-9]{{1,3}}({re.escape(group)}[0-9]{{3}})+({re.escape(point)}[0-9]+)?"
    if re.fullmatch(grouped, bare):
        return Decimal(bare.replace(group, "").replace(point, "."))
    if has_two_readings(bare):
        raise ValueError(f"{text!r} is a thousandfold more to a reader of another language")
    if _PLAIN.fullmatch(bare):
        return Decimal(bare.replace(",", "."))
    raise ValueError(f"{text!r} is no amount")


def has_two_readings(text: str) -> bool:
    """Whether `text`, such as `1.234`, is a thousandfold more to a reader of another language."""
    return _TWO_READINGS.fullmatch(_bare(text)) is not None


def _bare(text: str) -> str:
    return text.translate(_IGNORED)


class CapField(forms.CharField):
    """An amount in euro of 0 or more, such as a cap; cleans to a `Decimal` that the ledger can hold, or None
    where it may be left empty.
    """

    widget = UnfoldAdminTextInputWidget

    def __init__(self, *, label: Any = None, **kwargs: Any) -> None:
        super().__init__(
            label=label or gettext_lazy("Cap"),
            max_length=CHARACTERS_MAX,
            widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
            **kwargs,
        )

    def prepare_value(self, value: Any) -> Any:
        return number_format(cap_text(value), use_l10n=True) if isinstance(value, Decimal) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            amount = parse_amount(
                text, point=get_format("DECIMAL_SEPARATOR"), group=get_format("THOUSAND_SEPARATOR")
            )
            check_cap(amount)
        except ValueError:
            raise ValidationError(_why_not(text)) from None
        except BadRequest as refusal:
            raise ValidationError(refusal.message) from None
        return amount


def _why_not(text: str) -> str:
    """Why `text` cannot be read as an amount, for whoever has typed it."""
    bare = text.translate(_IGNORED)
    told = {"text": text, "example": number_format("1200.50", use_l10n=True)}
    if _TWO_READINGS.fullmatch(bare):
        return (
            _("Please write an amount in euro that can be read in one way only, such as %(example)s.") % told
        )
    if _NEGATIVE.match(bare):
        return _("The amount must not be negative.")
    return _("“%(text)s” is no amount. Please write one in euro, such as %(example)s.") % told
