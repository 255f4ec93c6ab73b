"""Anthropic's messages, as the types of its SDK and its error answers have them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic_core

from providers.sandbox import catalogue
from providers.sandbox.anthropic_request import read
from providers.sandbox.brain import Answer
from providers.sandbox.caching import Cached
from providers.sandbox.catalogue import Model
from providers.sandbox.switches import SPEND_LIMITS
from providers.sandbox.tokens import encode
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

PROVIDER = "anthropic"
REQUEST_ID_HEADER = "request-id"
FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"}
MODELS_PAGE, MODELS_PAGE_MAX = 20, 1000
#: mode → status, type, message
FAILURES: dict[str, tuple[int, str, str]] = {
    "400": (400, "invalid_request_error", "The request could not be understood."),
    "401": (401, "authentication_error", "invalid x-api-key"),
    "402": (402, "billing_error", "There is an issue with your billing or payment information."),
    "403": (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "404": (404, "not_found_error", "The requested resource could not be found."),
    "413": (413, "request_too_large", "Request exceeds the maximum allowed number of bytes."),
    "429": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "500": (500, "api_error", "Internal server error"),
    "503": (503, "api_error", "Service temporarily unavailable"),
    "504": (504, "timeout_error", "The request timed out."),
    "529": (529, "overloaded_error", "Overloaded"),
    "429-spend-limit": (429, "rate_limit_error", "You have reached the monthly spend limit of your tier."),
    "400-spend-limit": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API.",
    ),
}
STATUS_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


def check_key(headers: Mapping[str, str]) -> None:
    key = headers.get("x-api-key") or headers.get("authorization", "").partition(" ")[2]
    if not key:
        raise Refused(401, "x-api-key header is required")
    if key == "bad-key":
        raise Refused(401, "invalid x-api-key")
    if "anthropic-version" not in headers:
        raise Refused(400, "anthropic-version: header is required")


def usage(call: Call, *, output: int, reasoning: int, cached: Cached) -> Mapping[str, Any]:
    """The input is counted without what the cache has read or written."""
    return {
        "input_tokens": call.input_tokens - cached.total,
        "cache_creation_input_tokens": cached.written_5m + cached.written_1h,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
        "output_tokens": output,
        "service_tier": call.service_tier,
        "inference_geo": "global",
    }


def completion(call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None) -> Mapping[str, Any]:
    answer = answers[0]
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if _speaks(answer) else []
    content += [
        _tool_use(one.name) | {"input": pydantic_core.from_json(one.arguments or "{}", allow_partial=True)}
        for one in answer.calls
    ]
    body = {**_head(call), "content": content, **_end(answer)}
    return body if usage is None else {**body, "usage": usage}


def _speaks(answer: Answer) -> bool:
    """Whether there is a block of text; a refusal has none."""
    return bool(answer.tokens) and not answer.refused


def _tool_use(name: str) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": new_id("toolu_01"),
        "name": name,
        "input": {},
        "caller": {"type": "direct"},
    }


def _head(call: Call) -> dict[str, Any]:
    return {"id": new_id("msg_01"), "type": "message", "role": "assistant", "model": call.model.snapshot}


def _end(answer: Answer) -> dict[str, Any]:
    if answer.refused or answer.finish == "refusal":
        details = {"type": "refusal", "category": None, "explanation": None}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    stopped = answer.stopped_at if answer.finish == "stop" else None
    reason = FINISH[answer.finish] if stopped is None else "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": stopped, "stop_details": None}


def events(call: Call, answers: Sequence[Answer], usage: Mapping[str, Any] | None) -> Iterator[Event]:
    """The input's usage at the start, each block with a delta a token, the cumulative usage at the end."""
    answer = answers[0]
    message = {**_head(call), "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    if usage is not None:
        message["usage"] = {**usage, "output_tokens": 1}
    yield Event(_event("message_start", message=message))
    index = 0
    if _speaks(answer):
        yield from _block(index, {"type": "text", "text": ""}, _text_deltas(answer))
        index += 1
    for one in answer.calls:
        yield from _block(index, _tool_use(one.name), _input_deltas(one.pieces), head_tokens=one.head_tokens)
        index += 1
    end: dict[str, Any] = {"delta": _end(answer)}
    if usage is not None:
        end["usage"] = {name: count for name, count in usage.items() if name.endswith("_tokens")}
    yield Event(_event("message_delta", **end))
    yield Event(_event("message_stop"))


def _block(
    index: int,
    block: Mapping[str, Any],
    deltas: Iterator[tuple[Mapping[str, Any], int]],
    *,
    head_tokens: int = 0,
) -> Iterator[Event]:
    """A block from its start to its stop; the first one is followed by a ping."""
    yield Event(_event("content_block_start", index=index, content_block=block), head_tokens)
    if index == 0:
        yield Event(keep_alive())
    for delta, tokens in deltas:
        yield Event(_event("content_block_delta", index=index, delta=delta), tokens)
    yield Event(_event("content_block_stop", index=index))


def _text_deltas(answer: Answer) -> Iterator[tuple[Mapping[str, Any], int]]:
    for token in answer.tokens:
        yield {"type": "text_delta", "text": token.text}, 1


def _input_deltas(pieces: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The pieces of the input's JSON, after an empty one."""
    yield {"type": "input_json_delta", "partial_json": ""}, 0
    for piece in pieces:
        yield {"type": "input_json_delta", "partial_json": piece}, 1


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def keep_alive() -> bytes:
    return _event("ping")


def stream_error(request_id: str) -> bytes:
    error = {"type": "overloaded_error", "message": "Overloaded", "details": None}
    return _event("error", error=error, request_id=request_id)


def refusal(refused: Refused, request_id: str) -> ErrorAnswer:
    error = {"type": refused.type or STATUS_TYPES[refused.status], "message": refused.message}
    return _error(refused.status, error, request_id)


def failure(mode: str, argument: str | None, request_id: str) -> ErrorAnswer:
    status, kind, message = FAILURES[mode]
    error: dict[str, Any] = {"type": kind, "message": message}
    if mode != "429-spend-limit":
        return _error(status, error, request_id, argument)
    codes = SPEND_LIMITS[PROVIDER]
    error["details"] = {"error_code": argument if argument in codes else codes[0]}
    return _error(status, error, request_id)


def _error(
    status: int, error: Mapping[str, Any], request_id: str, retry_after: str | None = None
) -> ErrorAnswer:
    headers = {REQUEST_ID_HEADER: request_id}
    if retry_after:
        headers["retry-after"] = retry_after
    return ErrorAnswer(status, {"type": "error", "error": error, "request_id": request_id}, headers)


def models(query: Mapping[str, str]) -> Mapping[str, Any]:
    """A page of at most `limit` models, after `after_id` or before `before_id`."""
    data = [_model(one) for one in catalogue.all_models() if one.provider == PROVIDER]
    limit = query.get("limit", str(MODELS_PAGE))
    if not limit.isdecimal() or not 1 <= int(limit) <= MODELS_PAGE_MAX:
        raise Refused(400, f"limit: Input should be from 1 to {MODELS_PAGE_MAX}")
    names = [one["id"] for one in data]
    if query.get("before_id") in names:
        until = names.index(query["before_id"])
        start = max(0, until - int(limit))
        page, more = data[start:until], start > 0
    else:
        start = names.index(query["after_id"]) + 1 if query.get("after_id") in names else 0
        page, more = data[start : start + int(limit)], start + int(limit) < len(data)
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"data": page, "has_more": more, "first_id": first, "last_id": last}


def model(name: str) -> Mapping[str, Any]:
    found = catalogue.find(PROVIDER, name)
    if found is None:
        raise Refused(404, f"model: {name}")
    return _model(found)


def _model(model: Model) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name.replace("-", " ").title(),
        "created_at": "2025-10-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": model.name.split("-")[1],
        "max_input_tokens": 200_000,
        "max_tokens": 128_000,
    }
