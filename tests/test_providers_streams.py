"""Streamed answers over real sockets: live, cut anywhere, silent, broken, abandoned; and what each costs."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from math import inf
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.adapters import sse, streaming
from providers.adapters.anthropic_stream import AnthropicStream
from providers.adapters.base import Adapter
from providers.adapters.openai_stream import OpenAIStream
from providers.adapters.sse import EventDecoder
from providers.adapters.streaming import StreamReading, Timer
from providers.answers import ask
from providers.errors import (
    BadCredentials,
    CallerError,
    ConnectionLost,
    ErrorAnswer,
    Malformed,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    SpendLimitReached,
    TimedOut,
)
from providers.types import ProviderReply, StreamItem, StreamStart, TextDelta, Tool, ToolCallDelta, Usage
from tests.provider_world import (
    ANSWERS,
    LONG_S,
    PROVIDERS,
    REQUEST_ID,
    Act,
    Upstream,
    adapter_of,
    http,
    refused,
    request,
    reset,
    upstream,
)

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req-1\r\nrequest-id: req-1\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"
CHUNK = {"model": "m-1", "service_tier": "default"}


def data(event: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(event).encode()


def openai_event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return data({**CHUNK, "usage": None, "choices": [{"delta": delta, "finish_reason": finish}]})


def claude_event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\n" % kind.encode() + data({"type": kind, **fields})


OPENAI_USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
CLAUDE_USAGE = {"input_tokens": 20, "output_tokens": 1, "service_tier": "standard"}
STREAMS: dict[str, list[bytes]] = {
    "openai": [
        openai_event({"role": "assistant", "content": ""}),
        openai_event({"content": "Hel"}),
        openai_event({"content": "lo"}),
        openai_event({}, finish="stop"),
        data({**CHUNK, "usage": OPENAI_USAGE, "choices": []}),
        b"data: [DONE]\n\n",
    ],
    "anthropic": [
        claude_event("message_start", message={"model": "m-1", "usage": CLAUDE_USAGE}),
        claude_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        claude_event("ping"),
        claude_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
        claude_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"}),
        claude_event("content_block_stop", index=0),
        claude_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        claude_event("message_stop"),
    ],
}
#: How many events come before the usage is known, and before the first word.
UNTIL_USAGE = {"openai": 5, "anthropic": 7}
UNTIL_WORDS = {"openai": 1, "anthropic": 3}
PINGS = {"openai": b": keep-alive\n\n", "anthropic": claude_event("ping")}
ERRORS = {
    "openai": lambda **error: data({"error": {"type": "", "code": None, "message": "no", **error}}),
    "anthropic": lambda **error: claude_event("error", error={"type": "", "message": "no", **error}),
}
CUTS = [(name, count) for name in PROVIDERS for count in range(len(STREAMS[name]))]


def framed(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def whole(name: str) -> bytes:
    return HEAD + b"".join(map(framed, STREAMS[name])) + LAST


def sent(*payloads: bytes, then: bytes | Act = LAST) -> Act:
    """Sends the head and `payloads`, and ends the body, says something else, or does as it is told."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(map(framed, payloads)))
        if isinstance(then, bytes):
            writer.write(then)
            await writer.drain()
        else:
            await writer.drain()
            await then(reader, writer)

    return act


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client goes away."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


def chatter(payload: bytes) -> Act:
    """Signs of life without end."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not writer.is_closing():
                writer.write(framed(payload))
                await writer.drain()
                await asyncio.sleep(0.01)

    return act


def stream_of(
    adapter: Adapter, *, within_s: float = LONG_S, content_s: float = LONG_S, **fields: Any
) -> AsyncGenerator[StreamItem, None]:
    now = asyncio.get_running_loop().time()
    fields = {"want_confidence": False, **fields}
    return adapter.stream(request(**fields), deadline=now + within_s, first_content_by=now + content_s)


async def read(name: str, *acts: bytes | Act, **fields: Any) -> tuple[list[StreamItem], Upstream]:
    async with upstream(*acts) as provider, adapter_of(name, provider.url) as adapter:
        return [item async for item in stream_of(adapter, **fields)], provider


async def broken(name: str, *acts: bytes | Act, **fields: Any) -> tuple[list[StreamItem], ProviderError]:
    """What came until the answer broke, and how it broke."""
    items: list[StreamItem] = []
    async with upstream(*acts) as provider, adapter_of(name, provider.url) as adapter:
        with pytest.raises(ProviderError) as caught:
            async for item in stream_of(adapter, **fields):
                items.append(item)
    return items, caught.value


def words(items: Sequence[StreamItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


# --- A whole answer


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_stream_is_its_start_its_pieces_and_the_whole(name: str) -> None:
    items, provider = await read(name, whole(name))
    start, *deltas, reply = items
    assert start == StreamStart("m-1", Usage(20, 1) if name == "anthropic" else None)
    assert deltas == [TextDelta("Hel"), TextDelta("lo")]
    assert isinstance(reply, ProviderReply)
    assert (reply.content, reply.finish_reason, reply.model) == ("Hello", "stop", "m-1")
    assert (reply.usage, reply.request_id) == (Usage(20, 3), "req-1")
    assert provider.bodies[0]["stream"] is True
    assert "accept: text/event-stream" in provider.heads[0]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_each_piece_is_given_before_the_next_is_sent(name: str) -> None:
    steps: asyncio.Queue[bytes] = asyncio.Queue()

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        while payload := await steps.get():
            writer.write(framed(payload))
            await writer.drain()
        writer.write(LAST)

    before, after = STREAMS[name][: UNTIL_WORDS[name]], STREAMS[name][UNTIL_WORDS[name] :]
    async with upstream(step) as provider, adapter_of(name, provider.url) as adapter:
        stream = stream_of(adapter)
        for payload in before:
            steps.put_nowait(payload)
        assert isinstance(await anext(stream), StreamStart)
        for payload, expected in zip(after, ("Hel", "lo"), strict=False):
            steps.put_nowait(payload)
            assert await anext(stream) == TextDelta(expected)
        for payload in (*after[2:], b""):
            steps.put_nowait(payload)
        assert [type(item) async for item in stream] == [ProviderReply]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_connection_serves_again_after_a_stream(name: str) -> None:
    async with upstream(whole(name)) as provider, adapter_of(name, provider.url) as adapter:
        for _ in range(3):
            assert words([item async for item in stream_of(adapter)]) == "Hello"
    assert (len(provider.calls), len(provider.bodies)) == (1, 3)


async def test_a_tool_call_comes_in_pieces() -> None:
    calls = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    events = [openai_event({"tool_calls": [call]}) for call in calls]
    events += [openai_event({}, finish="tool_calls"), *STREAMS["openai"][4:]]
    items, _ = await read("openai", sent(*events), tools=(Tool("weather", {}),))
    assert items[1:-1] == [
        ToolCallDelta(0, id="c1", name="weather"),
        ToolCallDelta(0, '{"a"'),
        ToolCallDelta(0, ": 1}"),
    ]


# --- Cut, broken off, unreadable


def assert_cut(name: str, count: int, items: list[StreamItem], error: ProviderError) -> None:
    """However it was cut after `count` events: what had come was given, and the cost is told if known."""
    assert (error.billed, error.failover, error.request_id) == ("maybe", True, "req-1")
    words_come = min(max(count - UNTIL_WORDS[name], 0), 2)
    assert words(items) == ("", "Hel", "Hello")[words_come]
    assert not any(isinstance(item, ProviderReply) for item in items)
    if count < UNTIL_USAGE[name]:
        assert error.reply is None
    else:
        assert error.reply is not None
        assert (error.reply.content, error.reply.usage) == ("Hello", Usage(20, 3))


@pytest.mark.parametrize(("name", "count"), CUTS)
async def test_a_connection_lost_within_a_stream_may_be_billed(name: str, count: int) -> None:
    items, error = await broken(name, sent(*STREAMS[name][:count], then=b""))
    assert type(error) is ConnectionLost
    assert_cut(name, count, items, error)


@pytest.mark.parametrize(("name", "count"), CUTS)
async def test_a_stream_that_ends_without_its_end_may_be_billed(name: str, count: int) -> None:
    items, error = await broken(name, sent(*STREAMS[name][:count]))
    assert type(error) is Malformed
    assert_cut(name, count, items, error)


@pytest.mark.parametrize(("name", "count"), CUTS)
async def test_an_event_cut_in_its_middle_is_none(name: str, count: int) -> None:
    half = STREAMS[name][count][:-9]
    items, error = await broken(name, sent(*STREAMS[name][:count], half))
    assert type(error) is Malformed
    assert_cut(name, count, items, error)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_reset_within_a_stream_may_be_billed(name: str) -> None:
    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        await reset(reader, writer)

    _, error = await broken(name, sent(*STREAMS[name][: UNTIL_WORDS[name] + 1], then=later))
    assert type(error) is ConnectionLost
    assert error.billed == "maybe"


UNREADABLE = (
    b"data: {\n\n",
    b"data: []\n\n",
    b"data: 1\n\n",
    b"data: \xff\n\n",
    b"data: " + b"[" * 100_000 + b"\n\n",
)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("event", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_an_event_that_cannot_be_read_may_be_billed(name: str, event: bytes) -> None:
    count = UNTIL_WORDS[name] + 1
    items, error = await broken(name, sent(*STREAMS[name][:count], event, *STREAMS[name][count:]))
    assert type(error) is Malformed
    assert_cut(name, count, items, error)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_end_without_usage_is_no_answer(name: str) -> None:
    missing = {"openai": [4], "anthropic": [6]}[name]
    events = [event for at, event in enumerate(STREAMS[name]) if at not in missing]
    items, error = await broken(name, sent(*events))
    assert type(error) is Malformed
    assert (error.billed, error.reply, words(items)) == ("maybe", None, "Hello")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_answer_in_one_piece_is_no_stream(name: str) -> None:
    _, error = await broken(name, http(200, ANSWERS[name]))
    assert type(error) is Malformed
    assert error.billed == "maybe"


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(("module", "limit"), [(sse, "EVENT_BYTES_MAX"), (streaming, "STREAM_BYTES_MAX")])
async def test_neither_an_event_nor_a_stream_is_read_without_limit(
    name: str, module: Any, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 1000)
    endless = chatter(b"x" * 300 if module is sse else PINGS[name])
    _, error = await broken(name, sent(STREAMS[name][0], then=endless))
    assert type(error) is Malformed
    assert error.billed == "maybe"


# --- An error within the stream, and before it

EVENT_ERRORS: list[tuple[str, dict[str, Any], type[ErrorAnswer]]] = [
    ("openai", {"type": "server_error"}, ServerError),
    ("openai", {"type": "server_error", "code": "server_is_overloaded"}, Overloaded),
    ("openai", {"type": "requests", "code": "rate_limit_exceeded"}, RateLimited),
    ("openai", {"type": "insufficient_quota", "code": "insufficient_quota"}, SpendLimitReached),
    ("openai", {"type": "invalid_request_error"}, CallerError),
    ("openai", {"code": 17}, ServerError),
    ("anthropic", {"type": "overloaded_error"}, Overloaded),
    ("anthropic", {"type": "api_error"}, ServerError),
    ("anthropic", {"type": "timeout_error"}, ServerError),
    ("anthropic", {"type": "rate_limit_error"}, RateLimited),
    ("anthropic", {"type": "authentication_error"}, BadCredentials),
    ("anthropic", {"type": "billing_error"}, SpendLimitReached),
    ("anthropic", {"type": "unheard_of"}, ServerError),
]


@pytest.mark.parametrize(("name", "error", "kind"), EVENT_ERRORS)
async def test_an_error_within_a_stream_has_its_class_but_may_be_billed(
    name: str, error: dict[str, Any], kind: type[ErrorAnswer]
) -> None:
    count = UNTIL_WORDS[name] + 1
    items, told = await broken(name, sent(*STREAMS[name][:count], ERRORS[name](**error)))
    assert type(told) is kind
    assert (told.billed, told.reply, told.request_id, words(items)) == ("maybe", None, "req-1", "Hel")
    assert kind.billed == "no", "what is told of one error must not stay on its class"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_error_after_the_usage_leaves_the_cost_known(name: str) -> None:
    count = UNTIL_USAGE[name]
    _, error = await broken(name, sent(*STREAMS[name][:count], ERRORS[name](type="server_error")))
    assert error.reply is not None
    assert error.reply.usage == Usage(20, 3)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [(429, {"retry_after": "7"}, RateLimited), (401, {}, BadCredentials), (500, {}, ServerError)],
)
async def test_an_error_answer_instead_of_a_stream_is_not_billed(
    name: str, status: int, headers: dict[str, str], kind: type[ErrorAnswer]
) -> None:
    answer = http(status, refused("x"), **{**headers, REQUEST_ID[name]: "req-9"})
    items, error = await broken(name, answer)
    assert type(error) is kind
    assert (items, error.billed, error.status, error.request_id) == ([], "no", status, "req-9")
    assert error.retry_after_s == (7.0 if headers else None)


async def test_an_account_without_money_is_told_before_a_stream_begins() -> None:
    message = "Your credit balance is too low to access the Anthropic API."
    _, error = await broken("anthropic", http(400, refused("invalid_request_error", message)))
    assert type(error) is SpendLimitReached


async def test_what_a_model_lacks_is_learned_from_a_stream_too() -> None:
    message = "Unsupported parameter: 'logprobs' is not supported with this model."
    lacks = http(
        400, refused("invalid_request_error", message, code="unsupported_parameter", param="logprobs")
    )
    items, provider = await read("openai", lacks, whole("openai"), want_confidence=True)
    assert words(items) == "Hello"
    assert ["logprobs" in body for body in provider.bodies] == [True, False]
    assert all("response_format" not in body for body in provider.bodies), "a stream is never wrapped"


async def test_log_probabilities_that_the_caller_wants_are_not_left_out_in_silence() -> None:
    message = "'logprobs' is not supported with this model."
    lacks = http(400, refused("invalid_request_error", message, code="unsupported_value", param="logprobs"))
    for _ in range(2):
        _, error = await broken("openai", lacks, top_logprobs=2)
        assert type(error) is CallerError
        assert error.param == "logprobs"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_a_provider_does_not_have_is_refused_before_anything_is_sent(name: str) -> None:
    fields: dict[str, Any] = {"stop": tuple("abcde")} if name == "openai" else {"top_logprobs": 1}
    async with upstream(whole(name)) as provider, adapter_of(name, provider.url) as adapter:
        with pytest.raises(CallerError) as caught:
            await anext(stream_of(adapter, **fields))
        with pytest.raises(CallerError):
            await adapter.complete(request(**fields), deadline=inf)
    assert caught.value.param == ("stop" if name == "openai" else "logprobs")
    assert (caught.value.billed, provider.bodies) == ("no", [])


# --- In time


@pytest.mark.parametrize("name", PROVIDERS)
async def test_signs_of_life_are_no_words(name: str) -> None:
    empty = STREAMS[name][: UNTIL_WORDS[name]]
    for payload in (PINGS[name], openai_event({"content": ""}) if name == "openai" else empty[2]):
        items, error = await broken(name, sent(*empty, then=chatter(payload)), content_s=0.3)
        assert type(error) is TimedOut
        assert (error.kind, error.billed, error.reply) == ("no_first_content", "maybe", None)
        assert words(items) == ""


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_provider_that_says_nothing_at_all_is_given_up_as_early(name: str) -> None:
    _, error = await broken(name, silence, content_s=0.3)
    assert (type(error), error.kind, error.billed) == (TimedOut, "no_first_content", "maybe")


FIRST_CONTENT = [
    ("openai", openai_event({"refusal": "No"})),
    ("openai", openai_event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]})),
    ("openai", STREAMS["openai"][1]),
    ("anthropic", STREAMS["anthropic"][3]),
    (
        "anthropic",
        claude_event(
            "content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f"}
        ),
    ),
]


NO_CONTENT = [
    *(("openai", event) for event in (STREAMS["openai"][0], *STREAMS["openai"][3:])),
    *(("anthropic", event) for event in STREAMS["anthropic"] if b"text_delta" not in event),
]


@pytest.mark.parametrize(
    ("name", "event", "is_content"),
    [(*case, True) for case in FIRST_CONTENT] + [(*case, False) for case in NO_CONTENT],
)
async def test_words_a_refusal_or_a_tool_call_are_content_and_nothing_else_is(
    name: str, event: bytes, is_content: bool
) -> None:
    asked = ask(request(want_confidence=False), logprobs=False, structured=True, stream=True)
    answer = {"openai": OpenAIStream, "anthropic": AnthropicStream}[name](request(), asked, None)
    timer = Timer(deadline=2.0, first_content_by=1.0)
    response = httpx2.Response(200, stream=NoBytes())
    reading = StreamReading(response, answer, timer, provider=name, request_id=None)
    before = STREAMS[name][:1] if event not in STREAMS[name] else STREAMS[name][: STREAMS[name].index(event)]
    for each in EventDecoder().feed(b"".join(each for each in before if (name, each) in NO_CONTENT)):
        reading.read(each)
    assert timer.until == 1.0
    for each in EventDecoder().feed(event):
        reading.read(each)
    assert timer.until == (2.0 if is_content else 1.0)


class NoBytes(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""


async def test_after_the_first_content_only_the_deadline_counts() -> None:
    begun = sent(*STREAMS["openai"][:2], then=chatter(PINGS["openai"]))
    async with upstream(whole("openai"), begun) as provider, adapter_of("openai", provider.url) as adapter:
        assert words([item async for item in stream_of(adapter)]) == "Hello"
        with pytest.raises(TimedOut) as caught:
            async for item in stream_of(adapter, content_s=2.0, within_s=2.5):
                assert not isinstance(item, ProviderReply)
    assert (caught.value.kind, caught.value.billed) == ("timed_out", "maybe")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_the_deadline_ends_a_stream_that_floods(name: str) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(framed(PINGS[name] * 100))
                await writer.drain()

    _, error = await broken(name, sent(then=flood), within_s=0.3)
    assert (type(error), error.kind) == (TimedOut, "timed_out")


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("times", [{"within_s": 0.0}, {"content_s": 0.0}])
async def test_without_time_left_no_stream_is_asked_for(name: str, times: dict[str, float]) -> None:
    async with upstream(whole(name)) as provider, adapter_of(name, provider.url) as adapter:
        with pytest.raises(NotSent):
            await anext(stream_of(adapter, **times))
    assert provider.bodies == []


# --- Whoever stops reading closes the connection


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_stream_that_is_closed_closes_its_connection_at_once(name: str, count: int) -> None:
    # The upstream waits for the client to go; its end is awaited before the adapter is closed.
    act = sent(*STREAMS[name][:-1], then=silence)
    async with upstream(act) as provider, adapter_of(name, provider.url) as adapter:
        async with aclosing(stream_of(adapter)) as stream:
            for _ in range(count):
                await anext(stream)
        await asyncio.wait_for(provider.calls[0], LONG_S)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_stream_closes_its_connection_at_once(name: str, begun: bool) -> None:
    async def listen(adapter: Adapter) -> None:
        async with aclosing(stream_of(adapter)) as stream:
            async for item in stream:
                if isinstance(item, TextDelta):
                    heard.set()

    heard = asyncio.Event()
    act = sent(*STREAMS[name][: UNTIL_WORDS[name] + 1], then=silence) if begun else silence
    async with upstream(act) as provider, adapter_of(name, provider.url) as adapter:
        listening = asyncio.create_task(listen(adapter))
        while not (heard.is_set() if begun else provider.bodies):
            await asyncio.sleep(0.01)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await asyncio.wait_for(provider.calls[0], LONG_S)


# --- Events


def events_of(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    decoder = EventDecoder()
    edges = [0, *sorted(cuts), len(raw)]
    chunks = [raw[low:high] for low, high in zip(edges, edges[1:], strict=False)]
    return [event for chunk in chunks for event in decoder.feed(chunk)]


lines = st.sampled_from(
    ["", "data: a", "data:b", "data", "data: ", ": comment", "event: x", "id: 1", "data:  c "]
)


@given(content=st.lists(lines, max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]), cuts=st.data())
def test_events_are_the_same_wherever_their_bytes_are_cut(content: list[str], end: str, cuts: Any) -> None:
    raw = "".join(line + end for line in [*content, "x", ""]).encode()
    edges = cuts.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    expected: list[bytes] = []
    gathered: list[bytes] = []
    for line in content + ([] if end == "\r" else ["x", ""]):
        if line.startswith("data:"):
            gathered.append(line[5:].removeprefix(" ").encode())
        elif not line and gathered:
            expected.append(b"\n".join(gathered))
            gathered = []
    found = events_of(raw, edges)
    # After a lone CR it is not known yet whether a LF belongs to it, so the last line may wait.
    assert found == expected or (end == "\r" and found[: len(expected)] == expected)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_stream_reads_the_same_wherever_its_bytes_are_cut(name: str) -> None:
    raw = b"".join(STREAMS[name])
    for size in (1, 7, 64):
        parts = [raw[at : at + size] for at in range(0, len(raw), size)]
        items, _ = await read(name, sent(*parts))
        assert words(items) == "Hello"
        assert isinstance(items[-1], ProviderReply)
