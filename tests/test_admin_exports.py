"""The lists of the admin as files: the rows and values of the screen, and nobody else's."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any
from uuid import uuid4

import httpx2
import openpyxl
import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.text import capfirst

from aigov import clock, spreadsheets
from aigov.organizations import exports, tasks
from aigov.organizations.create import create_organization
from aigov.organizations.models import AuditEntry, Export, ExportState, Organization, User
from aigov.organizations.tenant_admin import count
from budgets import ledger
from budgets.corrections import post_correction
from budgets.models import BudgetAccount, CostRecord, Hold
from kpis.models import DigestSubscription
from routing.models import Decision
from tests.admin_world import admins, as_role, fill, in_server, list_page, logged_in, person, text_of
from tests.conftest import Server
from tests.ledger_world import approved, this_month

Ours = tuple[Organization, Mapping[type[Model], Model]]


@pytest.fixture(scope="module")
def ours(server: Server) -> Iterator[Ours]:
    organization = create_organization(name=f"Exports {uuid4().hex[:8]}", acting="the tests")
    rows = fill(organization, server)
    yield organization, rows
    in_server(server, ledger.void(hold_id=rows[Hold].pk))


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list with a row is made in the background."""
    monkeypatch.setattr(exports, "DIRECT_ROWS_MAX", 0)


def file_of(client: Client, model: type[Model], query: str = "", file_format: str = "csv") -> bytes:
    response = client.get(f"{list_page(model)}export/{file_format}/{query}")
    assert response.status_code == 200, response
    content: bytes = b"".join(response.streaming_content)
    return content


def lines_of(content: bytes, separator: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator))


def shown(client: Client, model: type[Model], query: str = "") -> Any:
    return client.get(list_page(model) + query).context["cl"]


def test_every_list_has_its_files_beside_it(ours: Ours) -> None:
    client = as_role("admin", ours[0])
    for model in ours[1]:
        if client.get(list_page(model)).status_code == 200:
            page = text_of(client.get(f"{list_page(model)}?q=x&p=1"))
            assert 'href="export/csv/?q=x"' in page, model
            assert 'href="export/xlsx/?q=x"' in page, model


#: An operator has no e-mails of others to look at.
LISTS = [model for model in admins() if model not in (User, DigestSubscription)]


@pytest.mark.parametrize("model", LISTS, ids=str)
def test_a_file_has_the_rows_and_the_columns_of_its_screen(model: type[Model], ours: Ours) -> None:
    client = as_role("operator")
    seen = shown(client, model, f"?q={ours[0].name}" if model is BudgetAccount else "")
    lines = lines_of(file_of(client, model, f"?q={ours[0].name}" if model is BudgetAccount else ""))
    assert len(lines) == seen.result_count
    assert len(lines[0]) >= len(seen.list_display) - 1  # of them, one is the box by which rows are chosen
    assert None not in lines[0], "a row has more cells than the header"


def test_money_is_exact_and_a_number(ours: Ours) -> None:
    record = ours[1][CostRecord]
    line = lines_of(file_of(as_role("finance", ours[0]), CostRecord))[-1]
    assert Decimal(line["Cost"]) == record.cost_eur  # type: ignore[attr-defined]
    assert re.fullmatch(r"\d+\.\d{9}", line["Cost"])
    assert (line["Use case"], line["User"], line["Tier"]) == ("lead", "u-1", "small")
    sheet = openpyxl.load_workbook(
        BytesIO(file_of(as_role("finance", ours[0]), CostRecord, "", "xlsx"))
    ).active
    titles = [cell.value for cell in sheet[1]]
    cell = sheet.cell(sheet.max_row, titles.index("Cost") + 1)
    assert (cell.data_type, cell.value) == ("n", float(record.cost_eur))  # type: ignore[attr-defined]


def test_what_others_wrote_is_whole_and_no_formula(make_organization: Callable[..., Organization]) -> None:
    organization, written = make_organization(), '=HYPERLINK("http://evil") <img src=x> &lt; 2'
    month, amount_eur = this_month(organization), Decimal("0.5")
    request = approved(organization, "correction", month, amount_eur=amount_eur)
    post_correction(
        **{"organization": organization, "month": month, "amount_eur": amount_eur, "request": request},
        **{"corrects": None, "reason": written, "acting": "the tests"},
    )
    client = as_role("finance", organization)
    (line,) = lines_of(file_of(client, CostRecord))
    assert line["Remark"] == f"'{written}"
    sheet = openpyxl.load_workbook(BytesIO(file_of(client, CostRecord, "", "xlsx"))).active
    titles = [cell.value for cell in sheet[1]]
    cell = sheet.cell(2, titles.index("Remark") + 1)
    assert (cell.data_type, cell.value) == ("s", written)


def test_a_months_budget_as_the_list_says_it(ours: Ours) -> None:
    account = BudgetAccount.objects.get(organization=ours[0], scope="organization")
    lines = lines_of(file_of(as_role("finance", ours[0]), BudgetAccount, "?scope__exact=organization"))
    (line,) = lines
    assert line["Month"] == account.month.isoformat()
    assert (line["Organization"], line["User or use case"]) == (ours[0].name, "")
    left = account.cap_eur - account.spent_eur - account.held_eur
    figures = [Decimal(line[title]) for title in ("Cap", "Spent", "Held", "Left", "Used up")]
    assert figures == [account.cap_eur, account.spent_eur, account.held_eur, left, Decimal(0)]


def test_a_german_gets_a_german_file(ours: Ours) -> None:
    client = logged_in(person("finance", ours[0]), accept_language="de")
    content = file_of(client, BudgetAccount, "?scope__exact=organization")
    (line,) = lines_of(content, ";")
    assert "1000,000000000" in line.values()


def test_filters_search_and_order_are_those_of_the_screen(ours: Ours) -> None:
    client = as_role("finance", ours[0])
    for query in ("?scope__exact=user", "?q=lead", "?o=3.-4", "?in_month=1999-01", "?organization=0"):
        seen = [str(row.subject) for row in shown(client, BudgetAccount, query).result_list]
        assert [line["User or use case"] for line in lines_of(file_of(client, BudgetAccount, query))] == seen


def test_a_stranger_gets_no_row_of_ours(ours: Ours, make_organization: Callable[..., Organization]) -> None:
    stranger = as_role("admin", make_organization())
    for model in ours[1]:
        response = stranger.get(f"{list_page(model)}export/csv/?q={ours[0].name}")
        if response.status_code == 200:
            assert ours[0].name not in b"".join(response.streaming_content).decode()
        else:
            assert response.status_code == 403
    assert Client().get(f"{list_page(CostRecord)}export/csv/").status_code == 302
    assert as_role(None).get(f"{list_page(CostRecord)}export/csv/").status_code == 403


def test_what_a_list_does_not_answer_its_file_does_not_either(ours: Ours) -> None:
    client = as_role("operator")
    assert client.get(f"{list_page(User)}export/csv/?password__startswith=a").status_code == 302
    assert client.get(f"{list_page(User)}export/csv/?is_active__exact=perhaps").status_code == 302
    assert client.get(f"{list_page(User)}export/pdf/").status_code == 404


def test_no_text_of_a_user_is_a_formula(ours: Ours, server: Server, make_client: Any) -> None:
    api: httpx2.Client = make_client(ours[0])
    asked = {"messages": [{"role": "user", "content": "[[confidence:0.9]] hi"}], "use_case": "=1+1"}
    assert api.post("/api/v1/completions", json=asked).status_code == 200
    lines = lines_of(file_of(as_role("finance", ours[0]), Decision))
    assert "'=1+1" in [line["Use case"] for line in lines]


def test_a_file_costs_the_same_queries_whatever_its_length(ours: Ours) -> None:
    client = as_role("operator")
    for model in (CostRecord, BudgetAccount, AuditEntry, Decision):
        with CaptureQueriesContext(connection) as queries:
            lines = lines_of(file_of(client, model))
        # session, person, count, the page (which the list reads anyway), and all rows
        assert len(queries) <= 6, (model, len(lines), [query["sql"][:100] for query in queries])


def test_a_file_is_sent_over_http_while_it_is_made(ours: Ours, server: Server) -> None:
    """Under ASGI, in the request's thread, with the connection that has the rows' cursor."""
    client = as_role("finance", ours[0])
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    cookies = {settings.SESSION_COOKIE_NAME: cookie}
    with httpx2.Client(base_url=server.url, cookies=cookies, timeout=30) as browser:
        for file_format, begins in (("csv", b"\xef\xbb\xbf"), ("xlsx", b"PK")):
            response = browser.get(f"{list_page(CostRecord)}export/{file_format}/")
            assert response.status_code == 200
            assert response.content.startswith(begins)
            assert response.headers["content-disposition"].startswith('attachment; filename="cost-records-')


# --- In the background


def asked_for(client: Client, model: type[Model], file_format: str = "csv", query: str = "") -> Any:
    return client.post(f"{list_page(model)}export/{file_format}/{query}")


def test_a_long_list_is_made_in_the_background(ours: Ours, few_at_once: None) -> None:
    client = as_role("finance", ours[0])
    page = client.get(f"{list_page(BudgetAccount)}export/csv/?scope__exact=organization")
    assert "It has 1 rows" in text_of(page)
    sent = asked_for(client, BudgetAccount, "csv", "?scope__exact=organization")
    assert sent.headers["location"] == reverse("exports")
    waiting = text_of(client.get(reverse("exports")))
    assert 'http-equiv="refresh"' in waiting and "Waiting" in waiting
    assert tasks.make_exports() >= 1
    ready = text_of(client.get(reverse("exports")))
    assert 'http-equiv="refresh"' not in ready and "1 of 1 rows" in ready
    address = re.search(r'href="(/admin/exports/[^"]+/file/)"', ready)
    assert address
    response = client.get(address[1])
    (line,) = lines_of(b"".join(response.streaming_content))
    assert line["Organization"] == ours[0].name
    assert as_role("operator").get(address[1]).status_code == 404


def test_a_long_xlsx_comes_whole(ours: Ours, few_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "CHUNK_BYTES", 1_000)
    monkeypatch.setattr(exports, "CHUNK_BYTES", 1_500)
    user = person("finance", ours[0])
    asked_for(logged_in(user), CostRecord, "xlsx")
    tasks.make_exports()
    export = user.exports.get()
    assert export.chunks.count() > 3
    sheet = openpyxl.load_workbook(BytesIO(b"".join(exports.content(export)))).active
    assert sheet.max_row - 1 == export.rows_total == export.rows_done


def test_the_file_has_what_its_reader_may_see_when_it_is_made(ours: Ours, few_at_once: None) -> None:
    user = person("finance", ours[0])
    asked_for(logged_in(user), CostRecord)
    user.memberships.all().delete()
    tasks.make_exports()
    export = user.exports.get()
    assert (export.state, export.chunks.count()) == (ExportState.FAILED, 0)
    assert "Failed" in text_of(logged_in(user).get(reverse("exports")))


def test_one_person_waits_for_a_few_files_at_most(ours: Ours, few_at_once: None) -> None:
    user = person("finance", ours[0])
    client = logged_in(user)
    for _ in range(exports.OPEN_EXPORTS_MAX):
        assert asked_for(client, CostRecord).status_code == 302
    assert "You are waiting for other files" in text_of(asked_for(client, CostRecord))
    assert user.exports.count() == exports.OPEN_EXPORTS_MAX
    tasks.make_exports()


def a_waiting_export(user: User, **more: Any) -> Export:
    now = clock.now()
    given: dict[str, Any] = {"list_name": "budgets.costrecord", "file_format": "csv", "language": "en"}
    return Export.objects.create(
        user=user, **{**given, "rows_total": 1, "created_at": now, "changed_at": now, **more}
    )


def test_only_one_is_made_at_a_time_and_a_silent_one_is_given_up(ours: Ours) -> None:
    user = person("finance", ours[0])
    running = a_waiting_export(user, state=ExportState.RUNNING)
    waiting = a_waiting_export(user)
    assert tasks.make_exports() == 0
    Export.objects.filter(pk=running.pk).update(changed_at=clock.now() - exports.SILENT_FOR_MAX * 2)
    assert tasks.make_exports() >= 1
    states = {export.pk: export.state for export in user.exports.all()}
    assert (states[running.pk], states[waiting.pk]) == (ExportState.FAILED, ExportState.DONE)


def test_a_file_is_kept_for_a_day(ours: Ours) -> None:
    user = person("finance", ours[0])
    old = a_waiting_export(user, state=ExportState.DONE, created_at=clock.now() - timedelta(days=2))
    old.chunks.create(number=0, content=b"x")
    new = a_waiting_export(user, state=ExportState.DONE)
    assert tasks.forget_exports() >= 2
    assert list(user.exports.all()) == [new]


def test_the_page_says_how_far_a_file_is(ours: Ours) -> None:
    user = person("finance", ours[0])
    export = a_waiting_export(user, state=ExportState.DONE, rows_total=200_000, rows_done=50_000)
    page = text_of(logged_in(user).get(reverse("exports")))
    assert f"{count(50_000)} of {count(200_000)} rows" in page
    assert 'aria-valuenow="25"' in page
    assert capfirst(str(export.get_state_display())) in page
