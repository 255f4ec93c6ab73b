"""Month close in the admin: finance sees what is left to do, closes the month, and sees what came late."""

import asyncio
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse

from aigov import database, snapshots
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.accounts import open_month
from budgets.closing import close_month, is_closed
from budgets.models import AccountingMonth, BudgetAccount, CostRecord, MonthClose
from budgets.reconciliation import is_reconciled
from tests.admin_world import as_role, change_page, last_audit_entry, list_page, logged_in, person, text_of
from tests.bills_world import bill, call_at, charge, noon, own_month
from tests.ledger_world import charge_of, last_month, reserve, settle, this_month


def close_page(month: AccountingMonth) -> str:
    return change_page(month).replace("/change/", "/close/")


def month_of(organization: Organization, month: date) -> AccountingMonth:
    account = open_month(organization=organization, month=month)
    return AccountingMonth.objects.get(pk=account.pk)


def words(response: Any) -> str:
    return unescape(text_of(response))


def with_ledger(work: Callable[[], Any]) -> Any:
    """The result of asynchronous work with the ledger's connections."""

    async def run() -> Any:
        async with database.pool_opened():
            await snapshots.refresh_all()
            return await work()

    return asyncio.run(run())


def late_answer(organization: Organization) -> None:
    """A call of last month of 0.5 euro expires, the month is closed, and the answer says 0.2."""
    charge = charge_of(organization, month=last_month(organization))
    hold_id = uuid4()
    with_ledger(lambda: reserve(charge, "0.5", hold_id=hold_id, lifetime_s=0))
    ledger.expire_holds()
    close_month(organization=organization, month=charge.month, acting="finance", reason="a test")
    with_ledger(lambda: settle(hold_id, "0.2"))


@pytest.mark.parametrize("role", ["finance", "admin", "operator"])
def test_who_closes_a_month_sees_its_checklist_first(organization: Organization, role: str) -> None:
    month = month_of(organization, last_month(organization))
    who = person(role, organization)
    client = logged_in(who)
    page = words(client.get(change_page(month)))
    assert close_page(month) in page
    assert page.count('class="is-met"') >= 4
    # The bills are all organizations', so other tests may have left them open.
    assert page.count('aria-label="to do"') == (0 if is_reconciled(month.month) else 1)
    closed = client.post(close_page(month), {"reason": "all bills are in"}, follow=True)
    assert closed.redirect_chain == [(change_page(month), 302)]
    page = words(closed)
    assert "Closed: " in page and "all bills are in" in page and str(who.email) in page
    assert close_page(month) not in page
    assert is_closed(organization.pk, month.month)
    entry = last_audit_entry(organization, "budget.month_closed")
    assert (entry.actor, entry.reason) == (who.email, "all bills are in")


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_who_only_looks_cannot_close(organization: Organization, role: str) -> None:
    month = month_of(organization, last_month(organization))
    client = as_role(role, organization)
    page = client.get(change_page(month))
    assert page.status_code == 200
    assert close_page(month) not in text_of(page)
    assert client.post(close_page(month), {"reason": "x"}).status_code == 403
    assert not MonthClose.objects.filter(organization=organization).exists()


def test_a_stranger_closes_nothing_of_ours(
    organization: Organization, make_organization: Callable[..., Organization]
) -> None:
    month = month_of(organization, last_month(organization))
    assert as_role("finance", make_organization()).post(close_page(month)).status_code == 403


def test_a_refused_close_says_what_is_to_be_done(organization: Organization) -> None:
    month = month_of(organization, last_month(organization))
    hold_id = uuid4()
    charge = charge_of(organization, month=month.month)
    with_ledger(lambda: reserve(charge, "0.5", hold_id=hold_id))
    client = as_role("finance", organization)
    page = words(client.get(change_page(month)))
    assert 'class="is-unmet"' in page
    assert "1 call is still in flight. It ends by itself within minutes." in page
    refused = words(client.post(close_page(month), {"reason": ""}))
    assert "cannot be closed yet. 1 call is still in flight." in refused
    with_ledger(lambda: ledger.void(hold_id=hold_id))


def test_the_way_to_the_reconciliation_is_shown_to_whoever_may_go_it(
    organization: Organization,
) -> None:
    month = month_of(organization, own_month())
    charge([call_at(organization, noon(month.month))])
    bill("openai", month.month, {"gpt-4o": "0.2"})
    way = f'href="{reverse("reconciliation")}?month={month.month:%Y-%m}"'
    for role, is_shown in (("operator", True), ("finance", False)):
        page = words(as_role(role, organization).get(change_page(month)))
        assert (way in page, "your operators see to it" in page) == (is_shown, True)


def test_a_month_that_goes_on_has_no_button(organization: Organization) -> None:
    month = month_of(organization, this_month(organization))
    client = as_role("finance", organization)
    assert close_page(month) not in text_of(client.get(change_page(month)))
    assert client.post(close_page(month), {"reason": "x"}).status_code == 403


def test_the_list_shows_and_filters_by_how_months_stand(organization: Organization) -> None:
    running, over = (month_of(organization, of(organization)) for of in (this_month, last_month))
    client = as_role("finance", organization)

    def shown(state: str) -> list[AccountingMonth]:
        page = text_of(client.get(f"{list_page(AccountingMonth)}?state={state}"))
        return [month for month in (running, over) if change_page(month) in page]

    assert (shown("running"), shown("to_close"), shown("closed")) == ([running], [over], [])
    close_month(organization=organization, month=over.month, acting="Fatima", reason="a test")
    assert (shown("to_close"), shown("closed")) == ([], [over])
    assert "Fatima" in words(client.get(list_page(AccountingMonth)))


def test_only_the_organizations_own_accounts_are_months(organization: Organization) -> None:
    open_month(organization=organization, user="u-1")
    of_user = AccountingMonth.objects.get(organization=organization, scope="user")
    assert as_role("finance", organization).get(change_page(of_user)).status_code == 302


def test_a_closed_months_caps_can_only_be_read(organization: Organization) -> None:
    month = month_of(organization, last_month(organization))
    close_month(organization=organization, month=month.month, acting="finance", reason="a test")
    account = BudgetAccount.objects.get(pk=month.pk)
    client = as_role("finance", organization)
    page = words(client.get(change_page(account)))
    assert "The month is closed: its cap stays as it is." in page
    assert 'name="cap"' not in page
    assert client.post(change_page(account), {"cap": "5", "reason": "x"}).status_code == 403
    assert BudgetAccount.objects.get(pk=account.pk).cap_eur == Decimal(1000)
    assert ">closed<" in words(client.get(list_page(BudgetAccount)))


def test_a_late_record_is_marked_with_its_month(organization: Organization) -> None:
    late_answer(organization)
    charge, late = CostRecord.objects.filter(organization=organization).order_by("id")
    client = as_role("auditor", organization)
    mark = f"late, of {late.belongs_to:%B %Y}"
    assert late.belongs_to == last_month(organization)
    listed = words(client.get(f"{list_page(CostRecord)}?late__exact=1"))
    assert mark in listed and change_page(charge) not in listed
    page = words(client.get(change_page(late)))
    assert mark in page and change_page(charge) in page
    assert change_page(late) in words(client.get(change_page(charge)))
