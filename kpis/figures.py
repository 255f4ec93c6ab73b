"""The kinds of figures: each a plot with the table of its numbers, both made of the same values.

Pure: what they show is handed in. Where there is nothing to show, a figure says what to do instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _

from kpis import plots
from kpis.buckets import Buckets
from kpis.plots import Band, Line, Plot, Series
from kpis.queries import ConfidenceBin
from kpis.tables import Column, Kind, Table, Value
from kpis.trend import trend


@dataclass(frozen=True, slots=True)
class Words:
    """What a figure is called, and what is said around it.

    Args:
        name: its name in addresses and file names.
        definition: the key of the figure's definition.
        note: what a reader has to know to read it rightly.
        empty: what to do so that there will be something to see.
    """

    name: str
    title: str
    definition: str
    empty: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot and its numbers; no plot where there is nothing to draw."""

    words: Words
    table: Table
    plot: Plot | None = None
    #: Whether its numbers stand open beneath it: they are the figure, or lead on.
    open: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """How full something is, in per cent from 0 to 100; `level` is its colour's name."""

    percent: int
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Card:
    """One number, large.

    Args:
        change: how it stands against the period before, in words; `tone` says whether that is good.
        note: what it is measured against.
    """

    title: str
    text: str
    definition: str
    change: str = ""
    tone: str = ""
    note: str = ""
    bar: Bar | None = None


def _has_any(series: Sequence[Series]) -> bool:
    return any(value for each in series for value in each.values if value is not None)


def _has_known(series: Sequence[Series]) -> bool:
    return any(value is not None for each in series for value in each.values)


def _over_time_table(steps: Buckets, series: Sequence[Series], kind: Kind) -> Table:
    columns = (steps.column, *(Column(each.name, kind) for each in series))
    values = zip(*(each.values for each in series), strict=True)
    rows = [(step.first, *row) for step, row in zip(steps.steps, values, strict=True)]
    return Table(columns, rows)


def columns_over_time(
    words: Words,
    steps: Buckets,
    series: Sequence[Series],
    kind: Kind,
    *,
    line: Line | None = None,
    named: bool = False,
) -> Figure:
    """Amounts of each step, one part on top of the other; a single part's name is only told if `named`."""
    table = _over_time_table(steps, series, kind)
    if not _has_any(series):
        return Figure(words, Table(table.columns, []))
    return Figure(words, table, plots.bars(steps.labels, series, kind, line=line, named=named))


def lines_over_time(
    words: Words, steps: Buckets, series: Sequence[Series], kind: Kind, *, from_zero: bool = True
) -> Figure:
    """Ratios of each step; a step in which nothing happened has none, and is a gap."""
    table = _over_time_table(steps, series, kind)
    if not _has_known(series):
        return Figure(words, Table(table.columns, []))
    return Figure(words, table, plots.lines(steps.labels, series, kind, from_zero=from_zero))


def grouped(
    words: Words, column: Column, labels: Sequence[str], series: Sequence[Series], kind: Kind
) -> Figure:
    """A column for each series, side by side at each label."""
    columns = (column, *(Column(each.name, kind) for each in series))
    if not labels:
        return Figure(words, Table(columns, []))
    rows = list(zip(labels, *(each.values for each in series), strict=True))
    return Figure(words, Table(columns, rows), plots.bars(labels, series, kind, mode="group"))


def trend_over_time(words: Words, steps: Buckets, series: Series, kind: Kind) -> Figure:
    """A ratio over time with its straight trend and the 95 % interval, where there are points enough."""
    found = trend([None if value is None else float(value) for value in series.values])  # type: ignore[arg-type]
    if found is None:
        return lines_over_time(words, steps, [series], kind)
    middle, low, high = (_estimates(values, kind) for values in (found.line, found.low, found.high))
    line = Series(_("Trend"), plots.INK, middle, dash="dot")
    edges = [Series(_("Trend, from"), "", low), Series(_("Trend, to"), "", high)]
    drawn = plots.lines(
        steps.labels, [line, series], kind, band=Band(_("95 % interval of the trend"), low, high)
    )
    return Figure(words, _over_time_table(steps, [series, line, *edges], kind), drawn)


def _estimates(values: Sequence[float], kind: Kind) -> list[Value]:
    """Heights of a trend as values of its kind; what is trended is never below nothing."""
    bounded = (max(value, 0.0) for value in values)
    return [Decimal(repr(round(value, 9))) if kind == "euro" else value for value in bounded]


def top_list(
    words: Words,
    columns: Sequence[Column],
    rows: Sequence[tuple[Value, ...]],
    *,
    color: str = plots.BLUE,
    addresses: Sequence[str] = (),
    drawn_max: int = 10,
) -> Figure:
    """The first rows as bars, by their second column; all of them as a table, from which one may go on."""
    table = Table(tuple(columns), rows, addresses)
    if not rows:
        return Figure(words, table)
    top = [row for row in rows if row[1] is not None][:drawn_max]
    series = Series(columns[1].title, color, [row[1] for row in top])
    plot = plots.ranked([str(row[0]) for row in top], series, columns[1].kind) if top else None
    return Figure(words, table, plot, open=bool(addresses))


@dataclass(frozen=True, slots=True)
class AgainstCap:
    """A month's cost up to each of its days, beside its cap and what the month may come to.

    Args:
        spent: up to each day, None for days to come.
        expected, low, high: the forecast at the end of the month; None where there is none.
    """

    spent: Sequence[Decimal | None]
    cap_eur: Decimal | None
    expected: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None


def cost_against_cap(words: Words, steps: Buckets, given: AgainstCap) -> Figure:
    """The month's cost so far as a line that climbs towards the cap; from today on, where it may end."""
    spent = Series(_("Spent so far"), plots.BLUE, given.spent)
    if not _has_any([spent]):
        return Figure(words, Table((steps.column, Column(spent.name, "euro")), []))
    line = None if given.cap_eur is None else Line(given.cap_eur, _("Cap"))
    if given.expected is None or given.low is None or given.high is None:
        return Figure(
            words,
            _over_time_table(steps, [spent], "euro"),
            plots.lines(steps.labels, [spent], "euro", line=line),
        )
    expected, low, high = (_towards(given.spent, end) for end in (given.expected, given.low, given.high))
    forecast = Series(_("Forecast"), plots.INK, expected, dash="dot")
    edges = [Series(_("Forecast, from"), "", low), Series(_("Forecast, to"), "", high)]
    drawn = plots.lines(
        *(steps.labels, [spent, forecast], "euro"),
        line=line,
        band=Band(_("Range of the forecast"), low, high),
    )
    return Figure(words, _over_time_table(steps, [spent, forecast, *edges], "euro"), drawn)


def _towards(spent: Sequence[Decimal | None], end: Decimal) -> list[Decimal | None]:
    """A straight way from the last day that is known to `end` on the last day of the month."""
    known = max(at for at, value in enumerate(spent) if value is not None)
    begin = spent[known]
    assert begin is not None
    left = len(spent) - 1 - known
    way = [begin + (end - begin) * step / left for step in range(left + 1)] if left else [end]
    return [*([None] * known), *way]


def confidence_histogram(words: Words, bins: Sequence[ConfidenceBin], threshold: float | None) -> Figure:
    """How sure the small model was, and what became of its answers; a line where the threshold is."""
    parts = [
        Series(_("Accepted"), plots.BLUE, [each.accepted for each in bins]),
        Series(_("Escalated"), plots.VERMILION, [each.escalated for each in bins]),
        Series(_("Degraded"), plots.PURPLE, [each.degraded for each in bins]),
    ]
    columns = (Column(_("From"), "share"), Column(_("To"), "share")) + tuple(
        Column(each.name, "count") for each in parts
    )
    if not _has_any(parts):
        return Figure(words, Table(columns, []))
    rows = [(each.low, each.high, each.accepted, each.escalated, each.degraded) for each in bins]
    labels = [f"{each.low * 100:.0f}–{each.high * 100:.0f}\N{NO-BREAK SPACE}%" for each in bins]
    plot = plots.bars(labels, parts, "count", line=_threshold_line(bins, threshold), gap=0.08)
    return Figure(words, Table(columns, rows), plot)


def _threshold_line(bins: Sequence[ConfidenceBin], threshold: float | None) -> Line | None:
    """The threshold among the bins: a bin is one wide, and its middle is at its number."""
    if threshold is None:
        return None
    width = bins[0].high - bins[0].low
    place = (threshold - bins[0].low) / width - 0.5
    return Line(place, _("Threshold %(at)s") % {"at": _whole_percent(threshold)}, upright=True)


def _whole_percent(share: float) -> str:
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a threshold would mean: the share of small answers that it accepts, and the estimated cost."""

    threshold: float
    accepted: float
    cost_eur: Decimal | None


def what_if(
    bins: Sequence[ConfidenceBin], *, small_cost: Decimal | None, large_cost: Decimal | None
) -> list[WhatIf]:
    """For each edge of the bins as threshold: the share of answers at or above it, and what all would cost.

    cost = answers · small_cost + (answers below the threshold) · large_cost, with the average costs of a
    small and of a large call in the period. It is an estimate: it takes the answers as they were, and the
    dearer questions may not be the less sure ones.
    """
    answers = [each.accepted + each.escalated + each.degraded for each in bins]
    total = sum(answers)
    if not total:
        return []
    found = []
    for at, each in enumerate(bins):
        below = sum(answers[:at])
        cost = None if small_cost is None or large_cost is None else total * small_cost + below * large_cost
        found.append(WhatIf(each.low, 1 - below / total, cost))
    return found


def threshold_what_if(words: Words, cases: Sequence[WhatIf], threshold: float | None) -> Figure:
    """The share of answers that the small model would give, for every threshold."""
    columns = (
        Column(_("Threshold"), "share"),
        Column(_("Accepted"), "share"),
        Column(_("Estimated cost"), "euro"),
    )
    if not cases:
        return Figure(words, Table(columns, []))
    labels = [_whole_percent(case.threshold) for case in cases]
    share = Series(_("Accepted"), plots.BLUE, [case.accepted for case in cases])
    line = None
    if threshold is not None:
        place = (threshold - cases[0].threshold) / (cases[1].threshold - cases[0].threshold)
        line = Line(place, _("Now %(at)s") % {"at": _whole_percent(threshold)}, upright=True)
    rows = [(case.threshold, case.accepted, case.cost_eur) for case in cases]
    return Figure(words, Table(columns, rows), plots.lines(labels, [share], "share", line=line))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers with a confidence from `low` to `high`: how sure they were on average, and how often right."""

    low: float
    high: float
    answers: int
    confidence: float | None
    right: float | None


def reliability_diagram(words: Words, bins: Sequence[ReliabilityBin]) -> Figure:
    """How often answers were right, by how sure they were; the diagonal is where the two are equal."""
    columns = (
        *(Column(_("From"), "share"), Column(_("To"), "share"), Column(_("Answers"), "count")),
        *(Column(_("Confidence"), "share"), Column(_("Right"), "share")),
    )
    if not any(each.answers for each in bins):
        return Figure(words, Table(columns, []))
    labels = [f"{each.low * 100:.0f}–{each.high * 100:.0f}\N{NO-BREAK SPACE}%" for each in bins]
    plot = plots.lines(
        labels,
        [
            Series(_("Right"), plots.BLUE, [each.right for each in bins]),
            Series(
                _("As sure as right"), plots.GREY, [(each.low + each.high) / 2 for each in bins], dash="dot"
            ),
        ],
        "share",
    )
    rows = [(each.low, each.high, each.answers, each.confidence, each.right) for each in bins]
    return Figure(words, Table(columns, rows), plot)
