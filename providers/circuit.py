"""When a circuit opens and when it closes: the rules alone, without a clock, a network or a store.

    closed ── 5 failures in a row, or 5 in 30 s that are half of the calls ──▶ open, 5 s
       ▲                                                                        │ its time is over
       └───────── a success ───────── half-open: one probe at a time ◀──────────┘
                                          └── a failure ──▶ open, twice as long each time, 60 s at most

Five in a row is Envoy's rule (`outlier_detection.consecutive_5xx`), the rate is that of resilience4j
(`failureRateThreshold` with a minimum of calls). Three answers open a circuit at once: a 429 for as long as
the provider asks, refused credentials and a reached spending limit for 5 minutes, since only a person can
mend them. What is the caller's fault, or ours, says nothing of the model and is not counted.

Instants are seconds since the epoch: all processes look at the same circuits.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Literal, get_args

from providers.errors import (
    BadCredentials,
    ConnectionLost,
    Malformed,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    SpendLimitReached,
    TimedOut,
)

FAILURES_MIN = 5
FAILURE_RATE_MIN = 0.5
WINDOW_S = 30.0
OPEN_S = 5.0
OPEN_MAX_S = 60.0
#: For a 429 without a Retry-After, and at most.
COOL_DOWN_S = 5.0
COOL_DOWN_MAX_S = 300.0
OUT_OF_ORDER_S = 300.0
#: No rule opens a circuit for longer: a retry further away comes from a clock that was wrong.
LONGEST_S = 300.0

COUNTED = (ServerError, Overloaded, TimedOut, ConnectionLost, NotSent, Malformed)
#: Kinds of failure that a provider has got over when it lists its models again.
MENDED_BY_AN_ANSWER = frozenset(
    {"refused_connection", "dns", "tls", "connect_timeout", "connection_lost", "bad_credentials"}
)

Key = tuple[str, str]  # provider, model
Standing = Literal["closed", "half_open", "open"]
Switch = Literal["forced_open", "forced_closed", "automatic"]

#: In a model's place: the switch of all models of a provider that have none of their own.
ALL_MODELS = "*"


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of one model of a provider.

    Args:
        since: when the window began in which `successes` and `failures` are counted.
        in_a_row: failures since the last success, whenever they were.
        openings: how often it opened without a success in between; the open time goes by it.
        opened_at: 0 while it is closed.
        down_since: when it opened first without a success since; 0 while it is closed.
        reason: the kind of failure that opened it.
    """

    since: float = 0.0
    successes: int = 0
    failures: int = 0
    in_a_row: int = 0
    openings: int = 0
    opened_at: float = 0.0
    down_since: float = 0.0
    retry_at: float = 0.0
    reason: str = ""
    switch: Switch = "automatic"


#: What happens to a circuit; done again where another process was faster.
Change = Callable[[Circuit], Circuit]

UNTOUCHED = Circuit()


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure that says something of the model; with `opens_for_s` it opens the circuit by itself."""

    kind: str
    opens_for_s: float | None = None


def fault_of(error: ProviderError) -> Fault | None:
    """What `error` says of the model; None where it is the caller's fault or ours."""
    if isinstance(error, RateLimited):
        asked_s = COOL_DOWN_S if error.retry_after_s is None else error.retry_after_s
        return Fault(error.kind, min(max(asked_s, 0.0), COOL_DOWN_MAX_S))
    if isinstance(error, BadCredentials | SpendLimitReached):
        return Fault(error.kind, OUT_OF_ORDER_S)
    if isinstance(error, COUNTED) and error.kind != "no_time_left" and error.blames_model:
        return Fault(error.kind)
    return None


def standing(circuit: Circuit, now: float) -> Standing:
    """How the circuit stands by itself, whatever its switch."""
    if not circuit.opened_at:
        return "closed"
    return "open" if 0 < circuit.retry_at - now <= LONGEST_S else "half_open"


def in_force(circuit: Circuit, all_models: Circuit, now: float) -> Standing:
    """How the circuit stands with its switch, or else with that of all the provider's models."""
    switch = switch_in_force(circuit, all_models)
    if switch == "automatic":
        return standing(circuit, now)
    return "open" if switch == "forced_open" else "closed"


def switch_in_force(circuit: Circuit, all_models: Circuit) -> Switch:
    return all_models.switch if circuit.switch == "automatic" else circuit.switch


def wait_s(circuit: Circuit, all_models: Circuit, now: float) -> float:
    """In how many seconds a call may be sent; 0 where one may be now.

    How long an operator keeps a model off, nobody knows: then as long as failures keep it open at most.
    """
    if in_force(circuit, all_models, now) != "open":
        return 0.0
    if switch_in_force(circuit, all_models) == "forced_open":
        return OPEN_MAX_S
    return circuit.retry_at - now


# --- Changes


def after_success(circuit: Circuit, *, now: float) -> Circuit:
    stands = standing(circuit, now)
    if stands == "open":
        return circuit  # the call was sent before it opened
    if stands == "half_open":
        return Circuit(since=now, successes=1, switch=circuit.switch)
    circuit = _in_window(circuit, now)
    return replace(circuit, successes=circuit.successes + 1, in_a_row=0)


def after_failure(circuit: Circuit, *, fault: Fault, now: float) -> Circuit:
    stands = standing(circuit, now)
    if fault.opens_for_s is not None:
        return _held_open(circuit, fault, now + fault.opens_for_s, now)
    if stands == "open":
        return circuit  # the call was sent before it opened
    circuit = _in_window(circuit, now)
    circuit = replace(circuit, failures=circuit.failures + 1, in_a_row=circuit.in_a_row + 1)
    return _opened(circuit, fault, now) if stands == "half_open" or _trips(circuit) else circuit


def after_answer_to_probe(circuit: Circuit, *, now: float) -> Circuit:
    """The provider lists its models again: if that was what failed, a call may try before its time."""
    if standing(circuit, now) == "open" and circuit.reason in MENDED_BY_AN_ANSWER:
        return replace(circuit, retry_at=now)
    return circuit


def switched(circuit: Circuit, *, to: Switch) -> Circuit:
    """A switch that is turned starts anew: what was counted before is forgotten."""
    return Circuit(switch=to)


def looks_the_same(one: Circuit, other: Circuit) -> bool:
    """Whether people would see both alike: open or closed, until when, and by which switch."""
    return (one.retry_at, one.switch) == (other.retry_at, other.switch)


def replayed(circuit: Circuit, changes: Iterable[Change]) -> Circuit:
    return reduce(lambda done, change: change(done), changes, circuit)


def _in_window(circuit: Circuit, now: float) -> Circuit:
    # Another process may have begun the window a little later, or with a clock that is a little ahead.
    if abs(now - circuit.since) < WINDOW_S:
        return circuit
    return replace(circuit, since=now, successes=0, failures=0)


def _trips(circuit: Circuit) -> bool:
    calls = circuit.successes + circuit.failures
    often = circuit.failures >= FAILURES_MIN and circuit.failures >= FAILURE_RATE_MIN * calls
    return often or circuit.in_a_row >= FAILURES_MIN


def _opened(circuit: Circuit, fault: Fault, now: float) -> Circuit:
    open_s = min(OPEN_S * 2.0 ** min(circuit.openings, 10), OPEN_MAX_S)
    openings = circuit.openings + 1
    return replace(
        circuit,
        openings=openings,
        opened_at=now,
        down_since=circuit.down_since or now,
        retry_at=now + open_s,
        reason=fault.kind,
    )


def _held_open(circuit: Circuit, fault: Fault, until: float, now: float) -> Circuit:
    stands = standing(circuit, now)
    if stands == "open" and until <= circuit.retry_at:
        return circuit
    opened_at = circuit.opened_at if stands == "open" else now
    down_since = circuit.down_since or now
    return replace(circuit, opened_at=opened_at, down_since=down_since, retry_at=until, reason=fault.kind)


# --- As text


def encoded(circuit: Circuit) -> str:
    return json.dumps(asdict(circuit))


def decoded(text: str) -> Circuit:
    """The circuit that `text` holds; an untouched one where it cannot be read, for calls shall go on."""
    try:
        values = json.loads(text)
        circuit = Circuit(**{name: type(usual)(values[name]) for name, usual in asdict(UNTOUCHED).items()})
    except (ValueError, TypeError, LookupError, OverflowError):
        return UNTOUCHED
    return circuit if circuit.switch in get_args(Switch) else UNTOUCHED
