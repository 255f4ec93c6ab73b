"""`Idempotency-Key`: a request is done once, its answer is given again, and nobody else can read it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
import uvicorn
from asgiref.sync import sync_to_async
from cryptography.exceptions import InvalidTag
from django.db import connection

from aigov import background, database
from aigov.celery import app as celery_app
from aigov.errors import (
    BadRequest,
    BudgetExceeded,
    BudgetUnavailable,
    GatewayError,
    IdempotencyConflict,
    IdempotencyInProgress,
    NoProviderAvailable,
)
from aigov.organizations.models import Organization
from aigov.web import idempotency, sealing, tasks
from aigov.web.body_limit import Message, Receive, Send
from aigov.web.errors import InternalError, headers_of, openai_body
from aigov.web.idempotency import Claim, Replay, key_of, must_be_replayed
from aigov.web.models import SEALED_BYTES_MAX, IdempotentAnswer
from aigov.web.sealing import Secrets, opened
from tests.idempotency_worker import ADDRESS, BODY, PATIENCE
from tests.services import SOURCE_FOLDER
from tests.web_processes import url_of_the_database

Make = Callable[..., Organization]

KEY = "order-17"
HEADERS = {"content-type": "application/json", "x-ai-route": "small"}
PROCESSES, CLIENTS_EACH = 5, 10
IMPATIENT_CONNECTION = database.connection
WAIT_S = 120.0


@pytest.fixture(autouse=True)
async def opened_pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    # However slow the machine is, the database is not taken for away.
    for name, patient in PATIENCE.items():
        monkeypatch.setattr(database, name, patient)
    async with database.pool_opened():
        yield
        await background.drained(wait_s=WAIT_S)


async def begin(
    organization: Organization,
    *,
    key: str | None = KEY,
    address: str = ADDRESS,
    body: bytes = BODY,
    patience_s: float = WAIT_S,
) -> Claim | Replay:
    return await idempotency.begin(
        organization_id=organization.pk,
        key=key,
        address=address,
        body=body,
        deadline=asyncio.get_running_loop().time() + patience_s,
    )


async def claim(organization: Organization, **request: Any) -> Claim:
    """The claim, which is to be had at once, and not after that of another run has lapsed."""
    got = await begin(organization, **{"patience_s": 0, **request})
    assert isinstance(got, Claim)
    return got


async def replay(organization: Organization, **request: Any) -> Replay:
    got = await begin(organization, **request)
    assert isinstance(got, Replay)
    return got


async def alter(organization: Organization, **values: str) -> None:
    """Sets columns of the organization's row to SQL expressions, as if time had passed."""
    changes = ", ".join(f"{column} = {expression}" for column, expression in values.items())
    async with database.connection() as conn:
        query = f"UPDATE idempotent_answers SET {changes} WHERE organization_id = %s"
        assert (await conn.execute(query, (organization.pk,))).rowcount == 1


@sync_to_async
def row_of(organization: Organization) -> IdempotentAnswer | None:
    return IdempotentAnswer.objects.filter(organization=organization).first()


# --- One after the other


async def test_a_repetition_gets_the_first_answer_with_its_status_and_headers(
    organization: Organization,
) -> None:
    first = await claim(organization)
    await first.finish(status=201, headers=HEADERS, body=b'{"content": "A"}')
    for _ in range(3):
        again = await replay(organization)
        assert (again.status, again.body) == (201, b'{"content": "A"}')
        assert again.headers == {**HEADERS, "idempotency-replayed": "true"}


async def test_an_empty_answer_is_an_answer(organization: Organization) -> None:
    await (await claim(organization)).finish(status=204, headers={}, body=b"")
    assert (await replay(organization)).body == b""


@pytest.mark.parametrize("other", [{"body": BODY + b" "}, {"address": "/v1/messages"}])
async def test_another_request_under_the_same_key_is_a_conflict(
    organization: Organization, other: dict[str, Any]
) -> None:
    first = await claim(organization)
    for finish in (False, True):
        if finish:
            await first.finish(status=200, headers={}, body=b"A")
        with pytest.raises(IdempotencyConflict) as refused:
            await begin(organization, **other)
        error = refused.value
        assert (error.status, error.code, error.param) == (422, "idempotency_conflict", "Idempotency-Key")
        assert "x-should-retry" not in headers_of(error)
    assert (await replay(organization)).body == b"A"


async def test_another_organization_has_its_own_keys(make_organization: Make) -> None:
    one, other = await sync_to_async(make_organization)(), await sync_to_async(make_organization)()
    await (await claim(one)).finish(status=200, headers={}, body=b"for one")
    await (await claim(other)).finish(status=200, headers={}, body=b"for the other")
    assert (await replay(one)).body == b"for one"
    assert (await replay(other)).body == b"for the other"


async def test_another_key_is_another_request(organization: Organization) -> None:
    await (await claim(organization)).finish(status=200, headers={}, body=b"A")
    await claim(organization, key="order-18")


async def test_an_error_releases_the_key_for_whatever_comes_next(organization: Organization) -> None:
    with pytest.raises(NoProviderAvailable):
        async with await claim(organization):
            raise NoProviderAvailable("none")
    corrected = await claim(organization, body=b"another body")
    await corrected.finish(status=200, headers={}, body=b"B")
    assert (await replay(organization, body=b"another body")).body == b"B"


async def test_a_finished_claim_is_not_released_by_the_end_of_its_block(organization: Organization) -> None:
    with suppress(ZeroDivisionError):
        async with await claim(organization) as first:
            await first.finish(status=200, headers={}, body=b"A")
            raise ZeroDivisionError
    await first.release()
    assert (await replay(organization)).body == b"A"


async def test_a_cancelled_run_releases_the_key(organization: Organization) -> None:
    async def work() -> None:
        async with await claim(organization):
            await asyncio.sleep(WAIT_S)

    task = asyncio.create_task(work())
    while await row_of(organization) is None:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await claim(organization)


async def test_without_a_key_nothing_is_asked_and_nothing_kept(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "connection", no_connection)
        for _ in range(2):
            async with await claim(organization, key=None) as unseen:
                await unseen.finish(status=200, headers={}, body=b"y")
    assert await row_of(organization) is None


@pytest.mark.parametrize("key", ["a", "!~", "x" * 255, "stainless-python-retry-0c6e4b1f"])
def test_a_key_is_up_to_255_visible_characters(key: str) -> None:
    assert key_of({"idempotency-key": key}) == key
    assert key_of({"authorization": "Bearer x"}) is None


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ü", "a\n", "\x7f", "a\x00"])
def test_any_other_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(BadRequest) as refused:
        key_of({"idempotency-key": key})
    assert (refused.value.status, refused.value.param) == (400, "Idempotency-Key")


# --- Which errors are kept


@pytest.mark.parametrize(
    ("error", "paid", "kept"),
    [
        (InternalError("a defect after the provider's answer"), True, True),
        (BadRequest("the second provider says so"), True, True),
        (InternalError("a defect before any call"), False, False),
        (BadRequest("a typo"), False, False),
        (NoProviderAvailable("after one that may be billed"), True, False),
        (BudgetUnavailable("after the first call"), True, False),
        (BudgetExceeded("for the second call"), True, False),
    ],
)
def test_only_what_would_cost_again_and_fail_again_is_kept(
    error: GatewayError, paid: bool, kept: bool
) -> None:
    assert must_be_replayed(error, paid=paid) is kept


async def test_a_kept_error_is_given_again(organization: Organization) -> None:
    error = InternalError("a defect")
    failed = await claim(organization)
    await failed.finish(status=500, headers={}, body=json.dumps(openai_body(error)).encode())
    again = await replay(organization)
    assert (again.status, json.loads(again.body)["error"]["code"]) == (500, "internal_error")


# --- At the same time


async def test_a_duplicate_waits_for_the_run_under_way(organization: Organization) -> None:
    first = await claim(organization)
    duplicates = [asyncio.create_task(begin(organization)) for _ in range(20)]
    await asyncio.sleep(0.2)
    assert not any(duplicate.done() for duplicate in duplicates)
    await first.finish(status=200, headers=HEADERS, body=b"A")
    for got in await asyncio.gather(*duplicates):
        assert isinstance(got, Replay)
        assert got.body == b"A"


async def test_a_duplicate_runs_itself_when_the_first_has_failed(organization: Organization) -> None:
    runs = 0

    async def work(number: int) -> bytes:
        nonlocal runs
        got = await begin(organization)
        if isinstance(got, Replay):
            return got.body
        async with got:
            runs += 1
            if runs < 3:
                raise NoProviderAvailable("none")
            body = f"by {number}".encode()
            await got.finish(status=200, headers={}, body=body)
            return body

    got = await asyncio.gather(*(work(number) for number in range(10)), return_exceptions=True)
    assert runs == 3, "two failed, the third succeeded, and nobody else was to run"
    assert sum(isinstance(one, NoProviderAvailable) for one in got) == 2
    assert len({one for one in got if isinstance(one, bytes)}) == 1


async def test_nobody_waits_longer_than_the_deadline(organization: Organization) -> None:
    await claim(organization)
    with pytest.raises(IdempotencyInProgress) as refused:
        await begin(organization, patience_s=0.2)
    error = refused.value
    assert (error.status, error.code) == (503, "idempotency_in_progress")
    assert headers_of(error) == {"x-should-retry": "true", "Retry-After": "2"}


async def test_the_deadline_is_the_requests_own_unless_told_otherwise(
    organization: Organization, settings: Any
) -> None:
    settings.REQUEST_DEADLINE_S = 0
    await claim(organization)
    with pytest.raises(IdempotencyInProgress):
        await idempotency.begin(organization_id=organization.pk, key=KEY, address=ADDRESS, body=BODY)


async def test_who_goes_away_while_he_claims_leaves_no_claim(organization: Organization) -> None:
    """An uncommitted row of the same key makes his INSERT wait; there he is cancelled."""
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as other:
        secrets = Secrets.of(organization_id=organization.pk, key=KEY)
        request = idempotency._Request(organization.pk, secrets, b"", uuid4())
        await other.execute(idempotency.CLAIM, request.parameters)
        task = asyncio.create_task(begin(organization))
        await until_blocked(other)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other.rollback()
    await background.drained(wait_s=WAIT_S)
    assert await row_of(organization) is None


async def until_blocked(by: psycopg.AsyncConnection[Any]) -> None:
    """Returns when somebody waits for a lock of `by`."""
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid)))"
    async with asyncio.timeout(WAIT_S):
        while True:
            async with database.connection() as conn:
                if await (await conn.execute(query, (by.info.backend_pid,))).fetchone() == (True,):
                    return
            await asyncio.sleep(0.02)


# --- In several processes


def start_workers(way: str, organization: Organization) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "tests.idempotency_worker"),
            *(way, str(organization.pk), KEY, str(PROCESSES), str(CLIENTS_EACH)),
        ],
        cwd=SOURCE_FOLDER,
        env={**os.environ, "DATABASE_URL": url_of_the_database()},
        stdout=subprocess.PIPE,
        text=True,
    )


def raced(way: str, organization: Organization) -> list[Any]:
    """What 50 clients in 5 processes got, who all began at once."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [organization.pk])
        workers = start_workers(way, organization)
        wait_for_all_at_the_barrier(organization)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [organization.pk])
    said, _nothing = workers.communicate(timeout=WAIT_S)
    assert workers.returncode == 0
    got = [json.loads(line) for line in said.splitlines()]
    assert len(got) == PROCESSES * CLIENTS_EACH
    return got


def wait_for_all_at_the_barrier(organization: Organization) -> None:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                [organization.pk],
            )
            if cursor.fetchone() == (PROCESSES,):
                return
        time.sleep(0.05)
    raise TimeoutError("the workers do not come to the barrier")


def test_50_at_once_in_5_processes_are_one_run_and_all_get_its_answer(organization: Organization) -> None:
    got = raced("claim", organization)
    [first] = [answer for answer in got if answer[0]]
    _ran, status, headers, body = first
    others = [answer for answer in got if not answer[0]]
    assert others == [[False, status, {**headers, "idempotency-replayed": "true"}, body]] * len(others)


def test_control_without_the_claim_there_are_more_runs(organization: Organization) -> None:
    got = raced("look_then_keep", organization)
    assert sum(answer[0] for answer in got) > 1, "the race that the claim wins did not take place"


async def test_a_killed_run_has_its_claim_until_its_time_is_up_and_then_one_runs_anew(
    organization: Organization, settings: Any
) -> None:
    worker = await sync_to_async(start_workers)("hang", organization)
    assert worker.stdout is not None
    assert await asyncio.to_thread(worker.stdout.readline) == "hangs\n"
    worker.kill()
    await asyncio.to_thread(worker.communicate)

    with pytest.raises(IdempotencyInProgress):
        await begin(organization, patience_s=0)
    row = await row_of(organization)
    assert row is not None
    lifetime = idempotency.KEPT_FOR - (row.expires_at - row.claimed_until)
    assert lifetime == timedelta(seconds=settings.REQUEST_DEADLINE_S + idempotency.GRACE_S)

    duplicates = [asyncio.create_task(begin(organization)) for _ in range(20)]
    await asyncio.sleep(0.2)
    assert not any(duplicate.done() for duplicate in duplicates), "the claim still stands"
    await alter(organization, claimed_until="now()")
    done, _waiting = await asyncio.wait(duplicates, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    [anew] = [task.result() for task in done]
    assert isinstance(anew, Claim)
    await anew.finish(status=200, headers={}, body=b"anew")
    got = await asyncio.gather(*duplicates)
    assert sum(isinstance(one, Claim) for one in got) == 1
    assert {one.body for one in got if isinstance(one, Replay)} == {b"anew"}


async def test_a_run_that_lost_its_claim_cannot_change_what_came_after(
    organization: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    stalled = await claim(organization)
    await alter(organization, claimed_until="now()")
    second = await claim(organization)
    await stalled.release()
    with pytest.raises(IdempotencyInProgress):
        await begin(organization, patience_s=0)
    await second.finish(status=200, headers={}, body=b"second")
    late = idempotency.KeyedClaim(stalled._request)  # type: ignore[attr-defined]
    await late.finish(status=200, headers={}, body=b"first, and late")
    assert (await replay(organization)).body == b"second"
    assert "after its claim had lapsed" in caplog.text


async def test_a_lapsed_claim_is_for_the_same_request_alone(organization: Organization) -> None:
    await claim(organization)
    await alter(organization, claimed_until="now()")
    with pytest.raises(IdempotencyConflict):
        await begin(organization, body=b"another body")
    await claim(organization)


async def test_a_run_that_ends_late_but_unreplaced_is_kept(organization: Organization) -> None:
    slow = await claim(organization)
    await alter(organization, claimed_until="now()")
    await slow.finish(status=200, headers={}, body=b"late")
    assert (await replay(organization)).body == b"late"


# --- A stream whose client goes away

FRAMES = [f"data: {n}\n\n".encode() for n in range(5)]


class StreamingApplication:
    """Streams `FRAMES` live, from a task that waits in mid-stream until the test opens the gate."""

    def __init__(self, organization: Organization) -> None:
        self.organization, self.gate, self.runs = organization, asyncio.Event(), 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        got = await begin(self.organization, key=key_of(headers))
        if isinstance(got, Replay):
            await self._start(send, {**got.headers})
            await send({"type": "http.response.body", "body": got.body})
            return
        frames: asyncio.Queue[bytes] = asyncio.Queue()
        background.spawn(self._work(got, frames), name="work")
        await self._start(send, {"content-type": "text/event-stream"})
        while frame := await frames.get():
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body"})

    async def _work(self, claim: Claim, frames: asyncio.Queue[bytes]) -> None:
        self.runs += 1
        async with claim:
            for number, frame in enumerate(FRAMES):
                if number == 2:
                    await self.gate.wait()
                frames.put_nowait(frame)
            headers = {"content-type": "text/event-stream"}
            await claim.finish(status=200, headers=headers, body=b"".join(FRAMES))
        frames.put_nowait(b"")

    async def _start(self, send: Send, headers: dict[str, str]) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": pairs})


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of `application`, which uvicorn serves in this loop."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_config=None, access_log=False))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=WAIT_S) as client:
            yield client
    finally:
        server.should_exit = True
        await task
        listening.close()


async def test_a_client_that_leaves_in_mid_stream_does_not_lose_the_answer(
    organization: Organization,
) -> None:
    application = StreamingApplication(organization)
    with_key = {"Idempotency-Key": KEY}
    async with served(application) as client:
        async with client.stream("POST", "/", headers=with_key) as response:
            received = b""
            async for part in response.aiter_raw():
                received += part
                if received == b"".join(FRAMES[:2]):
                    break
        application.gate.set()
        for _ in range(2):
            again = await client.post("/", headers=with_key)
            assert again.content == b"".join(FRAMES)
            assert again.headers["content-type"] == "text/event-stream"
            assert again.headers["idempotency-replayed"] == "true"
    assert application.runs == 1


# --- What can be read in the database

CANARY_KEY, CANARY_HEADER, CANARY_PROMPT, CANARY_ANSWER = (
    "canary-key-4b1f",
    "canary-header-9a77",
    "canary-prompt-51cc",
    "canary-answer-e302",
)


async def kept_bytes(organization: Organization) -> bytes:
    """The organization's row, and whatever in it is compressed, inflated."""
    async with database.connection() as conn:
        query = "SELECT * FROM idempotent_answers WHERE organization_id = %s"
        row = await (await conn.execute(query, (organization.pk,))).fetchone()
    assert row is not None
    stored = b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
    return b" ".join((stored, *inflated(stored)))


def inflated(stored: bytes) -> Iterator[bytes]:
    for start in range(len(stored)):
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(stored[start:])


async def keep_canaries(organization: Organization) -> None:
    canary = await claim(organization, key=CANARY_KEY, body=CANARY_PROMPT.encode())
    await canary.finish(status=200, headers={"x-ai-model": CANARY_HEADER}, body=CANARY_ANSWER.encode())


async def test_neither_key_nor_request_nor_answer_is_in_the_database_or_the_log(
    organization: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        await keep_canaries(organization)
    kept = await kept_bytes(organization)
    assert b"canary" not in kept
    assert "canary" not in caplog.text
    again = await replay(organization, key=CANARY_KEY, body=CANARY_PROMPT.encode())
    assert (again.headers["x-ai-model"], again.body) == (CANARY_HEADER, CANARY_ANSWER.encode())


async def test_control_without_the_cipher_the_scan_finds_the_answer(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCipher:
        def encrypt(self, nonce: bytes, plain: bytes, bound_to: bytes) -> bytes:
            return plain

    monkeypatch.setattr(sealing, "_cipher", lambda secrets: NoCipher())
    await keep_canaries(organization)
    kept = await kept_bytes(organization)
    assert CANARY_HEADER.encode() in kept
    assert CANARY_ANSWER.encode() in kept


def test_an_answer_opens_for_its_own_key_organization_request_and_installation_alone(settings: Any) -> None:
    def secrets_of(organization_id: int = 1, key: str = KEY) -> Secrets:
        return Secrets.of(organization_id=organization_id, key=key)

    answer = sealing.Answer(200, HEADERS, b"A")
    sealed = sealing.sealed(answer, secrets=secrets_of(), bound_to=b"request")
    assert sealed is not None
    assert opened(sealed, secrets=secrets_of(), bound_to=b"request") == answer
    strangers = [secrets_of(organization_id=2), secrets_of(key="order-18")]
    settings.SECRET_KEY = "another one, which is long enough to be one"
    strangers.append(secrets_of())
    for stranger in strangers:
        with pytest.raises(InvalidTag):
            opened(sealed, secrets=stranger, bound_to=b"request")
    settings.SECRET_KEY = os.environ["SECRET_KEY"]
    with pytest.raises(InvalidTag):
        opened(sealed, secrets=secrets_of(), bound_to=b"another request")
    assert len({one.key_hash for one in [secrets_of(), *strangers]}) == 4


# --- What is too large


async def test_the_largest_answer_is_kept(organization: Organization) -> None:
    body = os.urandom(SEALED_BYTES_MAX - 100_000)
    await (await claim(organization)).finish(status=200, headers=HEADERS, body=body)
    assert (await replay(organization)).body == body


@pytest.mark.parametrize("bytes_max", ["sealed", "plain"])
async def test_a_larger_one_is_not_and_nobody_pays_for_it_twice_unasked(
    organization: Organization, monkeypatch: pytest.MonkeyPatch, bytes_max: str
) -> None:
    chunk = os.urandom(2**20)
    if bytes_max == "plain":
        monkeypatch.setattr(sealing, "BODY_BYTES_MAX", 5 * 2**20 - 1)
        chunk = bytes(2**20)
    large = await claim(organization)
    duplicate = asyncio.create_task(begin(organization))
    await large.finish(status=200, headers=HEADERS, body=chunk * 5)
    for waiting in (duplicate, asyncio.create_task(begin(organization))):
        with pytest.raises(IdempotencyConflict) as refused:
            await waiting
        assert (refused.value.status, refused.value.code) == (422, "idempotent_answer_not_kept")
    row = await row_of(organization)
    assert row is not None and row.answer is None and row.finished_at is not None


# --- For how long


async def test_an_answer_is_kept_for_a_day_from_its_end(organization: Organization) -> None:
    slow = await claim(organization)
    await alter(organization, expires_at="now() + interval '1 minute'")
    await slow.finish(status=200, headers={}, body=b"A")
    row = await row_of(organization)
    assert row is not None and row.finished_at is not None
    assert row.expires_at - row.finished_at == timedelta(hours=24)
    await sync_to_async(tasks.forget_answers)()
    assert (await replay(organization)).body == b"A"


async def test_the_task_deletes_what_is_older(make_organization: Make) -> None:
    old, young = await sync_to_async(make_organization)(), await sync_to_async(make_organization)()
    for organization in (old, young):
        await (await claim(organization)).finish(status=200, headers={}, body=b"A")
    await alter(old, expires_at="now() - interval '1 second'")
    assert await sync_to_async(tasks.forget_answers)() >= 1
    assert await row_of(old) is None
    assert await row_of(young) is not None


async def test_the_task_deletes_in_batches(make_organization: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "FORGET_BATCH_MAX", 2)
    organizations = [await sync_to_async(make_organization)() for _ in range(5)]
    for organization in organizations:
        await claim(organization)
        await alter(organization, expires_at="now()")
    assert await sync_to_async(tasks.forget_answers)() >= 5
    assert [await row_of(organization) for organization in organizations] == [None] * 5


def test_the_task_is_scheduled() -> None:
    scheduled = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert tasks.forget_answers.name in scheduled


async def test_an_old_answer_is_not_given_any_more_even_where_the_task_is_late(
    organization: Organization,
) -> None:
    await (await claim(organization)).finish(status=200, headers={}, body=b"A")
    await alter(organization, expires_at="now()")
    anew = await claim(organization, body=b"another body, which is no conflict any more")
    await anew.finish(status=200, headers={}, body=b"B")
    row = await row_of(organization)
    assert row is not None and row.finished_at is not None


# --- The database away


@asynccontextmanager
async def no_connection(*, wait_s: float = 0) -> AsyncIterator[database.Connection]:
    raise database.unavailable()
    yield


async def test_without_the_database_nothing_is_begun(
    organization: Organization, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {**settings.DATABASES["default"], "HOST": "/nonexistent"}
    with monkeypatch.context() as away, pytest.raises(BudgetUnavailable) as refused:
        away.setattr(database, "connection", IMPATIENT_CONNECTION)
        away.setitem(settings.DATABASES, "default", nowhere)
        async with database.pool_opened():
            await begin(organization)
    assert (refused.value.status, refused.value.code) == (503, "budget_unavailable")


async def test_an_answer_that_came_while_the_database_is_away_is_kept_when_it_is_back(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await claim(organization) as first:
        with monkeypatch.context() as away:
            away.setattr(database, "connection", no_connection)
            await first.finish(status=200, headers={}, body=b"A")
            with pytest.raises(BudgetUnavailable):
                await begin(organization)
    assert (await replay(organization)).body == b"A"


async def test_a_claim_that_may_have_been_made_when_the_connection_broke_is_released(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = database.connection

    @asynccontextmanager
    async def breaks_after_the_statement(*, wait_s: float = 1) -> AsyncIterator[database.Connection]:
        async with connected(wait_s=wait_s) as conn:
            yield conn
        raise database.unavailable()

    with monkeypatch.context() as broken, pytest.raises(BudgetUnavailable):
        broken.setattr(database, "connection", breaks_after_the_statement)
        await begin(organization)
    await background.drained(wait_s=WAIT_S)
    await claim(organization)
