"""The dashboards in a browser: drawn under the strict content policy, in both languages, and leading on.

While Playwright runs, Django takes its event loop for ours and refuses queries; so all is written before the
browser starts.
"""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from aigov import clock
from aigov.organizations.create import create_organization
from aigov.organizations.models import Member, Organization
from kpis.filters import before, month_period
from kpis.pages import PAGES
from tests.admin_world import logged_in, person
from tests.conftest import Server
from tests.dashboards_world import write_history
from tests.test_admin_browser import ARGUMENTS, COMPLAINTS, OVERFLOW, PAGE_WAIT_MS

PAGE_ADDRESSES = [reverse("kpis:page", args=[name]) for name in PAGES]
PNG_BEGINS = b"\x89PNG\r\n"
LANGUAGES = {"en": "en-GB", "de": "de-DE"}
#: The narrow one is for German, whose words are longer.
SCREENS: dict[str, ViewportSize] = {
    "en": {"width": 1280, "height": 720},
    "de": {"width": 400, "height": 800},
}


@dataclass(frozen=True)
class Viewer:
    """Who sees an organization with a history, one with a single call, and one with none."""

    cookie: str
    busy: Organization
    single: Organization
    empty: Organization


@pytest.fixture(scope="module")
def viewer(server: Server) -> Viewer:
    busy, single, empty = (
        create_organization(name=f"{name} {uuid4().hex[:6]}", acting="the tests")
        for name in ("busy", "single", "empty")
    )
    write_history(busy, days=40, calls_a_day=8)
    write_history(single, days=1, calls_a_day=1, at_weekends=1)
    user = person("manager", busy)
    for organization in (single, empty):
        Member.objects.create(user=user, organization=organization, role="manager")
    return Viewer(logged_in(user).cookies["sessionid"].value, busy, single, empty)


@pytest.fixture(scope="module")
def chromium(viewer: Viewer) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # The system's own where there is one, else Playwright's.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What a browser has complained of."""
    return []


@pytest.fixture
def open_page(
    chromium: Browser, viewer: Viewer, server: Server, faults: list[str]
) -> Iterator[Callable[..., Page]]:
    """Opens a page in which the viewer has logged in."""
    with ExitStack() as stack:

        def opened(language: str = "en") -> Page:
            context = stack.enter_context(
                chromium.new_context(base_url=server.url, locale=LANGUAGES[language])
            )
            context.add_cookies([{"name": "sessionid", "value": viewer.cookie, "url": server.url}])
            page = context.new_page()
            page.set_default_timeout(PAGE_WAIT_MS)
            page.on("console", lambda said: faults.extend([said.text] if said.type in COMPLAINTS else []))
            page.on("pageerror", lambda error: faults.append(str(error)))
            return page

        yield opened


def drawn(page: Page) -> None:
    """Waits until every figure of the page is drawn."""
    page.wait_for_selector("html[data-complete]")
    assert page.locator("html[data-drawn]").count() == 1
    assert page.locator("[data-plot]").count() == page.locator("[data-plot].js-plotly-plot").count()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_drawn_within_its_screen_and_without_a_complaint(
    language: str, viewer: Viewer, open_page: Callable[..., Page], faults: list[str]
) -> None:
    page = open_page(language)
    page.set_viewport_size(SCREENS[language])
    for organization in (viewer.busy, viewer.single, viewer.empty):
        for address in PAGE_ADDRESSES:
            go(page, f"{address}?organization={organization.pk}", language)
            drawn(page)
            assert page.evaluate(OVERFLOW) is False, (address, organization)
            assert faults == [], (address, organization)
    go(page, reverse("kpis:definitions"), language)
    assert page.evaluate(OVERFLOW) is False
    assert faults == []


CURRENT_PAGE_SHOWS = """() => {
    const {left, right} = document.querySelector(".pages [aria-current]").getBoundingClientRect()
    return left >= 0 && right <= innerWidth
}"""
IS_ON_ONE_LINE = """() => {
    const value = document.querySelector(".card .value")
    value.className = "value is-longer"
    value.textContent = "12.345.678.901,23\\u00a0€"
    const {height} = value.getBoundingClientRect()
    return height < 2 * parseFloat(getComputedStyle(value).fontSize)
}"""


def test_a_narrow_screen_shows_the_current_page_and_whole_numbers(
    viewer: Viewer, open_page: Callable[..., Page], faults: list[str]
) -> None:
    page = open_page("de")
    page.set_viewport_size({"width": 400, "height": 850})
    for address in PAGE_ADDRESSES:
        page.goto(f"{address}?organization={viewer.busy.pk}")
        drawn(page)
        assert page.evaluate(CURRENT_PAGE_SHOWS), address
    page.goto(f"{PAGE_ADDRESSES[0]}?organization={viewer.busy.pk}")
    assert page.evaluate(IS_ON_ONE_LINE)
    assert faults == []


def go(page: Page, address: str, language: str) -> None:
    response = page.goto(address)
    assert response is not None and response.status == 200, address
    assert page.locator("html").get_attribute("lang") == language


def test_a_dark_page_is_drawn_in_its_colours(
    viewer: Viewer, open_page: Callable[..., Page], faults: list[str]
) -> None:
    page = open_page()
    page.emulate_media(color_scheme="dark")
    page.goto(f"{PAGE_ADDRESSES[0]}?organization={viewer.busy.pk}")
    drawn(page)
    # A bar of a small model, in the colour for dark pages: #56B4E9.
    expect(page.locator("#cost-over-time .bars path").first).to_have_css("fill", "rgb(86, 180, 233)")
    page.emulate_media(color_scheme="light")
    expect(page.locator("#cost-over-time .bars path").first).to_have_css("fill", "rgb(0, 114, 178)")
    assert faults == []


def test_a_manager_finds_the_way(
    viewer: Viewer, open_page: Callable[..., Page], faults: list[str], tmp_path: Path
) -> None:
    """Another period, one use case, the numbers as a file, a figure as a picture, down to the requests."""
    last_month = before(month_period(clock.now().date()))
    page = open_page()
    page.goto(reverse("kpis:home"))
    drawn(page)
    page.locator("details.choices summary").click()
    page.get_by_label(viewer.busy.name).check()
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile(f"organization={viewer.busy.pk}"))
    page.get_by_role("link", name="Period before").click()
    page.wait_for_url(re.compile(f"period={last_month.code}"))
    drawn(page)

    page.get_by_role("link", name="Use cases and users").click()
    page.wait_for_url(re.compile(f"/usage/.*period={last_month.code}"))
    drawn(page)
    page.get_by_label("Use case", exact=True).select_option("reply_draft")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("use_case=reply_draft"))
    drawn(page)
    table = page.get_by_role("region", name="Numbers of “Cost by use case”").get_by_role("row")
    expect(table).to_have_count(2)

    with page.expect_download() as download:
        page.get_by_role("link", name="“Cost by use case” as CSV").click()
    download.value.save_as(tmp_path / "numbers.csv")
    with page.expect_download() as download:
        page.get_by_role("button", name="“Cost by use case” as PNG").click()
    assert download.value.suggested_filename == f"use-cases-{last_month.code}.png"
    download.value.save_as(tmp_path / "figure.png")

    page.get_by_role("link", name="How “Cost by use case” is counted").click()
    expect(page.locator("section:target")).to_contain_text("Cost")
    page.go_back()
    page.get_by_role("link", name="reply_draft").click()
    expect(page.locator("#result_list tbody").first).to_contain_text("reply_draft")
    assert faults == []
    with (tmp_path / "numbers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["Use case", "reply_draft"]
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG_BEGINS)


def test_a_free_range_is_asked_for_only_where_it_is_wanted(
    open_page: Callable[..., Page], faults: list[str]
) -> None:
    page = open_page()
    page.goto(PAGE_ADDRESSES[0])
    drawn(page)
    expect(page.get_by_label("From", exact=True)).to_be_hidden()
    page.get_by_label("Period", exact=True).select_option("range")
    page.get_by_label("From", exact=True).fill("2026-11-03")
    page.get_by_label("To", exact=True).fill("2026-11-05")
    page.get_by_label("Compare").select_option("off")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/kpis/overview/?period=range&from=2026-11-03&to=2026-11-05&compare=off")
    expect(page.locator(".period")).to_have_text(re.compile("3 Nov 2026 – 5 Nov 2026"))
    assert faults == []
