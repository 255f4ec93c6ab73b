"""A local stand-in for both providers: small, fast, deterministic, and awkward on request.

    python -m providers.sandbox --port 9100 [--host 127.0.0.1]

It speaks the wire formats of OpenAI (`POST /v1/chat/completions`) and Anthropic (`POST /v1/messages`),
plain and streaming, and `GET /v1/models` of both, so that the official SDKs run unchanged against it.
It needs neither Django nor a network, and it charges nothing.

A call goes: wire format in (`openai_request`, `anthropic_request`) → what is to go wrong, and how slowly?
(`switches`) → what would a model of that size say, and which tools would it call? (`brain`, `tools`, from
`tasks`, `prose`, `schemas` and `tokens`) → wire format out (`openai_wire`, `anthropic_wire`) → on its way,
whole or broken (`reply`) → counted (`tally`). `app` tells that story; `catalogue` holds the models; `images`
and `caching` count what a prompt has besides text.

Markers in the text that is sent (`[[fault:500@small]]`, `[[tool:get_time]]`), switches for all calls, faults
and counts: `docs/sandbox.md`.
"""
