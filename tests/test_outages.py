"""Our own stores stop, hang and come back while calls are running; a provider fails, and the backup is asked.

PostgreSQL and Valkey are instances of this module's own, so that they can be stopped; two web processes run
through all of it without a restart, and the books of that database are looked at in the end.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import psycopg
import pytest

from aigov import database, embedded, processes
from aigov.embedded import Valkey
from aigov.errors import BudgetUnavailable
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from aigov.postgres import Postgres
from aigov.snapshots import STALE_AFTER_S
from tests.conftest import Sandbox
from tests.services import SOURCE_FOLDER
from tests.web_processes import WebProcesses, web_processes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("outages")]

PATH = "/api/v1/completions"
CLIENTS = 8
PAUSE_S = 0.02
WAIT_S = 60.0
#: A refusal is to come within a second on a calm machine; this much a busy one may make of it.
REFUSED_WITHIN_S = 3.0
UNAVAILABLE = (503, "budget_unavailable")

FAILURES = {
    "500": "server_error",
    "529": "overloaded",
    "429": "rate_limited",
    "reset": "connection_lost",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call: when it began and ended (monotonic seconds), and what came."""

    began: float
    ended: float
    status: int
    code: str
    retry_after: str
    route: str

    @property
    def outcome(self) -> tuple[int, str]:
        return self.status, self.code

    @property
    def took_s(self) -> float:
        return self.ended - self.began


@dataclass
class Load:
    """Clients that ask again as soon as they are answered, each by turns a new text and its own old one.

    Nobody else asks a client's texts, so what is answered from the cache comes from the store.
    """

    url: str
    key: str
    cache: str
    name: str = field(default_factory=lambda: uuid4().hex)
    calls: list[list[Call]] = field(default_factory=lambda: [[] for _ in range(CLIENTS)])
    stopping: bool = False

    async def run(self) -> None:
        async with httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=WAIT_S
        ) as api:
            await asyncio.gather(*(self._client(api, number) for number in range(CLIENTS)))

    async def _client(self, api: httpx2.AsyncClient, number: int) -> None:
        calls = self.calls[number]
        while not self.stopping:
            text = f"client {number} at {self.name}" + (f", call {len(calls)}" if len(calls) % 2 else "")
            body = {"messages": [{"role": "user", "content": text}], "tier": "small", "cache": self.cache}
            began = time.monotonic()
            calls.append(_call(began, await api.post(PATH, json=body)))
            await asyncio.sleep(PAUSE_S)

    def since(self, began: float, outcome: tuple[int, str] | None = None) -> list[Call]:
        """The finished calls that began after an instant, and ended so."""
        return [
            call
            for calls in self.calls
            for call in calls
            if call.began >= began and outcome in (None, call.outcome)
        ]

    async def each_client_has(self, outcome: tuple[int, str], *, since: float, times: int = 1) -> None:
        """Waits until each client has had this answer so often, to calls begun after `since`."""
        async with asyncio.timeout(WAIT_S):
            while any(
                sum(call.began >= since and call.outcome == outcome for call in calls) < times
                for calls in self.calls
            ):
                await asyncio.sleep(0.02)


def _call(began: float, response: httpx2.Response) -> Call:
    body = response.json()
    code = body["error"]["code"] if "error" in body else ""
    retry_after = response.headers.get("retry-after", "")
    return Call(began, time.monotonic(), response.status_code, code, retry_after, body.get("route", ""))


@asynccontextmanager
async def load(url: str, key: str, *, cache: str) -> AsyncIterator[Load]:
    """Calls that run for the time of the block; at its end the last ones are awaited."""
    running = Load(url, key, cache)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stopping = True
        await task


# --- The stores


@dataclass(frozen=True)
class Stores:
    """A PostgreSQL and a Valkey of the test's own, and a key of an organization in them."""

    folder: Path
    variables: Mapping[str, str]
    key: str

    @property
    def postgres(self) -> Postgres:
        return Postgres(self.folder / "postgres", durable=False)

    @property
    def valkey(self) -> Valkey:
        return Valkey(self.folder / "valkey")

    def start(self, server: Postgres | Valkey) -> None:
        server.start()
        server.wait()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.variables["DATABASE_URL"]) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """They end with this process, however it ends; see `tests.services`."""
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.services", str(tmp_path_factory.mktemp("stores"))],
        cwd=SOURCE_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin and keeper.stdout
    try:
        variables = json.loads(keeper.stdout.readline())
        manage(variables, "migrate", "--verbosity", "0")
        made = json.loads(manage(variables, "create_organization", "Outages", "--json"))
        yield Stores(Path(variables["AIGOV_DATA_DIR"]), variables, made["api_key"])
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=WAIT_S)
        keeper.stdout.close()


def manage(variables: Mapping[str, str], *command: str) -> str:
    """What a management command says, on these stores; it is to succeed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=SOURCE_FOLDER,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * WAIT_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def web(stores: Stores) -> Iterator[WebProcesses]:
    """Two web processes on these stores, which no test starts anew."""
    names = ("DATABASE_URL", "REDIS_URL")
    with web_processes(2, **{name: stores.variables[name] for name in names}) as started:
        yield started


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """A server that says nothing any more, with all its children: its connections stay open."""
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        assert processes.within(WAIT_S, lambda: all(one.status() == psutil.STATUS_STOPPED for one in family))
        yield
    finally:
        for one in family:
            one.send_signal(signal.SIGCONT)


def process_of(server: Postgres | Valkey) -> psutil.Process:
    assert server.alive()
    process = server._postmaster() if isinstance(server, Postgres) else server._process
    assert isinstance(process, psutil.Process)
    return process


# --- Valkey


async def test_completions_go_on_while_valkey_is_away_and_hits_come_back_with_it(
    stores: Stores, web: WebProcesses, sandbox: Sandbox
) -> None:
    async with load(web.url, stores.key, cache="use") as running:
        await hits(running)
        await asyncio.to_thread(stores.valkey.stop)
        stopped = time.monotonic()
        await running.each_client_has((200, ""), since=stopped, times=20)
        away = running.since(stopped)
        await asyncio.to_thread(stores.start, stores.valkey)
        await hits(running)
    calls = running.since(0.0)
    assert {call.outcome for call in calls} == {(200, "")}
    assert {call.route for call in away} == {"small"}


async def test_no_completion_waits_for_a_valkey_that_hangs(
    stores: Stores, web: WebProcesses, sandbox: Sandbox
) -> None:
    async with load(web.url, stores.key, cache="use") as running:
        await hits(running)
        with frozen(process_of(stores.valkey)):
            since = time.monotonic()
            await running.each_client_has((200, ""), since=since, times=20)
            hung = running.since(since)
        await hits(running)
    calls = running.since(0.0)
    assert {call.route for call in hung} == {"small"}
    assert {call.outcome for call in calls} == {(200, "")}


async def hits(running: Load) -> None:
    """Waits until a call that begins from now on is answered from the cache."""
    since = time.monotonic()
    async with asyncio.timeout(WAIT_S):
        while not any(call.route == "cache" for call in running.since(since)):
            await asyncio.sleep(0.02)


# --- PostgreSQL


async def test_without_postgresql_nothing_is_spent_and_it_recovers_by_itself(
    stores: Stores, web: WebProcesses, sandbox: Sandbox
) -> None:
    before = await asyncio.to_thread(last_charge, stores)
    async with load(web.url, stores.key, cache="off") as running:
        await running.each_client_has((200, ""), since=0.0, times=4)
        await asyncio.to_thread(stores.postgres.stop)
        stopped = time.monotonic()
        # Once each client has a call behind it that began without the database, none has an older one.
        await running.each_client_has(UNAVAILABLE, since=stopped)
        asked = await asyncio.to_thread(calls_of, sandbox)
        # First the processes lack connections only; later their copies of the keys are too old as well.
        await asyncio.sleep(STALE_AFTER_S + 1)
        await running.each_client_has(UNAVAILABLE, since=time.monotonic(), times=5)
        refused = running.since(stopped)
        assert await asyncio.to_thread(calls_of, sandbox) == asked, "no hold, no call"
        await asyncio.to_thread(stores.start, stores.postgres)
        await running.each_client_has((200, ""), since=time.monotonic(), times=4)
    assert {call.outcome for call in refused} == {UNAVAILABLE}
    assert all(int(call.retry_after) >= 1 for call in refused)
    # Measured below 0.4 s, the slowest of them; a machine that is busy with other tests has its own clock.
    assert median(call.took_s for call in refused) < REFUSED_WITHIN_S
    assert {call.outcome for call in running.since(0.0)} == {(200, ""), UNAVAILABLE}
    await asyncio.to_thread(books_balance, stores, sandbox, since=before)


async def test_a_postgresql_that_hangs_refuses_in_bounded_time_and_charges_nothing_for_it(
    stores: Stores, web: WebProcesses, sandbox: Sandbox
) -> None:
    before = await asyncio.to_thread(last_charge, stores)
    async with load(web.url, stores.key, cache="off") as running:
        await running.each_client_has((200, ""), since=0.0, times=4)
        with frozen(process_of(stores.postgres)):
            since = time.monotonic()
            await running.each_client_has(UNAVAILABLE, since=since)
        await running.each_client_has((200, ""), since=time.monotonic(), times=4)
    hung = running.since(since, UNAVAILABLE)
    assert all(int(call.retry_after) >= 1 for call in hung)
    assert {call.outcome for call in running.since(0.0)} == {(200, ""), UNAVAILABLE}
    await asyncio.to_thread(books_balance, stores, sandbox, since=before)


def calls_of(sandbox: Sandbox) -> int:
    calls: Mapping[str, Mapping[str, Mapping[str, int]]] = sandbox.stats()["calls"]
    return sum(
        count for models in calls.values() for outcomes in models.values() for count in outcomes.values()
    )


def last_charge(stores: Stores) -> int:
    [(last,)] = stores.rows("SELECT coalesce(max(id), 0) FROM ai_costs")
    assert isinstance(last, int)
    return last


def books_balance(stores: Stores, sandbox: Sandbox, *, since: int) -> None:
    """Each answer of the provider is charged once and at its true cost, and nothing stays held."""
    assert processes.within(WAIT_S, lambda: stores.rows("SELECT count(*) FROM budget_holds") == [(0,)])
    answered = {row["request_id"] for row in sandbox.stats()["answered"]}
    charges = stores.rows(f"SELECT provider_request_id, estimated FROM ai_costs WHERE id > {since}")
    assert sorted(charges) == sorted((request_id, False) for request_id in answered)
    assert manage(stores.variables, "check_ledger").endswith(": 0 differences.\n")


# --- Its connections, from within one process


async def test_of_the_connections_that_a_restart_has_broken_only_the_first_is_ever_used() -> None:
    async with database.pool_opened():
        borrowed = await asyncio.gather(*(borrowed_for(0.2) for _ in range(database.CONNECTIONS_MAX)))
        assert len(set(borrowed)) > 1
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as other:
            await other.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", (borrowed,))
        errors = []
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    assert await borrowed_for(0) not in borrowed
                    break
                except BudgetUnavailable as error:
                    errors.append(error)
    # All others that the restart has broken are gone by then: at most, the new ones are still to come.
    assert [type(error) for error in errors[1:]] == [database.NotConnected] * (len(errors) - 1)
    assert type(errors[0]) is BudgetUnavailable


async def test_a_statement_without_an_answer_is_given_up_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with database.pool_opened():
        await borrowed_for(0)
        with monkeypatch.context() as impatient, pytest.raises(BudgetUnavailable) as lost:
            impatient.setattr(database, "SILENCE_MAX_S", 0.2)
            await borrowed_for(database.STATEMENT_TIMEOUT_MS / 1000 + 60)
        assert type(lost.value) is BudgetUnavailable, "it has reached the database"
        assert not isinstance(lost.value.__cause__, psycopg.errors.QueryCanceled), "the server would say so"
        async with asyncio.timeout(WAIT_S):
            while True:
                with suppress(database.NotConnected):
                    await borrowed_for(0)
                    break


@pytest.mark.parametrize("patience_s", [WAIT_S, 0.0])
async def test_a_busy_database_is_waited_for(patience_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as others are served; the control has no patience, and is refused."""
    monkeypatch.setattr(database, "PATIENT_WAIT_S", patience_s)
    async with database.pool_opened():
        await borrowed_for(0)
        # The last ones wait for far longer than `wait_s`, and no connection is ever idle.
        calls = [borrowed_for(0.1, wait_s=0.5) for _ in range(12 * database.CONNECTIONS_MAX)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, BaseException)]
    assert bool(refused) == (patience_s == 0.0), refused
    assert all(isinstance(error, database.NotConnected) for error in refused)


async def borrowed_for(seconds: float, **options: float) -> int:
    """The server's process behind a connection, after it has slept."""
    async with database.connection(**options) as conn:
        cursor = await conn.execute("SELECT pg_backend_pid() FROM pg_sleep(%s)", (seconds,))
        [pid] = await cursor.fetchone() or [None]
        assert isinstance(pid, int)
        return pid


# --- A provider


@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_known_failure_the_backup_gets_the_request(
    api: httpx2.Client, sandbox: Sandbox, failure: str
) -> None:
    sandbox.configure(faults=[{"provider": "openai", "mode": failure}])
    first, backup = attempts(api)
    assert (first["provider"], first["outcome"], first["error"]) == ("openai", "failed", FAILURES[failure])
    assert (backup["provider"], backup["outcome"]) == ("anthropic", "accepted")
    calls = sandbox.stats()["calls"]
    assert [sum(outcomes.values()) for outcomes in calls["openai"].values()] == [1]
    assert [outcomes["answered"] for outcomes in calls["anthropic"].values()] == [1]


def test_after_a_refused_connection_the_backup_gets_the_request(
    organization: Organization, sandbox: Sandbox
) -> None:
    _, key = create_api_key(organization=organization, name="outage", scopes=Scope.values, acting="the tests")
    nobody = f"http://127.0.0.1:{embedded.free_port()}/v1"
    headers = {"Authorization": f"Bearer {key}"}
    with (
        web_processes(1, OPENAI_BASE_URL=nobody) as web,
        httpx2.Client(base_url=web.url, headers=headers, timeout=WAIT_S) as api,
    ):
        first, backup = attempts(api)
    assert (first["provider"], first["outcome"]) == ("openai", "failed")
    assert (first["error"], first["cost_eur"]) == ("refused_connection", "0.000000000")
    assert (backup["provider"], backup["outcome"]) == ("anthropic", "accepted")
    assert [outcomes["answered"] for outcomes in sandbox.stats()["calls"]["anthropic"].values()] == [1]


def attempts(api: httpx2.Client) -> list[dict[str, Any]]:
    body = {"messages": [{"role": "user", "content": "Hello"}], "tier": "small", "cache": "off"}
    made: list[dict[str, Any]] = api.post(PATH, json=body).raise_for_status().json()["attempts"]
    return made
