"""`Idempotency-Key`: one request, however often and however many times at once it is sent, is done once.

    begin      the first to come claims (organization, key) by one INSERT, and does the work; everybody else
               waits for its end, in whatever process, and gets its answer
    finish     keeps the answer for a day, sealed (`aigov.web.sealing`): from now on it is given again
    release    there is no answer worth keeping: whoever comes next does the work

It is kept in PostgreSQL, for it protects money: the database away, nothing is begun. A run whose process
died has its claim until no run that began with it can still be under way; then one of those who repeat the
request does it anew. Whoever lost a claim in that way cannot finish it any more.

The claim is of the organization and not of the API key: a service whose key is replaced between a request and
its repetition must not pay twice.
"""

import asyncio
import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection as django_connection

from aigov import background, database
from aigov.errors import (
    AnswerBroken,
    BadRequest,
    BudgetExceeded,
    GatewayError,
    IdempotencyConflict,
    IdempotencyInProgress,
)
from aigov.web.sealing import Answer, Secrets, opened, request_hash, sealed

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "idempotency-replayed"
KEPT_FOR = timedelta(hours=24)
#: A run ends by its deadline; then it may still be settling, and wait for the database.
GRACE_S = 30
#: For how long the end of a run is repeated while the database is away.
END_REPEATED_FOR_S = 60.0
LOOK_AFTER_S, LOOK_SLOWER_BY, LOOK_EVERY_S_MAX = 0.03, 1.5, 0.5
RETRY_AFTER_S = 2
FORGET_BATCH_MAX = 1_000
FORGET_BATCHES_MAX = 1_000

_KEY = re.compile(r"[!-~]{1,255}")

# Where there is a row already, it is taken only if it stands for nothing any more: it has expired, or its run
# has. Two that insert at once: the second waits for the first's commit, and then finds its row.
CLAIM = """
    INSERT INTO idempotent_answers AS kept
        (organization_id, key_hash, request_hash, owner, claimed_until, expires_at)
    VALUES
        (%(organization_id)s, %(key_hash)s, %(request_hash)s, %(owner)s,
         now() + %(lifetime)s, now() + %(kept_for)s)
    ON CONFLICT (organization_id, key_hash) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, owner = EXCLUDED.owner,
        claimed_until = EXCLUDED.claimed_until, expires_at = EXCLUDED.expires_at,
        finished_at = NULL, answer = NULL
    WHERE kept.expires_at <= now()
        OR (kept.finished_at IS NULL AND kept.claimed_until <= now()
            AND kept.request_hash = EXCLUDED.request_hash)
    RETURNING 1
"""
LOOK = """
    SELECT request_hash, finished_at IS NOT NULL, claimed_until <= now(), answer FROM idempotent_answers
    WHERE organization_id = %(organization_id)s AND key_hash = %(key_hash)s
"""
OWN = "organization_id = %(organization_id)s AND key_hash = %(key_hash)s AND owner = %(owner)s"
FINISH = f"""
    UPDATE idempotent_answers SET finished_at = now(), expires_at = now() + %(kept_for)s, answer = %(answer)s
    WHERE {OWN}
"""
RELEASE = f"DELETE FROM idempotent_answers WHERE {OWN} AND finished_at IS NULL"
FORGET = """
    DELETE FROM idempotent_answers WHERE id IN (
        SELECT id FROM idempotent_answers WHERE expires_at <= now() LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that the first request got; its headers say that it is given again."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request with these headers (looked up by lower-case name) brings; None without one.

    Raises:
        BadRequest: it is not 1 to 255 visible ASCII characters.
    """
    key = headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise BadRequest(f"{HEADER} must be 1 to 255 visible ASCII characters.", param=HEADER)
    return key


async def begin(
    *, organization_id: int, key: str | None, address: str, body: bytes, deadline: float | None = None
) -> "Claim | Replay":
    """The claim to do this request's work; or the answer, where it was done already or is under way.

    Args:
        key: what `key_of` gives. Without a key the claim is one that nobody else can see, at no cost.
        address: the path, with all that shapes the answer and is not in `body`.
        deadline: until when to wait for a run under way, on the event loop's clock; by default
            `REQUEST_DEADLINE_S` from now.

    Raises:
        IdempotencyConflict: the key has been used for another request; or its answer was too large to keep.
        IdempotencyInProgress: the run under way has not ended by `deadline`.
        BudgetUnavailable: the database is away.
    """
    if key is None:
        return UNCLAIMED
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.REQUEST_DEADLINE_S if deadline is None else deadline
    secrets = Secrets.of(organization_id=organization_id, key=key)
    request = _Request(organization_id, secrets, request_hash(address, body), uuid4())
    while not await _claimed(request):
        answer = await _end_of_run(request, deadline)
        if answer is not None:
            return Replay(answer.status, {**answer.headers, REPLAYED: "true"}, answer.body)
        if loop.time() >= deadline:
            raise _in_progress()
    return KeyedClaim(request)


def must_be_replayed(error: GatewayError, *, paid: bool) -> bool:
    """Whether `error` is to be kept like an answer (`finish`), rather than release the key.

    An error releases the key, so that a repetition can succeed; that it may have cost something changes
    nothing, for what was paid has brought no answer, and each repetition is held and capped like any call.
    But where money was spent and a repetition can't end otherwise (a defect of ours after the provider's
    answer, a request that the second provider calls wrong after the first was paid), clients that repeat
    each 500 of their own accord would pay each time for nothing: they get the error again, at no cost.
    Whoever wants to try all the same takes a new key. A reached cap is no such case: it can be raised; nor is
    a stream that broke off: another one may come whole.

    Args:
        paid: whether the run has cost anything.
    """
    return paid and not error.retryable and not isinstance(error, BudgetExceeded | AnswerBroken)


class Claim:
    """The right to do a request's work; this one for a request without a key, which is never repeated.

    Used as a context (`async with claim:`) around the work, it is released at the end of the block unless it
    is finished by then. The work belongs into a task of its own (`aigov.background`), so that a client that
    goes away does not end it.
    """

    async def finish(self, *, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keeps the answer, and hands it to those who wait. While the database is away, in the background.

        Args:
            headers: those to be given again: not those of the moment, such as `x-ratelimit-…`.
        """

    async def release(self) -> None:
        """There is no answer to keep. After `finish` it does nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


UNCLAIMED = Claim()


@dataclass(frozen=True, slots=True)
class _Request:
    """A request under a key, and the run that this process would make of it."""

    organization_id: int
    secrets: Secrets
    request_hash: bytes
    owner: UUID

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "organization_id": self.organization_id,
            "key_hash": self.secrets.key_hash,
            "request_hash": self.request_hash,
            "owner": self.owner,
            "lifetime": timedelta(seconds=settings.REQUEST_DEADLINE_S + GRACE_S),
            "kept_for": KEPT_FOR,
        }


class KeyedClaim(Claim):
    """The claim of a request with a key."""

    def __init__(self, request: _Request) -> None:
        self._request = request
        self._ended = False

    async def finish(self, *, status: int, headers: Mapping[str, str], body: bytes) -> None:
        answer = Answer(status, headers, body)
        kept = sealed(answer, secrets=self._request.secrets, bound_to=self._request.request_hash)
        self._ended = True
        await _end(self._request, FINISH, answer=kept)

    async def release(self) -> None:
        if not self._ended:
            self._ended = True
            await _end(self._request, RELEASE)


async def _claimed(request: _Request) -> bool:
    try:
        async with database.connection() as conn:
            cursor = await conn.execute(CLAIM, request.parameters)
            return cursor.rowcount == 1
    except database.NotConnected:
        raise
    except BaseException:
        # Broken off, or cancelled with the client: the claim may stand all the same, and nobody else has it.
        background.spawn(_end(request, RELEASE), name="release of an uncertain claim")
        raise


async def _end_of_run(request: _Request, deadline: float) -> Answer | None:
    """The answer of the run under way, when it has ended; None where there is nothing to wait for."""
    loop, pause = asyncio.get_running_loop(), LOOK_AFTER_S
    while True:
        row = await _look(request)
        if row is None:
            return None
        known_hash, finished, lapsed, answer = row
        if known_hash != request.request_hash:
            raise IdempotencyConflict(f"This {HEADER} has been used for another request.", param=HEADER)
        if finished:
            return _opened(request, answer)
        if lapsed:
            return None
        if loop.time() >= deadline:
            raise _in_progress()
        # Those who came together need not look together.
        await asyncio.sleep(min(pause * random.uniform(0.8, 1.2), max(deadline - loop.time(), 0)))
        pause = min(pause * LOOK_SLOWER_BY, LOOK_EVERY_S_MAX)


async def _look(request: _Request) -> tuple[bytes, bool, bool, bytes | None] | None:
    async with database.connection() as conn:
        cursor = await conn.execute(LOOK, request.parameters)
        row: tuple[bytes, bool, bool, bytes | None] | None = await cursor.fetchone()
        return row


def _in_progress() -> IdempotencyInProgress:
    message = f"The first request with this {HEADER} is still being answered. Please repeat it shortly."
    return IdempotencyInProgress(message, retry_after_s=RETRY_AFTER_S)


def _opened(request: _Request, answer: bytes | None) -> Answer:
    if answer is None:
        raise IdempotencyConflict(
            f"The answer to this {HEADER} has been given, and was too large to be kept. "
            "To ask again, and pay again, take a new key.",
            param=HEADER,
            code="idempotent_answer_not_kept",
        )
    return opened(answer, secrets=request.secrets, bound_to=request.request_hash)


async def _end(request: _Request, statement: str, **parameters: Any) -> None:
    """Ends a run, also when whoever awaits it is cancelled, and later where the database is away."""

    async def once() -> None:
        async with database.connection(wait_s=database.PATIENT_WAIT_S) as conn:
            cursor = await conn.execute(statement, request.parameters | parameters)
            if statement is FINISH and cursor.rowcount == 0:
                log.warning("an answer came after its claim had lapsed, and is not kept")

    name = "end of an idempotent run"
    work = background.now_or_later(once, name=name, for_s=END_REPEATED_FOR_S)
    await asyncio.shield(background.spawn(work, name=name))


def forget_expired() -> int:
    """Deletes what is older than it is kept for, and returns how many that were."""
    forgotten = 0
    for _ in range(FORGET_BATCHES_MAX):
        with django_connection.cursor() as cursor:
            cursor.execute(FORGET, {"batch": FORGET_BATCH_MAX})
            forgotten += cursor.rowcount
            if cursor.rowcount < FORGET_BATCH_MAX:
                break
    return forgotten
