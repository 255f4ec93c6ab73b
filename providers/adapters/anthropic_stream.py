"""Anthropic's events of a streamed answer. Pure.

`message_start` has the input's usage and a placeholder for the output's; `message_delta` has the counts so
far, the last of them with the reason for the end; `message_stop` ends the stream. The events are put together
to the message that would have come in one piece, so that both are read by the same code. What the model
thinks is no part of our answers, nor are events that are not known here: Anthropic says that there will be
new ones.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from providers.adapters import anthropic_wire, wire
from providers.adapters.faults import ErrorEvent
from providers.answers import Asked
from providers.types import Delta, ProviderReply, ProviderRequest, StreamStart, TextDelta, ToolCallDelta


class AnthropicStream:
    def __init__(self, request: ProviderRequest, asked: Asked, request_id: str | None) -> None:
        self.ended = False
        self._request = request
        self._asked = asked
        self._request_id = request_id
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        #: By their index: text and tool calls.
        self._blocks: dict[int, dict[str, Any]] = {}
        #: The pieces of each block's text, or of a call's arguments.
        self._pieces: dict[int, list[str]] = {}
        #: A call's number among the calls.
        self._calls: dict[int, int] = {}

    def read(self, event: bytes) -> list[StreamStart | Delta]:
        return list(self._read(json.loads(event)))

    def reply(self) -> ProviderReply | None:
        if self._message.get("stop_reason") is None:
            return None
        message = {
            **self._message,
            "content": [self._block(index) for index in sorted(self._blocks)],
            "usage": self._usage,
        }
        return anthropic_wire.reply(message, self._request, self._asked, self._request_id)

    def _read(self, event: Mapping[str, Any]) -> Iterator[StreamStart | Delta]:
        match event["type"]:
            case "message_start":
                yield self._start(event["message"])
            case "content_block_start":
                yield from self._start_block(event["index"], event["content_block"])
            case "content_block_delta":
                yield from self._add(event["index"], event["delta"])
            case "content_block_stop":
                yield from self._stop_block(event["index"])
            case "message_delta":
                self._message.update(event["delta"])
                self._usage.update(_said(event["usage"]))
            case "message_stop":
                self.ended = True
            case "error":
                raise ErrorEvent(event["error"])

    def _start(self, message: Mapping[str, Any]) -> StreamStart:
        self._message = {"model": message.get("model"), "stop_reason": None}
        self._usage = _said(message["usage"])
        model = str(message.get("model") or self._request.model)
        return StreamStart(model, anthropic_wire.usage(self._usage))

    def _start_block(self, index: int, block: Mapping[str, Any]) -> Iterator[Delta]:
        if block["type"] == "text":
            self._blocks[index] = {"type": "text"}
            self._pieces[index] = []
            yield from self._text(index, block.get("text") or "")
        elif block["type"] == "tool_use":
            number = self._calls[index] = len(self._calls)
            self._blocks[index] = dict(block)
            self._pieces[index] = []
            yield ToolCallDelta(number, id=block["id"], name=block["name"])

    def _add(self, index: int, delta: Mapping[str, Any]) -> Iterator[Delta]:
        if delta["type"] == "text_delta":
            yield from self._text(index, delta["text"])
        elif delta["type"] == "input_json_delta" and index in self._calls:
            yield from self._arguments(index, delta["partial_json"])

    def _text(self, index: int, text: str) -> Iterator[TextDelta]:
        if text:
            self._pieces[index].append(text)
            yield TextDelta(text)

    def _arguments(self, index: int, text: str) -> Iterator[ToolCallDelta]:
        if text:
            self._pieces[index].append(text)
            yield ToolCallDelta(self._calls[index], text)

    def _stop_block(self, index: int) -> Iterator[Delta]:
        """A call without arguments sends none; as JSON text they are an empty object."""
        if index in self._calls and not self._pieces[index]:
            yield from self._arguments(index, wire.json_text(self._blocks[index].get("input") or {}))

    def _block(self, index: int) -> dict[str, Any]:
        text = "".join(self._pieces[index])
        block = self._blocks[index]
        return {**block, "text": text} if block["type"] == "text" else {**block, "input": text}


def _said(usage: Mapping[str, Any]) -> dict[str, Any]:
    """What a usage object says: what it leaves out, or has as null, still holds as it was."""
    return {name: value for name, value in usage.items() if value is not None}
