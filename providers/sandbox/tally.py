"""What the sandbox did: calls by outcome, the usage of what it answered, and every call with its story.

What of it a provider would bill goes to the metering.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from providers.sandbox.metering import Metering

ROWS_MAX = 100_000


class Story:
    """A call from its arrival to its end; of a stream, how many chunks with content and tokens were sent."""

    __slots__ = (
        "arrived_at",
        "arrived_s",
        "provider",
        "model",
        "service_tier",
        "request_id",
        "stream",
        "begun",
        "chunks",
        "tokens",
    )

    def __init__(self, provider: str, model: str, request_id: str, *, stream: bool) -> None:
        self.arrived_at = time.time()
        self.arrived_s = time.monotonic()
        self.provider = provider
        self.model = model
        self.service_tier = ""
        self.request_id = request_id
        self.stream = stream
        self.begun = False
        self.chunks = 0
        self.tokens = 0

    def note(self, tokens: int) -> None:
        """An event of the stream was sent, with so many tokens of output; none where it has no content."""
        self.begun = True
        self.tokens += tokens
        self.chunks += bool(tokens)

    def row(self, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "request_id": self.request_id,
            "usage": usage,
            "stream": self.stream,
            "chunks": self.chunks,
            "arrived_at": self.arrived_at,
            "arrived_s": self.arrived_s,
        }


class Tally:
    """Counts since the last reset. The lists are bounded; the sums in `usage` are of everything answered."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.usage: dict[str, dict[str, int]] = {}
        self.metering = Metering()
        self.answered: deque[dict[str, Any]] = deque(maxlen=ROWS_MAX)
        self.cut: deque[dict[str, Any]] = deque(maxlen=ROWS_MAX)
        self.in_flight = 0
        self.in_flight_max = 0
        self.streams_open = 0
        self.streams_open_max = 0

    def reset(self) -> None:
        """Zeroes everything but the calls in flight, which still have to end."""
        self.calls.clear()
        self.usage.clear()
        self.metering = Metering()
        self.answered.clear()
        self.cut.clear()
        self.in_flight_max = self.in_flight
        self.streams_open_max = self.streams_open

    def begin(self, *, stream: bool) -> None:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        if stream:
            self.streams_open += 1
            self.streams_open_max = max(self.streams_open_max, self.streams_open)

    def end(self, *, stream: bool) -> None:
        self.in_flight -= 1
        if stream:
            self.streams_open -= 1

    def count(self, provider: str, model: str, outcome: str) -> None:
        self.calls[provider, model, outcome] += 1

    def answer(self, story: Story, usage: Mapping[str, Any]) -> None:
        """A call that was answered to the end, with the usage that a provider would bill."""
        self.count(story.provider, story.model, "answered")
        self.answered.append(story.row(usage))
        self._meter(story, usage)
        sums = self.usage.setdefault(story.model, {})
        for name, count in usage.items():
            if type(count) is int:
                sums[name] = sums.get(name, 0) + count

    def fail(self, story: Story, outcome: str, usage: Mapping[str, Any] | None, *, gone: bool) -> None:
        """A call that was not answered to the end.

        Args:
            usage: what a provider would bill all the same; None: nothing.
            gone: whether it was the client who went away.
        """
        self.count(story.provider, story.model, outcome)
        self.cut.append({**story.row(usage), "outcome": outcome, "gone": gone})
        if usage is not None:
            self._meter(story, usage)

    def _meter(self, story: Story, usage: Mapping[str, Any]) -> None:
        self.metering.note(story.provider, story.model, usage, service_tier=story.service_tier)

    def report(self, *, with_rows: bool) -> dict[str, Any]:
        """Everything as JSON: `calls` by provider, model and outcome."""
        calls: dict[str, dict[str, dict[str, int]]] = {}
        for (provider, model, outcome), count in self.calls.items():
            calls.setdefault(provider, {}).setdefault(model, {})[outcome] = count
        report: dict[str, Any] = {
            "calls": calls,
            "usage": self.usage,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "streams_open": self.streams_open,
            "streams_open_max": self.streams_open_max,
        }
        if with_rows:
            report["answered"] = list(self.answered)
            report["cut"] = list(self.cut)
        return report
