"""The sandbox's messages, as the official Anthropic client sees them: tools, images, cache, streams."""

import asyncio
import base64
import json
import struct
from typing import Any

import anthropic
import httpx2
import jsonschema
import pytest
from anthropic.types import Message

from tests.sandbox_world import HEADERS, PATHS, body_of, configure

pytest_plugins = ["tests.sandbox_fixtures"]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"name": "get_weather", "description": "The weather.", "input_schema": WEATHER},
    {"name": "get_time", "input_schema": {"type": "object"}},
]
MARKED = '[[tool:get_weather {"city": "Rom", "days": 2}]] [[tool:get_time]]'
GIF = base64.b64encode(b"GIF89a" + struct.pack("<HH", 300, 200)).decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": GIF}}
LONG = "All that we sell, with its price, in words. " * 500


def ask(client: anthropic.Anthropic, content: Any, **more: Any) -> Message:
    body: dict[str, Any] = {
        "model": "claude-haiku-4-5",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": content}],
        **more,
    }
    message = client.messages.create(**body)
    assert isinstance(message, Message)
    return message


def calls_of(message: Message) -> list[tuple[str, Any]]:
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def input_total(message: Message) -> int:
    usage = message.usage
    return (
        usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    )


# --- Tools


@pytest.mark.parametrize(
    ("content", "choice", "names"),
    [
        ("Hello?", None, []),
        ("Please get_time", {"type": "auto"}, ["get_time"]),
        ("get_time and get_weather", {"type": "auto", "disable_parallel_tool_use": True}, ["get_time"]),
        ("Hello?", {"type": "any"}, ["get_weather"]),
        ("Hello?", {"type": "tool", "name": "get_time"}, ["get_time"]),
        ("get_time", {"type": "none"}, []),
        (MARKED, None, ["get_weather", "get_time"]),
        (MARKED, {"type": "any", "disable_parallel_tool_use": True}, ["get_weather"]),
    ],
)
def test_tools_are_used_as_the_choice_and_the_message_say(
    claude: anthropic.Anthropic, content: str, choice: Any, names: list[str]
) -> None:
    more = {} if choice is None else {"tool_choice": choice}
    message = ask(claude, content, tools=TOOLS, **more)
    Message.model_validate(message.model_dump(), strict=True)
    assert [name for name, _ in calls_of(message)] == names
    assert message.stop_reason == ("tool_use" if names else "end_turn")
    for name, arguments in calls_of(message):
        jsonschema.validate(arguments, WEATHER if name == "get_weather" else {"type": "object"})


def test_results_of_tools_are_answered_in_words(claude: anthropic.Anthropic) -> None:
    asked = ask(claude, "[[content:I look.]]" + MARKED, tools=TOOLS)
    assert asked.content[0].type == "text"
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "22"}, IMAGE]}
        for block in asked.content
        if block.type == "tool_use"
    ]
    messages: list[Any] = [
        {"role": "user", "content": MARKED},
        asked.to_param(),
        {"role": "user", "content": results},
    ]
    answered = claude.messages.create(model="claude-haiku-4-5", max_tokens=99, messages=messages, tools=TOOLS)
    assert (answered.stop_reason, answered.content[0].type) == ("end_turn", "text")
    messages[2]["content"] = [*results, {"type": "text", "text": "and now get_time"}]
    again = claude.messages.create(model="claude-haiku-4-5", max_tokens=99, messages=messages, tools=TOOLS)
    assert [name for name, _ in calls_of(again)] == ["get_time"]


USER = {"role": "user", "content": "x"}
USE: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {}}
USING = {"role": "assistant", "content": [USE]}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
ANSWERING = {"role": "user", "content": [RESULT]}


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([USING], "first message must use"),
        ([USER, USING], "without `tool_result` blocks immediately after: toolu_1"),
        ([USER, USING, USER], "without `tool_result` blocks immediately after: toolu_1"),
        (
            [USER, USING, {"role": "user", "content": [{"type": "text", "text": "so:"}, RESULT]}],
            "without `tool_result` blocks immediately after: toolu_1",
        ),
        ([ANSWERING], "messages.0.content.0: unexpected `tool_use_id` found"),
        ([USER, USING, ANSWERING, USING, ANSWERING], "ids must be unique"),
        ([USER, {"role": "assistant", "content": ""}, USER], "messages.1: all messages must have non-empty"),
        ([{"role": "user", "content": []}], "non-empty content"),
        ([{"role": "user", "content": [{"type": "text", "text": ""}]}], "must be non-empty"),
        ([{"role": "user", "content": [{"type": "text", "text": " "}]}], "non-whitespace"),
        ([{"role": "user", "content": [{"type": "text"}]}], "Field required"),
        ([{"role": "user", "content": 5}], "Input should be a valid string or list"),
        ([{"role": "user"}], "messages.0.content: Field required"),
        ([{"role": "user", "content": [{"type": "video"}]}], "Input tag 'video'"),
        ([USER, {"role": "assistant", "content": [IMAGE]}, USER], "Input tag 'image'"),
        ([USER, {"role": "assistant", "content": "So, "}], "trailing whitespace"),
        ([USER, {**USING, "content": [{**USE, "input": 3}]}, USER], "valid dictionary"),
        ([USER, {**USING, "content": [{**USE, "id": "?"}]}, USER], "match pattern"),
        ([USER, {**USING, "content": [{**USE, "name": ""}]}, USER], "1 character"),
        (
            [USER, USING, {"role": "user", "content": [{"type": "tool_result"}]}],
            "tool_use_id: Field required",
        ),
    ],
)
def test_messages_that_do_not_fit_together_are_refused(
    claude: anthropic.Anthropic, messages: Any, part: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=messages, tools=TOOLS)
    assert caught.value.type == "invalid_request_error"
    assert part in (caught.value.api_message or "")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"tools": "none"}, "tools: Input should be a valid list"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "Input tag"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name"),
        ({"tools": [{"name": "a"}]}, "input_schema: Field required"),
        ({"tools": [{"name": "a", "input_schema": {"type": "string"}}]}, "input_schema.type"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "Tool names must be unique"),
        ({"tools": [{**TOOLS[1], "strict": True}]}, "additionalProperties"),
        ({"tool_choice": {"type": "any"}}, "may only be specified while providing tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "often"}}, "tool_choice: Input tag 'often'"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "fly"}}, "'fly' not found"),
        (
            {"model": "claude-sonnet-5-5", "tools": TOOLS, "tool_choice": {"type": "any"}},
            "not supported for this model",
        ),
        ({"extra_body": {"temperature": 0.5, "top_p": 0.5}}, "cannot both be specified"),
        ({"extra_body": {"top_p": 2}}, "top_p"),
        ({"extra_body": {"top_k": -1}}, "top_k"),
        ({"extra_body": {"top_k": 1.5}}, "top_k"),
        ({"model": "claude-haiku-5-5", "extra_body": {"temperature": 0.5}}, "`temperature` is deprecated"),
        ({"extra_body": {"frequency_penalty": 1}}, "frequency_penalty: Extra inputs are not permitted"),
        ({"max_tokens": 1_000_000}, "max_tokens"),
        ({"stop_sequences": [" "]}, "non-whitespace"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"metadata": {"lead": "x"}}, "metadata"),
        ({"output_config": {"effort": "immense"}}, "output_config.effort"),
        ({"output_config": {"shape": 1}}, "output_config"),
        ({"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, "thinking"),
        ({"system": [{"type": "text", "text": ""}]}, "must be non-empty"),
        ({"system": [IMAGE]}, "Input tag 'image'"),
        ({"cache_control": {"type": "eternal"}}, "Input should be 'ephemeral'"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1d"}}, "ttl"),
        (
            {
                "system": [
                    {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}} for text in "abcde"
                ]
            },
            "A maximum of 4 blocks",
        ),
    ],
)
def test_parameters_are_refused_by_name(
    claude: anthropic.Anthropic, wrong: dict[str, Any], part: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(claude, "x", **wrong)
    assert part in (caught.value.api_message or "")


def test_what_is_in_range_is_taken(claude: anthropic.Anthropic) -> None:
    taken = ask(
        claude,
        "x",
        metadata={"user_id": "u"},
        service_tier="auto",
        system=[{"type": "text", "text": "Be brief."}],
        extra_body={"temperature": 0.5, "top_k": 5},
    )
    assert taken.stop_reason == "end_turn"
    default = ask(claude, "x", model="claude-opus-5-5", extra_body={"temperature": 1})
    assert default.stop_reason == "end_turn"


def test_a_conversation_may_end_with_the_beginning_of_the_answer(claude: anthropic.Anthropic) -> None:
    messages: Any = [USER, {"role": "assistant", "content": "Well,"}]
    assert claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=messages).content
    with pytest.raises(anthropic.BadRequestError, match="prefill"):
        claude.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=messages)


# --- Streams


def events_of(control: httpx2.Client, text: str, **more: Any) -> list[dict[str, Any]]:
    """The events as they come over the wire, each with its `event:` line."""
    body = body_of("anthropic", text, stream=True, **more)
    response = control.post(PATHS["anthropic"], json=body, headers=HEADERS["anthropic"])
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for part in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def test_the_events_of_a_stream(control: httpx2.Client) -> None:
    events = events_of(control, "[[content:I look.]]" + MARKED, tools=TOOLS)
    order = [event["type"] for event in events if event["type"] != "content_block_delta"]
    assert order == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_stop",
        *("content_block_start", "content_block_stop") * 2,
        "message_delta",
        "message_stop",
    ]
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["role"]) == ([], None, "assistant")
    assert start["usage"]["input_tokens"] > 0
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["text", "tool_use", "tool_use"]
    assert [block.get("input") for block in blocks] == [None, {}, {}]
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    pieces = [event["delta"] for event in deltas if event["index"] == 1]
    assert {piece["type"] for piece in pieces} == {"input_json_delta"}
    assert pieces[0]["partial_json"] == ""
    assert len(pieces) > 3
    assert json.loads("".join(piece["partial_json"] for piece in pieces)) == {"city": "Rom", "days": 2}
    end = events[-2]
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None}
    assert end["usage"]["output_tokens"] > 3
    assert end["usage"]["input_tokens"] == start["usage"]["input_tokens"]


def test_the_clients_own_stream_puts_everything_together(claude: anthropic.Anthropic) -> None:
    for content in ("How are prices?", "[[content:I look.]]" + MARKED, "[[refuse]]", "[[tokens:500]]"):
        messages: Any = [{"role": "user", "content": content}]
        with claude.messages.stream(
            model="claude-haiku-4-5", max_tokens=200, messages=messages, tools=TOOLS
        ) as stream:
            streamed = stream.get_final_message()
        plain = ask(claude, content, tools=TOOLS)
        assert streamed.stop_reason == plain.stop_reason
        assert streamed.usage.output_tokens == plain.usage.output_tokens
        assert calls_of(streamed) == calls_of(plain)
        assert [block.text for block in streamed.content if block.type == "text"] == [
            block.text for block in plain.content if block.type == "text"
        ]


def test_a_refusal_says_so(claude: anthropic.Anthropic) -> None:
    message = ask(claude, "[[refuse]]")
    assert (message.content, message.stop_reason) == ([], "refusal")
    assert message.stop_details is not None
    assert message.usage.output_tokens > 0


def test_a_stop_sequence_ends_a_stream_and_is_named(control: httpx2.Client) -> None:
    end = events_of(control, "[[content:one two three]]", stop_sequences=["two", "three"])[-2]
    assert (end["delta"]["stop_reason"], end["delta"]["stop_sequence"]) == ("stop_sequence", "two")


def test_a_tool_call_may_be_cut_by_the_limit(claude: anthropic.Anthropic) -> None:
    message = ask(claude, MARKED, tools=TOOLS, max_tokens=16)
    assert (message.stop_reason, message.usage.output_tokens <= 16) == ("max_tokens", True)
    assert [name for name, _ in calls_of(message)] == ["get_weather"]


# --- Images and what is added for tools


@pytest.mark.parametrize(
    ("model", "source", "tokens"),
    [
        ("claude-haiku-4-5", IMAGE["source"], 80),
        ("claude-haiku-4-5", {"type": "url", "url": "https://example.com/a.png"}, 1399),
        ("claude-haiku-4-5", {"type": "url", "url": "https://example.com/4000x4000.png"}, 1600),
        ("claude-opus-5-5", {"type": "url", "url": "https://example.com/4000x4000.png"}, 4784),
    ],
)
def test_images_are_counted_by_the_providers_formula(
    claude: anthropic.Anthropic, model: str, source: Any, tokens: int
) -> None:
    text = {"type": "text", "text": "What is this?"}
    with_image = ask(claude, [{"type": "image", "source": source}, text], model=model).usage
    assert with_image.input_tokens - ask(claude, [text], model=model).usage.input_tokens == tokens


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"type": "base64", "media_type": "image/tiff", "data": GIF}, "media_type"),
        ({"type": "base64", "media_type": "image/gif", "data": "???"}, "invalid base64 data"),
        ({"type": "base64", "media_type": "image/gif", "data": "AAAA"}, "Could not process image"),
        ({"type": "url", "url": "http://example.com/a.png"}, "Only HTTPS"),
        ({"type": "url", "url": "https://nowhere.invalid/a.png"}, "Unable to download"),
        ({"type": "file", "file_id": "f"}, "Input tag 'file'"),
    ],
)
def test_images_that_cannot_be_taken_are_refused(claude: anthropic.Anthropic, source: Any, part: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(claude, [{"type": "image", "source": source}])
    assert part in (caught.value.api_message or "")


def test_tools_cost_a_prompt_of_their_own(claude: anthropic.Anthropic) -> None:
    by_choice = {
        kind: ask(claude, "x", tools=TOOLS, tool_choice={"type": kind}).usage.input_tokens
        for kind in ("auto", "any")
    }
    assert by_choice["auto"] - by_choice["any"] == 346 - 313
    assert by_choice["any"] > 313 + ask(claude, "x").usage.input_tokens


# --- The prompt cache


def cached(lifetime: str = "5m") -> list[Any]:
    control = {"type": "ephemeral", "ttl": lifetime}
    return [{"type": "text", "text": LONG, "cache_control": control}]


def test_a_prefix_is_written_once_and_read_ever_after(claude: anthropic.Anthropic) -> None:
    first, second = (ask(claude, text, system=cached()) for text in ("one", "two"))
    other = ask(claude, "one", system=cached(), model="claude-haiku-4-5-20251001", tools=TOOLS)
    assert first.usage.cache_read_input_tokens == 0
    assert (first.usage.cache_creation_input_tokens or 0) >= 4096
    assert first.usage.cache_creation is not None
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == first.usage.cache_creation_input_tokens
    assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens
    assert second.usage.cache_creation_input_tokens == 0
    assert input_total(first) == input_total(second) == input_total(ask(claude, "one", system=LONG))
    assert other.usage.cache_read_input_tokens == 0


def test_a_conversation_reads_what_it_wrote_and_writes_what_is_new(claude: anthropic.Anthropic) -> None:
    first = ask(claude, "one", system=cached("1h"))
    assert first.usage.cache_creation is not None
    assert first.usage.cache_creation.ephemeral_1h_input_tokens == first.usage.cache_creation_input_tokens
    second = ask(claude, LONG, system=cached("1h"), cache_control={"type": "ephemeral"})
    assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens
    assert (second.usage.cache_creation_input_tokens or 0) > 4096
    third = ask(claude, LONG, system=cached("1h"), cache_control={"type": "ephemeral"})
    assert third.usage.cache_creation_input_tokens == 0
    assert input_total(third) == input_total(second)


def test_short_prompts_are_not_cached_unless_the_switch_says_so(
    claude: anthropic.Anthropic, control: httpx2.Client
) -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        usage = ask(claude, "x", system=system).usage
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (0, 0)
    configure(control, cache_tokens_min=1)
    assert (ask(claude, "x", system=system).usage.cache_creation_input_tokens or 0) > 0
    assert (ask(claude, "x", system=system).usage.cache_read_input_tokens or 0) > 0


def test_a_marker_says_what_the_cache_read(claude: anthropic.Anthropic) -> None:
    usage = ask(claude, "[[cached:5]] How are prices?").usage
    assert usage.cache_read_input_tokens == 5
    assert usage.input_tokens > 0


# --- Models and the asynchronous client


def test_models_come_by_the_page_and_one_by_one(claude: anthropic.Anthropic) -> None:
    everything = [model.id for model in claude.models.list(limit=100)]
    assert [model.id for model in claude.models.list(limit=3)] == everything
    page = claude.models.list(limit=2, after_id=everything[1])
    assert ([model.id for model in page.data], page.has_more) == (everything[2:4], True)
    before = claude.models.list(limit=2, before_id=everything[2])
    assert ([model.id for model in before.data], before.has_more) == (everything[:2], False)
    assert claude.models.retrieve(everything[0]).lifecycle == "active"
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("claude-17")
    with pytest.raises(anthropic.BadRequestError):
        claude.models.list(limit=0)


def test_the_asynchronous_client_gets_the_same(claude: anthropic.Anthropic, url: str) -> None:
    async def both() -> tuple[Message, Message]:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:
            body: dict[str, Any] = {
                "model": "claude-haiku-4-5",
                "max_tokens": 200,
                "messages": [{"role": "user", "content": MARKED}],
                "tools": TOOLS,
            }
            async with client.messages.stream(**body) as stream:
                return await client.messages.create(**body), await stream.get_final_message()

    plain, streamed = asyncio.run(both())
    assert calls_of(plain) == calls_of(streamed) == calls_of(ask(claude, MARKED, tools=TOOLS))
