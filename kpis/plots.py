"""Plots in Plotly's format, made on the server: bars, lines, ranked bars, and what is drawn over them.

Every word and number that a reader sees is written here, in the language of the page; the browser's part
(`static/kpis/kpis.js`) draws them, and turns the colours for a dark page. Colours are Okabe and Ito's, which
colour-blind people tell apart, darkened where white paper asks for it.

Plotly is imported when the first plot is made: most processes never make one, and it takes 30 MB.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from django.utils.formats import get_format

from kpis.tables import Kind, Value, write

BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#007E5C", "#A5538A", "#6B7280"
BLUE_BAND = "#CFE3F1"
INK, MUTED, GRID, PAPER = "#1F2937", "#4B5563", "#E5E7EB", "#FFFFFF"
TRANSPARENT = "rgba(0,0,0,0)"

HEIGHT_PX = 320
ROW_PX, FRAME_PX = 34, 56
TICKS_MAX = 8
#: Up to so many, a count has a tick at each number, and none between.
WHOLE_TICKS_MAX = 6
#: Beyond so many points a line needs no marker at each.
MARKED_POINTS_MAX = 35
#: A longer name is written in two lines, and cut off at their end.
LINE_CHARACTERS_MAX = 22

_TICK_SUFFIX: dict[Kind, str] = {
    "euro": "\N{NO-BREAK SPACE}€",
    "share": "\N{NO-BREAK SPACE}%",
    "ms": "\N{NO-BREAK SPACE}ms",
    "factor": "\N{NO-BREAK SPACE}×",
}

Plot = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Series:
    """What one colour stands for; a value for each label, None where there is none."""

    name: str
    color: str
    values: Sequence[Value]
    dash: str = "solid"


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line that values are held against.

    Args:
        at: the height of a line across; the place among the labels, from 0, of an upright one.
    """

    at: Decimal | float
    text: str
    upright: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """What lies between `low` and `high` at each label, in a lighter colour behind the lines."""

    name: str
    low: Sequence[Value]
    high: Sequence[Value]


def bars(
    labels: Sequence[str],
    series: Sequence[Series],
    kind: Kind,
    *,
    line: Line | None = None,
    gap: float = 0.3,
    mode: Literal["relative", "group"] = "relative",
    named: bool = False,
) -> Plot:
    """Columns at each label, one series on top of the other; or, as a `group`, side by side."""
    traces = [
        {
            "type": "bar",
            "x": list(labels),
            "y": _numbers(each.values, kind),
            "marker": {"color": each.color},
            **_said(each, kind),
        }
        for each in series
    ]
    layout = {**_layout(kind), "barmode": mode, "bargap": gap, "showlegend": named or len(series) > 1}
    if kind == "count" and _highest(traces) <= WHOLE_TICKS_MAX:
        layout["yaxis"]["dtick"] = 1
    if mode == "group":
        layout["xaxis"] |= {"tickmode": "array", "tickvals": list(labels)}
        layout["xaxis"]["ticktext"] = [_escaped(label).replace(" ", "<br>") for label in labels]
    return _plot(traces, _with_line(layout, line, kind))


def _highest(traces: Sequence[dict[str, Any]]) -> float:
    """The height of the highest column, with all its parts."""
    columns = zip(*(each["y"] for each in traces), strict=True)
    return max((sum(filter(None, parts)) for parts in columns), default=0)


def lines(
    labels: Sequence[str],
    series: Sequence[Series],
    kind: Kind,
    *,
    line: Line | None = None,
    band: Band | None = None,
    from_zero: bool = True,
) -> Plot:
    """A line for each series; not `from_zero` where all is close to the top, such as availability."""
    layout = {**_layout(kind), "showlegend": len(series) > 1 or band is not None}
    layout["yaxis"]["rangemode"] = "tozero" if from_zero else "normal"
    # The words beside an upright line need the room above.
    if kind == "share" and line is None:
        layout["yaxis"]["autorangeoptions"] = {"maxallowed": 100}
    # Room at both sides, as bars have it.
    layout["xaxis"]["range"] = [-0.5, len(labels) - 0.5]
    traces = _band_traces(labels, band, kind) if band else []
    traces += [_line_trace(labels, each, kind) for each in series]
    return _plot(traces, _with_line(layout, line, kind))


def _band_traces(labels: Sequence[str], band: Band, kind: Kind) -> list[dict[str, Any]]:
    edge = {"type": "scatter", "mode": "lines", "x": list(labels), "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        {**edge, "y": _numbers(band.low, kind), "showlegend": False},
        {
            **edge,
            "y": _numbers(band.high, kind),
            "fill": "tonexty",
            "fillcolor": BLUE_BAND,
            "name": band.name,
        },
    ]


def ranked(labels: Sequence[str], series: Series, kind: Kind) -> Plot:
    """Bars from left to right, the first on top, each with its value at its end."""
    texts = [write(value, kind) for value in series.values]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(labels))),
        "x": _numbers(series.values, kind),
        "marker": {"color": series.color},
        "text": texts,
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": [f"{_escaped(label)}: {text}" for label, text in zip(labels, texts, strict=True)],
        "hoverinfo": "text",
    }
    layout = _layout(kind)
    layout["height"] = FRAME_PX + ROW_PX * len(labels)
    layout["showlegend"] = False
    layout["hovermode"] = "closest"
    layout["xaxis"] = {"visible": False, "rangemode": "tozero", "fixedrange": True}
    layout["yaxis"] = _names(labels)
    # Room for the values at the ends.
    layout["margin"] = {"l": 8, "r": 88, "t": 8, "b": 8}
    return _plot([trace], layout)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a row of a timeline, with what it says when it is pointed at."""

    row: int
    begin: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Spans:
    """What one colour stands for in a timeline: broad, or a thin line behind what is."""

    name: str
    color: str
    spans: Sequence[Span]
    is_broad: bool = True

    @property
    def width_px(self) -> int:
        return 14 if self.is_broad else 4


def timeline(rows: Sequence[str], series: Sequence[Spans], *, ticks: Sequence[str]) -> Plot:
    """A row for each name, the first on top; a stretch that is too short for its length is a stroke.

    Args:
        ticks: what is written below, at 0, 1, 2 … of the spans' measure.
    """
    layout = _layout("count")
    every = -(-len(ticks) // TICKS_MAX)
    layout["height"] = 2 * FRAME_PX + ROW_PX * len(rows)
    layout["hovermode"] = "closest"
    layout["xaxis"] |= {
        **{"type": "linear", "range": [0, len(ticks)], "tickmode": "array"},
        "tickvals": list(range(0, len(ticks), every)),
        "ticktext": list(ticks[::every]),
    }
    layout["yaxis"] = {**_names(rows), "autorange": False, "range": [len(rows) - 0.5, -0.5]}
    return _plot([_stretches(each) for each in series], {**layout, "showlegend": True})


def _stretches(series: Spans) -> dict[str, Any]:
    ends = [(each.begin, each.end, None) for each in series.spans]
    stroke = {"symbol": "line-ns", "size": series.width_px, "line": {"width": 2, "color": series.color}}
    mode = "lines+markers" if series.is_broad else "lines"
    return {
        **{"type": "scatter", "mode": mode, "connectgaps": False, "name": series.name},
        "x": [at for span in ends for at in span],
        "y": [at for each in series.spans for at in (each.row, each.row, None)],
        "line": {"color": series.color, "width": series.width_px},
        "marker": {**stroke, "color": series.color},
        "hovertext": [text for each in series.spans for text in (_escaped(each.text),) * 3],
        "hoverinfo": "text",
    }


def _names(labels: Sequence[str]) -> dict[str, Any]:
    """The axis at the left whose numbers, from the top, are names."""
    return {
        "autorange": "reversed",
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": [_short(label) for label in labels],
        "ticklabelstandoff": 6,
        "automargin": True,
        "fixedrange": True,
        "zeroline": False,
        "showgrid": False,
    }


_REFERENCE = {"color": INK, "width": 1.5, "dash": "dash"}
_NOTE = {"showarrow": False, "font": {"color": INK, "size": 12}}


def _with_line(layout: dict[str, Any], line: Line | None, kind: Kind) -> dict[str, Any]:
    if line is None:
        return layout
    along, across = ("y", "x") if line.upright else ("x", "y")
    at = float(line.at) if line.upright else _number(line.at, kind)
    ends = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}0": at, f"{across}1": at}
    # Within the figure, left of an upright line, or above the right end of one that goes across.
    anchors = {"xanchor": "right", "yanchor": "top" if line.upright else "bottom"}
    note = {
        **_NOTE,
        **anchors,
        f"{along}ref": "paper",
        along: 1,
        across: at,
        "text": f"{line.text}\N{NO-BREAK SPACE}",
    }
    shape = {"type": "line", "line": _REFERENCE, **ends}
    return {**layout, "shapes": [shape], "annotations": [note]}


def _line_trace(labels: Sequence[str], series: Series, kind: Kind) -> dict[str, Any]:
    known = sum(value is not None for value in series.values)
    marked = series.dash == "solid" and known <= MARKED_POINTS_MAX
    return {
        "type": "scatter",
        "mode": "lines+markers" if marked else "lines",
        "x": list(labels),
        "y": _numbers(series.values, kind),
        "line": {"color": series.color, "width": 2.5, "dash": series.dash},
        "marker": {"color": series.color, "size": 6},
        "connectgaps": False,
        # A line along the top is drawn whole.
        "cliponaxis": False,
        **_said(series, kind),
    }


def _said(series: Series, kind: Kind) -> dict[str, Any]:
    """What a trace says when it is pointed at: values as the tables write them."""
    return {
        "name": series.name,
        "hovertext": [write(value, kind) for value in series.values],
        "hovertemplate": "%{hovertext}<extra>" + _escaped(series.name) + "</extra>",
    }


def _escaped(text: str) -> str:
    """Plotly takes some HTML in texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _short(label: str) -> str:
    """A name that leaves room for its bar."""
    lines = textwrap.wrap(label, LINE_CHARACTERS_MAX, max_lines=2, placeholder="…")
    return "<br>".join(_escaped(line) for line in lines)


def _numbers(values: Sequence[Value], kind: Kind) -> list[float | None]:
    return [_number(value, kind) for value in values]


def _number(value: Value, kind: Kind) -> float | None:
    """A place on paper: what is exact stands in the table."""
    if value is None:
        return None
    assert isinstance(value, Decimal | int | float)
    return float(value) * (100 if kind == "share" else 1)


def _layout(kind: Kind) -> dict[str, Any]:
    axis = {"fixedrange": True, "zeroline": False, "color": MUTED, "automargin": True, "ticklabelstandoff": 5}
    return {
        "template": "none",
        "height": HEIGHT_PX,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "paper_bgcolor": TRANSPARENT,
        "plot_bgcolor": TRANSPARENT,
        "font": {"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        "separators": get_format("DECIMAL_SEPARATOR") + get_format("THOUSAND_SEPARATOR"),
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}},
        "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        "xaxis": {**axis, "type": "category", "nticks": TICKS_MAX, "tickangle": 0, "showgrid": False},
        "yaxis": {
            **axis,
            "gridcolor": GRID,
            "rangemode": "tozero",
            "nticks": 6,
            "tickformat": ",.6~f",
            "ticksuffix": _TICK_SUFFIX.get(kind, ""),
        },
    }


def _plot(traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> Plot:
    """Checked by Plotly itself, which refuses what it does not know."""
    from plotly.graph_objects import Figure

    if not layout["showlegend"] and not layout.get("annotations"):
        layout = {**layout, "margin": {**layout["margin"], "t": 12}}
    made: Plot = Figure(data=list(traces), layout=layout).to_plotly_json()
    return made
