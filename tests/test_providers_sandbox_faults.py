"""What goes wrong in the sandbox when it is told to, as plain HTTP sees it, and what it counts of it."""

import asyncio
import contextlib
import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2
import openai
import pytest

from tests.sandbox_world import (
    HEADERS,
    MODELS,
    PATHS,
    TIMEOUT_S,
    asked_of,
    body_of,
    configure,
    stats,
    wait_for,
)

pytest_plugins = ["tests.sandbox_fixtures"]

PROVIDERS = ("openai", "anthropic")
FOUR_WORDS = "[[content:one two three four]]"
#: How a content chunk looks on the wire.
CONTENT = {"openai": b'"delta":{"content":"', "anthropic": b'"type":"content_block_delta"'}
END = {"openai": b"data: [DONE]", "anthropic": b"event: message_stop"}


def post(control: httpx2.Client, provider: str, text: str, **more: Any) -> httpx2.Response:
    return control.post(PATHS[provider], json=body_of(provider, text, **more), headers=HEADERS[provider])


def received(url: str, provider: str, text: str, *, stream: bool = True) -> tuple[bytes, bool]:
    """The body as far as it came, and whether it came whole."""
    with contextlib.closing(asked_of(url, provider, text, stream=stream)) as connection:
        response = connection.getresponse()
        assert response.status == 200
        try:
            return response.read(), True
        except http.client.IncompleteRead as error:
            return error.partial, False


def output_tokens(usage: dict[str, int]) -> int:
    return usage.get("completion_tokens", usage.get("output_tokens", -1))


# --- Streams that break


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("mode", ["cut", "cutclean"])
def test_a_stream_is_cut_after_so_many_content_chunks(
    url: str, control: httpx2.Client, provider: str, kept: int, mode: str
) -> None:
    body, whole = received(url, provider, f"[[fault:{mode}:{kept}]]{FOUR_WORDS}")
    assert body.count(CONTENT[provider]) == kept
    assert END[provider] not in body
    assert whole == (mode == "cutclean")
    wait_for(lambda: stats(control)["cut"])
    [row] = stats(control)["cut"]
    assert (row["outcome"], row["chunks"], row["gone"], row["stream"]) == (mode, kept, False, True)
    assert output_tokens(row["usage"]) == kept
    assert stats(control)["answered"] == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_comes_after_so_many_content_chunks(url: str, control: httpx2.Client, provider: str) -> None:
    body, whole = received(url, provider, f"[[fault:error:2]]{FOUR_WORDS}")
    assert (body.count(CONTENT[provider]), whole) == (2, True)
    last = body.strip().rpartition(b"\n\n")[2]
    error = json.loads(last.rpartition(b"data: ")[2])["error"]
    assert last.startswith(b"event: error" if provider == "anthropic" else b"data: ")
    assert error["type"] == ("overloaded_error" if provider == "anthropic" else "server_error")
    assert output_tokens(stats(control)["cut"][0]["usage"]) == 2


def test_the_clients_raise_their_own_errors_for_them(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": f"[[fault:error:1]]{FOUR_WORDS}"}]
    with pytest.raises(openai.APIError):
        list(gpt.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=messages, stream=True))
    assert caught.value.type == "overloaded_error"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_usage_can_be_left_out(url: str, control: httpx2.Client, provider: str) -> None:
    options = {"stream_options": {"include_usage": True}} if provider == "openai" else {}
    said = post(control, provider, f"[[fault:nousage]]{FOUR_WORDS}", stream=True, **options).content
    assert END[provider] in said
    assert b'"usage"' not in said
    assert "usage" not in post(control, provider, f"[[fault:nousage]]{FOUR_WORDS}").json()
    rows = stats(control)["answered"]
    assert [output_tokens(row["usage"]) for row in rows] == [4, 4]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("mode", ["malformed", "truncated", "cut:1", "cutclean:1"])
def test_a_plain_answer_that_is_no_json(control: httpx2.Client, url: str, provider: str, mode: str) -> None:
    body, whole = received(url, provider, f"[[fault:{mode}]]{FOUR_WORDS}", stream=False)
    assert whole == (mode in ("malformed", "cutclean:1"))
    with pytest.raises(ValueError, match="JSON|Expecting|Unterminated"):
        json.loads(body)
    wait_for(lambda: stats(control)["cut"])
    # It was made, so a provider bills it.
    assert output_tokens(stats(control)["cut"][0]["usage"]) >= 4


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_malformed_stream(url: str, control: httpx2.Client, provider: str) -> None:
    body, whole = received(url, provider, "[[fault:malformed]]")
    assert whole
    with pytest.raises(ValueError, match="JSON|Expecting"):
        json.loads(body.strip().rpartition(b"data: ")[2])


# --- No answer


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
def test_signs_of_life_are_no_content(url: str, provider: str, stream: bool, control: httpx2.Client) -> None:
    with contextlib.closing(asked_of(url, provider, "[[fault:trickle]]", stream=stream)) as connection:
        response = connection.getresponse()
        sign = b" " if not stream else b": ping\n\n" if provider == "openai" else b"event: ping\n"
        assert response.read(len(sign)) == sign
    wait_for(lambda: stats(control)["cut"])
    [row] = stats(control)["cut"]
    assert (row["outcome"], row["gone"], row["usage"]) == ("trickle", True, None)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["401", "429:3", "500", "503", "529"])
def test_error_answers_come_to_streams_too(
    control: httpx2.Client, provider: str, stream: bool, mode: str
) -> None:
    response = post(control, provider, f"[[fault:{mode}]]", stream=stream)
    assert response.status_code == int(mode[:3])
    assert response.headers.get("retry-after") == ("3" if mode == "429:3" else None)
    assert response.json()["error"]["message"]
    [row] = stats(control)["cut"]
    assert (row["outcome"], row["usage"], row["stream"]) == (mode[:3], None, stream)


@pytest.mark.parametrize(
    "code",
    [
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "insufficient_quota",
    ],
)
def test_openais_spend_limits(gpt: openai.OpenAI, control: httpx2.Client, code: str) -> None:
    error = post(control, "openai", f"[[fault:429-spend-limit:{code}]]")
    assert (error.status_code, error.json()["error"]["type"]) == (429, "insufficient_quota")
    assert (error.json()["error"]["code"], "retry-after" in error.headers) == (code, False)


def test_anthropics_spend_limits(claude: anthropic.Anthropic) -> None:
    found = {}
    for mode in (
        "429-spend-limit",
        "429-spend-limit:contract_spend_limit_reached",
        "429-spend-limit:insufficient_quota",
        "400-spend-limit",
        "402",
    ):
        with pytest.raises(anthropic.APIStatusError) as caught:
            claude.messages.create(
                model="claude-haiku-4-5",
                max_tokens=9,
                messages=[{"role": "user", "content": f"[[fault:{mode}]]"}],
            )
        found[mode] = (caught.value.status_code, caught.value.type, caught.value.error_code)
    assert found == {
        "429-spend-limit": (429, "rate_limit_error", "enforced_spend_limit_reached"),
        "429-spend-limit:contract_spend_limit_reached": (
            429,
            "rate_limit_error",
            "contract_spend_limit_reached",
        ),
        # Another provider's code is no code here.
        "429-spend-limit:insufficient_quota": (429, "rate_limit_error", "enforced_spend_limit_reached"),
        "400-spend-limit": (400, "invalid_request_error", None),
        "402": (402, "billing_error", None),
    }


# --- Whom a fault strikes


def test_a_fault_may_strike_streams_alone(control: httpx2.Client) -> None:
    configure(control, faults=[{"provider": "openai", "mode": "500", "stream": True, "times": 1}])
    assert post(control, "openai", "x").status_code == 200
    assert post(control, "anthropic", "x", stream=True).status_code == 200
    assert post(control, "openai", "x", stream=True).status_code == 500
    assert post(control, "openai", "x", stream=True).status_code == 200
    assert post(control, "openai", "[[fault:500@plain]]", stream=True).status_code == 200
    assert post(control, "openai", "[[fault:500@plain]]").status_code == 500


def test_a_broken_stream_does_not_break_lists_of_models(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    configure(control, faults=[{"mode": "cut:1", "times": 1}, {"mode": "nousage"}])
    assert gpt.models.list().data
    assert control.get("/sandbox/config").json()["faults"][0]["times"] == 1


@pytest.mark.parametrize(
    "mode", ["cut", "cutclean:x", "error", "slow", "429-spend-limit:nothing", "earthquake:3"]
)
def test_a_fault_that_says_too_little_is_refused(control: httpx2.Client, mode: str) -> None:
    assert control.post("/sandbox/config", json={"faults": [{"mode": mode}]}).status_code == 400
    assert post(control, "openai", f"[[fault:{mode}]]").status_code == 400


# --- Time


@pytest.mark.parametrize("switch", ["fault:slow:40", "slow:40", "ttft:150"])
def test_streams_can_be_slow(url: str, control: httpx2.Client, switch: str) -> None:
    started = time.monotonic()
    body, whole = received(url, "openai", f"[[{switch}]]{FOUR_WORDS}")
    assert (body.count(CONTENT["openai"]), whole) == (4, True)
    assert time.monotonic() - started >= 0.15
    assert len(stats(control)["answered"]) == 1


def test_time_has_short_names(control: httpx2.Client) -> None:
    configure(control, slow=5, ttft=6, delay=7)
    config = control.get("/sandbox/config").json()
    assert (config["chunk_delay_ms"], config["ttft_ms"], config["delay_ms"]) == (5, 6, 7)


# --- What is counted


def test_every_call_has_its_row(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    before = time.time()
    raw = gpt.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": FOUR_WORDS}]
    )
    stream = gpt.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": FOUR_WORDS}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *_, last = stream
    plain, streamed = stats(control)["answered"]
    assert plain["request_id"] == raw.headers["x-request-id"]
    assert streamed["request_id"] == stream.response.headers["x-request-id"]
    assert (plain["stream"], streamed["stream"]) == (False, True)
    assert (plain["chunks"], streamed["chunks"]) == (0, 4)
    assert plain["arrived_s"] <= streamed["arrived_s"]
    assert before <= plain["arrived_at"] <= streamed["arrived_at"] <= time.time()
    assert last.usage is not None
    assert streamed["usage"]["total_tokens"] == last.usage.total_tokens
    assert (plain["provider"], plain["model"]) == ("openai", "gpt-4o")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_client_that_goes_away_is_seen_with_what_it_got(
    url: str, control: httpx2.Client, provider: str
) -> None:
    configure(control, chunk_delay_ms=20)
    with contextlib.closing(asked_of(url, provider, "[[tokens:5000]]", stream=True)) as connection:
        response = connection.getresponse()
        seen = b""
        while seen.count(CONTENT[provider]) < 3:
            seen += response.read1(4096)
        assert (stats(control)["streams_open"], stats(control)["in_flight"]) == (1, 1)
    wait_for(lambda: stats(control)["cut"])
    [row] = stats(control)["cut"]
    assert (row["outcome"], row["gone"], row["model"]) == ("abandoned", True, MODELS[provider])
    assert row["chunks"] >= 3
    assert output_tokens(row["usage"]) == row["chunks"]
    found = stats(control)
    assert (found["streams_open"], found["streams_open_max"], found["answered"]) == (0, 1, [])


def test_what_is_refused_has_its_row_too(control: httpx2.Client) -> None:
    assert post(control, "openai", "x", model="gpt-17").status_code == 404
    [row] = stats(control)["cut"]
    assert (row["provider"], row["model"], row["outcome"], row["usage"]) == ("openai", "refused", "404", None)
    assert "cut" not in control.get("/sandbox/stats?answered=0").json()


def test_reasoning_that_was_done_before_a_cut_is_billed(url: str, control: httpx2.Client) -> None:
    body = body_of("openai", f"[[fault:cut:2]]{FOUR_WORDS}", stream=True, model="o4-mini")
    with pytest.raises(httpx2.TransportError):
        control.post(PATHS["openai"], json=body, headers=HEADERS["openai"])
    wait_for(lambda: stats(control)["cut"])
    usage = stats(control)["cut"][0]["usage"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert reasoning > 0
    assert usage["completion_tokens"] == reasoning + 2


# --- Ports


def test_a_further_port_can_be_shut_and_opened_again(control: httpx2.Client, url: str) -> None:
    port = control.post("/sandbox/ports", json={}).json()["port"]
    other = f"http://127.0.0.1:{port}"
    assert received(other, "openai", FOUR_WORDS)[1]
    held = asked_of(other, "openai", "[[fault:hang]]")
    wait_for(lambda: stats(control)["in_flight"] == 1)
    assert control.post("/sandbox/ports", json={"port": port, "open": False}).json() == {
        "port": port,
        "open": False,
    }
    with pytest.raises(ConnectionRefusedError):
        asked_of(other, "openai", FOUR_WORDS)
    with contextlib.closing(held), pytest.raises(ConnectionResetError):
        held.getresponse()
    for _ in range(2):
        assert control.post("/sandbox/ports", json={"port": port}).status_code == 200
    assert received(other, "openai", FOUR_WORDS)[1]
    control.post("/sandbox/ports", json={"port": port, "open": False})


@pytest.mark.parametrize("wrong", [[], {"port": "x"}, {"port": 1_000_000}, {"port": 3, "open": False}])
def test_a_port_that_cannot_be_had_is_refused(control: httpx2.Client, wrong: Any) -> None:
    assert control.post("/sandbox/ports", json=wrong).status_code == 400


def test_the_first_port_stays_open(control: httpx2.Client, url: str) -> None:
    response = control.post("/sandbox/ports", json={"port": urlsplit(url).port, "open": False})
    assert response.status_code == 400
    assert stats(control)["in_flight"] == 0


# --- Many at once


def test_many_streams_stay_open_together(url: str, control: httpx2.Client) -> None:
    streams = 300
    configure(control, ttft_ms=60_000)
    target = urlsplit(url)
    body = json.dumps(body_of("openai", "x", stream=True)).encode()
    head = (
        f"POST {PATHS['openai']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()

    async def opened() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        writer.write(head + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        return writer

    async def together() -> int:
        async with asyncio.timeout(TIMEOUT_S * 3):
            writers = await asyncio.gather(*(opened() for _ in range(streams)))
        found = await asyncio.to_thread(stats, control)
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        return int(found["streams_open"])

    assert asyncio.run(together()) == streams
    wait_for(lambda: stats(control)["streams_open"] == 0)
