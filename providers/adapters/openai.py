"""OpenAI's chat completions, and every server that speaks that format."""

from collections.abc import Mapping
from typing import Any

import openai

from providers.adapters import base
from providers.answers import SCHEMA_NAME, Asked, read_answer, with_instruction
from providers.types import FinishReason, ProviderReply, ProviderRequest, Token, Usage

_FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class OpenAIAdapter(base.SdkAdapter):
    name = "openai"
    path = "/chat/completions"
    request_id_header = "x-request-id"
    sdk_error = openai.OpenAIError

    def __init__(self, *, api_key: str, base_url: str | None = None) -> None:
        client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or "https://api.openai.com/v1",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(**base.client_options()),
        )
        super().__init__(client, logprobs=True)

    def _body(self, request: ProviderRequest, asked: Asked) -> dict[str, Any]:
        return request_body(request, asked)

    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
        choice = body["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        answer = read_answer(refusal or message.get("content") or "", request=request, asked=asked)
        finish_reason = _FINISH_REASONS.get(choice.get("finish_reason"), "stop")
        return ProviderReply(
            content=answer.content,
            parsed=answer.parsed,
            finish_reason="content_filter" if refusal else finish_reason,
            usage=usage(body["usage"], service_tier=body.get("service_tier")),
            tokens=None if refusal else _tokens(choice.get("logprobs")),
            verbalized=answer.verbalized,
            request_id=request_id,
            model=str(body.get("model") or request.model),
            raw_usage=body["usage"],
        )


def request_body(request: ProviderRequest, asked: Asked) -> dict[str, Any]:
    """The request in OpenAI's format, with nothing that was not asked for: reasoning models refuse it."""
    messages = with_instruction(request.prompt.messages, asked.instruction)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_completion_tokens": request.max_output_tokens,
        "service_tier": "default",
    }
    if asked.logprobs:
        top = base.TOP_LOGPROBS_LABELS if request.prompt.labels else base.TOP_LOGPROBS_TEXT
        body.update(logprobs=True, top_logprobs=top)
    if asked.schema is not None:
        schema = {"name": SCHEMA_NAME, "strict": True, "schema": asked.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.prompt.sampling.temperature is not None:
        body["temperature"] = request.prompt.sampling.temperature
    if request.prompt.stop:
        body["stop"] = list(request.prompt.stop)
    return body


def usage(raw: Mapping[str, Any], *, service_tier: str | None) -> Usage:
    """OpenAI counts inclusively: cached tokens are part of the prompt, reasoning is part of the completion.

    It writes its cache at one rate, which stands in the price book for both of Anthropic's.
    """
    prompt = raw.get("prompt_tokens_details")
    return Usage(
        input_total=base.count(raw["prompt_tokens"]),
        output_total=base.count(raw["completion_tokens"]),
        cache_read=base.part(prompt, "cached_tokens"),
        cache_write_5m=base.part(prompt, "cache_write_tokens"),
        reasoning=base.part(raw.get("completion_tokens_details"), "reasoning_tokens"),
        service_tier="standard" if service_tier in (None, "default") else str(service_tier),
    )


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
