"""Many caps changed at once: reckoned, looked at, saved with one reason; and the history of each cap."""

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from aigov import clock
from aigov.organizations.models import Member, Organization
from budgets.accounts import open_month
from budgets.many_caps import changed_by
from budgets.models import ApprovalRequest, BudgetAccount
from tests.admin_world import change_page, logged_in, person, text_of

Make = Callable[..., Organization]
PAGE = reverse("admin:budgets_budgetaccount_many")
THIS_MONTH = f"{clock.month_of(clock.now(), 'UTC'):%Y-%m}"


def finance_of(*organizations: Organization) -> Client:
    user = person("finance", organizations[0])
    for organization in organizations[1:]:
        Member.objects.create(user=user, organization=organization, role="finance")
    return logged_in(user)


def accounts_of(*organizations: Organization) -> list[BudgetAccount]:
    return [open_month(organization=organization) for organization in organizations]


def choice(*organizations: Organization, **how: str) -> dict[str, object]:
    return {"month": THIS_MONTH, "organizations": [one.pk for one in organizations], **how}


def sent_from(page: str, reason: str) -> dict[str, str]:
    """What the previewed page would send."""
    fields = re.findall(r'<input[^>]*name="((?:initial-)?caps-[^"]+)"[^>]*value="([^"]*)"', page)
    return {**dict(fields), "caps-reason": reason, "_save": ""}


def caps(*accounts: BudgetAccount) -> list[Decimal | None]:
    return [BudgetAccount.objects.get(pk=account.pk).cap_eur for account in accounts]


def test_caps_are_reckoned_shown_and_saved_with_one_reason(make_organization: Make) -> None:
    organizations = [make_organization(cap_eur="100"), make_organization(cap_eur="200.01")]
    client, accounts = finance_of(*organizations), accounts_of(*organizations)
    page = text_of(client.post(PAGE, choice(*organizations, percent="-10")))
    assert "Nothing is saved yet." in page and 'value="180.01"' in page
    assert caps(*accounts) == [100, Decimal("200.01")]
    client.post(PAGE, sent_from(page, "a lean month"))
    assert caps(*accounts) == [90, Decimal("180.01")]
    history = text_of(client.get(change_page(accounts[0])))
    assert "a lean month" in history and "100.00" in history and "90.00" in history


def test_a_raise_above_the_limit_is_announced_and_becomes_a_request(organization: Organization) -> None:
    client, [account] = finance_of(organization), accounts_of(organization)
    page = text_of(client.post(PAGE, choice(organization, cap="5000")))
    assert "Needs a second person" in page
    client.post(PAGE, sent_from(page, "a campaign"))
    assert caps(account) == [1000]
    assert ApprovalRequest.objects.get(organization=organization).amount_eur == 5000


def test_a_cap_that_changed_meanwhile_is_not_overwritten(organization: Organization) -> None:
    client, [account] = finance_of(organization), accounts_of(organization)
    page = text_of(client.post(PAGE, choice(organization, cap="500")))
    BudgetAccount.objects.filter(pk=account.pk).update(cap_eur=700)
    again = text_of(client.post(PAGE, sent_from(page, "x")))
    assert "Somebody else has changed this cap" in again
    assert caps(account) == [700]


@pytest.mark.parametrize("how", [{}, {"cap": "10", "percent": "5"}, {"percent": "-101"}, {"cap": "ten"}])
def test_what_is_wrong_is_said_and_nothing_previewed(how: dict[str, str], organization: Organization) -> None:
    page = finance_of(organization).post(PAGE, choice(organization, **how))
    assert page.context["caps"] is None and page.context["page_form"].errors


def test_only_those_are_offered_whose_caps_one_may_change(make_organization: Make) -> None:
    own, other = make_organization(), make_organization()
    client = finance_of(own)
    assert other.name not in text_of(client.get(PAGE))
    assert client.post(PAGE, choice(other, cap="1")).context["page_form"].errors["organizations"]
    assert logged_in(person("manager", own)).get(PAGE).status_code == 403


@pytest.mark.parametrize(
    ("cap", "percent", "changed"),
    [("100", "10", "110"), ("0.05", "10", "0.06"), ("100", "-100", "0"), ("33.33", "33.33", "44.44")],
)
def test_by_per_cent_to_the_cent(cap: str, percent: str, changed: str) -> None:
    assert changed_by(Decimal(cap), Decimal(percent)) == Decimal(changed)
