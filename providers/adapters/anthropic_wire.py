"""Anthropic's messages: how a prompt is written, and how an answer is read. Pure.

System messages are joined, wherever they stand, into `system`. Turns of one role that follow each other
become one, with its tool results first: Anthropic wants all results of a turn's calls at the start of the
next turn. Empty parts of text are left out, since it refuses them. A temperature or `top_p` of 1 is its
default, and left out too: newer models refuse the parameter. A tool call's arguments become an object
(`providers.answers.arguments_object`).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from providers.adapters import wire
from providers.answers import Asked, arguments_object, read_answer, with_instruction
from providers.types import (
    CacheLifetime,
    FinishReason,
    Image,
    Message,
    Part,
    Prompt,
    ProviderReply,
    ProviderRequest,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

_FINISH_REASONS: dict[str | None, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
#: Where Anthropic's default region worked; any other has a price of its own.
_USUAL_REGIONS = (None, "", "global", "not_available")
_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}


# --- Requests


def request_body(request: ProviderRequest, asked: Asked, *, stream: bool = False) -> dict[str, Any]:
    """The request in Anthropic's format."""
    prompt = request.prompt
    messages = with_instruction(prompt.messages, asked.instruction)
    system = _system([message for message in messages if message.role == "system"])
    body: dict[str, Any] = {
        "model": request.model,
        "messages": list(_turns(message for message in messages if message.role != "system")),
        "max_tokens": request.max_output_tokens,
        "service_tier": "standard_only",
        **_sampling(prompt),
        **_tools(prompt),
        **_output_config(prompt, asked),
    }
    if not body["messages"]:
        # Anthropic wants a user's turn where OpenAI is content with a system prompt.
        body["messages"] = [{"role": "user", "content": system}]
    elif system:
        body["system"] = system
    if stream:
        body["stream"] = True
    return body


def _system(messages: list[Message]) -> str | list[dict[str, Any]]:
    if all(isinstance(message.content, str) for message in messages):
        return "\n\n".join(message.text for message in messages)
    return _blocks(part for message in messages for part in message.parts)


def _turns(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    for role, group in groupby(messages, key=lambda message: message.role):
        turn = list(group)
        if len(turn) == 1 and isinstance(turn[0].content, str):
            yield {"role": role, "content": turn[0].content}
        else:
            parts = [part for message in turn for part in message.parts]
            parts.sort(key=lambda part: not isinstance(part, ToolResult))
            yield {"role": role, "content": _blocks(parts)}


def _blocks(parts: Iterable[Part]) -> list[dict[str, Any]]:
    return [_block(part) for part in parts if not (isinstance(part, Text) and not part.text)]


def _block(part: Part) -> dict[str, Any]:
    block: dict[str, Any]
    match part:
        case Text():
            block = {"type": "text", "text": part.text}
        case Image():
            block = {"type": "image", "source": _source(part)}
        case ToolCall():
            input = arguments_object(part.arguments)
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": input}
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id, "content": _result(part)}
            if part.is_error:
                block["is_error"] = True
    return {**block, **_cache_control(part.cache)}


def _source(image: Image) -> dict[str, Any]:
    if image.data is None:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _result(result: ToolResult) -> str | list[dict[str, Any]]:
    match result.content:
        case ():
            return ""
        case (Text(text=text, cache=None),):
            return text
    return _blocks(result.content)


def _cache_control(lifetime: CacheLifetime | None) -> dict[str, Any]:
    if lifetime is None:
        return {}
    mark = {"type": "ephemeral"} if lifetime == "5m" else {"type": "ephemeral", "ttl": lifetime}
    return {"cache_control": mark}


def _sampling(prompt: Prompt) -> dict[str, Any]:
    sampling = prompt.sampling
    return wire.given(
        temperature=None if sampling.temperature == 1 else sampling.temperature,
        top_p=None if sampling.top_p == 1 else sampling.top_p,
        top_k=sampling.top_k,
        stop_sequences=list(prompt.stop) or None,
    )


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not prompt.tools:
        return {}
    return wire.given(tools=[_tool(tool) for tool in prompt.tools], tool_choice=_tool_choice(prompt))


def _tool(tool: Tool) -> dict[str, Any]:
    fields = wire.given(name=tool.name, description=tool.description, strict=tool.strict)
    return {**fields, "input_schema": {"type": "object", **tool.parameters}, **_cache_control(tool.cache)}


def _tool_choice(prompt: Prompt) -> dict[str, Any] | None:
    choice = prompt.tool_choice
    one_at_most = prompt.parallel_tool_calls is False
    if choice is None:
        return {"type": "auto", "disable_parallel_tool_use": True} if one_at_most else None
    written = wire.given(type=_TOOL_CHOICES[choice.mode], name=choice.name)
    if one_at_most and choice.mode != "none":
        written["disable_parallel_tool_use"] = True
    return written


def _output_config(prompt: Prompt, asked: Asked) -> dict[str, Any]:
    form = None if asked.schema is None else {"type": "json_schema", "schema": asked.schema}
    config = wire.given(format=form, effort=prompt.sampling.reasoning_effort)
    return {"output_config": config} if config else {}


# --- Answers


def reply(
    body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
) -> ProviderReply:
    """What a message says.

    Raises:
        TypeError, ValueError, LookupError, AttributeError: it is no answer with its usage.
    """
    text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
    answer = read_answer(text, request=request, asked=asked)
    return ProviderReply(
        content=answer.content,
        parsed=answer.parsed,
        finish_reason=_FINISH_REASONS.get(body.get("stop_reason"), "stop"),
        usage=usage(body["usage"]),
        tokens=None,
        verbalized=answer.verbalized,
        request_id=request_id,
        model=str(body.get("model") or request.model),
        raw_usage=body["usage"],
        tool_calls=tuple(_tool_call(block) for block in body["content"] if block["type"] == "tool_use"),
        stop_sequence=body.get("stop_sequence"),
    )


def _tool_call(block: Mapping[str, Any]) -> ToolCall:
    """The input of a streamed call is JSON text already."""
    given = block["input"]
    arguments = given if isinstance(given, str) else wire.json_text(given)
    return ToolCall(id=block["id"], name=block["name"], arguments=arguments)


def usage(raw: Mapping[str, Any]) -> Usage:
    """Anthropic's `input_tokens` leaves out what its cache read and wrote; our total has it all.

    Cache writes that are not split by lifetime are five-minute ones, the only ones that were before the
    split.
    """
    read = wire.part(raw, "cache_read_input_tokens")
    written = wire.part(raw, "cache_creation_input_tokens")
    written_1h = wire.part(raw.get("cache_creation"), "ephemeral_1h_input_tokens")
    return Usage(
        input_total=wire.count(raw["input_tokens"]) + read + written,
        output_total=wire.count(raw["output_tokens"]),
        cache_read=read,
        cache_write_5m=written - written_1h,
        cache_write_1h=written_1h,
        reasoning=wire.part(raw.get("output_tokens_details"), "thinking_tokens"),
        service_tier=_service_tier(raw),
    )


def _service_tier(raw: Mapping[str, Any]) -> str:
    """Fast mode and a chosen region are billed apart, so they are tiers apart (`fast`, `standard:us`)."""
    tier = "fast" if raw.get("speed") == "fast" else str(raw.get("service_tier") or "standard")
    region = raw.get("inference_geo")
    return tier if region in _USUAL_REGIONS else f"{tier}:{region}"
