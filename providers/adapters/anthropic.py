"""Anthropic's messages. There are no log-probabilities: the model says itself how sure it is."""

from collections.abc import Mapping
from typing import Any

import anthropic

from providers.adapters import base
from providers.answers import Asked, read_answer, with_instruction
from providers.types import FinishReason, ProviderReply, ProviderRequest, Usage

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


class AnthropicAdapter(base.SdkAdapter):
    name = "anthropic"
    path = "/v1/messages"
    request_id_header = "request-id"
    sdk_error = anthropic.AnthropicError

    def __init__(self, *, api_key: str, base_url: str | None = None) -> None:
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url or "https://api.anthropic.com",
            max_retries=0,
            open_telemetry=False,
            http_client=anthropic.DefaultAioHttpClient(**base.client_options()),
        )
        super().__init__(client, logprobs=False)

    def _body(self, request: ProviderRequest, asked: Asked) -> dict[str, Any]:
        return request_body(request, asked)

    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
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
        )


def request_body(request: ProviderRequest, asked: Asked) -> dict[str, Any]:
    """The request in Anthropic's format."""
    messages = with_instruction(request.prompt.messages, asked.instruction)
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            {"role": message.role, "content": message.content}
            for message in messages
            if message.role != "system"
        ],
        "max_tokens": request.max_output_tokens,
        "service_tier": "standard_only",
    }
    if not body["messages"]:
        # Anthropic wants a user's turn where OpenAI is content with a system prompt.
        body["messages"] = [{"role": "user", "content": system}]
    elif system:
        body["system"] = system
    if asked.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema}}
    if request.prompt.sampling.temperature is not None:
        body["temperature"] = request.prompt.sampling.temperature
    if request.prompt.stop:
        body["stop_sequences"] = list(request.prompt.stop)
    return body


def usage(raw: Mapping[str, Any]) -> Usage:
    """Anthropic's `input_tokens` leaves out what its cache read and wrote; our total has it all.

    Cache writes that are not split by lifetime are five-minute ones, the only ones that were before the
    split.
    """
    read = base.part(raw, "cache_read_input_tokens")
    written = base.part(raw, "cache_creation_input_tokens")
    written_1h = base.part(raw.get("cache_creation"), "ephemeral_1h_input_tokens")
    return Usage(
        input_total=base.count(raw["input_tokens"]) + read + written,
        output_total=base.count(raw["output_tokens"]),
        cache_read=read,
        cache_write_5m=written - written_1h,
        cache_write_1h=written_1h,
        reasoning=base.part(raw.get("output_tokens_details"), "thinking_tokens"),
        service_tier=_service_tier(raw),
    )


def _service_tier(raw: Mapping[str, Any]) -> str:
    """Fast mode and a chosen region are billed apart, so they are tiers apart (`fast`, `standard:us`)."""
    tier = "fast" if raw.get("speed") == "fast" else str(raw.get("service_tier") or "standard")
    region = raw.get("inference_geo")
    return tier if region in _USUAL_REGIONS else f"{tier}:{region}"
