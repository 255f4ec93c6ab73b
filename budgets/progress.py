"""How much of a cap is used up, as people are shown it: a bar, and the per cent in words beside it.

What calls in flight hold counts as used, for no new call may take it; the bar shows it apart.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from aigov.money import euro_for_people
from budgets.ledger import Balance

NEAR_PERCENT = 80
FULL_PERCENT = 100
#: A cap may be lowered to next to nothing; beyond this the number says no more.
SHOWN_PERCENT_MAX = 999

Level = Literal["calm", "near", "full"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Spent and held against a cap.

    Args:
        percent: both together, rounded down, so that 100 is never said of a cap with something left.
        spent_width: the spent part of the bar, in per cent of its length; `held_width` likewise.
        level: `near` from 80 % on, `full` from 100 %.
    """

    percent: int
    spent_width: Decimal
    held_width: Decimal
    level: Level


def progress(balance: Balance) -> Progress | None:
    """How much of the cap is used up; None without a cap. A cap of 0 is full: it admits nothing."""
    cap = balance.cap_eur
    if cap is None:
        return None
    spent, held = (_percent(amount, cap) for amount in (balance.spent_eur, balance.held_eur))
    percent = int((_percent(balance.spent_eur + balance.held_eur, cap)).to_integral_value(ROUND_FLOOR))
    if cap == 0:
        percent = max(percent, FULL_PERCENT)
    spent_width = min(max(spent, Decimal(0)), Decimal(100))
    return Progress(percent, spent_width, min(held, 100 - spent_width), level_of(percent))


def level_of(percent: int) -> Level:
    """The colour of a bar: amber (`near`) from 80 % on, red (`full`) from 100 %."""
    if percent >= FULL_PERCENT:
        return "full"
    return "near" if percent >= NEAR_PERCENT else "calm"


def _percent(part: Decimal, cap: Decimal) -> Decimal:
    if cap == 0:
        return Decimal(0) if part == 0 else Decimal(100 * (SHOWN_PERCENT_MAX + 1))
    return part * 100 / cap


def percent_text(used: Progress) -> str:
    """`83 %`; what is little or very much is said so rather than as 0 or as a long number."""
    if used.percent > SHOWN_PERCENT_MAX:
        return f"> {SHOWN_PERCENT_MAX}\N{NO-BREAK SPACE}%"
    if used.percent == 0 and used.spent_width + used.held_width > 0:
        return "< 1\N{NO-BREAK SPACE}%"
    return f"{used.percent}\N{NO-BREAK SPACE}%"


def progress_bar(balance: Balance) -> SafeString | str:
    """The bar with its per cent beside it; words where there is no cap."""
    used = progress(balance)
    if used is None:
        return _("no cap")
    text = percent_text(used)
    said = _("%(percent)s of the cap: %(spent)s spent, %(held)s held by calls in flight") % {
        "percent": text,
        "spent": euro_for_people(balance.spent_eur),
        "held": euro_for_people(balance.held_eur),
    }
    return format_html(
        '<div class="budget-bar is-{}" title="{}"><div class="budget-track" role="progressbar"'
        ' aria-valuemin="0" aria-valuemax="100" aria-valuenow="{}" aria-valuetext="{}" aria-label="{}">'
        '<div class="budget-spent" style="width: {}%"></div>'
        '<div class="budget-held" style="width: {}%"></div></div>'
        '<span class="budget-percent">{}</span></div>',
        *(used.level, said, min(max(used.percent, 0), 100), said, _("Used up")),
        *(f"{used.spent_width:.2f}", f"{used.held_width:.2f}", text),
    )
