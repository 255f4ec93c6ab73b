"""A thousand open streams in one web process: `python -m tests.bench.streams`.

They are opened one after the other, so many a second, and all of them stay open until the last one has
begun; then all at once. The provider (in this process) sends a chunk a second on each, the first words after
one second. Each stream is to come whole. What the gateway adds to the first words is the time from the
request until they are there, less that second: stated for the first and the last tenth of the streams, and
for all at once, where some are asked to come again (503 and Retry-After), and do as the official clients do.

STREAMS  how many (1,000)
BURST    1: also all at once
"""

import asyncio
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from aigov import embedded
from tests.bench import stand
from tests.bench.__main__ import UVICORN, set_up
from tests.bench.faulty import Client, Providers, check_books, environment_of, question
from tests.bench.load import WrongAnswer
from tests.bench.stand import OTHER_CORE, WEB_CORE, Measured
from tests.bench.switch_over import columns_of
from tests.fault_cases import PROVIDERS

STREAMS = int(os.environ.get("STREAMS", "1000"))
BURST = os.environ.get("BURST", "1") == "1"
STARTS_PER_S = 20
#: An organization's own limit of requests in flight (`ai.limits.in_flight`).
STREAMS_OF_AN_ORGANIZATION = 1_000
PAUSE_MS = 1_000
TOKENS = STREAMS // STARTS_PER_S + 20
WARM_UP_STREAMS = 50
DEADLINE_S = 300
WORDS = b"event: delta\n"
RETRY_AFTER_S = 1


@dataclass
class Run:
    """Milliseconds to the first words, in the order of the streams' begin.

    Args:
        open_max: how many streams the provider had open at once.
        memory_mb: the web process's resident memory, before and with all streams open.
        chunks: how many were heard in all.
        refused: how often a client was asked to come again (503).
    """

    first_ms: list[float] = field(default_factory=list)
    open_max: int = 0
    memory_mb: tuple[float, float] = (0.0, 0.0)
    cpu_s: float = 0.0
    seconds: float = 0.0
    chunks: int = 0
    refused: int = 0


class Streams:
    """Opens streams; the sandbox and the gateway are there."""

    def __init__(self, providers: Providers, web: Measured, keys: list[str]) -> None:
        self._providers, self._web, self._keys = providers, web, keys
        self.answered = 0

    async def run(self, count: int, *, starts_per_s: float | None, tokens: int) -> Run:
        """`count` streams, each so much later than the one before; None: all at once."""
        run, before = Run(first_ms=[0.0] * count), self._web.memory_mb()
        self._providers.sandbox.tally.reset()
        cpu_s, began = self._web.cpu_s(), time.perf_counter()
        begun = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as streams:
            for number in range(count):
                streams.create_task(self._stream(number, run, begun, tokens))
                if starts_per_s is not None:
                    await asyncio.sleep(began + (number + 1) / starts_per_s - time.perf_counter())
            for _ in range(count):
                await begun.acquire()
            run.memory_mb = before, self._web.memory_mb()
        run.cpu_s, run.seconds = self._web.cpu_s() - cpu_s, time.perf_counter() - began
        run.open_max = self._providers.sandbox.tally.streams_open_max
        self.answered += count
        return run

    async def _stream(self, number: int, run: Run, begun: asyncio.Semaphore, tokens: int) -> None:
        key = self._keys[number // STREAMS_OF_AN_ORGANIZATION]
        text = f"[[tokens:{tokens}]][[slow:{PAUSE_MS}]] {number} {self.answered}"
        client = Client(self._web.port, key)
        asked = time.perf_counter()
        while not await self._begins(client, question(text, stream=True, max_output_tokens=2 * tokens)):
            run.refused += 1
            await asyncio.sleep(RETRY_AFTER_S)
        last = b""
        while piece := await client.piece():
            if not last:
                run.first_ms[number] = (time.perf_counter() - asked) * 1000 - PAUSE_MS
                begun.release()
            run.chunks += piece.startswith(WORDS)
            last = piece
        if b'"attempts"' not in last:
            raise WrongAnswer(repr(last[:500]))
        await client.close()

    async def _begins(self, client: Client, body: dict[str, Any]) -> bool:
        """Whether the stream has begun; False where the client is asked to come again."""
        await client.ask(body)
        head = await client.head()
        if head[9:12] == b"200":
            return True
        told = await client.rest(head)
        if head[9:12] != b"503" or b"retry-after: 1\r\n" not in head:
            raise WrongAnswer(repr(told))
        return False


async def measure(streams: Streams, providers: Providers) -> list[Run]:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))  # our own; the gateway runs already
    await providers.open()
    await streams.run(WARM_UP_STREAMS, starts_per_s=STARTS_PER_S, tokens=1)
    print(f"{STREAMS} one after the other …", file=sys.stderr)
    ramp = await streams.run(STREAMS, starts_per_s=STARTS_PER_S, tokens=TOKENS)
    if not BURST:
        return [ramp]
    print(f"{STREAMS} at once …", file=sys.stderr)
    burst = await streams.run(STREAMS, starts_per_s=None, tokens=TOKENS)
    return [ramp, burst]


def report(runs: list[Run]) -> str:
    tenth = STREAMS // 10
    rows = {
        f"{STARTS_PER_S} a second: the first {tenth}": runs[0].first_ms[:tenth],
        f"{STARTS_PER_S} a second: the last {tenth}": runs[0].first_ms[-tenth:],
    }
    rows |= {f"all {STREAMS:,} at once": burst.first_ms for burst in runs[1:]}
    lines = [f"{'the first words, added ms':<34}{'p50':>9}{'p99':>9}{'max':>9}"]
    lines += [f"{name:<34}{columns_of(sorted(took))}" for name, took in rows.items()]
    for name, run in zip(("one after the other", "all at once"), runs, strict=False):
        before, during = run.memory_mb
        each_kb = (during - before) / STREAMS * 1024
        lines.append(
            f"{name}: {run.open_max:,} open at once, {run.chunks:,} chunks, {run.refused} × 503;"
            f" memory {before:.0f} → {during:.0f} MB ({each_kb:.0f} KB a stream);"
            f" CPU {run.cpu_s:.0f} s of {run.seconds:.0f} s"
        )
    return "\n".join(lines)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    load_average = os.getloadavg()[0]
    stand.pin(0, OTHER_CORE)
    ports = {provider: embedded.free_port() for provider in PROVIDERS}
    web_port = embedded.free_port()
    with stand.services(ports["openai"]):
        os.environ.update(environment_of(ports) | {"REQUEST_DEADLINE_S": str(DEADLINE_S)})
        world: Any = set_up()
        organizations = range(-(-STREAMS // STREAMS_OF_AN_ORGANIZATION))
        keys = [world.key_of(world.make_organization(f"streams {at}")) for at in organizations]
        options = ("--limit-concurrency", "2000", "--backlog", "1024")
        command = (*UVICORN, *options, "--port", str(web_port), "aigov.asgi:application")
        providers = Providers(ports)
        with (
            stand.measured(command, core=WEB_CORE, port=web_port, ready="/readyz", environment={}) as web,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            streams = Streams(providers, web, keys)
            runs = runner.run(measure(streams, providers))
        books = check_books(streams.answered)
    print(f"The load average was {load_average:.1f} before.\n\n{report(runs)}\n{books}")


if __name__ == "__main__":
    main()
