"""`/v1/messages` through the official client: what is honoured, what is refused, and how it is said."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import anthropic
import httpx2
import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types import message_create_params
from django.test import RequestFactory
from pydantic import BaseModel

from aigov.errors import BadRequest, BudgetExceeded, GatewayError
from aigov.organizations.models import Organization, Scope
from aigov.web.errors import error_response
from providers.types import Image, Message, Prompt, Text, Tool, ToolCall, ToolChoice, ToolResult, Usage
from routing.api.anthropic import usage_body
from routing.api.anthropic_shapes import MessagesRequest, completion_request
from routing.api.shapes import read
from tests.conftest import Sandbox, Server

SDKS = Path(__file__).resolve().parent.parent / "docs" / "sdks.md"
HELLO: list[Any] = [{"role": "user", "content": "[[confidence:0.9]] hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
SCHEMA = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["A", "B"]}},
    "required": ["category"],
    "additionalProperties": False,
}


def extras(answer: BaseModel) -> dict[str, Any]:
    assert answer.model_extra is not None
    found: dict[str, Any] = answer.model_extra["aigov"]
    return found


def token_of(api: httpx2.Client) -> str:
    return str(api.headers["authorization"]).removeprefix("Bearer ")


@pytest.fixture
def client(api: httpx2.Client, server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=token_of(api), max_retries=0) as client:
        yield client


def body(**changed: Any) -> dict[str, Any]:
    return {"model": "auto", "max_tokens": 100, "messages": HELLO, **changed}


def prompt_of(**changed: Any) -> Prompt:
    return completion_request(read(MessagesRequest, body(**changed)), {}).prompt


# --- What is asked of the gateway


def test_a_conversation_with_images_and_tools_is_understood() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    prompt = prompt_of(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?", "citations": None},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"},
                        **mark,
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {
                        "type": "tool_use",
                        "id": "t1",
                        "name": "weather",
                        "input": {"place": "Köln"},
                        "caller": {"type": "direct"},
                        "toolset_name": None,
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny", "is_error": True},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "x"}]},
                    {"type": "tool_result", "tool_use_id": "t3"},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        tools=[{**WEATHER, "type": "custom", "strict": True, **mark}],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    )
    assert prompt.messages == (
        Message("system", (Text("Be brief.", cache="1h"),)),
        Message(
            "user",
            (
                Text("What is this?"),
                Image(url="https://example.com/a.png"),
                Image(data="aaaa", media_type="image/png", cache="5m"),
            ),
        ),
        Message("assistant", (Text("Let me see."), ToolCall("t1", "weather", '{"place":"Köln"}'))),
        Message(
            "user",
            (
                ToolResult("t1", (Text("sunny"),), is_error=True),
                ToolResult("t2", (Text("x"),)),
                ToolResult("t3", ()),
                Text("And now?"),
            ),
        ),
    )
    assert prompt.tools == (
        Tool("weather", WEATHER["input_schema"], WEATHER["description"], strict=True, cache="5m"),
    )
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (ToolChoice("named", "weather"), False)


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": False}, ToolChoice("required"), True),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_choices_of_tools(choice: dict[str, Any], wanted: ToolChoice, parallel: bool | None) -> None:
    prompt = prompt_of(tools=[WEATHER], tool_choice=choice)
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (wanted, parallel)


def test_parameters_are_understood() -> None:
    asked = completion_request(
        read(
            MessagesRequest,
            body(
                model="claude-haiku-4-5",
                system="Be brief.",
                temperature=0.5,
                top_k=3,
                stop_sequences=["END"],
                metadata={"user_id": "u-1", "lead_id": "L-1"},
                output_config={"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
                thinking={"type": "disabled"},
                service_tier="auto",
                use_case="letters",
                cache="off",
                cache_control={"type": "ephemeral"},
            ),
        ),
        {},
    )
    assert (asked.tier, asked.model, asked.exact, asked.cache) == ("auto", "claude-haiku-4-5", True, "off")
    assert (asked.user, asked.use_case, asked.max_output_tokens) == ("u-1", "letters", 100)
    assert asked.metadata == {"lead_id": "L-1"}
    prompt = asked.prompt
    assert prompt.messages == (
        Message("system", "Be brief."),
        Message("user", (Text("[[confidence:0.9]] hello", cache="5m"),)),
    )
    assert (prompt.stop, prompt.response_schema) == (("END",), SCHEMA)
    sampling = prompt.sampling
    assert (sampling.temperature, sampling.top_k, sampling.reasoning_effort) == (0.5, 3, "low")


# --- What is refused

UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": []}, "mcp_servers"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"diagnostics": {}}, "diagnostics"),
    ({"context_management": {}}, "context_management"),
    ({"speed": "fast"}, "speed"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"temprature": 1}, "temprature"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "no"}}, "tool_choice.name"),
    (
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
            ]
        },
        "messages[0].content[0].source.type",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}],
                }
            ]
        },
        "messages[0].content[1]",
    ),
    ({"labels": ["A", "B"], "tools": [WEATHER]}, "labels"),
]


@pytest.mark.parametrize(("changed", "param"), UNSUPPORTED)
def test_what_cannot_be_honoured_is_refused_by_name(changed: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        prompt_of(**changed)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"system": 5}, "system"),
    ],
)
def test_the_clients_error_names_what_is_wrong(
    client: anthropic.Anthropic, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", cast_to=object, body=body(**changed))
    told: Any = caught.value.body
    assert told["type"] == "error" and told["error"]["type"] == "invalid_request_error"
    assert told["error"]["message"].startswith(f"{param}: ")
    assert told["request_id"] == caught.value.request_id


@pytest.mark.parametrize("header", ["anthropic-workspace-id", "anthropic-user-profile-id"])
def test_headers_that_change_whom_a_call_is_for_are_refused(client: anthropic.Anthropic, header: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=header):
        client.messages.create(
            model="auto", max_tokens=9, messages=HELLO, extra_headers={header: "wrkspc_01"}
        )


def test_every_parameter_of_the_sdk_is_in_the_table() -> None:
    """A new one is to be decided on: honoured here, or refused, and written down."""
    text = SDKS.read_text(encoding="utf-8").partition("<!-- anthropic -->")[2].partition("<!-- end -->")[0]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (honoured|refused)", text, re.MULTILINE))
    known = set(MessagesRequest.model_fields)
    for name in get_type_hints(message_create_params.MessageCreateParamsStreaming):
        assert name in rows, f"{name} is not in the table of docs/sdks.md"
    for name, decision in rows.items():
        assert (decision == "refused") == (name not in known), name


# --- Answers


def test_a_plain_answer_is_the_sdks_own(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model="claude-haiku-4-5", max_tokens=300, messages=HELLO)
    told, answer = json.loads(raw.text()), raw.parse()
    SdkMessage.model_validate(told)
    assert set(told) == {
        *("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details"),
        *("usage", "aigov"),
    }
    assert answer.content[0].type == "text" and answer.content[0].text
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    assert extras(answer)["provider"] == "anthropic" and extras(answer)["route"] == "small"
    assert answer._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-ai-cost-eur"] == extras(answer)["cost_eur"]


def test_what_the_cache_read_and_wrote_stands_beside_the_input() -> None:
    usage = usage_body(
        Usage(input_total=100, output_total=9, cache_read=30, cache_write_5m=20, cache_write_1h=10)
    )
    assert (usage["input_tokens"], usage["output_tokens"]) == (40, 9)
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (30, 30)
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}


@pytest.mark.parametrize("model", ["auto", "small", "large", "gpt-4o", "claude-haiku-4-5"])
def test_tiers_and_concrete_models(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=300, messages=HELLO)
    assert answer.content and extras(answer)["route"] in ("small", "large")
    assert answer.model == model or model in ("auto", "small", "large")


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4o"])
def test_tools_are_asked_for_and_answered(client: anthropic.Anthropic, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": '[[tool:weather {"place": "Bonn"}]] How is it?'}]
    asked: Any = {"model": model, "max_tokens": 300, "tools": [WEATHER]}
    first = client.messages.create(messages=messages, **asked)
    assert first.stop_reason == "tool_use"
    call: Any = first.content[-1]
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"place": "Bonn"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(messages=messages, **asked)
    assert (second.stop_reason, second.content[0].type) == ("end_turn", "text")
    named = client.messages.create(messages=HELLO, tool_choice={"type": "tool", "name": "weather"}, **asked)
    assert named.stop_reason == "tool_use"


def test_a_structured_answer_is_parsed_by_the_client(client: anthropic.Anthropic) -> None:
    class Category(BaseModel):
        category: str

    for model in ("claude-haiku-4-5", "gpt-4o-mini"):
        answer = client.messages.parse(model=model, max_tokens=300, messages=HELLO, output_format=Category)
        assert isinstance(answer.parsed_output, Category)


def test_stops(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "[[content:one two three four five six]] count"}]
    asked: Any = {"model": "claude-haiku-4-5", "messages": messages}
    stopped = client.messages.create(max_tokens=300, stop_sequences=["four"], **asked)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "four")
    cut = client.messages.create(max_tokens=2, **asked)
    assert cut.stop_reason == "max_tokens"


async def test_the_async_client(api: httpx2.Client, server: Server) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, auth_token=token_of(api)) as client:
        answer = await client.messages.create(model="auto", max_tokens=300, messages=HELLO)
        assert answer.content
        async with client.messages.stream(model="large", max_tokens=300, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream])


# --- Streams


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4o"])
def test_a_streamed_answer_equals_the_plain_one(client: anthropic.Anthropic, model: str) -> None:
    asked: Any = {"model": model, "max_tokens": 300, "messages": HELLO, "extra_body": {"cache": "off"}}
    plain = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].type == plain.content[0].type == "text"
    assert streamed.content[0].text == plain.content[0].text
    assert (streamed.stop_reason, streamed.role) == (plain.stop_reason, plain.role)
    assert streamed.usage.input_tokens == plain.usage.input_tokens
    assert streamed.usage.output_tokens == plain.usage.output_tokens


def test_the_events_of_a_stream(client: anthropic.Anthropic) -> None:
    events = list(client.messages.create(model="large", max_tokens=300, messages=HELLO, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) > 6
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert extras(events[-2])["route"] == "large"


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4o"])
def test_tool_calls_stream(client: anthropic.Anthropic, model: str) -> None:
    text = '[[tool:weather {"place": "Bonn"}]] [[tool:weather {"place": "Ulm"}]] And?'
    with client.messages.stream(
        model=model, max_tokens=300, messages=[{"role": "user", "content": text}], tools=[WEATHER]
    ) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason == "tool_use"
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"place": "Bonn"}, {"place": "Ulm"}]
    assert len({call.id for call in calls}) == 2


def test_a_broken_stream_raises_the_clients_error(client: anthropic.Anthropic, sandbox: Sandbox) -> None:
    messages: Any = [{"role": "user", "content": "[[fault:cut_after_chunk:5]] a long story please"}]
    stream = client.messages.create(model="claude-haiku-4-5", max_tokens=300, messages=messages, stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(stream)
    told: Any = caught.value.body
    assert told["error"]["type"] == "api_error" and told["request_id"]


# --- Errors


def test_the_clients_own_errors_are_raised(
    server: Server, make_client: Callable[..., httpx2.Client], make_organization: Callable[..., Organization]
) -> None:
    def made(token: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=server.url, api_key=token, max_retries=2)

    asked: Any = {"model": "auto", "max_tokens": 9, "messages": HELLO}
    with made("aig_nobody.nothing") as client, pytest.raises(anthropic.AuthenticationError) as unknown:
        client.messages.create(**asked)
    assert unknown.value.type == "authentication_error"
    reader = make_client(make_organization(), Scope.BUDGET_READ)
    with made(token_of(reader)) as client, pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(**asked)
    poor = make_client(make_organization(cap_eur="0"))
    with made(token_of(poor)) as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**asked)
    assert (caught.value.status_code, caught.value.type) == (402, "billing_error")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (BudgetExceeded("Held by calls in flight.", code="in_flight_budget_exhausted"), 2),
        (BudgetExceeded("Used up."), 1),
    ],
)
def test_the_client_tries_again_where_we_invite_it_to(error: GatewayError, tries: int) -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        told = error_response(RequestFactory().post(request.url.path), error)
        return httpx2.Response(told.status_code, content=told.content, headers=dict(told.headers))

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        anthropic.Anthropic(
            base_url="http://gateway", api_key="k", max_retries=1, http_client=transport
        ) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(model="auto", max_tokens=9, messages=HELLO)
    assert (len(seen), caught.value.type) == (tries, "billing_error")


def test_no_provider_is_503(client: anthropic.Anthropic, sandbox: Sandbox) -> None:
    sandbox.configure(faults=[{"mode": "500"}])
    for stream in (False, True):
        with pytest.raises(anthropic.InternalServerError) as caught:
            client.messages.create(model="large", max_tokens=9, messages=HELLO, stream=stream)
        assert caught.value.status_code == 503


def test_what_is_not_there_is_404_in_anthropics_envelope(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.count_tokens(model="auto", messages=HELLO)
    assert caught.value.type == "not_found_error"


def test_a_body_over_the_limit_is_413_in_anthropics_envelope(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "x" * 11_000_000}]
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="auto", max_tokens=9, messages=messages)
    assert (caught.value.status_code, caught.value.type) == (413, "request_too_large")
