"""The first page: what AI costs, what that buys, and whether it works."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from aigov.money import ZERO, euro_for_people
from budgets.ledger import Balance
from budgets.progress import percent_text, progress
from kpis import plots
from kpis.buckets import buckets
from kpis.figures import (
    AgainstCap,
    Bar,
    Card,
    Figure,
    Words,
    columns_over_time,
    cost_against_cap,
    lines_over_time,
)
from kpis.pages.page import Page, card
from kpis.plots import Line, Series
from kpis.readings import Readings
from kpis.tables import percent, write

#: So many times as high as the dearest day may the evenly spread cap be, to be drawn beside it.
EVEN_DRAWN_WITHIN = 2


def cards(read: Readings) -> Sequence[Card]:
    brought, requests = read.now.business.outcomes, read.now.requests
    saved, from_cache = euro_for_people(read.now.saved_eur), euro_for_people(requests.saved_eur)
    without = write(requests.availability_without_fallback, "share")
    return [
        Card(_("Cost today"), write(read.today_eur, "euro"), "cost"),
        _cost_card(read),
        *_forecast_cards(read),
        cost_per_lead_card(read, leads_text(brought.leads)),
        cost_per_order_card(read, orders_text(brought.orders)),
        card(
            *(read, "savings_factor", "factor", lambda of: of.savings_factor),
            good="up",
            note=_("%(amount)s saved") % {"amount": saved},
        ),
        cache_card(read, _("%(amount)s saved") % {"amount": from_cache}),
        *(route_card(read, route) for route in ("small", "large")),
        availability_card(read, _("%(share)s without fallback") % {"share": without}),
    ]


def _cost_card(read: Readings) -> Card:
    found = card(read, "cost", "euro", lambda of: of.business.cost_eur)
    if read.cap_eur is None:
        return found
    used = progress(Balance(read.cap_eur, read.now.business.cost_eur, ZERO))
    assert used is not None
    note = _("%(percent)s of the cap of %(cap)s") % {
        "percent": percent_text(used),
        "cap": euro_for_people(read.cap_eur),
    }
    return replace(found, note=note, bar=Bar(min(max(used.percent, 0), 100), used.level, note))


def _forecast_cards(read: Readings) -> Sequence[Card]:
    """Where this month may end, while it runs."""
    found = read.forecast
    if found is None:
        return []
    low, high = euro_for_people(found.low_eur), euro_for_people(found.high_eur)
    note = _("between %(low)s and %(high)s") % {"low": low, "high": high}
    over = read.cap_eur is not None and found.expected_eur > read.cap_eur
    change, tone = (_("over the cap"), "bad") if over else ("", "")
    return [
        Card(
            _("Forecast"), write(found.expected_eur, "euro"), "forecast", note=note, change=change, tone=tone
        )
    ]


# --- Cards that other pages have, too


def cost_per_lead_card(read: Readings, note: str) -> Card:
    return card(
        *(read, "cost_per_lead", "euro", lambda of: of.business.cost_per_lead_eur), good="down", note=note
    )


def cost_per_order_card(read: Readings, note: str) -> Card:
    return card(
        *(read, "cost_per_order", "euro", lambda of: of.business.cost_per_order_eur), good="down", note=note
    )


def cache_card(read: Readings, note: str = "") -> Card:
    return card(
        *(read, "cache_hit_rate", "share", lambda of: of.requests.cache_hit_rate), good="up", note=note
    )


def availability_card(read: Readings, note: str = "") -> Card:
    return card(*(read, "availability", "share", lambda of: of.requests.availability), good="up", note=note)


def route_card(read: Readings, route: str) -> Card:
    """The number of a route's answers, and their share of all."""
    requests = read.now.requests
    share = getattr(requests, route) / requests.answered if requests.answered else None
    return card(
        *(read, f"calls_{route}", "count", lambda of: getattr(of.requests, route)),
        note="" if share is None else _("%(share)s of all answers") % {"share": percent(share)},
    )


def leads_text(number: int) -> str:
    return ngettext("%(number)s lead", "%(number)s leads", number) % {"number": write(number, "count")}


def orders_text(number: int) -> str:
    return ngettext("%(number)s order", "%(number)s orders", number) % {"number": write(number, "count")}


NO_CALLS = gettext_lazy(
    "No calls in this period. Choose another period, or send the first request to /api/v1/completions."
)


def cost_over_time(read: Readings) -> Figure:
    """Cost of each step by tier, beside what the cap would allow each day if it were spread evenly."""
    title = _("Cost by day") if read.steps.kind == "day" else _("Cost by month")
    line = _even(read)
    dearest = max((sum(costs.values(), ZERO) for costs in read.tier_costs), default=ZERO)
    # A line far above would press the columns flat: then it is said beneath the title.
    is_near = line is not None and line.at <= dearest * EVEN_DRAWN_WITHIN
    note = line.text if line and not is_near else ""
    words = Words("cost-over-time", title, "cost", str(NO_CALLS), note)
    return columns_over_time(words, read.steps, tier_series(read), "euro", line=line if is_near else None)


def tier_series(read: Readings) -> list[Series]:
    """What the calls of each tier cost at each step; corrections where there are any."""
    tiers = {
        "small": (_("Small models"), plots.BLUE),
        "large": (_("Large models"), plots.VERMILION),
        "": (_("Corrections"), plots.GREY),
    }
    return [
        Series(name, color, [costs.get(tier, ZERO) for costs in read.tier_costs])
        for tier, (name, color) in tiers.items()
        if tier or any(tier in costs for costs in read.tier_costs)
    ]


def _even(read: Readings) -> Line | None:
    if read.cap_eur is None:
        return None
    a_day = read.cap_eur / read.chosen.picked.days
    return Line(a_day, _("Cap, spread evenly: %(amount)s a day") % {"amount": euro_for_people(a_day)})


def against_cap(read: Readings) -> Figure | None:
    """The month so far against its cap; none of any other period, or of one use case."""
    if read.chosen.picked.kind != "month" or read.use_case:
        return None
    whole = buckets(read.period.first, read.period.last)
    spent: list[Decimal | None] = []
    total = ZERO
    for costs in read.tier_costs:
        total += sum(costs.values(), ZERO)
        spent.append(total)
    spent += [None] * (len(whole.steps) - len(spent))
    words = Words("cost-against-cap", _("Cost of the month against its cap"), "forecast", str(NO_CALLS))
    found = read.forecast
    ends = (found.expected_eur, found.low_eur, found.high_eur) if found else ()
    return cost_against_cap(words, whole, AgainstCap(spent, read.cap_eur, *ends))


def savings(read: Readings) -> Figure:
    """What the requests cost, beside what the large model alone would have cost."""
    series = [
        Series(
            _("Large model alone"),
            plots.VERMILION,
            [each.all_large_eur if each.answered else None for each in read.requests],
        ),
        Series(
            _("Cost of the requests"),
            plots.BLUE,
            [each.cost_eur if each.answered else None for each in read.requests],
        ),
    ]
    title = _("What the large model alone would cost")
    return lines_over_time(Words("savings", title, "all_large", str(NO_CALLS)), read.steps, series, "euro")


PAGE = Page(
    gettext_lazy("Overview"),
    cards,
    {"cost-over-time": cost_over_time, "cost-against-cap": against_cap, "savings": savings},
    wide=frozenset({"cost-over-time"}),
)
