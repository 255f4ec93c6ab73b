"""Whether the providers whose circuits are open answer again.

Where a circuit is open or half-open, the provider is asked for the list of its models, which costs nothing.
What it said, and how quickly, is noted in Valkey for the admin. A provider that could not be reached, or
refused our credentials, and now answers, need not wait out its time: its circuits go half-open. One that
answered its calls with errors waits: that it lists its models says nothing of them.
"""

import asyncio
import json
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial

from django.conf import settings

from aigov import clock
from providers import circuit_store
from providers.adapters import open_adapter
from providers.circuit import Circuit, Key, after_answer_to_probe, standing
from providers.circuit_store import CircuitStore, StoreUnavailable
from providers.errors import ProviderError

log = logging.getLogger(__name__)

ANSWER_WAIT_S = 5.0
HEALTH = "aigov:provider_health"


@dataclass(frozen=True, slots=True)
class Health:
    """What a provider said when it was last asked.

    Args:
        error: the kind of failure; empty where it is up.
    """

    up: bool
    latency_ms: int
    checked_at: datetime
    error: str = ""


def health() -> dict[str, Health]:
    """Each provider that was asked at some time, by its name.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    with circuit_store.connected() as client:
        return {provider: _decoded(text) for provider, text in client.hgetall(HEALTH).items()}


async def probe_providers() -> None:
    """Asks the providers that have an open circuit. Without Valkey nobody could tell which these are."""
    store = CircuitStore(settings.REDIS_URL)
    try:
        circuits, _ = await store.apply({}, known={})
        found = await _ask(_in_question(circuits))
        await store.apply(_early_retries(circuits, found), known={})
        _note(found)
    except StoreUnavailable as error:
        log.warning("the providers are not probed: %s", error)
    finally:
        await store.aclose()


def _in_question(circuits: Mapping[Key, Circuit]) -> set[str]:
    now = clock.now().timestamp()
    troubled = {key[0] for key, circuit in circuits.items() if standing(circuit, now) != "closed"}
    return troubled & settings.PROVIDERS.keys()


async def _ask(providers: Collection[str]) -> dict[str, Health]:
    answers = await asyncio.gather(*(_probe(provider) for provider in providers))
    return dict(zip(providers, answers, strict=True))


async def _probe(provider: str) -> Health:
    adapter = open_adapter(provider, **settings.PROVIDERS[provider])
    asked, error_kind = time.monotonic(), ""
    try:
        await adapter.probe(deadline=asyncio.get_running_loop().time() + ANSWER_WAIT_S)
    except ProviderError as error:
        error_kind = error.kind
    finally:
        latency_ms = int((time.monotonic() - asked) * 1000)
        await adapter.aclose()
    return Health(not error_kind, latency_ms, clock.now(), error_kind)


def _early_retries(
    circuits: Mapping[Key, Circuit], found: Mapping[str, Health]
) -> dict[Key, list[partial[Circuit]]]:
    up = {provider for provider, health in found.items() if health.up}
    retry = partial(after_answer_to_probe, now=clock.now().timestamp())
    return {key: [retry] for key in circuits if key[0] in up}


def _note(found: Mapping[str, Health]) -> None:
    if found:
        with circuit_store.connected() as client:
            client.hset(HEALTH, mapping={provider: _encoded(health) for provider, health in found.items()})


def _encoded(health: Health) -> str:
    return json.dumps({**asdict(health), "checked_at": health.checked_at.isoformat()})


def _decoded(text: str) -> Health:
    values = json.loads(text)
    return Health(**{**values, "checked_at": datetime.fromisoformat(values["checked_at"])})
