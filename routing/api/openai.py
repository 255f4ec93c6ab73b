"""`/v1/chat/completions`: for the official `openai` client, which only changes its base URL and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drf_spectacular.utils import extend_schema

from aigov.errors import GatewayError
from aigov.organizations.models import Scope
from aigov.web.direct import DirectView, HttpAnswer, JsonRequest
from aigov.web.errors import openai_body
from aigov.web.renderers import json_bytes
from providers.types import Delta, StreamStart, TextDelta, ToolCall, ToolCallDelta, Usage
from routing.api.answers import sdk_extras
from routing.api.openai_shapes import ChatCompletionRequest, completion_request
from routing.api.serving import answer
from routing.api.shapes import read
from routing.course import Answer, Completion, Course

DONE = b"data: [DONE]\n\n"
#: We never ask for a service tier, and no fingerprint of the model's installation is kept.
_ALWAYS = {"service_tier": "default", "system_fingerprint": None}


class ChatCompletionsView(DirectView):
    """Answers as OpenAI's endpoint does, with an `aigov` object and `x-ai-*` headers beside it."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="chat_completions",
        summary="For the official openai client: base_url …/v1 and a key of ours",
        request=ChatCompletionRequest,
        responses={
            (200, "application/json"): {"type": "object", "additionalProperties": True},
            (200, "text/event-stream"): {"type": "string", "description": "With “stream”: true."},
        },
    )
    async def post(self, request: JsonRequest) -> HttpAnswer:
        asked = read(ChatCompletionRequest, request.data)
        face = OpenAIFace(
            include_usage=asked.stream_options is not None and asked.stream_options.include_usage
        )
        return await answer(request, asked=completion_request(asked), face=face, streamed=asked.stream)


@dataclass(frozen=True, slots=True)
class OpenAIFace:
    """OpenAI's format.

    Args:
        include_usage: whether a stream ends with a chunk that has the usage.
    """

    include_usage: bool = False

    def body(self, completion: Completion) -> dict[str, Any]:
        return chat_completion_body(completion)

    def frames(self, course: Course, start: StreamStart) -> "OpenAIFrames":
        return OpenAIFrames(course, start, include_usage=self.include_usage)


class OpenAIFrames:
    """`chat.completion.chunk` objects, and `[DONE]`."""

    def __init__(self, course: Course, start: StreamStart, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": course.id,
            "object": "chat.completion.chunk",
            "created": int(course.created_at.timestamp()),
            "model": start.model,
            **_ALWAYS,
        }
        self._include_usage = include_usage
        if include_usage:
            self._head["usage"] = None

    def begin(self, first: Delta | None) -> bytes:
        role: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if isinstance(first, ToolCallDelta):
            role["content"] = None
        elif first is not None and first.refused:
            role |= {"content": None, "refusal": ""}
        return self._chunk(role)

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, TextDelta):
            name = "refusal" if delta.refused else "content"
            return self._chunk({name: delta.text}, logprobs=delta.raw_logprobs)
        call: dict[str, Any] = {"index": delta.index}
        if delta.id is not None:
            call |= {"id": delta.id, "type": "function"}
        named = {} if delta.name is None else {"name": delta.name}
        call["function"] = {**named, "arguments": delta.arguments}
        return self._chunk({"tool_calls": [call]})

    def end(self, completion: Completion) -> bytes:
        extras = {"aigov": sdk_extras(completion)}
        finish_reason = finish_reason_of(completion)
        if not self._include_usage:
            return self._chunk({}, finish_reason=finish_reason, extras=extras) + DONE
        usage = usage_body(completion.answer.usage)
        last = {**self._head, "choices": [], "usage": usage, **extras}
        return self._chunk({}, finish_reason=finish_reason) + _data(last) + DONE

    def error(self, error: GatewayError) -> bytes:
        return _data(openai_body(error))

    def _chunk(
        self,
        delta: Mapping[str, Any],
        *,
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return _data({**self._head, "choices": [choice], **(extras or {})})


def chat_completion_body(completion: Completion) -> dict[str, Any]:
    """OpenAI's `chat.completion` object, with our extras."""
    answer = completion.answer
    choice = {
        "index": 0,
        "message": _message(answer),
        "logprobs": answer.logprobs,
        "finish_reason": finish_reason_of(completion),
    }
    return {
        "id": completion.course.id,
        "object": "chat.completion",
        "created": int(completion.course.created_at.timestamp()),
        "model": answer.model,
        "choices": [choice],
        "usage": usage_body(answer.usage),
        **_ALWAYS,
        "aigov": sdk_extras(completion),
    }


def finish_reason_of(completion: Completion) -> str:
    """OpenAI's word for the end.

    A model that refuses has ended as it wanted to, and so has one that called the one tool it was told to.
    """
    answer, choice = completion.answer, completion.course.request.prompt.tool_choice
    told = answer.finish_reason == "tool_calls" and choice is not None and choice.mode == "named"
    return "stop" if answer.refused or told else answer.finish_reason


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens as OpenAI counts them: what its cache read is part of the prompt."""
    prompt = {"cached_tokens": usage.cache_read, "audio_tokens": 0}
    if written := usage.cache_write_5m + usage.cache_write_1h:
        prompt["cache_write_tokens"] = written
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output_total,
        "total_tokens": usage.input_total + usage.output_total,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _message(answer: Answer) -> dict[str, Any]:
    refusal = answer.content if answer.refused else None
    silent = answer.refused or (answer.tool_calls and not answer.content)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if silent else answer.content,
        "refusal": refusal,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in answer.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _data(value: Any) -> bytes:
    return b"data: %b\n\n" % json_bytes(value)
