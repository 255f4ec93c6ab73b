"""Providers whose calls have failed are asked, without cost, whether they are back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from aigov import clock, embedded
from providers import circuit_store, health
from providers.adapters import open_adapter
from providers.breaker import shared_states, turn_switch
from providers.circuit import Circuit, encoded
from providers.circuit_store import StoreUnavailable
from providers.errors import BadCredentials, Malformed, NotSent, ProviderError, ServerError, TimedOut
from providers.tasks import probe_providers
from tests.conftest import Sandbox

PROVIDERS = ("openai", "anthropic")
WAIT_S = 20.0
LISTED = {"data": [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}], "has_more": False}


# --- The question


def http(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.asynccontextmanager
async def upstream(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A provider that gives everybody `answer`, and None never; its URL, and the first lines it was sent."""
    lines: list[bytes] = []
    calls: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            lines.append((await reader.readuntil(b"\r\n\r\n")).splitlines()[0])
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines
        # The adapter is closed by now, so each call sees its end.
        await asyncio.gather(*(call for call in calls if call))


async def probe(name: str, url: str, *, within_s: float = WAIT_S) -> None:
    adapter = open_adapter(name, api_key="sk-canary-key", base_url=f"{url}/v1" if name == "openai" else url)
    try:
        await adapter.probe(deadline=asyncio.get_running_loop().time() + within_s)
    finally:
        await adapter.aclose()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_probe_asks_once_for_the_models_and_for_nothing_else(name: str) -> None:
    async with upstream(http(200, json.dumps(LISTED).encode())) as (url, lines):
        await probe(name, url)
    assert [line.split()[:2] for line in lines] == [[b"GET", b"/v1/models"]]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(500, b"{}"), ServerError),
        (http(401, b"{}"), BadCredentials),
        (http(200, b"{"), Malformed),
        (http(200, b"<html>", "text/html"), Malformed),
        (http(200, b"null"), Malformed),
        (http(302, b""), ServerError),
        (None, TimedOut),
    ],
)
async def test_a_probe_that_gets_no_list_says_why(
    name: str, answer: bytes | None, kind: type[ProviderError]
) -> None:
    async with upstream(answer) as (url, lines):
        with pytest.raises(kind):
            await probe(name, url, within_s=WAIT_S if answer else 0.3)
    assert len(lines) == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_probe_of_a_host_that_is_down_says_so(name: str) -> None:
    with pytest.raises(NotSent):
        await probe(name, f"http://127.0.0.1:{embedded.free_port()}")


# --- The task


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_store, "WAIT_S", WAIT_S)


@pytest.fixture
def model() -> Iterator[str]:
    """One that no other test knows, and before and after which no circuit is open."""
    forget()
    yield f"model-{uuid4().hex[:12]}"
    forget()


def forget() -> None:
    for provider in PROVIDERS:
        turn_switch(provider=provider, model="*", to="automatic")
    with circuit_store.connected() as client:
        client.delete(health.HEALTH)


def open_circuit(provider: str, model: str, reason: str) -> None:
    now = clock.now().timestamp()
    circuit = Circuit(openings=3, opened_at=now, retry_at=now + 100, reason=reason)
    with circuit_store.connected() as client:
        client.hset(circuit_store.CIRCUITS, f"{provider}/{model}", encoded(circuit))


def was_asked(sandbox: Sandbox) -> bool:
    return '"models"' in json.dumps(sandbox.stats())


def test_where_no_circuit_is_open_nobody_is_asked(sandbox: Sandbox, model: str) -> None:
    probe_providers()
    assert health.health() == {}
    assert not was_asked(sandbox)


def test_only_the_provider_that_failed_is_asked_and_what_it_said_is_noted(
    sandbox: Sandbox, model: str
) -> None:
    open_circuit("openai", model, "connection_lost")
    open_circuit("no longer configured", model, "connection_lost")
    probe_providers()
    assert was_asked(sandbox)
    [(provider, found)] = health.health().items()
    assert (provider, found.up, found.error) == ("openai", True, "")
    assert found.latency_ms >= 0
    assert clock.now() - found.checked_at < timedelta(seconds=60)


@pytest.mark.parametrize(("reason", "state"), [("connection_lost", "half_open"), ("server_error", "open")])
def test_a_provider_that_answers_may_be_tried_before_its_time_if_that_was_its_fault(
    sandbox: Sandbox, model: str, reason: str, state: str
) -> None:
    open_circuit("anthropic", model, reason)
    open_circuit("anthropic", "another", "dns")
    probe_providers()
    assert shared_states()["anthropic", model].state == state
    assert shared_states()["anthropic", "another"].state == "half_open"


def test_a_provider_that_does_not_answer_is_noted_as_down_and_waits(sandbox: Sandbox, model: str) -> None:
    sandbox.configure(faults=[{"provider": "openai", "mode": "500"}])
    open_circuit("openai", model, "connection_lost")
    open_circuit("anthropic", model, "connection_lost")
    probe_providers()
    assert {name: (found.up, found.error) for name, found in health.health().items()} == {
        "openai": (False, "server_error"),
        "anthropic": (True, ""),
    }
    assert shared_states()["openai", model].state == "open"
    assert shared_states()["anthropic", model].state == "half_open"


def test_without_valkey_the_task_ends_in_peace(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{embedded.free_port()}/0"
    probe_providers()
    assert "the providers are not probed" in caplog.text
    with pytest.raises(StoreUnavailable):
        health.health()
