"""What a dashboard's address says, and what is shown where it says nothing sensible."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.http import QueryDict
from django.utils.translation import override

from kpis.filters import (
    Picked,
    Selection,
    after,
    before,
    compared_with,
    month_period,
    months_offered,
    quarter_period,
    selection,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TODAY = NOW.date()
NOVEMBER = month_period(TODAY)


def organization(pk: int, time_zone: str = "Europe/Berlin") -> Any:
    return SimpleNamespace(pk=pk, time_zone=time_zone)


OFFERED = [organization(1), organization(2)]


def selected(query: str = "", now: datetime = NOW, offered: Any = OFFERED) -> Selection:
    with override("en"):
        return selection(QueryDict(query), offered, now)


def span(first: str, last: str) -> Picked:
    return Picked("range", date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("", "2026-11-01", "2026-11-30"),
        ("period=2026-02", "2026-02-01", "2026-02-28"),
        ("period=2024-02", "2024-02-01", "2024-02-29"),
        ("period=2026-Q4", "2026-10-01", "2026-12-31"),
        ("period=2025-Q1", "2025-01-01", "2025-03-31"),
        ("period=range&from=2026-11-03&to=2026-11-03", "2026-11-03", "2026-11-03"),
        ("from=2026-10-31&to=2026-11-02", "2026-10-31", "2026-11-02"),
    ],
)
def test_a_period_is_read(query: str, first: str, last: str) -> None:
    found = selected(query)
    assert (found.picked.first, found.picked.last) == (date.fromisoformat(first), date.fromisoformat(last))
    assert found.problems == ()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("period=nonsense", "Period"),
        ("period=2026-13", "Period"),
        ("period=2026-Q5", "Period"),
        ("period=0000-01", "Period"),
        ("period=9999-12", "Period"),
        ("period=٢٠٢٦-11", "Period"),
        ("period=2026-11%00", "Period"),
        ("period=range", "From"),
        ("from=2026-11-31&to=2026-12-01", "From"),
        ("from=2026-11-03&to=soon", "To"),
        ("from=0001-01-01&to=2026-11-03", "From"),
        ("from=2026-11-03&to=2026-11-02", "From"),
        ("from=2020-01-01&to=2026-11-02", "From, to"),
    ],
)
def test_an_unreadable_period_is_told_and_this_month_shown(query: str, field: str) -> None:
    found = selected(query)
    assert found.picked == NOVEMBER
    assert found.problems
    assert all(problem.partition(":")[0] in (field, "To") for problem in found.problems)
    assert all("November 2026" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("", set()),
        ("organization=1", {1}),
        ("organization=1&organization=2", {1, 2}),
        ("organization=", set()),
        ("organization=3", set()),
        ("organization=1&organization=3", {1}),
        ("organization=1%20OR%201", set()),
        (f"organization={'9' * 40}", set()),
    ],
)
def test_only_ones_own_organizations_are_shown(query: str, chosen: set[int]) -> None:
    found = selected(query)
    assert found.chosen == chosen
    assert set(found.organization_ids) == (chosen or {1, 2})
    asked = {text for name, text in parse_qsl(query) if name == "organization" and text}
    assert bool(found.problems) is (len(asked) > len(chosen))


@pytest.mark.parametrize("query", ["compare=perhaps", "use_case=" + "x" * 201, "use_case=%00"])
def test_other_nonsense_is_told(query: str) -> None:
    found = selected(query)
    assert (found.use_case, found.compare, len(found.problems)) == ("", True, 1)


@pytest.mark.parametrize(
    "query",
    [
        "period=2026-11",
        "period=2026-Q4&compare=off",
        "period=range&from=2026-11-03&to=2026-11-17&organization=2&use_case=a+%26+b",
    ],
)
def test_the_address_holds_the_whole_state(query: str) -> None:
    assert parse_qsl(selected(query).query[1:]) == parse_qsl(query)
    assert selected(selected(query).query[1:]) == selected(query)


def test_today_is_the_latest_local_date() -> None:
    late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    assert selected(now=late).picked == month_period(date(2026, 12, 1))
    assert selected(now=late, offered=[organization(1, "America/New_York")]).picked == NOVEMBER
    assert selected(now=late, offered=[]).today == date(2026, 11, 30)


def test_only_days_that_are_over_everywhere_are_compared() -> None:
    far_apart = selected(now=NOW, offered=[organization(1), organization(2, "Pacific/Auckland")])
    assert (far_apart.today, far_apart.today_everywhere) == (date(2026, 11, 24), date(2026, 11, 23))
    assert far_apart.compared == selected().compared


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (NOVEMBER, ("2026-10-01", "2026-10-23")),
        (month_period(date(2026, 10, 1)), ("2026-09-01", "2026-09-30")),
        (quarter_period(TODAY), ("2026-07-01", "2026-08-23")),
        (span("2026-11-03", "2026-11-12"), ("2026-10-24", "2026-11-02")),
        (span("2026-11-20", "2026-11-29"), ("2026-11-10", "2026-11-13")),
        (span("2026-11-23", "2026-11-23"), ("2026-11-22", "2026-11-22")),
    ],
)
def test_a_period_that_runs_is_compared_with_as_many_days(period: Picked, expected: tuple[str, str]) -> None:
    found = compared_with(period, TODAY)
    assert (found.first.isoformat(), found.last.isoformat()) == expected


def test_the_end_of_a_long_month_is_compared_with_the_whole_of_a_short_one() -> None:
    march = month_period(date(2026, 3, 1))
    assert compared_with(march, date(2026, 3, 30)) == month_period(date(2026, 2, 1))


@pytest.mark.parametrize("period", [NOVEMBER, quarter_period(TODAY), span("2026-02-20", "2026-03-05")])
def test_after_and_before_are_each_others_way_back(period: Picked) -> None:
    assert before(after(period)) == period == after(before(period))
    assert before(period).days == period.days or period.kind != "range"


def test_two_years_of_months_are_offered() -> None:
    offered = months_offered(TODAY)
    assert (len(offered), offered[0], offered[-1].code) == (24, NOVEMBER, "2024-12")
