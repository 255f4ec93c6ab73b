"""What the tests of faults and of clients that go share: questions in all three faces, and what was heard.

A question makes each provider answer with words of its own, so that whoever reads the answer knows whose it
is, and would see a second model in it. It is put in the name of a user of its own, by whom its charges, holds
and decision are found.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

import httpx2
import psycopg

from aigov import database
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from aigov.registry.values import set_value
from budgets import ledger
from budgets.models import CostRecord, Hold
from tests.conftest import Sandbox
from tests.fault_cases import PROVIDERS
from tests.test_routing_under_fire import true_cost

NATIVE, CHAT, MESSAGES = "/api/v1/completions", "/v1/chat/completions", "/v1/messages"
FACES = (NATIVE, CHAT, MESSAGES)
WORDS = {
    "openai": "Apples ripen late in this part of the country, and pears a little earlier.",
    "anthropic": "Sailors used to know each star by its name and its place over the sea.",
}
EACH_ITS_WORDS = "".join(f"[[content:{words}@{provider}]]" for provider, words in WORDS.items())
OUTPUT_TOKENS_MAX = 100
WAIT_S = 60.0


def question(
    face: str, text: str, *, user: str, stream: bool, output_tokens_max: int = OUTPUT_TOKENS_MAX
) -> dict[str, Any]:
    """The body that asks the large model, whose answer streams as it comes."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "stream": stream}
    if face == NATIVE:
        return {**body, "tier": "large", "cache": "off", "user": user, "max_output_tokens": output_tokens_max}
    if face == CHAT:
        return {**body, "model": "large", "user": user, "max_completion_tokens": output_tokens_max}
    return {**body, "model": "large", "metadata": {"user_id": user}, "max_tokens": output_tokens_max}


# --- What was heard


@dataclass
class Heard:
    """An answer as its client has it.

    Args:
        words: the text of the answer, as far as it came.
        error: the error object, of an error answer or of a stream's last event.
        whole: whether the answer says that it is whole.
    """

    status: int
    headers: Mapping[str, str]
    words: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    whole: bool = False


async def heard(api: httpx2.AsyncClient, face: str, body: Mapping[str, Any]) -> Heard:
    """Asks, and hears the answer to its end."""
    response = await api.post(face, json=body)
    answer = Heard(response.status_code, response.headers)
    if response.headers["content-type"].startswith("text/event-stream"):
        for event in events_of(response.text):
            _hear(answer, face, event)
    else:
        _read(answer, face, response.json())
    return answer


def events_of(text: str) -> Iterator[str]:
    """The data of server-sent events."""
    for line in text.splitlines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def _hear(answer: Heard, face: str, event: str) -> None:
    assert not answer.error, "nothing comes after an error"
    data = {} if event == "[DONE]" else json.loads(event)
    if "error" in data:
        answer.error = data["error"]
    elif event == "[DONE]" or data.get("type") == "message_stop" or "attempts" in data:
        answer.whole = True
    else:
        answer.words += words_of(face, data)


def words_of(face: str, data: Mapping[str, Any]) -> str:
    """The words in an event; empty where it has none."""
    if face == NATIVE:
        return str(data["content"])
    if face == CHAT:
        return "".join(choice["delta"].get("content") or "" for choice in data["choices"])
    delta = data.get("delta", {})
    return str(delta.get("text", ""))


def _read(answer: Heard, face: str, body: Mapping[str, Any]) -> None:
    answer.error = body.get("error", {})
    if answer.error:
        return
    answer.whole = True
    if face == NATIVE:
        answer.words = body["content"]
    elif face == CHAT:
        answer.words = body["choices"][0]["message"]["content"]
    else:
        answer.words = body["content"][0]["text"]


# --- Who asks


def key_of(organization: Organization) -> dict[str, str]:
    """The headers of a new key with all scopes."""
    _, token = create_api_key(
        organization=organization, name="faults", scopes=Scope.values, acting="the tests"
    )
    return {"Authorization": f"Bearer {token}"}


def configure(organization: Organization, **values: Any) -> None:
    """Sets the organization's values of `KEYS`."""
    for name, value in values.items():
        set_value(
            key=KEYS[name],
            scope="organization",
            organization=organization,
            value=value,
            acting="the tests",
            reason="a test",
        )


def wait_until_known(url: str, headers: Mapping[str, str], **values: Any) -> None:
    """Waits until the process at `url` knows a new key, and the `configured` values."""
    names = {KEYS[name]: value for name, value in values.items()}
    with httpx2.Client(base_url=url, headers=headers, timeout=WAIT_S) as api:
        give_up_at = time.monotonic() + WAIT_S
        while True:
            answer = api.get("/api/v1/settings/effective", params={"keys": ",".join(KEYS.values())})
            if answer.status_code == 200:
                known = answer.json()["values"]
                if all(known[name]["value"] == value for name, value in names.items()):
                    return
            assert time.monotonic() < give_up_at, answer.text
            time.sleep(0.05)


KEYS = {
    "order": "ai.providers.order",
    "first_content": "ai.providers.first_content.timeout",
}


@asynccontextmanager
async def client(url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with as many connections as are wanted."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=WAIT_S, limits=limits) as api:
        yield api


# --- A client that goes


class RawClient:
    """One connection on which one stream is asked for; it can be left in every way.

    Args:
        receive_buffer: of how many bytes; None: as many as the system likes.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, receive_buffer: int | None = None) -> None:
        self._address, self._headers = url.removeprefix("http://"), headers
        self._receive_buffer = receive_buffer
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, face: str, body: Mapping[str, Any]) -> None:
        """Sends the request, and reads nothing."""
        host, port = self._address.split(":")
        connection = socket.socket()
        if self._receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        self._reader, self._writer = await asyncio.open_connection(sock=connection)
        content = json.dumps(body).encode()
        lines = [f"POST {face} HTTP/1.1", f"Host: {self._address}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        self._writer.write(
            "\r\n".join([*lines, f"Content-Length: {len(content)}\r\n\r\n"]).encode() + content
        )

    async def begin(self) -> None:
        """Reads the head of the answer, which is to be a stream."""
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in head, head

    async def words(self, face: str) -> AsyncGenerator[str, None]:
        """The answer's pieces, until it ends."""
        assert self._reader is not None
        while (line := await self._reader.readline()) not in (b"", b"0\r\n"):
            if line.startswith(b"data: {") and b'"attempts"' not in line:
                data = json.loads(line[6:])
                assert "error" not in data, data
                if words := words_of(face, data):
                    yield words

    async def close(self) -> None:
        """The orderly way (FIN)."""
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

    async def reset(self) -> None:
        """As a process that is killed, or a proxy that gives up (RST)."""
        assert self._writer is not None
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class Leaver:
    """A client that hears so many chunks with words in them, and then goes.

    Args:
        text: what it asks, with the sandbox's markers.
        rudely: whether it resets the connection.
    """

    face: str
    text: str
    chunks: int
    rudely: bool
    user: str

    async def play(self, url: str, headers: Mapping[str, str]) -> str:
        """Asks, listens and goes; gives the words that it has heard."""
        async with RawClient(url, headers) as one:
            await one.ask(self.face, question(self.face, self.text, user=self.user, stream=True))
            await one.begin()
            async with aclosing(one.words(self.face)) as words:
                heard = [piece for _ in range(self.chunks) if (piece := await anext(words, ""))]
            if self.rudely:
                await one.reset()
            return "".join(heard)


# --- The books


def wait_for_closed_books(organization: Organization) -> None:
    """Waits until the organization holds nothing any more."""
    give_up_at = time.monotonic() + WAIT_S
    while Hold.objects.filter(organization=organization).exists():
        assert time.monotonic() < give_up_at, "something is still held"
        time.sleep(0.05)


async def charged(organization: Organization) -> int:
    """How many charges there are, for who waits for them within an event loop."""
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        query = "SELECT count(*) FROM ai_costs WHERE organization_id = %s"
        cursor = await connection.execute(query, (organization.pk,))
        (count,) = await cursor.fetchone() or (0,)
        return int(count)


def wrongs(organization: Organization, sandbox: Mapping[str, Any]) -> list[str]:
    """What is wrong in the organization's books, as compared with what the providers have answered.

    Args:
        sandbox: its stats, with the rows of all that this organization has asked.
    """
    answered = {row["request_id"]: row for row in sandbox["answered"]}
    found = [f"{hold} is left" for hold in Hold.objects.filter(organization=organization)]
    for record in CostRecord.objects.filter(organization=organization):
        row = answered.get(record.provider_request_id)
        if record.estimated and record.cost_eur != record.held_eur:
            found.append(f"record {record.pk} is an estimate, but not of the whole hold")
        elif not record.estimated and (row is None or record.cost_eur != true_cost(row)):
            found.append(f"record {record.pk} is not what the provider has answered")
        if record.overrun:
            found.append(f"record {record.pk} is over its hold")
    mine = [row for row in ledger.differences() if row.organization == organization.name]
    return found + [str(row) for row in mine]


def charges(user: str) -> Sequence[CostRecord]:
    """What a user's question has cost, in the order of its attempts."""
    return list(CostRecord.objects.filter(user=user).order_by("attempt"))


def spent(records: Sequence[CostRecord]) -> Decimal:
    return sum((record.cost_eur for record in records), Decimal(0))


# --- The providers' doors


@contextmanager
def doors(sandbox: Sandbox) -> Iterator[Mapping[str, int]]:
    """A port of the sandbox's for each provider, which can be shut alone; shut at the end."""
    ports = {provider: _door(sandbox, port=0, open=True) for provider in PROVIDERS}
    try:
        yield ports
    finally:
        for port in ports.values():
            _door(sandbox, port=port, open=False)


def environment_of(ports: Mapping[str, int]) -> dict[str, str]:
    """What leads a web process through these doors."""
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{ports['openai']}/v1",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{ports['anthropic']}",
    }


@contextmanager
def shut(sandbox: Sandbox, port: int) -> Iterator[None]:
    """Connections to the port are refused for the time of the block."""
    _door(sandbox, port=port, open=False)
    try:
        yield
    finally:
        _door(sandbox, port=port, open=True)


def _door(sandbox: Sandbox, **wish: Any) -> int:
    answer = sandbox._client.post("/sandbox/ports", json=wish)
    number: int = answer.raise_for_status().json()["port"]
    return number
