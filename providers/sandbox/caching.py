"""The provider's prompt cache: what of a prompt was written to it, and what was read.

A prompt is a row of segments; some end with a breakpoint. The first prompt with a breakpoint writes what
comes before it, and every later one that begins in the same way reads it. Nothing expires, so that the same
calls always count the same; a reset empties the cache.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from providers.sandbox.tokens import estimate

ENTRIES_MAX = 10_000
Lifetime = Literal["5m", "1h"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt: its text, further tokens (of an image), and the breakpoint at its end.

    One that is not `counted` only tells prompts apart.
    """

    text: str
    tokens: int = 0
    lifetime: Lifetime | None = None
    counted: bool = True

    @property
    def length(self) -> int:
        """In tokens."""
        return estimate(self.text) + 3 + self.tokens if self.counted else 0


@dataclass(frozen=True, slots=True)
class Cached:
    """Tokens of a prompt that were read from the cache, or written to it; the others are neither."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        return self.read + self.written_5m + self.written_1h


class PromptCache:
    """What was written, for all callers alike."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, None] = OrderedDict()

    def reset(self) -> None:
        self._entries.clear()

    def use(self, model: str, segments: Sequence[Segment], *, least: int, most: int) -> Cached:
        """What a prompt of `segments` reads and writes; afterwards all of it is there.

        Args:
            least: shorter prefixes (in tokens) are not kept.
            most: the prompt's tokens, which the parts never pass.
        """
        prefix, length, seen = blake2b(model.encode()), 0, 0
        read, written = 0, {"5m": 0, "1h": 0}
        for segment in segments:
            prefix.update(f"{len(segment.text)}:{segment.tokens}:{segment.text}".encode())
            length = min(most, length + segment.length)
            if segment.lifetime is None or length < least:
                continue
            key = prefix.digest()
            if key in self._entries:
                read, written = length, {"5m": 0, "1h": 0}
            else:
                written[segment.lifetime] += length - seen
            seen = length
            self._keep(key)
        return Cached(read, written["5m"], written["1h"])

    def _keep(self, key: bytes) -> None:
        self._entries[key] = None
        self._entries.move_to_end(key)
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)
