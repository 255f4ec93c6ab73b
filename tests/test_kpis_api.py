"""Leads and orders in, figures out: what a service gets of its own organization."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from django.db import connection, transaction

from aigov import clock
from aigov.demo.past import write_past
from aigov.organizations.models import AuditEntry, Organization
from kpis.models import Outcome
from kpis.outcomes import OUTCOMES_MAX, Taken, Told, record_outcomes
from routing.models import Decision
from tests.admin_world import last_audit_entry
from tests.kpis_world import cost_record, decision, write_random_past
from tests.ledger_world import charge_of, hold_sync, settle_sync

Make = Callable[..., Organization]
OUTCOMES, SUMMARY = "/api/v1/outcomes", "/api/v1/kpis/summary"


def lead(number: int, **more: Any) -> dict[str, Any]:
    occurred_at = "2026-11-02T10:00:00+01:00"
    return {"kind": "lead", "external_id": f"L-{number}", "occurred_at": occurred_at, **more}


# --- Outcomes


def test_what_is_told_again_changes_nothing(api: httpx2.Client, organization: Organization) -> None:
    batch = {"outcomes": [lead(1), {**lead(1), "kind": "order", "value_eur": "120.50"}, lead(2, value_eur=3)]}
    assert api.post(OUTCOMES, json=batch).json() == {"created": 3, "changed": 0, "unchanged": 0}
    assert api.post(OUTCOMES, json=batch).json() == {"created": 0, "changed": 0, "unchanged": 3}
    found = Outcome.objects.filter(organization=organization).order_by("kind", "external_id")
    assert [(row.kind, row.external_id, row.value_eur) for row in found] == [
        ("lead", "L-1", 0),
        ("lead", "L-2", 3),
        ("order", "L-1", Decimal("120.5")),
    ]
    assert not AuditEntry.objects.filter(organization=organization, action="outcome.change").exists()


def test_a_changed_value_counts_and_the_audit_trail_keeps_the_old_one(
    api: httpx2.Client, organization: Organization
) -> None:
    api.post(OUTCOMES, json={"outcomes": [lead(1, value_eur="10"), lead(2)]})
    later = "2026-11-02T23:30:00-02:00"
    answer = api.post(OUTCOMES, json={"outcomes": [lead(1, value_eur="12", occurred_at=later), lead(2)]})
    assert answer.json() == {"created": 0, "changed": 1, "unchanged": 1}
    row = Outcome.objects.get(organization=organization, external_id="L-1")
    assert (row.value_eur, str(row.day)) == (12, "2026-11-03")
    entry = AuditEntry.objects.get(organization=organization, action="outcome.change")
    assert (entry.before["lead L-1"]["value_eur"], entry.after["lead L-1"]["value_eur"]) == ("10.00", "12.00")
    assert entry.actor.startswith("API key aig_")


def test_of_two_in_a_batch_the_last_counts(api: httpx2.Client, organization: Organization) -> None:
    answer = api.post(OUTCOMES, json={"outcomes": [lead(1, value_eur="1"), lead(1, value_eur="2")]})
    assert answer.json() == {"created": 1, "changed": 0, "unchanged": 0}
    assert Outcome.objects.get(organization=organization).value_eur == 2


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"value_eur": "-1"}, "outcomes[1].value_eur"),
        ({"value_eur": "1.0000000001"}, "outcomes[1].value_eur"),
        ({"value_eur": "NaN"}, "outcomes[1].value_eur"),
        ({"value_eur": None}, "outcomes[1].value_eur"),
        ({"kind": "click"}, "outcomes[1].kind"),
        ({"external_id": ""}, "outcomes[1].external_id"),
        ({"external_id": "x" * 201}, "outcomes[1].external_id"),
        ({"occurred_at": "2026-11-02T10:00:00"}, "outcomes[1].occurred_at"),
        ({"occurred_at": "yesterday"}, "outcomes[1].occurred_at"),
        ({"value": "4800.00"}, "outcomes[1].value"),
        ({"occurred_at": "1999-12-31T10:00:00Z"}, "outcomes[1].occurred_at"),
        ({"occurred_at": "2999-12-31T10:00:00Z"}, "outcomes[1].occurred_at"),
    ],
)
def test_a_mistake_is_named_by_its_place_and_nothing_is_taken(
    api: httpx2.Client, organization: Organization, wrong: dict[str, Any], param: str
) -> None:
    answer = api.post(OUTCOMES, json={"outcomes": [lead(1), {**lead(2), **wrong}, lead(3)]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not Outcome.objects.filter(organization=organization).exists()


def test_every_mistake_is_named(api: httpx2.Client) -> None:
    error = api.post(OUTCOMES, json={"outcomes": [lead(1, kind="x"), lead(2), {}]}).json()["error"]
    assert [entry["param"] for entry in error["metadata"]["errors"]] == [
        *("outcomes[0].kind", "outcomes[2].kind", "outcomes[2].external_id", "outcomes[2].occurred_at"),
    ]


@pytest.mark.parametrize("count", [0, OUTCOMES_MAX + 1])
def test_a_batch_has_a_size(api: httpx2.Client, organization: Organization, count: int) -> None:
    answer = api.post(OUTCOMES, json={"outcomes": [lead(number) for number in range(count)]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "outcomes")
    assert not Outcome.objects.filter(organization=organization).exists()


def test_the_largest_batch_is_taken(api: httpx2.Client, organization: Organization) -> None:
    answer = api.post(OUTCOMES, json={"outcomes": [lead(number) for number in range(OUTCOMES_MAX)]})
    assert answer.json() == {"created": OUTCOMES_MAX, "changed": 0, "unchanged": 0}


def test_batches_in_other_orders_do_not_stop_each_other(organization: Organization) -> None:
    told = [Told("lead", str(number), clock.now(), Decimal(number)) for number in range(300)]
    refused: list[BaseException] = []

    def tell(outcomes: list[Told]) -> None:
        try:
            for _ in range(5):
                record_outcomes(organization=organization, outcomes=outcomes, acting="the tests")
        except BaseException as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=tell, args=[order]) for order in (told, told[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert Outcome.objects.filter(organization=organization).count() == 300


def test_of_two_who_tell_of_the_same_at_once_the_second_changes_it(organization: Organization) -> None:
    at = clock.now()

    def tell(value: int) -> Taken:
        try:
            told = [Told("order", "O-1", at, Decimal(value))]
            return record_outcomes(organization=organization, outcomes=told, acting="the tests")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            told = [Told("order", "O-1", at, Decimal(1))]
            assert record_outcomes(organization=organization, outcomes=told, acting="the tests").created == 1
            second = pool.submit(tell, 2)
            wait([second], timeout=0.5)
        assert second.result(timeout=30) == Taken(created=0, changed=1, unchanged=0)
    assert last_audit_entry(organization, "outcome.change").before["order O-1"]["value_eur"] == "1.00"


# --- The summary


def test_the_summary_says_what_the_contract_names(api: httpx2.Client, organization: Organization) -> None:
    at = datetime(2026, 10, 15, 12, tzinfo=UTC)

    def asked(route: str, cost: str, all_large: str, **more: Any) -> Decision:
        return decision(organization, at, route=route, cost_eur=cost, all_large_eur=all_large, **more)

    low = [{"tier": "small", "outcome": "low_confidence"}, {"tier": "large", "outcome": "accepted"}]
    write_past(
        organization=organization,
        records=[
            cost_record(organization, at, Decimal("0.02"), metadata={"lead_id": "L-1"}),
            cost_record(organization, at, Decimal("0.04"), metadata={"lead_id": "L-1", "order_id": "O-1"}),
            cost_record(organization, at, Decimal("0.04")),
        ],
        decisions=[
            asked("small", "0.02", "0.1"),
            asked("large", "0.08", "0.07", attempts=low),
            asked("cache", "0", "0.03"),
            asked("", "0", "0", error_code="no_provider_available"),
        ],
    )
    october = [lead(number, occurred_at="2026-10-31T23:30:00+01:00") for number in range(4)]
    orders = [lead(9, kind="order", value_eur="50", occurred_at="2026-10-01T00:10:00+02:00")]
    api.post(OUTCOMES, json={"outcomes": october + orders})
    said = api.get(SUMMARY, params={"from": "2026-10-01", "to": "2026-10-31"}).json()
    del said["as_of"]
    assert said == {
        **{"from": "2026-10-01", "to": "2026-10-31"},
        **{"cost_eur": "0.100000000", "leads": 4, "orders": 1, "value_eur": "50.000000000"},
        **{"cost_per_lead_eur": "0.025000000", "cost_per_order_eur": "0.100000000"},
        **{"direct_cost_per_lead_eur": "0.060000000", "direct_cost_per_order_eur": "0.040000000"},
        **{"return_on_spend": 500.0, "calls_small": 1, "calls_large": 1, "calls_degraded": 0},
        **{"calls_cache": 1, "cache_hit_rate": 1 / 3, "escalation_rate": 0.5},
        **{"all_large_eur": "0.200000000", "savings_factor": 2.0},
        **{"availability": 0.75, "availability_without_fallback": 0.75},
    }


def test_where_there_is_nothing_there_is_null(api: httpx2.Client) -> None:
    said = api.get(SUMMARY, params={"from": "2026-10-01", "to": "2026-10-01"}).json()
    assert (said["cost_eur"], said["leads"], said["calls_small"]) == ("0.000000000", 0, 0)
    nulls = {name for name, value in said.items() if value is None}
    assert nulls == {
        *("cost_per_lead_eur", "cost_per_order_eur", "direct_cost_per_lead_eur", "direct_cost_per_order_eur"),
        *("return_on_spend", "cache_hit_rate", "escalation_rate", "savings_factor", "availability"),
        "availability_without_fallback",
    }


def test_today_is_live_and_of_the_own_organization_alone(
    api: httpx2.Client, organization: Organization, make_organization: Make
) -> None:
    write_random_past(make_organization(), seed=5, count=20)
    settle_sync(hold_sync(charge_of(organization)), "0.25")
    said = api.get(SUMMARY).json()
    assert said["cost_eur"] == "0.250000000"
    assert said["direct_cost_per_lead_eur"] == "0.250000000"
    assert said["from"] == f"{clock.month_of(clock.now(), organization.time_zone)}"
    assert api.get(SUMMARY, params={"use_case": "none"}).json()["cost_eur"] == "0.000000000"


def test_a_completion_is_counted_at_once(api: httpx2.Client, organization: Organization) -> None:
    messages = [{"role": "user", "content": "[[confidence:0.9]] hello"}]
    done = api.post("/api/v1/completions", json={"messages": messages, "metadata": {"lead_id": "L-1"}}).json()
    said = api.get(SUMMARY).json()
    assert (said["cost_eur"], said["direct_cost_per_lead_eur"]) == (done["cost_eur"], done["cost_eur"])
    assert (said["calls_small"], said["availability"], said["escalation_rate"]) == (1, 1.0, 0.0)
    assert said["savings_factor"] > 1
    assert Decimal(said["all_large_eur"]) == Decision.objects.get(pk=done["id"]).all_large_eur


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"from": "2026-11-31"}, "from"),
        ({"from": "20261101"}, "from"),
        ({"to": "today"}, "to"),
        ({"from": "2026-W46-1"}, "from"),
        ({"from": "9999-12-01", "to": "9999-12-31"}, "to"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "from"),
        ({"from": "2020-11-02", "to": "2026-11-01"}, "from"),
        ({"use_case": "x" * 201}, "use_case"),
    ],
)
def test_a_wrong_period_is_named(api: httpx2.Client, given: dict[str, str], param: str) -> None:
    answer = api.get(SUMMARY, params=given)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
