"""What a chat completion asks for, read and refused as OpenAI does."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.sandbox import catalogue, images
from providers.sandbox.catalogue import Model
from providers.sandbox.openai_parameters import (
    EMPTY_ARRAY,
    check_parameters,
    output_tokens_max,
    reasoning_tokens,
    service_tier,
    stop_texts,
    top_logprobs,
    whole,
)
from providers.sandbox.openai_tools import choice_of, tools_of
from providers.sandbox.schemas import fault_in
from providers.sandbox.tokens import json_text
from providers.sandbox.wire import Call, Refused

PROVIDER = "openai"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
CHOICES_MAX = 128
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)
DETAILS = (None, "auto", "low", "high", "original")
NO_IMAGE = (
    "You uploaded an unsupported image. Please make sure your image has of one the following formats:"
    " ['png', 'jpeg', 'gif', 'webp']."
)


def read(body: Any) -> Call:
    if not isinstance(body, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    model = _model(body.get("model"))
    messages = _messages(body.get("messages"))
    image_tokens = sum(_check_message(message, at, model) for at, message in enumerate(messages))
    _check_tool_turns(messages)
    check_parameters(body, model)
    tools = tools_of(body)
    choice, allowed = choice_of(body, tools, model)
    schema = _schema(body.get("response_format"), model, messages)
    options = body.get("stream_options") or {}
    return Call(
        model=model,
        system="\n".join(text_of(one) for one in messages if one["role"] in ("system", "developer")),
        text="\n".join(text_of(one) for one in messages if one["role"] == "user"),
        texts=[*_texts(messages), *([schema] if schema else []), *_tool_texts(body)],
        added_tokens=image_tokens,
        asked=text_of(messages[-1]) if messages[-1]["role"] == "user" else "",
        tools=allowed,
        choice=choice,
        output_tokens_max=output_tokens_max(body),
        schema=schema,
        json_object=_form(body) == "json_object",
        stop=stop_texts(body.get("stop")),
        choices=whole(body, "n", low=1, high=CHOICES_MAX) or 1,
        reasoning=reasoning_tokens(body, model),
        stream=body.get("stream") is True,
        include_usage=options.get("include_usage") is True,
        obfuscated=options.get("include_obfuscation") is not False,
        top_logprobs=top_logprobs(body, model),
        service_tier=service_tier(body.get("service_tier")),
    )


def _model(name: Any) -> Model:
    if not isinstance(name, str) or not name:
        raise Refused(400, "you must provide a model parameter")
    model = catalogue.find(PROVIDER, name)
    if model is None:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Refused(404, message, code="model_not_found")
    return model


# --- Messages


def text_of(message: Mapping[str, Any]) -> str:
    """A message's own text, without its tool calls and images."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in content or ())


def _texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    texts = [text_of(message) for message in messages]
    for message in messages:
        for call in message.get("tool_calls") or ():
            texts += [call["function"]["name"], call["function"]["arguments"]]
    return texts


def _tool_texts(body: Mapping[str, Any]) -> list[str]:
    return [json_text(tool["function"]) for tool in body.get("tools") or ()]


def _messages(messages: Any) -> list[dict[str, Any]]:
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(400, message, param="messages", code="missing_required_parameter")
    if not isinstance(messages, list) or not messages:
        message = EMPTY_ARRAY.format("messages")
        raise Refused(400, message, param="messages", code="empty_array")
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            text = (
                f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function',"
                " 'tool', and 'developer'."
            )
            raise Refused(400, text, param=f"messages[{at}].role", code="invalid_value")
    return messages


def _check_message(message: Mapping[str, Any], at: int, model: Model) -> int:
    """Refuses content that a message of its role cannot have. Returns the tokens of its images."""
    content = message.get("content")
    if message["role"] == "assistant":
        _check_calls(message, at)
    if isinstance(content, str):
        return 0
    if content is None:
        if message["role"] != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
            text = "Invalid value for 'content': expected a string, got null."
            raise Refused(400, text, param=f"messages.[{at}].content")
        return 0
    if not isinstance(content, list):
        text = f"Invalid type for 'messages[{at}].content': expected one of a string or array of objects."
        raise Refused(400, text, param=f"messages[{at}].content", code="invalid_type")
    return sum(_check_part(part, message["role"], at, place, model) for place, part in enumerate(content))


def _check_part(part: Any, role: str, at: int, place: int, model: Model) -> int:
    where = f"messages[{at}].content[{place}]"
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        if role != "user":
            text = (
                f"Invalid 'messages[{at}]'. Image URLs are only allowed for messages with role 'user', but"
                f" this message with role '{role}' contains an image URL."
            )
            raise Refused(400, text, param=f"messages[{at}]", code="invalid_value")
        return _image_tokens(part.get("image_url"), where, model)
    if kind in ("text", "refusal") and (kind == "text" or role == "assistant"):
        if not isinstance(part.get(kind), str):
            text = f"Missing required parameter: '{where}.{kind}'."
            raise Refused(400, text, param=f"{where}.{kind}", code="missing_required_parameter")
        return 0
    text = f"Invalid value: '{kind}'. Supported values are: 'text' and 'image_url'."
    raise Refused(400, text, param=f"{where}.type", code="invalid_value")


def _image_tokens(image: Any, where: str, model: Model) -> int:
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str) or image.get("detail") not in DETAILS:
        text = f"Invalid '{where}.image_url': an object with a 'url', and perhaps a 'detail', is expected."
        raise Refused(400, text, param=f"{where}.image_url", code="invalid_value")
    if not model.images:
        text = "Invalid content type. image_url is only supported by certain models."
        raise Refused(400, text, param=f"{where}.type")
    size = _size_of_data(url, where) if url.startswith("data:") else _size_of_url(url, where)
    return images.openai_tokens(model.name, size, low_detail=image.get("detail") == "low")


def _size_of_data(url: str, where: str) -> images.Size:
    found = DATA_URL.fullmatch(url)
    data = images.decoded(found[1]) if found else None
    if data is None:
        raise Refused(400, "Invalid base64 image_url.", param=f"{where}.image_url", code="invalid_base64")
    size = images.size_of(data)
    if size is None:
        raise Refused(400, NO_IMAGE, code="invalid_image_format")
    return size


def _size_of_url(url: str, where: str) -> images.Size:
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        text = (
            f"Invalid '{where}.image_url.url'. Expected a valid URL, but got a value with an invalid format."
        )
        raise Refused(400, text, param=f"{where}.image_url.url", code="invalid_value")
    if rest.partition("/")[0].endswith(".invalid"):
        raise Refused(400, f"Error while downloading {url}.", code="invalid_image_url")
    return images.size_of_url(url)


def _check_calls(message: Mapping[str, Any], at: int) -> None:
    calls = message.get("tool_calls")
    where = f"messages[{at}].tool_calls"
    if calls is None:
        return
    if not isinstance(calls, list) or not calls:
        text = EMPTY_ARRAY.format(where)
        raise Refused(400, text, param=where, code="empty_array")
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type") != "function":
            text = f"Invalid value: '{where}[{place}].type'. Supported values are: 'function'."
            raise Refused(400, text, param=f"{where}[{place}].type", code="invalid_value")
        for name, value in (
            ("id", call.get("id")),
            ("function.name", function.get("name")),
            ("function.arguments", function.get("arguments")),
        ):
            if not isinstance(value, str):
                text = f"Missing required parameter: '{where}[{place}].{name}'."
                raise Refused(400, text, param=f"{where}[{place}].{name}", code="missing_required_parameter")


def _check_tool_turns(messages: Sequence[Mapping[str, Any]]) -> None:
    """Every tool message answers a call of the assistant's message before it, and every call is answered."""
    open_ids: list[str] = []
    known: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            _check_answer(message, at, known)
            open_ids = [one for one in open_ids if one != message["tool_call_id"]]
            continue
        _check_answered(open_ids, at)
        known = open_ids = [call["id"] for call in message.get("tool_calls") or ()]
    _check_answered(open_ids, len(messages))


def _check_answer(message: Mapping[str, Any], at: int, known: Sequence[str]) -> None:
    where = f"messages.[{at}]"
    if not isinstance(message.get("tool_call_id"), str):
        text = "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'."
        raise Refused(400, text, param=f"{where}.tool_call_id")
    if not known:
        text = (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with"
            " 'tool_calls'."
        )
        raise Refused(400, text, param=f"{where}.role")
    if message["tool_call_id"] not in known:
        text = (
            f"Invalid parameter: 'tool_call_id' of '{message['tool_call_id']}' not found in 'tool_calls' of"
            " previous message."
        )
        raise Refused(400, text, param=f"{where}.tool_call_id")


def _check_answered(open_ids: Sequence[str], at: int) -> None:
    if open_ids:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            " 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(open_ids)
        )
        raise Refused(400, text, param=f"messages.[{at}].role")


# --- The form of the answer


def _form(body: Mapping[str, Any]) -> Any:
    form = body.get("response_format")
    return form.get("type") if isinstance(form, dict) else None


def _schema(form: Any, model: Model, messages: Sequence[Mapping[str, Any]]) -> str | None:
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        text = f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise Refused(400, text, param="response_format.type", code="invalid_value")
    if kind == "json_object" and not any("json" in text_of(message).casefold() for message in messages):
        text = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type"
            " 'json_object'."
        )
        raise Refused(400, text, param="messages")
    return _json_schema(form.get("json_schema"), model) if kind == "json_schema" else None


def _json_schema(given: Any, model: Model) -> str:
    if not model.structured:
        message = (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
        )
        raise Refused(400, message, param="response_format")
    for name in ("name", "schema"):
        if not isinstance(given, dict) or not given.get(name):
            where = f"response_format.json_schema.{name}"
            text = f"Missing required parameter: '{where}'."
            raise Refused(400, text, param=where, code="missing_required_parameter")
    if not NAME.fullmatch(str(given["name"])):
        text = (
            "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string"
            " that matches the pattern '^[a-zA-Z0-9_-]+$'."
        )
        raise Refused(400, text, param="response_format.json_schema.name", code="invalid_value")
    if fault := fault_in(given["schema"], PROVIDER, strict=given.get("strict") is True):
        message = f"Invalid schema for response_format '{given['name']}': In context=(), {fault}"
        raise Refused(400, message, param="response_format", code="invalid_json_schema")
    return json_text(given["schema"])
