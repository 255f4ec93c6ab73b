"""What the sandbox did: calls by outcome, and the usage of what it answered."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

ANSWERED_MAX = 100_000


class Tally:
    """Counts since the last reset. `answered` is bounded; the sums in `usage` are of everything answered."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.usage: dict[str, dict[str, int]] = {}
        self.answered: deque[dict[str, Any]] = deque(maxlen=ANSWERED_MAX)
        self.in_flight = 0
        self.in_flight_max = 0

    def reset(self) -> None:
        """Zeroes everything but the calls in flight, which still have to end."""
        self.calls.clear()
        self.usage.clear()
        self.answered.clear()
        self.in_flight_max = self.in_flight

    def begin(self) -> None:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def end(self) -> None:
        self.in_flight -= 1

    def count(self, provider: str, model: str, outcome: str) -> None:
        self.calls[provider, model, outcome] += 1

    def answer(self, provider: str, model: str, request_id: str, usage: Mapping[str, Any]) -> None:
        """A call that was answered to the end, with the usage that a provider would bill."""
        self.count(provider, model, "answered")
        self.answered.append({"provider": provider, "model": model, "request_id": request_id, "usage": usage})
        sums = self.usage.setdefault(model, {})
        for name, count in usage.items():
            if type(count) is int:
                sums[name] = sums.get(name, 0) + count

    def report(self, *, with_answered: bool) -> dict[str, Any]:
        """Everything as JSON: `calls` by provider, model and outcome."""
        calls: dict[str, dict[str, dict[str, int]]] = {}
        for (provider, model, outcome), count in self.calls.items():
            calls.setdefault(provider, {}).setdefault(model, {})[outcome] = count
        report: dict[str, Any] = {
            "calls": calls,
            "usage": self.usage,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
        }
        if with_answered:
            report["answered"] = list(self.answered)
        return report
