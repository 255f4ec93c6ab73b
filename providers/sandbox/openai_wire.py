"""OpenAI's chat completions, as the types of its SDK and its error answers have them."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from providers.sandbox import catalogue
from providers.sandbox.brain import Answer
from providers.sandbox.catalogue import Model
from providers.sandbox.schemas import fault_in
from providers.sandbox.tokens import Token, encode, json_text, most_likely
from providers.sandbox.wire import Call, ErrorAnswer, Refused, new_id, text_of, whole_number

PROVIDER = "openai"
REQUEST_ID_HEADER = "x-request-id"
FINGERPRINT = "fp_50cad350e4"
OUTPUT_TOKENS_DEFAULT = 16_384
REASONING_TOKENS = {"none": 0, "minimal": 0, "low": 64, "medium": 192, "high": 512}
SERVICE_TIERS = {
    "auto": "default",
    "default": "default",
    "flex": "flex",
    "fast": "priority",
    "priority": "priority",
}
FINISH = {"stop": "stop", "length": "length", "refusal": "content_filter"}
#: What a probability of 0 is written as.
IMPOSSIBLE = -9999.0
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
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


def read(body: Any) -> Call:
    if not isinstance(body, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    model = _model(body.get("model"))
    messages = _messages(body.get("messages"))
    if body.get("n") not in (None, 1):
        raise Refused(400, "The sandbox answers with one choice.", param="n", code="unsupported_value")
    _check_parameters(body, model)
    schema = _schema(body.get("response_format"), model)
    texts = [text for _, text in messages] + ([schema] if schema else [])
    return Call(
        model=model,
        system="\n".join(text for role, text in messages if role in ("system", "developer")),
        text="\n".join(text for role, text in messages if role == "user"),
        texts=texts,
        output_tokens_max=_output_tokens_max(body, model),
        schema=schema,
        stop=_stop(body.get("stop")),
        reasoning=_reasoning_tokens(body, model),
        stream=body.get("stream") is True,
        include_usage=(body.get("stream_options") or {}).get("include_usage") is True,
        top_logprobs=_top_logprobs(body, model),
        service_tier=_service_tier(body.get("service_tier")),
    )


def _model(name: Any) -> Model:
    if not isinstance(name, str) or not name:
        raise Refused(400, "you must provide a model parameter")
    model = catalogue.find(PROVIDER, name)
    if model is None:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Refused(404, message, code="model_not_found")
    return model


def _messages(messages: Any) -> list[tuple[str, str]]:
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(400, message, param="messages", code="missing_required_parameter")
    if not isinstance(messages, list) or not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise Refused(400, message, param="messages", code="empty_array")
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise Refused(
                400, f"Invalid value: '{role}'.", param=f"messages[{at}].role", code="invalid_value"
            )
    return [(message["role"], text_of(message.get("content"))) for message in messages]


def _check_parameters(body: Mapping[str, Any], model: Model) -> None:
    """Refuses what reasoning models refuse, and what nobody takes."""
    temperature = body.get("temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
        raise Refused(400, "Invalid 'temperature': 0 to 2.", param="temperature", code="invalid_value")
    if not _reasons(body, model):
        return
    if temperature not in (None, 1):
        message = "Unsupported value: 'temperature' does not support this value with this model."
        raise Refused(400, message, param="temperature", code="unsupported_value")
    for name, instead in (("max_tokens", " Use 'max_completion_tokens' instead."), ("stop", "")):
        if body.get(name) is not None:
            message = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
            raise Refused(400, message, param=name, code="unsupported_parameter")


def _reasons(body: Mapping[str, Any], model: Model) -> bool:
    """Whether the model reasons in this call: gpt-5.1 and later only where they are not told not to."""
    if model.reasoning == "optional":
        return bool(body.get("reasoning_effort") != "none")
    return model.reasoning == "always"


def _reasoning_tokens(body: Mapping[str, Any], model: Model) -> int:
    if not _reasons(body, model):
        return 0
    return REASONING_TOKENS.get(str(body.get("reasoning_effort") or "low"), REASONING_TOKENS["high"])


def _output_tokens_max(body: Mapping[str, Any], model: Model) -> int:
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return whole_number(body, name, low=1, high=128_000) or OUTPUT_TOKENS_DEFAULT


def _stop(stop: Any) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else (stop or [])
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "Invalid 'stop': up to 4 texts.", param="stop", code="invalid_value")
    return tuple(texts)


def _top_logprobs(body: Mapping[str, Any], model: Model) -> int | None:
    count = whole_number(body, "top_logprobs", low=0, high=20)
    if not body.get("logprobs"):
        if count is not None:
            message = "The 'logprobs' parameter must be true when 'top_logprobs' is provided."
            raise Refused(400, message, param="top_logprobs", code="invalid_value")
        return None
    if _reasons(body, model):
        # Both codes are met in practice.
        code = "unsupported_parameter" if model.name.startswith("o") else "unsupported_value"
        raise Refused(400, "'logprobs' is not supported with this model.", param="logprobs", code=code)
    return count or 0


def _schema(response_format: Any, model: Model) -> str | None:
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return None
    if not model.structured:
        message = "Invalid parameter: 'response_format' of this type is not supported with this model."
        raise Refused(400, message, param="response_format")
    given = response_format.get("json_schema")
    if not isinstance(given, dict) or not given.get("name") or "schema" not in given:
        message = "Missing required parameter: 'response_format.json_schema.name' or '.schema'."
        raise Refused(400, message, param="response_format.json_schema", code="missing_required_parameter")
    if fault := fault_in(given["schema"], PROVIDER, strict=given.get("strict") is True):
        message = f"Invalid schema for response_format '{given['name']}': In context=(), {fault}"
        raise Refused(400, message, param="response_format", code="invalid_json_schema")
    return json_text(given["schema"])


def _service_tier(tier: Any) -> str:
    if tier is None:
        return "default"
    if tier not in SERVICE_TIERS:
        message = f"Invalid service_tier argument: {tier}"
        raise Refused(400, message, param="service_tier", code="invalid_value")
    return SERVICE_TIERS[tier]


def usage(call: Call, answer: Answer) -> Mapping[str, Any]:
    prompt = call.input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.output_tokens,
        "total_tokens": prompt + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def completion(call: Call, answer: Answer, usage: Mapping[str, Any]) -> Mapping[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []},
        "logprobs": _logprobs(answer.tokens, call.top_logprobs),
        "finish_reason": FINISH[answer.finish],
    }
    return {**_head(call, "chat.completion"), "choices": [choice], "usage": usage}


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": new_id("chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": call.model.snapshot,
        "service_tier": call.service_tier,
        "system_fingerprint": FINGERPRINT,
    }


def _logprobs(tokens: tuple[Token, ...], top: int | None) -> dict[str, Any] | None:
    if top is None:
        return None
    return {"content": [_token(token, top) for token in tokens], "refusal": None}


def _token(token: Token, top: int) -> dict[str, Any]:
    likely = [_entry(text, probability) for text, probability in most_likely(token, top)]
    return {**_entry(token.text, token.probability), "top_logprobs": likely}


def _entry(text: str, probability: float) -> dict[str, Any]:
    logprob = math.log(probability) if probability > 0 else IMPOSSIBLE
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def events(call: Call, answer: Answer, usage: Mapping[str, Any]) -> Iterator[bytes]:
    """The role, a chunk a token, the reason for the end; then the usage if it was asked for, and [DONE]."""
    head = _head(call, "chat.completion.chunk")
    if call.include_usage:
        head["usage"] = None

    def chunk(delta: Mapping[str, Any], finish: str | None = None, tokens: tuple[Token, ...] = ()) -> bytes:
        logprobs = _logprobs(tokens, call.top_logprobs) if tokens else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _event({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for token in answer.tokens:
        yield chunk({"content": token.text}, tokens=(token,))
    yield chunk({}, finish=FINISH[answer.finish])
    if call.include_usage:
        yield _event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % encode(data)


def keep_alive() -> bytes:
    return b": keep-alive\n\n"


def stream_error() -> bytes:
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


def failure(mode: str, retry_after: str | None, request_id: str) -> ErrorAnswer:
    status, kind, code, message = FAILURES[mode]
    headers = {REQUEST_ID_HEADER: request_id}
    if retry_after is not None:
        headers["retry-after"] = retry_after
        if retry_after.isdecimal():
            headers["retry-after-ms"] = f"{retry_after}000"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return ErrorAnswer(status, {"error": error}, headers)


def models() -> Mapping[str, Any]:
    data = [
        {"id": model.name, "object": "model", "created": 1_721_172_741, "owned_by": "system"}
        for model in catalogue.all_models()
        if model.provider == PROVIDER
    ]
    return {"object": "list", "data": data}
