"""Both wire formats, without a wire: the exact bodies that a prompt becomes, and what an answer says."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.adapters import anthropic_wire, openai_wire
from providers.adapters.anthropic_stream import AnthropicStream
from providers.adapters.openai_stream import OpenAIStream
from providers.answers import arguments_object, ask
from providers.types import (
    Image,
    Message,
    Prompt,
    ProviderReply,
    ProviderRequest,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)

WRITERS = {"openai": openai_wire.request_body, "anthropic": anthropic_wire.request_body}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
HELLO = Message("user", "Hi")


def asked_of(provider: str, *, stream: bool = False, want_confidence: bool = False, **fields: Any) -> Any:
    prompt = Prompt(**{"messages": (HELLO,), **fields})
    request = ProviderRequest("m", prompt, 16, want_confidence)
    asked = ask(request, logprobs=provider == "openai", structured=True, stream=stream)
    return request, asked


def body_of(provider: str, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    request, asked = asked_of(provider, stream=stream, **fields)
    return WRITERS[provider](request, asked, stream=stream)


def added(provider: str, **fields: Any) -> dict[str, Any]:
    """What `fields` add to a request for nothing but an answer."""
    plain = body_of(provider)
    return {name: value for name, value in body_of(provider, **fields).items() if plain.get(name) != value}


# --- Messages

CALL = ToolCall("call_1", "weather", '{"city": "Köln", "days": 2}')
SECOND = ToolCall("call_2", "time", "")
URL = Image(url="https://example.com/a.png")
DATA = Image(data="aGk=", media_type="image/png", detail="high")

MESSAGES: list[tuple[str, list[Message], list[Any], str | list[Any] | None, list[Any]]] = [
    (
        "plain text stays plain text",
        [Message("system", "Be brief."), HELLO, Message("assistant", "Hello."), Message("user", "And?")],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "And?"},
        ],
        "Be brief.",
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "And?"},
        ],
    ),
    (
        "parts stay parts, pictures by address and by data",
        [Message("user", (Text("Compare"), URL, DATA))],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Compare"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,aGk=", "detail": "high"},
                    },
                ],
            }
        ],
        None,
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Compare"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                ],
            }
        ],
    ),
    (
        "an assistant that only calls tools, and their results one by one",
        [
            HELLO,
            Message("assistant", (CALL, SECOND)),
            Message("user", (ToolResult("call_1", (Text("rain"),)),)),
            Message("user", (ToolResult("call_2", (), is_error=True),)),
        ],
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Köln", "days": 2}'},
                    },
                    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_2", "content": "Error: "},
        ],
        None,
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Köln", "days": 2},
                    },
                    {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "", "is_error": True},
                ],
            },
        ],
    ),
    (
        "words before the calls; results of several parts, and words after them",
        [
            HELLO,
            Message("assistant", (Text("Let me see."), CALL)),
            Message(
                "user",
                (ToolResult("call_1", (Text("no"), Text("net")), is_error=True), Text("Try again."), URL),
            ),
        ],
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Köln", "days": 2}'},
                    }
                ],
            },
            {
                "role": "tool",
                "tool_call_id": "call_1",
                "content": [{"type": "text", "text": "Error: no"}, {"type": "text", "text": "net"}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Try again."},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                ],
            },
        ],
        None,
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Köln", "days": 2},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "net"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "Try again."},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                ],
            },
        ],
    ),
    (
        "turns of one role are one turn at Anthropic, results first, system apart",
        [
            HELLO,
            Message("assistant", "Well."),
            Message("assistant", (Text(""), CALL)),
            Message("user", "Wait!"),
            Message("system", "Be kind."),
            Message("user", (ToolResult("call_1", (Text("rain"),)),)),
            Message("system", "Be brief."),
        ],
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Well."},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Köln", "days": 2}'},
                    }
                ],
            },
            {"role": "user", "content": "Wait!"},
            {"role": "system", "content": "Be kind."},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "system", "content": "Be brief."},
        ],
        "Be kind.\n\nBe brief.",
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Well."},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Köln", "days": 2},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                    {"type": "text", "text": "Wait!"},
                ],
            },
        ],
    ),
    (
        "marks for Anthropic's cache, which OpenAI does without",
        [
            Message("system", (Text("Rules.", cache="1h"), Text("More."))),
            Message("system", "Plain."),
            Message("user", (ToolResult("c", (Text("x", cache="5m"),), cache="1h"), Text("Hi", cache="5m"))),
        ],
        [
            {"role": "system", "content": [{"type": "text", "text": t} for t in ("Rules.", "More.")]},
            {"role": "system", "content": "Plain."},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        [
            {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": "More."},
            {"type": "text", "text": "Plain."},
        ],
        [
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
                        "cache_control": {"type": "ephemeral", "ttl": "1h"},
                    },
                    {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}},
                ],
            }
        ],
    ),
    (
        "an assistant's parts without a call",
        [HELLO, Message("assistant", (Text("a"), Text("b")))],
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": t} for t in "ab"]},
        ],
        None,
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": t} for t in "ab"]},
        ],
    ),
    (
        "a system prompt of parts alone is a user's turn at Anthropic",
        [Message("system", (Text("Write."),))],
        [{"role": "system", "content": [{"type": "text", "text": "Write."}]}],
        None,
        [{"role": "user", "content": [{"type": "text", "text": "Write."}]}],
    ),
]


@pytest.mark.parametrize(
    ("messages", "openai", "system", "anthropic"),
    [case[1:] for case in MESSAGES],
    ids=[case[0] for case in MESSAGES],
)
def test_messages_in_both_formats(
    messages: list[Message], openai: list[Any], system: Any, anthropic: list[Any]
) -> None:
    assert body_of("openai", messages=tuple(messages))["messages"] == openai
    body = body_of("anthropic", messages=tuple(messages))
    assert body.get("system") == system
    assert body["messages"] == anthropic


@pytest.mark.parametrize("provider", WRITERS)
def test_an_instruction_of_ours_stands_at_the_end_of_a_system_prompt_of_parts(provider: str) -> None:
    messages = (Message("system", (Text("Rules.", cache="5m"),)), HELLO)
    body = body_of(provider, messages=messages, labels=("A", "B"), stream=True)
    blocks = body["system"] if provider == "anthropic" else body["messages"][0]["content"]
    assert blocks[0]["text"] == "Rules."
    assert blocks[1]["text"].startswith("\n\nAnswer with exactly one of these labels")


# --- Tools

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = (
    Tool("weather", PARAMETERS, description="The weather.", strict=True, cache="1h"),
    Tool("time", {}),
)
OPENAI_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather.",
            "parameters": PARAMETERS,
            "strict": True,
        },
    },
    {"type": "function", "function": {"name": "time", "parameters": {}}},
]
ANTHROPIC_TOOLS = [
    {
        "name": "weather",
        "description": "The weather.",
        "strict": True,
        "input_schema": PARAMETERS,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    },
    {"name": "time", "input_schema": {"type": "object"}},
]
ONE = {"disable_parallel_tool_use": True}
NAMED = ToolChoice("named", "time")
CHOICES: list[tuple[ToolChoice | None, bool | None, Mapping[str, Any], Mapping[str, Any]]] = [
    (None, None, {}, {}),
    (ToolChoice("auto"), None, {"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
    (ToolChoice("required"), None, {"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
    (ToolChoice("none"), None, {"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
    (
        NAMED,
        None,
        {"tool_choice": {"type": "function", "function": {"name": "time"}}},
        {"tool_choice": {"type": "tool", "name": "time"}},
    ),
    (None, True, {"parallel_tool_calls": True}, {}),
    (None, False, {"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", **ONE}}),
    (
        ToolChoice("required"),
        False,
        {"tool_choice": "required", "parallel_tool_calls": False},
        {"tool_choice": {"type": "any", **ONE}},
    ),
    (
        ToolChoice("none"),
        False,
        {"tool_choice": "none", "parallel_tool_calls": False},
        {"tool_choice": {"type": "none"}},
    ),
    (
        NAMED,
        False,
        {"tool_choice": {"type": "function", "function": {"name": "time"}}, "parallel_tool_calls": False},
        {"tool_choice": {"type": "tool", "name": "time", **ONE}},
    ),
]


@pytest.mark.parametrize(("choice", "parallel", "openai", "anthropic"), CHOICES)
def test_tools_and_their_choice_in_both_formats(
    choice: ToolChoice | None,
    parallel: bool | None,
    openai: Mapping[str, Any],
    anthropic: Mapping[str, Any],
) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": parallel}
    assert added("openai", **fields) == {"tools": OPENAI_TOOLS, **openai}
    assert added("anthropic", **fields) == {"tools": ANTHROPIC_TOOLS, **anthropic}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": [1, null, "ö"]}', {"a": [1, None, "ö"]}),
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": ', {"INVALID_JSON": '{"a": '}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("null", {"INVALID_JSON": "null"}),
        ('{"a": NaN}', {"INVALID_JSON": '{"a": NaN}'}),
        ('{"a": 1e999}', {"INVALID_JSON": '{"a": 1e999}'}),
    ],
)
def test_arguments_that_are_no_object_are_kept_in_one(arguments: str, expected: Any) -> None:
    assert arguments_object(arguments) == expected


@given(st.text() | st.from_regex(r'\{"a": ?(-?\d{1,3}([.e]\d{1,3})?|"x")\}', fullmatch=True))
def test_whatever_a_model_wrote_as_arguments_can_be_sent(arguments: str) -> None:
    value = arguments_object(arguments)
    assert json.loads(json.dumps(value, allow_nan=False)) == value


# --- Sampling and form

FORMS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        {"sampling": Sampling(temperature=0.5, reasoning_effort="high"), "stop": ("END",)},
        {"temperature": 0.5, "reasoning_effort": "high", "stop": ["END"]},
        {"temperature": 0.5, "output_config": {"effort": "high"}, "stop_sequences": ["END"]},
    ),
    (
        {"sampling": Sampling(temperature=1.0, top_p=1.0, top_k=5, frequency_penalty=0.0)},
        {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0},
        {"top_k": 5},
    ),
    (
        {"sampling": Sampling(top_p=0.1, seed=0, frequency_penalty=-2.0, presence_penalty=2.0)},
        {"top_p": 0.1, "seed": 0, "frequency_penalty": -2.0, "presence_penalty": 2.0},
        {"top_p": 0.1},
    ),
    ({"json_object": True}, {"response_format": {"type": "json_object"}}, {}),
    (
        {"response_schema": SCHEMA},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            }
        },
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    (
        {
            "response_schema": SCHEMA,
            "schema_name": "lead",
            "schema_description": "A lead.",
            "schema_strict": None,
            "sampling": Sampling(reasoning_effort="low"),
        },
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "lead", "description": "A lead.", "schema": SCHEMA},
            },
            "reasoning_effort": "low",
        },
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}},
    ),
    ({"top_logprobs": 0}, {"logprobs": True, "top_logprobs": 0}, {}),
    ({"top_logprobs": 7, "labels": ("A", "B")}, {"logprobs": True, "top_logprobs": 7}, {}),
    ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
]


@pytest.mark.parametrize(("fields", "openai", "anthropic"), FORMS)
def test_sampling_and_form_in_both_formats(
    fields: dict[str, Any], openai: dict[str, Any], anthropic: dict[str, Any]
) -> None:
    # What the provider cannot honour is refused before it comes to this (`providers.features`).
    for provider, expected in (("openai", openai), ("anthropic", anthropic)):
        new = added(provider, **fields)
        if "labels" in fields:
            new = {name: new[name] for name in new if name not in ("messages", "system")}
        assert new == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"tools": TOOLS},
        {"json_object": True},
        {"stop": (":",)},
        {"top_logprobs": 1},
    ],
)
def test_the_answer_is_not_wrapped_where_the_caller_sees_its_form(fields: dict[str, Any]) -> None:
    request, asked = asked_of("anthropic", want_confidence=True, **fields)
    assert (asked.wrapped, asked.schema) == (False, None)
    request, asked = asked_of("anthropic", want_confidence=True)
    assert asked.wrapped


def test_log_probabilities_that_the_caller_wants_are_asked_for_even_where_the_model_has_none() -> None:
    request = ProviderRequest("m", Prompt((HELLO,), top_logprobs=3), 16)
    assert ask(request, logprobs=False, structured=True).logprobs


# --- Answers

OPENAI_CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1 }'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
LOGPROBS = {"content": [{"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": []}], "refusal": None}


def openai_reply(
    message: dict[str, Any], *, finish: str = "stop", logprobs: Any = None, **fields: Any
) -> Any:
    request, asked = asked_of("openai", want_confidence=True, **fields)
    choice = {"message": message, "finish_reason": finish, "logprobs": logprobs}
    body = {"model": "x", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    return openai_wire.reply(body, request, asked, "req")


def anthropic_reply(content: list[Any], *, stop_reason: str, stop_sequence: str | None = None) -> Any:
    request, asked = asked_of("anthropic", tools=TOOLS)
    usage = {"input_tokens": 3, "output_tokens": 2}
    ends = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
    return anthropic_wire.reply({"content": content, "usage": usage, **ends}, request, asked, "req")


def test_openais_tool_calls_are_read_as_the_model_wrote_them() -> None:
    reply = openai_reply({"content": None, "tool_calls": OPENAI_CALLS}, finish="tool_calls")
    assert reply.tool_calls == (ToolCall("call_1", "weather", '{"a": 1 }'), ToolCall("call_2", "time", "{}"))
    assert (reply.content, reply.finish_reason, reply.refused) == ("", "tool_calls", False)


def test_openais_refusal_is_told() -> None:
    reply = openai_reply({"content": None, "refusal": "No."}, response_schema=SCHEMA)
    assert (reply.content, reply.refused, reply.parsed, reply.tokens) == ("No.", True, None, None)


def test_openais_log_probabilities_are_kept_whole_for_who_wants_them() -> None:
    assert openai_reply({"content": "A"}, logprobs=LOGPROBS).raw_logprobs is None
    reply = openai_reply({"content": "A"}, logprobs=LOGPROBS, top_logprobs=0)
    assert (reply.raw_logprobs, reply.tokens[0].logprob) == (LOGPROBS, -0.5)


def test_anthropics_tool_calls_are_read_with_their_input_as_text() -> None:
    content = [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln", "n": 1.5}},
        {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    ]
    reply = anthropic_reply(content, stop_reason="tool_use")
    assert reply.tool_calls == (
        ToolCall("toolu_1", "weather", '{"city":"Köln","n":1.5}'),
        ToolCall("toolu_2", "time", "{}"),
    )
    assert (reply.content, reply.finish_reason) == ("Let me see.", "tool_calls")


def test_anthropic_says_which_stop_sequence_it_met() -> None:
    content = [{"type": "text", "text": "a"}]
    reply = anthropic_reply(content, stop_reason="stop_sequence", stop_sequence="END")
    assert (reply.finish_reason, reply.stop_sequence) == ("stop", "END")


# --- Streams: put together, they say what the same answer says in one piece


def streamed(
    reader: OpenAIStream | AnthropicStream, events: list[Any]
) -> tuple[list[Any], ProviderReply | None]:
    items = [item for event in events for item in reader.read(json.dumps(event).encode())]
    return items, reader.reply()


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[low:high] for low, high in zip(edges, edges[1:], strict=False)]


calls_strategy = st.lists(
    st.tuples(st.sampled_from(["weather", "time"]), st.dictionaries(st.text(max_size=4), st.integers())),
    max_size=3,
)
cuts_strategy = st.lists(st.integers(0, 60), max_size=6)


@given(text=st.text(max_size=30), calls=calls_strategy, cuts=cuts_strategy)
def test_openais_chunks_say_what_one_piece_says(
    text: str, calls: list[tuple[str, dict[str, int]]], cuts: list[int]
) -> None:
    written = [
        {"id": f"c{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(value)}}
        for at, (name, value) in enumerate(calls)
    ]
    whole = {"model": "x", "service_tier": "default", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    message = {"content": text or None, "tool_calls": written}
    request, asked = asked_of("openai", stream=True, tools=TOOLS)

    def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
        return {**whole, "usage": None, "choices": [{"delta": delta, "finish_reason": finish}]}

    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": piece}) for piece in pieces(text, cuts)]
    for at, call in enumerate(written):
        first, *rest = pieces(call["function"]["arguments"], cuts)
        begun = {**call, "index": at, "function": {**call["function"], "arguments": first}}
        events.append(chunk({"tool_calls": [begun]}))
        events += [chunk({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}) for piece in rest]
    events += [chunk({}, finish="tool_calls"), {**whole, "choices": []}]
    items, reply = streamed(OpenAIStream(request, asked, "req"), events)
    choice = {"message": message, "finish_reason": "tool_calls"}
    assert reply == openai_wire.reply({**whole, "choices": [choice]}, request, asked, "req")
    assert_pieces(items, reply)


@given(text=st.text(max_size=30), calls=calls_strategy, cuts=cuts_strategy)
def test_anthropics_events_say_what_one_piece_says(
    text: str, calls: list[tuple[str, dict[str, int]]], cuts: list[int]
) -> None:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}]
    blocks += [
        {"type": "tool_use", "id": f"t{at}", "name": name, "input": value}
        for at, (name, value) in enumerate(calls)
    ]
    head = {"model": "x", "content": [], "stop_reason": None, "stop_sequence": None}
    start_usage = {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 5, "service_tier": None}
    events: list[Any] = [{"type": "message_start", "message": {**head, "usage": start_usage}}]
    for at, block in enumerate(blocks):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        events += [{"type": "content_block_start", "index": at, "content_block": empty}, {"type": "ping"}]
        json_text = json.dumps(block.get("input"), ensure_ascii=False, separators=(",", ":"))
        for piece in pieces(text if block["type"] == "text" else json_text, cuts):
            delta = {"type": "text_delta", "text": piece}
            if block["type"] != "text":
                delta = {"type": "input_json_delta", "partial_json": piece}
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
        events.append({"type": "content_block_stop", "index": at})
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": {**end, "stop_reason": None}, "usage": {"output_tokens": 4}},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 9, "input_tokens": None}},
        {"type": "message_stop"},
    ]
    request, asked = asked_of("anthropic", stream=True, tools=TOOLS)
    reader = AnthropicStream(request, asked, "req")
    items, reply = streamed(reader, events)
    usage = {"input_tokens": 3, "output_tokens": 9, "cache_read_input_tokens": 5}
    body = {"model": "x", "content": blocks, **end, "usage": usage}
    assert reply == anthropic_wire.reply(body, request, asked, "req")
    assert reader.ended
    assert_pieces(items, reply)


def assert_pieces(items: list[Any], reply: ProviderReply | None) -> None:
    """The pieces are the whole: no words, calls or arguments but those of `reply`."""
    assert reply is not None
    assert items[0].model == reply.model
    texts = [item for item in items[1:] if isinstance(item, TextDelta)]
    assert "".join(item.text for item in texts) == reply.content
    assert all(item.text for item in texts)
    for at, call in enumerate(reply.tool_calls):
        of_call = [item for item in items if isinstance(item, ToolCallDelta) and item.index == at]
        assert [(item.id, item.name) for item in of_call if item.id or item.name] == [(call.id, call.name)]
        assert "".join(item.arguments for item in of_call) == call.arguments


def test_what_claude_thinks_and_what_is_not_known_is_left_out() -> None:
    request, asked = asked_of("anthropic", stream=True)
    usage = {"input_tokens": 3, "output_tokens": 1}
    events: list[Any] = [
        {"type": "message_start", "message": {"model": "x", "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "unheard_of", "x": 1},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "So"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    ]
    items, reply = streamed(AnthropicStream(request, asked, "req"), events)
    assert items[1:] == [TextDelta("So")]
    assert reply is not None
    assert (reply.content, reply.usage.output_total, reply.finish_reason) == ("So", 7, "stop")


def test_a_streamed_refusal_and_log_probabilities_come_with_their_pieces() -> None:
    request, asked = asked_of("openai", stream=True, top_logprobs=0)
    token = LOGPROBS["content"]
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    events: list[Any] = [
        {"model": "x", "choices": [{"delta": {"content": "A"}, "logprobs": {"content": token}}]},
        {"model": "x", "choices": [{"delta": {"content": ""}, "logprobs": {"content": token}}]},
        {"model": "x", "choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"model": "x", "choices": [], "usage": usage},
    ]
    items, reply = streamed(OpenAIStream(request, asked, None), events)
    assert items[1:] == [TextDelta(text, raw_logprobs={"content": token}) for text in ("A", "")]
    assert reply is not None
    assert reply.raw_logprobs == {"content": [*token, *token], "refusal": None}
    refusal = [
        {"model": "x", "choices": [{"delta": {"refusal": "No"}}]},
        {"model": "x", "choices": [{"delta": {"refusal": "."}, "finish_reason": "stop"}], "usage": usage},
    ]
    items, reply = streamed(OpenAIStream(request, asked, None), refusal)
    assert items[1:] == [TextDelta("No", refused=True), TextDelta(".", refused=True)]
    assert reply is not None
    assert (reply.content, reply.refused) == ("No.", True)


def test_a_call_without_arguments_has_an_empty_object_for_them() -> None:
    request, asked = asked_of("anthropic", stream=True, tools=TOOLS)
    block = {"type": "tool_use", "id": "t", "name": "time", "input": {}}
    events: list[Any] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
    items, _ = streamed(AnthropicStream(request, asked, None), events)
    assert items[1:] == [ToolCallDelta(0, id="t", name="time"), ToolCallDelta(0, "{}")]
