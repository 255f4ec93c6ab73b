"""The same number everywhere: whatever has happened to an organization's charges, every place that says what
the month has cost says the same.

A place is a way to ask for the month's cost as people or programs see it; all of them agree to the nano-euro.
"""

import csv
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import httpx2
import openpyxl
import pytest
from django.test import Client
from django.urls import reverse
from django.utils.formats import sanitize_separators
from django.utils.translation import override
from pypdf import PdfReader

from aigov.money import euro_for_people
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.models import BudgetAccount, CostRecord
from routing.models import Decision
from tests.admin_world import as_role, change_page, list_page, text_of
from tests.conftest import month_account
from tests.random_ledgers import correct_by_hand, event_loop, play


class Asked:
    """Who asks: finance with a browser, and a service with a key, of one organization."""

    def __init__(self, organization: Organization, client: Client, api: httpx2.Client) -> None:
        self.organization, self.client, self.api = organization, client, api

    @property
    def account(self) -> BudgetAccount:
        return month_account(self.organization)

    def file(self, address: str) -> bytes:
        response: Any = self.client.get(address)
        assert response.status_code == 200, (address, response)
        return b"".join(response.streaming_content)


Place = Callable[[Asked], Decimal]


def ledger_account(asked: Asked) -> Decimal:
    return asked.account.spent_eur


def api_budget(asked: Asked) -> Decimal:
    return Decimal(asked.api.get("/api/v1/budget").raise_for_status().json()["spent_eur"])


def admin_page(asked: Asked) -> Decimal:
    page = text_of(asked.client.get(change_page(asked.account)))
    return _shown(page, r"Spent.*?(-?[\d.,]+\d)\xa0€")


def admin_list(asked: Asked) -> Decimal:
    """The list shows it rounded, and all of it in the tooltip."""
    page = text_of(asked.client.get(f"{list_page(BudgetAccount)}?scope__exact=organization"))
    return _shown(page, r'field-spent_euro[^>]*>\s*<span title="(-?[\d.,]+)\xa0€')


def _shown(page: str, pattern: str) -> Decimal:
    found = re.search(pattern, page, re.S)
    assert found, page
    with override("en"):
        return Decimal(sanitize_separators(found[1]))


def csv_of_budgets(asked: Asked) -> Decimal:
    (line,) = _lines(asked, f"{list_page(BudgetAccount)}export/csv/?scope__exact=organization")
    return Decimal(line["Spent"])


def csv_of_records(asked: Asked) -> Decimal:
    lines = _lines(asked, f"{list_page(CostRecord)}export/csv/?in_month={asked.account.month:%Y-%m}")
    return sum((Decimal(line["Cost"]) for line in lines), Decimal(0))


def xlsx_of_records(asked: Asked) -> Decimal:
    content = asked.file(f"{list_page(CostRecord)}export/xlsx/?in_month={asked.account.month:%Y-%m}")
    titles, *rows = openpyxl.load_workbook(BytesIO(content)).active.iter_rows(values_only=True)
    at = titles.index("Cost")
    return sum((Decimal(repr(row[at])) for row in rows), Decimal(0))


def focus(asked: Asked) -> Decimal:
    month = asked.account.month
    lines = _lines(asked, f"{reverse('kpis:focus')}?from={month}&organization={asked.organization.pk}")
    return sum((Decimal(line["BilledCost"]) for line in lines), Decimal(0))


def api_key_figures(asked: Asked) -> Decimal:
    return Decimal(asked.api.get("/api/v1/kpis/summary").raise_for_status().json()["cost_eur"])


def dashboard_file(asked: Asked) -> Decimal:
    """By step of time and tier."""
    address = reverse("kpis:export", args=["overview", "cost-over-time", "csv"])
    lines = _lines(asked, f"{address}?organization={asked.organization.pk}")
    return sum((Decimal(cell or 0) for line in lines for cell in list(line.values())[1:]), Decimal(0))


def dashboard_card(asked: Asked) -> str:
    """To the cent."""
    page = text_of(asked.client.get(f"/kpis/overview/?organization={asked.organization.pk}"))
    found = re.search(r'>Cost</a></dt>\s*<dd class="value">([^<]+)<', page)
    assert found, page
    return found[1]


def statement_workbook(asked: Asked) -> Decimal:
    book = openpyxl.load_workbook(BytesIO(asked.file(_statement(asked, "xlsx"))))
    totals = {repr(list(book[name].values)[-1][-1]) for name in ("By day", "By use case", "By model")}
    (total,) = totals
    return Decimal(total)


def statement_paper(asked: Asked) -> Decimal:
    pages = PdfReader(BytesIO(asked.file(_statement(asked, "pdf")))).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    return _shown(text.replace(" €", "\xa0€"), r"Spent -?[\d.,]+\xa0€ (-?[\d.,]+)\xa0€")


def _statement(asked: Asked, file_format: str) -> str:
    return change_page(asked.account).replace("/change/", f"/statement.{file_format}/")


def _lines(asked: Asked, address: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(asked.file(address).decode("utf-8-sig"), newline="")))


PLACES: Mapping[str, Place] = {
    place.__name__: place
    for place in (
        *(ledger_account, api_budget, admin_page, admin_list, csv_of_budgets, csv_of_records),
        *(xlsx_of_records, focus, statement_workbook, statement_paper, api_key_figures, dashboard_file),
    )
}


@pytest.mark.parametrize("seed", range(2))
def test_every_place_says_the_same(
    seed: int, organization: Organization, make_client: Callable[..., httpx2.Client]
) -> None:
    with event_loop() as loop:
        loop.run(play(organization, seed=seed, calls=25))
    record = CostRecord.objects.filter(organization=organization).earliest("id")
    correct_by_hand(organization, "-0.000000001", corrects=record)
    correct_by_hand(organization, "-7.654321" if seed % 2 else "7.654321", late=bool(seed % 2))
    with override("en"):
        asked = Asked(organization, as_role("finance", organization), make_client(organization))
        said = {name: place(asked) for name, place in PLACES.items()}
        assert dashboard_card(asked) == euro_for_people(asked.account.spent_eur)
    assert set(said.values()) == {month_account(organization).spent_eur}, said
    assert ledger.differences() == []


def test_a_completion_costs_the_same_everywhere(
    organization: Organization, make_client: Callable[..., httpx2.Client]
) -> None:
    api = make_client(organization)
    asking = {"messages": [{"role": "user", "content": "[[confidence:0.9]] hello"}], "use_case": "leads"}
    answers = [api.post("/api/v1/completions", json={**asking, "cache": "off"}).json() for _ in range(3)]
    asked = Asked(organization, as_role("finance", organization), api)
    costs = sorted(Decimal(answer["cost_eur"]) for answer in answers)
    looked_up = [api.get(f"/api/v1/completions/{answer['id']}").json() for answer in answers]
    with override("en"):
        decisions = _lines(asked, f"{list_page(Decision)}export/csv/")
    assert sorted(Decimal(one["cost_eur"]) for one in looked_up) == costs
    assert sorted(Decimal(line["Cost"]) for line in decisions) == costs
    assert sum(costs) == focus(asked) == csv_of_records(asked) == ledger_account(asked)
