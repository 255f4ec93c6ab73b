"""What became of circuits is noted once, whoever noticed it, and can be read as times of rest."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from aigov import clock
from providers import circuit_history, circuit_store
from providers.breaker import turn_switch
from providers.circuit import ALL_MODELS, OPEN_S
from providers.circuit_history import Rest, forget_turns, keep_turns, record_turns, rests, rests_of
from providers.circuit_store import Turn, connected, read_turns
from providers.models import CircuitTurn
from providers.tasks import forget_circuit_turns, keep_circuit_turns
from tests.test_providers_breaker import MODEL, WAIT_S, closed_port, fail, processes, refresh

AT = datetime(2026, 11, 3, 14, tzinfo=clock.now().tzinfo)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def patience(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer to ask Valkey than a call would wait."""
    monkeypatch.setattr(circuit_store, "WAIT_S", WAIT_S)


@pytest.fixture
def provider() -> str:
    """One that no other test knows."""
    return f"provider-{uuid4().hex[:12]}"


def waiting(provider: str) -> list[Turn]:
    with connected() as client:
        return [turn for turn in read_turns(client, 10_000) if turn.key[0] == provider]


def known(provider: str) -> list[Rest]:
    """All that the history says of a provider."""
    while keep_turns():
        pass
    keys = [(provider, MODEL), (provider, ALL_MODELS)]
    return rests(keys, clock.now() - timedelta(days=1), clock.now() + timedelta(days=1))


# --- From the store


async def test_each_turn_of_the_fleet_is_noted_once(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with processes(3) as [one, two, three]:
        await fail(one, provider, 3)
        await fail(two, provider, 3)
        await refresh(one, two, three)
        opened = waiting(provider)
        assert [turn.circuit.reason for turn in opened] == ["server_error"]
        later = clock.now() + timedelta(seconds=OPEN_S + 1)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert await three.admits(provider, MODEL)
        await three.succeeded(provider, MODEL)
        await refresh(one, two, three)
        assert [turn.circuit.retry_at > 0 for turn in waiting(provider)] == [True, False]


async def test_calls_that_turn_nothing_are_not_noted(provider: str) -> None:
    async with processes(1) as [process]:
        await fail(process, provider, 4)
        await refresh(process)
        await process.succeeded(provider, MODEL)
        await refresh(process)
    assert waiting(provider) == []


def test_an_operators_switch_is_in_the_history_of_each_model(provider: str) -> None:
    turn_switch(provider=provider, model=MODEL, to="forced_open")
    turn_switch(provider=provider, model=ALL_MODELS, to="forced_open")
    turn_switch(provider=provider, model=ALL_MODELS, to="automatic")
    found = {rest.model: rest for rest in known(provider)}
    assert {rest.standing for rest in found.values()} == {"forced_open"}
    assert found[ALL_MODELS].begin >= found[MODEL].begin
    assert all(rest.end is not None for rest in found.values()), "the models' own switches were reset"
    assert waiting(provider) == []


def test_two_that_take_the_turns_at_once_write_each_of_them_once(provider: str) -> None:
    for to in ("forced_open", "forced_closed", "automatic"):
        turn_switch(provider=provider, model=MODEL, to=to)  # type: ignore[arg-type]

    def keep(_number: int) -> None:
        try:
            keep_turns()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep, range(8)))
    switches = CircuitTurn.objects.filter(provider=provider).order_by("at").values_list("switch", flat=True)
    assert list(switches) == ["forced_open", "forced_closed", "automatic"]


def test_turns_wait_for_a_valkey_that_is_away(settings: object) -> None:
    with closed_port() as url:
        settings.REDIS_URL = url  # type: ignore[attr-defined]
        assert keep_circuit_turns() == 0


def test_the_stream_that_waits_is_bounded(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_store, "TURNS_MAX", 10)
    for to in ("forced_open", "automatic") * 10:
        turn_switch(provider=provider, model=MODEL, to=to)  # type: ignore[arg-type]
    with connected() as client:
        assert client.xlen(circuit_store.TURNS) == 10


def test_what_is_older_than_the_dashboards_look_back_is_forgotten(provider: str) -> None:
    now = clock.now()
    ages = [circuit_history.KEPT + timedelta(days=1), circuit_history.KEPT - timedelta(days=1)]
    record_turns(
        CircuitTurn(provider=provider, model=MODEL, at=now - age, switch="automatic") for age in ages
    )
    forget_circuit_turns()
    assert [turn.at for turn in CircuitTurn.objects.filter(provider=provider)] == [now - ages[1]]
    assert forget_turns(now - circuit_history.KEPT) == 0


# --- As times of rest


def turn(after_s: float, open_s: float | None = None, switch: str = "automatic") -> CircuitTurn:
    at = AT + after_s * SECOND
    retry_at = None if open_s is None else at + open_s * SECOND
    reason = "" if open_s is None else "server_error"
    return CircuitTurn(provider="p", model="m", at=at, retry_at=retry_at, reason=reason, switch=switch)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([turn(0)], []),
        ([turn(0, 5)], [("open", 0, 5), ("half_open", 5, None)]),
        ([turn(0, 5), turn(8)], [("open", 0, 5), ("half_open", 5, 8)]),
        (
            [turn(0, 5), turn(6, 10), turn(20)],
            [("open", 0, 5), ("half_open", 5, 6), ("open", 6, 16), ("half_open", 16, 20)],
        ),
        ([turn(0, 60), turn(2, 0), turn(3)], [("open", 0, 2), ("half_open", 2, 3)]),
        ([turn(0, switch="forced_open"), turn(9)], [("forced_open", 0, 9)]),
        ([turn(0, 5), turn(1, switch="forced_closed")], [("open", 0, 1)]),
    ],
)
def test_turns_mean_times_of_rest(
    turns: list[CircuitTurn], expected: list[tuple[str, float, float | None]]
) -> None:
    def seconds(at: datetime | None) -> float | None:
        return None if at is None else (at - AT).total_seconds()

    found = [(rest.standing, seconds(rest.begin), seconds(rest.end)) for rest in rests_of(turns)]
    assert found == expected


def test_what_began_before_a_period_reaches_into_it(provider: str) -> None:
    written = [turn(-100, 5), turn(-90, switch="forced_open"), turn(10), turn(3_000, 5), turn(4_000)]
    for each in written:
        each.provider, each.model = provider, MODEL
    record_turns(written)
    found = rests([(provider, MODEL)], AT, AT + 3_600 * SECOND)
    assert [(rest.standing, rest.begin, rest.end) for rest in found] == [
        ("forced_open", AT - 90 * SECOND, AT + 10 * SECOND),
        ("open", AT + 3_000 * SECOND, AT + 3_005 * SECOND),
        ("half_open", AT + 3_005 * SECOND, None),
    ]
    assert rests([("another", MODEL)], AT, AT + 3_600 * SECOND) == []
