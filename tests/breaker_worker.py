"""Many processes that all meet half-open circuits at the same instant, for `test_providers_breaker`.

python -m tests.breaker_worker shared|get_then_set URL PROCESSES MODEL [MODEL ...]

Prints for each model how many of the processes were admitted. Without Django: one import, then forks.
"""

import asyncio
import json
import os
import sys
from collections import Counter

from redis.asyncio import Redis

from providers import circuit_store
from providers.breaker import Breaker
from providers.circuit import Circuit, Key, decoded
from providers.circuit_store import CIRCUITS, PROBE, CircuitStore

PROVIDER = "race"
AT_BARRIER, GATE = "race:at_barrier", "race:gate"
WAIT_S = 30
ROUNDS = 10


class GetThenSet(CircuitStore):
    """The control: whoever finds no probe sets one, in two steps."""

    async def take_probe(self, key: Key) -> Circuit | None:
        lease = PROBE + "/".join(key)
        if await self._client.get(lease):
            return None
        await asyncio.sleep(0.001)
        await self._client.set(lease, "mine", px=int(circuit_store.PROBE_WINDOW_S * 1000))
        return decoded(await self._client.hget(CIRCUITS, "/".join(key)) or "")


STORES = {"shared": CircuitStore, "get_then_set": GetThenSet}


async def admitted(way: str, url: str, processes: int, models: list[str]) -> dict[str, int]:
    store = STORES[way](url)
    breaker = Breaker(store)
    await breaker.refresh()
    await barrier(url, processes)
    counts: Counter[str] = Counter()
    for _ in range(ROUNDS):
        for model in models:
            counts[model] += await breaker.admits(PROVIDER, model)
        await breaker.refresh()
    await store.aclose()
    return counts


async def barrier(url: str, processes: int) -> None:
    """Returns in all processes at once, when the last has come."""
    async with Redis.from_url(url, socket_timeout=WAIT_S + 5) as client:
        if await client.incr(AT_BARRIER) == processes:
            await client.rpush(GATE, *range(processes))
        assert await client.blpop([GATE], timeout=WAIT_S), "the others do not come to the barrier"


def main(way: str, url: str, processes: int, models: list[str]) -> None:
    # However slow the machine is, the race is over within one window, and nobody gives Valkey up.
    circuit_store.PROBE_WINDOW_S = circuit_store.WAIT_S = 60.0
    reader, writer = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            counts = asyncio.run(admitted(way, url, processes, models))
            os.write(writer, json.dumps(counts).encode() + b"\n")
            os._exit(0)
    os.close(writer)
    statuses = [os.wait()[1] for _ in range(processes)]
    assert statuses == [0] * processes
    with open(reader) as lines:
        print(json.dumps(sum((Counter(json.loads(line)) for line in lines), Counter())))


if __name__ == "__main__":
    way, url, count, *models = sys.argv[1:]
    main(way, url, int(count), models)
