"""A service asks for a cap and looks at its organization's months; deciding is not offered to it."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from aigov import clock
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization
from budgets import approvals
from budgets.closing import close_month
from budgets.models import ApprovalRequest, BudgetAccount
from tests.admin_world import person
from tests.conftest import Server, month_account

PATH = "/api/v1/budget/cap-requests"
Make = Callable[..., Organization]


def wanted(organization: Organization, **more: Any) -> dict[str, Any]:
    month = clock.month_of(clock.now(), organization.time_zone)
    return {"month": f"{month:%Y-%m}", "amount_eur": "1200", "reason": "a fair", **more}


def test_a_request_is_made_and_found(organization: Organization, api: httpx2.Client) -> None:
    answer = api.post(PATH, json=wanted(organization, amount_eur="1500.50"))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert {name: made[name] for name in ("state", "amount_eur", "before_eur", "reason", "scope")} == {
        **{"state": "open", "amount_eur": "1500.50", "before_eur": "1000.00"},
        **{"reason": "a fair", "scope": "organization"},
    }
    assert made["asked_by"].startswith("API key aig_")
    assert made["decided_by"] is None
    assert answer.headers["location"] == f"{PATH}/{made['id']}"
    assert api.get(answer.headers["location"]).json() == made
    assert api.get(PATH).json() == {"requests": [made], "next": None}
    assert api.get("/api/v1/budget").json()["limit_eur"] == "1000.00"

    finance = person("finance", organization)
    approvals.approve(request_id=made["id"], acting=finance)
    approved = api.get(f"{PATH}/{made['id']}").json()
    assert (approved["state"], approved["decided_by"]) == ("approved", finance.email)
    assert api.get("/api/v1/budget").json()["limit_eur"] == "1500.50"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"month": "2020-01"}, "month"),
        ({"month": "2099-01"}, "month"),
        ({"month": "2026-13"}, "month"),
        ({"month": "November"}, "month"),
        ({"month": None}, "month"),
        ({"amount_eur": 1200}, "amount_eur"),
        ({"amount_eur": "-1"}, "amount_eur"),
        ({"amount_eur": "1e3"}, "amount_eur"),
        ({"amount_eur": "1,200"}, "amount_eur"),
        ({"amount_eur": "0.0000000001"}, "amount_eur"),
        ({"reason": ""}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"reason": "x" * 1001}, "reason"),
        ({"reason": "a\u0000b"}, "reason"),
        ({"user": "u-1"}, "user"),
        ({"state": "approved"}, "state"),
    ],
)
def test_what_is_wrong_is_named(
    organization: Organization, api: httpx2.Client, wrong: dict[str, Any], param: str
) -> None:
    answer = api.post(PATH, json=wanted(organization, **wrong))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert not ApprovalRequest.objects.filter(organization=organization).exists()


@pytest.mark.parametrize("missing", ["month", "amount_eur", "reason"])
def test_what_is_missing_is_named(organization: Organization, api: httpx2.Client, missing: str) -> None:
    given = {name: value for name, value in wanted(organization).items() if name != missing}
    assert api.post(PATH, json=given).json()["error"]["param"] == missing
    assert api.post(PATH, json=[given]).status_code == 400


def test_who_made_the_key_cannot_approve(organization: Organization, server: Server) -> None:
    maker = person("admin", organization)
    _key, token = create_api_key(organization=organization, name="k", scopes=["budget:write"], acting=maker)
    server.refresh()
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
        made = client.post(PATH, json=wanted(organization)).json()
    assert ApprovalRequest.objects.get(pk=made["id"]).asked_by_user == maker
    with pytest.raises(approvals.PermissionDenied):
        approvals.approve(request_id=made["id"], acting=maker)


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_a_key_decides_nothing(organization: Organization, api: httpx2.Client, verb: str) -> None:
    made = api.post(PATH, json=wanted(organization)).json()
    assert api.post(f"{PATH}/{made['id']}/{verb}", json={"reason": "x"}).status_code == 404
    assert api.patch(f"{PATH}/{made['id']}", json={"state": "approved"}).status_code == 405
    assert api.get(f"{PATH}/{made['id']}").json()["state"] == "open"


def test_settings_are_no_way_round(organization: Organization, api: httpx2.Client) -> None:
    month_account(organization)
    body = {"scope": "organization", "value": "5000", "reason": "x"}
    refused = api.put("/api/v1/settings/ai.budget.monthly.cap", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "second_person_needed")
    assert "/api/v1/budget/cap-requests" in refused.json()["error"]["message"]
    limit = {**body, "value": "9000"}
    assert api.put("/api/v1/settings/ai.budget.cap.approval.above", json=limit).status_code == 403
    assert api.get("/api/v1/budget").json()["limit_eur"] == "1000.00"


def test_a_request_is_withdrawn_once(organization: Organization, api: httpx2.Client) -> None:
    made = api.post(PATH, json=wanted(organization)).json()
    withdrawn = api.post(f"{PATH}/{made['id']}/withdraw", json={"reason": "no need"}).json()
    assert (withdrawn["state"], withdrawn["decision_reason"]) == ("withdrawn", "no need")
    again = api.post(f"{PATH}/{made['id']}/withdraw")
    assert (again.status_code, again.json()["error"]["code"]) == (400, "request_not_open")


def test_another_organizations_request_is_none_of_ours(
    make_organization: Make, make_client: Callable[..., httpx2.Client]
) -> None:
    ours = make_organization()
    made = make_client(ours).post(PATH, json=wanted(ours)).json()
    stranger = make_client(make_organization())
    for answer in (
        stranger.get(f"{PATH}/{made['id']}"),
        stranger.post(f"{PATH}/{made['id']}/withdraw", json={}),
        stranger.get(f"{PATH}/{'9' * 30}"),
    ):
        assert answer.status_code == 404
    assert stranger.get(PATH).json()["requests"] == []


def test_the_list_is_paged_and_narrowed(organization: Organization, api: httpx2.Client) -> None:
    ids = [
        api.post(PATH, json=wanted(organization, amount_eur=f"{amount}")).json()["id"]
        for amount in (1200, 1300, 1400)
    ]
    api.post(f"{PATH}/{ids[0]}/withdraw", json={})
    first = api.get(PATH, params={"limit": 2}).json()
    assert [made["id"] for made in first["requests"]] == [ids[2], ids[1]]
    rest = api.get(PATH, params={"limit": 2, "before": first["next"]}).json()
    assert ([made["id"] for made in rest["requests"]], rest["next"]) == ([ids[0]], None)
    narrowed = api.get(PATH, params={"state": "withdrawn"}).json()["requests"]
    assert [made["id"] for made in narrowed] == [ids[0]]
    for bad in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"before": "x"}, {"state": "x"}):
        assert api.get(PATH, params=bad).json()["error"]["param"] in bad


# --- Months

MONTHS = "/api/v1/budget/months"


def books(organization: Organization, *months: str) -> None:
    BudgetAccount.objects.bulk_create(
        BudgetAccount(
            organization=organization,
            month=date.fromisoformat(f"{month}-01"),
            scope="organization",
            cap_eur=Decimal("812.5"),
        )
        for month in months
    )


def test_months_come_newest_first_with_their_figures(organization: Organization, api: httpx2.Client) -> None:
    books(organization, "2025-01", "2025-03", "2025-02")
    month_account(organization)
    answer = api.get(MONTHS).json()
    assert [row["month"] for row in answer["months"][1:]] == ["2025-03", "2025-02", "2025-01"]
    assert answer["months"][0] == {**api.get("/api/v1/budget").json(), "closed": False}
    assert answer["months"][1] == {
        **{"month": "2025-03", "closed": False, "limit_eur": "812.50", "spent_eur": "0.000000000"},
        **{"held_eur": "0.000000000", "remaining_eur": "812.500000000"},
        "resets_at": "2025-04-01T00:00:00+02:00",
    }
    assert answer["next"] is None


def test_a_closed_month_says_so(organization: Organization, api: httpx2.Client) -> None:
    books(organization, "2025-03", "2025-02")
    close_month(organization=organization, month=date(2025, 2, 1), acting="the tests", reason="no bill")
    shown = api.get(MONTHS, params={"to": "2025-12"}).json()["months"]
    assert [(row["month"], row["closed"]) for row in shown] == [("2025-03", False), ("2025-02", True)]


def test_a_month_that_is_not_open_yet_has_its_standing_cap(
    organization: Organization, api: httpx2.Client
) -> None:
    [only] = api.get(MONTHS).json()["months"]
    assert only == {**api.get("/api/v1/budget").json(), "closed": False}
    assert not BudgetAccount.objects.filter(organization=organization).exists()


def test_months_are_narrowed_and_paged(organization: Organization, api: httpx2.Client) -> None:
    books(organization, "2025-01", "2025-02", "2025-03", "2025-04")
    part = api.get(MONTHS, params={"from": "2025-02", "to": "2025-03"}).json()
    assert [row["month"] for row in part["months"]] == ["2025-03", "2025-02"]
    first = api.get(MONTHS, params={"to": "2025-04", "limit": 3}).json()
    assert first["next"] == "2025-01"
    rest = api.get(MONTHS, params={"to": first["next"], "limit": 3}).json()
    assert ([row["month"] for row in rest["months"]], rest["next"]) == (["2025-01"], None)
    for bad in ({"from": "x"}, {"to": "2025-00"}, {"limit": "1000"}):
        assert api.get(MONTHS, params=bad).json()["error"]["param"] in bad


def test_another_organizations_months_are_none_of_ours(
    make_organization: Make, make_client: Callable[..., httpx2.Client]
) -> None:
    books(make_organization(), "2025-01")
    assert len(make_client(make_organization()).get(MONTHS).json()["months"]) == 1
