"""A provider that fails every call for a minute, under load: `python -m tests.bench.outage`.

Clients ask again as soon as they are answered, plain and stream in turn, of one web process whose first
provider answers 500. How many get their answer, how often the failing provider is asked (the breaker allows
the failures that open the circuit, the calls in flight by then, and its probes), and whether one single probe
brings it back once it is well.

OUTAGE_S  for how many seconds it fails (60)
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import uvloop

from aigov import embedded
from providers.circuit import FAILURES_MIN, OPEN_MAX_S, OPEN_S
from tests.bench import stand
from tests.bench.__main__ import UVICORN, set_up
from tests.bench.faulty import Client, Providers, check_books, environment_of, question
from tests.bench.stand import OTHER_CORE, WEB_CORE
from tests.fault_cases import PROVIDERS

OUTAGE_S = float(os.environ.get("OUTAGE_S", "60"))
CLIENTS = 16
FAILING = "openai"
#: How long the healed provider takes: a second probe beside the first one would be seen.
ANSWERS_AFTER_S = 0.3
#: It counts as healed for good after so many answers.
ANSWERS_WANTED = 50
RECOVERY_WAIT_S = 2 * OPEN_MAX_S
SUCCESS_MIN, CALLS_MAX = 0.995, 1.1


@dataclass
class Found:
    """What the clients saw (milliseconds from request to whole answer), and the failing provider's calls."""

    statuses: Counter[int] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    failed_s: float = 0.0
    failed_calls: int = 0
    probe_at_s: float = 0.0
    beside_the_probe: int = 0

    @property
    def success(self) -> float:
        return self.statuses[200] / self.statuses.total()

    @property
    def allowed(self) -> int:
        """How many calls the breaker lets through to a provider that fails all the time."""
        return FAILURES_MIN + (CLIENTS - 1) + self.probes

    @property
    def probes(self) -> int:
        open_s = (min(OPEN_S * 2.0**at, OPEN_MAX_S) for at in range(100))
        return sum(begins <= self.failed_s for begins in accumulate(open_s))

    @property
    def kept(self) -> bool:
        few = self.failed_calls <= CALLS_MAX * self.allowed
        return self.success >= SUCCESS_MIN and few and self.beside_the_probe == 0


async def measure(providers: Providers, port: int, key: str) -> Found:
    await providers.open()
    found, stopping = Found(), asyncio.Event()

    async def client(place: int) -> None:
        one = Client(port, key)
        stream = bool(place % 2)
        while not stopping.is_set():
            number = found.statuses.total() + place * 10**6
            body = question(
                f"[[delay:{ANSWERS_AFTER_S * 1000:.0f}@{FAILING}]] number {number}:", stream=stream
            )
            began = time.perf_counter()
            await one.ask(body)
            status, last = await one.answer()
            found.took_ms.append((time.perf_counter() - began) * 1000)
            found.statuses[status if status != 200 or b'"attempts"' in last else 502] += 1
            stream = not stream
        await one.close()

    async with asyncio.TaskGroup() as clients:
        fail(providers, True)
        began = time.perf_counter()
        for place in range(CLIENTS):
            clients.create_task(client(place))
        await asyncio.sleep(OUTAGE_S)
        fail(providers, False)
        healed = time.perf_counter()
        await recovered(providers)
        stopping.set()
    calls = providers.sandbox.tally.cut
    found.failed_s = healed - began
    found.failed_calls = sum(row["provider"] == FAILING for row in calls)
    arrivals = sorted(
        row["arrived_s"] for row in providers.sandbox.tally.answered if row["provider"] == FAILING
    )
    found.probe_at_s = arrivals[0] - time.monotonic() + time.perf_counter() - began
    found.beside_the_probe = sum(at < arrivals[0] + ANSWERS_AFTER_S for at in arrivals[1:])
    return found


def fail(providers: Providers, on: bool) -> None:
    faults: list[dict[str, Any]] = [{"mode": "500", "provider": FAILING}] if on else []
    providers.sandbox.switches = providers.sandbox.switches.updated({"faults": faults})


async def recovered(providers: Providers) -> None:
    """Waits until the provider has answered again for a while."""
    async with asyncio.timeout(RECOVERY_WAIT_S):
        while sum(row["provider"] == FAILING for row in providers.sandbox.tally.answered) < ANSWERS_WANTED:
            await asyncio.sleep(0.2)


def report(found: Found) -> str:
    took = sorted(found.took_ms)
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    return "\n".join(
        [
            f"{FAILING} failed for {found.failed_s:.0f} s; {CLIENTS} clients, plain and stream in turn.",
            f"answered                        {found.statuses[200]:,} of {found.statuses.total():,}"
            f" = {found.success:.2%} (to be: {SUCCESS_MIN:.1%})",
            f"p50, p99 ms                     {p50:.0f}, {p99:.0f}",
            f"calls to the failing provider   {found.failed_calls}; the breaker allows {found.allowed}:"
            f" {FAILURES_MIN} failures, {CLIENTS - 1} in flight by then, {found.probes} probes",
            f"its first answer again          to a probe {found.probe_at_s:.1f} s after its first failure,"
            f" with {found.beside_the_probe} calls beside it (to be: 0)",
            "Kept." if found.kept else "NOT KEPT.",
        ]
    )


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    load_average = os.getloadavg()[0]
    stand.pin(0, OTHER_CORE)
    ports = {provider: embedded.free_port() for provider in PROVIDERS}
    web_port = embedded.free_port()
    with stand.services(ports["openai"]):
        os.environ.update(environment_of(ports))
        world: Any = set_up()
        organization = world.make_organization("an outage")
        key = world.key_of(organization)
        command = (*UVICORN, "--port", str(web_port), "aigov.asgi:application")
        with (
            stand.measured(command, core=WEB_CORE, port=web_port, ready="/readyz", environment={}),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            found = runner.run(measure(Providers(ports), web_port, key))
        books = check_books(found.statuses[200])
    print(f"The load average was {load_average:.1f} before.\n\n{report(found)}\n{books}")


if __name__ == "__main__":
    main()
