"""The fault table: whatever one provider does, the other one answers, or the client is told.

Each fault × plain and stream, in every face × either provider as the first one that fails × the other one
healthy: what the client sees, what is charged, what is recorded, and that nothing is left held.

All cases are played once, many at a time, against one web process; each test then looks at its own. The
operator's switch keeps the circuits closed, so that every case meets its fault; what the circuits do about a
provider that fails on and on is shown at the end.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import httpx2
import pytest
from django.conf import settings as django_settings

from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets.models import CostRecord, Hold
from providers import circuit
from providers.adapters import open_adapter
from providers.adapters.transport import CONNECT_TIMEOUT_S
from providers.breaker import turn_switch
from providers.types import Message, Prompt, ProviderRequest
from routing.models import Decision
from tests import faults_world as world
from tests.conftest import Sandbox, Server
from tests.fault_cases import FAULTS, PROVIDERS, Fault, other
from tests.faults_world import EACH_ITS_WORDS, FACES, MESSAGES, NATIVE, WORDS, Heard
from tests.test_routing_under_fire import true_cost
from tests.web_processes import web_processes

#: In one process, since all cases are played together.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

DEADLINE_S = 6
#: Long enough for the provider that is well, on a busy machine.
FIRST_CONTENT = "PT2S"
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Case:
    """`face` is the address; a plain call is asked of the native one alone."""

    fault: Fault
    first: str
    face: str
    stream: bool

    @property
    def name(self) -> str:
        how = f"stream {self.face}" if self.stream else "plain"
        return f"{self.fault.name} · {self.first} · {how}"

    @property
    def text(self) -> str:
        fault = f"[[fault:{self.fault.mode}@{self.first}]]" if self.fault.mode else ""
        return f"{fault}{EACH_ITS_WORDS} {self.name}"  # of its own, for answers are remembered


CASES = [
    Case(fault, first, face, stream)
    for fault in FAULTS
    for first in fault.providers
    for face, stream in ((NATIVE, False), *((face, True) for face in FACES))
]


@dataclass(frozen=True, slots=True)
class Played:
    """What the clients heard, by case, and what the sandbox did in all."""

    heard: Mapping[Case, Heard]
    sandbox: Mapping[str, Any]


@pytest.fixture(scope="module")
def providers(database: None) -> Iterator[Sandbox]:
    sandbox = Sandbox(django_settings.PROVIDERS["anthropic"]["base_url"])
    sandbox.reset()
    yield sandbox
    sandbox.reset()
    sandbox.close()


@pytest.fixture(scope="module")
def played(providers: Sandbox) -> Iterator[Played]:
    keys = {}
    for first in PROVIDERS:
        organization = create_organization(
            name=f"Faults, {first} first", tenant=None, time_zone=None, acting="the tests"
        )
        world.configure(organization, order=[first, other(first)], first_content=FIRST_CONTENT)
        keys[first] = world.key_of(organization)
        turn_switch(provider=first, model="*", to="forced_closed")
    try:
        with (
            world.doors(providers) as ports,
            web_processes(1, REQUEST_DEADLINE_S=str(DEADLINE_S), **world.environment_of(ports)) as web,
        ):
            heard = asyncio.run(play(web.url, keys, providers, ports))
    finally:
        for first in PROVIDERS:
            turn_switch(provider=first, model="*", to="automatic")
    yield Played(heard, providers.stats())


async def play(
    url: str, keys: Mapping[str, Mapping[str, str]], sandbox: Sandbox, ports: Mapping[str, int]
) -> Mapping[Case, Heard]:
    """Those that wait for a timer all at once, then the others, and those that shut a door at last."""
    found: dict[Case, Heard] = {}

    async def all_of(cases: list[Case], at_once: int) -> None:
        turn = asyncio.Semaphore(at_once)

        async def one(case: Case) -> None:
            body = world.question(case.face, case.text, user=case.name, stream=case.stream)
            async with turn:
                found[case] = await world.heard(clients[case.first], case.face, body)

        await asyncio.gather(*map(one, cases))

    async with AsyncExitStack() as stack:
        clients = {
            first: await stack.enter_async_context(world.client(url, keys[first])) for first in PROVIDERS
        }
        await all_of([case for case in CASES if case.fault.timed], at_once=len(CASES))
        await all_of([case for case in CASES if case.fault.mode and not case.fault.timed], at_once=AT_ONCE)
        for first in PROVIDERS:
            with world.shut(sandbox, ports[first]):
                refused = [case for case in CASES if not case.fault.mode and case.first == first]
                await all_of(refused, at_once=AT_ONCE)
    return found


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_what_the_client_sees(played: Played, case: Case) -> None:
    answer = played.heard[case]
    assert answer.status == 200, answer
    if case.fault.end(case.first, stream=case.stream).begun:
        assert answer.words and WORDS[case.first].startswith(answer.words), "words of the first model alone"
        assert not answer.whole
        assert answer.error["type"] == "api_error"
        assert case.face == MESSAGES or answer.error["code"] == "answer_broken"
    else:
        assert (answer.words, answer.whole) == (WORDS[other(case.first)], True)
        assert answer.error == {}
        assert answer.headers["x-ai-fallbacks"] == "1"
        assert case.stream or answer.headers["x-ai-provider"] == other(case.first)


@each_case
def test_what_is_charged(played: Played, case: Case) -> None:
    end = case.fault.end(case.first, stream=case.stream)
    assert not Hold.objects.filter(user=case.name).exists()
    records = list(world.charges(case.name))
    if end.charged:
        lost = records.pop(0)
        assert (lost.provider, lost.attempt) == (case.first, 0)
        assert (lost.estimated, lost.reason, lost.cost_eur) == (True, end.kind, lost.held_eur)
    if not end.begun:
        paid = records.pop(0)
        [row] = [one for one in played.sandbox["answered"] if one["request_id"] == paid.provider_request_id]
        assert (paid.provider, paid.attempt) == (other(case.first), 1)
        assert (paid.estimated, paid.cost_eur) == (False, true_cost(row))
    assert records == []


@each_case
def test_what_is_recorded(played: Played, case: Case) -> None:
    end = case.fault.end(case.first, stream=case.stream)
    decision = Decision.objects.get(user=case.name)
    first, *further = decision.attempts
    assert (first["provider"], first["outcome"], first["error"]) == (case.first, "failed", end.kind)
    if end.begun:
        assert (decision.error_code, further) == ("answer_broken", [])
    else:
        [backup] = further
        assert (backup["provider"], backup["outcome"]) == (other(case.first), "accepted")
    assert decision.cost_eur == world.spent(world.charges(case.name))


def test_each_attempt_is_one_call_and_the_books_balance(played: Played) -> None:
    """No model is asked twice, and none but those that are recorded."""
    made: Counter[str] = Counter()
    for decision in Decision.objects.filter(user__in=[case.name for case in CASES]):
        made.update(one["provider"] for one in decision.attempts if one.get("error") != "refused_connection")
    calls = {
        provider: sum(sum(outcomes.values()) for outcomes in models.values())
        for provider, models in played.sandbox["calls"].items()
    }
    assert calls == dict(made)
    assert (played.sandbox["in_flight"], played.sandbox["streams_open"]) == (0, 0)
    for organization in Organization.objects.filter(name__startswith="Faults, "):
        assert world.wrongs(organization, played.sandbox) == []


# --- Both fail


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("mode", "charged"), [("529", False), ("malformed", True), ("cut:0", True)])
def test_where_both_fail_the_client_is_told_to_come_again(
    organization: Organization,
    sandbox: Sandbox,
    server: Server,
    face: str,
    stream: bool,
    mode: str,
    charged: bool,
) -> None:
    headers = world.key_of(organization)
    server.refresh()
    body = world.question(face, f"[[fault:{mode}]] hello", user="u", stream=stream)

    async def asked() -> Heard:
        async with world.client(server.url, headers) as api:
            return await world.heard(api, face, body)

    answer = asyncio.run(asked())
    assert (answer.status, answer.words) == (503, "")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")
    assert face == MESSAGES or answer.error["code"] == "no_provider_available"
    decision = Decision.objects.get(organization=organization)
    assert [one["outcome"] for one in decision.attempts] == ["failed", "failed"]
    assert CostRecord.objects.filter(organization=organization).count() == (2 if charged else 0)
    assert world.wrongs(organization, sandbox.stats()) == []


# --- A provider that fails on and on


CLIENTS = 8
FAILS_FOR_S = 3.0
#: How long the provider takes, so that a second probe beside the first one would be seen.
ANSWERS_AFTER_S = 0.3


def probes_within(seconds: float) -> int:
    """How many probes may be sent in the first `seconds` of a circuit that opens again and again."""
    open_s = (min(circuit.OPEN_S * 2.0**at, circuit.OPEN_MAX_S) for at in range(20))
    return sum(begins <= seconds for begins in accumulate(open_s))


def test_how_many_probes_there_may_be() -> None:
    assert [probes_within(seconds) for seconds in (4.9, 5, 14.9, 15, 35, 75, 135)] == [0, 1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("failing", "stream"), [("openai", False), ("anthropic", True)], ids=["plain", "stream"]
)
def test_a_provider_that_fails_is_left_alone_until_one_probe_finds_it_well(
    organization: Organization, sandbox: Sandbox, failing: str, stream: bool
) -> None:
    world.configure(organization, order=[failing, other(failing)])
    headers = world.key_of(organization)
    sandbox.configure(faults=[{"mode": "500", "provider": failing}])
    with web_processes(1) as web:
        load = Load(web.url, headers, f"[[delay:{ANSWERS_AFTER_S * 1000:.0f}@{failing}]]", stream)
        failed_s = asyncio.run(load.through_an_outage(sandbox, failing))
    assert load.statuses[200] >= 0.995 * load.statuses.total() > 0, load.statuses

    stats = sandbox.stats()
    failures = [row for row in stats["cut"] if row["outcome"] == "500"]
    in_flight = CLIENTS - 1  # when the last failure that it takes becomes known
    assert len(failures) <= circuit.FAILURES_MIN + in_flight + probes_within(failed_s)
    probe, *further = sorted(row["arrived_s"] for row in stats["answered"] if row["provider"] == failing)
    assert further and min(further) >= probe + ANSWERS_AFTER_S, (
        "one probe, and nobody else until it is answered"
    )
    assert world.wrongs(organization, stats) == []


@dataclass
class Load:
    """Clients that ask again as soon as they are answered."""

    url: str
    headers: Mapping[str, str]
    text: str
    stream: bool
    statuses: Counter[int] = field(default_factory=Counter)
    stopping: bool = False

    async def through_an_outage(self, sandbox: Sandbox, failing: str) -> float:
        """Asks while `failing` fails, and until it has answered twice as often as there are clients.

        Returns:
            for how many seconds it failed, or a little more.
        """
        began = time.monotonic()
        async with world.client(self.url, self.headers) as api, asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(api, number))
            await asyncio.sleep(FAILS_FOR_S)
            await asyncio.to_thread(sandbox.configure, faults=[])
            failed_s = time.monotonic() - began
            async with asyncio.timeout(world.WAIT_S):
                while await asyncio.to_thread(answered_by, failing, sandbox) < 2 * CLIENTS:
                    await asyncio.sleep(0.1)
            self.stopping = True
        return failed_s

    async def _client(self, api: httpx2.AsyncClient, number: int) -> None:
        while not self.stopping:
            body = world.question(NATIVE, self.text, user=f"u-{number}", stream=self.stream)
            self.statuses[(await world.heard(api, NATIVE, body)).status] += 1


def answered_by(provider: str, sandbox: Sandbox) -> int:
    calls = sandbox.stats()["calls"].get(provider, {})
    return sum(outcomes.get("answered", 0) for outcomes in calls.values())


# --- A process that is busy


@pytest.mark.parametrize("steps", range(6))
async def test_a_process_that_is_too_busy_to_connect_does_not_take_the_provider_for_dead(
    settings: Any, steps: int
) -> None:
    """The loop stands still for longer than a connection may take, wherever its making is."""
    adapter = open_adapter("openai", **settings.PROVIDERS["openai"])
    request = ProviderRequest(
        model="gpt-4o-mini",
        prompt=Prompt(messages=(Message("user", "hello"),)),
        max_output_tokens=10,
        want_confidence=False,
    )
    deadline = asyncio.get_running_loop().time() + world.WAIT_S
    call = asyncio.create_task(adapter.complete(request, deadline=deadline))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(2 * CONNECT_TIMEOUT_S)
    assert (await call).content
    await adapter.aclose()
