"""A local stand-in for both providers: small, fast, deterministic, and awkward on request.

    python -m providers.sandbox --port 9100 [--host 127.0.0.1]

It speaks the wire formats of OpenAI (`POST /v1/chat/completions`) and Anthropic (`POST /v1/messages`),
plain and streaming, and `GET /v1/models` of both, so that the official SDKs run unchanged against it.
It needs neither Django nor a network, and it charges nothing.

A call goes: wire format in (`openai_wire`, `anthropic_wire`) → is something to go wrong? (`faults`)
→ what would a model of that size say? (`brain`, from `tasks`, `prose`, `schemas` and `tokens`)
→ wire format out → counted (`tally`). `app` tells that story; `catalogue` holds the models.

What one call shall do can be asked for from outside, so that a test can drive it through a gateway:

- a header: `x-sandbox-fault: 500@small`;
- markers anywhere in the text that is sent: `[[fault:MODE]]`, `[[delay:200]]` (milliseconds),
  `[[confidence:0.3]]`, `[[content:any text]]`, `[[tokens:500]]` (so many tokens of output);
  `@small`, `@large`, `@openai`, `@anthropic` or a model's name at the end of a marker restrict it,
  several together must all hold: `[[fault:429:2@small@openai]]`;
- for all calls: `POST /sandbox/config` with any of
  `{"delay_ms": 0, "jitter_ms": 0, "chunk_delay_ms": 0, "usage": null, "confidence": null, "content": null,
  "faults": [{"provider": null, "model": null, "mode": "500", "rate": 1.0, "times": null,
  "retry_after": "1"}]}`;
  `usage` is returned to the letter, `times` is how often a fault strikes before it is spent.

`MODE` is one of
`reset` (RST before an answer), `hang` (never answers), `trickle` (keep-alives, never an answer),
`malformed` (200 with broken JSON), `truncate` (headers and half the body, then the connection closes),
`cut_after_chunk:K` (a stream ends after K events; a plain answer is truncated),
`stream_error` (an error event after a stream's first events; 500 on a plain call),
`refusal` (answered and billed, with nothing in it),
or an error answer: `400 401 402 403 404 413 429 500 503 504 529 429-spend-limit 400-spend-limit`;
`429:2` sends `retry-after: 2`.

`GET /sandbox/stats` counts calls by provider, model and outcome, sums the usage of what was answered
(`usage`), and lists the latest answered calls with their usage (`answered`; `?answered=0` leaves it out).
`POST /sandbox/reset` zeroes the counts and takes back every switch. `abandoned` are calls whose client
was gone before the answer.
"""
