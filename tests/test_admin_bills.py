"""The pages of the providers' bills: who sees them, what they show, and what can be done there."""

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.translation import override

from aigov import clock
from aigov.organizations.models import Member, Organization, Role, User
from budgets.approvals import approve
from budgets.models import AcceptedDifference, ApprovalRequest, BillImport, BillLine
from budgets.reconciliation import delta
from tests.admin_world import as_role, errors_of, logged_in, person, text_of
from tests.bills_world import Maker, add_to_bill, bill, call_at, charge, noon, own_month
from tests.conftest import Sandbox

OVERVIEW = "/admin/budgets/reconciliation/"


@pytest.fixture
def month() -> date:
    return own_month()


@pytest.fixture(scope="module")
def operator() -> Client:
    return as_role("operator")


def pages(month: date) -> dict[str, bool]:
    """Each page, and whether it is one on which something is changed."""
    path, of = f"{OVERVIEW}{month:%Y-%m}", [f"{month:%Y-%m}", "openai"]
    return {
        OVERVIEW: False,
        reverse("reconciliation-provider", args=of): False,
        reverse("reconciliation-export", args=[of[0], "csv"]): False,
        reverse("reconciliation-table", args=[*of, "days", "csv"]): False,
        f"{path}/read/": True,
        f"{OVERVIEW}file/": True,
        f"{OVERVIEW}file/{waiting().pk}/": True,
        reverse("reconciliation-accept", args=of): True,
    }


def waiting() -> BillImport:
    content = b"provider,day,model,amount_usd\nopenai,2022-02-02,gpt-4o,1\n"
    return BillImport.objects.create(
        source="csv", file_name="b.csv", content=content, created_at=clock.now(), created_by="the tests"
    )


def member_everywhere(role: str) -> User:
    user = person(None)
    Member.objects.bulk_create(
        Member(user=user, organization=organization, role=role) for organization in Organization.objects.all()
    )
    return user


def statuses(client: Client, month: date) -> list[int]:
    return [client.get(address).status_code for address in pages(month)]


def test_bills_tell_of_all_organizations_so_they_are_for_those_who_see_all(
    make_organization: Maker, month: date, operator: Client
) -> None:
    organization, _other = make_organization(), make_organization()
    bill("openai", month, {"gpt-4o": "1"})
    changes = list(pages(month).values())
    assert statuses(operator, month) == [200] * len(changes)
    assert {*statuses(Client(), month)} == {302}
    for role in Role.values:
        one = as_role(role, organization)
        assert {*statuses(one, month)} == {403}
        assert OVERVIEW not in text_of(one.get(reverse("admin:index")))
    users = {role: member_everywhere(role) for role in Role.values}
    for role, allowed in {
        "finance": [200] * len(changes),
        "admin": [200] * len(changes),
        "auditor": [403 if changing else 200 for changing in changes],
        "manager": [403] * len(changes),
    }.items():
        assert statuses(logged_in(users[role]), month) == allowed, role
    everywhere = logged_in(users["finance"])
    assert OVERVIEW in text_of(everywhere.get(reverse("admin:index")))
    make_organization()
    assert {*statuses(everywhere, month)} == {403}


def test_a_bill_is_read_and_compared(
    organization: Organization, month: date, operator: Client, sandbox: Sandbox, settings: Any
) -> None:
    url = settings.PROVIDERS["anthropic"]["base_url"]
    settings.BILLING = {"openai": ("sk-admin-1", f"{url}/v1"), "anthropic": ("no", url)}
    calls = [call_at(organization, noon(month)), call_at(organization, noon(month), model="gpt-4o-mini")]
    charge(calls)
    with httpx2.Client(base_url=url) as control:
        add_to_bill(control, calls)
    sandbox.configure(bill_faults=[{"model": "gpt-4o", "percent": 3}])
    address = f"{OVERVIEW}{month:%Y-%m}/read/"
    assert errors_of(operator.post(address, {"providers": ["anthropic"]})) == {
        "providers": ["Anthropic refuses our admin key."]
    }
    shown = text_of(operator.post(address, {"providers": ["openai"]}, follow=True))
    assert "days are new or changed" in shown and "differs" in shown and "+2.75" in shown
    one = text_of(operator.get(reverse("reconciliation-provider", args=[f"{month:%Y-%m}", "openai"])))
    assert one.count("differs") == 3  # the month, gpt-4o and the day
    assert "+2.91" in one and "What a bill leaves out" in one
    day = text_of(
        operator.get(reverse("reconciliation-provider", args=[f"{month:%Y-%m}", "openai"]) + f"?day={month}")
    )
    assert day.count("differs") == 4


def test_a_file_is_looked_at_before_it_is_imported(month: date, operator: Client) -> None:
    bill("openai", month, {"gpt-4o": "5"})
    content = f"provider;day;model;amount_usd\nopenai;{month};gpt-4o;1,25\nopenai;{month};gpt-4o;x\n"

    def send(text: str) -> Any:
        return operator.post(f"{OVERVIEW}file/", {"file": SimpleUploadedFile("mai.csv", text.encode())})

    assert list(errors_of(send("nothing"))) == ["file"]
    confirm = send(content).url
    shown = text_of(operator.get(confirm))
    assert "Import mai.csv" in shown and "Row 3: “x” is no amount." in shown
    assert "1.25" in shown and "5.00" in shown
    assert errors_of(operator.post(confirm)) == {
        "without_errors": ["Some rows cannot be read; nothing was imported."]
    }
    done = operator.post(confirm, {"without_errors": "on", "reason": "corrected"}, follow=True)
    assert "1 day is new or changed." in text_of(done)
    line = BillLine.objects.get(bill_day__day=month)
    assert line.amount_usd == Decimal("1.25")
    assert operator.get(confirm).status_code == 404


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_tables_as_files_have_the_rows_of_the_screen(
    organization: Organization, month: date, operator: Client, language: str
) -> None:
    charge([call_at(organization, noon(month)), call_at(organization, noon(month), model="gpt-4o-mini")])
    bill("openai", month, {"gpt-4o": "0.2", "gpt-4o-mini": "0.5"})
    headers = {"Accept-Language": language}
    of = [f"{month:%Y-%m}", "openai"]
    address = reverse("reconciliation-provider", args=of) + f"?day={month}"
    overview = operator.get(f"{OVERVIEW}?month={month:%Y-%m}", headers=headers)
    page = operator.get(address, headers=headers).context
    tables = (
        (overview.context["providers"], overview.context["files"]),
        (page["models"], page["models_files"]),
        (page["days"], page["days_files"]),
        (page["day"]["rows"], page["day"]["files"]),
    )
    for rows, files in tables:
        expected = [
            (str(row["name"]) if "day" not in row else str(row["day"]), amounts_of(row), str(row["state"]))
            for row in rows
        ]
        assert [name for name, _address in files] == ["CSV", "XLSX"]
        assert files[0][1].replace("&", "&amp;") in text_of(overview) + text_of(
            operator.get(address, headers=headers)
        )
        csv_file, xlsx_file = (
            b"".join(operator.get(at, headers=headers).streaming_content)  # type: ignore[attr-defined]
            for _name, at in files
        )
        assert from_csv(csv_file, language) == expected
        assert from_xlsx(xlsx_file) == expected


def amounts_of(row: Any) -> list[Decimal]:
    found = row["comparison"]
    exact = (found.bill_usd, found.ledger_usd, found.delta_usd, found.delta_eur.quantize(Decimal("1e-9")))
    return [amount.normalize() for amount in exact]


def from_csv(content: bytes, language: str) -> list[Any]:
    separator, point = (";", ",") if language == "de" else (",", ".")
    _titles, *lines = csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=separator)
    return [
        (first, [Decimal(cell.replace(point, ".").lstrip("'")).normalize() for cell in cells[:4]], cells[5])
        for first, *cells in lines
    ]


def from_xlsx(content: bytes) -> list[Any]:
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert sheet is not None
    _titles, *lines = sheet.iter_rows(values_only=True)
    return [
        (
            str(first.date()) if isinstance(first, datetime) else str(first),
            [Decimal(repr(cell)).normalize() for cell in cells[:4]],
            cells[5],
        )
        for first, *cells in lines
    ]


def test_a_difference_is_accepted_with_a_reason(
    organization: Organization, month: date, operator: Client
) -> None:
    charge([call_at(organization, noon(month))])
    bill("openai", month, {"gpt-4o": "0.2"})
    address = reverse("reconciliation-accept", args=[f"{month:%Y-%m}", "openai"])
    assert list(errors_of(operator.post(address, {"reason": ""}))) == ["reason"]
    shown = text_of(operator.post(address, {"reason": "a colleague's tests"}, follow=True))
    assert "a colleague&#x27;s tests" in shown and "Accept as it is" not in shown
    assert shown.count("accepted") >= 3 and "differs" not in shown  # the month, its model and its day
    assert AcceptedDifference.objects.get(month=month).amount_usd == Decimal("0.0975")


def test_a_difference_is_posted_for_a_second_person_to_approve(
    organization: Organization, month: date, operator: Client
) -> None:
    charge([call_at(organization, noon(month))])
    bill("openai", month, {"gpt-4o": "0.2"})
    address = reverse("reconciliation-post", args=[f"{month:%Y-%m}", "openai"])
    assert organization.name in text_of(operator.get(address))
    assert list(errors_of(operator.post(address, {"reason": ""}))) == ["reason"]
    shown = text_of(operator.post(address, {"reason": "as billed"}, follow=True))
    assert "1 correction waits for a second person." in shown and "waits for approval" in shown
    [request] = ApprovalRequest.objects.filter(organization=organization)
    assert (request.kind, request.provider, request.month) == ("correction", "openai", month)
    again = operator.post(address, {"reason": "again"}, follow=True)
    assert (
        "wait for a second person" in text_of(again)
        and ApprovalRequest.objects.filter(month=month).count() == 1
    )


def test_the_model_that_differs_is_chosen_and_agrees_once_it_is_posted(
    organization: Organization, month: date, operator: Client
) -> None:
    charge([call_at(organization, noon(month)), call_at(organization, noon(month), model="gpt-4o-mini")])
    mini = delta(month, "openai").models["gpt-4o-mini"].ledger_usd  # type: ignore[union-attr]
    bill("openai", month, {"gpt-4o": "0.2", "gpt-4o-mini": str(mini)})
    address = reverse("reconciliation-post", args=[f"{month:%Y-%m}", "openai"])
    field = operator.get(address).context["page_form"]["model"]
    assert (field.initial, [value for value, _words in field.field.choices]) == ("gpt-4o", ["gpt-4o", ""])
    assert "model" in errors_of(operator.post(address, {"model": "gpt-4o-mini", "reason": "as billed"}))
    operator.post(address, {"model": "gpt-4o", "reason": "as billed"})
    [request] = ApprovalRequest.objects.filter(organization=organization)
    approve(request_id=request.pk, acting=person("operator"))
    found = delta(month, "openai")
    assert found is not None and found.state == "reconciled"
    assert set(found.models) == {"gpt-4o", "gpt-4o-mini"} and all(map(found.is_model_within, found.models))


def test_where_several_models_differ_nothing_is_chosen_for_one(
    organization: Organization, month: date, operator: Client
) -> None:
    charge([call_at(organization, noon(month)), call_at(organization, noon(month), model="gpt-4o-mini")])
    bill("openai", month, {"gpt-4o": "0.2", "gpt-4o-mini": "1"})
    address = reverse("reconciliation-post", args=[f"{month:%Y-%m}", "openai"])
    page = operator.get(address)
    assert page.context["page_form"]["model"].initial == ""
    assert text_of(page).count("gpt-4o-mini alone") == 2  # in the table, and to choose


def test_a_month_of_which_nothing_is_known(month: date, operator: Client) -> None:
    assert "Nothing was billed" in text_of(operator.get(f"{OVERVIEW}?month={month:%Y-%m}"))
    bill("openai", month, {"gpt-4o": "1"})
    of = f"{month:%Y-%m}/of/openai/export"
    for path in (f"{of}/days/pdf/", f"{of}/weeks/csv/", f"{of}/day/csv/", f"{month:%Y-%m}/export/pdf/"):
        assert operator.get(OVERVIEW + path).status_code == 404
    for path in ("?month=nonsense", f"{month:%Y-%m}/of/anthropic/", "2026-13/read/", "file/99999999/"):
        assert operator.get(OVERVIEW + path).status_code == 404
    later = clock.now().date() + timedelta(days=40)
    assert operator.get(f"{OVERVIEW}{later:%Y-%m}/read/").status_code == 404


def test_without_an_admin_key_a_bill_comes_from_files_alone(
    month: date, operator: Client, settings: Any
) -> None:
    settings.BILLING = {}
    shown = text_of(operator.get(OVERVIEW))
    assert "No admin key is set for OpenAI, Anthropic" in shown and "Read the bill" not in shown
    assert operator.get(f"{OVERVIEW}{month:%Y-%m}/read/").status_code == 404


def test_the_queries_do_not_grow_with_the_bill(month: date, operator: Client) -> None:
    numbers = []
    for days in (range(1), range(1, 20)):
        for day in days:
            bill("openai", month + timedelta(days=day), {f"gpt-{model}": "1" for model in range(5)})
        with CaptureQueriesContext(connection) as queries:
            operator.get(reverse("reconciliation-provider", args=[f"{month:%Y-%m}", "openai"]))
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]


@pytest.fixture(autouse=True)
def no_files_left() -> Iterator[None]:
    with override("en"):  # a client of these tests leaves its language behind
        yield
    BillImport.objects.filter(imported_at=None).delete()
