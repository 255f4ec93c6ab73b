"""The months' budgets in the admin: finance changes a cap, and the next call goes by it."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from django.test import Client

from aigov.money import EURO_MAX
from aigov.organizations.models import Organization
from budgets.admin import MonthFilter, _months_before
from budgets.models import BudgetAccount
from tests.admin_world import (
    LEAD,
    add_page,
    as_role,
    change_page,
    errors_of,
    last_audit_entry,
    list_page,
    logged_in,
    person,
    text_of,
)
from tests.conftest import month_account

PATH = "/api/v1/completions"
ASKED = {"cache": "off", "messages": [{"role": "user", "content": LEAD}], "labels": ["A", "B", "C"]}


def test_a_lowered_cap_refuses_the_next_call_and_a_raised_one_lets_it_pass(
    organization: Organization, api: httpx2.Client
) -> None:
    assert api.post(PATH, json=ASKED).status_code == 200
    account = month_account(organization)
    client = as_role("finance", organization)
    saved = client.post(change_page(account), {"cap": "0.000001", "reason": "too dear"}, follow=True)
    assert "Saved: the cap of" in text_of(saved)

    refused = api.post(PATH, json=ASKED)
    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "organization_budget_exceeded"
    assert refused.json()["error"]["metadata"]["limit_eur"] == "0.000001"

    client.post(change_page(account), {"cap": "1,200.50", "reason": "approved"})
    assert api.post(PATH, json=ASKED).status_code == 200
    assert month_account(organization).cap_eur == Decimal("1200.50")


def test_the_audit_trail_says_who_from_to_and_why(organization: Organization) -> None:
    account = month_account(organization)
    finance = person("finance", organization)
    logged_in(finance).post(change_page(account), {"cap": "600", "reason": "a slow month"})
    entry = last_audit_entry(organization, "budget.cap_changed")
    assert (entry.actor, entry.reason) == (finance.email, "a slow month")
    assert (entry.before, entry.after) == ({"cap_eur": "1000.00"}, {"cap_eur": "600.00"})
    page = text_of(as_role("auditor", organization).get("/admin/organizations/auditentry/?subject=budget"))
    assert "cap_eur 1000.00 → cap_eur 600.00" in page


@pytest.mark.parametrize(
    ("given", "field", "error"),
    [
        ({"cap": "600", "reason": ""}, "reason", "Please give a reason for the change."),
        ({"cap": "600", "reason": "  "}, "reason", "Please give a reason for the change."),
        ({"cap": "", "reason": "x"}, "cap", "This field is required."),
        ({"cap": "lots", "reason": "x"}, "cap", "such as 1200.50."),
        ({"cap": "-1", "reason": "x"}, "cap", "such as 1200.50."),
        ({"cap": "1,2,3", "reason": "x"}, "cap", "such as 1200.50."),
        ({"cap": f"{EURO_MAX + 1}", "reason": "x"}, "cap", "A cap is an amount in euro"),
        ({"cap": "0.0000000001", "reason": "x"}, "cap", "A cap is an amount in euro"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    organization: Organization, given: dict[str, str], field: str, error: str
) -> None:
    account = month_account(organization)
    errors = errors_of(as_role("finance", organization).post(change_page(account), given))
    assert list(errors) == [field]
    assert error in errors[field][0]
    assert month_account(organization).cap_eur == Decimal(1000)


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_a_manager_and_an_auditor_look_and_change_nothing(organization: Organization, role: str) -> None:
    account = month_account(organization)
    client = as_role(role, organization)
    page = client.get(change_page(account))
    assert page.status_code == 200
    assert 'name="cap"' not in text_of(page)
    assert "Left" in text_of(page)
    assert client.post(change_page(account), {"cap": "1", "reason": "x"}).status_code == 403
    assert month_account(organization).cap_eur == Decimal(1000)


def test_a_role_in_another_organization_changes_nothing_here(
    make_organization: Callable[..., Organization],
) -> None:
    ours, theirs = make_organization(), make_organization()
    user = person("finance", theirs)
    from aigov.organizations.models import Member

    Member.objects.create(user=user, organization=ours, role="manager")
    client: Client = logged_in(user)
    assert client.post(change_page(month_account(ours)), {"cap": "1", "reason": "x"}).status_code == 403
    assert month_account(ours).cap_eur == Decimal(1000)


def test_the_money_columns_are_no_fields(organization: Organization) -> None:
    account = month_account(organization)
    forged = {
        "cap": "700",
        "reason": "x",
        "spent_eur": "5",
        "held_eur": "5",
        "organization": "1",
        "month": "x",
    }
    as_role("operator").post(change_page(account), forged)
    after = month_account(organization)
    assert (after.cap_eur, after.spent_eur, after.held_eur) == (Decimal(700), Decimal(0), Decimal(0))
    assert after.pk == account.pk


def test_no_month_is_added_by_hand() -> None:
    assert as_role("operator").get(add_page(BudgetAccount)).status_code == 403


def test_a_month_says_whether_its_cap_is_its_own(organization: Organization) -> None:
    account = month_account(organization)
    client = as_role("finance", organization)
    assert "standing cap" in text_of(client.get(change_page(account)))
    client.post(change_page(account), {"cap": "5", "reason": "x"})
    assert "set for this month" in text_of(client.get(change_page(account)))


def test_the_page_has_all_nine_places(organization: Organization, api: httpx2.Client) -> None:
    api.post(PATH, json=ASKED)
    account = month_account(organization)
    assert f"{account.spent_eur:.9f}\N{NO-BREAK SPACE}€" in text_of(
        as_role("manager", organization).get(change_page(account))
    )


def test_the_list_is_narrowed_by_month_scope_and_organization(
    organization: Organization, api: httpx2.Client
) -> None:
    api.post(PATH, json={**ASKED, "user": "u-77"})
    client = as_role("finance", organization)
    month = month_account(organization).month
    address = list_page(BudgetAccount)
    assert "u-77" in text_of(client.get(f"{address}?in_month={month:%Y-%m}&scope__exact=user"))
    assert "u-77" not in text_of(client.get(f"{address}?scope__exact=organization"))
    earlier = _months_before(month, 1)
    assert "There is nothing to show here." in text_of(client.get(f"{address}?in_month={earlier:%Y-%m}"))


def test_the_months_before_a_month() -> None:
    assert _months_before(date(2026, 2, 1), 0) == date(2026, 2, 1)
    assert _months_before(date(2026, 2, 1), 2) == date(2025, 12, 1)
    assert _months_before(date(2026, 2, 1), 26) == date(2023, 12, 1)


def test_the_filter_offers_a_year(organization: Organization) -> None:
    page: Any = as_role("finance", organization).get(list_page(BudgetAccount))
    [months] = [spec for spec in page.context["cl"].filter_specs if isinstance(spec, MonthFilter)]
    assert len(months.lookup_choices) == 13
