"""What the cache answered, and what that saved."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis import plots
from kpis.figures import Card, Figure, Words, columns_over_time, lines_over_time
from kpis.pages.overview import NO_CALLS, cache_card, route_card
from kpis.pages.page import Page, card
from kpis.plots import Series
from kpis.readings import Readings

NO_HITS = gettext_lazy(
    "No answer of this period came from the cache. It answers repeats of a request while `ai.cache.ttl`"
    " lasts, unless the request says `cache: off`."
)


def cards(read: Readings) -> Sequence[Card]:
    return [
        cache_card(read),
        route_card(read, "cache"),
        card(read, "saved_by_cache", "euro", lambda of: of.requests.saved_eur, good="up"),
    ]


def hit_rate(read: Readings) -> Figure:
    words = Words("hit-rate", _("Answered from the cache over time"), "cache_hit_rate", str(NO_CALLS))
    series = Series(
        _("Answered from the cache"), plots.GREEN, [each.cache_hit_rate for each in read.requests]
    )
    return lines_over_time(words, read.steps, [series], "share")


def saved(read: Readings) -> Figure:
    words = Words("saved-by-cache", _("Saved by the cache over time"), "saved_by_cache", str(NO_HITS))
    series = Series(_("Saved by the cache"), plots.GREEN, [each.saved_eur for each in read.requests])
    return columns_over_time(words, read.steps, [series], "euro")


PAGE = Page(gettext_lazy("Cache"), cards, {"hit-rate": hit_rate, "saved-by-cache": saved})
