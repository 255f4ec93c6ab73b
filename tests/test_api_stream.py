"""Streams of the native face, and what happens when their client goes away."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import httpx2
import pytest

from aigov.organizations.models import Organization
from aigov.web.body_limit import Message
from aigov.web.event_stream import EventStream
from aigov.web.lean_handler import PATHS, LeanHandler
from budgets.models import CostRecord, Hold
from tests.conftest import Sandbox

PATH = "/api/v1/completions"
HELLO = [{"role": "user", "content": "[[confidence:0.9]] hello"}]
#: Within this the books of a stream whose client has left are to be closed; far above what is promised.
CLOSED_WITHIN_S = 30.0
ADDRESSES: dict[str, dict[str, Any]] = {
    PATH: {"tier": "large"},
    "/v1/chat/completions": {"model": "large"},
    "/v1/messages": {"model": "large", "max_tokens": 300},
}


def asked(address: str = PATH, text: str = "hello", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {**ADDRESSES[address], "messages": messages, "stream": True, "cache": "off", **more}


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of server-sent events."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


# --- The native face


@pytest.mark.parametrize("tier", ["auto", "small", "large"])
def test_deltas_and_then_the_whole_completion(api: httpx2.Client, tier: str) -> None:
    answer = api.post(PATH, json={"messages": HELLO, "tier": tier, "stream": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (answer.headers["cache-control"], answer.headers["x-ai-fallbacks"]) == ("no-cache", "0")
    *deltas, (last, completion) = events_of(answer.text)
    assert {name for name, _ in deltas} == {"delta"} and last == "completion"
    assert "".join(data["content"] for _, data in deltas) == completion["content"]
    for name in ("route", "model", "provider"):
        assert answer.headers[f"x-ai-{name}"] == completion[name]
    plain = api.post(PATH, json={"messages": HELLO, "tier": tier}).json()
    assert set(plain) == set(completion)
    assert api.get(f"{PATH}/{completion['id']}").status_code == 200
    assert len(deltas) > 1 or tier == "auto"


def test_an_answer_from_the_cache_streams_too(api: httpx2.Client) -> None:
    body = {"messages": HELLO, "tier": "small", "labels": ["A", "B"]}
    plain = api.post(PATH, json=body).json()
    *deltas, (_, completion) = events_of(api.post(PATH, json={**body, "stream": True}).text)
    assert (completion["route"], completion["content"]) == ("cache", plain["content"])
    assert [data["content"] for _, data in deltas] == [plain["content"]]


def test_a_label_comes_whole(api: httpx2.Client) -> None:
    body = {"messages": HELLO, "tier": "large", "labels": ["A", "B"], "stream": True}
    *deltas, (_, completion) = events_of(api.post(PATH, json=body).text)
    assert [data["content"] for _, data in deltas] == [completion["content"]]
    assert completion["content"] in ("A", "B")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_error_before_the_first_word_has_its_status(
    api: httpx2.Client, sandbox: Sandbox, address: str
) -> None:
    sandbox.configure(faults=[{"mode": "500"}])
    answer = api.post(address, json=asked(address))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] == "true"


def test_a_stream_that_breaks_ends_with_an_error(api: httpx2.Client, sandbox: Sandbox) -> None:
    sandbox.configure(faults=[{"mode": "cut_after_chunk:4", "provider": "openai"}])
    *deltas, (last, error) = events_of(api.post(PATH, json=asked()).text)
    assert {name for name, _ in deltas} == {"delta"} and last == "error"
    assert error["error"]["code"] == "answer_broken"


# --- A client that goes away


def closed_books(organization: Organization) -> CostRecord:
    """The one charge of `organization`, once nothing is held any more."""
    give_up_at = time.monotonic() + CLOSED_WITHIN_S
    while time.monotonic() < give_up_at:
        records = list(CostRecord.objects.filter(organization=organization))
        if records and not Hold.objects.filter(organization=organization).exists():
            assert len(records) == 1
            return records[0]
        time.sleep(0.05)
    raise AssertionError("the hold of a stream whose client has gone is still open")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("lines", [1, 5, 12])
def test_a_client_that_leaves_amid_the_stream_leaves_no_hold(
    api: httpx2.Client, sandbox: Sandbox, organization: Organization, address: str, lines: int
) -> None:
    """The model would write for minutes: only leaving can end it."""
    sandbox.configure(chunk_delay_ms=200)
    text = "[[tokens:2000]] a long story"
    with api.stream("POST", address, json=asked(address, text)) as answer:
        assert answer.status_code == 200
        for _, _line in zip(range(lines), answer.iter_lines(), strict=False):
            pass
    record = closed_books(organization)
    assert record.estimated and record.cost_eur == record.held_eur


def test_a_client_that_leaves_before_the_first_word_leaves_no_hold(
    api: httpx2.Client, sandbox: Sandbox, organization: Organization
) -> None:
    sandbox.configure(faults=[{"mode": "trickle"}])
    with pytest.raises(httpx2.ReadTimeout):
        api.post(PATH, json=asked(), timeout=1.0)
    assert closed_books(organization).estimated


# --- The handler


class Peer:
    """The server's side of one request, and its client."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.sent: list[Message] = []
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


class Stream:
    """Endless events, which note how they end."""

    def __init__(self) -> None:
        self.under_way, self.closed, self.left = asyncio.Event(), False, False
        self.response = EventStream(self._events(), headers={}, leave=self._leave)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: x\n\n"
                self.under_way.set()
                await asyncio.sleep(0.01)
        finally:
            self.closed = True

    def _leave(self) -> None:
        self.left = True


SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/healthz",
    "query_string": b"",
    "headers": [],
}


@pytest.fixture
def handled() -> Iterator[Callable[[Any], LeanHandler]]:
    """A handler whose view answers as it is told."""

    def made(view: Callable[[Any], Any]) -> LeanHandler:
        handler = LeanHandler()
        handler._middleware_chain = view
        return handler

    yield made


async def test_a_stream_is_closed_as_soon_as_its_client_leaves(handled: Callable[..., LeanHandler]) -> None:
    peer, stream = Peer(), Stream()

    async def view(request: Any) -> EventStream:
        return stream.response

    serving = asyncio.create_task(handled(view)(dict(SCOPE), peer.receive, peer.send))
    await stream.under_way.wait()
    peer.leaves.set()
    await serving
    assert stream.closed and stream.left
    assert peer.sent[0]["type"] == "http.response.start" and peer.sent[-1]["more_body"]


async def test_a_stream_is_left_where_its_client_went_before_it_began(
    handled: Callable[..., LeanHandler],
) -> None:
    peer, stream = Peer(), Stream()
    stuck = asyncio.Event()

    async def view(request: Any) -> EventStream:
        return stream.response

    async def send(message: Message) -> None:
        stuck.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(handled(view)(dict(SCOPE), peer.receive, send))
    await stuck.wait()
    peer.leaves.set()
    await serving
    assert stream.left


async def test_the_end_of_the_process_is_not_taken_for_a_client_that_left(
    handled: Callable[..., LeanHandler],
) -> None:
    peer, stream = Peer(), Stream()

    async def view(request: Any) -> EventStream:
        return stream.response

    serving = asyncio.create_task(handled(view)(dict(SCOPE), peer.receive, peer.send))
    await stream.under_way.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert stream.closed and stream.left


def test_the_faces_are_served_without_threads() -> None:
    assert set(ADDRESSES) <= PATHS
