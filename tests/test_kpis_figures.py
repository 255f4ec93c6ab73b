"""The figures as pure functions: what they draw equals what their tables say, in the reader's language."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Any

import openpyxl
import pytest
from django.conf import settings
from django.utils.timezone import make_aware
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs_version

from kpis import plots
from kpis.buckets import buckets
from kpis.circuits import Lately, circuit_timeline, place
from kpis.figures import (
    AgainstCap,
    ReliabilityBin,
    Words,
    columns_over_time,
    confidence_histogram,
    cost_against_cap,
    lines_over_time,
    reliability_diagram,
    threshold_what_if,
    top_list,
    trend_over_time,
    what_if,
)
from kpis.plots import Series
from kpis.queries import ConfidenceBin
from kpis.tables import Column, Kind, Table, chunks, percent, write
from kpis.trend import t95, trend
from providers.circuit_history import Rest

WORDS = Words("cost", "Cost", "cost", "Send a request.")
NBSP = "\N{NO-BREAK SPACE}"
STEPS = buckets(date(2026, 11, 1), date(2026, 11, 5))


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with override("en"):
        yield


def euro(*amounts: str | None) -> list[Decimal | None]:
    return [None if amount is None else Decimal(amount) for amount in amounts]


def drawn(plot: plots.Plot | None, name: str) -> dict[str, Any]:
    assert plot is not None
    (found,) = (trace for trace in plot["data"] if trace.get("name") == name)
    return dict(found)


# --- Tables


@pytest.mark.parametrize(
    ("value", "kind", "english", "german"),
    [
        (Decimal("1234.5"), "euro", f"1,234.50{NBSP}€", f"1.234,50{NBSP}€"),
        (Decimal("0.000061200"), "euro", f"0.0000612{NBSP}€", f"0,0000612{NBSP}€"),
        (12345, "count", "12,345", "12.345"),
        (0.123, "share", f"12.3{NBSP}%", f"12,3{NBSP}%"),
        (Decimal("7.25"), "factor", f"7.25{NBSP}×", f"7,25{NBSP}×"),
        (312.4, "ms", f"312{NBSP}ms", f"312{NBSP}ms"),
        (date(2026, 11, 3), "day", "3 Nov 2026", "03.11.2026"),
        (date(2026, 11, 1), "month", "November 2026", "November 2026"),
        (None, "euro", "–", "–"),
        ("", "text", "–", "–"),
    ],
)
def test_values_are_written_for_their_readers(value: Any, kind: Kind, english: str, german: str) -> None:
    assert write(value, kind) == english
    with override("de"):
        assert write(value, kind) == german


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0"), (1, "100.0"), (0.99999, "99.99"), (0.9996, "99.96"), (0.000001, "0.01"), (1.5, "150.0")],
)
def test_nearly_all_is_not_all(share: float, text: str) -> None:
    assert percent(share) == f"{text}{NBSP}%"


def test_a_file_has_the_exact_values_and_no_formulas() -> None:
    rows = [("=1+1", Decimal("0.000061200"), 0.5), ("plain", None, None)]
    table = Table((Column("Use case"), Column("Cost", "euro"), Column("Share", "share")), rows)
    text = b"".join(chunks(table, "csv", title="Cost")).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(text))) == [
        ["Use case", "Cost", "Share"],
        ["'=1+1", "0.000061200", "0.5"],
        ["plain", "", ""],
    ]
    workbook = openpyxl.load_workbook(io.BytesIO(b"".join(chunks(table, "xlsx", title="Cost"))))
    assert list(workbook.active.values)[1:] == [("=1+1", 0.0000612, 0.5), ("plain", None, None)]


# --- Steps


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(0, 800))
def test_steps_cover_a_period_without_gap_or_overlap(first: date, length: int) -> None:
    last = first + timedelta(days=length)
    steps = buckets(first, last).steps
    assert (steps[0].first, steps[-1].last) == (first, last)
    assert all(b.first - a.last == timedelta(days=1) for a, b in zip(steps, steps[1:], strict=False))
    assert len(steps) <= 100


@given(st.lists(st.dates(date(2026, 9, 1), date(2027, 6, 1)), max_size=50), st.integers(0, 200))
def test_each_row_is_gathered_into_its_step(days: list[date], length: int) -> None:
    steps = buckets(date(2026, 11, 1), date(2026, 11, 1) + timedelta(days=length))
    for step, rows in zip(steps.steps, steps.gathered(days, lambda day: day), strict=True):
        assert sorted(rows) == sorted(day for day in days if step.first <= day <= step.last)


# --- Trends


def test_a_trend_finds_the_line_and_knows_that_it_does() -> None:
    found = trend([2 + 0.5 * x for x in range(10)])
    assert found is not None
    assert found.slope == pytest.approx(0.5)
    assert found.line == pytest.approx([2 + 0.5 * x for x in range(10)])
    assert found.is_clear


def test_a_trend_equals_a_worked_example() -> None:
    """Values 1, 3, 2, 5, 4: slope 0.8, residual variance 1.2, t for 3 degrees of freedom 3.182."""
    found = trend([1, 3, 2, 5, 4])
    assert found is not None
    assert found.slope == pytest.approx(0.8)
    assert found.slope_high == pytest.approx(0.8 + 3.182 * (1.2 / 10) ** 0.5)
    assert found.high[2] == pytest.approx(3 + 3.182 * (1.2 / 5) ** 0.5)
    assert not found.is_clear


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, None, 3.0, 4.0]])
def test_few_points_make_no_trend(values: Sequence[float | None]) -> None:
    assert trend(values) is None


def test_the_quantiles_go_on_smoothly_to_those_of_the_normal_distribution() -> None:
    assert t95(31) == pytest.approx(2.040, abs=0.003)
    assert t95(60) == pytest.approx(2.000, abs=0.003)
    assert t95(100_000) == pytest.approx(NormalDist().inv_cdf(0.975), abs=0.001)


# --- Figures

PARTS = [
    Series("Small", plots.BLUE, euro("1.5", "0", None, "2", "0.25")),
    Series("Large", plots.VERMILION, euro("10", "20", "30", None, "5")),
]


@pytest.mark.parametrize("make", [columns_over_time, lines_over_time])
def test_a_figure_draws_what_its_table_says(make: Any) -> None:
    figure = make(WORDS, STEPS, PARTS, "euro")
    assert [column.title for column in figure.table.columns] == ["Day", "Small", "Large"]
    for at, part in enumerate(PARTS, start=1):
        assert [row[at] for row in figure.table.rows] == part.values
        trace = drawn(figure.plot, part.name)
        assert trace["y"] == [None if value is None else float(value) for value in part.values]
        assert trace["hovertext"] == [write(value, "euro") for value in part.values]
        assert list(trace["x"]) == ["1 Nov", "2 Nov", "3 Nov", "4 Nov", "5 Nov"]


@pytest.mark.parametrize("make", [columns_over_time, lines_over_time])
def test_nothing_is_drawn_of_nothing(make: Any) -> None:
    figure = make(WORDS, STEPS, [Series("Small", plots.BLUE, [None] * 5)], "euro")
    assert (figure.plot, list(figure.table.rows)) == (None, [])


def test_a_plot_speaks_the_readers_language() -> None:
    with override("de"):
        figure = columns_over_time(WORDS, buckets(date(2026, 3, 1), date(2026, 3, 5)), PARTS, "euro")
    assert figure.plot is not None
    assert figure.plot["layout"]["separators"] == ",."
    assert drawn(figure.plot, "Small")["hovertext"][0] == f"1,50{NBSP}€"


def test_names_cannot_write_html_into_a_plot() -> None:
    figure = top_list(WORDS, (Column("User"), Column("Cost", "euro")), [("<b>x</b>", Decimal(1))])
    assert "<b>" not in json.dumps(figure.plot)


def test_a_top_list_draws_the_first_and_lists_all() -> None:
    rows = [(f"use case {number}", Decimal(30 - number)) for number in range(15)]
    addresses = [f"/x/{number}" for number in range(15)]
    columns = (Column("Use case"), Column("Cost", "euro"))
    figure = top_list(WORDS, columns, rows, addresses=addresses)
    assert figure.plot is not None
    assert list(figure.plot["data"][0]["x"]) == [float(30 - number) for number in range(10)]
    assert len(figure.table.rows) == 15
    assert [row[0].address for row in figure.table.shown()] == addresses
    assert figure.open


def test_a_trend_is_drawn_where_there_are_points_enough() -> None:
    figure = trend_over_time(WORDS, STEPS, Series("Cost", plots.BLUE, euro("1", "3", "2", "5", "4")), "euro")
    assert drawn(figure.plot, "Trend")["y"] == pytest.approx([1.4, 2.2, 3.0, 3.8, 4.6])
    assert [column.title for column in figure.table.columns][2:] == ["Trend", "Trend, from", "Trend, to"]
    assert all(isinstance(value, Decimal) and value >= 0 for row in figure.table.rows for value in row[1:])
    few = trend_over_time(WORDS, STEPS, Series("Cost", plots.BLUE, euro("1", None, "2", "5", "4")), "euro")
    assert len(few.table.columns) == 2


def test_the_forecast_begins_where_the_month_is() -> None:
    given_ = AgainstCap(euro("1", "2", "3", None, None), *euro("10", "5", "4", "7"))
    figure = cost_against_cap(WORDS, STEPS, given_)
    assert drawn(figure.plot, "Forecast")["y"] == [None, None, 3.0, 4.0, 5.0]
    assert figure.plot is not None
    assert figure.plot["layout"]["shapes"][0]["y0"] == 10.0
    assert [row[-1] for row in figure.table.rows] == euro(None, None, "3", "5", "7")


def test_a_month_that_is_over_has_no_forecast() -> None:
    figure = cost_against_cap(WORDS, STEPS, AgainstCap(euro("1", "2", "3", "4", "5"), None))
    assert len(figure.table.columns) == 2
    assert figure.plot is not None
    assert not figure.plot["layout"].get("shapes")


BINS = [
    ConfidenceBin(low=0.0, high=0.25, accepted=0, escalated=8, degraded=2),
    ConfidenceBin(low=0.25, high=0.5, accepted=0, escalated=10, degraded=0),
    ConfidenceBin(low=0.5, high=0.75, accepted=30, escalated=0, degraded=0),
    ConfidenceBin(low=0.75, high=1.0, accepted=50, escalated=0, degraded=0),
]


def test_the_threshold_stands_between_its_bins() -> None:
    figure = confidence_histogram(WORDS, BINS, 0.5)
    assert figure.plot is not None
    assert figure.plot["layout"]["shapes"][0]["x0"] == 1.5
    assert figure.plot["layout"]["annotations"][0]["text"].startswith(f"Threshold 50{NBSP}%")
    assert figure.table.rows[0] == (0.0, 0.25, 0, 8, 2)


def test_another_threshold_is_estimated_from_the_histogram() -> None:
    cases = what_if(BINS, small_cost=Decimal("0.01"), large_cost=Decimal("0.1"))
    assert [case.accepted for case in cases] == pytest.approx([1.0, 0.9, 0.8, 0.5])
    assert [case.cost_eur for case in cases] == [Decimal("1"), Decimal("2"), Decimal("3"), Decimal("6")]
    assert threshold_what_if(WORDS, cases, 0.5).plot is not None
    assert what_if([], small_cost=None, large_cost=None) == []


def test_reliability_needs_answers_that_were_judged() -> None:
    assert reliability_diagram(WORDS, [ReliabilityBin(0, 0.5, 0, None, None)]).plot is None
    judged = [ReliabilityBin(0, 0.5, 4, 0.3, 0.25), ReliabilityBin(0.5, 1, 0, None, None)]
    assert drawn(reliability_diagram(WORDS, judged).plot, "Right")["y"] == [25.0, None]


def rest(standing: Any, model: str, begin: datetime, end: datetime | None, reason: str = "") -> Rest:
    return Rest("openai", model, standing, begin, end, reason)


def test_circuits_are_drawn_where_they_turned() -> None:
    noon = make_aware(datetime(2026, 11, 2, 12))
    rests = [
        rest("open", "small", noon, noon + timedelta(seconds=5), "overloaded"),
        rest("half_open", "small", noon + timedelta(seconds=5), noon + timedelta(seconds=9), "overloaded"),
        rest("forced_open", "*", noon + timedelta(days=1), None),
    ]
    called = [("anthropic", "haiku"), ("openai", "small")]
    figure = circuit_timeline(WORDS, Lately(called, rests, STEPS, noon + timedelta(days=2)))
    assert figure.plot is not None
    assert figure.plot["layout"]["yaxis"]["ticktext"] == ["haiku", "OpenAI all models", "small"]
    drawn = {trace["name"]: list(zip(trace["y"], trace["x"], strict=True)) for trace in figure.plot["data"]}
    assert drawn["Asked as usual"][:3] == [(0, 0), (0, 3.5), (None, None)]
    assert drawn["Resting"] == [(2, 1.5), (2, pytest.approx(1.5 + 5 / 86_400)), (None, None)]
    assert drawn["Kept off"] == [(1, 2.5), (1, 3.5), (None, None)]
    assert [row[1:3] + row[5:] for row in figure.table.rows] == [
        ("all models", "Kept off", None, ""),
        ("small", "Being tried", 4.0, "it was overloaded"),
        ("small", "Resting", 5.0, "it was overloaded"),
    ]
    assert write(noon, "instant") == "2 Nov 2026, 12:00:00"


def test_where_no_model_rested_nothing_is_drawn() -> None:
    figure = circuit_timeline(
        WORDS, Lately([("openai", "small")], [], STEPS, make_aware(datetime(2026, 11, 2)))
    )
    assert (figure.plot, list(figure.table.rows)) == (None, [])


@pytest.mark.parametrize(("hours", "at"), [(-1, 0.0), (0, 0.0), (36, 1.5), (24 * 30, 5.0)])
def test_an_instant_has_its_place_among_the_days(hours: int, at: float) -> None:
    assert place(make_aware(datetime(2026, 11, 1)) + timedelta(hours=hours), STEPS) == at


def test_an_instant_has_its_place_among_the_months() -> None:
    months = buckets(date(2026, 1, 1), date(2026, 12, 31))
    assert place(make_aware(datetime(2026, 4, 16)), months) == 3.5


def test_plotly_is_not_loaded_before_the_first_plot() -> None:
    program = "import django, sys; django.setup(); import kpis.views; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=os.environ, check=False).returncode == 0


def test_the_browser_draws_with_the_plotly_that_the_server_knows() -> None:
    bundle = Path(settings.BASE_DIR, "static", "plotly", "plotly-basic.min.js").read_text(encoding="utf-8")
    served = re.search(r"plotly\.js \(basic - minified\) v(\d+)\.(\d+)", bundle)
    known = get_plotlyjs_version().split(".")
    assert served is not None
    assert list(served.groups()) == known[:2]
    # The content policy allows no code that is made from text.
    assert "new Function(" not in bundle
    assert "eval(" not in bundle
