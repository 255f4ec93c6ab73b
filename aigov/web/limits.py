"""How much is let in, asked before any work is done.

    in flight       what one process works on at once, for everybody and for each organization, counted from
                    its start to its end (a stream's too, whether or not its client is still there): 503
    request rate    what one API key sends in a minute, counted for all processes together in Valkey: 429

The rate is a generic cell rate (GCRA): a full minute's requests at once, and then each as soon as its share
of a minute has passed. A key's whole state is one instant, and Valkey's clock is the only one. It is off
unless a setting switches it on, and costs nothing then. Valkey away: everybody is let in, for only speed is
at stake.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aigov import valkey
from aigov.errors import Overloaded, RateLimited
from aigov.organizations.principals import Principal
from aigov.registry.snapshot import settings_for
from aigov.web import keys

WAIT_S = 0.5
LEFT_ALONE_S = 2.0
OVERLOADED_RETRY_AFTER_S = 1
MINUTE_US = 60_000_000

#: KEYS[1]: when the key will have all its requests back. ARGV: the time that gives one back, and all, in µs.
#: Returns whether the request may come, in how many µs all are back, and in how many it may come.
_COUNT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local one, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = tonumber(redis.call('GET', KEYS[1]) or 0)
local before = math.min(math.max(known, now), now + all)
local after = before + one
if after - now > all then
  return {0, before - now, after - now - all}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, after - now, 0}
"""


class InFlight:
    """What a process works on at this moment."""

    def __init__(self) -> None:
        self._of: Counter[int] = Counter()

    @property
    def total(self) -> int:
        return self._of.total()

    def of(self, organization_id: int) -> int:
        return self._of[organization_id]

    def take(self, organization_id: int, *, process_max: int, organization_max: int) -> "Slot":
        """A place for one request, to be released when its work has ended.

        Raises:
            Overloaded: there is none, for this organization or for anybody.
        """
        if self._of[organization_id] >= organization_max:
            raise _overloaded("Too many requests of this organization are under way.", "organization")
        if self.total >= process_max:
            raise _overloaded("Too many requests are under way.", "process")
        self._of[organization_id] += 1
        return Slot(self, organization_id)

    def give_back(self, organization_id: int) -> None:
        self._of[organization_id] -= 1
        if not self._of[organization_id]:
            del self._of[organization_id]


class Slot:
    """A request's place among those under way; used as a context around its work, or released by hand.

    `headers` are those of its answer that say how much may still come.
    """

    def __init__(self, in_flight: InFlight, organization_id: int) -> None:
        self.headers: Mapping[str, str] = {}
        self._in_flight: InFlight | None = in_flight
        self._organization_id = organization_id

    def release(self) -> None:
        """Gives the place back; the second time it does nothing."""
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            in_flight.give_back(self._organization_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


IN_FLIGHT = InFlight()


async def admit(principal: Principal) -> Slot:
    """Lets a request in.

    Returns:
        Its place, which must be released when its work has ended, whatever has become of the client.

    Raises:
        Overloaded: the process, or the organization in it, has as much under way as it may.
        RateLimited: the API key has sent as much as it may.
        BudgetUnavailable: the process can't know the limits.
    """
    organization_id = principal.organization_id
    registry = await settings_for(organization_id)
    organization_max: int = registry.value(keys.IN_FLIGHT.name, organization_id=organization_id)
    per_minute: int | None = registry.value(keys.REQUESTS_PER_MINUTE.name, organization_id=organization_id)
    slot = IN_FLIGHT.take(
        organization_id, process_max=settings.IN_FLIGHT_MAX, organization_max=organization_max
    )
    try:
        slot.headers = {} if per_minute is None else await _count(principal.key_id, per_minute)
    except BaseException:
        slot.release()
        raise
    return slot


async def _count(key_id: str, per_minute: int) -> Mapping[str, str]:
    rate = await _rates[asyncio.get_running_loop()].count(key_id, per_minute=per_minute)
    if rate is None:
        return {}
    if rate.retry_after_s:
        raise RateLimited(
            f"This API key may send {per_minute} requests a minute. "
            f"Please repeat the request in {rate.retry_after_s} s.",
            retry_after_s=rate.retry_after_s,
            headers=headers_of(rate),
        )
    return headers_of(rate)


@dataclass(frozen=True, slots=True)
class Rate:
    """How an API key stands after a request.

    Args:
        limit: requests a minute.
        remaining: requests that may come at once.
        reset_ms: milliseconds until all may come at once.
        retry_after_s: whole seconds until this one may come; 0: it may come now.
    """

    limit: int
    remaining: int
    reset_ms: int
    retry_after_s: int


class RequestRates:
    """The rates of all API keys, for one event loop.

    Args:
        valkey: the store that all processes share.
    """

    def __init__(self, valkey: Redis) -> None:
        self._script = valkey.register_script(_COUNT)
        self._left_alone_until = 0.0

    async def count(self, key_id: str, *, per_minute: int) -> Rate | None:
        """Counts a request, in one round trip; None where Valkey is away, so that nobody knows."""
        if time.monotonic() < self._left_alone_until:
            return None
        one_us = MINUTE_US // per_minute
        all_us = one_us * per_minute
        try:
            # Not redis' own time-out, in which Python 3.11 can lose a cancellation.
            async with asyncio.timeout(WAIT_S):
                admitted, back_us, wait_us = await self._script(
                    keys=[f"aigov:rate:{key_id}"], args=[one_us, all_us]
                )
        except (RedisError, OSError, TimeoutError):
            self._left_alone_until = time.monotonic() + LEFT_ALONE_S
            return None
        return Rate(
            limit=per_minute,
            remaining=(all_us - back_us) // one_us if admitted else 0,
            reset_ms=math.ceil(back_us / 1000),
            retry_after_s=math.ceil(wait_us / 1_000_000),
        )


def headers_of(rate: Rate) -> dict[str, str]:
    """The headers that OpenAI's clients know."""
    return {
        "x-ratelimit-limit-requests": str(rate.limit),
        "x-ratelimit-remaining-requests": str(rate.remaining),
        "x-ratelimit-reset-requests": duration_text(rate.reset_ms),
    }


def duration_text(milliseconds: int) -> str:
    """As OpenAI writes it, which is Go's way: `17ms`, `8.64s`, `1m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest_ms = divmod(milliseconds, 60_000)
    seconds = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _overloaded(message: str, scope: str) -> Overloaded:
    return Overloaded(
        f"{message} Please repeat the request shortly.",
        metadata={"scope": scope},
        retry_after_s=OVERLOADED_RETRY_AFTER_S,
    )


_rates: WeakKeyDictionary[asyncio.AbstractEventLoop, RequestRates] = WeakKeyDictionary()


@asynccontextmanager
async def rates_opened() -> AsyncIterator[None]:
    """Opens the running loop's way to the rates for the time of the block. Valkey may be down."""
    loop = asyncio.get_running_loop()
    async with valkey.opened() as connections:
        _rates[loop] = RequestRates(connections)
        try:
            yield
        finally:
            _rates.pop(loop, None)
