"""A day of finance, in a real browser: from the first look at the budget to the closed month's statement.

Every step is photographed in English and in German, for people to look at: the pictures are in
`.data/test/screenshots/finance_day` after the test (in `screenshots/finance_day` of `AIGOV_TEST_DATA_DIR`,
where that is set).

Providers' bills are the whole company's, and tests share a ledger. So the month that is reconciled and closed
is one that no other test has touched, years ago.

While Playwright runs, Django takes its event loop for ours and refuses queries; so what Celery does by itself
is done in a thread, and the database is asked before and after.
"""

import calendar
import csv
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import openpyxl
import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.db import connections
from django.urls import reverse
from django.utils.formats import date_format
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pypdf import PdfReader

from aigov import clock
from aigov.organizations.create import create_organization
from aigov.organizations.models import AuditEntry, Mail, Organization
from budgets import tasks
from budgets.accounts import open_month
from budgets.closing import is_closed
from budgets.models import AlertDelivery
from providers.types import Usage
from routing.tasks import notice_refusals
from tests.admin_world import logged_in, person
from tests.alerts_world import costs, today
from tests.bills_world import Call, add_to_bill, charge, noon, own_month
from tests.conftest import Sandbox, Server, month_account
from tests.test_admin_browser import ARGUMENTS, ASKED, COMPLAINTS, OVERFLOW, PAGE_WAIT_MS, log_in, new_person
from tests.test_budgets_statement import in_words

SPACE = "\N{NO-BREAK SPACE}"
PICTURES = Path(django_settings.AIGOV_DATA_DIR).parent / "screenshots" / "finance_day"
BILLED = (("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5"))
ERROR_PERCENT = 3
FILES = ("Statement (PDF)", "Statement (XLSX)", "FOCUS file")


@dataclass
class Desk:
    """Where a person works, in English, and looks at the same pages in German."""

    english: Page
    german: Page
    numbers: Iterator[int]

    def photograph(self, name: str) -> None:
        number = next(self.numbers)
        self.german.context.add_cookies(self.english.context.cookies())  # type: ignore[arg-type]
        self.german.goto(self.english.url)
        for language, page in (("en", self.english), ("de", self.german)):
            assert page.locator("html").get_attribute("lang") == language
            assert page.evaluate(OVERFLOW) is False, (name, language)
            page.screenshot(path=PICTURES / f"{number:02}-{name}-{language}.png", full_page=True)

    def go_to(self, title: str) -> None:
        """Goes to a page by the sidebar."""
        self.english.locator("#nav-sidebar-inner").get_by_role("link", name=title).first.click()

    def press(self, name: str) -> None:
        self.english.get_by_role("button", name=name, exact=True).click()

    def download(self, name: str, folder: Path) -> Path:
        with self.english.expect_download() as expected:
            self.english.get_by_role("link", name=name).click()
        path = folder / expected.value.suggested_filename
        expected.value.save_as(path)
        return path


@dataclass
class Office:
    """The browser that all share, and what it has complained of."""

    browser: Browser
    url: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.german, self.numbers = self._page("de-DE"), count(1)

    def desk(self) -> Desk:
        return Desk(self._page("en-GB"), self.german, self.numbers)

    def desk_of(self, session: str) -> Desk:
        """Of somebody who has logged in before."""
        desk = self.desk()
        desk.english.context.add_cookies([{"name": "sessionid", "value": session, "url": self.url}])
        desk.english.goto(reverse("admin:index"))
        return desk

    def _page(self, locale: str) -> Page:
        page = self.browser.new_page(
            base_url=self.url, locale=locale, viewport={"width": 1280, "height": 900}
        )
        page.set_default_timeout(PAGE_WAIT_MS)
        page.on("console", lambda said: self.faults.extend([said.text] if said.type in COMPLAINTS else []))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        return page


@contextmanager
def opened_office(server: Server) -> Iterator[Office]:
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    with sync_playwright() as playwright:
        # The system's own where there is one, else Playwright's.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield Office(browser, server.url)
        browser.close()


def aside(*works: Callable[[], Any]) -> None:
    """Does that in a thread, as a worker would."""

    def all_of_them() -> None:
        try:
            for work in works:
                work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(all_of_them).result()


# --- What has happened before


@pytest.fixture
def organization() -> Organization:
    return create_organization(name=f"Nordwind Logistik {uuid4().hex[:6]}", acting="the tests")


@pytest.fixture
def spent(organization: Organization) -> Decimal:
    """What this month has cost so far, after weeks of calls."""
    last = today(organization)
    days = [last - timedelta(days=at) for at in range(35)]
    by_day = {
        day: Decimal("7.15") if day.weekday() >= 5 else Decimal(f"{24 + day.day % 7}.4") for day in days
    }
    costs(organization, by_day)
    return month_account(organization).spent_eur


@pytest.fixture
def month(organization: Organization, sandbox: Sandbox, settings: Any) -> date:
    """A month that is over, and on OpenAI's bill 3 % too dear for one of its models."""
    month = own_month()
    url = settings.PROVIDERS["anthropic"]["base_url"]
    settings.BILLING = {"openai": ("sk-admin-1", f"{url}/v1"), "anthropic": ("sk-ant-admin-1", url)}
    calls = list(calls_of(organization, month))
    charge(calls)
    with httpx2.Client(base_url=url) as control:
        add_to_bill(control, calls)
    sandbox.configure(bill_faults=[{"model": "gpt-4o", "percent": ERROR_PERCENT}])
    return month


def session_of(role: str, organization: Organization | None = None) -> str:
    return logged_in(person(role, organization)).cookies["sessionid"].value


def calls_of(organization: Organization, month: date) -> Iterator[Call]:
    for day in range(calendar.monthrange(month.year, month.month)[1]):
        for provider, model in BILLED:
            usage = Usage(input_total=900_000 + 37_000 * day, output_total=120_000)
            yield Call(organization, noon(month + timedelta(days=day)), provider, model, "standard", usage)


@pytest.fixture(autouse=True)
def no_other_mail() -> None:
    """What other tests have left on its way is not sent here."""
    Mail.objects.all().delete()
    later = clock.now() + timedelta(days=365)
    AlertDelivery.objects.filter(state="pending").update(next_try_at=later)


# --- The day


def test_a_day_of_finance(
    organization: Organization,
    spent: Decimal,
    month: date,
    api: httpx2.Client,
    server: Server,
    tmp_path: Path,
) -> None:
    account = str(month_account(organization))
    old = open_month(organization=organization, month=month)
    email, password = new_person("finance", organization)
    colleague, operator = session_of("admin", organization), session_of("operator")
    with opened_office(server) as office:
        desk = office.desk()
        log_in(desk.english, email, password)
        see_the_state(desk, organization, spent)
        lower_the_cap(desk, account, spent, api)
        find_the_alerts(desk, organization, email)
        ask_for_a_raise(desk, account)
        approve(office.desk_of(colleague), organization, api)
        reconcile(office.desk_of(operator), month)
        close(desk, organization, month)
        files = [desk.download(name, tmp_path) for name in FILES]
    assert office.faults == []
    assert is_closed(organization.pk, month)
    check_files(files, old.spent_eur)
    told = AuditEntry.objects.filter(organization=organization).values_list("action", "actor")
    assert {("budget.cap_changed", email), ("budget.month_closed", email)} <= set(told)


def see_the_state(desk: Desk, organization: Organization, spent: Decimal) -> None:
    row = desk.english.get_by_role("row").filter(has_text=organization.name)
    expect(row).to_contain_text(f"1,000.00{SPACE}€")
    expect(row).to_contain_text(f"{spent:.2f}{SPACE}€")
    expect(row).to_contain_text(f"{1000 - spent:.2f}{SPACE}€")
    desk.photograph("the-state-of-the-month")


def lower_the_cap(desk: Desk, account: str, spent: Decimal, api: httpx2.Client) -> None:
    """To less than what is spent: the next call is refused."""
    cap = f"{spent - 2:.0f}"
    assert api.post("/api/v1/completions", json=ASKED).status_code == 200
    desk.go_to("Months' budgets")
    desk.english.get_by_label(f"Cap of {account}").fill(cap)
    desk.english.get_by_label("Reason").fill("Nothing more until we know what the campaign has cost.")
    desk.press("Save caps")
    expect(desk.english.get_by_text(f"Saved: the cap of {account} is {cap}.00")).to_be_visible()
    desk.photograph("the-cap-is-lowered")
    refused = api.post("/api/v1/completions", json=ASKED)
    assert (refused.status_code, refused.json()["error"]["type"]) == (402, "budget_exceeded")


def find_the_alerts(desk: Desk, organization: Organization, email: str) -> None:
    aside(tasks.evaluate_alerts, notice_refusals, tasks.deliver_alerts)
    subjects = [message.subject for message in mail.outbox if message.to == [email]]
    assert any(organization.name in subject for subject in subjects), subjects
    desk.english.goto(reverse("admin:index"))
    desk.photograph("the-home-page-with-alerts")
    desk.go_to("Alerts")
    for subject in subjects:
        expect(desk.english.get_by_text(subject).first).to_be_visible()
    desk.photograph("the-alerts")


def ask_for_a_raise(desk: Desk, account: str) -> None:
    desk.go_to("Months' budgets")
    desk.english.get_by_label(f"Cap of {account}").fill("1,500")
    desk.english.get_by_label("Reason").fill("The campaign goes on; sales pay for it.")
    desk.press("Save caps")
    expect(desk.english.get_by_text("Sent as a request")).to_be_visible()
    desk.go_to("Requests")
    desk.photograph("the-requests")


def approve(desk: Desk, organization: Organization, api: httpx2.Client) -> None:
    expect(desk.english.get_by_text("One request waits for you.")).to_be_visible()
    desk.english.get_by_text("One request waits for you.").click()
    desk.english.locator("#result_list tbody").get_by_role("link").first.click()
    desk.photograph("the-request")
    desk.english.get_by_role("link", name="Approve").click()
    desk.english.get_by_label("Reason").fill("Agreed with sales.")
    desk.press("Approve")
    expect(desk.english.get_by_text("Approved: ").first).to_be_visible()
    desk.photograph("approved")
    assert api.post("/api/v1/completions", json=ASKED).status_code == 200


def reconcile(desk: Desk, month: date) -> None:
    page = desk.english
    page.goto(f"{reverse('reconciliation')}?month={month:%Y-%m}")
    page.get_by_role("link", name="Read the bill").click()
    desk.press("Read the bill")
    expect(page.get_by_role("row").filter(has_text="Anthropic")).to_contain_text("agrees")
    openai = page.get_by_role("row").filter(has_text="OpenAI")
    expect(openai).to_contain_text("differs")
    desk.photograph("the-bills-are-read")
    openai.get_by_role("link").click()
    models = page.locator(".bill-table").first.get_by_role("row")
    wrong = models.filter(has_text="differs")
    expect(wrong).to_have_count(1)
    expect(wrong.get_by_role("rowheader")).to_have_text("gpt-4o")
    expect(wrong).to_contain_text(f"+{100 * ERROR_PERCENT / (100 + ERROR_PERCENT):.2f}{SPACE}%")
    desk.photograph("the-error-is-found")
    page.get_by_role("link", name="Accept as it is").click()
    page.get_by_label("Reason").fill("OpenAI has promised a credit note.")
    desk.photograph("the-difference-is-accepted")
    desk.press("Accept as it is")
    expect(page.get_by_text("OpenAI has promised a credit note.")).to_be_visible()
    desk.photograph("the-bill-agrees")


def close(desk: Desk, organization: Organization, month: date) -> None:
    page = desk.english
    desk.go_to("Month close")
    page.get_by_role("link", name=date_format(month, "YEAR_MONTH_FORMAT")).click()
    expect(page.locator(".checklist .is-met")).to_have_count(5)
    desk.photograph("ready-to-be-closed")
    page.get_by_role("link", name="Close the month").click()
    page.get_by_label("Reason").fill("All bills are in.")
    desk.press("Close the month")
    expect(page.get_by_text("All bills are in.")).to_be_visible()
    desk.photograph("closed")


def check_files(files: list[Path], spent: Decimal) -> None:
    """Each of them adds up to what the month has cost."""
    paper, workbook, focus = files
    sheets = PdfReader(paper).pages
    text = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    assert in_words(spent, 9) in text
    book = openpyxl.load_workbook(workbook)
    for name in ("By day", "By use case", "By model"):
        assert Decimal(repr(list(book[name].values)[-1][-1])) == spent, name
    with focus.open(encoding="utf-8-sig", newline="") as lines:
        assert sum(Decimal(line["BilledCost"]) for line in csv.DictReader(lines)) == spent
