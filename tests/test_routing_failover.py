"""A provider that keeps failing is skipped without a call, and traffic returns by itself."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from aigov import clock
from aigov.registry.values import set_value
from providers.circuit import FAILURES_MIN, OPEN_S
from tests.conftest import Sandbox, Server

PATH = "/api/v1/completions"


def attempts(api: httpx2.Client) -> list[tuple[str, str]]:
    body = {"messages": [{"role": "user", "content": "Hello"}], "tier": "small", "cache": "off"}
    answer = api.post(PATH, json=body).raise_for_status().json()
    return [(attempt["provider"], attempt["outcome"]) for attempt in answer["attempts"]]


def test_a_provider_that_keeps_failing_is_skipped_until_a_probe_succeeds(
    api: httpx2.Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure(faults=[{"provider": "openai", "mode": "500"}])
    for _ in range(FAILURES_MIN):
        assert attempts(api) == [("openai", "failed"), ("anthropic", "accepted")]
    assert attempts(api) == [("openai", "skipped_circuit_open"), ("anthropic", "accepted")]
    sandbox.configure(faults=[])
    real_now = clock.now
    monkeypatch.setattr(clock, "now", lambda: real_now() + timedelta(seconds=OPEN_S + 1))
    assert attempts(api) == [("openai", "accepted")]
    assert attempts(api) == [("openai", "accepted")]


def test_an_organization_that_does_not_wait_keeps_nobody_else_from_the_model(
    server: Server, make_client: Callable[..., httpx2.Client], make_organization: Any, sandbox: Sandbox
) -> None:
    hasty, patient = make_organization(), make_organization()
    set_value(
        key="ai.providers.first_content.timeout",
        scope="organization",
        organization=hasty,
        value="PT0.01S",
        acting="the tests",
        reason="a test",
    )
    client, others = make_client(hasty), make_client(patient)
    words = [{"role": "user", "content": "[[delay:300]] hello"}]
    asked = {"messages": words, "tier": "large", "cache": "off"}
    for _ in range(8):
        assert client.post(PATH, json={**asked, "stream": True}).status_code == 503
    answer = others.post(PATH, json=asked).raise_for_status().json()
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["accepted"]
