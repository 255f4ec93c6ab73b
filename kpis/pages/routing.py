"""How requests were routed: how sure the small models were, what was escalated, and what each tier cost."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis import plots
from kpis.figures import (
    Card,
    Figure,
    Words,
    columns_over_time,
    confidence_histogram,
    lines_over_time,
    threshold_what_if,
    what_if,
)
from kpis.pages.overview import NO_CALLS, route_card, tier_series
from kpis.pages.page import ROUTES, Page, card
from kpis.plots import Series
from kpis.readings import Readings

NOT_JUDGED = gettext_lazy(
    "No small answer was judged in this period. That happens for requests with the tier “auto”, which is what"
    " a request has that names none."
)


def cards(read: Readings) -> Sequence[Card]:
    rate = card(read, "escalation_rate", "share", lambda of: of.requests.escalation_rate, good="down")
    return [rate, *(route_card(read, route) for route in ("small", "large", "degraded", "cache"))]


def confidence(read: Readings) -> Figure:
    words = Words(
        *("confidence", _("How sure the small model was"), "confidence", str(NOT_JUDGED)),
        _("What became of the answers. Whether they were right is not known yet: see the page Quality."),
    )
    return confidence_histogram(words, read.confidences, read.threshold)


def thresholds(read: Readings) -> Figure:
    words = Words(
        *("threshold-what-if", _("What if the threshold were another?"), "confidence", str(NOT_JUDGED)),
        _(
            "An estimate from the answers of this period: the share of small answers that would be accepted."
            " The table adds what they would cost, with the average cost of a small and of a large call. What"
            " it would do to the quality can be said once answers are judged right or wrong."
        ),
    )
    costs = read.call_costs
    cases = what_if(read.confidences, small_cost=costs.get("small"), large_cost=costs.get("large"))
    return threshold_what_if(words, cases, read.threshold)


def routes_over_time(read: Readings) -> Figure:
    colors = (plots.BLUE, plots.VERMILION, plots.PURPLE, plots.GREEN)
    series = [
        Series(str(name), color, [getattr(each, route) for each in read.requests])
        for (route, name), color in zip(ROUTES.items(), colors, strict=True)
    ]
    words = Words("answers-by-route", _("Answers by route"), "calls_small", str(NO_CALLS))
    return columns_over_time(words, read.steps, series, "count")


def escalations(read: Readings) -> Figure:
    words = Words("escalation-rate", _("Escalation rate over time"), "escalation_rate", str(NOT_JUDGED))
    series = Series(_("Escalation rate"), plots.VERMILION, [each.escalation_rate for each in read.requests])
    return lines_over_time(words, read.steps, [series], "share")


def cost_by_tier(read: Readings) -> Figure:
    words = Words("cost-by-tier", _("Cost by tier"), "cost", str(NO_CALLS))
    return columns_over_time(words, read.steps, tier_series(read), "euro")


PAGE = Page(
    gettext_lazy("Routing"),
    cards,
    {
        "confidence": confidence,
        "threshold-what-if": thresholds,
        "answers-by-route": routes_over_time,
        "escalation-rate": escalations,
        "cost-by-tier": cost_by_tier,
    },
    wide=frozenset({"cost-by-tier"}),
)
