"""The month's statement: its figures are the ledger's, on paper and in the workbook, in both languages."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import openpyxl
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.translation import override
from pypdf import PdfReader

from aigov import clock
from aigov.money import ZERO
from aigov.organizations.changes import change_organization
from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from aigov.organizations.tenant_admin import euro, instant
from budgets.accounts import open_month
from budgets.closing import close_month, reopen_month
from budgets.corrections import post_correction
from budgets.models import LATE_ANSWER, BudgetAccount, CostRecord
from budgets.statement import figures
from budgets.statement.figures import Statement, statement
from budgets.statement.pdf import statement_pdf
from budgets.statement.sections import facts_of, sections_of
from tests.admin_world import as_role, logged_in, person, text_of
from tests.alerts_world import costs
from tests.conftest import month_account
from tests.ledger_world import approved, last_month
from tests.random_ledgers import correct_by_hand, event_loop, play

REASON = "the bill says otherwise"


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """A client of these tests leaves its language behind."""
    with override("en"):
        yield


@pytest.fixture(scope="module")
def busy() -> Iterator[Organization]:
    organization = create_organization(name="Müller & Söhne Vertriebs-GmbH", acting="the tests")
    with event_loop() as loop:
        loop.run(play(organization, seed=7, calls=60))
    record = CostRecord.objects.filter(organization=organization).earliest("id")
    correct_by_hand(organization, "-0.000000007", corrects=record)
    correct_by_hand(organization, "1.23", late=True)
    yield organization


def page(account: BudgetAccount, file: str) -> str:
    return (
        f"{reverse('admin:budgets_budgetaccount_change', args=[account.pk]).removesuffix('change/')}{file}/"
    )


def text_of_pdf(content: bytes) -> str:
    """Its words, with one space between them."""
    return " ".join(" ".join(sheet.extract_text() for sheet in PdfReader(BytesIO(content)).pages).split())


def content_of(response: Any) -> bytes:
    assert response.status_code == 200, response
    content: bytes = b"".join(response.streaming_content)
    return content


def in_words(amount: Decimal, places: int = 2) -> str:
    return euro(amount, places=places).replace("\N{NO-BREAK SPACE}", " ")


def test_every_breakdown_adds_up_to_what_is_spent(busy: Organization) -> None:
    account = month_account(busy)
    month = statement(account)
    for amounts in (month.days, month.use_cases, month.models):
        assert sum((amount.cost_eur for amount in amounts), ZERO) == account.spent_eur
    assert month.balance.held_eur == account.held_eur > 0
    assert sum(day.records for day in month.days) == CostRecord.objects.filter(organization=busy).count()


def test_corrections_late_entries_estimates_and_rates_are_named(busy: Organization) -> None:
    month = statement(month_account(busy))
    first, second = month.corrections.listed
    assert (first.cost_eur, first.reason, first.corrects_id is not None) == (
        Decimal("-0.000000007"),
        REASON,
        True,
    )
    assert (second.cost_eur, second.corrects_id, second.asked_by) == (
        Decimal("1.23"),
        None,
        "finance@example.com",
    )
    assert [entry.id for entry in month.late.listed] == [second.id]
    records = CostRecord.objects.filter(organization=busy)
    by_itself = sum((record.cost_eur for record in records.filter(reason=LATE_ANSWER)), ZERO)
    assert (month.by_itself.cost_eur, month.by_itself.records > 0) == (by_itself, True)
    assert month.estimated.records == records.filter(estimated=True).count()
    (rate,) = month.rates
    assert rate.cost_eur == account_sum(records.filter(request=None))


def account_sum(records: Any) -> Decimal:
    return sum((record.cost_eur for record in records), ZERO)


def test_a_correction_after_the_month_counts_on_its_last_day_and_the_note_says_so(
    organization: Organization,
) -> None:
    first, amount_eur = last_month(organization), Decimal("0.5")
    open_month(organization=organization, month=first)
    request = approved(organization, "correction", first, amount_eur=amount_eur)
    post_correction(
        **{"organization": organization, "month": first, "amount_eur": amount_eur, "request": request},
        **{"corrects": None, "reason": REASON, "acting": "the tests"},
    )
    month = statement(BudgetAccount.objects.get(organization=organization, month=first, scope="organization"))
    last = clock.next_month(first) - timedelta(days=1)
    assert [tuple(day.of) for day in month.days] == [(last,)]
    assert [entry.day for entry in month.corrections.listed] == [last]
    (section,) = [section for section in sections_of(month) if section.title == "Corrections"]
    assert section.note.endswith("those that were posted after the end of the month, on its last day.")


def test_many_corrections_end_in_one_line(busy: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LISTED_MAX", 1)
    month = statement(month_account(busy))
    others = month.corrections.others
    assert (len(month.corrections.listed), others.records, others.cost_eur) == (1, 1, Decimal("1.23"))
    (section,) = [section for section in sections_of(month) if section.title == "Corrections"]
    assert "1 further one" in [row[1] for row in section.rows]
    assert section.total is not None
    assert sum(row[-1] for row in section.rows) == section.total[-1]


def test_a_closed_months_days_stay_and_it_says_who_closed_it(organization: Organization) -> None:
    """Its calls are of the first second of their day in Berlin: further west, of the day before."""
    first = last_month(organization)
    days = {first + timedelta(days=at): Decimal(at) for at in (1, 9, 20)}
    costs(organization, days)
    account = BudgetAccount.objects.get(organization=organization, month=first)
    change: dict[str, Any] = {"acting": "the tests", "reason": "moved", "name": organization.name}
    assert dict(facts_of(statement(account)))["Closed"] == "not yet"
    close_month(organization=organization, month=first, acting="finance@example.com", reason="no bill")
    change_organization(organization=organization, time_zone="America/Los_Angeles", **change)

    after = statement(account)
    assert {day.of[0]: day.cost_eur for day in after.days} == days
    facts = dict(facts_of(after))
    assert facts["Time zone"] == "Europe/Berlin"
    assert after.close is not None
    assert facts["Closed"] == f"{instant(after.close.closed_at)}, by finance@example.com"
    for file_format in ("pdf", "xlsx"):
        assert content_of(as_role("auditor", organization).get(page(account, f"statement.{file_format}")))

    asked = approved(organization, "reopening", first)
    reopen_month(organization=organization, month=first, request=asked, acting="the tests")
    assert first in {day.of[0] for day in statement(account).days}, "an open month has the present zone"


def test_the_statement_is_of_one_instant(busy: Organization) -> None:
    with CaptureQueriesContext(connection) as queries:
        statement(month_account(busy))
    said = [query["sql"] for query in queries]
    assert any("REPEATABLE READ" in sql for sql in said)
    assert len(said) <= 25, said


def test_on_paper_each_amount_is_to_the_cent_and_exact(busy: Organization) -> None:
    account = month_account(busy)
    content = content_of(as_role("auditor", busy).get(page(account, "statement.pdf")))
    text = text_of_pdf(content)
    for said in (busy.name, "Opening", "By day", "By use case", "By model", "Corrections", "Late entries"):
        assert said in text
    assert text.count(in_words(account.spent_eur, 9)) >= 4  # closing, and three totals
    assert in_words(account.spent_eur) in text
    assert in_words(account.cap_eur) in text
    assert "Page 1 of " in text and REASON in text and "still running" in text


def test_a_german_statement(busy: Organization) -> None:
    account = month_account(busy)
    german = logged_in(person("finance", busy), accept_language="de")
    text = text_of_pdf(content_of(german.get(page(account, "statement.pdf"))))
    with override("de"):
        assert in_words(account.spent_eur, 9) in text
        assert in_words(account.cap_eur) == "1.000,00 €"
    assert "1.000,00 €" in text


def test_an_empty_month_has_a_statement(organization: Organization) -> None:
    month = statement(month_account(organization))
    titles = [section.title for section in sections_of(month)]
    assert titles == ["Opening and closing", "By day", "By use case", "By model"]
    assert "1,000.00 €" in text_of_pdf(statement_pdf(month))
    assert ("Organization", organization.name) in facts_of(month)


def test_the_workbook_has_the_same_sections(busy: Organization) -> None:
    account = month_account(busy)
    content = content_of(as_role("finance", busy).get(page(account, "statement.xlsx")))
    book = openpyxl.load_workbook(BytesIO(content))
    month: Statement = statement(account)
    assert book.sheetnames == ["Statement", *(section.title for section in list(sections_of(month))[1:])]
    summary = dict(book["Statement"].iter_rows(values_only=True))
    assert summary["Spent"] == float(account.spent_eur)
    for name in ("By day", "By use case", "By model"):
        *rows, total = list(book[name].iter_rows(min_row=2, values_only=True))
        assert total[-1] == float(account.spent_eur)
        assert len(rows) >= 1
    assert "=u-2" not in book.sheetnames


def test_the_buttons_are_on_the_months_page(busy: Organization) -> None:
    account = month_account(busy)
    client = as_role("manager", busy)
    shown = text_of(client.get(reverse("admin:budgets_budgetaccount_change", args=[account.pk])))
    for file in ("statement.pdf", "statement.xlsx", "focus.csv"):
        assert page(account, file) in shown
    focus = client.get(page(account, "focus.csv"))
    assert focus.headers["location"].startswith(reverse("kpis:focus"))
    assert client.get(focus.headers["location"]).status_code == 200
    of_use_case = BudgetAccount.objects.filter(organization=busy, scope="use_case").latest("id")
    assert client.get(page(of_use_case, "statement.pdf")).status_code == 403


def test_a_stranger_gets_no_statement(
    busy: Organization, make_organization: Callable[..., Organization]
) -> None:
    account = month_account(busy)
    for file in ("statement.pdf", "statement.xlsx", "focus.csv"):
        assert as_role("admin", make_organization()).get(page(account, file)).status_code == 403
        assert Client().get(page(account, file)).status_code == 302
