"""Answers that are given again: kept in Valkey, apart for each organization, for as long as its settings say.

    find       the answer of an identical request, remembered or under way; else this request asks, and
               everybody identical waits for it, also in other processes
    remember   keeps an answer, and hands it to those who wait
    give_up    there is none: those who wait ask for themselves

Only speed hangs on it. Where Valkey is away or slow it is left alone for a second at a time, and completions
go on; identical requests within the process still share one call.
"""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aigov import valkey
from aigov.web.renderers import json_bytes
from routing import policy
from routing.candidates import wants_confidence
from routing.course import Answer, Course
from routing.policy import Route

WAIT_S = 0.1
LEFT_ALONE_S = 1.0
LOOK_EVERY_S = 0.03
ANSWER_BYTES_MAX = 1_000_000
#: After this a process that asks is taken for dead, and another one asks.
CLAIM_S = 15

#: What stands in an answer's place while a process asks for it; an answer begins with a brace.
CLAIM_MARK = b"asked by "

_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer, and what it cost when it was asked for."""

    answer: Answer
    cost_eur: Decimal


async def find(course: Course) -> Remembered | None:
    """The answer of an identical request, remembered or waited for; None: the request is to ask."""
    request = course.request
    if request.cache == "off" or course.policy.cache_ttl_s <= 0:
        return None
    course.cache_key = key_of(course)
    if request.cache == "refresh":
        return None
    # Half of the time is kept, to ask after all where the one who was waited for has failed.
    patience = course.deadline - course.remaining_s / 2
    found, course.leads_cache = await _cache().find_or_lead(course.cache_key, deadline=patience)
    return found


async def remember(course: Course, answer: Answer, route: Route) -> None:
    """Keeps the answer for as long as the settings say, if it is one to give again."""
    if course.cache_key is None:
        return
    if route == "degraded" or answer.finish_reason != "stop" or answer.confidence == 0:
        await give_up(course)
        return
    remembered = Remembered(answer, course.cost_eur)
    await _cache().keep(course.cache_key, remembered, ttl_s=course.policy.cache_ttl_s)


async def give_up(course: Course) -> None:
    """Says to those who wait for this request's answer that there is none."""
    if course.cache_key is not None and course.leads_cache:
        await _cache().give_up(course.cache_key)


class AnswerCache:
    """One for each process and loop.

    Args:
        valkey: the store that all processes share.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._under_way: dict[str, asyncio.Future[Remembered | None]] = {}
        self._left_alone_until = 0.0
        self._claim = CLAIM_MARK + uuid4().hex.encode()

    async def find_or_lead(self, key: str, *, deadline: float) -> tuple[Remembered | None, bool]:
        """The answer of an identical request, waited for until `deadline` (loop time) where one is under way.

        Without one the request is to ask. Where the second value is true, others wait for it: then
        `keep` or `give_up` must follow.
        """
        leader = self._under_way.get(key)
        if leader is not None:
            return await _before(deadline, asyncio.shield(leader)), False
        self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            found = await self._read_or_claim(key, deadline)
        except BaseException:
            self._end(key, None)
            raise
        if found is not None:
            self._end(key, found)
        return found, found is None

    async def keep(self, key: str, remembered: Remembered, *, ttl_s: int) -> None:
        """Keeps an answer for `ttl_s` seconds, if it is not too large, and hands it to those who wait."""
        try:
            text = _written(remembered)
            if len(text) <= ANSWER_BYTES_MAX:
                await self._try(lambda: self._valkey.set(key, text, ex=ttl_s))
            else:
                await self._release(key)
        finally:
            self._end(key, remembered)

    async def give_up(self, key: str) -> None:
        """Says to those who wait that there is nothing."""
        await self._release(key)
        self._end(key, None)

    async def _read_or_claim(self, key: str, deadline: float) -> Remembered | None:
        """The answer; None where this process is now the one that asks for it.

        Without Valkey, or past `deadline`, nobody can know, and we ask.
        """
        while True:
            text = await self._try(lambda: self._valkey.set(key, self._claim, nx=True, get=True, ex=CLAIM_S))
            if text is None or text == self._claim or _now() >= deadline:
                return None
            if not text.startswith(CLAIM_MARK):
                return _read(text)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _release(self, key: str) -> None:
        """Takes our own claim back, and nobody else's."""
        await self._try(lambda: self._valkey.eval(_RELEASE, 1, key, self._claim))

    def _end(self, key: str, remembered: Remembered | None) -> None:
        future = self._under_way.pop(key, None)
        if future is not None and not future.done():
            future.set_result(remembered)

    async def _try(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """What Valkey answers; None where it does not."""
        if time.monotonic() < self._left_alone_until:
            return None
        try:
            # Not redis' own time-out, in which Python 3.11 can lose a cancellation.
            async with asyncio.timeout(WAIT_S):
                return await command()
        except (RedisError, OSError, TimeoutError):
            self._left_alone_until = time.monotonic() + LEFT_ALONE_S
            return None


def key_of(course: Course) -> str:
    """The key of an answer: the organization and everything that shapes what is answered.

    The text goes into it by a keyed hash, so that nothing can be guessed from the keys.
    """
    request, rules = course.request, course.policy
    tier = policy.first_tier(rules, request)
    shape = (
        *(request.prompt, request.exact, wants_confidence(course, tier)),
        *(request.model, request.tier, tier, course.threshold),
        *(request.max_output_tokens or rules.max_output_tokens, rules.provider_order),
        {provider: dict(models) for provider, models in rules.models.items()},
        sorted((name, provider["base_url"] or "") for name, provider in settings.PROVIDERS.items()),
    )
    text = repr(shape).encode()
    digest = hmac.digest(settings.SECRET_KEY.encode(), text, "sha256").hex()
    return f"aigov:answer:{course.principal.organization_id}:{digest}"


def _written(remembered: Remembered) -> bytes:
    return json_bytes({"answer": remembered.answer, "cost_eur": str(remembered.cost_eur)})


def _read(text: bytes) -> Remembered | None:
    """What `_written` has written; None where it was another release, or is damaged."""
    try:
        kept: dict[str, Any] = json.loads(text)
        return Remembered(Answer.from_json(kept["answer"]), Decimal(kept["cost_eur"]))
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _before(deadline: float, future: "asyncio.Future[Remembered | None]") -> Remembered | None:
    try:
        async with asyncio.timeout_at(deadline):
            return await future
    except TimeoutError:
        return None


_caches: WeakKeyDictionary[asyncio.AbstractEventLoop, AnswerCache] = WeakKeyDictionary()


def _cache() -> AnswerCache:
    return _caches[asyncio.get_running_loop()]


@asynccontextmanager
async def cache_opened() -> AsyncIterator[None]:
    """Opens the running loop's cache for the time of the block. Valkey may be down."""
    loop = asyncio.get_running_loop()
    async with valkey.opened() as connections:
        _caches[loop] = AnswerCache(connections)
        try:
            yield
        finally:
            del _caches[loop]
