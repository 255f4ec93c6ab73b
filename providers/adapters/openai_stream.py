"""OpenAI's chunks of a streamed answer. Pure.

The usage comes in a chunk of its own after the reason for the end; `[DONE]` ends the stream. The chunks are
put together to the `chat.completion` that would have come in one piece, so that both are read by the same
code.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from providers.adapters import openai_wire
from providers.adapters.faults import ErrorEvent
from providers.answers import Asked
from providers.types import Delta, ProviderReply, ProviderRequest, StreamStart, TextDelta, ToolCallDelta

_LOGPROBS = ("content", "refusal")


class OpenAIStream:
    def __init__(self, request: ProviderRequest, asked: Asked, request_id: str | None) -> None:
        self.ended = False
        self._request = request
        self._asked = asked
        self._request_id = request_id
        self._head: dict[str, Any] = {}
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._finish_reason: str | None = None

    def read(self, event: bytes) -> list[StreamStart | Delta]:
        if event == b"[DONE]":
            self.ended = True
            return []
        chunk = json.loads(event)
        if chunk.get("error"):
            raise ErrorEvent(chunk["error"])
        items: list[StreamStart | Delta] = []
        if not self._head:
            items.append(StreamStart(str(chunk.get("model") or self._request.model)))
        self._keep_head(chunk)
        if chunk.get("choices"):
            items.extend(self._read_choice(chunk["choices"][0]))
        return items

    def reply(self) -> ProviderReply | None:
        if self._finish_reason is None or not self._head["usage"]:
            return None
        message = {
            "content": "".join(self._content),
            "refusal": "".join(self._refusal),
            "tool_calls": [self._calls[index] for index in sorted(self._calls)],
        }
        logprobs = {name: self._logprobs.get(name) for name in _LOGPROBS} if self._logprobs else None
        choice = {"message": message, "finish_reason": self._finish_reason, "logprobs": logprobs}
        return openai_wire.reply(
            {**self._head, "choices": [choice]}, self._request, self._asked, self._request_id
        )

    def _keep_head(self, chunk: Mapping[str, Any]) -> None:
        """Each chunk repeats what the answer has once; what a later one leaves out still holds."""
        for name in ("model", "service_tier", "usage"):
            self._head[name] = chunk.get(name) or self._head.get(name)

    def _read_choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta") or {}
        logprobs = choice.get("logprobs")
        if logprobs:
            self._keep_logprobs(logprobs)
        wanted = None if self._request.prompt.top_logprobs is None else logprobs
        if delta.get("refusal"):
            self._refusal.append(delta["refusal"])
            yield TextDelta(delta["refusal"], refused=True, raw_logprobs=wanted)
        elif delta.get("content") or wanted:
            self._content.append(delta.get("content") or "")
            yield TextDelta(self._content[-1], raw_logprobs=wanted)
        for call in delta.get("tool_calls") or ():
            yield self._read_call(call)

    def _keep_logprobs(self, logprobs: Mapping[str, Any]) -> None:
        for name in _LOGPROBS:
            if logprobs.get(name):
                self._logprobs.setdefault(name, []).extend(logprobs[name])

    def _read_call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        index = call["index"]
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        known = self._calls.get(index)
        if known is not None:
            known["function"]["arguments"] += arguments
            return ToolCallDelta(index, arguments)
        begun = {"id": call["id"], "function": {"name": function["name"], "arguments": arguments}}
        self._calls[index] = begun
        return ToolCallDelta(index, arguments, id=call["id"], name=function["name"])
