"""The circuit breaker: its rules alone, shared by many processes through Valkey, and without Valkey."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from aigov import clock, embedded
from providers import breaker as breakers
from providers import circuit_store
from providers.breaker import Breaker, State, breaker, breaker_opened, shared_states, turn_switch
from providers.circuit import (
    COOL_DOWN_MAX_S,
    COOL_DOWN_S,
    FAILURES_MIN,
    LONGEST_S,
    OPEN_MAX_S,
    OPEN_S,
    OUT_OF_ORDER_S,
    UNTOUCHED,
    WINDOW_S,
    Circuit,
    Fault,
    Switch,
    after_answer_to_probe,
    after_failure,
    after_success,
    decoded,
    encoded,
    fault_of,
    in_force,
    replayed,
    standing,
    switched,
    wait_s,
)
from providers.circuit_store import CircuitStore, StoreUnavailable
from providers.errors import (
    BadCredentials,
    CallerError,
    ConnectionLost,
    ErrorAnswer,
    Malformed,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    SpendLimitReached,
    TimedOut,
)
from tests.services import SOURCE_FOLDER

NOW = 1_800_000_000.0
BROKEN = Fault("server_error")
MODEL = "gpt-4o-mini"
PROCESSES = 16
WAIT_S = 20.0

# --- The rules


def failures(count: int, circuit: Circuit = UNTOUCHED, *, now: float = NOW) -> Circuit:
    return replayed(circuit, [partial(after_failure, fault=BROKEN, now=now)] * count)


def successes(count: int, circuit: Circuit = UNTOUCHED, *, now: float = NOW) -> Circuit:
    return replayed(circuit, [partial(after_success, now=now)] * count)


@pytest.mark.parametrize("kind", [ServerError, Overloaded, TimedOut, ConnectionLost, NotSent, Malformed])
def test_five_failures_in_a_row_open_and_four_do_not(kind: type[ProviderError]) -> None:
    fault = fault_of(kind("broken"))
    assert fault == Fault(kind.kind)
    four = replayed(UNTOUCHED, [partial(after_failure, fault=fault, now=NOW)] * 4)
    assert standing(four, NOW) == "closed"
    five = after_failure(four, fault=fault, now=NOW)
    assert (standing(five, NOW), five.reason, five.opened_at) == ("open", kind.kind, NOW)


def test_what_is_the_callers_fault_or_ours_is_not_counted() -> None:
    assert fault_of(CallerError("wrong")) is None
    assert fault_of(NotSent("no time was left", kind="no_time_left")) is None
    assert fault_of(ErrorAnswer("of a kind that nobody knows")) is None


def test_half_of_the_calls_of_a_window_open_and_less_do_not() -> None:
    alternating = UNTOUCHED
    for _ in range(FAILURES_MIN - 1):
        alternating = failures(1, successes(1, alternating))
    assert standing(alternating, NOW) == "closed", "too few failures to judge by"
    assert standing(failures(1, successes(1, alternating)), NOW) == "open"
    assert standing(failures(1, successes(2, alternating)), NOW) == "closed", "5 of 11"


def test_a_rate_is_that_of_one_window_and_a_row_is_as_long_as_it_is() -> None:
    busy = successes(1_000, failures(4))
    assert standing(failures(4, busy, now=NOW + WINDOW_S - 1), NOW) == "closed"
    assert standing(failures(5, busy, now=NOW + WINDOW_S - 1), NOW + WINDOW_S - 1) == "open", "5 in a row"
    seldom = UNTOUCHED
    for number in range(FAILURES_MIN):
        seldom = failures(1, seldom, now=NOW + number * 3_600)
    assert standing(seldom, NOW + 4 * 3_600) == "open"
    in_two_windows = failures(2, successes(1, failures(4)), now=NOW + WINDOW_S)
    assert standing(in_two_windows, NOW + WINDOW_S) == "closed"


def test_each_opening_without_a_success_lasts_twice_as_long_up_to_the_limit() -> None:
    circuit, now, lasted = failures(5), NOW, []
    for _ in range(7):
        lasted.append(circuit.retry_at - now)
        assert standing(circuit, circuit.retry_at - 0.01) == "open"
        now = circuit.retry_at
        assert standing(circuit, now) == "half_open"
        circuit = failures(1, circuit, now=now)
    assert lasted == [OPEN_S, OPEN_S * 2, OPEN_S * 4, OPEN_S * 8, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S]


def test_a_success_in_half_open_closes_and_all_is_forgotten() -> None:
    open_twice = failures(1, failures(5), now=NOW + OPEN_S)
    later = NOW + OPEN_S * 3
    closed = successes(1, open_twice, now=later)
    assert closed == Circuit(since=later, successes=1)
    assert failures(5, closed, now=later).retry_at == later + OPEN_S


def test_outcomes_of_calls_from_before_it_opened_change_nothing() -> None:
    circuit = failures(5)
    assert successes(3, circuit) == failures(3, circuit) == circuit


@pytest.mark.parametrize(
    ("retry_after_s", "cools_s"),
    [(None, COOL_DOWN_S), (0.0, 0.0), (12.5, 12.5), (3_600.0, COOL_DOWN_MAX_S)],
)
def test_a_429_cools_down_for_as_long_as_is_asked_within_bounds(
    retry_after_s: float | None, cools_s: float
) -> None:
    fault = fault_of(RateLimited("slower", retry_after_s=retry_after_s))
    assert fault == Fault("rate_limited", cools_s)
    circuit = after_failure(successes(100), fault=fault, now=NOW)
    assert (circuit.retry_at, circuit.openings) == (NOW + cools_s, 0)
    assert standing(circuit, NOW + cools_s) == "half_open"


def test_a_second_429_may_lengthen_the_cool_down_and_not_shorten_it() -> None:
    circuit = after_failure(UNTOUCHED, fault=Fault("rate_limited", 10.0), now=NOW)
    assert after_failure(circuit, fault=Fault("rate_limited", 5.0), now=NOW) == circuit
    longer = after_failure(circuit, fault=Fault("rate_limited", 10.0), now=NOW + 1)
    assert (longer.opened_at, longer.retry_at) == (NOW, NOW + 11)


@pytest.mark.parametrize("kind", [BadCredentials, SpendLimitReached])
def test_what_only_a_person_can_mend_opens_at_once_and_for_long(kind: type[ProviderError]) -> None:
    fault = fault_of(kind("ours"))
    assert fault is not None
    circuit = after_failure(successes(100), fault=fault, now=NOW)
    assert (circuit.retry_at - NOW, circuit.reason) == (OUT_OF_ORDER_S, kind.kind)


@pytest.mark.parametrize(
    ("reason", "stands"),
    [
        ("refused_connection", "half_open"),
        ("connection_lost", "half_open"),
        ("bad_credentials", "half_open"),
        ("server_error", "open"),
        ("overloaded", "open"),
        ("rate_limited", "open"),
        ("spend_limit", "open"),
        ("timed_out", "open"),
    ],
)
def test_a_list_of_models_lets_only_those_try_early_that_it_proves_mended(reason: str, stands: str) -> None:
    circuit = after_failure(UNTOUCHED, fault=Fault(reason, 60.0), now=NOW)
    assert standing(after_answer_to_probe(circuit, now=NOW + 1), NOW + 1) == stands


def test_a_list_of_models_changes_nothing_in_a_circuit_that_is_not_open() -> None:
    half_open = after_failure(UNTOUCHED, fault=Fault("dns", 1.0), now=NOW)
    for circuit in (failures(4), half_open):
        assert after_answer_to_probe(circuit, now=NOW + 2) == circuit


def test_a_clock_that_was_wrong_keeps_nothing_open() -> None:
    tomorrow = failures(5, now=NOW + 86_400)
    assert standing(tomorrow, NOW) == "half_open"
    assert failures(1, successes(100, now=NOW + 86_400)).successes == 0, "a window of its own"


def test_a_switch_outlives_what_happens_to_the_calls() -> None:
    forced = failures(5, switched(UNTOUCHED, to="forced_closed"))
    assert successes(1, forced, now=NOW + OPEN_S).switch == "forced_closed"


OPEN, SHUT, AUTO = switched(UNTOUCHED, to="forced_open"), switched(UNTOUCHED, to="forced_closed"), UNTOUCHED


@pytest.mark.parametrize(
    ("own", "of_all_models", "stands"),
    [
        (AUTO, AUTO, "closed"),
        (failures(5), AUTO, "open"),
        (OPEN, AUTO, "open"),
        (SHUT, AUTO, "closed"),
        (failures(5, SHUT), AUTO, "closed"),
        (AUTO, OPEN, "open"),
        (failures(5), SHUT, "closed"),
        (SHUT, OPEN, "closed"),
        (OPEN, SHUT, "open"),
    ],
)
def test_a_switch_goes_before_the_rules_and_a_models_own_before_its_providers(
    own: Circuit, of_all_models: Circuit, stands: str
) -> None:
    assert in_force(own, of_all_models, NOW) == stands


@pytest.mark.parametrize(
    ("own", "of_all_models", "seconds"),
    [
        (AUTO, AUTO, 0),
        (failures(5), AUTO, OPEN_S),
        (failures(5, now=NOW - OPEN_S), AUTO, 0),
        (failures(5), SHUT, 0),
        (OPEN, AUTO, OPEN_MAX_S),
        (AUTO, OPEN, OPEN_MAX_S),
    ],
)
def test_how_long_it_is_to_be_left_alone(own: Circuit, of_all_models: Circuit, seconds: float) -> None:
    assert wait_s(own, of_all_models, NOW) == seconds


faults = st.sampled_from([BROKEN, Fault("rate_limited", 0.0), Fault("rate_limited", 40.0), Fault("x", 300.0)])
changes = st.one_of(
    st.just(partial(after_success)),
    faults.map(lambda fault: partial(after_failure, fault=fault)),
    st.just(partial(after_answer_to_probe)),
)
courses = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 4.0, 31.0, 400.0]), changes), max_size=40)


@given(courses)
def test_whatever_happens_it_is_tried_again_in_time_and_a_success_closes_it(
    course: list[tuple[float, partial[Circuit]]],
) -> None:
    circuit, now, row = UNTOUCHED, NOW, 0
    for pause_s, change in course:
        now += pause_s
        before = standing(circuit, now)
        circuit = change(circuit, now=now)
        row = 0 if change.func is after_success else row + (change.keywords.get("fault") == BROKEN)
        assert circuit.retry_at - now <= LONGEST_S
        assert before == "open" or row < FAILURES_MIN or standing(circuit, now) == "open"
        assert decoded(encoded(circuit)) == circuit
    later = now + LONGEST_S
    assert standing(circuit, later) != "open"
    assert standing(successes(1, circuit, now=later), later) == "closed"


@given(st.lists(st.booleans(), max_size=60))
def test_below_half_and_never_five_in_a_row_it_stays_closed(outcomes: list[bool]) -> None:
    """Each failure is followed by a success and a half, so there are always fewer than half."""
    circuit = successes(1)
    for fails in outcomes:
        circuit = successes(2, failures(1, circuit)) if fails else successes(1, circuit)
        assert standing(circuit, NOW) == "closed"


@given(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps))
def test_what_cannot_be_read_stops_no_call(text: str) -> None:
    assert decoded(text) == UNTOUCHED


@pytest.mark.parametrize("change", [{"switch": "ajar"}, {"retry_at": "soon"}, {"failures": None}])
def test_a_circuit_with_an_unknown_value_is_as_one_that_was_never_used(change: dict[str, object]) -> None:
    assert decoded(json.dumps({**json.loads(encoded(failures(5))), **change})) == UNTOUCHED


# --- Shared through Valkey


USUAL_WAIT_S = circuit_store.WAIT_S


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer to ask Valkey than a call would wait."""
    monkeypatch.setattr(circuit_store, "WAIT_S", WAIT_S)


@pytest.fixture
def provider() -> str:
    """One that no other test knows."""
    return f"provider-{uuid4().hex[:12]}"


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock on by so many seconds in all."""
    real_now = clock.now

    def move(seconds: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: real_now() + timedelta(seconds=seconds))

    return move


@asynccontextmanager
async def processes(count: int, url: str | None = None) -> AsyncIterator[list[Breaker]]:
    """As many breakers as so many processes have, whose views are refreshed by hand."""
    stores = [CircuitStore(url or settings.REDIS_URL) for _ in range(count)]
    try:
        yield [Breaker(store) for store in stores]
    finally:
        for store in stores:
            await store.aclose()


async def fail(process: Breaker, provider: str, times: int = 1, error: ProviderError | None = None) -> None:
    for _ in range(times):
        await process.failed(provider, MODEL, error or ServerError("broken"))


async def refresh(*all_processes: Breaker) -> None:
    """Twice, so that each knows what the last has told."""
    for process in all_processes * 2:
        await process.refresh()


async def state(process: Breaker, provider: str, model: str = MODEL) -> State:
    return (await process.states())[provider, model]


async def test_a_process_skips_a_model_as_soon_as_its_own_calls_have_failed(provider: str) -> None:
    async with processes(1) as [process]:
        assert await process.admits(provider, MODEL)
        await fail(process, provider, 4)
        assert await process.admits(provider, MODEL)
        await fail(process, provider)
        assert not await process.admits(provider, MODEL)
        assert await process.admits(provider, "another model")


async def test_failures_of_all_processes_open_the_circuit_for_all(provider: str) -> None:
    async with processes(3) as [one, two, idle]:
        await fail(one, provider, 3)
        await fail(two, provider, 2)
        await refresh(one, two, idle)
        for process in (one, two, idle):
            assert not await process.admits(provider, MODEL)
        seen = await state(idle, provider)
    assert (seen.state, seen.failures, seen.reason, seen.switch) == ("open", 5, "server_error", "automatic")
    assert seen.opened_at and seen.retry_at and seen.retry_at - seen.opened_at == timedelta(seconds=OPEN_S)
    assert shared_states()[provider, MODEL] == seen


async def test_no_outcome_is_lost_among_processes_that_write_at_the_same_time(provider: str) -> None:
    async with processes(8) as all_processes:
        await asyncio.gather(*(spend(process, provider) for process in all_processes))
        await refresh(*all_processes)
        seen = await state(all_processes[0], provider)
    assert (seen.successes, seen.failures) == (8 * 10 * 3, 8 * 10)


async def spend(process: Breaker, provider: str) -> None:
    for _ in range(10):
        for _ in range(3):
            await process.succeeded(provider, MODEL)
        await fail(process, provider)
        await process.refresh()


async def test_a_429_stops_all_processes_until_its_retry_after(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(2) as [one, two]:
        await fail(one, provider, error=RateLimited("slower", retry_after_s=20.0))
        await refresh(one, two)
        pass_time(19)
        assert not await one.admits(provider, MODEL)
        assert not await two.admits(provider, MODEL)
        pass_time(20.5)
        assert await two.admits(provider, MODEL)
        assert not await one.admits(provider, MODEL), "the other's call is the probe"


async def test_callers_errors_and_calls_without_a_verdict_open_nothing(provider: str) -> None:
    async with processes(1) as [process]:
        await fail(process, provider, 50, CallerError("wrong"))
        for _ in range(50):
            await process.released(provider, MODEL)
        await process.refresh()
        assert (provider, MODEL) not in await process.states()


# --- Half-open


async def half_open(provider: str, pass_time: Callable[[float], None], *all_processes: Breaker) -> None:
    await fail(all_processes[0], provider, 5)
    await refresh(*all_processes)
    pass_time(OPEN_S + 1)


async def test_recovery_is_found_by_one_probe_and_closes_the_circuit_for_all(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(3) as [one, two, three]:
        await half_open(provider, pass_time, one, two, three)
        assert [await each.admits(provider, MODEL) for each in (two, one, three, two)] == [True] + [False] * 3
        await two.succeeded(provider, MODEL)
        assert await two.admits(provider, MODEL)
        await refresh(two, one)
        for _ in range(10):
            assert await one.admits(provider, MODEL)
        assert (await state(one, provider)).opened_at is None


async def test_a_probe_that_fails_opens_the_circuit_for_twice_as_long(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        assert await one.admits(provider, MODEL)
        await fail(one, provider)
        assert not await one.admits(provider, MODEL)
        assert not await two.admits(provider, MODEL), "its view is old, and the window is not over"
        await refresh(one, two)
        pass_time(OPEN_S + 1 + OPEN_S * 2 - 1)
        assert not await two.admits(provider, MODEL)


async def test_who_takes_the_probe_late_sees_what_became_of_the_one_before(
    provider: str, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_store, "PROBE_WINDOW_S", 0.01)
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        assert await one.admits(provider, MODEL)
        await fail(one, provider)
        await one.refresh()
        await asyncio.sleep(0.05)  # the window is over, and the other's view is from before
        assert not await two.admits(provider, MODEL)


async def test_each_window_has_a_probe_of_its_own(
    provider: str, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        monkeypatch.setattr(circuit_store, "PROBE_WINDOW_S", 0.01)
        assert await one.admits(provider, MODEL)  # and its process dies
        await asyncio.sleep(0.05)
        assert await two.admits(provider, MODEL)


async def test_a_probe_without_a_verdict_leaves_its_place_to_another_call(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        assert await one.admits(provider, MODEL)
        await fail(one, provider, error=CallerError("wrong"))
        assert await two.admits(provider, MODEL)
        assert not await one.admits(provider, MODEL)


async def test_who_leaves_the_probes_place_may_take_it_again(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(1) as [process]:
        await half_open(provider, pass_time, process)
        for _ in range(3):
            assert await process.admits(provider, MODEL)
            await process.released(provider, MODEL)


async def test_who_leaves_late_does_not_leave_the_next_ones_place(
    provider: str, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with processes(3) as [one, two, three]:
        await half_open(provider, pass_time, one, two, three)
        with monkeypatch.context() as patch:
            patch.setattr(circuit_store, "PROBE_WINDOW_S", 0.01)
            assert await one.admits(provider, MODEL)
        await asyncio.sleep(0.05)
        assert await two.admits(provider, MODEL)
        await one.released(provider, MODEL)
        assert not await three.admits(provider, MODEL)


async def test_what_happens_during_a_refresh_is_not_forgotten(provider: str) -> None:
    async with processes(1) as [process]:
        await fail(process, provider)
        await process.refresh()
        refreshing = asyncio.create_task(process.refresh())
        await asyncio.sleep(0)
        await fail(process, provider, 4)
        assert not refreshing.done()
        await refreshing
        assert not await process.admits(provider, MODEL)
        await process.refresh()
    assert shared_states()[provider, MODEL].failures == 5


async def test_only_the_probe_itself_can_leave_its_place(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        assert await one.admits(provider, MODEL)
        await asyncio.create_task(one.released(provider, MODEL))  # a call that began before it opened
        assert not await two.admits(provider, MODEL)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(None, "closed"), (ServerError("broken"), "open"), (CallerError("wrong"), None), (KeyError(), None)],
)
async def test_a_watched_call_tells_how_it_ended(
    provider: str, pass_time: Callable[[float], None], error: Exception | None, verdict: str | None
) -> None:
    async with processes(2) as [one, two]:
        await half_open(provider, pass_time, one, two)
        assert await one.admits(provider, MODEL)
        with contextlib.suppress(ProviderError, KeyError):
            async with one.watched(provider, MODEL):
                if error:
                    raise error
        assert (await state(one, provider)).state == (verdict or "half_open")
        assert await two.admits(provider, MODEL) == (verdict is None)


def admitted(way: str, models: list[str]) -> dict[str, int]:
    """How many of 16 processes, at a barrier, may call each of the models, which are half-open."""
    past = clock.now().timestamp() - OPEN_S - 1
    with circuit_store.connected() as client:
        client.delete("race:at_barrier", "race:gate")
        circuits = {f"race/{model}": encoded(failures(5, now=past)) for model in models}
        client.hset(circuit_store.CIRCUITS, mapping=circuits)
    command = [sys.executable, "-m", "tests.breaker_worker", way, settings.REDIS_URL, str(PROCESSES), *models]
    done = subprocess.run(command, cwd=SOURCE_FOLDER, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_16_processes_in_half_open_send_one_probe() -> None:
    models = [uuid4().hex for _ in range(8)]
    assert admitted("shared", models) == dict.fromkeys(models, 1)


def test_control_to_look_and_then_to_set_sends_more_than_one_probe() -> None:
    models = [uuid4().hex for _ in range(8)]
    assert sum(admitted("get_then_set", models).values()) > len(models), "the race did not take place"


# --- The switch


@pytest.mark.parametrize("model", [MODEL, "*"])
async def test_a_switch_is_in_force_in_all_processes(provider: str, model: str) -> None:
    async with processes(2) as [one, two]:
        await one.switch(provider, model, to="forced_open")
        await two.refresh()
        assert not await one.admits(provider, MODEL)
        assert not await two.admits(provider, MODEL)
        await two.switch(provider, model, to="forced_closed")
        await fail(two, provider, 20)
        await refresh(one, two)
        assert await one.admits(provider, MODEL)
        assert (await state(one, provider)).switch == "forced_closed"


@pytest.mark.parametrize("to", ["automatic", "forced_closed", "forced_open"])
async def test_a_providers_switch_resets_its_models(provider: str, to: Switch) -> None:
    async with processes(2) as [one, two]:
        await fail(one, provider, 5)
        await one.switch(provider, "another", to="forced_closed")
        await two.refresh()
        await two.switch(provider, "*", to=to)
        await one.refresh()
        for model in (MODEL, "another", "*"):
            assert (await state(one, provider, model)).switch == to
            assert await one.admits(provider, model) == (to != "forced_open")


async def test_the_admin_sees_and_turns_the_same_switches(provider: str) -> None:
    async with processes(1) as [process]:
        await fail(process, provider, 5)
        await process.refresh()
        assert shared_states()[provider, MODEL].state == "open"
        turn_switch(provider=provider, model=MODEL, to="forced_closed")
        await process.refresh()
        assert await process.admits(provider, MODEL)
        turn_switch(provider=provider, model="*", to="forced_open")
        await process.refresh()
        assert not await process.admits(provider, MODEL)
        assert await state(process, provider) == shared_states()[provider, MODEL]


# --- In a running process


async def test_a_running_process_learns_by_itself_what_happens_elsewhere(provider: str) -> None:
    async with breaker_opened(), processes(1) as [elsewhere]:
        await fail(elsewhere, provider, 5)
        await elsewhere.refresh()
        await until(lambda: not_admitted(breaker(), provider))
        await breaker().failed(provider, "another", RateLimited("slower", retry_after_s=30.0))
        await until(lambda: told(provider, "another"))


async def not_admitted(process: Breaker, provider: str) -> bool:
    return not await process.admits(provider, MODEL)


async def told(provider: str, model: str) -> bool:
    return (provider, model) in shared_states()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # type: ignore[misc]
            await asyncio.sleep(0.02)


async def test_the_last_outcomes_are_told_when_a_process_ends(provider: str) -> None:
    async with breaker_opened():
        await breaker().succeeded(provider, MODEL)
        await asyncio.sleep(0)
        await breaker().succeeded(provider, MODEL)
    assert shared_states()[provider, MODEL].successes == 2
    with pytest.raises(LookupError):
        breaker()


async def test_a_defect_in_a_refresh_does_not_end_the_refreshing(
    provider: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with breaker_opened():
        with monkeypatch.context() as patch:
            patch.setattr(circuit_store, "decoded", None)
            async with asyncio.timeout(WAIT_S):
                while "could not be refreshed" not in caplog.text:
                    await asyncio.sleep(0.02)
        await breaker().succeeded(provider, MODEL)
        await until(lambda: told(provider, MODEL))


# --- Without Valkey


@contextlib.contextmanager
def silent_host() -> Iterator[str]:
    """A host that takes connections and never says a word; it is given up as soon as in production."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuit_store, "WAIT_S", USUAL_WAIT_S)
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    yield f"redis://127.0.0.1:{embedded.free_port()}/0"


HOSTS = [silent_host, closed_port]


@pytest.mark.parametrize("host", HOSTS)
async def test_without_valkey_each_process_goes_on_by_the_same_rules(
    host: Callable[[], contextlib.AbstractContextManager[str]],
    provider: str,
    pass_time: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with host() as url:
        async with processes(1, url) as [process]:
            for _ in range(4):
                assert await process.admits(provider, MODEL)
                await fail(process, provider)
            await process.refresh()
            await fail(process, provider)
            assert not await process.admits(provider, MODEL)
            pass_time(OPEN_S + 1)
            assert not await process.admits(provider, MODEL), "another process may have the fleet's probe"
            monkeypatch.setattr(breakers, "VIEW_S", 0.0)
            monkeypatch.setattr(circuit_store, "PROBE_WINDOW_S", 1.0)
            await until(lambda: process.admits(provider, MODEL))
            assert not await process.admits(provider, MODEL)
            await process.succeeded(provider, MODEL)
            assert await process.admits(provider, MODEL)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_hiccup_of_valkey_in_half_open_lets_no_second_probe_out(
    host: Callable[[], contextlib.AbstractContextManager[str]],
    provider: str,
    pass_time: Callable[[float], None],
) -> None:
    with host() as url:
        async with processes(1, url) as [process]:
            await fail(process, provider, 5)
            pass_time(OPEN_S + 1)
            for _ in range(3):
                assert not await process.admits(provider, MODEL)
                await process.released(provider, MODEL)


async def test_no_call_waits_for_a_valkey_that_is_away(provider: str) -> None:
    calls = 1_000
    with silent_host() as url:
        async with processes(1, url) as [process]:
            refreshing = asyncio.create_task(process.keep_fresh())
            began = time.monotonic()
            for number in range(calls):
                await process.admits(provider, f"{MODEL}-{number % 50}")
                await fail(process, provider)
                await asyncio.sleep(0)
            took_s = time.monotonic() - began
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
    # Each call's wait for Valkey alone would make minutes of it.
    assert took_s < calls * USUAL_WAIT_S / 20


async def test_a_switch_that_only_this_process_knows_of_is_an_error(provider: str) -> None:
    with closed_port() as url:
        async with processes(1, url) as [process]:
            with pytest.raises(StoreUnavailable):
                await process.switch(provider, MODEL, to="forced_open")
            assert not await process.admits(provider, MODEL)


def test_the_admin_is_told_that_valkey_is_away(settings: object, provider: str) -> None:
    with closed_port() as url:
        settings.REDIS_URL = url  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable):
            shared_states()
        with pytest.raises(StoreUnavailable):
            turn_switch(provider=provider, model=MODEL, to="forced_open")


@contextlib.contextmanager
def valkey(port: int) -> Iterator[None]:
    """A Valkey of its own, which is killed at the end and keeps nothing."""
    command = [str(embedded._valkey_server()), "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
                client.ping()
                break
            time.sleep(0.02)
        yield
    finally:
        server.kill()
        server.wait()


async def test_valkey_may_be_killed_and_gets_back_what_it_has_lost(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers, "RECONNECT_S", 0.05)
    port = embedded.free_port()
    async with processes(2, f"redis://127.0.0.1:{port}/0") as [one, two]:
        with valkey(port):
            await one.switch(provider, MODEL, to="forced_open")
            await two.refresh()
        for process in (one, two):
            await process.refresh()
            assert not await process.admits(provider, MODEL)
            await fail(process, provider, 5, TimedOut("away"))
            assert await process.admits(provider, "another model")
        await fail(one, "elsewhere", 5)
        with valkey(port):
            refreshing = asyncio.create_task(one.keep_fresh())
            await until(lambda: knows(two, "elsewhere"))
            assert not await two.admits(provider, MODEL)
            assert (await state(two, provider)).switch == "forced_open"
            assert not await two.admits("elsewhere", MODEL)
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing


async def knows(process: Breaker, provider: str) -> bool:
    await process.refresh()
    return (provider, MODEL) in await process.states()


async def test_a_valkey_that_was_emptied_unnoticed_gets_back_what_it_has_lost(provider: str) -> None:
    port = embedded.free_port()
    async with processes(2, f"redis://127.0.0.1:{port}/0") as [one, two]:
        with valkey(port):
            await one.switch(provider, "*", to="forced_closed")
            await two.refresh()
            with redis.Redis(port=port) as client:
                client.flushall()
            await fail(one, provider, 3)
            await two.succeeded(provider, MODEL)
            await refresh(two, one)
            seen = await state(two, provider)
    assert (seen.switch, seen.successes, seen.failures) == ("forced_closed", 1, 3)


async def test_a_call_that_is_cancelled_while_it_asks_leaves_the_connections_in_order(
    provider: str, pass_time: Callable[[float], None]
) -> None:
    async with processes(1) as [process]:
        await half_open(provider, pass_time, process)
        for _ in range(20):
            asking = asyncio.create_task(process.admits(provider, MODEL))
            await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        await process.refresh()
        assert (await state(process, provider)).failures == 5
