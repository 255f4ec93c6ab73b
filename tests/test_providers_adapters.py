"""The adapters against real sockets: what is sent and read, and what each failure means for the money."""

import asyncio
import contextlib
import json
import logging
import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from aigov import clock
from providers.adapters import base, faults, open_adapter, open_adapters, transport, wire
from providers.adapters.base import Adapter
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
from providers.types import Message, ProviderReply, Sampling, Usage
from tests.provider_world import (
    ANSWERS,
    ANTHROPIC_ANSWER,
    KEY,
    LONG_S,
    OPENAI_ANSWER,
    PROMPT,
    PROVIDERS,
    REQUEST_ID,
    Act,
    Upstream,
    adapter_of,
    cut,
    hang,
    hang_up,
    http,
    refused,
    request,
    reset,
    trickle,
    upstream,
)


async def ask(adapter: Adapter, *, within_s: float = LONG_S, **fields: Any) -> ProviderReply:
    deadline = asyncio.get_running_loop().time() + within_s
    return await adapter.complete(request(**fields), deadline=deadline)


async def answer(name: str, *acts: bytes | Act, **fields: Any) -> tuple[ProviderReply, Upstream]:
    async with upstream(*acts) as provider, adapter_of(name, provider.url) as adapter:
        return await ask(adapter, **fields), provider


async def failure(name: str, url: str, *, within_s: float = LONG_S) -> ProviderError:
    async with adapter_of(name, url) as adapter:
        with pytest.raises(ProviderError) as caught:
            await ask(adapter, within_s=within_s)
    return caught.value


async def failure_of(name: str, *acts: bytes | Act, within_s: float = LONG_S) -> ProviderError:
    """What a first call, which the SDK makes, and a later one, which goes without it, both end in."""
    async with upstream(*acts) as provider:
        first = await failure(name, provider.url, within_s=within_s)
    async with (
        upstream(http(200, ANSWERS[name]), *acts) as provider,
        adapter_of(name, provider.url) as adapter,
    ):
        await ask(adapter)
        with pytest.raises(ProviderError) as caught:
            await ask(adapter, within_s=within_s)
    later = caught.value
    assert type(later) is type(first)
    # A date to wait for has come nearer meanwhile.
    assert (later.retry_after_s is None) == (first.retry_after_s is None)
    assert {**vars(later), "retry_after_s": None} == {**vars(first), "retry_after_s": None}
    return first


# --- The head of a call is the SDK's


SDKS: dict[str, Callable[[str], Any]] = {
    "openai": lambda url: openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0),
    "anthropic": lambda url: anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0),
}
PATHS = {"openai": "/chat/completions", "anthropic": "/v1/messages"}
#: Of the connection and of each body, and what we ask for ourselves: no compression, and no time limit.
OUR_OWN = {"host", "connection", "content-length", "accept-encoding", "x-stainless-read-timeout"}


def parts_of(head: str) -> tuple[str, dict[str, str]]:
    first, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return first, {name: value for name, value in headers.items() if name not in OUR_OWN}


@pytest.mark.parametrize("name", PROVIDERS)
async def test_each_call_has_the_head_that_the_sdk_as_it_comes_writes(name: str) -> None:
    async with upstream(http(200, ANSWERS[name])) as provider, adapter_of(name, provider.url) as adapter:
        for text in ("one", "two", "and a third one"):
            await ask(adapter, messages=(Message("user", text),))
        async with SDKS[name](provider.url) as sdk:
            await sdk.post(PATHS[name], cast_to=httpx2.Response, body={"messages": []})
    *ours, as_it_comes = map(parts_of, provider.heads)
    assert ours == [as_it_comes] * 3
    assert all("accept-encoding: identity\r\n" in head for head in provider.heads[:3])
    assert [json.dumps(body).count("and a third one") for body in provider.bodies] == [0, 0, 1, 0]


# --- What was never sent is never billed


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_closed_port_is_not_billed(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = await failure(name, f"http://127.0.0.1:{port}")
    assert isinstance(error, NotSent)
    assert (error.kind, error.billed, error.failover) == ("refused_connection", "no", True)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_host_that_takes_no_connection_is_given_up_before_the_deadline_and_not_billed(
    name: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        # The queue of the listening socket is full, so the kernel leaves further connections unanswered.
        for _ in range(4):
            queued = waiting.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(full.getsockname())
        error = await failure(name, f"http://127.0.0.1:{full.getsockname()[1]}")
    assert isinstance(error, NotSent)
    assert (error.kind, error.billed) == ("connect_timeout", "no")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_name_that_is_not_known_is_not_billed(name: str) -> None:
    error = await failure(name, "http://provider.invalid")
    assert isinstance(error, NotSent)
    assert error.billed == "no"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_failed_tls_handshake_is_not_billed(name: str) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        error = await failure(name, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(error, NotSent)
    assert (error.kind, error.billed) == ("tls", "no")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_waiting_in_vain_for_a_free_connection_is_not_billed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CONNECTIONS_MAX", 1)
    async with upstream(hang) as provider, adapter_of(name, provider.url) as adapter:
        first = asyncio.create_task(ask(adapter))
        while not provider.bodies:
            await asyncio.sleep(0.01)
        with pytest.raises(NotSent) as caught:
            await ask(adapter)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert caught.value.kind == "connect_timeout"
    assert len(provider.bodies) == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_without_time_left_nothing_is_sent(name: str) -> None:
    async with upstream(http(200, ANSWERS[name])) as provider:
        error = await failure(name, provider.url, within_s=0)
    assert isinstance(error, NotSent)
    assert (error.kind, error.billed, provider.bodies) == ("no_time_left", "no", [])


# --- What fails after it was sent may be billed


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("act", [reset, hang_up, cut(b'{"id": "x'), cut(json.dumps(OPENAI_ANSWER).encode())])
async def test_a_connection_lost_after_the_request_may_be_billed(name: str, act: Act) -> None:
    error = await failure_of(name, act)
    assert isinstance(error, ConnectionLost)
    assert (error.kind, error.billed, error.failover) == ("connection_lost", "maybe", True)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("act", [hang, trickle])
async def test_an_answer_that_does_not_come_by_the_deadline_may_be_billed(name: str, act: Act) -> None:
    error = await failure_of(name, act, within_s=0.3)
    assert isinstance(error, TimedOut)
    assert (error.kind, error.billed, error.failover) == ("timed_out", "maybe", True)


def without(answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != key}


def with_usage(name: str, **counts: Any) -> dict[str, Any]:
    return {**ANSWERS[name], "usage": {**ANSWERS[name]["usage"], **counts}}


UNREADABLE: list[tuple[str, Any]] = [
    ("openai", without(OPENAI_ANSWER, "usage")),
    ("openai", {**OPENAI_ANSWER, "usage": None}),
    ("openai", with_usage("openai", prompt_tokens=None)),
    ("openai", with_usage("openai", completion_tokens="1")),
    ("openai", with_usage("openai", completion_tokens=True)),
    ("openai", with_usage("openai", prompt_tokens=-1)),
    ("openai", with_usage("openai", prompt_tokens_details={"cached_tokens": 21})),
    ("openai", {**OPENAI_ANSWER, "choices": []}),
    ("openai", {"error": {"message": "an error after a 200"}}),
    ("anthropic", without(ANTHROPIC_ANSWER, "usage")),
    ("anthropic", with_usage("anthropic", input_tokens=None)),
    ("anthropic", with_usage("anthropic", cache_creation={"ephemeral_1h_input_tokens": 5})),
    ("anthropic", {**ANTHROPIC_ANSWER, "content": None}),
    *[(name, body) for name in PROVIDERS for body in (b"<html>", b"", b"[]", b"\xff", b"[" * 100_000)],
]


@pytest.mark.parametrize(("name", "body"), UNREADABLE)
async def test_an_answer_without_readable_usage_may_be_billed_and_is_never_taken_as_free(
    name: str, body: Any
) -> None:
    header = REQUEST_ID[name]
    error = await failure_of(name, http(200, body, **{header: "req-7"}))
    assert isinstance(error, Malformed)
    assert (error.billed, error.failover, error.request_id) == ("maybe", True, "req-7")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_answer_that_is_no_http_may_be_billed(name: str) -> None:
    error = await failure_of(name, b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert isinstance(error, Malformed)
    assert error.billed == "maybe"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_answer_beyond_the_limit_is_not_read_to_its_end(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_BYTES_MAX", 1000)
    error = await failure_of(name, http(200, {**ANSWERS[name], "padding": "x" * 2000}))
    assert isinstance(error, Malformed)
    assert error.billed == "maybe"


# --- An error answer is never billed


ERROR_ANSWERS: list[tuple[str, int, dict[str, Any], type[ErrorAnswer], bool]] = [
    ("openai", 400, refused("invalid_request_error"), CallerError, False),
    ("openai", 404, refused("invalid_request_error", code="model_not_found"), CallerError, False),
    ("openai", 413, refused("invalid_request_error"), CallerError, False),
    ("openai", 422, refused("invalid_request_error"), CallerError, False),
    ("openai", 401, refused("invalid_request_error", code="invalid_api_key"), BadCredentials, True),
    ("openai", 403, refused("invalid_request_error"), BadCredentials, True),
    ("openai", 429, refused("requests", code="rate_limit_exceeded"), RateLimited, True),
    ("openai", 429, refused("insufficient_quota", code="insufficient_quota"), SpendLimitReached, True),
    ("openai", 429, refused("insufficient_quota", code="credit_balance_exhausted"), SpendLimitReached, True),
    ("openai", 429, refused("x", code="project_spend_limit_exceeded"), SpendLimitReached, True),
    ("openai", 429, refused("insufficient_quota"), SpendLimitReached, True),
    ("openai", 500, refused("server_error"), ServerError, True),
    ("openai", 502, {}, ServerError, True),
    ("openai", 503, refused("server_error", code="server_is_overloaded"), Overloaded, True),
    ("openai", 408, refused("timeout"), ServerError, True),
    ("anthropic", 400, refused("invalid_request_error"), CallerError, False),
    ("anthropic", 404, refused("not_found_error"), CallerError, False),
    ("anthropic", 413, refused("request_too_large"), CallerError, False),
    (
        "anthropic",
        400,
        refused("invalid_request_error", "Your credit balance is too low to access the API."),
        SpendLimitReached,
        True,
    ),
    (
        "anthropic",
        400,
        refused("invalid_request_error", "You have reached your specified API usage limits."),
        SpendLimitReached,
        True,
    ),
    ("anthropic", 401, refused("authentication_error"), BadCredentials, True),
    ("anthropic", 403, refused("permission_error"), BadCredentials, True),
    ("anthropic", 402, refused("billing_error"), SpendLimitReached, True),
    ("anthropic", 429, refused("rate_limit_error"), RateLimited, True),
    (
        "anthropic",
        429,
        refused("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        SpendLimitReached,
        True,
    ),
    ("anthropic", 500, refused("api_error"), ServerError, True),
    ("anthropic", 504, refused("timeout_error"), ServerError, True),
    ("anthropic", 529, refused("overloaded_error"), Overloaded, True),
]


@pytest.mark.parametrize(("name", "status", "body", "kind", "failover"), ERROR_ANSWERS)
async def test_an_error_answer_is_not_billed_and_says_whether_another_provider_may_help(
    name: str, status: int, body: dict[str, Any], kind: type[ErrorAnswer], failover: bool
) -> None:
    async with upstream(http(status, body, **{REQUEST_ID[name]: "req-9"})) as provider:
        error = await failure(name, provider.url)
    assert type(error) is kind
    assert (error.billed, error.failover, error.status, error.request_id) == ("no", failover, status, "req-9")
    assert error.alert is (kind in (BadCredentials, SpendLimitReached))
    assert len(provider.bodies) == 1, "the SDK's own retries must be off"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_redirect_is_an_error_and_our_key_goes_nowhere_else(name: str) -> None:
    async with upstream(http(200, ANSWERS[name])) as elsewhere:
        error = await failure_of(name, http(307, b"", location=f"{elsewhere.url}/v1/steal"))
    assert isinstance(error, ServerError)
    assert (error.billed, elsewhere.heads) == ("no", [])


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms_and_bounded(
    headers: dict[str, str], expected_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert faults.retry_after_s(httpx2.Headers(headers)) == expected_s


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_rate_limit_says_for_how_long(name: str) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    error = await failure_of(name, http(429, refused("rate_limit_error"), retry_after=at))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == pytest.approx(1000, abs=60)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_cancelled_call_is_cancelled(name: str) -> None:
    async with upstream(hang) as provider, adapter_of(name, provider.url) as adapter:
        call = asyncio.create_task(ask(adapter))
        while not provider.bodies:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("status", [400, 401, 500])
async def test_neither_key_nor_prompt_appears_in_an_error_or_a_log(
    name: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    message = f"Incorrect API key provided: {KEY}." if status == 401 else "wrong"
    error = await failure_of(name, http(status, refused("x", message)))
    told = f"{error} {error!r} {error.message} {caplog.text}"
    assert KEY not in told
    assert PROMPT not in told


# --- What is sent, and what is read


async def test_openai_is_asked_with_its_tier_its_bound_and_nothing_that_was_not_asked_for() -> None:
    _, provider = await answer("openai", http(200, OPENAI_ANSWER), want_confidence=False)
    assert provider.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_completion_tokens": 16,
            "service_tier": "default",
        }
    ]
    assert f"authorization: bearer {KEY}" in provider.heads[0]
    assert "accept-encoding: identity" in provider.heads[0]


async def test_anthropic_is_asked_with_its_tier_its_bound_and_its_system_prompt_apart() -> None:
    messages = (Message("system", "Be brief."), Message("user", "Hi"), Message("system", "Be kind."))
    _, provider = await answer(
        "anthropic",
        http(200, ANTHROPIC_ANSWER),
        messages=messages,
        want_confidence=False,
        sampling=Sampling(temperature=0.0),
        stop=("END",),
    )
    assert provider.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "system": "Be brief.\n\nBe kind.",
            "max_tokens": 16,
            "service_tier": "standard_only",
            "temperature": 0.0,
            "stop_sequences": ["END"],
        }
    ]


async def test_a_system_prompt_alone_is_asked_of_anthropic_as_a_users_turn() -> None:
    messages = (Message("system", "Write a haiku."),)
    _, provider = await answer(
        "anthropic", http(200, ANTHROPIC_ANSWER), messages=messages, want_confidence=False
    )
    assert provider.bodies[0]["messages"] == [{"role": "user", "content": "Write a haiku."}]
    assert "system" not in provider.bodies[0]


async def test_temperature_and_stop_go_to_openai_as_they_are() -> None:
    _, provider = await answer(
        "openai", http(200, OPENAI_ANSWER), sampling=Sampling(temperature=0.5), stop=("END", ".")
    )
    assert provider.bodies[0]["temperature"] == 0.5
    assert provider.bodies[0]["stop"] == ["END", "."]


def logprobs_of(*tokens: tuple[str, float]) -> dict[str, Any]:
    content = [
        {
            "token": text,
            "logprob": logprob,
            "bytes": [],
            "top_logprobs": [{"token": text, "logprob": logprob}],
        }
        for text, logprob in tokens
    ]
    choice = {**OPENAI_ANSWER["choices"][0], "logprobs": {"content": content}}
    return {**OPENAI_ANSWER, "choices": [choice]}


async def test_labels_are_asked_for_in_plain_text_with_log_probabilities_where_there_are_any() -> None:
    messages = (Message("system", "Classify."), Message("user", "x"))
    reply, provider = await answer(
        "openai", http(200, logprobs_of(("A", -0.25))), labels=("A", "ß"), messages=messages
    )
    body = provider.bodies[0]
    assert (body["logprobs"], body["top_logprobs"]) == (True, wire.TOP_LOGPROBS_LABELS)
    assert body["messages"][0]["content"].startswith("Classify.\n\nAnswer with exactly one of these labels")
    assert body["messages"][0]["content"].endswith('"A", "ß"')
    assert "response_format" not in body
    assert (reply.content, reply.verbalized) == ("A", None)
    assert reply.tokens is not None
    assert [(token.text, token.logprob, token.top) for token in reply.tokens] == [
        ("A", -0.25, (("A", -0.25),))
    ]


async def test_a_reply_says_what_it_is_billed_by() -> None:
    body = with_usage(
        "openai",
        prompt_tokens=100,
        prompt_tokens_details={"cached_tokens": 64, "cache_write_tokens": 8},
        completion_tokens=30,
        completion_tokens_details={"reasoning_tokens": 20},
    )
    reply, _ = await answer("openai", http(200, {**body, "service_tier": "flex"}, x_request_id="req-1"))
    assert reply.usage == Usage(100, 30, cache_read=64, cache_write_5m=8, reasoning=20, service_tier="flex")
    assert (reply.request_id, reply.model, reply.finish_reason) == ("req-1", "gpt-4o-mini-2024-07-18", "stop")
    assert reply.raw_usage == body["usage"]


async def test_what_anthropics_cache_read_and_wrote_is_part_of_our_total() -> None:
    body = with_usage(
        "anthropic",
        input_tokens=5,
        cache_read_input_tokens=100,
        cache_creation_input_tokens=30,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        output_tokens_details={"thinking_tokens": 4},
    )
    reply, _ = await answer("anthropic", http(200, body, request_id="req-2"))
    assert reply.usage == Usage(135, 9, cache_read=100, cache_write_5m=10, cache_write_1h=20, reasoning=4)
    assert reply.request_id == "req-2"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "standard"),
        ({"service_tier": None}, "standard"),
        ({"service_tier": "priority"}, "priority"),
        ({"speed": "fast"}, "fast"),
        ({"inference_geo": "not_available"}, "standard"),
        ({"inference_geo": "us"}, "standard:us"),
    ],
)
async def test_what_anthropic_bills_apart_is_a_tier_apart(fields: dict[str, Any], expected: str) -> None:
    reply, _ = await answer("anthropic", http(200, with_usage("anthropic", **fields)))
    assert reply.usage.service_tier == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("unheard_of", "stop"),
        (None, "stop"),
    ],
)
async def test_openais_reasons_to_finish_are_ours(reason: str | None, expected: str) -> None:
    choice = {**OPENAI_ANSWER["choices"][0], "finish_reason": reason}
    reply, _ = await answer("openai", http(200, {**OPENAI_ANSWER, "choices": [choice]}))
    assert reply.finish_reason == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
async def test_anthropics_reasons_to_finish_are_ours(reason: str, expected: str) -> None:
    reply, _ = await answer("anthropic", http(200, {**ANTHROPIC_ANSWER, "stop_reason": reason}))
    assert reply.finish_reason == expected


async def test_a_refusal_is_told_as_one_with_the_models_words() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    choice = {"finish_reason": "stop", "message": message}
    reply, _ = await answer("openai", http(200, {**OPENAI_ANSWER, "choices": [choice]}), labels=("A", "B"))
    assert (reply.content, reply.finish_reason) == ("I can't help with that.", "content_filter")
    assert (reply.tokens, reply.parsed) == (None, None)


# --- Structured answers, and what the model says of itself


def claude_says(text: str, **fields: Any) -> bytes:
    return http(200, {**ANTHROPIC_ANSWER, "content": [{"type": "text", "text": text}], **fields})


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "self": {"$ref": "#"}, "node": {"$ref": "#/$defs/node"}},
    "required": ["name", "self", "node"],
    "additionalProperties": False,
    "$defs": {"node": {"type": "array", "items": {"$ref": "#/properties/name"}}},
}


async def test_without_log_probabilities_a_label_comes_with_what_the_model_says_of_itself() -> None:
    reply, provider = await answer("anthropic", http(200, ANTHROPIC_ANSWER), labels=("A", "B"))
    schema = provider.bodies[0]["output_config"]["format"]["schema"]
    assert schema["properties"]["answer"] == {"type": "string", "enum": ["A", "B"]}
    assert schema["required"] == ["answer", "confidence"]
    assert schema["additionalProperties"] is False
    assert (reply.content, reply.verbalized, reply.tokens, reply.parsed) == ("A", 0.9, None, None)


async def test_a_schema_is_wrapped_with_its_references_led_to_where_it_stands() -> None:
    answered = '{"answer": {"name": "ö"}, "confidence": 1}'
    reply, provider = await answer("anthropic", claude_says(answered), response_schema=SCHEMA)
    schema = provider.bodies[0]["output_config"]["format"]["schema"]
    assert schema["$defs"] == {
        "node": {"type": "array", "items": {"$ref": "#/properties/answer/properties/name"}}
    }
    assert schema["properties"]["answer"]["properties"]["self"] == {"$ref": "#/properties/answer"}
    assert schema["properties"]["answer"]["properties"]["node"] == {"$ref": "#/$defs/node"}
    assert "$defs" not in schema["properties"]["answer"]
    assert (reply.parsed, reply.content, reply.verbalized) == ({"name": "ö"}, '{"name": "ö"}', 1.0)


async def test_a_schema_goes_to_openai_natively_with_log_probabilities() -> None:
    choice = {"finish_reason": "stop", "message": {"content": '{"name": "x"}'}}
    body = {**OPENAI_ANSWER, "choices": [choice]}
    reply, provider = await answer("openai", http(200, body), response_schema=SCHEMA)
    sent = provider.bodies[0]["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (True, SCHEMA)
    assert provider.bodies[0]["top_logprobs"] == wire.TOP_LOGPROBS_TEXT
    assert (reply.parsed, reply.content) == ({"name": "x"}, '{"name": "x"}')


@pytest.mark.parametrize(
    ("text", "content", "verbalized"),
    [
        ('{"answer": "Hello", "confidence": 0.5}', "Hello", 0.5),
        ("Hello", "Hello", None),
        ('{"other": 1}', '{"other": 1}', None),
        ('["answer"]', '["answer"]', None),
        ('{"answer": "Hello", "confidence": 85}', "Hello", None),
        ('{"answer": "Hello", "confidence": true}', "Hello", None),
        ('{"answer": "Hello", "confidence": "0.5"}', "Hello", None),
        ('{"answer": "Hello", "confidence": NaN}', "Hello", None),
        ('{"answer": "Hello"}', "Hello", None),
        ('{"answer": "Hello wor', "Hello wor", None),
        (' { "answer" : "Zwei\\nZeilen \\u00e4\\u00', "Zwei\nZeilen ä", None),
        ('{"answer": 42, "confidence": 0.5}', "42", 0.5),
    ],
)
async def test_free_text_comes_out_of_its_wrapper_and_a_model_that_ignores_it_is_taken_at_its_word(
    text: str, content: str, verbalized: float | None
) -> None:
    reply, _ = await answer("anthropic", claude_says(text))
    assert (reply.content, reply.verbalized) == (content, verbalized)


async def test_an_answer_that_is_no_object_has_nothing_parsed() -> None:
    for text in ("no JSON", '{"answer": "text", "confidence": 0.5}', "[1]"):
        reply, _ = await answer("anthropic", claude_says(text), response_schema=SCHEMA)
        assert reply.parsed is None


async def test_several_blocks_of_text_are_one_answer() -> None:
    blocks = [
        {"type": "thinking", "thinking": "…"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    body = {**ANTHROPIC_ANSWER, "content": blocks}
    reply, _ = await answer("anthropic", http(200, body), want_confidence=False)
    assert reply.content == "ab"


# --- What a model lacks is learned


def lacks_logprobs(code: str = "unsupported_parameter") -> bytes:
    message = "Unsupported parameter: 'logprobs' is not supported with this model."
    return http(400, refused("invalid_request_error", message, code=code, param="logprobs"))


def lacks_structured(name: str) -> bytes:
    if name == "anthropic":
        return http(400, refused("invalid_request_error", "'claude-3-haiku' does not support output format."))
    message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
    return http(400, refused("invalid_request_error", message, param="response_format"))


WRAPPED = {
    **OPENAI_ANSWER,
    "choices": [{"finish_reason": "stop", "message": {"content": '{"answer": "A", "confidence": 0.7}'}}],
}


@pytest.mark.parametrize("code", ["unsupported_parameter", "unsupported_value"])
async def test_a_model_without_log_probabilities_is_asked_for_its_own_word_once_refused_and_from_then_on(
    code: str,
) -> None:
    async with (
        upstream(lacks_logprobs(code), http(200, WRAPPED)) as provider,
        adapter_of("openai", provider.url) as adapter,
    ):
        first = await ask(adapter, model="o4-mini", labels=("A", "B"))
        second = await ask(adapter, model="o4-mini", labels=("A", "B"))
        await ask(adapter, model="gpt-4o", labels=("A", "B"))
    assert [("logprobs" in body, "response_format" in body) for body in provider.bodies] == [
        (True, False),
        (False, True),
        (False, True),
        (True, False),
    ]
    assert (first.content, first.verbalized, first.tokens) == ("A", 0.7, None)
    assert second == first


async def test_a_model_without_structured_output_too_is_asked_in_words() -> None:
    body = {**OPENAI_ANSWER, "choices": [{"finish_reason": "stop", "message": {"content": '{"name": "x"}'}}]}
    reply, provider = await answer(
        "openai", lacks_logprobs(), lacks_structured("openai"), http(200, body), response_schema=SCHEMA
    )
    assert len(provider.bodies) == 3
    assert "response_format" not in provider.bodies[2]
    assert "logprobs" not in provider.bodies[2]
    assert "fit this JSON Schema" in provider.bodies[2]["messages"][0]["content"]
    assert (reply.parsed, reply.verbalized) == ({"name": "x"}, None)


async def test_a_claude_without_structured_output_is_asked_in_words_from_then_on() -> None:
    async with (
        upstream(lacks_structured("anthropic"), claude_says("B")) as provider,
        adapter_of("anthropic", provider.url) as adapter,
    ):
        for _ in range(2):
            reply = await ask(adapter, labels=("A", "B"))
            assert (reply.content, reply.verbalized) == ("B", None)
    assert ["output_config" in body for body in provider.bodies] == [True, False, False]
    assert "exactly one of these labels" in provider.bodies[1]["system"]


@pytest.mark.parametrize(
    ("name", "message", "code", "param"),
    [
        ("openai", "Invalid schema for response_format 'answer'.", "invalid_json_schema", "response_format"),
        ("openai", "'temperature' is not supported with this model.", "unsupported_value", "temperature"),
        ("anthropic", "For 'number' type, property 'minimum' is not supported", None, None),
    ],
)
async def test_a_mistake_of_the_callers_is_told_and_not_repeated(
    name: str, message: str, code: str | None, param: str | None
) -> None:
    refusal = refused("invalid_request_error", message, code=code, param=param)
    async with upstream(http(400, refusal)) as provider, adapter_of(name, provider.url) as adapter:
        with pytest.raises(CallerError, match=re.escape(message)) as caught:
            await ask(adapter, response_schema=SCHEMA)
    assert len(provider.bodies) == 1
    assert caught.value.param == param


async def test_a_model_that_refuses_what_was_not_asked_for_is_not_asked_for_ever() -> None:
    async with upstream(lacks_logprobs()) as provider, adapter_of("openai", provider.url) as adapter:
        with pytest.raises(CallerError):
            await ask(adapter)
    assert len(provider.bodies) == 2


async def test_no_more_models_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LEARNED_MAX", 0)
    async with upstream(lacks_logprobs()) as provider, adapter_of("openai", provider.url) as adapter:
        with pytest.raises(CallerError):
            await ask(adapter)
    assert len(provider.bodies) == 1


# --- Opening


async def test_the_configured_providers_are_opened() -> None:
    adapters = open_adapters({name: {"api_key": KEY, "base_url": None} for name in PROVIDERS})
    assert {name: adapter.name for name, adapter in adapters.items()} == {name: name for name in PROVIDERS}
    for adapter in adapters.values():
        await adapter.aclose()


def test_a_provider_that_is_not_known_or_has_no_key_is_refused() -> None:
    with pytest.raises(LookupError, match="no provider elsewhere"):
        open_adapter("elsewhere", api_key=KEY)
    with pytest.raises(LookupError, match="openai has no key"):
        open_adapter("openai", api_key=None)
