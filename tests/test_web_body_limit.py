"""The largest body that gets in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from aigov.web.body_limit import Message, Receive, Send, limited

BYTES_MAX = 100


@pytest.fixture(autouse=True)
def small_limit() -> Iterator[None]:
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=BYTES_MAX):
        yield


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """An application that reads the whole body first, as Django does."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def answer_to(chunks: list[bytes], *, content_length: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the answer to a body of `chunks`."""
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, start=1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if content_length is None else [(b"content-length", content_length)]
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    await limited(echo)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"]


async def test_a_body_up_to_the_limit_gets_in() -> None:
    assert await answer_to([b"x" * 60, b"y" * 40], content_length=b"100") == (200, b"x" * 60 + b"y" * 40)


async def test_a_longer_one_is_refused_once_it_is_sent() -> None:
    status, body = await answer_to([b"x" * 60, b"y" * 41], content_length=b"101")
    assert status == 413
    assert json.loads(body)["error"]["code"] == "request_too_large"


async def test_a_longer_one_that_hides_its_length_is_cut_off() -> None:
    status, body = await answer_to([b"x" * 60, b"y" * 41, b"z" * 1_000])
    assert status == 413
    assert json.loads(body)["error"]["code"] == "request_too_large"


async def test_a_length_that_is_none_is_counted_instead() -> None:
    assert (await answer_to([b"x" * 101], content_length=b"many"))[0] == 413


async def test_other_protocols_pass() -> None:
    seen = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def never(*_message: Message) -> Message:
        raise AssertionError

    await limited(application)({"type": "lifespan"}, never, never)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
