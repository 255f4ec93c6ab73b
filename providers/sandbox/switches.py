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
#: What may stand behind `429-spend-limit:`, by provider; the first is meant where nothing does.
SPEND_LIMITS: Mapping[str, tuple[str, ...]] = {
    "openai": (
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "credit_balance_exhausted",
        "insufficient_quota",
    ),
    "anthropic": ("enforced_spend_limit_reached", "contract_spend_limit_reached"),
}
#: No answer comes, or a broken one. They strike lists of models too.
UNANSWERED = ERROR_ANSWERS | {"reset", "hang", "trickle", "malformed"}
#: The answer is whole, but not as usual.
ANSWERED = frozenset(["refusal", "slow", "nousage"])
#: A number has to stand behind these: of events, of chunks with content, or of milliseconds.
NUMBERED = frozenset(["cut_after_chunk", "cut", "cutclean", "error", "slow"])
MODES = UNANSWERED | ANSWERED | NUMBERED | {"truncate", "stream_error"}
ALIASES = {"truncated": "truncate"}
MARKER = re.compile(
    r"\[\[(fault|delay|ttft|slow|confidence|content|tokens|cached|refuse)(?::(.*?))?((?:@[\w.\-]+)*)\]\]",
    re.DOTALL,
)
MARKERS_MAX = 20
DELAY_MS_MAX = 600_000
OUTPUT_TOKENS_MAX = 20_000


class BadSwitch(ValueError):
    """A switch that the sandbox does not have, or a value that it cannot take."""


@dataclass(slots=True)
class Fault:
    """Strikes calls of `provider` and `model` at `rate`, until `times` are used up.

    Args:
        stream: only streams, or only plain calls; None: both, as with `provider` and `model`.
    """

    mode: str
    provider: str | None = None
    model: str | None = None
    stream: bool | None = None
    rate: float = 1.0
    times: int | None = None
    retry_after: str | None = None

    def __post_init__(self) -> None:
        name, colon, argument = self.mode.partition(":")
        name = ALIASES.get(name, name)
        self.mode = f"{name}{colon}{argument}"
        if name not in MODES:
            raise BadSwitch(f"There is no fault “{name}”.")
        if name in NUMBERED and not argument.isdecimal():
            raise BadSwitch(f"{name} needs a number, as in {name}:3.")
        if (
            name == "429-spend-limit"
            and argument
            and not any(argument in codes for codes in SPEND_LIMITS.values())
        ):
            raise BadSwitch(f"There is no spend limit “{argument}”.")
        if not 0 <= self.rate <= 1:
            raise BadSwitch("A rate lies between 0 and 1.")

    @property
    def name(self) -> str:
        return self.mode.partition(":")[0]

    @property
    def argument(self) -> str | None:
        """What an error answer takes: the seconds of its Retry-After, or which spend limit it is."""
        return self.mode.partition(":")[2] or self.retry_after

    @property
    def number(self) -> int:
        """After how much it strikes, or how many milliseconds lie between chunks."""
        return int(self.mode.partition(":")[2] or 0)

    def meets(self, provider: str, model: str | None, stream: bool) -> bool:
        """Whether it is meant for such a call; a list of models has no model, and is no stream."""
        if self.provider not in (None, provider) or self.model not in (None, model):
            return False
        return self.stream in (None, stream) and (model is not None or self.name in UNANSWERED)


@dataclass(slots=True)
class BillFault:
    """Makes lines of the bills wrong: those of `provider`, `model` and UTC `day` (2026-11-23), where given.

    Args:
        percent: how much more they say than is right; a negative number: less.
        missing: they are not there.
    """

    provider: str | None = None
    model: str | None = None
    day: str | None = None
    percent: float = 0.0
    missing: bool = False

    def __post_init__(self) -> None:
        if type(self.percent) not in (int, float) or not -100 <= self.percent <= 1000:
            raise BadSwitch("A percentage lies between -100 and 1000.")


@dataclass(slots=True)
class Switches:
    """The switches for all calls; `chances` makes rates repeat themselves after a reset."""

    delay_ms: float = 0
    jitter_ms: float = 0
    chunk_delay_ms: float = 0
    ttft_ms: float = 0
    cache_tokens_min: int | None = None
    usage: dict[str, Any] | None = None
    confidence: float | None = None
    content: str | None = None
    faults: list[Fault] = field(default_factory=list)
    bill_faults: list[BillFault] = field(default_factory=list)
    bill_delay_h: float = 0
    bill_places: int | None = None
    chances: random.Random = field(default_factory=lambda: random.Random(1))

    def updated(self, values: Mapping[str, Any]) -> "Switches":
        """A copy with `values` set; what is not named stays. Raises BadSwitch."""
        values = {SHORT_NAMES.get(name, name): value for name, value in values.items()}
        for name, value in values.items():
            if name not in CONFIGURABLE:
                raise BadSwitch(f"There is no switch “{name}”.")
            if not isinstance(value, CONFIGURABLE[name]) or isinstance(value, bool):
                raise BadSwitch(f"“{name}” cannot be {value!r}.")
        if "faults" in values:
            values["faults"] = [_fault(one) for one in values["faults"]]
        if "bill_faults" in values:
            values["bill_faults"] = [_bill_fault(one) for one in values["bill_faults"]]
        return replace(self, **values)

    def strike(self, provider: str, model: str | None, *, stream: bool = False) -> Fault | None:
        """The first fault that strikes this call, counted as used."""
        for fault in self.faults:
            if not fault.meets(provider, model, stream):
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


SHORT_NAMES = {"slow": "chunk_delay_ms", "ttft": "ttft_ms", "delay": "delay_ms"}
CONFIGURABLE: dict[str, tuple[type, ...]] = {
    "delay_ms": (int, float),
    "jitter_ms": (int, float),
    "chunk_delay_ms": (int, float),
    "ttft_ms": (int, float),
    "cache_tokens_min": (int, type(None)),
    "usage": (dict, type(None)),
    "confidence": (int, float, type(None)),
    "content": (str, type(None)),
    "faults": (list,),
    "bill_faults": (list,),
    "bill_delay_h": (int, float),
    "bill_places": (int, type(None)),
}


def _fault(values: Any) -> Fault:
    known = get_type_hints(Fault)
    if not isinstance(values, dict) or "mode" not in values or not values.keys() <= known.keys():
        raise BadSwitch(f"A fault has a mode, and may have {', '.join(sorted(known))}.")
    try:
        return Fault(**{**values, "mode": str(values["mode"])})
    except TypeError as error:
        raise BadSwitch(f"A fault cannot be {values!r}.") from error


def _bill_fault(values: Any) -> BillFault:
    known = get_type_hints(BillFault)
    if not isinstance(values, dict) or not values.keys() <= known.keys():
        raise BadSwitch(f"A bill's fault may have {', '.join(sorted(known))}.")
    return BillFault(**values)


@dataclass(slots=True)
class Wishes:
    """What one call asks for, by its markers and its header."""

    fault: Fault | None = None
    delay_s: float = 0
    ttft_s: float | None = None
    pause_s: float | None = None
    confidence: float | None = None
    content: str | None = None
    tokens: int | None = None
    cached: int | None = None
    refuse: bool = False


def targets_of(model: Model, stream: bool) -> frozenset[str]:
    """Whom a marker's restriction may name in a call to `model`."""
    return frozenset(
        (model.size, model.provider, model.name, model.snapshot, "stream" if stream else "plain")
    )


def wishes_in(text: str, model: Model, stream: bool, header: str | None) -> Wishes:
    """The wishes of a call to `model` with this text and `x-sandbox-fault` header. Raises BadSwitch."""
    wishes = Wishes()
    if header or "[[" in text:
        for kind, value in _markers(text, header, targets_of(model, stream)):
            try:
                _note(wishes, kind, value)
            except ValueError as error:
                raise BadSwitch(f"[[{kind}:{value}]] cannot be read: {error}") from error
    return wishes


def _markers(text: str, header: str | None, targets: frozenset[str]) -> Iterator[tuple[str, str]]:
    if header:
        mode, *restrictions = header.split("@")
        if targets.issuperset(restrictions):
            yield "fault", mode
    for kind, value, restriction in MARKER.findall(text)[:MARKERS_MAX]:
        if targets.issuperset(restriction.split("@")[1:]):
            yield kind, value


def _note(wishes: Wishes, kind: str, value: str) -> None:
    match kind:
        case "fault":
            wishes.fault = wishes.fault or Fault(value)
        case "delay":
            wishes.delay_s = _seconds(value)
        case "ttft":
            wishes.ttft_s = _seconds(value)
        case "slow":
            wishes.pause_s = _seconds(value)
        case "confidence":
            wishes.confidence = min(max(float(value), 0.0001), 0.9999)
        case "content":
            wishes.content = value
        case "tokens":
            wishes.tokens = min(int(value), OUTPUT_TOKENS_MAX)
        case "cached":
            wishes.cached = max(0, int(value))
        case "refuse":
            wishes.refuse = True


def _seconds(milliseconds: str) -> float:
    return min(max(float(milliseconds), 0.0), DELAY_MS_MAX) / 1000
