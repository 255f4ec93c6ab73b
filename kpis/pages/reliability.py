"""Whether there were answers, how fast, and what stood in for what failed."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis import plots
from kpis.figures import Card, Figure, Words, columns_over_time, grouped, lines_over_time, top_list
from kpis.pages.overview import NO_CALLS, availability_card
from kpis.pages.page import ROUTES, Page, card
from kpis.plots import Series
from kpis.readings import Readings
from kpis.tables import Column, write
from providers.status_pages import REASONS

FAILED = ("failed", "skipped_circuit_open")


def cards(read: Readings) -> Sequence[Card]:
    requests, latencies = read.now.requests, read.latencies[""]
    rescued, refused = write(requests.rescued, "count"), write(requests.refused, "count")
    return [
        availability_card(read),
        card(
            *(read, "availability_without_fallback", "share"),
            lambda of: of.requests.availability_without_fallback,
            good="up",
            note=_("%(number)s answers by fallback") % {"number": rescued},
        ),
        card(
            *(read, "availability", "count", lambda of: of.requests.failed),
            good="down",
            title=_("Failed requests"),
            note=_("%(number)s refused for a reason of the caller's") % {"number": refused},
        ),
        Card(
            *(_("Latency, median"), write(latencies.p50_ms, "ms"), "latency"),
            note=_("%(p90)s for 90 in a hundred, %(p99)s for 99")
            % {"p90": write(latencies.p90_ms, "ms"), "p99": write(latencies.p99_ms, "ms")},
        ),
    ]


def availability(read: Readings) -> Figure:
    words = Words("availability", _("Availability, with and without fallback"), "availability", str(NO_CALLS))
    series = [
        Series(_("With fallback"), plots.BLUE, [each.availability for each in read.requests]),
        Series(
            _("Without fallback"),
            plots.VERMILION,
            [each.availability_without_fallback for each in read.requests],
            dash="dot",
        ),
    ]
    return lines_over_time(words, read.steps, series, "share", from_zero=False)


def latency(read: Readings) -> Figure:
    words = Words("latency", _("Latency by route"), "latency", str(NO_CALLS))
    names = {"": _("All answers"), **{route: str(name) for route, name in ROUTES.items()}}
    found = [(name, read.latencies[route]) for route, name in names.items() if route in read.latencies]
    found = [(name, each) for name, each in found if each.answers]
    series = [
        Series(_("Half are faster"), plots.BLUE, [each.p50_ms for _name, each in found]),
        Series(_("90 % are faster"), plots.VERMILION, [each.p90_ms for _name, each in found]),
        Series(_("99 % are faster"), plots.PURPLE, [each.p99_ms for _name, each in found]),
    ]
    return grouped(words, Column(_("Route")), [name for name, _each in found], series, "ms")


def unanswered(read: Readings) -> Figure:
    words = Words(
        *("unanswered", _("Requests without an answer"), "availability"),
        _("Every request of this period was answered, or there was none."),
        _("Refused: because of the budget or a mistake in the request."),
    )
    series = [
        Series(_("Failed"), plots.VERMILION, [each.failed for each in read.requests]),
        Series(_("Refused"), plots.GREY, [each.refused for each in read.requests]),
    ]
    return columns_over_time(words, read.steps, series, "count")


def failures(read: Readings) -> Figure:
    """Calls that failed or were not made because the model rested: what the fallback stood in for."""
    words = Words(
        *(
            "failed-calls",
            _("Calls that another model or provider stood in for"),
            "availability_without_fallback",
        ),
        _("No call failed in this period."),
        _("Calls that failed, or were skipped because the model rested after failures."),
    )
    columns = (
        *(Column(_("Model and reason")), Column(_("Calls"), "count"), Column(_("Provider"))),
        *(Column(_("Model")), Column(_("Reason"))),
    )
    found = [each for each in read.attempts if each.outcome in FAILED and each.error != "broken_off"]
    rows = []
    for each in sorted(found, key=lambda each: -each.attempts):
        skipped = each.outcome == "skipped_circuit_open"
        reason = _("it rested") if skipped else str(REASONS.get(each.error, each.error))
        rows.append((f"{each.model}: {reason}", each.attempts, each.provider, each.model, reason))
    return top_list(words, columns, rows, color=plots.VERMILION)


PAGE = Page(
    gettext_lazy("Reliability"),
    cards,
    {"availability": availability, "latency": latency, "unanswered": unanswered, "failed-calls": failures},
)
