"""From a part of the cap on, requests that leave the choice to us ask the small model only."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets import accounts
from budgets.ledger import Balance
from budgets.models import BudgetAccount
from providers.breaker import turn_switch
from routing import charging, policy
from tests.admin_world import in_server
from tests.alerts_world import costs, today
from tests.conftest import Sandbox, Server, month_account, refresh_circuits
from tests.test_routing_demotion import PATH, unsure
from tests.test_routing_policy import POLICY

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("from_percent", "spent", "held", "expected"),
    [
        *((None, "100", "0", False), ("90", "89.99", "0", False), ("90", "90", "0", True)),
        *(("90", "80", "10", True), ("0", "0", "0", True), ("100", "99.99", "0.01", True)),
    ],
)
def test_small_only(from_percent: str | None, spent: str, held: str, expected: bool) -> None:
    rules = replace(POLICY, degraded_from=None if from_percent is None else Decimal(from_percent))
    assert policy.is_small_only(rules, Balance(Decimal(100), Decimal(spent), Decimal(held))) is expected
    assert not policy.is_small_only(rules, Balance(None, Decimal(spent), Decimal(held)))


@pytest.fixture
def client(
    make_organization: Callable[..., Organization], make_client: Any, server: Server, sandbox: Sandbox
) -> httpx2.Client:
    """Of an organization that has spent 60 of 100 euro and wants the small model from 50 % on."""
    organization = make_organization(cap_eur="100")
    costs(organization, {today(organization): Decimal(60)})
    setting(organization, "ai.budget.degraded.from", 50)
    setting(organization, "ai.routing.large.use_cases", ["contracts"])
    client: httpx2.Client = make_client(organization)
    return client


def setting(organization: Organization, key: str, value: Any) -> None:
    set_value(
        key=key, scope="organization", organization=organization, value=value, acting="x", reason="a test"
    )


def organization_of(client: httpx2.Client) -> Organization:
    account = BudgetAccount.objects.filter(scope="organization", cap_eur=100).latest("pk")
    return account.organization


def route(client: httpx2.Client, **more: Any) -> tuple[str, list[str]]:
    answer = client.post(PATH, json=unsure(**more)).raise_for_status().json()
    return answer["route"], [attempt["tier"] for attempt in answer["attempts"]]


def test_an_unsure_answer_is_degraded_and_a_sure_one_small(client: httpx2.Client) -> None:
    assert route(client) == ("degraded", ["small"])
    assert route(client, confidence_threshold=0.1) == ("small", ["small"])


def test_a_use_case_of_the_large_model_is_degraded(client: httpx2.Client) -> None:
    assert route(client, use_case="contracts", confidence_threshold=0.1) == ("degraded", ["small"])


def test_who_needs_the_large_model_gets_it(client: httpx2.Client) -> None:
    assert route(client, tier="large") == ("large", ["large"])


def test_a_stream_is_degraded_too(client: httpx2.Client) -> None:
    with client.stream("POST", PATH, json=unsure(stream=True)) as response:
        assert '"route":"degraded"' in response.read().decode().replace(" ", "")


def test_tools_are_degraded_on_the_drop_in_face(client: httpx2.Client) -> None:
    asked = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "tools": [TOOL]}
    answer = client.post("/v1/chat/completions", json=asked).raise_for_status()
    assert answer.headers["x-ai-route"] == "degraded"


def test_a_raised_cap_ends_it_with_the_next_call(client: httpx2.Client) -> None:
    account = month_account(organization_of(client))
    accounts.set_month_cap(account=account, cap_eur=Decimal(1000), acting="finance", reason="a test")
    assert route(client) == ("large", ["small", "large"])


def test_without_a_small_model_nothing_is_asked(client: httpx2.Client, server: Server) -> None:
    for provider, model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5")):
        turn_switch(provider=provider, model=model, to="forced_open")
    in_server(server, refresh_circuits())
    assert client.post(PATH, json=unsure()).status_code == 503


def test_it_costs_nothing_where_it_is_off(
    client: httpx2.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwanted(course: object) -> Balance:
        raise AssertionError("the balance was read")

    setting(organization_of(client), "ai.budget.degraded.from", None)
    server.refresh()
    monkeypatch.setattr(charging, "note_balance", unwanted)
    assert route(client, use_case="contracts") == ("large", ["large"])
    assert route(client) == ("large", ["small", "large"])
