"""The admin's home page: this month, as far as one's role goes."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from aigov import clock
from aigov.organizations.models import Member, Organization, Role
from aigov.registry.values import set_value
from budgets import ledger
from budgets.models import BudgetAccount, CostRecord
from budgets.months import this_month
from routing.home import ORGANIZATIONS_SHOWN
from routing.models import Decision
from tests.admin_world import as_role, change_page, in_server, list_page, logged_in, person, text_of
from tests.conftest import Server, month_account
from tests.ledger_world import charge_of, reserve

SPACE = "\N{NO-BREAK SPACE}"
Make = Callable[..., Organization]


def home(client: Client) -> Any:
    response: Any = client.get(reverse("admin:index"))
    assert response.status_code == 200
    return response


def names_shown(client: Client) -> list[str]:
    return [row["name"] for row in home(client).context["organizations"]]


def member_of(organizations: list[Organization]) -> Client:
    """Finance in all of them."""
    user = person("finance", organizations[0])
    Member.objects.bulk_create(
        Member(user=user, organization=organization, role="finance") for organization in organizations[1:]
    )
    return logged_in(user)


@pytest.fixture
def hold(server: Server) -> Iterator[Callable[[Organization, str], None]]:
    """Takes holds, which are given back at the end."""
    taken = []

    def take(organization: Organization, amount: str) -> None:
        taken.append(in_server(server, reserve(charge_of(organization), amount, lifetime_s=3600)))

    yield take
    for hold_id in taken:
        in_server(server, ledger.void(hold_id=hold_id))


# --- Money


@pytest.mark.parametrize("role", [*Role.values, "operator"])
def test_every_role_sees_how_its_organization_stands(role: str, make_organization: Make) -> None:
    organization = make_organization(cap_eur="0")  # which is full, so that an operator sees it among many
    account = month_account(organization)
    page = home(as_role(role, organization))
    if role != "operator":
        assert [row["name"] for row in page.context["organizations"]] == [organization.name]
        assert change_page(account) in text_of(page)
    assert "Held by calls in flight" in text_of(page)
    assert list_page(BudgetAccount) in text_of(page)


def test_what_calls_in_flight_hold_stands_apart_from_what_is_spent(
    make_organization: Make, hold: Callable[[Organization, str], None]
) -> None:
    organization = make_organization(cap_eur="1000")
    hold(organization, "250.5")
    page = home(as_role("manager", organization))
    [row] = page.context["organizations"]
    figures = {str(title): str(value) for title, value in row["figures"]}
    assert f">250.50{SPACE}€<" in figures["Held"]
    assert f">0.00{SPACE}€<" in figures["Spent"]
    assert f">749.50{SPACE}€<" in figures["Left"]
    assert f">1,000.00{SPACE}€<" in figures["Cap"]
    assert f"25{SPACE}%" in row["bar"]


@pytest.mark.parametrize(
    ("held", "level", "percent"), [("7.99", "calm", 79), ("8", "near", 80), ("10", "full", 100)]
)
def test_the_bar_is_amber_from_80_per_cent_and_red_from_100_and_says_so_in_words(
    held: str,
    level: str,
    percent: int,
    make_organization: Make,
    hold: Callable[[Organization, str], None],
) -> None:
    organization = make_organization(cap_eur="10")
    hold(organization, held)
    page = text_of(home(as_role("auditor", organization)))
    assert f'class="budget-bar is-{level}"' in page
    assert f'<span class="budget-percent">{percent}{SPACE}%</span>' in page


def test_it_says_when_the_month_ends(make_organization: Make) -> None:
    organization = make_organization(cap_eur="10", time_zone="Pacific/Auckland")
    [row] = home(as_role("manager", organization)).context["organizations"]
    month = month_account(organization).month
    ends = clock.month_start(clock.next_month(month), "Pacific/Auckland")
    assert row["resets_exactly"] == f"{ends.isoformat()} (Pacific/Auckland)"


def test_of_many_the_fullest_come_first_and_a_link_leads_to_all(
    make_organization: Make, hold: Callable[[Organization, str], None]
) -> None:
    organizations = [make_organization(cap_eur="10") for _ in range(ORGANIZATIONS_SHOWN + 1)]
    fullest, next_to_it = organizations[7], organizations[3]
    hold(next_to_it, "5")
    hold(fullest, "6")
    client = member_of(organizations)
    page = home(client)
    names = [row["name"] for row in page.context["organizations"]]
    assert names[:2] == [fullest.name, next_to_it.name]
    assert len(names) == ORGANIZATIONS_SHOWN
    assert f"All {len(organizations)} organizations" in text_of(page)
    listed: Any = client.get(page.context["all_months"])
    assert [account.organization for account in listed.context["cl"].result_list][:2] == [fullest, next_to_it]
    assert len(listed.context["cl"].result_list) == len(organizations)


def test_the_figures_of_all_are_added_up(
    make_organization: Make, hold: Callable[[Organization, str], None]
) -> None:
    organizations = [make_organization(cap_eur="10"), make_organization(cap_eur="5.5")]
    hold(organizations[1], "1.25")
    page = home(member_of(organizations))
    values = {figure["title"]: str(figure["value"]) for figure in page.context["figures"]}
    assert f">15.50{SPACE}€<" in values["Cap"]
    assert f">1.25{SPACE}€<" in values["Held by calls in flight"]
    assert f">14.25{SPACE}€<" in values["Left"]


def test_an_organization_that_has_not_begun_its_month_has_its_standing_cap(
    organization: Organization,
) -> None:
    set_value(
        **{"key": "ai.budget.monthly.cap", "scope": "organization", "organization": organization},
        **{"value": "77.00", "acting": "the tests", "reason": "a test"},
    )
    assert not BudgetAccount.objects.filter(organization=organization).exists()
    [row] = home(as_role("finance", organization)).context["organizations"]
    figures = {str(title): str(value) for title, value in row["figures"]}
    assert f">77.00{SPACE}€<" in figures["Cap"]
    assert row["address"] is None
    assert not BudgetAccount.objects.filter(organization=organization).exists()


def test_another_months_account_is_not_this_months(organization: Organization) -> None:
    account = month_account(organization)
    last = (account.month - timedelta(days=1)).replace(day=1)
    BudgetAccount.objects.create(organization=organization, month=last, scope="organization", cap_eur=3)
    [row] = this_month(Organization.objects.filter(pk=organization.pk))
    assert (row.account_id, row.month) == (account.pk, account.month)


# --- Completions


def decide(organization: Organization, route: str, *, at: datetime, saved: str = "0") -> None:
    Decision.objects.create(
        **{"id": f"cmp_{uuid4().hex}", "organization": organization, "key_id": "k", "created_at": at},
        **{"wanted": "auto", "prompt_sha256": "0" * 64, "route": route, "threshold": 0.7, "attempts": []},
        **{"cost_eur": 0, "latency_ms": 1, "saved_eur": Decimal(saved)},
    )


def test_the_months_completions_are_counted_by_route(make_organization: Make) -> None:
    organization, other = make_organization(), make_organization()
    begin = clock.month_start(month_account(organization).month, organization.time_zone)
    for route, number in {"small": 4, "large": 1, "cache": 2, "degraded": 1, "": 1}.items():
        for _ in range(number):
            decide(organization, route, at=begin, saved="0.0000306" if route == "cache" else "0")
    decide(organization, "large", at=begin - timedelta(microseconds=1))
    decide(other, "large", at=begin)
    answers = home(as_role("manager", organization)).context["answers"]
    assert [(answer["title"], answer["value"]) for answer in answers[:5]] == [
        *(("Small model", "4"), ("Large model", "1"), ("Cache", "2"), ("Degraded", "1")),
        ("Not answered", "1"),
    ]
    assert answers[0]["note"] == f"44{SPACE}%"
    assert f"0.0000612{SPACE}€" in answers[5]["value"]


def test_each_organization_counts_in_its_own_month(make_organization: Make) -> None:
    """Midnight comes to Auckland half a day before Berlin."""
    berlin, auckland = make_organization(), make_organization(time_zone="Pacific/Auckland")
    for organization in (berlin, auckland):
        begin = clock.month_start(month_account(organization).month, organization.time_zone)
        decide(organization, "small", at=begin)
        decide(organization, "small", at=begin - timedelta(seconds=1))
    answers = home(member_of([berlin, auckland])).context["answers"]
    assert (answers[0]["title"], answers[0]["value"]) == ("Small model", "2")


# --- Who sees what, and at which cost


def test_nobody_sees_how_others_stand(make_organization: Make) -> None:
    ours, theirs = make_organization(cap_eur="10"), make_organization(cap_eur="10")
    client = as_role("admin", ours)
    assert names_shown(client) == [ours.name]
    assert theirs.name not in text_of(home(client))


def test_who_has_no_organization_is_told_what_to_do() -> None:
    page = text_of(home(as_role(None)))
    assert "You have no role in any organization yet. Please ask an administrator" in page
    assert "home-table" not in page
    assert "You don’t have permission" not in page


def test_what_the_sidebar_has_is_not_listed_again(organization: Organization) -> None:
    page = text_of(home(as_role("manager", organization)))
    assert page.count(f'href="{list_page(CostRecord)}"') == 1
    assert "API keys" not in page


def test_the_number_of_queries_does_not_grow_with_the_organizations(make_organization: Make) -> None:
    few = [make_organization(cap_eur="10") for _ in range(2)] + [make_organization()]
    many = [
        *few,
        *(make_organization(cap_eur="10") for _ in range(10)),
        *(make_organization() for _ in range(3)),
    ]
    numbers = []
    for organizations in (few, many):
        client = member_of(organizations)
        home(client)
        with CaptureQueriesContext(connection) as queries:
            home(client)
        numbers.append(len(queries))
    # session, person, roles; organizations, accounts, the registry (3); days and last months, of each and of
    # all (6); alerts; organizations, decisions; the sidebar's requests
    assert numbers == [18, 18]
