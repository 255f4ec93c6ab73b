"""What is to go wrong, how slowly, and which answer is forced: for all calls, or as one call asks for it."""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_type_hints

from providers.sandbox.catalogue import Model

ERROR_ANSWERS = frozenset(
    [
        "400",
        "401",
        "402",
        "403",
        "404",
        "413",
        "429",
        "500",
        "503",
        "504",
        "529",
        "429-spend-limit",
        "400-spend-limit",
    ]
)
MODES = ERROR_ANSWERS | frozenset(
    ["reset", "hang", "trickle", "malformed", "truncate", "cut_after_chunk", "stream_error", "refusal"]
)
MARKER = re.compile(r"\[\[(fault|delay|confidence|content|tokens):(.*?)((?:@[\w.\-]+)*)\]\]", re.DOTALL)
MARKERS_MAX = 20
DELAY_MS_MAX = 600_000
OUTPUT_TOKENS_MAX = 20_000


class BadSwitch(ValueError):
    """A switch that the sandbox does not have, or a value that it cannot take."""


@dataclass(slots=True)
class Fault:
    """Strikes calls of `provider` and `model` (None: any) at `rate`, until `times` are used up."""

    mode: str
    provider: str | None = None
    model: str | None = None
    rate: float = 1.0
    times: int | None = None
    retry_after: str | None = None

    def __post_init__(self) -> None:
        name, _, argument = self.mode.partition(":")
        if name not in MODES:
            raise BadSwitch(f"There is no fault “{name}”.")
        if name == "cut_after_chunk" and not argument.isdecimal():
            raise BadSwitch("cut_after_chunk needs a number of events, as in cut_after_chunk:3.")
        if argument and name in ERROR_ANSWERS:
            self.retry_after = argument
        if not 0 <= self.rate <= 1:
            raise BadSwitch("A rate lies between 0 and 1.")

    @property
    def name(self) -> str:
        return self.mode.partition(":")[0]

    @property
    def chunks(self) -> int:
        """After how many events `cut_after_chunk` cuts."""
        return int(self.mode.partition(":")[2] or 0)


@dataclass(slots=True)
class Switches:
    """The switches for all calls; `chances` makes rates repeat themselves after a reset."""

    delay_ms: float = 0
    jitter_ms: float = 0
    chunk_delay_ms: float = 0
    usage: dict[str, Any] | None = None
    confidence: float | None = None
    content: str | None = None
    faults: list[Fault] = field(default_factory=list)
    chances: random.Random = field(default_factory=lambda: random.Random(1))

    def updated(self, values: Mapping[str, Any]) -> "Switches":
        """A copy with `values` set; what is not named stays. Raises BadSwitch."""
        for name, value in values.items():
            if name not in CONFIGURABLE:
                raise BadSwitch(f"There is no switch “{name}”.")
            if not isinstance(value, CONFIGURABLE[name]) or isinstance(value, bool):
                raise BadSwitch(f"“{name}” cannot be {value!r}.")
        values = dict(values)
        if "faults" in values:
            values["faults"] = [_fault(one) for one in values["faults"]]
        return replace(self, **values)

    def strike(self, provider: str, model: str | None) -> Fault | None:
        """The first fault that strikes this call, counted as used."""
        for fault in self.faults:
            if fault.provider not in (None, provider) or fault.model not in (None, model):
                continue
            if fault.times == 0 or self.chances.random() >= fault.rate:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {name: values[name] for name in CONFIGURABLE}

    def delay_s(self) -> float:
        return (self.delay_ms + self.jitter_ms * self.chances.random()) / 1000


CONFIGURABLE: dict[str, tuple[type, ...]] = {
    "delay_ms": (int, float),
    "jitter_ms": (int, float),
    "chunk_delay_ms": (int, float),
    "usage": (dict, type(None)),
    "confidence": (int, float, type(None)),
    "content": (str, type(None)),
    "faults": (list,),
}


def _fault(values: Any) -> Fault:
    known = get_type_hints(Fault)
    if not isinstance(values, dict) or "mode" not in values or not values.keys() <= known.keys():
        raise BadSwitch(f"A fault has a mode, and may have {', '.join(sorted(known))}.")
    try:
        return Fault(**{**values, "mode": str(values["mode"])})
    except TypeError as error:
        raise BadSwitch(f"A fault cannot be {values!r}.") from error


@dataclass(slots=True)
class Wishes:
    """What one call asks for, by its markers and its header."""

    fault: Fault | None = None
    delay_s: float = 0
    confidence: float | None = None
    content: str | None = None
    tokens: int | None = None


def wishes_in(text: str, model: Model, header: str | None) -> Wishes:
    """The wishes of a call to `model` with this text and `x-sandbox-fault` header. Raises BadSwitch."""
    wishes = Wishes()
    for kind, value in _markers(text, header, model):
        try:
            _note(wishes, kind, value)
        except ValueError as error:
            raise BadSwitch(f"[[{kind}:{value}]] cannot be read: {error}") from error
    return wishes


def _markers(text: str, header: str | None, model: Model) -> Iterator[tuple[str, str]]:
    targets = {model.size, model.provider, model.name, model.snapshot}
    if header:
        mode, *restrictions = header.split("@")
        if targets.issuperset(restrictions):
            yield "fault", mode
    if "[[" in text:
        for kind, value, restriction in MARKER.findall(text)[:MARKERS_MAX]:
            if targets.issuperset(restriction.split("@")[1:]):
                yield kind, value


def _note(wishes: Wishes, kind: str, value: str) -> None:
    match kind:
        case "fault":
            wishes.fault = wishes.fault or Fault(value)
        case "delay":
            wishes.delay_s = min(float(value), DELAY_MS_MAX) / 1000
        case "confidence":
            wishes.confidence = min(max(float(value), 0.0001), 0.9999)
        case "content":
            wishes.content = value
        case "tokens":
            wishes.tokens = min(int(value), OUTPUT_TOKENS_MAX)
