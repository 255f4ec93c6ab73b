"""The months' budgets in the admin: finance changes a cap, and the next call goes by it."""

import threading
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import httpx2
import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from aigov.money import EURO_MAX, euro_for_people, exact_euro_for_people
from aigov.organizations.models import AuditEntry, Member, Organization
from budgets.accounts import set_month_cap
from budgets.admin_months import MonthFilter, months_before
from budgets.caps import CapChange, CapRefused, set_month_caps
from budgets.models import BudgetAccount, CostRecord
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

    client.post(change_page(account), {"cap": "1,150.50", "reason": "approved"})
    assert api.post(PATH, json=ASKED).status_code == 200
    assert month_account(organization).cap_eur == Decimal("1150.50")


def test_the_audit_trail_says_who_from_to_and_why(organization: Organization) -> None:
    account = month_account(organization)
    finance = person("finance", organization)
    logged_in(finance).post(change_page(account), {"cap": "600", "reason": "a slow month"})
    entry = last_audit_entry(organization, "budget.cap_changed")
    assert (entry.actor, entry.reason) == (finance.email, "a slow month")
    assert (entry.before, entry.after) == ({"cap_eur": "1000.00"}, {"cap_eur": "600.00"})
    page = text_of(as_role("auditor", organization).get(f"{list_page(AuditEntry)}?subject=budget"))
    assert finance.email in page
    assert "a slow month" in page


@pytest.mark.parametrize(
    ("given", "field", "error"),
    [
        ({"cap": "600", "reason": ""}, "reason", "Please give a reason for the change."),
        ({"cap": "600", "reason": "  "}, "reason", "Please give a reason for the change."),
        ({"cap": "", "reason": "x"}, "cap", "This field is required."),
        ({"cap": "lots", "reason": "x"}, "cap", "such as 1200.50."),
        ({"cap": "-1", "reason": "x"}, "cap", "The amount must not be negative."),
        ({"cap": "1,2,3", "reason": "x"}, "cap", "such as 1200.50."),
        ({"cap": f"{EURO_MAX + 1}", "reason": "x"}, "cap", "An amount in euro is 0 or more, at most"),
        ({"cap": "0.0000000001", "reason": "x"}, "cap", "An amount in euro is 0 or more, at most"),
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
    earlier = months_before(month, 1)
    assert "There is nothing to show here." in text_of(client.get(f"{address}?in_month={earlier:%Y-%m}"))


def test_themonths_before_a_month() -> None:
    assert months_before(date(2026, 2, 1), 0) == date(2026, 2, 1)
    assert months_before(date(2026, 2, 1), 2) == date(2025, 12, 1)
    assert months_before(date(2026, 2, 1), 26) == date(2023, 12, 1)


def test_the_filter_offers_a_year(organization: Organization) -> None:
    page: Any = as_role("finance", organization).get(list_page(BudgetAccount))
    [months] = [spec for spec in page.context["cl"].filter_specs if isinstance(spec, MonthFilter)]
    assert len(months.lookup_choices) == 13


# --- Caps changed in the list


LIST = "/admin/budgets/budgetaccount/"
Make = Callable[..., Organization]


def page_of(client: Client, query: str = "") -> Any:
    page: Any = client.get(LIST + query)
    assert page.status_code == 200
    return page


def filled_in(page: Any, caps: dict[BudgetAccount, str], reason: str = "a test") -> dict[str, str]:
    """What the browser sends when these caps have been typed over those that the page shows."""
    formset = page.context["cl"].formset
    counted = str(len(formset.forms))
    sent = {f"{formset.prefix}-{name}_FORMS": counted for name in ("TOTAL", "INITIAL")}
    for form in formset.forms:
        sent[form.add_prefix("id")] = str(form.instance.pk)
        if "cap_euro" in form.fields:
            seen = str(form["cap_euro"].value() or "")
            sent[form.add_initial_prefix("cap_euro")] = form.data.get(
                form.add_initial_prefix("cap_euro"), seen
            )
            sent[form.add_prefix("cap_euro")] = caps.get(form.instance, seen)
    return {**sent, f"{formset.prefix}-reason": reason, "_save": ""}


def save(client: Client, page: Any, caps: dict[BudgetAccount, str], reason: str = "a test") -> Any:
    return client.post(LIST, filled_in(page, caps, reason), follow=True)


def refusals(page: Any) -> list[str]:
    return list(page.context["cl"].formset.refusals())


def cap_of(account: BudgetAccount) -> Decimal | None:
    return BudgetAccount.objects.get(pk=account.pk).cap_eur


def finance_in(*organizations: Organization) -> tuple[Client, list[BudgetAccount]]:
    user = person("finance", organizations[0])
    for organization in organizations[1:]:
        Member.objects.create(user=user, organization=organization, role="finance")
    return logged_in(user), [month_account(organization) for organization in organizations]


def test_caps_are_changed_in_the_list_with_one_reason(make_organization: Make) -> None:
    client, [one, two, untouched] = finance_in(*(make_organization() for _ in range(3)))
    page = save(client, page_of(client), {one: "600", two: "1,150.50"}, "the second half of the year")
    assert (cap_of(one), cap_of(two), cap_of(untouched)) == (600, Decimal("1150.50"), 1000)
    assert f"Saved: the cap of {one} is 600.00\N{NO-BREAK SPACE}€ now." in unescape(text_of(page))
    entries = [last_audit_entry(account.organization, "budget.cap_changed") for account in (one, two)]
    assert {entry.reason for entry in entries} == {"the second half of the year"}
    assert entries[1].before == {"cap_eur": "1000.00"}
    assert entries[1].after == {"cap_eur": "1150.50"}
    assert not AuditEntry.objects.filter(
        organization=untouched.organization, action="budget.cap_changed"
    ).exists()


def test_a_cap_changed_in_the_list_binds_the_next_call(
    organization: Organization, api: httpx2.Client
) -> None:
    client, [account] = finance_in(organization)
    save(client, page_of(client), {account: "0.000001"})
    assert api.post(PATH, json=ASKED).status_code == 402
    save(client, page_of(client), {account: "50"})
    assert api.post(PATH, json=ASKED).status_code == 200


def test_saving_the_list_unchanged_asks_no_reason_and_changes_nothing(organization: Organization) -> None:
    client, [account] = finance_in(organization)
    page = save(client, page_of(client), {account: "1,000.0"}, reason="")
    assert page.redirect_chain
    assert not BudgetAccount.objects.get(pk=account.pk).cap_is_of_month


@pytest.mark.parametrize("reason", ["", "  "])
def test_the_list_asks_for_a_reason(reason: str, organization: Organization) -> None:
    client, [account] = finance_in(organization)
    page = save(client, page_of(client), {account: "600"}, reason)
    assert refusals(page) == ["Please give a reason for the change."]
    assert 'value="600"' in text_of(page)
    assert cap_of(account) == 1000


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("lots", "such as 1200.50."),
        ("", "This field is required."),
        ("-1", "must not be negative."),
    ],
)
def test_a_refused_cap_names_its_row_and_nothing_is_saved(
    typed: str, error: str, make_organization: Make
) -> None:
    client, [one, two] = finance_in(make_organization(), make_organization())
    page = save(client, page_of(client), {one: "600", two: typed})
    [refusal] = refusals(page)
    assert refusal.startswith(f"{two}: ")
    assert refusal.endswith(error)
    assert str(two) in unescape(text_of(page))
    assert (cap_of(one), cap_of(two)) == (1000, 1000)


def test_who_was_slower_is_told_so_and_may_then_decide(make_organization: Make) -> None:
    client, [one, two] = finance_in(make_organization(), make_organization())
    seen = page_of(client)
    set_month_cap(account=one, cap_eur=Decimal("700"), acting="somebody else", reason="quicker")
    refused = save(client, seen, {one: "600", two: "800"})
    assert refusals(refused) == [
        f"{one}: Somebody else has changed this cap meanwhile; it is 700.00\N{NO-BREAK SPACE}€ now."
    ]
    assert (cap_of(one), cap_of(two)) == (700, 1000)

    save(client, refused, {one: "600", two: "800"})
    assert (cap_of(one), cap_of(two)) == (600, 800)


def test_what_one_has_not_touched_does_not_undo_what_others_changed(make_organization: Make) -> None:
    client, [one, two] = finance_in(make_organization(), make_organization())
    seen = page_of(client)
    set_month_cap(account=one, cap_eur=Decimal("700"), acting="somebody else", reason="quicker")
    save(client, seen, {two: "800"})
    assert (cap_of(one), cap_of(two)) == (700, 800)


def test_a_refused_list_is_shown_in_the_order_in_which_it_was_sent(make_organization: Make) -> None:
    """Sorted by what is spent, rows move all the time; each cap must stay beside its own organization."""
    client, [one, two] = finance_in(make_organization(cap_eur="1"), make_organization(cap_eur="2"))
    by_cap = "?o=2"
    sent = filled_in(page_of(client, by_cap), {one: "600", two: "lots"})
    set_month_cap(account=one, cap_eur=Decimal("3"), acting="somebody else", reason="x")
    page: Any = client.post(LIST + by_cap, sent)
    shown = page.context["cl"]
    assert [account.pk for account in shown.result_list] == [form.instance.pk for form in shown.formset.forms]
    assert [account.pk for account in shown.result_list] == [one.pk, two.pk]


def test_the_month_page_too_overwrites_nothing_unseen(organization: Organization) -> None:
    client, [account] = finance_in(organization)
    set_month_cap(account=account, cap_eur=Decimal("700"), acting="somebody else", reason="quicker")
    sent = {"cap": "600", "initial-cap": "1000.00", "reason": "x"}
    refused: Any = client.post(change_page(account), sent)
    assert "Somebody else has changed this cap meanwhile" in errors_of(refused)["cap"][0]
    assert cap_of(account) == 700
    assert 'name="initial-cap" value="700.00"' in text_of(refused)
    client.post(change_page(account), {**sent, "initial-cap": "700.00"})
    assert cap_of(account) == 600


def test_only_where_one_may_change_them_caps_are_fields(make_organization: Make) -> None:
    ours, theirs = make_organization(), make_organization()
    client, [account] = finance_in(ours)
    Member.objects.create(
        user=Member.objects.get(organization=ours).user, organization=theirs, role="manager"
    )
    seen_only = month_account(theirs)
    page = page_of(client)
    fields = {form.instance.pk: "cap_euro" in form.fields for form in page.context["cl"].formset.forms}
    assert fields == {account.pk: True, seen_only.pk: False}

    sent = filled_in(page, {})
    [form] = [form for form in page.context["cl"].formset.forms if form.instance == seen_only]
    sent |= {form.add_prefix("cap_euro"): "1", form.add_initial_prefix("cap_euro"): "1000.00"}
    client.post(LIST, sent)
    assert cap_of(seen_only) == 1000


def test_a_month_that_is_over_has_no_field_in_the_list(organization: Organization) -> None:
    client, [account] = finance_in(organization)
    last = (account.month - timedelta(days=1)).replace(day=1)
    over = BudgetAccount.objects.create(
        organization=organization, month=last, scope="organization", cap_eur=5
    )
    forms = page_of(client).context["cl"].formset.forms
    assert {form.instance.pk: "cap_euro" in form.fields for form in forms} == {
        account.pk: True,
        over.pk: False,
    }


def test_a_strangers_row_cannot_be_slipped_in(make_organization: Make) -> None:
    client, [account] = finance_in(make_organization())
    foreign = month_account(make_organization())
    page = page_of(client)
    sent = filled_in(page, {account: "1"})
    [form] = page.context["cl"].formset.forms
    response = client.post(LIST, {**sent, form.add_prefix("id"): str(foreign.pk)})
    assert response.status_code == 403
    assert cap_of(foreign) == 1000
    for tampered in ({"caps-0-id": "x"}, {"caps-0-id": "9" * 30}, {"caps-TOTAL_FORMS": "3"}):
        assert client.post(LIST, {**sent, **tampered}).status_code == 403
    assert "ManagementForm data is missing" in text_of(client.post(LIST, {"_save": ""}))
    no_longer_seen = {name: value for name, value in sent.items() if not name.startswith("initial-")}
    assert "load the page again" in text_of(client.post(LIST, no_longer_seen))
    assert cap_of(account) == 1000


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_who_only_looks_has_no_fields_in_the_list_and_saves_nothing(
    organization: Organization, role: str
) -> None:
    account = month_account(organization)
    finance, _accounts = finance_in(organization)
    sent = filled_in(page_of(finance), {account: "1"})
    client = as_role(role, organization)
    assert "cap_euro" not in text_of(client.get(LIST)).replace("-cap_euro", "")
    assert client.post(LIST, sent).status_code == 403
    assert cap_of(account) == 1000


def test_an_account_without_a_cap_gets_one_in_the_list(
    organization: Organization, api: httpx2.Client
) -> None:
    api.post(PATH, json={**ASKED, "user": "u-9"})
    client, [account] = finance_in(organization)
    of_user = BudgetAccount.objects.get(organization=organization, subject="u-9")
    assert of_user.cap_eur is None
    assert save(client, page_of(client), {account: "900"}).redirect_chain
    assert cap_of(of_user) is None
    save(client, page_of(client), {of_user: "0.5"})
    assert (cap_of(of_user), cap_of(account)) == (Decimal("0.5"), 900)


def test_german_amounts_are_read_in_the_list(organization: Organization) -> None:
    user = person("finance", organization)
    account = month_account(organization)
    client = logged_in(user, accept_language="de")
    page = page_of(client)
    sent = filled_in(page, {account: "1.150,50"})
    assert sent["initial-caps-0-cap_euro"] == "1000,00"
    client.post(LIST, sent)
    assert cap_of(account) == Decimal("1150.50")


def test_of_two_at_once_the_second_is_refused(organization: Organization) -> None:
    """The second waits for the first's lock, and then sees the first's cap."""
    account = month_account(organization)
    change = CapChange(account, Decimal(1000), Decimal(2))
    outcome: list[object] = []

    def second() -> None:
        try:
            set_month_caps(changes=[change], acting="the second", reason="x")
            outcome.append("changed")
        except CapRefused as refused:
            outcome.append(refused.account)
        finally:
            connection.close()

    with transaction.atomic():
        set_month_caps(
            changes=[CapChange(account, Decimal(1000), Decimal(3))], acting="the first", reason="x"
        )
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.5)
        assert outcome == []
    thread.join(timeout=30)
    assert outcome == [account]
    assert cap_of(account) == 3


def test_small_amounts_are_no_zeros_and_the_exact_value_is_at_hand(
    organization: Organization, api: httpx2.Client
) -> None:
    api.post(PATH, json=ASKED)
    spent = month_account(organization).spent_eur
    page = text_of(as_role("manager", organization).get(LIST))
    assert 0 < spent < Decimal("0.01")
    assert f'title="{exact_euro_for_people(spent)}"' in page
    assert euro_for_people(spent) in page
    assert euro_for_people(spent) != "0.00\N{NO-BREAK SPACE}€"


def test_a_list_of_many_rows_costs_no_more_queries(make_organization: Make) -> None:
    numbers = []
    for organizations in (1, 8):
        client, _accounts = finance_in(*(make_organization() for _ in range(organizations)))
        page_of(client)
        with CaptureQueriesContext(connection) as queries:
            page_of(client)
        numbers.append(len(queries))
    # session, person, roles, the filter's organizations, count, rows, the sidebar's requests
    assert numbers == [7, 7]


# --- Cost records and holds


def test_cost_records_are_found_by_what_is_asked_for(organization: Organization, api: httpx2.Client) -> None:
    answer = api.post(PATH, json={**ASKED, "user": "u-5", "use_case": "offers"}).json()
    client = as_role("manager", organization)
    address = list_page(CostRecord)
    month = month_account(organization).month
    for query in (
        f"q={answer['id']}",
        "q=u-5",
        "q=offers",
        f"in_month={month:%Y-%m}",
        "purpose__exact=answer",
    ):
        assert "offers" in text_of(client.get(f"{address}?{query}")), query
    for query in ("q=nobody", f"in_month={months_before(month, 1):%Y-%m}", "tier=nonsense"):
        assert "There is nothing to show here." in text_of(client.get(f"{address}?{query}")), query
