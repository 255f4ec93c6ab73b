"""The admin in a browser: its pages run under the content policy, and finance finds its way.

While Playwright runs, Django takes its event loop for ours and refuses queries; so the database is asked
before and after.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from uuid import uuid4

import httpx2
import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect, sync_playwright

from aigov.organizations.create import create_organization, create_user
from aigov.organizations.models import ApiKey, Member, Organization, User
from aigov.registry.models import SettingValue
from budgets import ledger
from budgets.accounts import set_month_cap
from budgets.models import BudgetAccount, CostRecord, FxRate, Hold
from providers.models import Price
from routing.models import Decision
from tests.admin_world import (
    LEAD,
    add_page,
    admins,
    change_page,
    fill,
    in_server,
    last_audit_entry,
    list_page,
)
from tests.conftest import Server, month_account
from tests.dashboards_world import write_history
from tests.ledger_world import charge_of, reserve

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAGE_WAIT_MS = 30_000
ASKED = {"cache": "off", "messages": [{"role": "user", "content": LEAD}], "labels": ["A", "B", "C"]}
COMPLAINTS = ("error", "warning")
ADDED = (Organization, Member, ApiKey, SettingValue, FxRate, Price)
BUTTONS = {ApiKey: "revoke", Member: "remove", SettingValue: "remove", User: "send-link"}


@contextmanager
def browser(server: Server, faults: list[str]) -> Iterator[Page]:
    """A page of a browser; what it complains of is added to `faults`."""
    with sync_playwright() as playwright:
        # The system's own where there is one, else Playwright's.
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = chromium.new_page(base_url=server.url, locale="en-GB")
        page.set_default_timeout(PAGE_WAIT_MS)
        page.on("console", lambda said: faults.extend([said.text] if said.type in COMPLAINTS else []))
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
        chromium.close()


def log_in(page: Page, email: str, password: str) -> None:
    page.goto(reverse("admin:login"))
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def new_person(role: str, organization: Organization | None = None) -> tuple[str, str]:
    user, password = create_user(
        email=f"{role}-{uuid4().hex[:8]}@example.com", role=role, organization=organization, acting="tests"
    )
    return user.email, password


def test_finance_lowers_a_cap(organization: Organization, server: Server) -> None:
    account = month_account(organization)
    saved = f"Saved: the cap of {account} is 250.75\N{NO-BREAK SPACE}€ now."
    email, password = new_person("finance", organization)
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        page.get_by_role("link", name="Months' budgets").first.click()
        page.locator("#result_list tbody").get_by_role("link").first.click()
        page.get_by_label("Cap").fill("250.75")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Please give a reason for the change.")).to_be_visible()
        page.get_by_label("Reason").fill("the quarter is nearly over")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text(saved)).to_be_visible()
    assert faults == []
    assert month_account(organization).cap_eur == Decimal("250.75")
    entry = last_audit_entry(organization, "budget.cap_changed")
    assert (entry.actor, entry.reason) == (email, "the quarter is nearly over")


def test_finance_lowers_a_cap_in_the_list_and_raises_it_again(
    organization: Organization, server: Server, api: httpx2.Client
) -> None:
    account = str(month_account(organization))
    email, password = new_person("finance", organization)
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        page.get_by_role("link", name="Months' budgets").first.click()
        cap = page.get_by_label(f"Cap of {account}")
        expect(cap).to_have_value("1000.00")
        cap.fill("0.000001")
        page.get_by_role("button", name="Save caps").click()
        expect(page.get_by_text("Please give a reason for the change.").first).to_be_visible()
        expect(cap).to_have_value("0.000001")
        page.get_by_label("Reason").fill("too dear")
        page.get_by_label("Reason").press("Enter")
        expect(page.get_by_text(f"Saved: the cap of {account} is 0.000001")).to_be_visible()
        assert api.post("/api/v1/completions", json=ASKED).status_code == 402

        cap.fill("lots")
        page.get_by_label("Reason").fill("approved")
        page.get_by_role("button", name="Save caps").click()
        expect(page.get_by_text(f"{account}: “lots” is no amount")).to_be_visible()
        cap.fill("1,150.50")
        page.get_by_role("button", name="Save caps").click()
        expect(page.get_by_text(f"Saved: the cap of {account} is 1,150.50")).to_be_visible()
        assert api.post("/api/v1/completions", json=ASKED).status_code == 200
    assert faults == []
    entry = last_audit_entry(organization, "budget.cap_changed")
    assert (entry.actor, entry.reason) == (email, "approved")
    assert (entry.before, entry.after) == ({"cap_eur": "0.000001"}, {"cap_eur": "1150.50"})


@pytest.fixture
def crowded(server: Server, api: httpx2.Client, organization: Organization) -> Iterator[Organization]:
    """An organization with names and amounts as long as they come."""
    Organization.objects.filter(pk=organization.pk).update(
        name=f"{organization.name} Forschung und Entwicklung Automatisierungstechnik GmbH & Co. KG"
    )
    organization.refresh_from_db()
    account = month_account(organization)
    set_month_cap(account=account, cap_eur=Decimal("123456.789"), acting="the tests", reason="x")
    whose = {"user": "maria.mustermann-schmidt@long.example.com", "use_case": "u" * 60}
    assert api.post("/api/v1/completions", json={**ASKED, **whose}).status_code == 200
    hold_id = in_server(server, reserve(charge_of(organization, **whose), "12345.678901234", lifetime_s=3600))
    yield organization
    in_server(server, ledger.void(hold_id=hold_id))


WIDTHS = (1280, 390)
OVERFLOW = """[document.documentElement, ...document.querySelectorAll('.simplebar-content-wrapper')]
    .some(part => part.scrollWidth > part.clientWidth + 1)"""


def test_no_page_of_the_budgets_runs_over_its_side(crowded: Organization, server: Server) -> None:
    email, password = new_person("finance", crowded)
    pages = [reverse("admin:index"), *map(list_page, (BudgetAccount, CostRecord, Hold, FxRate))]
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        for address in pages:
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(address)
                assert page.evaluate(OVERFLOW) is False, (address, width)
    assert faults == []


def test_a_list_of_many_pages_fits_a_telephone(organization: Organization, server: Server) -> None:
    write_history(organization, days=25, calls_a_day=40)
    email, password = new_person("finance", organization)
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        page.set_viewport_size({"width": 400, "height": 900})
        page.set_extra_http_headers({"Accept-Language": "de"})
        for model in (CostRecord, Decision):
            page.goto(f"{list_page(model)}?p=9")
            expect(page.get_by_role("link", name="8", exact=True)).to_be_visible()
            expect(page.locator(".list-downloads")).to_be_visible()
            assert page.evaluate(OVERFLOW) is False, model
    assert faults == []


def test_the_home_page_shows_this_month_and_leads_to_it(crowded: Organization, server: Server) -> None:
    email, password = new_person("auditor", crowded)
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        row = page.get_by_role("row").filter(has_text=crowded.name)
        expect(row).to_contain_text("12,345.68")
        expect(row.get_by_role("progressbar")).to_be_visible()
        expect(row).to_contain_text("10\N{NO-BREAK SPACE}%")
        row.get_by_role("link").click()
        expect(page.get_by_text("123,456.789")).to_be_visible()
    assert faults == []


@pytest.fixture
def addresses(server: Server) -> Iterator[list[str]]:
    """Every kind of page of the admin."""
    organization = create_organization(name=f"Browsed {uuid4().hex[:8]}", acting="the tests")
    rows = fill(organization, server)
    rows |= {FxRate: FxRate.objects.earliest("id"), Price: Price.objects.earliest("id")}
    found = [reverse("admin:index"), reverse("admin:password_change"), "/admin/budgets/fxrate/import-ecb/"]
    found += [list_page(model) for model in admins()] + [add_page(model) for model in ADDED]
    found += [change_page(row) for row in rows.values()]
    found += [change_page(rows[m]).replace("/change/", f"/{button}/") for m, button in BUTTONS.items()]
    yield found
    in_server(server, ledger.void(hold_id=rows[Hold].pk))


def test_no_page_has_an_error_or_breaks_the_content_policy(addresses: list[str], server: Server) -> None:
    email, password = new_person("operator")
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        for address in addresses:
            response = page.goto(address)
            assert response is not None and response.status == 200, address
            assert faults == [], address
