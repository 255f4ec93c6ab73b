"""What a page is made of, and how one number is held against the one before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis.definitions import DEFINITIONS
from kpis.figures import Card, Figure
from kpis.readings import Readings, Totals
from kpis.tables import Kind, write

Number = Decimal | float | int | None
#: Which way is good news; None where neither is.
Good = Literal["up", "down"] | None

#: A change beyond this says no more than “much”.
PERCENT_MAX = 999
#: Routes in figures, where there is little room.
ROUTES: Mapping[str, Any] = {
    "small": gettext_lazy("Small model"),
    "large": gettext_lazy("Large model"),
    "degraded": gettext_lazy("Degraded"),
    "cache": gettext_lazy("Cache"),
}
NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Page:
    """A page under /kpis/.

    Args:
        figures: by the name that each has in addresses; one that says nothing of a selection is None.
        wide: the figures that take the whole width.
    """

    title: Any
    cards: Callable[[Readings], Sequence[Card]]
    figures: Mapping[str, Callable[[Readings], Figure | None]]
    wide: frozenset[str] = frozenset()
    intro: Any = ""


def no_cards(read: Readings) -> Sequence[Card]:
    return ()


def card(
    read: Readings,
    definition: str,
    kind: Kind,
    value: Callable[[Totals], Number],
    *,
    good: Good = None,
    note: str = "",
    title: str = "",
) -> Card:
    """The card of a key figure, with its change where there was a figure before.

    Args:
        value: the key figure, of all figures of a period.
        title: what it is called, if not as its definition.
    """
    now, before = value(read.now), value(read.before) if read.before else None
    return Card(
        title=title or str(DEFINITIONS[definition].title),
        text=write(now, kind),
        definition=definition,
        note=note,
        change=change_text(now, before, kind),
        tone=tone(now, before, good),
    )


def change_text(now: Number, before: Number, kind: Kind) -> str:
    """`+12.3 % (before: 412.10 €)`; shares change by points."""
    if now is None or before is None:
        return ""
    shown = {"change": _change(now, before, kind), "before": write(before, kind)}
    return (
        _("%(change)s (before: %(before)s)") % shown if shown["change"] else _("before: %(before)s") % shown
    )


def _change(now: Number, before: Number, kind: Kind) -> str:
    assert now is not None and before is not None
    difference = Decimal(now) - Decimal(before)
    if kind == "share":
        return _("%(points)s points") % {"points": _signed(difference * 100)}
    if not before:
        return ""
    percent = difference * 100 / Decimal(before)
    if abs(percent) > PERCENT_MAX:
        return _("more than tenfold")
    return f"{_signed(percent)}{NBSP}%"


def _signed(number: Decimal) -> str:
    rounded = round(number, 1)
    sign = "+" if rounded > 0 else "\N{MINUS SIGN}" if rounded < 0 else "±"
    return sign + number_format(abs(rounded), decimal_pos=1, use_l10n=True)


def tone(now: Number, before: Number, good: Good) -> str:
    if good is None or now is None or before is None or now == before:
        return ""
    return "good" if (now > before) == (good == "up") else "bad"
