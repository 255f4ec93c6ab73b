"""OpenAI's chat completions: how a prompt is written, and how an answer is read. Pure.

What came in this format goes out as it was: plain text as text, parts as parts, one message for each tool
result, `content: null` for an assistant that only calls tools. OpenAI has no word for a tool's failure: the
result then begins with `Error: `. Marks for the prompt cache are left out, since OpenAI caches by itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from providers.adapters import wire
from providers.answers import SCHEMA_NAME, Asked, read_answer, with_instruction
from providers.types import (
    FinishReason,
    Image,
    Message,
    Part,
    Prompt,
    ProviderReply,
    ProviderRequest,
    Text,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)

#: What a failed tool's result begins with.
ERROR_PREFIX = "Error: "
_FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


# --- Requests


def request_body(request: ProviderRequest, asked: Asked, *, stream: bool = False) -> dict[str, Any]:
    """The request in OpenAI's format, with nothing that was not asked for: reasoning models refuse it."""
    prompt = request.prompt
    messages = with_instruction(prompt.messages, asked.instruction)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [written for message in messages for written in _messages(message)],
        "max_completion_tokens": request.max_output_tokens,
        "service_tier": "default",
        **_sampling(prompt),
        **_tools(prompt),
    }
    if asked.logprobs:
        body.update(logprobs=True, top_logprobs=_top_logprobs(prompt))
    if asked.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _schema(prompt, asked)}
    elif prompt.json_object:
        body["response_format"] = {"type": "json_object"}
    if stream:
        body.update(stream=True, stream_options={"include_usage": True})
    return body


def _sampling(prompt: Prompt) -> dict[str, Any]:
    sampling = prompt.sampling
    return wire.given(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        seed=sampling.seed,
        reasoning_effort=sampling.reasoning_effort,
        stop=list(prompt.stop) or None,
    )


def _tools(prompt: Prompt) -> dict[str, Any]:
    return wire.given(
        tools=[_tool(tool) for tool in prompt.tools] or None,
        tool_choice=_tool_choice(prompt.tool_choice) if prompt.tool_choice and prompt.tools else None,
        parallel_tool_calls=prompt.parallel_tool_calls,
    )


def _tool(tool: Tool) -> dict[str, Any]:
    function = wire.given(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Any:
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _top_logprobs(prompt: Prompt) -> int:
    if prompt.top_logprobs is not None:
        return prompt.top_logprobs
    return wire.TOP_LOGPROBS_LABELS if prompt.labels else wire.TOP_LOGPROBS_TEXT


def _schema(prompt: Prompt, asked: Asked) -> dict[str, Any]:
    if asked.wrapped:
        return {"name": SCHEMA_NAME, "strict": True, "schema": asked.schema}
    return wire.given(
        name=prompt.schema_name or SCHEMA_NAME,
        description=prompt.schema_description,
        strict=prompt.schema_strict,
        schema=asked.schema,
    )


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """One message of ours as OpenAI's: each tool result is a message of its own there."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    if message.role == "assistant":
        yield _assistant(message.content)
        return
    results = [part for part in message.content if isinstance(part, ToolResult)]
    yield from map(_tool_message, results)
    others = [part for part in message.content if not isinstance(part, ToolResult)]
    if others or not results:
        yield {"role": message.role, "content": [_part(part) for part in others]}


def _assistant(parts: tuple[Part, ...]) -> dict[str, Any]:
    calls = [part for part in parts if isinstance(part, ToolCall)]
    texts = [part for part in parts if isinstance(part, Text)]
    if not calls:
        return {"role": "assistant", "content": [_part(text) for text in texts]}
    return {
        "role": "assistant",
        "content": _text_or_parts(texts),
        "tool_calls": [_call(call) for call in calls],
    }


def _text_or_parts(texts: list[Text]) -> str | list[dict[str, Any]] | None:
    if not texts:
        return None
    return texts[0].text if len(texts) == 1 else [_part(text) for text in texts]


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _tool_message(result: ToolResult) -> dict[str, Any]:
    texts = [part for part in result.content if isinstance(part, Text)]
    if result.is_error:
        texts = [Text(ERROR_PREFIX + (texts[0].text if texts else "")), *texts[1:]]
    content = _text_or_parts(texts)
    return {"role": "tool", "tool_call_id": result.call_id, "content": "" if content is None else content}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    assert isinstance(part, Image), "tool calls and results are no parts of OpenAI's content"
    url = part.url if part.data is None else f"data:{part.media_type};base64,{part.data}"
    return {"type": "image_url", "image_url": wire.given(url=url, detail=part.detail)}


# --- Answers


def reply(
    body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
) -> ProviderReply:
    """What a `chat.completion` says.

    Raises:
        TypeError, ValueError, LookupError, AttributeError: it is no answer with its usage.
    """
    choice = body["choices"][0]
    message = choice["message"]
    refusal = message.get("refusal")
    answer = read_answer(refusal or message.get("content") or "", request=request, asked=asked)
    finish_reason = _FINISH_REASONS.get(choice.get("finish_reason"), "stop")
    logprobs = choice.get("logprobs")
    return ProviderReply(
        content=answer.content,
        parsed=None if refusal else answer.parsed,
        finish_reason="content_filter" if refusal else finish_reason,
        usage=usage(body["usage"], service_tier=body.get("service_tier")),
        tokens=None if refusal else _tokens(logprobs),
        verbalized=answer.verbalized,
        request_id=request_id,
        model=str(body.get("model") or request.model),
        raw_usage=body["usage"],
        tool_calls=tuple(_tool_call(call) for call in message.get("tool_calls") or ()),
        refused=bool(refusal),
        raw_logprobs=None if request.prompt.top_logprobs is None else logprobs,
    )


def usage(raw: Mapping[str, Any], *, service_tier: str | None) -> Usage:
    """OpenAI counts inclusively: cached tokens are part of the prompt, reasoning is part of the completion.

    It writes its cache at one rate, which stands in the price book for both of Anthropic's.
    """
    prompt = raw.get("prompt_tokens_details")
    return Usage(
        input_total=wire.count(raw["prompt_tokens"]),
        output_total=wire.count(raw["completion_tokens"]),
        cache_read=wire.part(prompt, "cached_tokens"),
        cache_write_5m=wire.part(prompt, "cache_write_tokens"),
        reasoning=wire.part(raw.get("completion_tokens_details"), "reasoning_tokens"),
        service_tier="standard" if service_tier in (None, "default") else str(service_tier),
    )


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(id=call["id"], name=function["name"], arguments=function["arguments"])


def _tokens(logprobs: Mapping[str, Any] | None) -> tuple[Token, ...] | None:
    if not logprobs or not logprobs.get("content"):
        return None
    return tuple(
        Token(
            text=token["token"],
            logprob=token["logprob"],
            top=tuple((top["token"], top["logprob"]) for top in token.get("top_logprobs") or ()),
        )
        for token in logprobs["content"]
    )
