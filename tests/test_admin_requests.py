"""Requests in the admin: a raise becomes one, a second person decides, everybody sees where it stands."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.formats import date_format

from aigov import clock
from aigov.organizations.models import Member, Organization
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value
from budgets import approvals
from budgets.accounts import open_month
from budgets.models import ApprovalRequest, BudgetAccount
from tests.admin_world import (
    add_page,
    as_role,
    change_page,
    errors_of,
    list_page,
    logged_in,
    person,
    text_of,
)
from tests.conftest import month_account
from tests.test_admin_budgets import ASKED, cap_of, finance_in, page_of, refusals, save
from tests.test_admin_settings import form as setting_form

Make = Callable[..., Organization]
LIST = list_page(ApprovalRequest)


def asked(organization: Organization, acting: Any = "the tests", amount: str = "1500") -> ApprovalRequest:
    return approvals.ask(
        organization=organization,
        kind="cap",
        month=month_account(organization).month,
        amount_eur=Decimal(amount),
        reason="a fair in <b>June</b>",
        acting=acting,
    )


def only_request(organization: Organization) -> ApprovalRequest:
    return ApprovalRequest.objects.get(organization=organization)


def button(row: ApprovalRequest | BudgetAccount, name: str) -> str:
    return change_page(row).replace("/change/", f"/{name}/")


# --- A raise becomes a request


def test_a_raise_above_the_limit_is_sent_as_a_request(organization: Organization) -> None:
    finance, account = person("finance", organization), month_account(organization)
    given = {"cap": "1,500", "reason": "a fair"}
    page = logged_in(finance).post(change_page(account), given, follow=True)
    assert "Sent as a request: Cap of" in text_of(page)
    assert "Saved" not in text_of(page)
    request = only_request(organization)
    assert (request.asked_by_user, request.amount_eur, request.reason) == (finance, 1500, "a fair")
    assert cap_of(account) == 1000
    again = logged_in(finance).post(change_page(account), given)
    assert errors_of(again) == {"cap": ["This cap has been asked for already, and waits for a decision."]}


@pytest.mark.parametrize(("role", "cap"), [("admin", "1,001"), ("operator", "1,201")])
def test_so_is_any_raise_by_others_than_finance(organization: Organization, role: str, cap: str) -> None:
    account = month_account(organization)
    as_role(role, organization).post(change_page(account), {"cap": cap, "reason": "x"})
    assert only_request(organization).state == "open"
    assert cap_of(account) == 1000


def test_in_the_list_some_are_changed_and_others_asked_for(make_organization: Make) -> None:
    client, [one, two] = finance_in(make_organization(), make_organization())
    page = save(client, page_of(client), {one: "600", two: "2,000"}, "the fair")
    assert (cap_of(one), cap_of(two)) == (600, 1000)
    assert only_request(two.organization).reason == "the fair"
    assert f"Saved: the cap of {one}" in text_of(page)
    assert "Sent as a request" in text_of(page)
    again = save(client, page_of(client), {one: "700", two: "2,000"})
    assert refusals(again) == [f"{two}: This cap has been asked for already, and waits for a decision."]
    assert cap_of(one) == 600


def test_a_manager_asks_from_the_months_page(organization: Organization) -> None:
    account, client = month_account(organization), as_role("manager", organization)
    assert button(account, "ask") in text_of(client.get(change_page(account)))
    assert list(errors_of(client.post(button(account, "ask"), {"cap": "1", "reason": ""}))) == ["reason"]
    page = client.post(button(account, "ask"), {"cap": "1,100", "reason": "a fair"}, follow=True)
    assert "Sent as a request" in text_of(page)
    assert only_request(organization).amount_eur == 1100
    for role in ("auditor", "finance"):
        other = as_role(role, organization)
        assert button(account, "ask") not in text_of(other.get(change_page(account)))
        assert other.post(button(account, "ask"), {"cap": "9", "reason": "x"}).status_code == 403


def test_a_months_cap_is_asked_for_ahead(organization: Organization) -> None:
    client = as_role("manager", organization)
    month = clock.next_month(clock.month_of(clock.now(), organization.time_zone))
    given = {"organization": organization.pk, "when": month.isoformat(), "cap": "1,100", "reason": "x"}
    assert list(errors_of(client.post(add_page(ApprovalRequest), {**given, "cap": "lots"}))) == ["cap"]
    client.post(add_page(ApprovalRequest), given)
    request = only_request(organization)
    assert (request.month, request.kind, request.before_eur) == (month, "cap", 1000)
    twice = errors_of(client.post(add_page(ApprovalRequest), given))
    assert list(twice) == ["cap"]


def test_nobody_asks_for_a_strangers_organization(make_organization: Make) -> None:
    client, theirs = as_role("manager", make_organization()), make_organization()
    month = clock.month_of(clock.now(), theirs.time_zone).isoformat()
    given = {"organization": theirs.pk, "when": month, "cap": "1", "reason": "x"}
    assert list(errors_of(client.post(add_page(ApprovalRequest), given))) == ["organization"]


def test_the_settings_form_sends_a_request_for_the_standing_cap(organization: Organization) -> None:
    client = as_role("admin", organization)
    raised = setting_form(organization, key="ai.budget.monthly.cap", new_value='"1100.50"', reason="growth")
    page = client.post(add_page(SettingValue), raised, follow=True)
    assert "Sent as a request: Standing cap of" in text_of(page)
    request = only_request(organization)
    assert (request.kind, request.amount_eur) == ("standing_cap", Decimal("1100.50"))
    assert not SettingValue.objects.filter(organization=organization).exists()
    as_role("finance", organization).post(button(request, "approve"), {"reason": ""})
    assert month_account(organization).cap_eur == Decimal("1100.50")

    setting = SettingValue.objects.get(organization=organization)
    client.post(change_page(setting), {"new_value": "1150", "reason": "more"}, follow=True)
    assert ApprovalRequest.objects.filter(organization=organization, state="open").count() == 1
    setting.refresh_from_db()
    assert setting.value == "1100.50"


def test_a_standing_cap_is_asked_for_on_the_page(organization: Organization) -> None:
    given = {"organization": organization.pk, "when": "standing", "cap": "2,000", "reason": "x"}
    as_role("finance", organization).post(add_page(ApprovalRequest), given)
    assert only_request(organization).kind == "standing_cap"


def test_to_remove_a_lower_standing_cap_says_why_not(organization: Organization) -> None:
    where: dict[str, Any] = {"scope": "organization", "organization": organization}
    set_value(key="ai.budget.monthly.cap", **where, value=5, acting="the tests", reason="x")
    setting = SettingValue.objects.get(organization=organization)
    address = change_page(setting).replace("/change/", "/remove/")
    page = as_role("admin", organization).post(address, {"reason": "x"})
    assert "by anyone but finance needs a second person" in text_of(page)
    assert SettingValue.objects.filter(pk=setting.pk).exists()


# --- A second person decides


def test_a_second_person_approves(organization: Organization) -> None:
    request = asked(organization)
    client = as_role("finance", organization)
    shown = text_of(client.get(change_page(request)))
    month = date_format(request.month, "YEAR_MONTH_FORMAT")
    assert f"Cap, {organization.name}, {month}" in shown, "the page is called by its month in words"
    for words in ("Please approve or reject it.", "1,500.00", "cap now 1,000.00", "&lt;b&gt;June&lt;/b&gt;"):
        assert words in shown
    assert button(request, "withdraw") not in shown
    assert "cap now 1,000.00" in text_of(client.get(button(request, "approve")))
    page = client.post(button(request, "approve"), {"reason": "fine"}, follow=True)
    assert "Approved: Cap of" in text_of(page)
    assert month_account(organization).cap_eur == 1500
    done = text_of(client.get(change_page(request)))
    assert "not open any more" in done
    assert "fine" in done
    assert button(request, "approve") not in done
    late = as_role("admin", organization).post(button(request, "reject"), {"reason": "x"})
    assert "not open any more: approved" in text_of(late)
    assert month_account(organization).cap_eur == 1500


def test_who_decides_sees_the_forecast(organization: Organization, api: httpx2.Client) -> None:
    request, client = asked(organization), as_role("finance", organization)
    assert "forecast" not in text_of(client.get(change_page(request)))
    api.post("/api/v1/completions", json=ASKED)
    assert "forecast" in text_of(client.get(change_page(request)))
    assert "forecast" in text_of(client.get(button(request, "approve")))


def test_a_second_person_rejects_with_a_reason(organization: Organization) -> None:
    request = asked(organization)
    client = as_role("admin", organization)
    assert list(errors_of(client.post(button(request, "reject"), {"reason": ""}))) == ["reason"]
    client.post(button(request, "reject"), {"reason": "too dear"})
    request.refresh_from_db()
    assert (request.state, request.decision_reason) == ("rejected", "too dear")
    assert month_account(organization).cap_eur == 1000


def test_who_asked_sees_why_they_cannot_approve(organization: Organization) -> None:
    asker, other = person("finance", organization), person("admin", organization)
    request, client = asked(organization, asker), logged_in(asker)
    page = text_of(client.get(change_page(request)))
    assert f"so that somebody else decides: {other}." in page
    assert button(request, "approve") not in page
    assert button(request, "reject") not in page
    for verb in ("approve", "reject"):
        assert client.post(button(request, verb), {"reason": "x"}).status_code == 403
    assert month_account(organization).cap_eur == 1000
    client.post(button(request, "withdraw"), {"reason": ""})
    request.refresh_from_db()
    assert request.state == "withdrawn"


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_who_only_looks_decides_nothing(organization: Organization, role: str) -> None:
    request, client = asked(organization), as_role(role, organization)
    page = text_of(client.get(change_page(request)))
    assert "It waits for a second person" in page
    for verb in ("approve", "reject"):
        assert button(request, verb) not in page
        assert client.post(button(request, verb), {"reason": "x"}).status_code == 403
    assert client.post(button(request, "withdraw"), {"reason": ""}).status_code == 403


def test_a_stranger_decides_nothing(make_organization: Make) -> None:
    ours = make_organization()
    request, client = asked(ours), as_role("finance", make_organization())
    for verb in ("approve", "reject", "withdraw"):
        assert client.post(button(request, verb), {"reason": "x"}).status_code == 403
    assert change_page(request) not in text_of(client.get(LIST))


# --- Where it is seen


def waiting_shown(client: Client) -> str:
    return text_of(client.get(reverse("admin:index")))


def test_open_requests_stand_first_and_are_counted(organization: Organization) -> None:
    client, asker = as_role("finance", organization), person("manager", organization)
    assert "waits for you" not in waiting_shown(client)
    first = asked(organization, asker, "1300")
    assert "One request waits for you." in waiting_shown(client)
    asked(organization, asker, "1400")
    approvals.withdraw(request_id=asked(organization, asker, "1500").pk, acting=asker)
    assert "2 requests wait for you." in waiting_shown(client)
    page: Any = client.get(LIST)
    assert [row.state for row in page.context["cl"].result_list] == ["open", "open", "withdrawn"]
    [group] = [group for group in page.context["sidebar_navigation"] if group.get("title") == "Budgets"]
    assert [item["badge"] for item in group["items"] if "badge" in item] == [2]
    assert change_page(first) in text_of(client.get(f"{LIST}?state=open"))
    assert "nothing to show" in text_of(client.get(f"{LIST}?state=approved"))
    assert "wait for you" not in waiting_shown(logged_in(asker))


def test_ones_own_requests_do_not_wait_for_oneself(organization: Organization) -> None:
    finance = person("finance", organization)
    asked(organization, finance)
    assert "waits for you" not in waiting_shown(logged_in(finance))


def test_the_list_costs_no_more_queries_with_more_rows(make_organization: Make) -> None:
    numbers = []
    for rows in (1, 8):
        user = person("finance", make_organization())
        for number in range(rows):
            organization = make_organization()
            open_month(organization=organization)
            Member.objects.create(user=user, organization=organization, role="finance")
            request = asked(organization, amount=f"{1300 + number}")
            approvals.approve(request_id=request.pk, acting=person("admin", organization))
            asked(organization, amount="9000")
        client = logged_in(user)
        client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            client.get(LIST)
        numbers.append(len(queries))
    # session, person, roles, the filter's organizations, count, rows, the sidebar's requests
    assert numbers == [7, 7]
