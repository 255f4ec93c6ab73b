"""The stand of the benches about faults: the provider sandbox in this process, and a client beside it.

Sandbox and client share one clock, which sees a request go, the first provider get it, and the backup.
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from providers.sandbox.app import Sandbox
from providers.sandbox.server import Answer, Connection, Doors, Request
from tests.bench.load import LENGTH, WrongAnswer
from tests.fault_cases import PROVIDERS

PATH = "/api/v1/completions"
NUMBER = re.compile(rb"number (\d+):")
PROVIDER_OF = {"/v1/chat/completions": "openai", "/v1/messages": "anthropic"}


class SeeingSandbox(Sandbox):
    """Notes when (on the performance counter) each numbered request arrived at which provider."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, dict[int, float]] = {provider: {} for provider in PROVIDERS}

    def __call__(self, request: Request, connection: Connection) -> Answer:
        number = NUMBER.search(request.body)
        if number is not None and request.path in PROVIDER_OF:
            self.seen[PROVIDER_OF[request.path]][int(number[1])] = time.perf_counter()
        return super().__call__(request, connection)


class Providers:
    """Both providers, each behind a door of its own, which can be shut."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.sandbox = SeeingSandbox()
        self._ports = ports
        self._doors = Doors("127.0.0.1")
        self._doors.handler = self.sandbox

    async def open(self) -> None:
        await self._doors.open(0)  # the first one cannot be shut
        for port in self._ports.values():
            await self._doors.open(port)

    async def shut(self, provider: str) -> None:
        await self._doors.shut(self._ports[provider])

    async def reopen(self, provider: str) -> None:
        await self._doors.open(self._ports[provider])


class Client:
    """A connection to the gateway, on which one question follows the other."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, body: Mapping[str, Any]) -> None:
        """Sends a request; its answer is to be read before the next one."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        content = json.dumps(body).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._writer.write(head.encode() + content)

    async def head(self) -> bytes:
        """The head of the answer; of a stream, it comes with its first words."""
        assert self._reader is not None
        return await self._reader.readuntil(b"\r\n\r\n")

    async def piece(self) -> bytes:
        """The next piece of a stream; empty at its end."""
        assert self._reader is not None
        length = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(length + 2))[:-2]

    async def rest(self, head: bytes) -> bytes:
        """The body of a plain answer with this head."""
        assert self._reader is not None
        length = LENGTH.search(head)
        return await self._reader.readexactly(int(length[1])) if length else b""

    async def answer(self) -> tuple[int, bytes]:
        """The status, and the whole body or the last piece of the stream."""
        head = await self.head()
        status = int(head[9:12])
        if LENGTH.search(head):
            return status, await self.rest(head)
        last = b""
        while piece := await self.piece():
            last = piece
        return status, last

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()


def question(text: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    """The body that asks for an answer of the large model, which streams as it comes."""
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "tier": "large", "cache": "off", "stream": stream, **more}


def checked(status: int, body: bytes, *, whole: bool) -> None:
    """Raises WrongAnswer where the answer is not what it is to be: whole, or a stream that has broken off."""
    ended = b'"attempts"' in body
    if status != 200 or ended != whole or (not whole and b'"answer_broken"' not in body):
        raise WrongAnswer(f"{status} {body[:500]!r}")


def environment_of(ports: Mapping[str, int]) -> dict[str, str]:
    """What leads the gateway to these providers."""
    return {
        "OPENAI_API_KEY": "sk-bench",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{ports['openai']}/v1",
        "ANTHROPIC_API_KEY": "sk-ant-bench",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{ports['anthropic']}",
    }


def check_books(answered: int) -> str:
    """A sentence; or the end, where an answer has no cost record, or an account is not its rows' sum."""
    from budgets import ledger
    from budgets.models import CostRecord, Hold

    settled, left = CostRecord.objects.filter(estimated=False).count(), Hold.objects.count()
    differences = len(ledger.differences())
    if settled != answered or left or differences:
        raise SystemExit(
            f"{answered} answers, but {settled} charged, {left} holds left, {differences} differences."
        )
    return f"All {answered:,} answers have their cost record; 0 holds left, 0 differences."
