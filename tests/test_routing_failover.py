"""A provider that keeps failing is skipped without a call, and traffic returns by itself."""

from datetime import timedelta

import httpx2
import pytest

from aigov import clock
from providers.circuit import FAILURES_MIN, OPEN_S
from tests.conftest import Sandbox

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
