"""OpenAI's chat completions, as the types of its SDK and its error answers have them."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from providers.sandbox import catalogue
from providers.sandbox.brain import Answer
from providers.sandbox.caching import Cached
from providers.sandbox.openai_request import read
from providers.sandbox.switches import SPEND_LIMITS
from providers.sandbox.tokens import Token, encode, most_likely
from providers.sandbox.wire import Call, ErrorAnswer, Event, Refused, new_id

__all__ = [
    "PROVIDER",
    "REQUEST_ID_HEADER",
    "check_key",
    "completion",
    "events",
    "failure",
    "keep_alive",
    "model",
    "models",
    "read",
    "refusal",
    "stream_error",
    "usage",
]

PROVIDER = "openai"
REQUEST_ID_HEADER = "x-request-id"
FINGERPRINT = "fp_50cad350e4"
FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "refusal": "content_filter"}
#: What a probability of 0 is written as.
IMPOSSIBLE = -9999.0
#: Chunks are padded to a like length, so that the length of a token cannot be read off the wire.
PADDING = "aGw3q0RkV5tYz1XbN8"
CREATED = 1_721_172_741
#: mode → status, type, code, message
FAILURES: dict[str, tuple[int, str, str | None, str]] = {
    "400": (400, "invalid_request_error", None, "The request could not be understood."),
    "401": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-***."),
    "402": (402, "insufficient_quota", "credit_balance_exhausted", "Your credit balance is exhausted."),
    "403": (403, "invalid_request_error", "unsupported_country_region_territory", "Country not supported."),
    "404": (404, "invalid_request_error", "model_not_found", "The model does not exist."),
    "413": (413, "invalid_request_error", "request_too_large", "The request is too large."),
    "429": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests per min (RPM)."),
    "500": (500, "server_error", None, "The server had an error while processing your request."),
    "503": (503, "server_error", "server_is_overloaded", "The server is overloaded. Please try again later."),
    "504": (504, "server_error", None, "The server did not answer in time."),
    "529": (529, "server_error", "server_is_overloaded", "The server is overloaded. Please try again later."),
    "429-spend-limit": (
        429,
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "Your organization has reached its enforced spend limit.",
    ),
    "400-spend-limit": (
        400,
        "invalid_request_error",
        "billing_hard_limit_reached",
        "Billing hard limit has been reached.",
    ),
}


def check_key(headers: Mapping[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not key.strip():
        raise Refused(401, "You didn't provide an API key.", type="invalid_request_error")
    if key.strip() == "bad-key":
        raise Refused(401, "Incorrect API key provided: bad-key.", code="invalid_api_key")


def usage(call: Call, *, output: int, reasoning: int, cached: Cached) -> Mapping[str, Any]:
    prompt = call.input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached.read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def completion(call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None) -> Mapping[str, Any]:
    body: dict[str, Any] = {
        **_head(call, "chat.completion"),
        "choices": [_choice(call, answer, index) for index, answer in enumerate(answers)],
    }
    return body if usage is None else {**body, "usage": usage}


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": new_id("chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": call.model.snapshot,
        "service_tier": call.service_tier,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(call: Call, answer: Answer, index: int) -> dict[str, Any]:
    text = answer.text
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if answer.refused or (answer.calls and not text) else text,
        "refusal": text if answer.refused else None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": new_id("call_"),
                "type": "function",
                "function": {"name": one.name, "arguments": one.arguments},
            }
            for one in answer.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(answer.tokens, call.top_logprobs, answer.refused),
        "finish_reason": _finish(call, answer),
    }


def _finish(call: Call, answer: Answer) -> str:
    """A call of the one tool that the caller named ends with `stop`, as if it were an answer in words."""
    if answer.finish == "tool_calls" and call.choice.mode == "named":
        return "stop"
    return FINISH[answer.finish]


def _logprobs(tokens: tuple[Token, ...], top: int | None, refused: bool) -> dict[str, Any] | None:
    if top is None or not tokens:
        return None
    entries = [_token(token, top) for token in tokens]
    return {"content": None, "refusal": entries} if refused else {"content": entries, "refusal": None}


def _token(token: Token, top: int) -> dict[str, Any]:
    likely = [_entry(text, probability) for text, probability in most_likely(token, top)]
    return {**_entry(token.text, token.probability), "top_logprobs": likely}


def _entry(text: str, probability: float) -> dict[str, Any]:
    logprob = math.log(probability) if probability > 0 else IMPOSSIBLE
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def events(call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None) -> Iterator[Event]:
    """Each choice's role, deltas and reason for its end; then the usage if it was asked for, and [DONE].

    Tokens of reasoning come with the first content.
    """
    head = _head(call, "chat.completion.chunk")
    counted = call.include_usage and usage is not None
    if counted:
        head["usage"] = None
    start = b'data: %b,"choices":[{"index":' % encode(head)[:-1]
    for index, answer in enumerate(answers):
        hidden = answer.reasoning_tokens
        for delta, tokens, output in _deltas(answer):
            logprobs = _logprobs(tokens, call.top_logprobs, answer.refused) if tokens else None
            data = _chunk(start, index, delta, logprobs, None, call.obfuscated)
            yield Event(data, output + hidden if output else 0)
            hidden = 0 if output else hidden
        yield Event(_chunk(start, index, {}, None, _finish(call, answer), call.obfuscated))
    if counted:
        yield Event(_event({**head, "choices": [], "usage": usage}))
    yield Event(b"data: [DONE]\n\n")


def _deltas(answer: Answer) -> Iterator[tuple[dict[str, Any], tuple[Token, ...], int]]:
    """The deltas of one choice, with the tokens that they spell and how many tokens they are billed as.

    A lone tool call begins in the chunk with the role.
    """
    role: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    if answer.refused:
        role |= {"content": None, "refusal": ""}
    elif answer.calls and not answer.tokens:
        role["content"] = None
    lone = len(answer.calls) == 1 and not answer.tokens
    if not lone:
        yield role, (), 0
    spoken = "refusal" if answer.refused else "content"
    for token in answer.tokens:
        yield {spoken: token.text}, (token,), 1
    for index, one in enumerate(answer.calls):
        function = {"name": one.name, "arguments": ""}
        begun = [{"index": index, "id": new_id("call_"), "type": "function", "function": function}]
        yield (role if lone else {}) | {"tool_calls": begun}, (), one.head_tokens
        for piece in one.pieces:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, (), 1


def _chunk(
    start: bytes,
    index: int,
    delta: Mapping[str, Any],
    logprobs: Mapping[str, Any] | None,
    finish: str | None,
    obfuscated: bool,
) -> bytes:
    """A chunk of one choice. Only what changes from chunk to chunk is encoded; `start` is the rest."""
    padding = ""
    if obfuscated:
        padding = f',"obfuscation":"{PADDING[len(delta.get("content") or "") :] or PADDING[:1]}"'
    said = encode(logprobs) if logprobs else b"null"
    end = b'"%b"' % finish.encode() if finish else b"null"
    rest = b'%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b}\n\n'
    return start + rest % (index, encode(delta), said, end, padding.encode())


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % encode(data)


def keep_alive() -> bytes:
    return b": ping\n\n"


def stream_error(request_id: str) -> bytes:
    _, kind, code, message = FAILURES["500"]
    return _event({"error": {"message": message, "type": kind, "param": None, "code": code}})


def refusal(refused: Refused, request_id: str) -> ErrorAnswer:
    error = {
        "message": refused.message,
        "type": refused.type or "invalid_request_error",
        "param": refused.param,
        "code": refused.code,
    }
    return ErrorAnswer(refused.status, {"error": error}, {REQUEST_ID_HEADER: request_id})


def failure(mode: str, argument: str | None, request_id: str) -> ErrorAnswer:
    status, kind, code, message = FAILURES[mode]
    headers = {REQUEST_ID_HEADER: request_id}
    if mode == "429-spend-limit":
        code = argument if argument in SPEND_LIMITS[PROVIDER] else code
    elif argument:
        headers["retry-after"] = argument
        if argument.isdecimal():
            headers["retry-after-ms"] = f"{argument}000"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return ErrorAnswer(status, {"error": error}, headers)


def models(query: Mapping[str, str]) -> Mapping[str, Any]:
    data = [_model(one.name) for one in catalogue.all_models() if one.provider == PROVIDER]
    return {"object": "list", "data": data}


def model(name: str) -> Mapping[str, Any]:
    if catalogue.find(PROVIDER, name) is None:
        raise Refused(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}
