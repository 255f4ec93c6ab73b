"""`/v1/messages`: for the official `anthropic` client, which only changes its base URL and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drf_spectacular.utils import extend_schema

from aigov.errors import GatewayError
from aigov.organizations.models import Scope
from aigov.web.direct import DirectView, HttpAnswer, JsonRequest
from aigov.web.errors import anthropic_body
from providers.answers import arguments_object
from providers.types import Delta, FinishReason, StreamStart, TextDelta, ToolCallDelta, Usage
from routing.api.answers import sdk_extras
from routing.api.anthropic_shapes import MessagesRequest, completion_request
from routing.api.serving import answer, event
from routing.api.shapes import read
from routing.course import Answer, Completion, Course

#: What Anthropic's documentation proposes for arguments that a model did not write as JSON.
_NOT_ENDED = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


class MessagesView(DirectView):
    """Answers as Anthropic's endpoint does, with an `aigov` object and `x-ai-*` headers beside it."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="messages",
        summary="For the official anthropic client: base_url without /v1, and a key of ours",
        request=MessagesRequest,
        responses={
            (200, "application/json"): {"type": "object", "additionalProperties": True},
            (200, "text/event-stream"): {"type": "string", "description": "With “stream”: true."},
        },
    )
    async def post(self, request: JsonRequest) -> HttpAnswer:
        asked = read(MessagesRequest, request.data)
        return await answer(
            request, asked=completion_request(asked, request.headers), face=FACE, streamed=asked.stream
        )


@dataclass(frozen=True)
class AnthropicFace:
    """Anthropic's format."""

    def body(self, completion: Completion) -> dict[str, Any]:
        return message_body(completion)

    def frames(self, course: Course, start: StreamStart) -> "AnthropicFrames":
        return AnthropicFrames(course, start)


FACE = AnthropicFace()


class AnthropicFrames:
    """Anthropic's events: `message_start`, each content block in turn, `message_delta`, `message_stop`.

    Our extras are in `message_delta`: the client hands it on as it comes.
    """

    def __init__(self, course: Course, start: StreamStart) -> None:
        self._course = course
        self._start = start
        self._index = -1
        #: The block that is open: `text`, or the number of a tool call.
        self._open: str | int | None = None

    def begin(self, first: Delta | None) -> bytes:
        usage = usage_body(self._start.usage or Usage(input_total=0, output_total=0))
        message = _message(self._course.id, self._start.model, [], _NOT_ENDED, usage)
        return _event("message_start", message=message)

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, TextDelta):
            opening = self._opened("text", {"type": "text", "text": ""})
            return opening + self._delta(type="text_delta", text=delta.text)
        opening = self._opened(delta.index, _tool_use(delta.id, delta.name, {}))
        return opening + self._arguments(delta)

    def end(self, completion: Completion) -> bytes:
        answer = completion.answer
        last = _event(
            "message_delta", delta=stop_of(answer), usage=_counts(answer.usage), aigov=sdk_extras(completion)
        )
        return self._closed() + last + _event("message_stop")

    def error(self, error: GatewayError) -> bytes:
        return event("error", anthropic_body(error, self._course.request_id))

    def _arguments(self, delta: ToolCallDelta) -> bytes:
        if not delta.arguments:
            return b""
        return self._delta(type="input_json_delta", partial_json=delta.arguments)

    def _delta(self, **delta: Any) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _opened(self, block: str | int, start: Mapping[str, Any]) -> bytes:
        if self._open == block:
            return b""
        closed = self._closed()
        self._open = block
        self._index += 1
        return closed + _event("content_block_start", index=self._index, content_block=start)

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", index=self._index)


def message_body(completion: Completion) -> dict[str, Any]:
    """Anthropic's `message` object, with our extras."""
    answer = completion.answer
    usage = usage_body(answer.usage)
    message = _message(completion.course.id, answer.model, _content(answer), stop_of(answer), usage)
    return {**message, "aigov": sdk_extras(completion)}


def stop_of(answer: Answer) -> dict[str, Any]:
    """Anthropic's words for the end: its reason, and the sequence that it stopped at."""
    if answer.stop_sequence is not None:
        return {**_NOT_ENDED, "stop_reason": "stop_sequence", "stop_sequence": answer.stop_sequence}
    if answer.refused or answer.finish_reason == "content_filter":
        details = {"type": "refusal", "category": None, "explanation": None}
        return {**_NOT_ENDED, "stop_reason": "refusal", "stop_details": details}
    called = answer.tool_calls and answer.finish_reason == "stop"
    return {**_NOT_ENDED, "stop_reason": _STOP_REASONS["tool_calls" if called else answer.finish_reason]}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Tokens as Anthropic counts them: what its cache read and wrote stands beside the input."""
    return {
        **_counts(usage),
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "service_tier": "standard",
    }


def _counts(usage: Usage) -> dict[str, Any]:
    written = usage.cache_write_5m + usage.cache_write_1h
    counts: dict[str, Any] = {
        "input_tokens": usage.input_total - usage.cache_read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output_total,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def _message(
    id: str,
    model: str,
    content: list[dict[str, Any]],
    stop: Mapping[str, Any],
    usage: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stop,
        "usage": usage,
    }


def _content(answer: Answer) -> list[dict[str, Any]]:
    text = [{"type": "text", "text": answer.content}] if answer.content else []
    calls = (_tool_use(call.id, call.name, arguments_object(call.arguments)) for call in answer.tool_calls)
    return [*text, *calls]


def _tool_use(id: str | None, name: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": arguments, "caller": {"type": "direct"}}


def _event(kind: str, **members: Any) -> bytes:
    return event(kind, {"type": kind, **members})
