"""How much is let in: what is under way, and what a key sends in a minute; with and without Valkey."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from redis.asyncio import Redis

from aigov import background, database, snapshots
from aigov.embedded import free_port
from aigov.errors import BudgetUnavailable, Overloaded, RateLimited
from aigov.organizations.models import Organization
from aigov.organizations.principals import Principal
from aigov.registry import keys as registry_keys
from aigov.registry.json_values import InvalidValue
from aigov.registry.snapshot import SETTINGS
from aigov.registry.values import set_value
from aigov.web import limits
from aigov.web.errors import headers_of
from aigov.web.limits import IN_FLIGHT, InFlight, RequestRates, Slot, admit, duration_text
from tests.idempotency_worker import PATIENCE

Make = Callable[..., Organization]

IN_FLIGHT_KEY, RATE_KEY = "ai.limits.in_flight", "ai.limits.requests_per_minute"
WAIT_S = 60.0


@pytest.fixture(autouse=True)
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    # However slow the machine is, neither store is taken for away.
    monkeypatch.setattr(limits, "WAIT_S", WAIT_S)
    monkeypatch.setattr(snapshots, "STALE_AFTER_S", WAIT_S)
    monkeypatch.setattr(snapshots, "FIRST_LOAD_WAIT_S", WAIT_S)
    for name, patient in PATIENCE.items():
        monkeypatch.setattr(database, name, patient)
    before = IN_FLIGHT.total
    async with database.pool_opened(), snapshots.kept_fresh(), limits.rates_opened():
        yield
        await background.drained(wait_s=WAIT_S)
    assert IN_FLIGHT.total == before, "a slot was not given back"


@pytest.fixture
async def valkey(settings: Any) -> AsyncIterator[Redis]:
    async with client_of(settings.REDIS_URL) as client:
        yield client


def client_of(url: str) -> Redis:
    """A client that is as patient as a slow machine asks for."""
    return Redis.from_url(url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)


def principal_of(organization: Organization, *, key_id: str | None = None) -> Principal:
    return Principal(
        organization_id=organization.pk,
        organization_name=organization.name,
        tenant_id=organization.tenant_id,
        time_zone=organization.time_zone,
        key_id=key_id or uuid4().hex[:10],
        scopes=frozenset(),
    )


async def limit(organization: Organization, key: str, value: int | None) -> None:
    await sync_to_async(set_value)(
        key=key,
        scope="organization",
        organization=organization,
        value=value,
        acting="the tests",
        reason="a test",
    )
    await SETTINGS.refresh()


# --- The settings


@pytest.mark.parametrize(("name", "default"), [(IN_FLIGHT_KEY, 1_000), (RATE_KEY, None)])
def test_the_limits_are_settings_of_everybody_a_tenant_or_an_organization(name: str, default: Any) -> None:
    key = registry_keys.find(name)
    assert (key.type, key.scopes, key.default) == ("integer", ("global", "tenant", "organization"), default)
    for wrong in (0, -1, 1.5, "10", True):
        with pytest.raises(InvalidValue):
            registry_keys.check_value(key, wrong)


# --- In flight


def take(in_flight: InFlight, organization_id: int) -> Slot:
    return in_flight.take(organization_id, process_max=5, organization_max=3)


def test_an_organization_gets_no_more_than_its_places_and_others_get_theirs() -> None:
    in_flight = InFlight()
    slots = [take(in_flight, 1) for _ in range(3)]
    with pytest.raises(Overloaded) as refused:
        take(in_flight, 1)
    assert refused.value.metadata == {"scope": "organization"}
    slots.append(take(in_flight, 2))
    slots[0].release()
    slots[0].release()
    slots.append(take(in_flight, 1))
    with pytest.raises(Overloaded):
        take(in_flight, 1)
    assert (in_flight.of(1), in_flight.of(2), in_flight.total) == (3, 1, 4)


def test_a_process_takes_no_more_than_it_can() -> None:
    in_flight = InFlight()
    slots = [take(in_flight, organization_id) for organization_id in (1, 1, 2, 2, 3)]
    with pytest.raises(Overloaded) as refused:
        take(in_flight, 4)
    assert refused.value.metadata == {"scope": "process"}
    for slot in slots:
        slot.release()
    assert (in_flight.total, in_flight.of(1)) == (0, 0)
    assert not in_flight._of, "organizations of long ago are not kept"


def test_being_overloaded_is_503_with_an_invitation_to_repeat() -> None:
    error = limits._overloaded("Too much.", "process")
    assert (error.status, error.code) == (503, "overloaded")
    assert headers_of(error) == {"x-should-retry": "true", "Retry-After": "1"}


def test_a_place_is_given_back_at_the_end_of_its_block_however_it_ends() -> None:
    in_flight = InFlight()
    with pytest.raises(ZeroDivisionError), take(in_flight, 1):
        assert in_flight.total == 1
        raise ZeroDivisionError
    assert in_flight.total == 0


async def test_the_setting_and_the_environment_say_how_many(
    organization: Organization, settings: Any
) -> None:
    principal = principal_of(organization)
    await limit(organization, IN_FLIGHT_KEY, 2)
    with await admit(principal), await admit(principal):
        with pytest.raises(Overloaded) as refused:
            await admit(principal)
        assert refused.value.metadata == {"scope": "organization"}
        settings.IN_FLIGHT_MAX = IN_FLIGHT.total
        await limit(organization, IN_FLIGHT_KEY, 3)
        with pytest.raises(Overloaded) as refused:
            await admit(principal)
        assert refused.value.metadata == {"scope": "process"}
    with await admit(principal):
        pass


async def test_a_place_is_taken_until_the_work_ends_not_the_client(organization: Organization) -> None:
    await limit(organization, IN_FLIGHT_KEY, 1)
    principal, begun, end = principal_of(organization), asyncio.Event(), asyncio.Event()

    async def work(slot: Slot) -> None:
        with slot:
            begun.set()
            await end.wait()

    async def request() -> None:
        slot = await admit(principal)
        await asyncio.shield(background.spawn(work(slot), name="work"))

    client = asyncio.create_task(request())
    await begun.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    with pytest.raises(Overloaded):
        await admit(principal)
    end.set()
    await background.drained(wait_s=WAIT_S)
    with await admit(principal):
        pass


async def test_what_is_refused_for_lack_of_places_is_not_counted(
    organization: Organization, valkey: Redis
) -> None:
    principal = principal_of(organization)
    await limit(organization, IN_FLIGHT_KEY, 1)
    with await admit(principal):
        await limit(organization, RATE_KEY, 5)
        with pytest.raises(Overloaded):
            await admit(principal)
    assert await valkey.get(f"aigov:rate:{principal.key_id}") is None


async def test_a_process_that_cannot_know_the_limits_lets_nobody_in(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "STALE_AFTER_S", -1.0)
    with pytest.raises(BudgetUnavailable):
        await admit(principal_of(organization))


# --- The request rate


async def test_as_long_as_it_is_off_valkey_is_not_asked(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count(rates: RequestRates, key_id: str, *, per_minute: int) -> None:
        raise AssertionError("Valkey was asked")

    monkeypatch.setattr(RequestRates, "count", count)
    with await admit(principal_of(organization)) as slot:
        assert slot.headers == {}


async def test_a_key_may_send_a_minutes_requests_and_is_told_how_many_are_left(
    organization: Organization,
) -> None:
    await limit(organization, RATE_KEY, 3)
    principal = principal_of(organization)
    remaining = []
    for _ in range(3):
        with await admit(principal) as slot:
            assert slot.headers["x-ratelimit-limit-requests"] == "3"
            assert slot.headers["x-ratelimit-reset-requests"].endswith("s")
            remaining.append(slot.headers["x-ratelimit-remaining-requests"])
    assert remaining[0] == "2"
    with pytest.raises(RateLimited) as refused:
        for _ in range(100):  # a slow machine may earn one or two meanwhile
            (await admit(principal)).release()
    error = refused.value
    assert (error.status, error.type, error.code) == (429, "rate_limit_exceeded", "rate_limit_exceeded")
    headers = headers_of(error)
    assert 1 <= int(headers["Retry-After"]) <= 20
    assert headers["x-should-retry"] == "true"
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("3", "0")
    with await admit(principal_of(organization)) as slot:
        assert slot.headers["x-ratelimit-remaining-requests"] == "2", "another key has its own minute"


async def test_what_is_refused_holds_no_place(organization: Organization) -> None:
    await limit(organization, RATE_KEY, 1)
    principal = principal_of(organization)
    (await admit(principal)).release()
    with pytest.raises(RateLimited):
        for _ in range(100):
            (await admit(principal)).release()
    assert IN_FLIGHT.of(organization.pk) == 0


@asynccontextmanager
async def several_processes(url: str, count: int) -> AsyncIterator[list[RequestRates]]:
    """`count` of what each process has one of, with connections of their own."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(url)) for _ in range(count)]
        yield [RequestRates(client) for client in clients]


async def admitted(counts: list[Any]) -> int:
    rates = await asyncio.gather(*counts)
    return sum(rate is not None and not rate.retry_after_s for rate in rates)


async def test_all_processes_count_together_and_let_no_more_in(settings: Any) -> None:
    key_id = uuid4().hex
    async with several_processes(settings.REDIS_URL, 4) as processes:
        began = time.monotonic()
        let_in = await admitted([rates.count(key_id, per_minute=30) for rates in processes * 25])
        earned = (time.monotonic() - began) / (60 / 30)
    assert 30 <= let_in <= 30 + math.ceil(earned)


async def test_control_who_looks_first_and_counts_afterwards_lets_more_in(settings: Any) -> None:
    key = f"aigov:control:{uuid4().hex}"

    async def count(client: Redis) -> bool:
        sent = int(await client.get(key) or 0)
        await asyncio.sleep(0.001)
        await client.set(key, sent + 1, px=60_000)
        return sent < 30

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(settings.REDIS_URL)) for _ in range(4)]
        let_in = sum(await asyncio.gather(*(count(client) for client in clients * 25)))
    assert let_in > 30, "the race that the script wins did not take place"


class Minute:
    """A key's minute in Valkey, which the test can move."""

    def __init__(self, valkey: Redis, *, per_minute: int) -> None:
        self.key_id, self.per_minute = uuid4().hex, per_minute
        self.rates, self._valkey = RequestRates(valkey), valkey

    async def count(self) -> limits.Rate:
        rate = await self.rates.count(self.key_id, per_minute=self.per_minute)
        assert rate is not None
        return rate

    async def exhaust(self) -> limits.Rate:
        """The refusal after all that there was."""
        for _ in range(self.per_minute + 1000):
            rate = await self.count()
            if rate.retry_after_s:
                return rate
        raise AssertionError("nothing was refused")

    async def pass_by(self, seconds: float) -> None:
        name = f"aigov:rate:{self.key_id}"
        back_at = int(await self._valkey.get(name)) - int(seconds * 1_000_000)
        await self._valkey.set(name, back_at, keepttl=True)


async def test_each_request_comes_back_with_its_share_of_a_minute(valkey: Redis) -> None:
    minute = Minute(valkey, per_minute=2)
    refusal = await minute.exhaust()
    assert 0 < refusal.retry_after_s <= 30
    assert 30_000 < refusal.reset_ms <= 60_000
    await minute.pass_by(30)
    assert (await minute.count()).retry_after_s == 0
    await minute.exhaust()
    await minute.pass_by(3_600)
    assert (await minute.count()).remaining == 1, "an hour's requests are not saved up"


@pytest.mark.parametrize("per_minute", [1, 7, 59, 999])
async def test_exactly_a_minutes_requests_come_at_once(valkey: Redis, per_minute: int) -> None:
    minute = Minute(valkey, per_minute=per_minute)
    began, let_in = time.monotonic(), 0
    while not (await minute.count()).retry_after_s:
        let_in += 1
    earned = (time.monotonic() - began) / (60 / per_minute)
    assert per_minute <= let_in <= per_minute + math.ceil(earned)


async def test_a_clock_that_was_put_back_locks_nobody_out_for_longer_than_a_minute(
    valkey: Redis,
) -> None:
    minute = Minute(valkey, per_minute=60)
    await minute.exhaust()
    await minute.pass_by(-86_400)
    assert (await minute.count()).retry_after_s == 1
    assert 0 < await valkey.pttl(f"aigov:rate:{minute.key_id}") <= 60_000


async def test_a_changed_limit_holds_from_the_next_request(valkey: Redis) -> None:
    minute = Minute(valkey, per_minute=2)
    await minute.exhaust()
    minute.per_minute = 1_000
    await minute.pass_by(0.06)
    assert (await minute.count()).retry_after_s == 0
    minute.per_minute = 1
    assert (await minute.count()).retry_after_s > 0


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(valkey: Redis) -> None:
    minute = Minute(valkey, per_minute=5)
    await minute.count()
    await valkey.script_flush()
    assert (await minute.count()).retry_after_s == 0


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (17, "17ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (8_640, "8.64s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (90_500, "1m30.5s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: str) -> None:
    assert duration_text(milliseconds) == text


# --- Valkey away


async def test_without_valkey_everybody_is_let_in_and_it_is_left_alone_for_a_while(
    organization: Organization, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit(organization, RATE_KEY, 1)
    monkeypatch.setattr(limits, "LEFT_ALONE_S", WAIT_S)
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    principal = principal_of(organization)
    async with limits.rates_opened():
        for _ in range(3):
            with await admit(principal) as slot:
                assert slot.headers == {}
        tries = 0

        async def script(**_arguments: Any) -> Any:
            nonlocal tries
            tries += 1
            raise ConnectionRefusedError

        rates = limits._rates[asyncio.get_running_loop()]
        monkeypatch.setattr(rates, "_script", script)
        with await admit(principal):
            assert tries == 0
        rates._left_alone_until = 0.0
        with await admit(principal), await admit(principal):
            assert tries == 1


async def test_a_valkey_that_hangs_is_not_waited_for(
    organization: Organization, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit(organization, RATE_KEY, 1)
    monkeypatch.setattr(limits, "WAIT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with limits.rates_opened():
            for _ in range(3):
                with await admit(principal_of(organization)) as slot:
                    assert slot.headers == {}
