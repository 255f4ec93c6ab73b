"""The circuits of all processes, in one hash of Valkey: a field a model, its circuit as JSON.

Whoever changes a circuit says which text he knew. A script puts the new text in its place only where that
is still the one that stands there, and returns everything as it is now, so that the rules are Python alone
and no change is lost: who was too late does his again on what he got. Where a circuit opens or closes, the
same script notes it in a stream, so each turn of the whole fleet is noted once; `providers.circuit_history`
takes it from there. A probe is a key that one process
sets, and that expires. Nothing here waits longer than `WAIT_S`, and nothing is tried twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import redis
from django.conf import settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from aigov import clock
from providers.circuit import (
    ALL_MODELS,
    UNTOUCHED,
    Change,
    Circuit,
    Key,
    Switch,
    decoded,
    encoded,
    looks_the_same,
    replayed,
    switched,
)

CONNECTIONS_MAX = 4
WAIT_S = 0.25
#: A person in the admin may wait for longer.
ADMIN_WAIT_S = 2.0
#: How often a change is done again at once, where other processes were faster.
ROUNDS_MAX = 10
#: At most one call a window may try a model that is half-open, in all processes together.
PROBE_WINDOW_S = 5.0

CIRCUITS = "aigov:circuits"
PROBE = "aigov:circuit_probe:"
TURNS = "aigov:circuit_turns"
#: The newest turns that wait to be taken into the history; older ones are lost, not calls.
TURNS_MAX = 10_000

#: ARGV: field, known text, new text, when it turned or '', and so on. Returns for each whether it was put in
#: its place, and all.
_EXCHANGE = f"""
local taken = {{}}
for i = 1, #ARGV, 4 do
  local present = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if present == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    if ARGV[i + 3] ~= '' then
      redis.call('XADD', KEYS[2], 'MAXLEN', {TURNS_MAX}, '*',
                 'field', ARGV[i], 'circuit', ARGV[i + 2], 'at', ARGV[i + 3])
    end
    table.insert(taken, 1)
  else
    table.insert(taken, 0)
  end
end
return {{taken, redis.call('HGETALL', KEYS[1])}}
"""
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class StoreUnavailable(Exception):
    """Valkey does not answer."""


class CircuitStore:
    """The shared circuits, for one event loop.

    All methods raise StoreUnavailable.
    """

    def __init__(self, url: str) -> None:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=WAIT_S,
            socket_connect_timeout=WAIT_S,
            # `_in_time` bounds the whole exchange; with a time-out here too, redis-py goes through
            # `asyncio.wait_for`, which costs a task each and, in Python 3.11, may swallow a cancellation.
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._client = Redis.from_pool(pool)
        self._exchange = self._client.register_script(_EXCHANGE)
        self._give_back = self._client.register_script(_GIVE_BACK)
        self._texts: dict[str, str] = {}
        self._name = uuid4().hex

    async def apply(
        self, changes: Mapping[Key, Sequence[Change]], *, known: Mapping[Key, Circuit]
    ) -> tuple[dict[Key, Circuit], dict[Key, Sequence[Change]]]:
        """Makes each of `changes` once, in their order, and reads all circuits.

        Args:
            known: the caller's own view, with the changes; the store gets back from it what it has lost.

        Returns:
            The circuits, and those changes that lost `ROUNDS_MAX` times against other processes.
        """
        late = dict(changes)
        for _ in range(ROUNDS_MAX):
            late = await self._round(late, known)
            late |= {key: () for key in known if _field(key) not in self._texts}
            if not late:
                break
        return _circuits(self._texts), late

    async def _round(
        self, changes: Mapping[Key, Sequence[Change]], known: Mapping[Key, Circuit]
    ) -> dict[Key, Sequence[Change]]:
        """One attempt; the changes that came too late."""
        arguments: list[str] = []
        for key, steps in changes.items():
            before = self._texts.get(_field(key), "")
            after = replayed(decoded(before), steps) if before or key not in known else known[key]
            arguments += [_field(key), before, encoded(after), _turned_at(decoded(before), after)]
        async with _in_time():
            taken, pairs = await self._exchange(keys=[CIRCUITS, TURNS], args=arguments)
        self._texts = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return {key: changes[key] for key, done in zip(changes, taken, strict=True) if not done}

    async def take_probe(self, key: Key) -> Circuit | None:
        """The circuit as it is now, where the probe of this window is the caller's; else None."""
        field = _field(key)
        async with _in_time(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(PROBE + field, self._name, nx=True, px=int(PROBE_WINDOW_S * 1000))
            pipeline.hget(CIRCUITS, field)
            taken, text = await pipeline.execute()
        return decoded(text or "") if taken else None

    async def give_back_probe(self, key: Key) -> None:
        """Lets another call try within the window, if the probe is still the caller's."""
        async with _in_time():
            await self._give_back(keys=[PROBE + _field(key)], args=[self._name])

    async def aclose(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WAIT_S):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


# --- For the admin, whose views are synchronous


def read() -> dict[Key, Circuit]:
    """All circuits.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    with connected() as client:
        return _circuits(client.hgetall(CIRCUITS))


def write_switch(*, provider: str, model: str, to: Switch) -> None:
    """Turns the switch, and forgets what was counted; `ALL_MODELS` does it for each known model too.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    with connected() as client:
        known = _circuits(client.hgetall(CIRCUITS))
        reset = [key for key in known if key[0] == provider and model == ALL_MODELS]
        switches = {**dict.fromkeys(reset, UNTOUCHED), (provider, model): switched(UNTOUCHED, to=to)}
        with client.pipeline(transaction=True) as pipeline:
            for key, circuit in switches.items():
                pipeline.hset(CIRCUITS, _field(key), encoded(circuit))
                if at := _turned_at(known.get(key, UNTOUCHED), circuit):
                    turn = {"field": _field(key), "circuit": encoded(circuit), "at": at}
                    pipeline.xadd(TURNS, turn, maxlen=TURNS_MAX, approximate=False)
            pipeline.execute()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a circuit became, and when, in seconds since the epoch; `name` is the stream's."""

    name: str
    key: Key
    circuit: Circuit
    at: float


def read_turns(client: Any, count: int) -> list[Turn]:
    """The oldest turns that nobody has taken away."""
    return [
        Turn(name, _key(said["field"]), decoded(said["circuit"]), float(said["at"]))
        for name, said in client.xrange(TURNS, count=count)
    ]


def remove_turns(client: Any, turns: Sequence[Turn]) -> None:
    client.xdel(TURNS, *(turn.name for turn in turns))


@contextmanager
def connected() -> Iterator[Any]:
    """A client of Valkey for a few commands.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    waits = {"socket_connect_timeout": ADMIN_WAIT_S, "socket_timeout": ADMIN_WAIT_S}
    try:
        with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True, **waits) as client:
            yield client
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def _turned_at(before: Circuit, after: Circuit) -> str:
    """When the circuit turned, as seconds since the epoch; empty where nobody would see a difference."""
    if looks_the_same(before, after):
        return ""
    opened = after.opened_at and after.opened_at != before.opened_at
    return repr(after.opened_at if opened else clock.now().timestamp())


def _field(key: Key) -> str:
    return "/".join(key)


def _circuits(texts: Mapping[str, str]) -> dict[Key, Circuit]:
    return {_key(field): decoded(text) for field, text in texts.items()}


def _key(field: str) -> Key:
    provider, _, model = field.partition("/")
    return provider, model
