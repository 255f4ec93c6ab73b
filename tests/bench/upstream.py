"""A provider that answers at once: OpenAI's chat completions, with usage and log-probabilities.

python -m tests.bench.upstream PORT

It thinks about nothing, so that what is measured is the gateway: a request that wants 20 alternatives (which
is how labels are asked for) gets a label, any other one a short text. `PUT /delay/60` lets it wait 60 ms
before each answer from then on, as a model does.
"""

import asyncio
import json
import re
import sys
from itertools import count
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
TEXT = "The contract runs for two years, and either side may end it with a notice of three months ."
LABELS = ("A", "B", "C")


def token(text: str, alternatives: tuple[str, ...]) -> dict[str, Any]:
    """A token of probability 0.95, and what else could have stood there."""
    top = [{"token": text, "logprob": -0.05, "bytes": list(text.encode())}]
    top += [{"token": other, "logprob": -3.2 - at, "bytes": None} for at, other in enumerate(alternatives)]
    return {**top[0], "top_logprobs": top}


def completion(tokens: list[dict[str, Any]]) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(token["token"] for token in tokens).strip()},
        "logprobs": {"content": tokens, "refusal": None},
        "finish_reason": "stop",
    }
    usage = {
        "prompt_tokens": 60,
        "completion_tokens": len(tokens),
        "total_tokens": 60 + len(tokens),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_767_225_600,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [choice],
            "usage": usage,
            "service_tier": "default",
        }
    ).encode()


def answer_to(body: bytes) -> bytes:
    if body and json.loads(body).get("top_logprobs") == 20:
        return LABEL_ANSWER
    return TEXT_ANSWER


LABEL_ANSWER = completion([token("A", (*LABELS[1:], *(f" {at}" for at in range(17))))])
TEXT_ANSWER = completion([token(f" {word}", (" a", " b", " c", " d")) for word in TEXT.split()])


class Upstream(asyncio.Protocol):
    """A connection; requests follow each other on it."""

    numbers = count(1)
    delay_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, whole, rest = self.received.partition(b"\r\n\r\n")
        length = int(found[1]) if (found := LENGTH.search(head)) else 0
        if whole and len(rest) >= length:
            self.received = rest[length:]
            self.answer(head.split(b" ", 2)[1], rest[:length])

    def answer(self, path: bytes, body: bytes) -> None:
        if path.startswith(b"/delay/"):
            Upstream.delay_s = int(path.removeprefix(b"/delay/")) / 1000
            self.write(b"{}")
        elif Upstream.delay_s:
            asyncio.get_running_loop().call_later(Upstream.delay_s, self.write, answer_to(body))
        else:
            self.write(answer_to(body))

    def write(self, body: bytes) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req-%d\r\n"
            b"Content-Length: %d\r\n\r\n"
        )
        self.transport.write(head % (next(self.numbers), len(body)) + body)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
