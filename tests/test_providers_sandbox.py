"""The sandbox, as the official SDKs of both providers see it."""

import asyncio
import contextlib
import json
import math
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aigov.demo import corpus
from providers.sandbox import brain, catalogue, schemas, tasks, tokens
from providers.sandbox.server import Connection, Handler, Request
from tests.sandbox_world import asked, configure, running, said_to, stats, wait_for

pytest_plugins = ["tests.sandbox_fixtures"]

LABELS = ("A", "B", "C")
INSTRUCTION = 'Answer with exactly one of these labels and nothing else, without quotes: "A", "B", "C"'
LEAD = "Das Budget ist freigegeben, bitte senden Sie uns bis Freitag ein Angebot über 60 Lizenzen."
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": list(LABELS)}, "confidence": {"type": "number"}},
    "required": ["answer", "confidence"],
    "additionalProperties": False,
}


def ask_gpt(
    client: openai.OpenAI, text: str = LEAD, model: str = "gpt-4o-mini", **more: Any
) -> ChatCompletion:
    completion = client.chat.completions.create(
        model=model,
        messages=[{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}],
        **more,
    )
    assert isinstance(completion, ChatCompletion)
    return completion


def ask_claude(
    client: anthropic.Anthropic, text: str = LEAD, model: str = "claude-haiku-4-5", **more: Any
) -> anthropic.types.Message:
    options: dict[str, Any] = {"max_tokens": 200, "system": INSTRUCTION, **more}
    message = client.messages.create(model=model, messages=[{"role": "user", "content": text}], **options)
    assert isinstance(message, anthropic.types.Message)
    return message


def structured(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


# --- Wire formats


def test_openai_answers_a_label_with_its_usage_and_ids(gpt: openai.OpenAI) -> None:
    raw = gpt.chat.completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": LEAD}],
        service_tier="default",
    )
    completion = raw.parse()
    ChatCompletion.model_validate_json(raw.content, strict=True)
    assert raw.headers["x-request-id"].startswith("req_")
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == "gpt-4o-mini-2024-07-18"
    assert completion.service_tier == "default"
    assert completion.system_fingerprint
    choice = completion.choices[0]
    assert (choice.message.content, choice.finish_reason, choice.logprobs) == ("A", "stop", None)
    assert completion.usage is not None
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert completion.usage.completion_tokens == 1
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.completion_tokens_details is not None


def test_anthropic_answers_with_its_usage_and_ids(claude: anthropic.Anthropic) -> None:
    raw = claude.messages.with_raw_response.create(
        model="claude-haiku-4-5",
        max_tokens=50,
        system=INSTRUCTION,
        messages=[{"role": "user", "content": LEAD}],
    )
    message = raw.parse()
    anthropic.types.Message.model_validate_json(raw.http_response.content, strict=True)
    assert raw.headers["request-id"].startswith("req_")
    assert message.id.startswith("msg_")
    assert message.model == "claude-haiku-4-5-20251001"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.content[0].type == "text"
    assert message.content[0].text in LABELS
    assert (message.usage.output_tokens, message.usage.service_tier) == (1, "standard")
    assert message.usage.cache_creation is not None


def test_log_probabilities_are_sorted_sum_to_one_at_most_and_spell_the_answer(gpt: openai.OpenAI) -> None:
    for text in (LEAD, "[[content:Ein freier Satz, ohne Label. 42!]]", "[[tokens:40]]" + LEAD):
        choice = ask_gpt(gpt, text, logprobs=True, top_logprobs=20).choices[0]
        assert choice.logprobs is not None
        spelt = choice.logprobs.content
        assert spelt
        assert "".join(token.token for token in spelt) == choice.message.content
        for token in spelt:
            assert bytes(token.bytes or ()) == token.token.encode()
            likely = [top.logprob for top in token.top_logprobs]
            assert likely == sorted(likely, reverse=True)
            assert sum(map(math.exp, likely)) <= 1 + 1e-9
            assert len({top.token for top in token.top_logprobs}) == len(likely)
            assert (token.token, token.logprob) in [(top.token, top.logprob) for top in token.top_logprobs]


def test_only_as_many_likely_tokens_come_as_were_asked_for(gpt: openai.OpenAI) -> None:
    logprobs = ask_gpt(gpt, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert len(logprobs.content[0].top_logprobs) == 2


def test_labels_of_several_tokens_share_out_their_probability() -> None:
    labels = ("order", "order status", "other")
    model = catalogue.find("openai", "gpt-4o-mini")
    assert model is not None
    system = f"one of these labels and nothing else: {', '.join(labels)}"
    for text in ("order", "where is my order status", "something else, other", "hello"):
        answer = brain.answer(brain.Question(model, system, text))
        shares = dict(zip(labels, brain.label_probabilities(text, labels, model), strict=True))
        said = [token.probability for token in answer.tokens]
        extended = sum(share for label, share in shares.items() if label.startswith(answer.text))
        assert answer.text in labels
        assert math.prod(said) == pytest.approx(extended * (1 - brain.STRAY), rel=1e-6)


def test_an_openai_stream_says_what_the_plain_answer_says(gpt: openai.OpenAI) -> None:
    text = "What should we do about rising energy prices?"
    messages: Any = [{"role": "user", "content": text}]
    plain = gpt.chat.completions.create(model="gpt-4o", messages=messages)
    chunks: list[ChatCompletionChunk] = list(
        gpt.chat.completions.create(
            model="gpt-4o", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == plain.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], plain.usage)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_an_openai_stream_has_no_usage_unless_it_is_asked_for(gpt: openai.OpenAI) -> None:
    chunks = list(
        gpt.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Hello?"}], stream=True, logprobs=True
        )
    )
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert any(chunk.choices[0].logprobs for chunk in chunks)


def test_an_anthropic_stream_says_what_the_plain_answer_says(claude: anthropic.Anthropic) -> None:
    text = "What should we do about rising energy prices?"
    plain = ask_claude(claude, text, system="")
    with claude.messages.stream(
        model="claude-haiku-4-5", max_tokens=200, messages=[{"role": "user", "content": text}]
    ) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert final.content[0].type == plain.content[0].type == "text"
    assert final.content[0].text == plain.content[0].text
    assert final.usage.input_tokens == plain.usage.input_tokens
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.stop_reason == "end_turn"


def test_both_answer_a_json_schema(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    by_gpt = ask_gpt(gpt, response_format=structured(SCHEMA)).choices[0].message.content
    by_claude = ask_claude(claude, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert by_claude.content[0].type == "text"
    for answer in (json.loads(by_gpt or ""), json.loads(by_claude.content[0].text)):
        assert answer.keys() == {"answer", "confidence"}
        assert answer["answer"] in LABELS
        assert 0 <= answer["confidence"] <= 1


def test_any_schema_is_filled(gpt: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "minimum": 100},
            "urgent": {"type": "boolean"},
            "nothing": {"type": "null"},
            "version": {"const": 2},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "required": ["amount", "urgent", "nothing", "version", "note", "lines"],
        "additionalProperties": False,
        "$defs": {
            "line": {
                "type": "object",
                "properties": {"size": {"enum": [1, 2]}, "name": {"type": ["string", "null"]}},
                "required": ["size", "name"],
                "additionalProperties": False,
            }
        },
    }
    answer = json.loads(
        ask_gpt(gpt, "Bitte 60 Lizenzen", response_format=structured(schema)).choices[0].message.content or ""
    )
    assert (answer["amount"], answer["urgent"], answer["nothing"], answer["version"]) == (100, True, None, 2)
    assert isinstance(answer["note"], str)
    assert answer["lines"][0]["size"] == 1


@pytest.mark.parametrize(
    ("schema", "provider", "fault"),
    [
        ("text", "openai", "must be an object"),
        ({"type": "object"}, "anthropic", "additionalProperties"),
        (
            {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
            "openai",
            "'required'",
        ),
        ({"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]}, "anthropic", "'maxLength'"),
        ({"$defs": {"a": {"items": {"type": "array", "items": 3}}}}, "openai", "must be an object"),
    ],
)
def test_a_schema_is_refused_with_its_fault(schema: Any, provider: str, fault: str) -> None:
    assert fault in (schemas.fault_in(schema, provider) or "")


def test_a_schema_without_end_is_refused_and_cut() -> None:
    endless: dict[str, Any] = {"type": "array"}
    endless["items"] = endless
    assert "deep" in (schemas.fault_in(endless, "openai") or "")
    pieces = "".join(piece.text for piece in schemas.fill(endless, text="", question=""))
    assert json.loads(pieces)
    itself = {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}
    filled = schemas.fill({**itself, "$defs": {"node": itself}}, text="", question="")
    assert json.loads("".join(piece.text for piece in filled))["child"]


def test_broken_schemas_in_words_are_passed_over() -> None:
    assert schemas.schema_in("this JSON Schema: {broken") is None
    assert schemas.schema_in("this JSON Schema: 5") is None


def test_dated_model_names_are_known(gpt: openai.OpenAI) -> None:
    assert ask_gpt(gpt, model="gpt-4o-2024-08-06").model == "gpt-4o-2024-08-06"


def test_a_schema_in_words_is_answered_too(gpt: openai.OpenAI) -> None:
    words = f"Answer with one JSON object. It must fit this JSON Schema: {json.dumps(SCHEMA)}"
    messages: Any = [{"role": "system", "content": words}, {"role": "user", "content": LEAD}]
    content = gpt.chat.completions.create(model="gpt-4-turbo", messages=messages).choices[0].message.content
    assert json.loads(content or "")["answer"] in LABELS


@pytest.mark.parametrize("text", ["Hi", "", "Grüße", "x" * 4000, "日本語のテキスト"])
def test_the_prompt_counts_fewer_tokens_than_bytes(gpt: openai.OpenAI, text: str) -> None:
    completion = gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}])
    assert completion.usage is not None
    assert 1 <= completion.usage.prompt_tokens <= max(1, len(text.encode()))


def test_output_is_cut_at_its_limit(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    by_gpt = ask_gpt(gpt, "[[tokens:50]]", max_completion_tokens=7)
    assert by_gpt.choices[0].finish_reason == "length"
    assert by_gpt.usage is not None
    assert by_gpt.usage.completion_tokens == 7
    by_claude = ask_claude(claude, "[[tokens:50]]", max_tokens=7)
    assert (by_claude.stop_reason, by_claude.usage.output_tokens) == ("max_tokens", 7)


def test_a_stop_text_ends_the_answer(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    marker = "[[content:one two three. four]]"
    assert ask_gpt(gpt, marker, stop=["hree"]).choices[0].message.content == "one two t"
    message = ask_claude(claude, marker, stop_sequences=["three"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")


def test_reasoning_counts_as_output(gpt: openai.OpenAI) -> None:
    usage = ask_gpt(gpt, model="o4-mini").usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    reasoning = usage.completion_tokens_details.reasoning_tokens
    assert reasoning
    assert usage.completion_tokens == reasoning + 1
    cut = ask_gpt(gpt, model="o4-mini", max_completion_tokens=10)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("", "length")


def test_both_list_their_models(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert {"gpt-4o", "gpt-4o-mini"} <= {model.id for model in gpt.models.list()}
    assert {"claude-haiku-4-5", "claude-sonnet-4-5"} <= {model.id for model in claude.models.list()}


# --- Refusals


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"model": "gpt-17"}, 404, "model_not_found"),
        ({"model": ""}, 400, None),
        ({"messages": []}, 400, "empty_array"),
        ({"service_tier": "gold"}, 400, "invalid_value"),
        ({"messages": [{"role": "boss", "content": "x"}]}, 400, "invalid_value"),
        ({"top_logprobs": 3}, 400, "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, 400, "integer_above_max_value"),
        ({"temperature": 3}, 400, "decimal_above_max_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "array_above_max_length"),
        ({"max_completion_tokens": 0}, 400, "integer_below_min_value"),
        ({"n": 129}, 400, "integer_above_max_value"),
        ({"model": "gpt-5", "logprobs": True}, 400, "unsupported_value"),
        ({"model": "gpt-5.1", "logprobs": True}, 400, "unsupported_value"),
        ({"model": "o3", "logprobs": True}, 400, "unsupported_parameter"),
        ({"model": "o3", "max_tokens": 5}, 400, "unsupported_parameter"),
        ({"model": "o3", "temperature": 0}, 400, "unsupported_value"),
        ({"response_format": structured({"type": "object"})}, 400, "invalid_json_schema"),
        ({"response_format": {"type": "json_schema"}}, 400, "missing_required_parameter"),
        ({"model": "gpt-4-turbo", "response_format": structured(SCHEMA)}, 400, None),
    ],
)
def test_openai_refuses_what_openai_refuses(
    gpt: openai.OpenAI, wrong: dict[str, Any], status: int, code: str | None
) -> None:
    body: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], **wrong}
    with pytest.raises(openai.APIStatusError) as caught:
        gpt.chat.completions.create(**body)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id


def test_a_model_that_need_not_reason_gives_log_probabilities(gpt: openai.OpenAI) -> None:
    completion = ask_gpt(gpt, model="gpt-5.1", reasoning_effort="none", logprobs=True)
    assert completion.choices[0].logprobs is not None


@pytest.mark.parametrize(
    ("wrong", "status", "kind"),
    [
        ({"model": "claude-17"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "invalid_request_error"),
        ({"extra_body": {"temperature": 1.5}}, 400, "invalid_request_error"),
        ({"service_tier": "default"}, 400, "invalid_request_error"),
        ({"output_config": {"format": {"type": "json_schema"}}}, 400, "invalid_request_error"),
        (
            {
                "output_config": {
                    "format": {"type": "json_schema", "schema": {"type": "number", "minimum": 0}}
                }
            },
            400,
            "invalid_request_error",
        ),
    ],
)
def test_anthropic_refuses_what_anthropic_refuses(
    claude: anthropic.Anthropic, wrong: dict[str, Any], status: int, kind: str
) -> None:
    body: dict[str, Any] = {
        "model": "claude-haiku-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
        **wrong,
    }
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.create(**body)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id == caught.value.body["request_id"]


def test_a_wrong_key_is_refused(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.AuthenticationError) as by_gpt:
        ask_gpt(gpt.with_options(api_key="bad-key"))
    assert by_gpt.value.code == "invalid_api_key"
    with pytest.raises(anthropic.AuthenticationError):
        ask_claude(claude.with_options(api_key="bad-key"))
    with pytest.raises(openai.AuthenticationError):
        gpt.with_options(api_key="bad-key").models.list()


def test_no_key_broken_json_and_unknown_paths_are_refused(control: httpx2.Client) -> None:
    assert control.post("/v1/chat/completions", json={}).status_code == 401
    assert control.post("/v1/messages", json={}).status_code == 401
    assert control.post("/v1/messages", json={}, headers={"x-api-key": "k"}).status_code == 400
    headers = {"Authorization": "Bearer k"}
    assert control.post("/v1/chat/completions", content=b"{", headers=headers).status_code == 400
    assert control.post("/v1/chat/completions", json={"model": "gpt-4o"}, headers=headers).status_code == 400
    claude_headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    assert control.post("/v1/messages", content=b"[]", headers=claude_headers).status_code == 400
    assert control.get("/v1/files").status_code == 404


# --- Faults


@pytest.mark.parametrize(
    ("mode", "status", "kind", "code"),
    [
        ("400", 400, "invalid_request_error", None),
        ("401", 401, "invalid_request_error", "invalid_api_key"),
        ("402", 402, "insufficient_quota", "credit_balance_exhausted"),
        ("403", 403, "invalid_request_error", "unsupported_country_region_territory"),
        ("404", 404, "invalid_request_error", "model_not_found"),
        ("413", 413, "invalid_request_error", "request_too_large"),
        ("429", 429, "requests", "rate_limit_exceeded"),
        ("429-spend-limit", 429, "insufficient_quota", "organization_spend_limit_exceeded"),
        ("400-spend-limit", 400, "invalid_request_error", "billing_hard_limit_reached"),
        ("500", 500, "server_error", None),
        ("503", 503, "server_error", "server_is_overloaded"),
        ("504", 504, "server_error", None),
        ("529", 529, "server_error", "server_is_overloaded"),
        ("stream_error", 500, "server_error", None),
    ],
)
def test_openai_error_answers(
    gpt: openai.OpenAI, control: httpx2.Client, mode: str, status: int, kind: str, code: str | None
) -> None:
    configure(control, faults=[{"provider": "openai", "mode": mode}])
    with pytest.raises(openai.APIStatusError) as caught:
        ask_gpt(gpt)
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (status, kind, code)
    assert "retry-after" not in caught.value.response.headers
    assert stats(control)["calls"] == {"openai": {"gpt-4o-mini": {mode: 1}}}


@pytest.mark.parametrize(
    ("mode", "status", "kind"),
    [
        ("400", 400, "invalid_request_error"),
        ("401", 401, "authentication_error"),
        ("402", 402, "billing_error"),
        ("403", 403, "permission_error"),
        ("404", 404, "not_found_error"),
        ("413", 413, "request_too_large"),
        ("429", 429, "rate_limit_error"),
        ("429-spend-limit", 429, "rate_limit_error"),
        ("400-spend-limit", 400, "invalid_request_error"),
        ("500", 500, "api_error"),
        ("503", 503, "api_error"),
        ("504", 504, "timeout_error"),
        ("529", 529, "overloaded_error"),
    ],
)
def test_anthropic_error_answers(
    claude: anthropic.Anthropic, control: httpx2.Client, mode: str, status: int, kind: str
) -> None:
    configure(control, faults=[{"provider": "anthropic", "mode": mode}])
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask_claude(claude)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    error = caught.value.body["error"]
    assert error["type"] == kind
    expected = {"error_code": "enforced_spend_limit_reached"} if mode == "429-spend-limit" else None
    assert error.get("details") == expected


def test_a_rate_limit_says_when_to_come_back(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.RateLimitError) as by_gpt:
        ask_gpt(gpt, "[[fault:429:2]]")
    assert by_gpt.value.response.headers["retry-after"] == "2"
    assert by_gpt.value.response.headers["retry-after-ms"] == "2000"
    with pytest.raises(anthropic.RateLimitError) as by_claude:
        ask_claude(claude, "[[fault:429:2]]")
    assert by_claude.value.response.headers["retry-after"] == "2"


@pytest.mark.parametrize("mode", ["reset", "truncate", "cut_after_chunk:1"])
def test_a_lost_connection_is_an_error_of_the_connection(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, mode: str
) -> None:
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        ask_gpt(gpt, f"[[fault:{mode}]]")
    with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
        ask_claude(claude, f"[[fault:{mode}]]")


@pytest.mark.parametrize("mode", ["hang", "trickle"])
@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_at_all(url: str, control: httpx2.Client, mode: str, stream: bool) -> None:
    with contextlib.closing(asked(url, f"[[fault:{mode}]]", stream=stream)) as connection:
        wait_for(lambda: stats(control)["in_flight"] == 1)
        if mode == "trickle":
            response = connection.getresponse()
            assert response.status == 200
            assert set(response.read(14).split()) <= {b":", b"ping"}
        else:
            connection.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.sock.recv(1)
        assert stats(control)["calls"] == {}
    wait_for(lambda: stats(control)["calls"] == {"openai": {"gpt-4o": {mode: 1}}})


def test_a_malformed_answer_is_no_json(gpt: openai.OpenAI) -> None:
    with pytest.raises(json.JSONDecodeError):
        ask_gpt(gpt, "[[fault:malformed]]")


def test_a_refusal_is_empty_and_billed(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, control: httpx2.Client
) -> None:
    by_gpt = ask_gpt(gpt, "[[fault:refusal]]")
    assert (by_gpt.choices[0].message.content, by_gpt.choices[0].finish_reason) == ("", "content_filter")
    by_claude = ask_claude(claude, "[[fault:refusal]]")
    assert (by_claude.content, by_claude.stop_reason) == ([], "refusal")
    assert len(stats(control)["answered"]) == 2


def test_a_stream_is_cut_after_so_many_events(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    said = []
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        for chunk in gpt.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "[[fault:cut_after_chunk:3]] How are you?"}],
            stream=True,
        ):
            said.append(chunk)
    assert len(said) == 3
    assert stats(control)["answered"] == []


def test_an_error_may_come_in_a_stream(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    question: Any = [{"role": "user", "content": "[[fault:stream_error]] How are you?"}]
    with pytest.raises(openai.APIError):
        list(gpt.chat.completions.create(model="gpt-4o", messages=question, stream=True))
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=question, stream=True))
    assert "overloaded_error" in str(caught.value)


# --- Switches


def test_markers_strike_only_whom_they_name(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    text = "[[fault:500@small@openai]]" + LEAD
    with pytest.raises(openai.InternalServerError):
        ask_gpt(gpt, text)
    assert ask_gpt(gpt, text, model="gpt-4o").choices[0].message.content in LABELS
    assert ask_claude(claude, text).stop_reason == "end_turn"
    with pytest.raises(openai.InternalServerError):
        ask_gpt(gpt, "[[fault:500@gpt-4o]]", model="gpt-4o")


def test_a_header_strikes_like_a_marker(gpt: openai.OpenAI) -> None:
    headers = {"x-sandbox-fault": "500@large"}
    assert ask_gpt(gpt, extra_headers=headers).choices
    with pytest.raises(openai.InternalServerError):
        ask_gpt(gpt, model="gpt-4o", extra_headers=headers)


def test_a_fault_is_spent_after_its_times(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    configure(control, faults=[{"model": "gpt-4o-mini", "mode": "500", "times": 2}])
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            ask_gpt(gpt)
    assert ask_gpt(gpt).choices
    assert ask_gpt(gpt, model="gpt-4o").choices
    assert stats(control)["calls"]["openai"]["gpt-4o-mini"] == {"500": 2, "answered": 1}


def test_a_fault_strikes_at_its_rate(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    configure(control, faults=[{"mode": "500", "rate": 0.3}])
    struck = 0
    for _ in range(60):
        try:
            ask_gpt(gpt)
        except openai.InternalServerError:
            struck += 1
    assert 5 < struck < 35


def test_model_lists_fail_with_their_provider(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, control: httpx2.Client
) -> None:
    for mode in ("503", "malformed", "reset"):
        configure(control, faults=[{"provider": "openai", "mode": mode}])
        with pytest.raises((openai.OpenAIError, httpx2.TransportError, ValueError)):
            gpt.models.list()
        assert claude.models.list().data
    assert stats(control)["calls"]["openai"]["models"] == {"503": 1, "malformed": 1, "reset": 1}


@pytest.mark.parametrize("confidence", [0.2, 0.95])
def test_confidence_can_be_forced(gpt: openai.OpenAI, confidence: float) -> None:
    text = f"[[confidence:{confidence}]]{LEAD}"
    logprobs = ask_gpt(gpt, text, logprobs=True, top_logprobs=5).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert math.exp(logprobs.content[0].logprob) == pytest.approx(confidence)
    shares = [math.exp(top.logprob) for top in logprobs.content[0].top_logprobs]
    assert sum(shares) == pytest.approx(1)
    said = ask_gpt(gpt, text, response_format=structured(SCHEMA)).choices[0].message.content
    assert json.loads(said or "")["confidence"] == confidence


def test_content_and_usage_can_be_forced(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    configure(control, usage=usage, content="as told", confidence=0.5)
    completion = ask_gpt(gpt)
    assert completion.choices[0].message.content == "as told"
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_none=True) == usage
    assert stats(control)["answered"][0]["usage"] == usage


@pytest.mark.parametrize(
    "switches",
    [
        {"speed": 1},
        {"delay_ms": "soon"},
        {"faults": [{"mode": "earthquake"}]},
        {"faults": [{"mode": "500", "rate": 2}]},
        {"faults": [{"mode": "500", "when": "now"}]},
        {"faults": [{"mode": "500", "rate": "often"}]},
        {"faults": [{"mode": "cut_after_chunk"}]},
        {"faults": ["500"]},
        [],
    ],
)
def test_a_switch_that_is_not_there_is_refused(control: httpx2.Client, switches: Any) -> None:
    before = control.get("/sandbox/config").json()
    response = control.post("/sandbox/config", json=switches)
    assert response.status_code == 400
    assert response.json()["error"]
    assert control.get("/sandbox/config").json() == before


@pytest.mark.parametrize("marker", ["[[fault:earthquake]]", "[[delay:soon]]"])
def test_a_marker_that_cannot_be_read_is_refused(gpt: openai.OpenAI, marker: str) -> None:
    with pytest.raises(openai.BadRequestError):
        ask_gpt(gpt, marker)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_counted_as_abandoned(
    url: str, control: httpx2.Client, stream: bool
) -> None:
    configure(control, chunk_delay_ms=60_000)
    with contextlib.closing(asked(url, "[[delay:60000]]" if not stream else "Hello?", stream=stream)):
        wait_for(lambda: stats(control)["in_flight"] == 1)
    wait_for(lambda: stats(control)["calls"] == {"openai": {"gpt-4o": {"abandoned": 1}}})
    found = stats(control)
    assert (found["answered"], found["in_flight"], found["in_flight_max"]) == ([], 0, 1)


def test_what_was_answered_is_listed_and_summed(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, control: httpx2.Client
) -> None:
    configure(control, delay_ms=1, jitter_ms=1)
    completions = [ask_gpt(gpt, f"{number} {LEAD}") for number in range(3)]
    message = ask_claude(claude)
    found = stats(control)
    answered = [row["usage"] for row in found["answered"] if row["model"] == "gpt-4o-mini"]
    assert answered == [
        completion.usage.model_dump(exclude_none=True) for completion in completions if completion.usage
    ]
    sums = found["usage"]["gpt-4o-mini"]
    assert sums["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in answered)
    assert found["usage"]["claude-haiku-4-5"]["input_tokens"] == message.usage.input_tokens
    assert "answered" not in control.get("/sandbox/stats?answered=0").json()
    control.post("/sandbox/reset")
    assert stats(control)["calls"] == {}


def test_slow_streams_come_event_by_event(gpt: openai.OpenAI, control: httpx2.Client) -> None:
    configure(control, chunk_delay_ms=1)
    chunks = gpt.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "[[content:a b c]]"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a b c"
    assert stats(control)["calls"]["openai"]["gpt-4o"] == {"answered": 1}


# --- HTTP


def test_a_call_in_flight_does_not_keep_the_sandbox_from_ending() -> None:
    with running() as url, httpx2.Client(base_url=url) as client:
        connection = asked(url, "[[fault:hang]]")
        wait_for(lambda: stats(client)["in_flight"] == 1)
    with contextlib.closing(connection):
        assert connection.sock.recv(1) == b""


def test_a_defect_is_logged_and_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    def at_once(request: Request, connection: Connection) -> bytes:
        raise ZeroDivisionError

    async def later() -> None:
        raise ZeroDivisionError

    async def ask(handler: Handler) -> bytes:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Connection(handler, set()), "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            return said

    assert asyncio.run(ask(at_once)) == asyncio.run(ask(lambda request, connection: later())) == b""
    assert [record.message for record in caplog.records] == ["The sandbox could not answer"] * 2


def test_a_connection_is_closed_where_the_client_says_so(url: str) -> None:
    request = b"GET /sandbox/stats?answered=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert said_to(url, request).startswith(b"HTTP/1.1 200 OK\r\n")
    assert said_to(url, request.replace(b"1.1", b"1.0").replace(b"Connection: close\r\n", b""))


def test_a_client_may_wait_for_leave_to_send_its_body(url: str, control: httpx2.Client) -> None:
    head = b"POST /sandbox/config HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
    answer = said_to(url, head + b"Content-Length: 2\r\n\r\n{}")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_what_is_no_http_and_too_many_headers_end_the_connection(url: str) -> None:
    assert said_to(url, b"hello\r\n\r\n") == b""
    headers = b"".join(b"x-%d: y\r\n" % number for number in range(300))
    assert said_to(url, b"GET /sandbox/stats HTTP/1.1\r\n" + headers + b"\r\n") == b""


def test_a_client_that_does_not_await_its_answer_is_cut_off(url: str, control: httpx2.Client) -> None:
    with contextlib.closing(asked(url, "[[fault:hang]]")) as connection:
        wait_for(lambda: stats(control)["in_flight"] == 1)
        connection.sock.sendall(b"GET /sandbox/stats HTTP/1.1\r\n\r\n")
        assert connection.sock.recv(1) == b""


# --- The answers


def test_the_same_question_gets_the_same_answer(gpt: openai.OpenAI) -> None:
    def answer() -> Any:
        return ask_gpt(gpt, logprobs=True, top_logprobs=5).choices[0].model_dump()

    assert answer() == answer()


@pytest.mark.parametrize(
    "text", ["Straße & Co.: 1.234,56 €!\n\n  zwei_Wörter  ", "", "日本語 ok", "²³ a_b\t\r\n."]
)
def test_pieces_join_to_their_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text


@pytest.mark.parametrize(
    ("small", "large"), [("gpt-4o-mini", "gpt-4o"), ("claude-haiku-4-5", "claude-sonnet-4-5")]
)
def test_the_small_model_errs_more_is_less_sure_and_surer_than_it_should_be(small: str, large: str) -> None:
    provider = "openai" if small.startswith("gpt") else "anthropic"
    by_small, by_large = (judged(provider, name) for name in (small, large))
    assert accuracy(by_large) > 0.93 > 0.88 > accuracy(by_small) > 0.7
    assert mean_confidence(by_small) < mean_confidence(by_large)
    assert mean_confidence(by_small) > accuracy(by_small)
    accepted = [judgement for judgement in by_small if judgement[0] >= 0.7]
    assert 0.15 <= 1 - len(accepted) / len(by_small) <= 0.30
    assert accuracy(accepted) > accuracy(by_small)


Judgement = tuple[float, bool]


def judged(provider: str, name: str) -> list[Judgement]:
    """For every labelled text of the demo: how sure the model was, and whether it was right."""
    model = catalogue.find(provider, name)
    assert model is not None
    found = []
    for text in corpus.texts():
        if text.right_label is not None:
            shares = brain.label_probabilities(text.text, text.labels, model)
            found.append((max(shares), text.labels[shares.index(max(shares))] == text.right_label))
    return found


def accuracy(judgements: list[Judgement]) -> float:
    return sum(right for _, right in judgements) / len(judgements)


def mean_confidence(judgements: list[Judgement]) -> float:
    return sum(confidence for confidence, _ in judgements) / len(judgements)


def test_the_words_of_a_text_tell_its_class() -> None:
    labelled = [text for text in corpus.texts() if text.right_label is not None]
    right = sum(tasks.truth(text.text, text.labels) == text.right_label for text in labelled)
    assert right / len(labelled) > 0.95


def test_labels_are_found_in_an_instruction() -> None:
    assert tasks.labels_in(INSTRUCTION) == LABELS
    assert tasks.labels_in("… one of these labels and nothing else: yes, no.") == ("yes", "no")
    quoted = 'one of these labels and nothing else, without quotes: "a, or b", "c"'
    assert tasks.labels_in(quoted) == ("a, or b", "c")
    assert tasks.labels_in("Answer briefly.") == ()


@pytest.mark.parametrize(
    ("system", "text", "start"),
    [
        ("Schreibe einen Antwortentwurf.", "Wo ist unsere Bestellung geblieben?", "Guten Tag,"),
        ("Draft a reply.", "Where is the parcel that you sent to us?", "Hello,"),
        (
            "Fasse die Notiz zusammen.",
            "Der Umsatz steigt. Die Kosten sind stabil.",
            "Kurz gefasst: Der Umsatz",
        ),
        ("Summarise this.", "The turnover is rising. The costs are stable.", "In short: The turnover"),
        ("", "Was ist zu tun?", "Das hängt vor allem von Ihr Anliegen"),
        ("", "What is to be done about prices?", "That depends mainly on prices"),
    ],
)
def test_free_text_is_answered_in_its_language(
    gpt: openai.OpenAI, system: str, text: str, start: str
) -> None:
    messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    completion = gpt.chat.completions.create(model="gpt-4o", messages=messages)
    assert (completion.choices[0].message.content or "").startswith(start)
