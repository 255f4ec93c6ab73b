"""Whether there were answers, how fast, and what stood in for what failed."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis import plots
from kpis.circuits import Lately, circuit_timeline, provider_name
from kpis.figures import Card, Figure, Words, columns_over_time, grouped, lines_over_time, top_list
from kpis.pages.overview import NO_CALLS, availability_card
from kpis.pages.page import ROUTES, Page, card, change_text, tone
from kpis.plots import Series
from kpis.queries import Latencies
from kpis.readings import Readings
from kpis.tables import Column, Table, write
from providers.status_pages import REASONS

FAILED = ("failed", "skipped_circuit_open")


def cards(read: Readings) -> Sequence[Card]:
    requests = read.now.requests
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
        _latency_card(read),
    ]


def _latency_card(read: Readings) -> Card:
    now, before = read.latencies[""], read.latencies_before
    before_ms = before.p50_ms if before else None
    return Card(
        *(_("Latency, median"), write(now.p50_ms, "ms"), "latency"),
        note=_("%(p95)s for 95 in a hundred, %(p99)s for 99")
        % {"p95": write(now.p95_ms, "ms"), "p99": write(now.p99_ms, "ms")},
        change=change_text(now.p50_ms, before_ms, "ms"),
        tone=tone(now.p50_ms, before_ms, "down"),
    )


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
    series = _percentiles([each for _name, each in found])
    return grouped(words, Column(_("Route")), [name for name, _each in found], series, "ms")


def latency_over_time(read: Readings) -> Figure:
    words = Words("latency-over-time", _("Latency over time"), "latency", str(NO_CALLS))
    return lines_over_time(words, read.steps, _percentiles(read.latency_steps), "ms")


def _percentiles(found: Sequence[Latencies]) -> list[Series]:
    return [
        Series(_("Half are faster"), plots.BLUE, [each.p50_ms for each in found]),
        Series(_("95 % are faster"), plots.VERMILION, [each.p95_ms for each in found]),
        Series(_("99 % are faster"), plots.PURPLE, [each.p99_ms for each in found]),
    ]


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
        provider = provider_name(each.provider)
        name = f"{each.model or provider}: {reason}"
        rows.append((name, each.attempts, provider, each.model, reason))
    return top_list(words, columns, rows, color=plots.VERMILION)


def failovers(read: Readings) -> Figure:
    """Which provider answered for which, over time."""
    words = Words(
        *("failovers", _("Answers by another provider"), "failovers"),
        _("No provider had to stand in for another one in this period."),
    )
    if not any(read.failovers):
        return Figure(words, Table((read.steps.column, Column(_("Answers"), "count")), []))
    colors = (plots.VERMILION, plots.BLUE, plots.PURPLE, plots.GREEN)
    pairs = sorted({pair for step in read.failovers for pair in step})
    series = [
        Series(
            _("%(other)s for %(failed)s")
            % {"other": provider_name(answered), "failed": provider_name(failed)},
            colors[number % len(colors)],
            [step.get((failed, answered), 0) for step in read.failovers],
        )
        for number, (failed, answered) in enumerate(pairs)
    ]
    return columns_over_time(words, read.steps, series, "count", named=True)


def circuits(read: Readings) -> Figure:
    words = Words(
        *("circuits", _("When models rested"), "circuit"),
        _(
            "No model that this period's requests went to has rested, as far as is known. A model rests when"
            " its provider fails several times, or when an operator keeps it off; what happens to it is noted"
            " from this version on."
        ),
        _("The models of this period's requests, whoever's calls failed. Short rests are drawn as strokes."),
    )
    return circuit_timeline(words, Lately(read.called, read.rests, read.steps, read.span[1]))


PAGE = Page(
    gettext_lazy("Reliability"),
    cards,
    {
        "availability": availability,
        "unanswered": unanswered,
        "latency-over-time": latency_over_time,
        "latency": latency,
        "failovers": failovers,
        "failed-calls": failures,
        "circuits": circuits,
    },
    wide=frozenset({"circuits"}),
)
