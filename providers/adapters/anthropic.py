"""Anthropic's messages. There are no log-probabilities: the model says itself how sure it is."""

from collections.abc import Mapping
from typing import Any

import anthropic

from providers.adapters import anthropic_wire, base
from providers.adapters.anthropic_stream import AnthropicStream
from providers.adapters.transport import HEADERS, ProviderClient
from providers.answers import Asked
from providers.types import ProviderReply, ProviderRequest


class AnthropicAdapter(base.SdkAdapter):
    name = "anthropic"
    path = "/v1/messages"
    request_id_header = "request-id"
    sdk_error = anthropic.AnthropicError

    def __init__(self, *, api_key: str, base_url: str | None = None) -> None:
        http_client = ProviderClient()
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url or "https://api.anthropic.com",
            max_retries=0,
            open_telemetry=False,
            default_headers=HEADERS,
            http_client=http_client,
        )
        super().__init__(client, http_client, logprobs=False)

    def _body(self, request: ProviderRequest, asked: Asked, *, stream: bool) -> dict[str, Any]:
        return anthropic_wire.request_body(request, asked, stream=stream)

    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
        return anthropic_wire.reply(body, request, asked, request_id)

    def _streamed(self, request: ProviderRequest, asked: Asked, request_id: str | None) -> AnthropicStream:
        return AnthropicStream(request, asked, request_id)
