"""The providers in the admin: how they stand, and the switch that operators turn."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect

from aigov import clock, embedded
from aigov.organizations.models import AuditEntry, Organization, Role
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value
from providers import circuit_store, health
from providers.breaker import shared_states, turn_switch
from providers.circuit import Circuit, encoded
from providers.health import Health
from routing.models import Decision
from tests.admin_world import as_role, errors_of, list_page, logged_in, person, text_of
from tests.conftest import Sandbox, Server, refresh_circuits
from tests.test_admin_browser import browser, log_in, new_person

PAGE = "/admin/providers/status/"
SMALL = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}


@pytest.fixture(autouse=True)
def as_new(server: Server) -> Iterator[None]:
    """No call is remembered and no switch is turned, neither before a test nor after it."""
    forget(server)
    yield
    forget(server)


def forget(server: Server) -> None:
    in_force(server)  # what the process has not told yet would come later
    for provider in SMALL:
        turn_switch(provider=provider, model="*", to="automatic")
    in_force(server)
    with circuit_store.connected() as client:
        client.delete(health.HEALTH)


def in_force(server: Server) -> None:
    """The process learns of it by itself within a quarter of a second; a busy machine need not wait."""
    asyncio.run_coroutine_threadsafe(refresh_circuits(), server.loop).result(timeout=30)


def switch_of(provider: str, model: str) -> str:
    return reverse("providers-switch", args=[provider, model])


def row_of(page: str, model: str) -> str:
    """The line of the page that shows `model`."""
    [row] = [part for part in page.split("<tr") if f">{model}<" in part]
    return row


def stand(provider: str, model: str, circuit: Circuit) -> None:
    with circuit_store.connected() as client:
        client.hset(circuit_store.CIRCUITS, f"{provider}/{model}", encoded(circuit))


def last_switch() -> AuditEntry:
    return AuditEntry.objects.filter(action="provider.switch").latest("id")


# --- What is shown


@pytest.mark.parametrize(
    ("circuit", "words"),
    [
        (None, "not called lately"),
        (Circuit(successes=3, failures=1), "answering"),
        (Circuit(switch="forced_open"), "kept off"),
        (Circuit(switch="forced_closed"), "kept on"),
    ],
)
def test_a_circuit_is_shown_in_plain_words(circuit: Circuit | None, words: str) -> None:
    if circuit is not None:
        stand("openai", SMALL["openai"], circuit)
    assert words in row_of(text_of(as_role("operator").get(PAGE)), SMALL["openai"])


def test_a_model_that_rests_says_until_when_and_why() -> None:
    now = clock.now()
    until = now + timedelta(seconds=200)
    opened, retry = now.timestamp(), until.timestamp()
    stand("openai", "gpt-4o", Circuit(opened_at=opened, retry_at=retry, reason="timed_out"))
    stand("openai", SMALL["openai"], Circuit(opened_at=opened - 9, retry_at=opened - 5, reason="overloaded"))
    page = text_of(as_role("operator").get(PAGE))
    resting = row_of(page, "gpt-4o")
    assert f"resting until {until.astimezone(ZoneInfo('Europe/Berlin')):%H:%M:%S}" in resting
    assert "because it did not answer in time" in resting
    assert "being tried" in row_of(page, SMALL["openai"])


def test_it_is_shown_whether_a_provider_could_be_reached() -> None:
    health._note(
        {
            "openai": Health(up=True, latency_ms=1234, checked_at=clock.now()),
            "anthropic": Health(up=False, latency_ms=250, checked_at=clock.now(), error="dns"),
        }
    )
    page = text_of(logged_in(person("operator"), accept_language="en").get(PAGE))
    assert "it answered within 1,234 ms" in page
    assert "its address could not be found (after 250 ms)" in page


def test_a_provider_that_was_never_asked_is_not_called_reachable() -> None:
    assert text_of(as_role("operator").get(PAGE)).count("Not asked so far") == 2


def test_operators_see_a_model_that_only_a_caller_has_named_while_it_is_in_trouble() -> None:
    model = f"gpt-{uuid4().hex[:8]}"
    stand("openai", model, Circuit(successes=1))
    assert model not in text_of(as_role("operator").get(PAGE))
    turn_switch(provider="openai", model=model, to="forced_open")
    assert "kept off" in row_of(text_of(as_role("operator").get(PAGE)), model)


def test_nobody_sees_which_models_others_have_chosen(make_organization: Callable[..., Organization]) -> None:
    ours, theirs = make_organization(), make_organization()
    model = f"ft-{uuid4().hex[:8]}"
    set_value(
        key="ai.providers.openai.models",
        scope="organization",
        organization=theirs,
        value={"small": model},
        acting="the tests",
        reason="a test",
    )
    stand("openai", model, Circuit(switch="forced_open"))
    assert model in text_of(as_role("finance", theirs).get(PAGE))
    assert model in text_of(as_role("operator").get(PAGE))
    assert model not in text_of(as_role("finance", ours).get(PAGE))
    SettingValue.objects.filter(organization=theirs).delete()


# --- The switch


def attempts(api: httpx2.Client) -> list[tuple[str, str]]:
    body = {"messages": [{"role": "user", "content": "Hello"}], "tier": "small", "cache": "off"}
    answer = api.post("/api/v1/completions", json=body).raise_for_status().json()
    assert Decision.objects.filter(pk=answer["id"]).exists()
    return [(attempt["provider"], attempt["outcome"]) for attempt in answer["attempts"]]


@pytest.mark.parametrize("model", ["*", SMALL["openai"]])
def test_a_switch_that_is_turned_here_makes_the_gateway_skip_and_ask_again(
    model: str, api: httpx2.Client, sandbox: Sandbox, server: Server
) -> None:
    client = as_role("operator")
    assert attempts(api) == [("openai", "accepted")]

    client.post(switch_of("openai", model), {"to": "forced_open", "reason": "they are down"})
    in_force(server)
    assert attempts(api) == [("openai", "skipped_circuit_open"), ("anthropic", "accepted")]

    client.post(switch_of("openai", model), {"to": "automatic", "reason": "they are back"})
    in_force(server)
    assert attempts(api) == [("openai", "accepted")]


def test_a_model_that_is_kept_on_is_asked_while_it_fails(
    api: httpx2.Client, sandbox: Sandbox, server: Server
) -> None:
    as_role("operator").post(
        switch_of("openai", SMALL["openai"]), {"to": "forced_closed", "reason": "we want to see the errors"}
    )
    in_force(server)
    sandbox.configure(faults=[{"provider": "openai", "mode": "500"}])
    for _ in range(7):
        assert attempts(api)[0] == ("openai", "failed")


def test_each_turn_stands_in_the_audit_trail() -> None:
    operator = person("operator")
    client = logged_in(operator)
    client.post(switch_of("openai", "gpt-4o"), {"to": "forced_open", "reason": "wrong answers"})
    entry = last_switch()
    assert (entry.actor, entry.target, entry.reason) == (operator.email, "OpenAI gpt-4o", "wrong answers")
    assert (entry.before, entry.after) == ({"switch": "automatic"}, {"switch": "kept off"})

    said = client.post(switch_of("openai", "*"), {"to": "forced_closed", "reason": "a test"}, follow=True)
    assert "Turned the switch of all models of OpenAI: kept on." in text_of(said)
    entry = last_switch()
    assert (entry.target, entry.after) == ("all models of OpenAI", {"switch": "kept on"})
    # The models' own switches were reset by that; what is in force now is the one of all models.
    client.post(switch_of("openai", "gpt-4o"), {"to": "automatic", "reason": "a test"})
    assert last_switch().before == {"switch": "kept on"}

    trail = text_of(client.get(f"{list_page(AuditEntry)}?subject=provider"))
    assert "Provider&#x27;s switch turned" in trail
    assert "switch: kept off" in trail


@pytest.mark.parametrize("role", [*Role.values, None])
def test_only_operators_turn_it(role: str | None, organization: Organization) -> None:
    client = as_role(role, organization)
    given = {"to": "forced_open", "reason": "mischief"}
    before = AuditEntry.objects.filter(action="provider.switch").count()
    for model in ("*", SMALL["openai"]):
        assert client.get(switch_of("openai", model)).status_code == 403
        assert client.post(switch_of("openai", model), given).status_code == 403
    assert all(state.switch == "automatic" for state in shared_states().values())
    assert AuditEntry.objects.filter(action="provider.switch").count() == before
    shown = client.get(PAGE)
    assert shown.status_code == (403 if role is None else 200)
    assert "/switch/" not in text_of(shown)


def test_nobody_turns_it_without_logging_in() -> None:
    for address in (PAGE, switch_of("openai", "*")):
        response = Client().post(address, {"to": "forced_open", "reason": "mischief"})
        assert response.status_code == 302
        assert response.headers["location"].startswith(reverse("admin:login"))
    assert all(state.switch == "automatic" for state in shared_states().values())


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"to": "forced_open", "reason": ""}, "reason", "Please give a reason"),
        ({"to": "", "reason": "x"}, "to", "Please choose one"),
        ({"to": "half_open", "reason": "x"}, "to", "Select a valid choice"),
    ],
)
def test_a_turn_needs_a_choice_and_a_reason(given: dict[str, str], field: str, words: str) -> None:
    errors = errors_of(as_role("operator").post(switch_of("openai", "*"), given))
    assert list(errors) == [field]
    assert words in errors[field][0]
    assert ("openai", "*") not in shared_states() or shared_states()["openai", "*"].switch == "automatic"


@pytest.mark.parametrize("key", [("nobody", "*"), ("openai", "no-such-model")])
def test_what_is_not_there_has_no_switch(key: tuple[str, str]) -> None:
    given = {"to": "forced_open", "reason": "x"}
    assert as_role("operator").post(switch_of(*key), given).status_code == 404
    assert key not in shared_states()


def test_without_valkey_it_is_said_and_nothing_is_lost(settings: Any) -> None:
    client, entries = as_role("operator"), AuditEntry.objects.count()
    settings.REDIS_URL = f"redis://127.0.0.1:{embedded.free_port()}/0"
    page = text_of(client.get(PAGE))
    assert "Valkey does not answer" in page
    assert "not known" in row_of(page, SMALL["openai"])
    assert "/switch/" not in page

    refused = client.post(switch_of("openai", "*"), {"to": "forced_open", "reason": "they are down"})
    assert "The switch cannot be turned now" in errors_of(refused)["__all__"][0]
    assert "they are down</textarea>" in text_of(refused)
    assert AuditEntry.objects.count() == entries


# --- In a browser


def test_an_operator_keeps_a_provider_off(server: Server) -> None:
    email, password = new_person("operator")
    faults: list[str] = []
    with browser(server, faults) as page:
        log_in(page, email, password)
        page.get_by_role("link", name="Providers").first.click()
        page.locator(f'a[href="{switch_of("anthropic", "*")}"]').click()
        page.get_by_label("Keep off").check()
        page.get_by_label("Reason").fill("the contract has ended")
        page.get_by_role("button", name="Turn the switch").click()
        expect(page.get_by_text("Turned the switch of all models of Anthropic: kept off.")).to_be_visible()
        expect(page.get_by_text("kept off", exact=True)).to_have_count(6)
    assert faults == []
    assert shared_states()["anthropic", "*"].switch == "forced_open"
