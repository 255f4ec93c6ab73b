"""Alerts over all organizations: what is raised, that it is raised once, and what is over."""

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from aigov.errors import BadRequest
from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets import accounts
from budgets.alerts import evaluation, raising, words
from budgets.models import Alert, AlertDelivery, AlertKind, BudgetAccount, Scope
from providers.breaker import turn_switch
from routing.tasks import notice_refusals
from tests.admin_world import last_audit_entry, person
from tests.alerts_world import alerts, costs, every_day, open_kinds, raise_alert, today
from tests.conftest import Sandbox, month_account
from tests.ledger_world import this_month

Make = Callable[..., Organization]
PATH = "/api/v1/completions"


def spend(organization: Organization, euro: str) -> None:
    costs(organization, {today(organization): Decimal(euro)})


def cap(organization: Organization, euro: str) -> None:
    account = month_account(organization)
    accounts.set_month_cap(account=account, cap_eur=Decimal(euro), acting="the tests", reason="a test")


def thresholds(organization: Organization) -> list[tuple[int, bool]]:
    return [(alert.figures["percent"], alert.is_open) for alert in alerts(organization, "threshold")]


# --- Accounts


def test_each_threshold_is_raised_once_a_month_and_outdates_the_one_before(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    finance = person("finance", organization)
    for euro, raised in (("49", []), ("1", [(50, True)]), ("5", [(50, True)])):
        spend(organization, euro)
        evaluation.evaluate()
        assert thresholds(organization) == raised
    spend(organization, "41")  # 96 € in all
    evaluation.evaluate()
    assert thresholds(organization) == [(50, False), (80, False), (95, True)]
    told = AlertDelivery.objects.filter(organization=organization).order_by("pk")
    assert [(way.address, way.alert.figures["percent"]) for way in told] == [
        (finance.email, 50),
        (finance.email, 95),
    ]


def test_a_raised_cap_ends_it_and_a_lowered_one_opens_it_again_untold(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    person("finance", organization)
    spend(organization, "85")
    evaluation.evaluate()
    cap(organization, "1000")
    evaluation.evaluate()
    assert thresholds(organization) == [(50, False), (80, False)]
    first = alerts(organization, "threshold")[-1]
    cap(organization, "105")
    spend(organization, "5")
    evaluation.evaluate()
    assert thresholds(organization) == [(50, False), (80, True)]
    again = alerts(organization, "threshold")[-1]
    assert (again.pk, again.raised_at > first.raised_at) == (first.pk, True)
    assert [Decimal(again.figures[name]) for name in ("spent_eur", "cap_eur")] == [Decimal(90), Decimal(105)]
    assert AlertDelivery.objects.filter(organization=organization).count() == 1


def test_users_and_use_cases_have_thresholds_of_their_own(organization: Organization) -> None:
    for scope, subject in ((Scope.USER, "u-1"), (Scope.USE_CASE, "leads")):
        account = BudgetAccount.objects.create(
            organization=organization,
            scope=scope,
            subject=subject,
            month=this_month(organization),
            cap_eur=10,
        )
        BudgetAccount.objects.filter(pk=account.pk).update(spent_eur=8)
    evaluation.evaluate()
    BudgetAccount.objects.filter(organization=organization).update(spent_eur=0)  # it was no ledger's doing
    told = {words.title(alert) for alert in alerts(organization, "threshold") if alert.is_open}
    assert told == {
        f"80 % of the cap spent: user u-1 of {organization}",
        f"80 % of the cap spent: use case leads of {organization}",
    }


def test_the_thresholds_are_the_organizations_own(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    key = {"key": "ai.budget.alert.thresholds", "scope": "organization", "organization": organization}
    set_value(**key, value=[10, 20], acting="the tests", reason="a test")
    spend(organization, "15")
    evaluation.evaluate()
    assert thresholds(organization) == [(10, True)]
    set_value(**key, value=[], acting="the tests", reason="a test")
    spend(organization, "80")
    evaluation.evaluate()
    assert thresholds(organization) == [(10, False)]


def test_a_cap_that_is_lowered_below_what_is_spent(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    spend(organization, "10")
    evaluation.evaluate()
    assert alerts(organization) == []
    cap(organization, "9")
    evaluation.evaluate()
    [alert] = alerts(organization, "over_cap")
    assert "10.00" in words.text(alert) and words.address(alert).endswith(
        f"/{month_account(organization).pk}/change/"
    )
    cap(organization, "50")
    evaluation.evaluate()
    assert open_kinds(organization) == []


def test_a_call_that_cost_more_than_its_hold(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    costs(organization, {today(organization): Decimal(2)}, held_eur=Decimal(1), overrun=True)
    for _ in range(2):
        evaluation.evaluate()
    [alert] = alerts(organization, "overrun")
    assert "OpenAI gpt-4o-mini billed 2.00" in words.text(alert)


# --- Days


def test_a_month_that_will_end_over_its_cap(make_organization: Make) -> None:
    organization = make_organization()
    costs(organization, every_day(organization, "10", days=28))
    cap(organization, "100000")
    evaluation.evaluate_days()
    assert alerts(organization) == []
    cap(organization, "250")
    evaluation.evaluate_days()
    [alert] = alerts(organization, "forecast")
    assert Decimal(alert.figures["expected_eur"]) >= 280
    assert "is expected to end at" in words.text(alert)
    cap(organization, "100000")
    evaluation.evaluate_days()
    assert open_kinds(organization) == []


def test_an_unusual_day(make_organization: Make) -> None:
    organization = make_organization()
    costs(organization, every_day(organization, "10", days=20))
    evaluation.evaluate_days()
    assert alerts(organization, "unusual_day") == []
    costs(organization, {today(organization): Decimal(40)})
    for _ in range(2):
        evaluation.evaluate_days()
    [alert] = alerts(organization, "unusual_day")
    assert alert.period == today(organization).isoformat()
    assert alert.figures == {"cost_eur": "40.000000000", "usual_eur": "10.000000000", "score": None}


# --- Refusals and providers


def test_the_first_refused_call_of_a_month(make_organization: Make, make_client: Any) -> None:
    organization = make_organization(cap_eur="0")
    client = make_client(organization)
    for use_case in ("leads", "mail"):
        asked = {"messages": [{"role": "user", "content": "hello"}], "use_case": use_case}
        assert client.post(PATH, json=asked).status_code == 402
    for _ in range(2):
        notice_refusals()
    [alert] = alerts(organization)
    assert (alert.kind, alert.key, alert.severity) == ("budget_refused", "organization", "critical")
    Alert.objects.filter(pk=alert.pk).update(period="2020-01")
    evaluation.evaluate()
    assert open_kinds(organization) == [], "its month is over"


def test_a_provider_that_is_switched_off_concerns_the_operators(sandbox: Sandbox) -> None:
    operator = person("operator")
    turn_switch(provider="anthropic", model="*", to="forced_open")
    evaluation.evaluate()
    turn_switch(provider="anthropic", model="*", to="automatic")
    alert = alerts(None, "provider_down")[-1]
    assert alert.is_open and words.title(alert) == "Switched off: all models of Anthropic"
    assert operator.email in alert.deliveries.values_list("address", flat=True)
    evaluation.evaluate()
    alert.refresh_from_db()
    assert not alert.is_open


def test_without_valkey_nothing_is_said_of_providers(settings: Any) -> None:
    found = raise_alert(
        kind=AlertKind.PROVIDER_DOWN,
        period="2026-11-23",
        key=f"openai {uuid4()}",
        figures={
            "provider": "openai",
            "model": "m",
            "reason": "timed_out",
            "since": "2026-11-23T10:00:00+00:00",
        },
    )
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    evaluation.evaluate()
    found.refresh_from_db()
    assert found.is_open


# --- Once


def at_once(number: int, work: Callable[[], Any]) -> None:
    """`work` in so many threads, each with a connection of its own."""
    barrier, failures = threading.Barrier(number), []

    def run() -> None:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=30)
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_of_eight_evaluators_at_once_one_raises_it(make_organization: Make) -> None:
    organizations = [make_organization(cap_eur="100") for _ in range(10)]
    for organization in organizations:
        person("finance", organization)
        spend(organization, "85")
    at_once(8, evaluation.evaluate)
    for organization in organizations:
        assert thresholds(organization) == [(50, False), (80, True)]
        assert AlertDelivery.objects.filter(organization=organization).count() == 1


@pytest.fixture
def without_unique() -> Iterator[str]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE alerts_control (organization_id bigint, kind text)")
        yield "alerts_control"
        cursor.execute("DROP TABLE alerts_control")


def test_control_looking_first_raises_it_many_times(without_unique: str) -> None:
    looked = threading.Barrier(8)

    def look_then_raise() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {without_unique}")
            is_new = cursor.fetchone() == (0,)
            looked.wait(timeout=30)
            if is_new:
                cursor.execute(f"INSERT INTO {without_unique} VALUES (1, 'threshold')")

    at_once(8, look_then_raise)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {without_unique}")
        assert cursor.fetchone() == (8,), "the race that the UNIQUE wins did not take place"


BILLED = {"provider": "openai", "billed_eur": "12.000000000", "booked_eur": "10.000000000"}


def test_the_database_itself_keeps_an_alert_once(organization: Organization) -> None:
    for whose in (organization, None):
        key = f"bill {organization.pk}"
        raised = raise_alert(
            organization=whose,
            kind=AlertKind.RECONCILIATION,
            period="2026-10",
            key=key,
            figures=BILLED,
        )
        with pytest.raises(IntegrityError), transaction.atomic():
            Alert.objects.create(
                organization=whose,
                kind=AlertKind.RECONCILIATION,
                period="2026-10",
                key=key,
                severity="warning",
                raised_at=raised.raised_at,
            )


def test_an_alert_is_raised_with_its_deliveries_or_not_at_all(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_alerts: object) -> None:
        raise RuntimeError("the worker dies here")

    monkeypatch.setattr(raising, "write_deliveries", broken)
    with pytest.raises(RuntimeError):
        raise_alert(
            organization=organization,
            kind=AlertKind.RECONCILIATION,
            period="2026-10",
            key="",
            figures=BILLED,
        )
    assert alerts(organization) == []


def test_the_words_of_a_bill_that_differs(organization: Organization) -> None:
    figures = {"provider": "openai", "billed_eur": "103.000000000", "booked_eur": "100.000000000"}
    alert = raise_alert(
        organization=None,
        kind=AlertKind.RECONCILIATION,
        period="2026-10",
        key=f"openai {organization.pk}",
        figures=figures,
    )
    assert words.title(alert) == "The bill of OpenAI differs from the books"
    assert "October 2026" in words.text(alert) and "103.00" in words.text(alert)
    assert words.address(alert) == "/admin/budgets/reconciliation/2026-10/of/openai/"


# --- Seen to


def test_acknowledging_is_done_once_and_audited(make_organization: Make) -> None:
    organization = make_organization(cap_eur="100")
    finance = person("finance", organization)
    spend(organization, "85")
    evaluation.evaluate()
    alert = alerts(organization)[-1]
    raising.acknowledge(alert=alert, acting=finance, note="The cap is raised on Monday.")
    assert open_kinds(organization) == []
    assert last_audit_entry(organization, "alert.acknowledge").reason == "The cap is raised on Monday."
    with pytest.raises(BadRequest):
        raising.acknowledge(alert=alert, acting=finance, note="")
    evaluation.evaluate()
    assert open_kinds(organization) == [], "it is raised once, whatever follows"


# --- Scale


def test_looking_costs_a_number_of_queries_that_does_not_grow(make_organization: Make) -> None:
    def looks() -> list[int]:
        counted = []
        for look in (evaluation.evaluate, evaluation.evaluate_days, notice_refusals):
            look()  # what is new is written once
            with CaptureQueriesContext(connection) as queries:
                look()
            counted.append(len(queries))
        return counted

    def busy() -> None:
        organization = make_organization(cap_eur="50")
        costs(organization, every_day(organization, "3", days=20))

    busy()
    few = looks()
    for _ in range(10):
        busy()
    assert looks() == few
    assert few[:2] == [12, 12] and few[2] <= 4  # with a refusal of another test, it is raised again
