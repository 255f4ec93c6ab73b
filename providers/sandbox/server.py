"""A small HTTP/1.1 server on one asyncio protocol: fast, and able to misbehave.

A handler gets a request and its connection, and returns the whole answer as bytes, or a coroutine that
writes to the connection itself: slowly, partly, never, or by resetting it. The coroutine is cancelled when
the client goes away. One request at a time on a connection; a client that sends the next one before it has
its answer is cut off.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qs

import httptools

BODY_BYTES_MAX = 32 * 1024 * 1024
HEADERS_MAX = 200
BACKLOG = 1024
SHUTDOWN_S = 1.0
REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Request:
    """`headers` have lower-case names; `query` has each name's first value, `queries` all of them."""

    method: str = ""
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    queries: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        """The values of a parameter that is a list, which clients write as `name` or as `name[]`."""
        return [*self.queries.get(name, ()), *self.queries.get(f"{name}[]", ())]


Answer = bytes | Coroutine[Any, Any, None]
Handler = Callable[[Request, "Connection"], Answer]


def head(status: int, headers: Mapping[str, str], *, content_type: str, length: int | None) -> bytes:
    """The start of an answer; without a `length` (in bytes) its body comes in chunks."""
    extent = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reason = REASONS.get(status, "Unknown")
    return f"HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n{extent}\r\n{lines}\r\n".encode(
        "latin-1"
    )


def chunk(data: bytes) -> bytes:
    """`data` as a chunk of a chunked body; the empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """A client's connection, from its requests to its end."""

    def __init__(self, handler: Handler, connections: set["Connection"]) -> None:
        self.handler = handler
        self.connections = connections
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.request = Request()
        self.url = b""
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.task: asyncio.Task[None] | None = None

    # --- What a handler may do

    def write(self, data: bytes) -> None:
        """Sends `data`. Raises ConnectionResetError where the client is gone."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.write(data)

    def close(self) -> None:
        """Ends the connection, after what was written has been sent."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Ends the connection with RST."""
        if self.transport is not None:
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    # --- What asyncio and the parser call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep to this interface without being instances of it.
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        if self.task is not None and not self.task.done():
            self.close()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self.request = Request()
        self.url, self.body, self.body_bytes = b"", [], 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.request.headers) >= HEADERS_MAX:
            self.close()
            return
        self.request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.request.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)
        self.body_bytes += len(body)
        if self.body_bytes > BODY_BYTES_MAX:
            self.close()

    def on_message_complete(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        path, _, query = self.url.decode("latin-1").partition("?")
        self.request.path = path
        self.request.queries = parse_qs(query) if query else {}
        self.request.query = {name: values[0] for name, values in self.request.queries.items()}
        self.request.method = self.parser.get_method().decode("latin-1")
        self.request.body = b"".join(self.body)
        try:
            answer = self.handler(self.request, self)
        except Exception:
            self._failed()
            return
        if isinstance(answer, bytes):
            self.write(answer)
            self._answered()
        else:
            self.task = asyncio.get_running_loop().create_task(self._run(answer))

    async def _run(self, answer: Coroutine[Any, Any, None]) -> None:
        try:
            await answer
        except ConnectionError:
            return
        except Exception:
            self._failed()
            return
        self._answered()

    def _failed(self) -> None:
        """A defect of ours: it is logged, and the client loses its connection."""
        logger.exception("The sandbox could not answer")
        self.close()

    def _answered(self) -> None:
        if not self.parser.should_keep_alive():
            self.close()


class Doors:
    """The ports that lead to one handler: the first, and others that can be opened and shut.

    A shut port stays ours, bound and deaf, so that connections to it are refused and nobody else takes it.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.handler: Handler | None = None
        self.connections: dict[int, set[Connection]] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._deaf: dict[int, socket.socket] = {}

    async def open(self, port: int) -> int:
        """Listens on `port`, or on a free one where it is 0; returns which.

        Raises:
            OSError: somebody else has it.
            ValueError: there is no such port.
        """
        if port in self._servers:
            return port
        if not 0 <= port < 2**16:
            raise ValueError(f"{port} is no port.")
        handler = self.handler
        assert handler is not None
        if deaf := self._deaf.pop(port, None):
            deaf.close()
        connections: set[Connection] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(handler, connections), self.host, port, backlog=BACKLOG
        )
        number: int = server.sockets[0].getsockname()[1]
        self._servers[number], self.connections[number] = server, connections
        return number

    async def shut(self, port: int) -> None:
        """Refuses connections on `port`, and resets those that are there. The first port stays open.

        Raises:
            ValueError: it is the first port, or none of ours.
        """
        if port not in self._servers or port == next(iter(self._servers)):
            raise ValueError(f"{port} is no further port of the sandbox.")
        server = self._servers.pop(port)
        server.close()
        for connection in list(self.connections.pop(port)):
            connection.reset()
        await server.wait_closed()
        self._deaf[port] = self._bound(port)

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        deaf = socket.socket(family, socket.SOCK_STREAM)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind((self.host, port))
        return deaf

    async def close(self) -> None:
        """Shuts every port; calls in flight have `SHUTDOWN_S` to end."""
        for server in self._servers.values():
            server.close()
        for deaf in self._deaf.values():
            deaf.close()
        everyone = [one for connections in self.connections.values() for one in connections]
        tasks = [one.task for one in everyone if one.task is not None and not one.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=SHUTDOWN_S)
        for connection in everyone:
            connection.close()


async def serve(doors: Doors, port: int, stop: asyncio.Event) -> None:
    """Serves until `stop` is set. Prints the address when it listens; port 0 takes a free one."""
    number = await doors.open(port)
    print(f"Provider sandbox on http://{doors.host}:{number}", flush=True)
    await stop.wait()
    await doors.close()
