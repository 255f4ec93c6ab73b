"""Who sees and does what in the admin: each page, each role, and strangers."""

from collections.abc import Callable, Iterator, Mapping

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from aigov.organizations.create import create_organization
from aigov.organizations.models import ApiKey, AuditEntry, Member, Organization, Role, Tenant, User
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value
from budgets import ledger
from budgets.models import (
    AccountingMonth,
    Alert,
    AlertDelivery,
    AlertDestination,
    ApprovalRequest,
    BudgetAccount,
    CostRecord,
    FxRate,
    Hold,
)
from kpis.models import DigestSubscription, Outcome, OutcomeHook
from providers.models import Price
from routing.models import Decision
from tests.admin_world import (
    add_page,
    admins,
    as_role,
    change_page,
    fill,
    in_server,
    list_page,
    logged_in,
    person,
    text_of,
)
from tests.conftest import Server, month_account

Ours = tuple[Organization, Mapping[type[Model], Model]]

OURS = "Ours & only ours"

MODELS = (
    *(Tenant, Organization, Member, User, ApiKey, AuditEntry, SettingValue),
    *(BudgetAccount, AccountingMonth, ApprovalRequest, Hold, CostRecord, FxRate, Decision, Price),
    *(Alert, AlertDestination, AlertDelivery),
    *(Outcome, OutcomeHook, DigestSubscription),
)
#: Of these, everybody sees their own alone.
OWN = (DigestSubscription,)
SHARED = (FxRate, Price)
READ_ONLY = (AccountingMonth, Hold, CostRecord, Decision, AuditEntry, Alert, AlertDelivery)


@pytest.fixture(scope="module")
def ours(server: Server) -> Iterator[Ours]:
    """An organization with a row of each kind."""
    organization = create_organization(name=OURS, acting="the tests")
    rows = fill(organization, server)
    yield organization, rows
    in_server(server, ledger.void(hold_id=rows[Hold].pk))


def test_every_page_is_tested_here() -> None:
    assert set(admins()) == set(MODELS)
    assert Group not in admins()


def test_nobody_enters_without_logging_in() -> None:
    for model in MODELS:
        response = Client().get(list_page(model))
        assert response.status_code == 302
        assert response.headers["location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("role", [*Role.values, "operator"])
def test_a_role_sees_what_the_table_says(role: str, ours: Ours) -> None:
    organization, rows = ours
    user = person(role, organization)
    client = logged_in(user)
    for model in MODELS:
        row = rows.get(model) or model._default_manager.latest("pk")
        expected = user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
        assert (client.get(list_page(model)).status_code == 200) is expected, model
        assert (client.get(change_page(row)).status_code == 200) is (expected and model not in OWN), model


@pytest.mark.parametrize("role", ["admin", "auditor", None])
def test_a_stranger_sees_nothing_of_ours(
    role: str | None, ours: Ours, make_organization: Callable[..., Organization]
) -> None:
    """Administrators and auditors see every kind of row, at home."""
    client = as_role(role, make_organization())
    for model, row in ours[1].items():
        for query in ("", f"?q={OURS.split()[0]}"):
            listed = client.get(list_page(model) + query)
            assert listed.status_code == (403 if role is None or model is Tenant else 200), model
            assert change_page(row) not in text_of(listed)
            assert escape(OURS) not in text_of(listed)
        assert client.get(change_page(row)).status_code in (302, 403), model
        assert client.post(change_page(row), {"name": "x", "reason": "x"}).status_code in (302, 403), model


def test_a_stranger_does_not_get_at_ours_by_a_filter_or_the_history(
    ours: Ours, make_organization: Callable[..., Organization]
) -> None:
    client = as_role("admin", make_organization())
    organizations_own = (BudgetAccount, CostRecord, Decision, ApiKey, AuditEntry, SettingValue, Member, Hold)
    for model in (*organizations_own, AccountingMonth, Alert, AlertDestination, AlertDelivery):
        row = ours[1][model]
        listed = client.get(f"{list_page(model)}?organization={ours[0].pk}")
        assert change_page(row) not in text_of(listed)
        assert client.get(change_page(row).replace("/change/", "/history/")).status_code in (302, 403, 404)


@pytest.mark.parametrize(
    ("model", "button"),
    [
        *((ApiKey, "revoke"), (Member, "remove"), (SettingValue, "remove")),
        *((Member, "send-link"), (User, "send-link")),
        *((Alert, "acknowledge"), (AlertDestination, "remove"), (AlertDestination, "test")),
        (AlertDelivery, "send-again"),
        *((OutcomeHook, "revoke"), (DigestSubscription, "cancel")),
    ],
)
def test_a_stranger_presses_no_button_of_ours(
    model: type[Model],
    button: str,
    ours: Ours,
    make_organization: Callable[..., Organization],
) -> None:
    row = ours[1][model]
    address = change_page(row).replace("/change/", f"/{button}/")
    assert as_role("admin", make_organization()).post(address, {"reason": "x"}).status_code == 403
    assert as_role("auditor", ours[0]).post(address, {"reason": "x"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


def test_a_role_elsewhere_does_not_open_ours(
    ours: Ours, make_organization: Callable[..., Organization]
) -> None:
    """An auditor there and a manager here sees the keys there alone."""
    there = make_organization()
    user = person("auditor", there)
    Member.objects.create(user=user, organization=ours[0], role="manager")
    client = logged_in(user)
    assert change_page(ours[1][ApiKey]) not in text_of(client.get(list_page(ApiKey)))
    assert client.get(change_page(ours[1][ApiKey])).status_code == 302
    assert change_page(ours[1][BudgetAccount]) in text_of(client.get(list_page(BudgetAccount)))


def test_nothing_is_deleted_in_djangos_way(ours: Ours) -> None:
    client = as_role("operator")
    for model in MODELS:
        row = ours[1].get(model) or model._default_manager.latest("pk")
        address = change_page(row).replace("/change/", "/delete/")
        assert client.post(address, {"post": "yes"}).status_code == 403, model
        chosen = {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"}
        client.post(list_page(model), chosen)
        assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", READ_ONLY)
def test_not_even_an_operator_writes_what_the_code_writes(model: type[Model], ours: Ours) -> None:
    client = as_role("operator")
    assert client.get(add_page(model)).status_code == 403
    assert client.post(change_page(ours[1][model]), {"reason": "x"}).status_code == 403


@pytest.mark.parametrize("model", [FxRate, Price])
def test_not_even_an_operator_changes_a_price_or_a_rate(model: type[Model]) -> None:
    row = model._default_manager.earliest("pk")
    assert as_role("operator").post(change_page(row), {"reason": "x"}).status_code == 403


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        (User, "password__startswith=a"),
        (Member, "user__password__startswith=a"),
        (ApiKey, "secret_hmac__gt=a"),
        (BudgetAccount, "organization__name__startswith=a"),
        (Decision, "organization__id__exact=1"),
    ],
)
def test_a_list_answers_no_question_beyond_its_filters(
    model: type[Model], lookup: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = as_role("operator")
    assert client.get(f"{list_page(model)}?{lookup}").headers["Location"] == f"{list_page(model)}?e=1"
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("model", [BudgetAccount, CostRecord])
@pytest.mark.parametrize("query", ["organization=abc", "in_month=abc", f"organization={'9' * 30}"])
def test_a_nonsensical_filter_shows_nothing(model: type[Model], query: str) -> None:
    assert as_role("operator").get(f"{list_page(model)}?{query}").status_code in (200, 302)


QUERIES = {
    # session, person, organizations' names for the filter, count, rows, the sidebar's requests; dates for the
    # date hierarchy
    Tenant: 5,
    Organization: 5,
    Member: 6,
    User: 6,
    ApiKey: 6,
    AuditEntry: 6,
    SettingValue: 6,
    BudgetAccount: 6,
    ApprovalRequest: 6,
    Hold: 6,
    CostRecord: 6,
    Decision: 6,
    FxRate: 7,
    Price: 6,
    Alert: 6,
    AlertDestination: 6,
    AlertDelivery: 6,
    AccountingMonth: 6,
    Outcome: 6,
    OutcomeHook: 6,
    DigestSubscription: 5,
}


@pytest.mark.parametrize("model", MODELS)
def test_a_list_costs_a_fixed_number_of_queries(model: type[Model], ours: Ours, server: Server) -> None:
    client = as_role("operator")
    client.get(list_page(model))
    with CaptureQueriesContext(connection) as queries:
        assert client.get(list_page(model)).status_code == 200
    assert len(queries) == QUERIES[model], [query["sql"][:200] for query in queries]


def test_the_sidebar_shows_what_may_be_seen(organization: Organization) -> None:
    page = text_of(as_role("manager", organization).get(reverse("admin:index")))
    assert list_page(BudgetAccount) in page
    assert list_page(ApiKey) not in page
    assert list_page(AuditEntry) in text_of(as_role("finance", organization).get(reverse("admin:index")))


def test_who_has_no_role_is_told_so() -> None:
    assert "no role in any organization" in text_of(as_role(None).get(reverse("admin:index")))


def test_what_is_set_for_everybody_is_seen_by_those_whom_it_concerns(
    make_organization: Callable[..., Organization],
) -> None:
    ours, others = make_organization(), make_organization()
    for tenant in (ours.tenant, others.tenant):
        set_value(
            key="ai.cache.ttl", scope="tenant", tenant=tenant, value="PT2H", acting="the tests", reason="x"
        )
    mine = SettingValue.objects.get(tenant=ours.tenant)
    theirs = SettingValue.objects.get(tenant=others.tenant)
    client = as_role("admin", ours)
    listed = text_of(client.get(list_page(SettingValue)))
    assert change_page(mine) in listed
    assert change_page(theirs) not in listed
    assert client.get(change_page(mine)).status_code == 200
    assert client.post(change_page(mine), {"new_value": '"PT3H"', "reason": "x"}).status_code == 403


def test_a_german_reads_german_figures(organization: Organization) -> None:
    account = month_account(organization)
    german = logged_in(person("finance", organization), accept_language="de")
    assert "1.000,00\N{NO-BREAK SPACE}€" in text_of(german.get(list_page(BudgetAccount)))
    assert 'value="1000,00"' in text_of(german.get(change_page(account)))
    english = logged_in(person("finance", organization), accept_language="en")
    assert "1,000.00\N{NO-BREAK SPACE}€" in text_of(english.get(list_page(BudgetAccount)))
