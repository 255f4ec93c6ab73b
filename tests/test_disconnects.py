"""Clients that go amid a stream, read none of it, or lose it with the process: nothing leaks.

A stream that nobody hears any more is read on for two seconds, to learn what it cost. How far it comes in
that time is a matter of the machine; so each charge is held against what the sandbox says it has sent.
"""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from aigov import service
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.models import CostRecord, Hold
from routing.listener import DRAIN_S
from routing.models import Decision
from tests import faults_world as world
from tests.conftest import Sandbox
from tests.fault_cases import PROVIDERS, other
from tests.faults_world import CHAT, EACH_ITS_WORDS, FACES, WORDS, Leaver, RawClient
from tests.web_processes import WebProcesses, web_processes

pytestmark = pytest.mark.slow

AT_ONCE = 24
#: More than an answer has, so that some clients hear it to its end.
CHUNKS_MAX = 22
QUICK, SLOW = "[[slow:10]]", "[[slow:900]]"
SLOW_CHUNKS_MAX = 2


@pytest.fixture(scope="module")
def web(database: None) -> Iterator[WebProcesses]:
    with web_processes(1) as web:
        yield web


def leavers(first: str) -> list[Leaver]:
    """For each face clients that go after each chunk, in both ways; a slow model's, after the first ones."""
    return [
        Leaver(face, text + EACH_ITS_WORDS + user, chunks, rudely, user)
        for face in FACES
        for text, chunks_max in ((QUICK, CHUNKS_MAX), (SLOW, SLOW_CHUNKS_MAX))
        for chunks in range(chunks_max + 1)
        for rudely in (False, True)
        if (user := f"{first}{face} {text} {chunks} {'rst' if rudely else 'fin'}")
    ]


async def play(leavers: Sequence[Leaver], url: str, headers: Mapping[str, str]) -> list[str]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(leaver: Leaver) -> str:
        async with turn:
            return await leaver.play(url, headers)

    return await asyncio.gather(*map(one, leavers))


@pytest.mark.parametrize("first", PROVIDERS)
def test_clients_that_go_at_each_chunk_leave_nothing(
    organization: Organization, sandbox: Sandbox, web: WebProcesses, first: str
) -> None:
    order = [first, other(first)]
    world.configure(organization, order=order)
    headers = world.key_of(organization)
    world.wait_until_known(web.url, headers, order=order)
    leaving = leavers(first)
    heard = asyncio.run(play(leaving, web.url, headers))
    # Never words of two models; on a busy machine some may have the backup's.
    assert all(any(whole.startswith(words) for whole in WORDS.values()) for words in heard)
    assert set(heard) & set(WORDS.values()), "nobody has heard it all"
    check_books(organization, sandbox, [leaver.user for leaver in leaving])


def check_books(organization: Organization, sandbox: Sandbox, users: Sequence[str]) -> None:
    """Every question has one charge, right by what the provider has sent, and one decision."""
    world.wait_for_closed_books(organization)
    wait_for(lambda: decisions(organization) == len(users))
    stats = sandbox.stats()
    assert (stats["streams_open"], stats["in_flight"]) == (0, 0)
    records = CostRecord.objects.filter(organization=organization)
    assert sorted(records.values_list("user", flat=True)) == sorted(users)
    assert world.wrongs(organization, stats) == []
    cut = {row["request_id"]: row for row in stats["cut"]}
    assert all(row["outcome"] == "abandoned" and row["gone"] for row in cut.values())
    estimated = records.filter(estimated=True)
    assert set(estimated.values_list("reason", flat=True)) == {"deserted"}
    assert 0 < len(cut) <= estimated.count() < len(users)
    gone = Decision.objects.filter(organization=organization, error_code="client_gone")
    assert gone.count() == estimated.count()
    assert sum(one.cost_eur for one in Decision.objects.filter(organization=organization)) == world.spent(
        list(records)
    )


def decisions(organization: Organization) -> int:
    return Decision.objects.filter(organization=organization).count()


def wait_for(condition: Any) -> None:
    give_up_at = time.monotonic() + world.WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("provider_takes", ["[[delay:600000]]", "[[ttft:600000]]", "[[fault:trickle]]"])
def test_clients_that_go_before_the_first_word(
    organization: Organization, sandbox: Sandbox, web: WebProcesses, provider_takes: str
) -> None:
    """Nothing has come by then, not even a status; no other provider is asked for somebody who has gone."""
    headers, users = world.key_of(organization), [f"{face} {number}" for face in FACES for number in range(4)]
    world.wait_until_known(web.url, headers)

    async def ask_and_go() -> None:
        clients = [RawClient(web.url, headers) for _ in users]
        for one, user in zip(clients, users, strict=True):
            face = user.split()[0]
            await one.ask(face, world.question(face, provider_takes + user, user=user, stream=True))
        await asyncio.to_thread(wait_for, lambda: sandbox.stats()["in_flight"] == len(users))
        for one in clients:
            await one.close()

    asyncio.run(ask_and_go())
    world.wait_for_closed_books(organization)
    wait_for(lambda: decisions(organization) == len(users))
    records = CostRecord.objects.filter(organization=organization)
    assert sorted(records.values_list("user", flat=True)) == sorted(users)
    assert set(records.values_list("estimated", "reason", "attempt")) == {(True, "deserted", 0)}
    stats = sandbox.stats()
    assert (stats["streams_open"], stats["in_flight"]) == (0, 0)
    assert world.wrongs(organization, stats) == []


# --- A client that never reads

NEVER_READ = 6
NEVER_READ_DEADLINE_S = 10
#: Then the client counts as gone, and the rest is read to learn what it costs.
HELD_UP_S = NEVER_READ_DEADLINE_S - 2 * DRAIN_S - 1
#: With twenty alternatives each, some two kilobytes a token: far more than all buffers on the way hold.
LONG = "[[tokens:6000]]"
#: Half of what such an answer takes when it is there as a whole.
MEMORY_EACH_MAX = 24 * 2**20


def test_a_client_that_never_reads_holds_its_model_up_until_the_deadline(
    organization: Organization, sandbox: Sandbox
) -> None:
    headers = world.key_of(organization)
    with web_processes(1, REQUEST_DEADLINE_S=str(NEVER_READ_DEADLINE_S)) as web:
        process = psutil.Process(web._processes[0].pid)
        before = process.memory_info().rss

        async def ask_and_read_nothing() -> int:
            clients = [RawClient(web.url, headers, receive_buffer=4096) for _ in range(NEVER_READ)]
            for number, one in enumerate(clients):
                body = world.question(
                    CHAT, f"{LONG} {number}", user=f"u-{number}", stream=True, output_tokens_max=6000
                )
                await one.ask(CHAT, {**body, "logprobs": True, "top_logprobs": 20})
            most, held_up_until = 0, asyncio.get_running_loop().time() + HELD_UP_S
            async with asyncio.timeout(world.WAIT_S):
                while await world.charged(organization) < NEVER_READ:
                    if asyncio.get_running_loop().time() < held_up_until:
                        most = max(most, process.memory_info().rss)
                    await asyncio.sleep(0.1)
            for one in clients:
                await one.close()
            return most

        most = asyncio.run(ask_and_read_nothing())
    records = CostRecord.objects.filter(organization=organization)
    assert records.count() == NEVER_READ
    # A quick machine reads the rest in the time that is left for it, and knows what it cost.
    assert {record.reason for record in records} <= {"deserted", "timed_out", ""}
    assert world.wrongs(organization, sandbox.stats()) == []
    assert (most - before) / NEVER_READ < MEMORY_EACH_MAX


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone can do this")
def test_a_client_that_takes_nothing_is_cut_off(settings: Any) -> None:
    """Its connection would stay for ever, and a process that ends would wait for it."""
    settings.REQUEST_DEADLINE_S = 1
    with service._listening("127.0.0.1", 0) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection, pytest.raises(OSError) as cut:
            connection.settimeout(world.WAIT_S)
            while True:
                connection.sendall(bytes(2**20))
    assert cut.value.errno == errno.ETIMEDOUT


# --- Many at once, and the end of the process


MANY = 100


def test_a_hundred_streams_at_once(organization: Organization, sandbox: Sandbox, web: WebProcesses) -> None:
    """Nobody reads on before everybody has begun."""
    headers = world.key_of(organization)
    world.wait_until_known(web.url, headers)

    async def all_at_once() -> list[str]:
        async with begun(streams("[[slow:100]]", MANY), web.url, headers) as answers:
            return [first + "".join([piece async for piece in further]) for first, further in answers]

    # Each is one model's; on a busy machine the backup's may be among them.
    answers = asyncio.run(all_at_once())
    assert len(answers) == MANY and set(answers) <= set(WORDS.values())
    wait_for(lambda: decisions(organization) == MANY)
    records = CostRecord.objects.filter(organization=organization)
    assert records.filter(estimated=False).count() == MANY
    stats = sandbox.stats()
    assert stats["streams_open"] == 0 < stats["streams_open_max"] <= MANY
    assert world.wrongs(organization, stats) == []


STREAMS = 8


def streams(text: str, count: int = STREAMS) -> list[tuple[str, dict[str, Any]]]:
    faces = [FACES[number % len(FACES)] for number in range(count)]
    return [
        (face, world.question(face, f"{text}{EACH_ITS_WORDS} {number}", user=f"u-{number}", stream=True))
        for number, face in enumerate(faces)
    ]


@asynccontextmanager
async def begun(
    asked: Sequence[tuple[str, dict[str, Any]]], url: str, headers: Mapping[str, str]
) -> AsyncIterator[list[tuple[str, AsyncGenerator[str, None]]]]:
    """Streams of which the first words have come, each with these and its further ones."""
    async with AsyncExitStack() as stack:

        async def one(face: str, body: dict[str, Any]) -> tuple[str, AsyncGenerator[str, None]]:
            client = await stack.enter_async_context(RawClient(url, headers))
            await client.ask(face, body)
            await client.begin()
            words = await stack.enter_async_context(aclosing(client.words(face)))
            return await anext(words), words

        yield await asyncio.gather(*(one(face, body) for face, body in asked))


def test_a_process_that_is_told_to_end_finishes_its_streams(
    organization: Organization, sandbox: Sandbox
) -> None:
    headers = world.key_of(organization)
    with web_processes(1) as web:

        async def told_to_end() -> list[str]:
            async with begun(streams("[[slow:80]]"), web.url, headers) as answers:
                web._processes[0].terminate()
                return [first + "".join([piece async for piece in further]) for first, further in answers]

        heard = asyncio.run(told_to_end())
        assert web._processes[0].wait(timeout=world.WAIT_S) is not None
    assert len(heard) == STREAMS and set(heard) <= set(WORDS.values())
    records = CostRecord.objects.filter(organization=organization)
    assert list(records.values_list("estimated", flat=True)) == [False] * STREAMS
    assert world.wrongs(organization, sandbox.stats()) == []


def test_a_process_that_has_no_time_left_settles_its_streams(
    organization: Organization, sandbox: Sandbox
) -> None:
    headers = world.key_of(organization)
    with web_processes(1, UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN="1") as web:

        async def told_to_end() -> None:
            async with begun(streams("[[slow:1000]]"), web.url, headers):
                web._processes[0].terminate()
                await asyncio.to_thread(web._processes[0].wait, world.WAIT_S)

        asyncio.run(told_to_end())
    assert not Hold.objects.filter(organization=organization).exists(), (
        "the process has ended, and left a hold"
    )
    records = CostRecord.objects.filter(organization=organization)
    assert records.count() == STREAMS
    assert set(records.values_list("estimated", flat=True)) == {True}
    wait_for(lambda: sandbox.stats()["streams_open"] == 0)
    assert world.wrongs(organization, sandbox.stats()) == []


def test_kill_9_amid_streams_expires_their_holds_in_full(
    organization: Organization, sandbox: Sandbox
) -> None:
    headers = world.key_of(organization)
    with web_processes(1) as web:

        async def killed() -> None:
            async with begun(streams("[[slow:1000]]"), web.url, headers):
                await asyncio.to_thread(web.kill)

        asyncio.run(killed())
    left = Hold.objects.filter(organization=organization)
    assert left.count() == STREAMS
    left.update(expires_at="2000-01-01T00:00Z")
    ledger.expire_holds()
    records = CostRecord.objects.filter(organization=organization)
    assert not left.exists()
    assert list(records.values_list("estimated", "reason")) == [(True, "expired")] * STREAMS
    wait_for(lambda: sandbox.stats()["streams_open"] == 0)
    assert world.wrongs(organization, sandbox.stats()) == []
