"""`/v1/chat/completions` through the official client: what is honoured, what is refused, and how."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import httpx2
import openai
import pytest
from django.test import RequestFactory
from openai.types.chat import ChatCompletion, completion_create_params
from pydantic import BaseModel

from aigov.errors import BudgetExceeded, GatewayError, NoProviderAvailable
from aigov.organizations.models import Organization, Scope
from aigov.web.errors import error_response
from providers.types import Image, Message, Prompt, Text, Tool, ToolCall, ToolChoice, ToolResult
from routing.api.openai_shapes import ChatCompletionRequest, completion_request
from routing.api.shapes import read
from tests.conftest import Sandbox, Server

SDKS = Path(__file__).resolve().parent.parent / "docs" / "sdks.md"
HELLO: list[Any] = [{"role": "user", "content": "[[confidence:0.9]] hello"}]
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
        "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
    )
).decode()
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
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
def client(api: httpx2.Client, server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=token_of(api), max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(api: httpx2.Client, server: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token_of(api), max_retries=0)


def prompt_of(**body: Any) -> Prompt:
    return completion_request(read(ChatCompletionRequest, {"model": "auto", **body})).prompt


# --- What is asked of the gateway


def test_a_conversation_with_images_and_tools_is_understood() -> None:
    prompt = prompt_of(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "rain"}]},
            {"role": "user", "content": "And now?"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )
    assert prompt.messages == (
        Message("system", (Text("Be brief."),)),
        Message(
            "user",
            (
                Text("What is this?"),
                Image(url="https://example.com/a.png", detail="low"),
                Image(data=PIXEL, media_type="image/png"),
            ),
        ),
        Message("assistant", (ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "{"))),
        Message("user", (ToolResult("c1", (Text("sunny"),)), ToolResult("c2", (Text("rain"),)))),
        Message("user", "And now?"),
    )
    assert prompt.tools == (
        Tool("weather", WEATHER["function"]["parameters"], description="The weather in a place."),
    )
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (ToolChoice("named", "weather"), False)


def test_a_refusal_is_sent_back_as_what_the_model_said() -> None:
    prompt = prompt_of(
        messages=[
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
        ]
    )
    assert [message.text for message in prompt.messages] == ["No.", "Never."]


def test_parameters_are_understood() -> None:
    asked = completion_request(
        read(
            ChatCompletionRequest,
            {
                "model": "gpt-4o",
                "messages": HELLO,
                "temperature": 1,
                "top_p": 0.5,
                "frequency_penalty": -1.5,
                "presence_penalty": 2,
                "seed": 7,
                "reasoning_effort": "low",
                "stop": "END",
                "logprobs": True,
                "top_logprobs": 3,
                "max_completion_tokens": 9,
                "user": "u-1",
                "metadata": {"lead_id": "L-1", "use_case": "letters"},
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "c", "schema": SCHEMA, "description": "d", "strict": False},
                },
                "store": False,
                "n": 1,
                "service_tier": "auto",
                "modalities": ["text"],
                "audio": None,
            },
        )
    )
    assert (asked.tier, asked.model, asked.exact) == ("auto", "gpt-4o", True)
    assert (asked.user, asked.use_case, asked.max_output_tokens) == ("u-1", "letters", 9)
    assert asked.metadata == {"lead_id": "L-1", "use_case": "letters"}
    prompt = asked.prompt
    assert (prompt.stop, prompt.top_logprobs, prompt.response_schema) == (("END",), 3, SCHEMA)
    assert (prompt.schema_name, prompt.schema_description, prompt.schema_strict) == ("c", "d", False)
    sampling = prompt.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (1, 0.5, 7)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (-1.5, 2)
    assert sampling.reasoning_effort == "low"


def test_the_newer_names_of_parameters_are_understood_too() -> None:
    body = {
        "model": "small",
        "messages": HELLO,
        "safety_identifier": "u-2",
        "max_tokens": 5,
        "logprobs": True,
    }
    asked = completion_request(read(ChatCompletionRequest, body))
    assert (asked.tier, asked.model, asked.user, asked.max_output_tokens) == ("small", None, "u-2", 5)
    assert (asked.prompt.top_logprobs, asked.prompt.json_object) == (0, False)
    assert prompt_of(messages=HELLO, response_format={"type": "json_object"}).json_object


# --- What is refused

UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"store": True}, "store"),
    ({"verbosity": "low"}, "verbosity"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"temprature": 1}, "temprature"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "name": "Ann", "content": "x"}]}, "messages[0].name"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "file"}]}]},
        "messages[0].content[1].type",
    ),
    (
        {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].type",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
                    ],
                }
            ]
        },
        "messages[0].content[0].prompt_cache_breakpoint",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "annotations": [{"type": "url_citation"}]}]},
        "messages[0].annotations",
    ),
    ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
        "tool_choice.type",
    ),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"user": "a", "safety_identifier": "b"}, "safety_identifier"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}},
        "tool_choice.function.name",
    ),
    ({"labels": ["A", "B"], "tools": [WEATHER]}, "labels"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
]
WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [5]}, "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
    ({"model": ""}, "model"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
    ),
    ({"metadata": {"a": {"deep": 1}}}, "metadata.a"),
    ({"metadata": {"a" * 65: "x"}}, f"metadata.{'a' * 65}"),
]


@pytest.mark.parametrize(("changed", "param"), UNSUPPORTED)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.OpenAI, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body={"model": "auto", "messages": HELLO, **changed})
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")


@pytest.mark.parametrize(("changed", "param"), WRONG)
def test_what_is_wrong_is_named_by_its_path(
    client: openai.OpenAI, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body={"model": "auto", "messages": HELLO, **changed})
    assert caught.value.param == param


def test_a_body_that_is_no_object_is_refused(api: httpx2.Client) -> None:
    answer = api.post("/v1/chat/completions", json=[1])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, None)


def test_every_parameter_of_the_sdk_is_in_the_table() -> None:
    """A new one is to be decided on: honoured here, or refused, and written down."""
    rows = dict(
        re.findall(r"^\| `([a-z_]+)` \| (honoured|refused|as given)", section("openai"), re.MULTILINE)
    )
    known = set(ChatCompletionRequest.model_fields)
    for name in get_type_hints(completion_create_params.CompletionCreateParamsStreaming):
        assert name in rows, f"{name} is not in the table of docs/sdks.md"
        assert (rows[name] == "refused") == (name not in known), name


def section(sdk: str) -> str:
    """The table of one SDK's parameters."""
    return SDKS.read_text(encoding="utf-8").partition(f"<!-- {sdk} -->")[2].partition("<!-- end -->")[0]


# --- Answers


def test_a_plain_answer_is_the_sdks_own(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
    body, answer = json.loads(raw.text), raw.parse()
    ChatCompletion.model_validate(body, strict=True)
    assert set(body) == {*BODY_FIELDS, "aigov"}
    choice = body["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": answer.choices[0].message.content,
        "refusal": None,
        "annotations": [],
    }
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "stop")
    usage = answer.usage
    assert usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert (body["service_tier"], body["system_fingerprint"]) == ("default", None)
    assert set(extras(answer)) == {
        *("id", "route", "confidence", "cost_eur", "provider", "attempts", "budget")
    }
    assert answer._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-ai-cost-eur"] == extras(answer)["cost_eur"]


BODY_FIELDS = {
    *("id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint")
}


@pytest.mark.parametrize(
    ("model", "provider", "route"),
    [
        ("small", "openai", "small"),
        ("large", "openai", "large"),
        ("gpt-4o", "openai", "large"),
        ("claude-haiku-4-5", "anthropic", "small"),
    ],
)
def test_tiers_and_concrete_models(client: openai.OpenAI, model: str, provider: str, route: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert (extras(answer)["provider"], extras(answer)["route"]) == (provider, route)


@pytest.mark.parametrize("model", ["large", "claude-sonnet-4-6"])
def test_tools_are_asked_for_and_answered(client: openai.OpenAI, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": '[[tool:weather {"place": "Bonn"}]] How is it?'}]
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    choice = first.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls
    call: Any = choice.message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"place": "Bonn"}
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop" and second.choices[0].message.content
    # As programs often keep it: a dict with every field of the answer, most of them null.
    messages[1] = choice.message.model_dump()
    third = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert third.choices[0].message.content == second.choices[0].message.content


def test_logprobs_are_openais_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="large", messages=HELLO, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs and logprobs.content and logprobs.refusal is None
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content
    first = logprobs.content[0]
    assert first.bytes == list(first.token.encode()) and len(first.top_logprobs) == 2
    none = client.chat.completions.create(model="large", messages=HELLO)
    assert none.choices[0].logprobs is None


def test_what_no_model_of_the_tier_has_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="claude-haiku-4-5", messages=HELLO, logprobs=True)
    assert (caught.value.param, caught.value.code) == ("logprobs", "unsupported_parameter")


def test_a_structured_answer_is_parsed_by_the_client(client: openai.OpenAI) -> None:
    class Category(BaseModel):
        category: str

    answer = client.chat.completions.parse(model="small", messages=HELLO, response_format=Category)
    assert isinstance(answer.choices[0].message.parsed, Category)


def test_a_stop_and_a_bound(client: openai.OpenAI) -> None:
    said = "one two three four five six"
    messages: Any = [{"role": "user", "content": f"[[content:{said}]] count"}]
    stopped = client.chat.completions.create(model="large", messages=messages, stop=["four"])
    assert (stopped.choices[0].message.content or "").strip() == "one two three"
    cut = client.chat.completions.create(model="large", messages=messages, max_tokens=2)
    assert cut.choices[0].finish_reason == "length"


def test_an_image_is_looked_at(client: openai.OpenAI) -> None:
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    for model in ("gpt-4o", "claude-sonnet-4-6"):
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
        assert answer.choices[0].message.content


async def test_the_async_client(async_client: openai.AsyncOpenAI) -> None:
    async with async_client as client:
        answer = await client.chat.completions.create(model="auto", messages=HELLO)
        assert answer.choices[0].message.content
        stream = await client.chat.completions.create(model="large", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_our_own_parameters_come_as_extra_body(client: openai.OpenAI, api: httpx2.Client) -> None:
    answer = client.chat.completions.create(
        model="auto",
        messages=HELLO,
        metadata={"lead_id": "L-9"},
        extra_body={"use_case": "letters", "labels": ["A", "B"], "confidence_threshold": 0.1, "cache": "off"},
    )
    assert answer.choices[0].message.content in ("A", "B")
    decision = api.get(f"/api/v1/completions/{answer.id}").json()
    assert decision["use_case"] == "letters"


# --- Streams


def test_a_stream_is_the_sdks_own(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="large", messages=HELLO, stream=True))
    first, *middle, last = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert len({chunk.id for chunk in chunks}) == 1 and all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("stop", None)
    assert extras(last)["route"] == "large" and Decimal(extras(last)["cost_eur"]) > 0
    assert not any("aigov" in (chunk.model_extra or {}) for chunk in [first, *middle])
    assert len([chunk for chunk in middle if chunk.choices[0].delta.content]) > 1


def test_usage_comes_in_a_last_chunk_where_it_is_asked_for(client: openai.OpenAI) -> None:
    *others, finish, last = client.chat.completions.create(
        model="large", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == [] and last.usage and last.usage.completion_tokens > 0
    assert extras(last)["id"] == last.id
    assert finish.choices[0].finish_reason == "stop" and "aigov" not in (finish.model_extra or {})


@pytest.mark.parametrize("model", ["large", "claude-sonnet-4-6"])
def test_a_streamed_answer_equals_the_plain_one(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": HELLO, "extra_body": {"cache": "off"}}
    plain = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == plain.choices[0].message.content
    assert streamed.choices[0].finish_reason == plain.choices[0].finish_reason
    assert streamed.usage == plain.usage


@pytest.mark.parametrize("model", ["large", "claude-sonnet-4-6"])
def test_tool_calls_stream(client: openai.OpenAI, model: str) -> None:
    text = '[[tool:weather {"place": "Bonn"}]] [[tool:weather {"place": "Ulm"}]] And?'
    with client.chat.completions.stream(
        model=model, messages=[{"role": "user", "content": text}], tools=[WEATHER]
    ) as stream:
        answer = stream.get_final_completion()
    message = answer.choices[0].message
    assert (answer.choices[0].finish_reason, message.content) == ("tool_calls", None)
    calls: Any = message.tool_calls
    assert [json.loads(call.function.arguments)["place"] for call in calls] == ["Bonn", "Ulm"]
    assert len({call.id for call in calls}) == 2


def test_logprobs_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="large", messages=HELLO, logprobs=True, top_logprobs=1
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.logprobs and choice.logprobs.content
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content


def test_a_judged_answer_streams_too(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="auto", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert extras(chunks[-1])["route"] == "small"


def test_a_broken_stream_raises_the_clients_error(client: openai.OpenAI, sandbox: Sandbox) -> None:
    messages: Any = [{"role": "user", "content": "[[fault:cut_after_chunk:4]] a long story please"}]
    stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
    got: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        got.extend(stream)
    assert got == [] or got[0].choices
    body: Any = caught.value.body
    assert body["code"] == "answer_broken"


# --- Errors


def test_errors_before_the_first_word_have_their_status(client: openai.OpenAI, sandbox: Sandbox) -> None:
    sandbox.configure(faults=[{"mode": "500"}])
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="large", messages=HELLO, stream=True)
    assert (caught.value.status_code, caught.value.code) == (503, "no_provider_available")


def test_the_clients_own_errors_are_raised(
    server: Server, make_client: Callable[..., httpx2.Client], make_organization: Callable[..., Organization]
) -> None:
    def made(token: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=2)

    with made("aig_nobody.nothing") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="auto", messages=HELLO)
    reader = make_client(make_organization(), Scope.BUDGET_READ)
    with made(token_of(reader)) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="auto", messages=HELLO)
    poor = make_client(make_organization(cap_eur="0"))
    with made(token_of(poor)) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="auto", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (402, "organization_budget_exceeded")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (BudgetExceeded("Held by calls in flight.", code="in_flight_budget_exhausted"), 2),
        (BudgetExceeded("Used up."), 1),
        (NoProviderAvailable("Nobody."), 2),
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
        openai.OpenAI(
            base_url="http://gateway/v1", api_key="k", max_retries=1, http_client=transport
        ) as client,
        pytest.raises(openai.APIStatusError),
    ):
        client.chat.completions.create(model="auto", messages=HELLO)
    assert len(seen) == tries


def test_a_body_over_the_limit_raises_the_clients_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x" * 11_000_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
