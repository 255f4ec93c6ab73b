"""OpenAI's chat completions, and every server that speaks that format."""

from collections.abc import Mapping
from typing import Any

import openai

from providers.adapters import base, openai_wire
from providers.adapters.openai_stream import OpenAIStream
from providers.adapters.transport import HEADERS, ProviderClient
from providers.answers import Asked
from providers.types import ProviderReply, ProviderRequest


class OpenAIAdapter(base.SdkAdapter):
    name = "openai"
    path = "/chat/completions"
    request_id_header = "x-request-id"
    sdk_error = openai.OpenAIError

    def __init__(self, *, api_key: str, base_url: str | None = None) -> None:
        http_client = ProviderClient()
        client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or "https://api.openai.com/v1",
            max_retries=0,
            default_headers=HEADERS,
            http_client=http_client,
        )
        super().__init__(client, http_client, logprobs=True)

    def _body(self, request: ProviderRequest, asked: Asked, *, stream: bool) -> dict[str, Any]:
        return openai_wire.request_body(request, asked, stream=stream)

    def _reply(
        self, body: Mapping[str, Any], request: ProviderRequest, asked: Asked, request_id: str | None
    ) -> ProviderReply:
        return openai_wire.reply(body, request, asked, request_id)

    def _streamed(self, request: ProviderRequest, asked: Asked, request_id: str | None) -> OpenAIStream:
        return OpenAIStream(request, asked, request_id)
