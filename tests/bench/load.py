"""The load: as many clients as there are connections, each of which asks again as soon as it is answered.

A client of our own over raw streams, because it takes a tenth of the CPU of a real one, and shares its core
with the provider and the database.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
#: What the last answers of a run may take after its time is over.
LAST_ANSWERS_WAIT_S = 30.0

_numbers = count(1)


class WrongAnswer(Exception):
    """Neither 200 nor 503: what was measured is not what should have been."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is put again and again; `%d` in its body becomes a number that never comes twice."""

    port: int
    path: str
    key: str = ""
    body: bytes | None = None

    @classmethod
    def post(cls, port: int, path: str, *, key: str, body: dict[str, Any]) -> "Question":
        return cls(port, path, key, json.dumps(body).encode())

    def requests(self) -> Iterator[bytes]:
        host = f"Host: 127.0.0.1:{self.port}\r\n"
        if self.body is None:
            while True:
                yield f"GET {self.path} HTTP/1.1\r\n{host}\r\n".encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\n{host}Authorization: Bearer {self.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        for number in _numbers:
            body = self.body.replace(b"%d", b"%d" % number)
            yield head + b"%d\r\n\r\n" % len(body) + body


@dataclass(frozen=True, slots=True)
class Answers:
    """What a run brought: how long each answer of 200 took, ascending, and how often it was 503."""

    seconds: float
    latencies_ms: list[float]
    refused: int

    def percentile_ms(self, percent: int) -> float:
        return self.latencies_ms[len(self.latencies_ms) * percent // 100]


def ask(question: Question, *, connections: int, seconds: float) -> Answers:
    """Puts `question` on all connections for `seconds`; raises a group of `WrongAnswer`, or TimeoutError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_ask(question, connections, seconds))


async def _ask(question: Question, connections: int, seconds: float) -> Answers:
    latencies: list[float | None] = []
    requests = question.requests()
    began = time.perf_counter()
    async with asyncio.timeout(seconds + LAST_ANSWERS_WAIT_S), asyncio.TaskGroup() as clients:
        for _ in range(connections):
            clients.create_task(_client(question.port, requests, began + seconds, latencies))
    answered = sorted(latency for latency in latencies if latency is not None)
    if not answered:
        raise WrongAnswer("every call was refused (503)")
    return Answers(time.perf_counter() - began, answered, len(latencies) - len(answered))


async def _client(port: int, requests: Iterator[bytes], until: float, latencies: list[float | None]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (sent := time.perf_counter()) < until:
            writer.write(next(requests))
            answered = await _read_answer(reader)
            latencies.append((time.perf_counter() - sent) * 1000 if answered else None)
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> bool:
    """Whether it was 200; False for 503."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    if length is None:
        raise WrongAnswer(f"an answer without its length: {head!r}")
    body = await reader.readexactly(int(length[1]))
    if head[9:12] not in (b"200", b"503"):
        raise WrongAnswer(f"{head[:40]!r} {body[:500]!r}")
    return head[9:12] == b"200"
