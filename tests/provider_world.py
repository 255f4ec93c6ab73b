"""A provider of a few lines, over real sockets, and the adapters that ask it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from providers.adapters import open_adapter
from providers.adapters.base import Adapter
from providers.types import Message, Prompt, ProviderRequest

KEY = "sk-canary-key"
PROMPT = "the canary prompt"
PROVIDERS = ("openai", "anthropic")
#: Far longer than any answer here takes; a test that waits for it fails.
LONG_S = 20.0

OPENAI_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "A", "refusal": None}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
}
ANTHROPIC_ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "model": "claude-haiku-4-5-20251001",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": '{"answer": "A", "confidence": 0.9}'}],
    "usage": {"input_tokens": 20, "output_tokens": 9, "service_tier": "standard"},
}
REQUEST_ID = {"openai": "x-request-id", "anthropic": "request-id"}
ANSWERS = {"openai": OPENAI_ANSWER, "anthropic": ANTHROPIC_ANSWER}

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: Any, **headers: str) -> bytes:
    """An HTTP answer; `body` is JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Status", "content-type: application/json", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass
class Upstream:
    """A provider that does as it is told, one act a request; the last act is repeated."""

    acts: list[bytes | Act]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    calls: list[asyncio.Future[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.append(done)
        try:
            await self._serve(reader, writer)
        finally:
            done.set_result(None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                self.heads.append(head)
                act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                if not isinstance(act, bytes):
                    await act(reader, writer)
                    break
                writer.write(act)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def upstream(*acts: bytes | Act) -> AsyncIterator[Upstream]:
    provider = Upstream(list(acts))
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield provider
        # The adapter is closed by now, so each call has seen its end.
        await asyncio.gather(*provider.calls)


@contextlib.asynccontextmanager
async def adapter_of(name: str, url: str) -> AsyncIterator[Adapter]:
    adapter = open_adapter(name, api_key=KEY, base_url=f"{url}/v1" if name == "openai" else url)
    try:
        yield adapter
    finally:
        await adapter.aclose()


def request(**fields: Any) -> ProviderRequest:
    whole = {"model": "m", "max_output_tokens": 16, **fields}
    own = {
        name: whole.pop(name) for name in ("model", "max_output_tokens", "want_confidence") if name in whole
    }
    return ProviderRequest(prompt=Prompt(**{"messages": (Message("user", PROMPT),), **whole}), **own)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes without a word."""


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the client goes away."""
    await reader.read()


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Signs of life without end, which defeat a time-out that counts from the last byte."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof() and not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)


def cut(content: bytes) -> Act:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content) * 2}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()

    return act


def refused(type: str = "", message: str = "no", **fields: Any) -> dict[str, Any]:
    """The body of an error answer."""
    return {"type": "error", "error": {"type": type, "message": message, **fields}}
