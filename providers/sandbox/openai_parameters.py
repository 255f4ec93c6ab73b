"""The parameters of a chat completion besides its messages and tools, refused as OpenAI does."""

from collections.abc import Mapping
from typing import Any

from providers.sandbox.catalogue import Model
from providers.sandbox.wire import Refused

EMPTY_ARRAY = (
    "Invalid '{}': empty array. Expected an array with minimum length 1, but got an empty array instead."
)
OUTPUT_TOKENS_DEFAULT = 16_384
OUTPUT_TOKENS_MAX = 128_000
REASONING_TOKENS = {
    "none": 0,
    "minimal": 0,
    "low": 64,
    "medium": 192,
    "high": 512,
    "xhigh": 1024,
    "max": 1024,
}
SERVICE_TIERS = {
    "auto": "default",
    "default": "default",
    "flex": "flex",
    "fast": "priority",
    "priority": "priority",
    "scale": "scale",
}
STOPS_MAX = 4
#: Everything that is honoured, or taken without effect as a model may.
KNOWN = frozenset(
    {
        "model", "messages", "stream", "stream_options", "temperature", "top_p", "frequency_penalty",
        "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens",
        "metadata", "n", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed",
        "service_tier", "stop", "store", "tool_choice", "tools", "user", "verbosity",
    }
)  # fmt: skip
#: What OpenAI has, and the sandbox has not.
NOT_HERE = frozenset(
    {"audio", "modalities", "prediction", "web_search_options", "functions", "function_call", "moderation"}
)
#: name → least and greatest value
DECIMALS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
TEXTS = ("user", "safety_identifier", "prompt_cache_key")
#: What models that reason refuse.
NOT_WITH_REASONING = ("top_p", "frequency_penalty", "presence_penalty", "logit_bias", "stop")


def check_parameters(body: Mapping[str, Any], model: Model) -> None:
    """Refuses what nobody knows, what is out of range, and what this model does not take."""
    if unknown := body.keys() - KNOWN:
        _refuse_unknown(min(unknown))
    if decimals := DECIMALS.keys() & body.keys():
        for name in sorted(decimals):
            decimal(body, name, *DECIMALS[name])
    for name in TEXTS:
        if body.get(name) is not None and not isinstance(body[name], str):
            raise Refused(
                400, f"Invalid type for '{name}': expected a string.", param=name, code="invalid_type"
            )
    whole(body, "seed", low=-(2**63), high=2**63 - 1)
    _check_together(body)
    _check_metadata(body.get("metadata"))
    _check_effort(body, model)
    if reasons(body, model):
        _check_reasoning(body)


def _refuse_unknown(name: str) -> None:
    if name in NOT_HERE:
        text = f"Unsupported parameter: '{name}' is not supported with this model."
        raise Refused(400, text, param=name, code="unsupported_parameter")
    raise Refused(400, f"Unrecognized request argument supplied: {name}")


def _check_together(body: Mapping[str, Any]) -> None:
    if body.get("stream_options") is not None and body.get("stream") is not True:
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(400, text, param="stream_options")
    if not isinstance(body.get("stream_options") or {}, dict):
        text = "Invalid type for 'stream_options': expected an object."
        raise Refused(400, text, param="stream_options", code="invalid_type")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise Refused(400, text, param="max_tokens", code="invalid_parameter_combination")


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        text = "Invalid type for 'metadata': expected a map of strings to strings."
        raise Refused(400, text, param="metadata", code="invalid_type")
    if len(metadata) > 16:
        text = "Invalid 'metadata': too many properties. Expected an object with at most 16 properties."
        raise Refused(400, text, param="metadata", code="object_above_max_properties")


def _check_effort(body: Mapping[str, Any], model: Model) -> None:
    effort = body.get("reasoning_effort")
    if effort is None:
        return
    if model.reasoning == "never":
        raise Refused(400, "Unrecognized request argument supplied: reasoning_effort")
    if effort not in REASONING_TOKENS:
        text = f"Invalid value: '{effort}'. Supported values are: {', '.join(map(repr, REASONING_TOKENS))}."
        raise Refused(400, text, param="reasoning_effort", code="invalid_value")


def reasons(body: Mapping[str, Any], model: Model) -> bool:
    """Whether the model reasons in this call: gpt-5.1 and later only where they are not told not to."""
    if model.reasoning == "optional":
        return bool(body.get("reasoning_effort") != "none")
    return model.reasoning == "always"


def _check_reasoning(body: Mapping[str, Any]) -> None:
    if body.get("temperature") not in (None, 1):
        text = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only"
            " the default (1) value is supported."
        )
        raise Refused(400, text, param="temperature", code="unsupported_value")
    if body.get("max_tokens") is not None:
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead."
        )
        raise Refused(400, text, param="max_tokens", code="unsupported_parameter")
    for name in NOT_WITH_REASONING:
        if body.get(name) is not None and not (name == "top_p" and body[name] == 1):
            text = f"Unsupported parameter: '{name}' is not supported with this model."
            raise Refused(400, text, param=name, code="unsupported_parameter")


def reasoning_tokens(body: Mapping[str, Any], model: Model) -> int:
    if not reasons(body, model):
        return 0
    return REASONING_TOKENS[body.get("reasoning_effort") or "low"]


def output_tokens_max(body: Mapping[str, Any]) -> int:
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return whole(body, name, low=1, high=OUTPUT_TOKENS_MAX) or OUTPUT_TOKENS_DEFAULT


def stop_texts(stop: Any) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else (stop or [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        text = "Invalid type for 'stop': expected one of a string or array of strings."
        raise Refused(400, text, param="stop", code="invalid_type")
    if len(texts) > STOPS_MAX:
        text = (
            f"Invalid 'stop': array too long. Expected an array with maximum length {STOPS_MAX}, but got an"
            f" array with length {len(texts)} instead."
        )
        raise Refused(400, text, param="stop", code="array_above_max_length")
    return tuple(texts)


def top_logprobs(body: Mapping[str, Any], model: Model) -> int | None:
    count = whole(body, "top_logprobs", low=0, high=20)
    if not body.get("logprobs"):
        if count is not None:
            message = "The 'logprobs' parameter must be true when 'top_logprobs' is provided."
            raise Refused(400, message, param="top_logprobs", code="invalid_value")
        return None
    if reasons(body, model):
        # Both codes are met in practice.
        code = "unsupported_parameter" if model.name.startswith("o") else "unsupported_value"
        raise Refused(400, "'logprobs' is not supported with this model.", param="logprobs", code=code)
    return count or 0


def service_tier(tier: Any) -> str:
    if tier is None:
        return "default"
    if tier not in SERVICE_TIERS:
        message = f"Invalid service_tier argument: {tier}"
        raise Refused(400, message, param="service_tier", code="invalid_value")
    return SERVICE_TIERS[tier]


def decimal(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    """Refuses a value of `name` that is no number from `low` to `high`."""
    value = body[name]
    if value is None:
        return
    if type(value) not in (int, float):
        raise Refused(400, f"Invalid type for '{name}': expected a decimal.", param=name, code="invalid_type")
    _check_bounds(name, value, low, high, "decimal")


def whole(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    """The whole number called `name`, None where it is missing. Raises Refused out of bounds."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise Refused(
            400, f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type"
        )
    _check_bounds(name, value, low, high, "integer")
    return value


def _check_bounds(name: str, value: float, low: float, high: float, kind: str) -> None:
    if value < low:
        side, sign, bound = "below minimum", ">=", low
    elif value > high:
        side, sign, bound = "above maximum", "<=", high
    else:
        return
    text = f"Invalid '{name}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} instead."
    code = f"{kind}_{side.replace('imum', '').replace(' ', '_')}_value"
    raise Refused(400, text, param=name, code=code)
