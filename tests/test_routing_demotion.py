"""When a route is demoted, whom it concerns, and what ends it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from aigov import clock
from aigov.errors import BudgetExceeded, BudgetUnavailable, GatewayError, ModelNotPriced, NoProviderAvailable
from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets import accounts
from providers.failover import Candidate
from routing import demotion
from routing.course import Attempt
from routing.models import Demotion
from tests.conftest import Sandbox, Server, month_account

PATH = "/api/v1/completions"
TIGHT = "0.002"  # enough for small calls of 256 tokens, never for a large one


def unsure(text: str = "", **more: Any) -> dict[str, Any]:
    content = f"[[confidence:0.3@small]]{text}"
    return {
        "messages": [{"role": "user", "content": content}],
        "max_output_tokens": 256,
        "cache": "off",
        **more,
    }


def outcomes(response: httpx2.Response) -> list[str]:
    return [attempt["outcome"] for attempt in response.json()["attempts"]]


@pytest.fixture
def tight(make_organization: Callable[..., Organization]) -> Organization:
    return make_organization(cap_eur=TIGHT)


@pytest.fixture
def client(make_client: Callable[..., httpx2.Client], tight: Organization) -> httpx2.Client:
    return make_client(tight)


def test_a_route_without_money_for_the_large_model_stops_asking_for_it(
    client: httpx2.Client, tight: Organization, server: Server
) -> None:
    assert outcomes(client.post(PATH, json=unsure(use_case="leads"))) == ["low_confidence", "refused_budget"]
    server.refresh()
    again = client.post(PATH, json=unsure(use_case="leads"))
    assert (again.json()["route"], outcomes(again)) == ("degraded", ["low_confidence"])
    row = Demotion.objects.get(organization=tight)
    assert (row.use_case, row.cause) == ("leads", "budget")
    assert timedelta(minutes=29) < row.until - row.since <= timedelta(minutes=30)


def test_other_routes_and_requests_for_the_large_model_are_not_affected(
    client: httpx2.Client, server: Server
) -> None:
    client.post(PATH, json=unsure(use_case="leads"))
    server.refresh()
    assert outcomes(client.post(PATH, json=unsure(use_case="mail"))) == ["low_confidence", "refused_budget"]
    assert client.post(PATH, json=unsure(use_case="leads", tier="large")).status_code == 402


def test_a_raised_cap_ends_it_for_the_next_call(
    client: httpx2.Client, tight: Organization, server: Server
) -> None:
    client.post(PATH, json=unsure())
    accounts.set_month_cap(account=month_account(tight), cap_eur=Decimal(5), acting="finance", reason="test")
    assert not Demotion.objects.filter(organization=tight).exists()
    server.refresh()
    assert client.post(PATH, json=unsure()).json()["route"] == "large"


def test_it_ends_with_its_cooldown(
    client: httpx2.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post(PATH, json=unsure())
    server.refresh()
    later = clock.now() + timedelta(minutes=31)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert outcomes(client.post(PATH, json=unsure())) == ["low_confidence", "refused_budget"]


def test_the_cooldown_is_the_registrys(client: httpx2.Client, tight: Organization, server: Server) -> None:
    set_value(
        key="ai.routing.demotion.cooldown",
        scope="organization",
        organization=tight,
        value="PT0S",
        acting="test",
        reason="test",
    )
    server.refresh()
    client.post(PATH, json=unsure())
    assert not Demotion.objects.filter(organization=tight).exists()


def test_failed_providers_demote_until_a_large_model_answers(
    api: httpx2.Client, organization: Organization, server: Server, sandbox: Sandbox
) -> None:
    failing = api.post(PATH, json=unsure("[[fault:500@large]]"))
    assert outcomes(failing) == ["low_confidence", "failed", "failed"]
    assert Demotion.objects.get(organization=organization).cause == "providers"
    server.refresh()
    assert outcomes(api.post(PATH, json=unsure())) == ["low_confidence"]
    assert api.post(PATH, json=unsure(tier="large")).status_code == 200
    assert not Demotion.objects.filter(organization=organization).exists()
    server.refresh()
    assert api.post(PATH, json=unsure()).json()["route"] == "large"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BudgetExceeded("x"), "budget"),
        (BudgetExceeded("x", metadata={"scope": "use_case"}), "budget"),
        (BudgetExceeded("x", metadata={"scope": "user"}), None),
        (BudgetExceeded("x", code="in_flight_budget_exhausted"), None),
        (NoProviderAvailable("x"), "providers"),
        (ModelNotPriced("x"), None),
        (BudgetUnavailable("x"), None),
    ],
)
def test_what_demotes(error: GatewayError, cause: str | None) -> None:
    failed = Attempt(Candidate("openai", "gpt-4o", "large"), "failed")
    assert demotion.cause_of(error, [failed]) == cause


def test_lack_of_time_is_no_failure_of_the_providers() -> None:
    rejected = Attempt(Candidate("openai", "gpt-4o-mini", "small"), "failed")
    assert demotion.cause_of(NoProviderAvailable("x"), [rejected]) is None


def test_a_budgets_demotion_ends_with_its_month(
    client: httpx2.Client, tight: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_minutes = datetime(2028, 1, 31, 22, 50, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: last_minutes)
    account = accounts.open_month(organization=tight)
    accounts.set_month_cap(account=account, cap_eur=Decimal(TIGHT), acting="finance", reason="test")
    client.post(PATH, json=unsure())
    assert Demotion.objects.get(organization=tight).until == datetime(2028, 1, 31, 23, 0, tzinfo=UTC)
