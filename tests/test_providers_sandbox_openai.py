"""The sandbox's chat completions, as the official OpenAI client sees them: tools, images, forms, streams."""

import asyncio
import base64
import json
import struct
from collections.abc import Iterable
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers.sandbox import brain, catalogue

pytest_plugins = ["tests.sandbox_fixtures"]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "get_time"}},
]
MARKED = '[[tool:get_weather {"city": "Rom", "days": 2}]] [[tool:get_time]]'
#: The head of a PNG of 100 × 50 pixels; the rest is not looked at.
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 100, 50)
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def ask(client: openai.OpenAI, content: Any, **more: Any) -> ChatCompletion:
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": content}],
        **more,
    }
    completion = client.chat.completions.create(**body)
    assert isinstance(completion, ChatCompletion)
    return completion


def stream(client: openai.OpenAI, content: Any, **more: Any) -> list[ChatCompletionChunk]:
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], **more}
    return list(client.chat.completions.create(stream=True, **body))


def calls_of(completion: ChatCompletion) -> list[tuple[str, Any]]:
    calls = completion.choices[0].message.tool_calls or []
    functions = [call.function for call in calls if call.type == "function"]
    return [(function.name, json.loads(function.arguments)) for function in functions]


def streamed_calls(chunks: Iterable[ChatCompletionChunk]) -> list[tuple[str, str, Any]]:
    """Id, name and arguments of each tool call, put together from its deltas."""
    found: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                assert delta.function is not None
                if delta.index not in found:
                    assert delta.id
                    assert delta.type == "function"
                    assert delta.function.name
                    found[delta.index] = [delta.id, delta.function.name, ""]
                else:
                    assert (delta.id, delta.function.name) == (None, None)
                found[delta.index][2] += delta.function.arguments or ""
    return [(one[0], one[1], json.loads(one[2])) for _, one in sorted(found.items())]


# --- Tools


@pytest.mark.parametrize(
    ("content", "more", "names"),
    [
        ("Hello?", {}, []),
        ("Please call get_time for me", {}, ["get_time"]),
        ("get_time, then GET_WEATHER", {}, ["get_time", "get_weather"]),
        ("forget_time", {}, []),
        ("get_time, then get_weather", {"parallel_tool_calls": False}, ["get_time"]),
        ("get_time", {"tool_choice": "none"}, []),
        ("Hello?", {"tool_choice": "required"}, ["get_weather"]),
        ("get_time", {"tool_choice": "required"}, ["get_time"]),
        (MARKED, {"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, ["get_time"]),
        (MARKED, {}, ["get_weather", "get_time"]),
        ("[[tool:get_time@small]]", {}, []),
        (
            "Hello?",
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]},
                }
            },
            ["get_time"],
        ),
    ],
)
def test_tools_are_called_as_the_choice_and_the_message_say(
    gpt: openai.OpenAI, content: str, more: dict[str, Any], names: list[str]
) -> None:
    completion = ask(gpt, content, tools=TOOLS, **more)
    ChatCompletion.model_validate(completion.model_dump(), strict=True)
    assert [name for name, _ in calls_of(completion)] == names
    choice = completion.choices[0]
    if names:
        # A call of the tool that the caller named ends with "stop", as with the provider.
        named = isinstance(more.get("tool_choice"), dict) and more["tool_choice"]["type"] == "function"
        assert (choice.finish_reason, choice.message.content) == ("stop" if named else "tool_calls", None)
        for name, arguments in calls_of(completion):
            jsonschema.validate(arguments, WEATHER if name == "get_weather" else {"type": "object"})
    else:
        assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)


def test_a_marker_says_the_arguments_and_may_come_with_words(gpt: openai.OpenAI) -> None:
    completion = ask(gpt, "[[content:I look.]]" + MARKED, tools=TOOLS)
    assert calls_of(completion) == [("get_weather", {"city": "Rom", "days": 2}), ("get_time", {})]
    assert completion.choices[0].message.content == "I look."
    nested = ask(gpt, '[[tool:get_time {"a": [[1, 2]]}]]', tools=TOOLS)
    assert calls_of(nested) == [("get_time", {"a": [[1, 2]]})]


@pytest.mark.parametrize("marker", ["[[tool:fly]]", "[[tool:get_time {broken]]", "[[tool:get_time 3]]"])
def test_a_tool_marker_that_cannot_be_read_is_refused(gpt: openai.OpenAI, marker: str) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(gpt, marker, tools=TOOLS)


def test_tool_results_are_answered_in_words(gpt: openai.OpenAI) -> None:
    asked = ask(gpt, MARKED, tools=TOOLS).choices[0].message
    messages: Any = [{"role": "user", "content": MARKED}, asked.model_dump(exclude_none=True)]
    messages[1]["content"] = None
    for call in asked.tool_calls or []:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "22 °C"})
    answered = gpt.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS)
    assert answered.choices[0].finish_reason == "stop"
    assert answered.choices[0].message.content
    required = gpt.chat.completions.create(
        model="gpt-4o", messages=messages, tools=TOOLS, tool_choice="required"
    )
    assert required.choices[0].message.tool_calls


CALL = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWER = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([USER, ANSWER], "must be a response to a preceeding message with 'tool_calls'"),
        ([USER, CALLING, USER], "did not have response messages: c1"),
        ([USER, CALLING], "did not have response messages: c1"),
        ([USER, CALLING, {**ANSWER, "tool_call_id": "c2"}], "'tool_call_id' of 'c2' not found"),
        ([USER, CALLING, {"role": "tool", "content": "x"}], "Missing parameter 'tool_call_id'"),
        ([USER, {**CALLING, "tool_calls": []}], "empty array"),
        ([USER, {**CALLING, "tool_calls": [{"id": "c1", "type": "custom"}]}], "Supported values are"),
        ([USER, {**CALLING, "tool_calls": [{**CALL, "id": None}]}, ANSWER], "tool_calls[0].id"),
        ([USER, {"role": "assistant", "content": None}], "expected a string, got null"),
        ([{"role": "user", "content": 5}], "Invalid type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "content[0].text"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "'input_audio'"),
        ([{"role": "system", "content": [{"type": "image_url"}]}], "role 'user'"),
    ],
)
def test_messages_that_do_not_fit_together_are_refused(gpt: openai.OpenAI, messages: Any, part: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.chat.completions.create(model="gpt-4o", messages=messages, tools=TOOLS)
    assert part in caught.value.message
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"tools": []}, "empty_array"),
        ({"tools": [TOOLS[1]] * 129}, "array_above_max_length"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "invalid_value"),
        ({"tools": [{"type": "function", "function": {}}]}, "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
            "invalid_function_parameters",
        ),
        ({"tool_choice": "auto"}, None),
        ({"parallel_tool_calls": True}, None),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "invalid_value"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}}, None),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "invalid_value"),
        ({"tools": TOOLS, "parallel_tool_calls": "yes"}, "invalid_type"),
        ({"model": "o3", "tools": TOOLS, "parallel_tool_calls": True}, "unsupported_parameter"),
        ({"top_p": 1.1}, "decimal_above_max_value"),
        ({"presence_penalty": -2.1}, "decimal_below_min_value"),
        ({"frequency_penalty": "much"}, "invalid_type"),
        ({"seed": 1.5}, "invalid_type"),
        ({"user": 5}, "invalid_type"),
        ({"n": 0}, "integer_below_min_value"),
        ({"stop": 5}, "invalid_type"),
        ({"metadata": {"a": 1}}, "invalid_type"),
        ({"metadata": {str(number): "" for number in range(17)}}, "object_above_max_properties"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "invalid_parameter_combination"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"response_format": {"type": "json_object"}}, None),
        ({"response_format": {"type": "xml"}}, "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": WEATHER}}},
            "invalid_value",
        ),
        ({"reasoning_effort": "low"}, None),
        ({"model": "o3", "reasoning_effort": "immense"}, "invalid_value"),
        ({"model": "o3", "top_p": 0.5}, "unsupported_parameter"),
        ({"functions": [{"name": "a"}]}, "unsupported_parameter"),
        ({"extra_body": {"top_k": 5}}, None),
    ],
)
def test_parameters_are_refused_by_name(gpt: openai.OpenAI, wrong: dict[str, Any], code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(gpt, "x", **wrong)
    assert caught.value.code == code


def test_what_is_in_range_is_taken(gpt: openai.OpenAI) -> None:
    taken = ask(
        gpt, "x", temperature=0.3, top_p=0.5, frequency_penalty=-2, presence_penalty=2, seed=7, user="u",
        logit_bias={"50256": -100}, metadata={"a": "b"}, store=False, stop="never", service_tier="flex",
    )  # fmt: skip
    assert (taken.service_tier, taken.system_fingerprint is not None) == ("flex", True)


# --- Streams


def test_tool_calls_are_streamed_piece_by_piece(gpt: openai.OpenAI) -> None:
    chunks = stream(gpt, MARKED, tools=TOOLS, stream_options={"include_usage": True})
    (first, name, arguments), (second, other, _) = streamed_calls(chunks)
    assert (name, arguments, other) == ("get_weather", {"city": "Rom", "days": 2}, "get_time")
    assert first != second
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.tool_calls is None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage == ask(gpt, MARKED, tools=TOOLS).usage


def test_a_lone_tool_call_begins_with_the_role(gpt: openai.OpenAI) -> None:
    chunks = stream(gpt, "get_time", tools=TOOLS)
    delta = chunks[0].choices[0].delta
    assert (delta.role, delta.content) == ("assistant", None)
    assert [call.function.name for call in delta.tool_calls or [] if call.function] == ["get_time"]


def test_the_clients_own_stream_puts_everything_together(gpt: openai.OpenAI) -> None:
    for content in ("How are prices?", "[[content:I look.]]" + MARKED, "[[refuse]]"):
        messages: Any = [{"role": "user", "content": content}]
        with gpt.chat.completions.stream(model="gpt-4o", messages=messages, tools=TOOLS) as events:
            for _ in events:
                pass
            streamed = events.get_final_completion().choices[0]
        plain = ask(gpt, content, tools=TOOLS).choices[0]
        assert streamed.finish_reason == plain.finish_reason
        assert streamed.message.content == plain.message.content
        assert streamed.message.refusal == plain.message.refusal
        calls = [(call.function.name, call.function.arguments) for call in streamed.message.tool_calls or []]
        assert [(name, json.loads(arguments)) for name, arguments in calls] == calls_of(
            ask(gpt, content, tools=TOOLS)
        )


def test_log_probabilities_come_chunk_by_chunk(gpt: openai.OpenAI) -> None:
    plain = ask(gpt, "How are prices?", logprobs=True, top_logprobs=3).choices[0].logprobs
    assert plain is not None
    streamed = []
    for chunk in stream(gpt, "How are prices?", logprobs=True, top_logprobs=3):
        choice = chunk.choices[0]
        if choice.delta.content:
            assert choice.logprobs is not None
            assert choice.logprobs.content
            assert choice.logprobs.content[0].token == choice.delta.content
            streamed += choice.logprobs.content
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in plain.content or []]


def test_several_choices_are_counted_and_streamed_apart(gpt: openai.OpenAI) -> None:
    plain = ask(gpt, "[[content:one two three]]", n=3)
    assert [(choice.index, choice.message.content) for choice in plain.choices] == [
        (index, "one two three") for index in range(3)
    ]
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 9
    said = {0: "", 1: ""}
    for chunk in stream(gpt, "[[content:one two three]]", n=2):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == {0: "one two three", 1: "one two three"}


def test_chunks_are_padded_unless_the_caller_objects(gpt: openai.OpenAI) -> None:
    assert all(chunk.obfuscation for chunk in stream(gpt, "Hello?"))
    bare = stream(gpt, "Hello?", stream_options={"include_obfuscation": False})
    assert not any(chunk.obfuscation for chunk in bare)


def test_a_refusal_has_no_content(gpt: openai.OpenAI) -> None:
    choice = ask(gpt, "[[refuse]]", logprobs=True).choices[0]
    assert (choice.message.content, choice.finish_reason) == (None, "stop")
    assert choice.message.refusal
    assert choice.logprobs is not None
    assert choice.logprobs.content is None
    assert choice.logprobs.refusal
    chunks = stream(gpt, "[[refuse]]")
    assert "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks) == choice.message.refusal
    assert ask(gpt, "[[refuse@small]]").choices[0].message.refusal is None


def test_a_tool_call_may_be_cut_by_the_limit(gpt: openai.OpenAI) -> None:
    completion = ask(gpt, MARKED, tools=TOOLS, max_completion_tokens=16)
    choice = completion.choices[0]
    assert choice.finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens <= 16
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert '{"city":"Rom","days":2}'.startswith(call.function.arguments)


def test_stop_cuts_a_stream_too(gpt: openai.OpenAI) -> None:
    chunks = stream(gpt, "[[content:one two three. four]]", stop="three")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two "
    assert chunks[-1].choices[0].finish_reason == "stop"


# --- Forms of the answer


def test_some_json_object_is_answered(gpt: openai.OpenAI) -> None:
    content = ask(gpt, "Answer in JSON.", response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(content or ""), dict)


def test_several_answers_to_one_question_may_differ() -> None:
    model = catalogue.find("openai", "gpt-4o-mini")
    assert model is not None
    system = "one of these labels and nothing else: A, B, C"
    said = {
        brain.answer(brain.Question(model, system, "Preisliste?", sample=sample)).text for sample in range(30)
    }
    assert len(said) > 1


# --- Images


def images(*urls: str, **detail: Any) -> Any:
    parts = [{"type": "image_url", "image_url": {"url": url, **detail}} for url in urls]
    return [{"type": "text", "text": "What is this?"}, *parts]


@pytest.mark.parametrize(
    ("model", "image", "detail", "tokens"),
    [
        ("gpt-4o", "https://example.com/1024x1024.png", {}, 765),
        ("gpt-4o", "https://example.com/a.png", {"detail": "low"}, 85),
        ("gpt-4o", "https://example.com/2048x4096.jpg", {"detail": "high"}, 1105),
        ("gpt-4o", DATA_URL, {}, 255),
        ("gpt-4o-mini", DATA_URL, {}, 2833 + 5667),
        ("gpt-4.1-mini", "https://example.com/1024x1024.png", {}, 1659),
        ("gpt-4.1-mini", "https://example.com/1800x2400.png", {}, 2353),
        ("o3", DATA_URL, {"detail": "low"}, 75),
    ],
)
def test_images_are_counted_by_the_providers_formula(
    gpt: openai.OpenAI, model: str, image: str, detail: dict[str, Any], tokens: int
) -> None:
    with_image = ask(gpt, images(image, **detail), model=model).usage
    without = ask(gpt, images(), model=model).usage
    assert with_image is not None
    assert without is not None
    assert with_image.prompt_tokens - without.prompt_tokens == tokens


@pytest.mark.parametrize(
    ("model", "image", "code"),
    [
        ("gpt-3.5-turbo", DATA_URL, None),
        ("gpt-4o", "data:image/png;base64,???", "invalid_base64"),
        ("gpt-4o", "data:image/png;base64,AAAA", "invalid_image_format"),
        ("gpt-4o", "ftp://example.com/a.png", "invalid_value"),
        ("gpt-4o", "https://nowhere.invalid/a.png", "invalid_image_url"),
    ],
)
def test_images_that_cannot_be_taken_are_refused(
    gpt: openai.OpenAI, model: str, image: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(gpt, images(image), model=model)
    assert caught.value.code == code


# --- Models and the asynchronous client


def test_one_model_can_be_looked_up(gpt: openai.OpenAI) -> None:
    assert gpt.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError) as caught:
        gpt.models.retrieve("gpt-17")
    assert caught.value.code == "model_not_found"


def test_a_marker_says_what_the_cache_read(gpt: openai.OpenAI) -> None:
    usage = ask(gpt, "[[cached:7]] How are prices?").usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 7
    capped = ask(gpt, "[[cached:100000]]").usage
    assert capped is not None
    assert capped.prompt_tokens_details is not None
    assert capped.prompt_tokens_details.cached_tokens == capped.prompt_tokens


def test_the_asynchronous_client_gets_the_same(gpt: openai.OpenAI, url: str) -> None:
    async def both() -> tuple[ChatCompletion, list[ChatCompletionChunk]]:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
            body: dict[str, Any] = {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": MARKED}],
                "tools": TOOLS,
            }
            plain = await client.chat.completions.create(**body)
            return plain, [chunk async for chunk in await client.chat.completions.create(stream=True, **body)]

    plain, chunks = asyncio.run(both())
    expected = calls_of(ask(gpt, MARKED, tools=TOOLS))
    assert calls_of(plain) == expected
    assert [(name, arguments) for _, name, arguments in streamed_calls(chunks)] == expected
