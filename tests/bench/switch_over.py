"""How long it takes to go to the backup provider: `python -m tests.bench.switch_over`.

Both providers live in this process, as does the client, so one clock sees a request go, the first provider
fail it, and the backup get it. The time from the failure begins before the failing answer is written, and
ends when the whole request is at the backup: both ways over the loopback are in it. Who refuses connections
cannot say when: there it is the time from the request's begin that counts, beside that of a first provider
that is well.

The operator's switch keeps the first provider's circuit closed, so that each request meets the failure. In
the last case the circuit is left to itself, and only requests that it kept from the first provider count.
"""

import asyncio
import json
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvloop

from aigov import embedded
from tests.bench import load, stand
from tests.bench.__main__ import UVICORN, set_up
from tests.bench.load import Question
from tests.bench.stand import OTHER_CORE, WEB_CORE, Measured
from tests.bench.upstream import TEXT_ANSWER, Upstream

TRIES = 300
AT_ONCE = (1, 16)
TRIES_MAX = 20 * TRIES
WARM_UP_TRIES = 100
#: An open circuit is tried again after this time or more; until then all requests are kept from it.
SWITCHED_WAIT_S = 1.0
NUMBER = re.compile(rb"Contract (\d+):")
ASKED = {
    "messages": [{"role": "user", "content": "Contract %d: summarise it in one sentence."}],
    "tier": "small",
    "cache": "off",
}
BACKUP_ANSWER = json.dumps(
    {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "The contract runs for two years."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 60, "output_tokens": 9, "service_tier": "standard"},
    }
).encode()

WELL, REFUSED, RESET, OPEN = "well: no failure", "connection refused", "reset", "circuit open (of 500s)"
STATUSES = {"500": 500, "529": 529, "429": 429, OPEN: 500}
FAILURES = (REFUSED, RESET, "500", "529", "429")


@dataclass(slots=True)
class Seen:
    """When (on the performance counter) each numbered request was seen where, in the running case."""

    failure: str = WELL
    begun: dict[int, float] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)
    backup: dict[int, float] = field(default_factory=dict)


seen = Seen()


def number_of(request: bytes) -> int | None:
    found = NUMBER.search(request)
    return int(found[1]) if found else None


class First(Upstream):
    """The provider that is asked first, and fails as the running case says."""

    connections: set["First"] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)

    def answer(self, path: bytes, body: bytes) -> None:
        number = number_of(body)
        if number is not None:
            seen.first[number] = time.perf_counter()
        if seen.failure in STATUSES:
            self.transport.write(error_answer(STATUSES[seen.failure]))
        elif seen.failure == RESET:
            self.reset()
        else:
            self.write(TEXT_ANSWER)

    def reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Backup(Upstream):
    """The provider that is asked next, and answers."""

    def answer(self, path: bytes, body: bytes) -> None:
        number = number_of(body)
        if number is not None:
            seen.backup[number] = time.perf_counter()
        self.write(BACKUP_ANSWER)


def error_answer(status: int) -> bytes:
    body = json.dumps({"error": {"message": "bench", "type": "server_error", "code": None}}).encode()
    head = b"HTTP/1.1 %d Failed\r\nContent-Type: application/json\r\nRetry-After: 1\r\n" % status
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Providers:
    """The two providers' listening sockets."""

    def __init__(self, first_port: int, backup_port: int) -> None:
        self._ports = first_port, backup_port
        self._first: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(Backup, "127.0.0.1", self._ports[1])
        await self.listen()

    async def listen(self) -> None:
        if self._first is None:
            loop = asyncio.get_running_loop()
            self._first = await loop.create_server(First, "127.0.0.1", self._ports[0], backlog=1024)

    async def refuse(self) -> None:
        """The first provider's port is closed, and so are the connections to it."""
        assert self._first is not None
        self._first.close()
        self._first = None
        for connection in list(First.connections):
            connection.transport.abort()
        await asyncio.sleep(SWITCHED_WAIT_S)


# --- The cases


@dataclass(frozen=True, slots=True)
class Case:
    """Milliseconds of each try, ascending; from the failure where there was one to be seen.

    `cpu_ms`: the web process's CPU time, by request.
    """

    failure: str
    at_once: int
    cpu_ms: float
    from_failure_ms: list[float]
    from_begin_ms: list[float]


async def measure(providers: Providers, web: Measured, question: Question) -> list[Case]:
    from providers.breaker import turn_switch

    await providers.open()
    cases = []
    for failure in (WELL, *FAILURES, OPEN):
        print(f"{failure} …", file=sys.stderr)
        turn_switch(provider="openai", model="*", to="automatic" if failure == OPEN else "forced_closed")
        await (providers.refuse() if failure == REFUSED else providers.listen())
        await asyncio.sleep(SWITCHED_WAIT_S)
        requests = question.requests()
        await tries(failure, web, requests, at_once=max(AT_ONCE), wanted=WARM_UP_TRIES)
        for at_once in AT_ONCE:
            cases.append(await tries(failure, web, requests, at_once=at_once, wanted=TRIES))
    return cases


async def tries(failure: str, web: Measured, requests: Iterator[bytes], *, at_once: int, wanted: int) -> Case:
    """Asks until `wanted` requests, or more, have gone the way that the case is about."""
    global seen
    seen = Seen(failure)
    cpu_s = web.cpu_s()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        while len(counted(failure)) < wanted and len(seen.begun) < TRIES_MAX:
            request = next(requests)
            seen.begun[number_of(request) or 0] = time.perf_counter()
            writer.write(request)
            if not await load._read_answer(reader):
                raise load.WrongAnswer("a call was refused (503)")
        writer.close()

    async with asyncio.TaskGroup() as clients:
        for _ in range(at_once):
            clients.create_task(client())
    numbers = counted(failure)
    if len(numbers) < wanted:
        raise SystemExit(f"{failure}: only {len(numbers)} of {len(seen.begun)} requests went that way.")
    wire = seen.first if failure == WELL else seen.backup
    failed = {} if failure in (WELL, OPEN) else seen.first
    return Case(
        failure,
        at_once,
        (web.cpu_s() - cpu_s) / len(seen.begun) * 1000,
        sorted((wire[number] - failed[number]) * 1000 for number in numbers if number in failed),
        sorted((wire[number] - seen.begun[number]) * 1000 for number in numbers),
    )


def counted(failure: str) -> set[int]:
    """The requests that met the failure and were answered by the backup; without one, by the first."""
    if failure == WELL:
        return seen.first.keys() - seen.backup.keys()
    if failure in (REFUSED, OPEN):
        return seen.backup.keys() - seen.first.keys()
    return seen.backup.keys() & seen.first.keys()


# --- The table


def table(cases: list[Case]) -> str:
    times = f"{'p50':>9}{'p99':>9}{'max':>9}"
    lines = [
        f"{'':<34}{'ms from the failure':>27}{'ms from the request':>27}{'CPU ms of':>11}",
        f"{'the first provider':<26}{'at once':>8}{times}{times}{'a request':>11}",
    ]
    for case in cases:
        columns = columns_of(case.from_failure_ms) + columns_of(case.from_begin_ms)
        lines.append(f"{case.failure:<26}{case.at_once:>8}{columns}{case.cpu_ms:>11.1f}")
    return "\n".join(lines)


def columns_of(ascending: list[float]) -> str:
    if not ascending:
        return f"{'–':>9}" * 3
    p50, p99 = (ascending[len(ascending) * percent // 100] for percent in (50, 99))
    return f"{p50:>9.1f}{p99:>9.1f}{ascending[-1]:>9.1f}"


def environment_of(first_port: int, backup_port: int) -> Mapping[str, str]:
    return {
        "OPENAI_API_KEY": "bench",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{first_port}/v1",
        "ANTHROPIC_API_KEY": "bench",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{backup_port}",
    }


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    load_average = os.getloadavg()[0]
    stand.pin(0, OTHER_CORE)
    first_port, backup_port, web_port = (embedded.free_port() for _ in range(3))
    with stand.services(first_port):
        os.environ.update(environment_of(first_port, backup_port))
        world: Any = set_up()
        key = world.key_of(world.make_organization("switches over"))
        command = (*UVICORN, "--port", str(web_port), "aigov.asgi:application")
        with stand.measured(command, core=WEB_CORE, port=web_port, ready="/readyz", environment={}) as web:
            question = Question.post(web_port, "/api/v1/completions", key=key, body=ASKED)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                cases = runner.run(measure(Providers(first_port, backup_port), web, question))
    print(f"Until the request is at the backup provider ({TRIES} tries or more a row).")
    print(f"The load average was {load_average:.1f} before.\n\n{table(cases)}")


if __name__ == "__main__":
    main()
