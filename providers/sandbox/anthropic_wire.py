"""Anthropic's messages, as the types of its SDK and its error answers have them."""

from collections.abc import Iterator, Mapping
from typing import Any

from providers.sandbox import catalogue
from providers.sandbox.brain import Answer
from providers.sandbox.catalogue import Model
from providers.sandbox.schemas import fault_in
from providers.sandbox.tokens import encode, json_text
from providers.sandbox.wire import Call, ErrorAnswer, Refused, new_id, text_of, whole_number

PROVIDER = "anthropic"
REQUEST_ID_HEADER = "request-id"
FINISH = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}
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


def read(body: Any) -> Call:
    if not isinstance(body, dict):
        raise Refused(400, "The request body is not valid JSON")
    for name in ("model", "messages", "max_tokens"):
        if body.get(name) is None:
            raise Refused(400, f"{name}: Field required")
    model = _model(body["model"])
    messages = _messages(body["messages"])
    schema = _schema(body.get("output_config"))
    system = text_of(body.get("system"))
    _check_parameters(body)
    return Call(
        model=model,
        system=system,
        text="\n".join(text for role, text in messages if role == "user"),
        texts=[text for _, text in messages] + [text for text in (system, schema) if text],
        output_tokens_max=whole_number(body, "max_tokens", low=1, high=128_000) or 1,
        schema=schema,
        stop=tuple(str(text) for text in body.get("stop_sequences") or ()),
        stream=body.get("stream") is True,
        service_tier="standard",
    )


def _model(name: Any) -> Model:
    model = catalogue.find(PROVIDER, str(name))
    if model is None:
        raise Refused(404, f"model: {name}")
    return model


def _messages(messages: Any) -> list[tuple[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: at least one message is required")
    found = []
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            raise Refused(400, f"messages.{at}.role: Input should be 'user' or 'assistant'")
        text = text_of(message.get("content"))
        if not text.strip():
            raise Refused(400, f"messages.{at}: all messages must have non-empty content")
        found.append((role, text))
    return found


def _check_parameters(body: Mapping[str, Any]) -> None:
    temperature = body.get("temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
        raise Refused(400, "temperature: range: 0..1")
    if body.get("service_tier") not in (None, "auto", "standard_only"):
        raise Refused(400, "service_tier: Input should be 'auto' or 'standard_only'")


def _schema(output_config: Any) -> str | None:
    form = output_config.get("format") if isinstance(output_config, dict) else None
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema" or "schema" not in form:
        raise Refused(400, "output_config.format.schema: Field required")
    if fault := fault_in(form["schema"], PROVIDER):
        raise Refused(400, f"output_config.format.schema: {fault}")
    return json_text(form["schema"])


def usage(call: Call, answer: Answer) -> Mapping[str, Any]:
    return {
        "input_tokens": call.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": answer.output_tokens,
        "service_tier": call.service_tier,
        "inference_geo": "global",
    }


def completion(call: Call, answer: Answer, usage: Mapping[str, Any]) -> Mapping[str, Any]:
    content = [{"type": "text", "text": answer.text}] if answer.text else []
    return {**_head(call), "content": content, **_end(answer), "usage": usage}


def _head(call: Call) -> dict[str, Any]:
    return {"id": new_id("msg_01"), "type": "message", "role": "assistant", "model": call.model.snapshot}


def _end(answer: Answer) -> dict[str, Any]:
    reason = "stop_sequence" if answer.stopped_at is not None else FINISH[answer.finish]
    return {"stop_reason": reason, "stop_sequence": answer.stopped_at}


def events(call: Call, answer: Answer, usage: Mapping[str, Any]) -> Iterator[bytes]:
    """The input's usage at the start, a delta a token, the cumulative usage at the end."""
    begun = {**_head(call), "content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message={**begun, "usage": {**usage, "output_tokens": 1}})
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield keep_alive()
    for token in answer.tokens:
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": token.text})
    yield _event("content_block_stop", index=0)
    counts = {name: count for name, count in usage.items() if name.endswith("_tokens")}
    yield _event("message_delta", delta=_end(answer), usage=counts)
    yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def keep_alive() -> bytes:
    return _event("ping")


def stream_error() -> bytes:
    return _event("error", error={"type": "overloaded_error", "message": "Overloaded"})


def refusal(refused: Refused, request_id: str) -> ErrorAnswer:
    error = {"type": refused.type or STATUS_TYPES[refused.status], "message": refused.message}
    return _error(refused.status, error, request_id)


def failure(mode: str, retry_after: str | None, request_id: str) -> ErrorAnswer:
    status, kind, message = FAILURES[mode]
    error: dict[str, Any] = {"type": kind, "message": message}
    if mode == "429-spend-limit":
        error["details"] = {"error_code": "enforced_spend_limit_reached"}
    return _error(status, error, request_id, retry_after)


def _error(
    status: int, error: Mapping[str, Any], request_id: str, retry_after: str | None = None
) -> ErrorAnswer:
    headers = {REQUEST_ID_HEADER: request_id}
    if retry_after is not None:
        headers["retry-after"] = retry_after
    return ErrorAnswer(status, {"type": "error", "error": error, "request_id": request_id}, headers)


def models() -> Mapping[str, Any]:
    data = [
        {
            "type": "model",
            "id": model.name,
            "display_name": model.name.replace("-", " ").title(),
            "created_at": "2025-10-01T00:00:00Z",
            "lifecycle": "active",
        }
        for model in catalogue.all_models()
        if model.provider == PROVIDER
    ]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
