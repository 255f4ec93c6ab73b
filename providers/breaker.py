"""Whether a model may be called, or has lately failed so often that the call goes elsewhere at once.

Each process decides by what it knows itself, without I/O: a call's outcome changes the process's own view
of the circuit at once, by the rules of `providers.circuit`. One task tells the store in Valkey what
happened here, and takes over what happened elsewhere: as soon as a call has failed, and otherwise every
`VIEW_S` seconds. So one process's failures keep all others from the model a quarter of a second later.

Only who meets a half-open circuit asks Valkey itself, for the one probe that all processes together may
send within a window: everybody else goes on to another provider until its outcome is known.

Without Valkey each process goes on alone by the same rules, and looks every `RECONNECT_S` seconds whether
it is back; no call waits for that. What Valkey has lost by then, such as an operator's switch, it gets back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from weakref import WeakKeyDictionary

from django.conf import settings

from aigov import clock
from providers import circuit_store
from providers.circuit import (
    ALL_MODELS,
    UNTOUCHED,
    Change,
    Circuit,
    Key,
    Standing,
    Switch,
    after_failure,
    after_success,
    fault_of,
    in_force,
    replayed,
    switch_in_force,
    switched,
    wait_s,
)
from providers.circuit_store import CircuitStore, StoreUnavailable
from providers.errors import ProviderError

log = logging.getLogger(__name__)

VIEW_S = 0.25
RECONNECT_S = 1.0
#: Outcomes of one model that wait for the store at most; further ones only this process knows of.
PENDING_MAX = 1_000


@dataclass(frozen=True, slots=True)
class State:
    """A circuit as people and metrics see it.

    Args:
        state: with the switch that is in force.
        successes, failures: within the running window of 30 s.
        opened_at, retry_at: None while it is closed.
        reason: the kind of failure that opened it.
        down_since: when it opened first without a success since; None while it is closed.
    """

    state: Standing
    switch: Switch
    successes: int
    failures: int
    opened_at: datetime | None
    retry_at: datetime | None
    reason: str
    down_since: datetime | None = None


class Breaker:
    """The circuits as one process (one event loop) knows them. None of its methods fails or waits long."""

    def __init__(self, store: CircuitStore) -> None:
        self._store = store
        self._alone_since: float | None = None
        self._circuits: dict[Key, Circuit] = {}
        self._pending: dict[Key, list[Change]] = {}
        self._no_probe_before: dict[Key, float] = {}
        self._probing: dict[Key, asyncio.Task[object] | None] = {}
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    async def admits(self, provider: str, model: str) -> bool:
        """Whether a call may be sent; if so, one of `succeeded`, `failed` and `released` has to follow."""
        key = (provider, model)
        stands = self._standing(key)
        return stands == "closed" or (stands == "half_open" and await self._takes_probe(key))

    def is_closed(self, provider: str, model: str) -> bool:
        """Whether a call may be sent that is no probe."""
        return self._standing((provider, model)) == "closed"

    def wait_s(self, provider: str, model: str) -> float:
        """In how many seconds a call may be sent; 0 where one may be now."""
        return wait_s(*self._known((provider, model)), _now())

    async def succeeded(self, provider: str, model: str) -> None:
        self._ended((provider, model), partial(after_success, now=_now()))

    async def failed(self, provider: str, model: str, error: ProviderError) -> None:
        """Counts `error` if it says something of the model; else the call has no verdict."""
        fault = fault_of(error)
        if fault is None:
            await self.released(provider, model)
            return
        self._ended((provider, model), partial(after_failure, fault=fault, now=_now()))
        self._news.set()

    async def released(self, provider: str, model: str) -> None:
        """The call ended without a verdict on the model: if it was the probe, another call may be."""
        key = (provider, model)
        if self._probing.get(key) is not asyncio.current_task():
            return
        del self._probing[key]
        if self._alone_since is None:
            with suppress(StoreUnavailable):
                await self._store.give_back_probe(key)
        self._no_probe_before.pop(key, None)

    @asynccontextmanager
    async def watched(self, provider: str, model: str) -> AsyncIterator[None]:
        """Notes how the admitted call of the block ends."""
        try:
            yield
        except ProviderError as error:
            await self.failed(provider, model, error)
            raise
        except BaseException:
            await self.released(provider, model)
            raise
        await self.succeeded(provider, model)

    async def states(self) -> Mapping[Key, State]:
        """All models that were called lately or have a switch; the model `*` is a provider's own switch."""
        return _states(self._circuits)

    async def switch(self, provider: str, model: str, *, to: Switch) -> None:
        """Turns the switch of a model, or with `*` of all the provider's, whose own ones are reset.

        Raises:
            StoreUnavailable: only this process knows of it.
        """
        if model == ALL_MODELS:
            for key in [key for key in self._circuits if key[0] == provider]:
                self._change(key, partial(switched, to="automatic"))
        self._change((provider, model), partial(switched, to=to))
        await self.refresh()
        if self._alone_since is not None:
            raise StoreUnavailable("Valkey cannot be reached")

    async def refresh(self) -> None:
        """Tells the store what happened here, and takes over what it knows, if it answers."""
        async with self._turn:
            sent, self._pending = self._pending, {}
            try:
                circuits, late = await self._store.apply(sent, known=dict(self._circuits))
            except StoreUnavailable as error:
                self._detach(error)
                return
            for key, changes in late.items():
                if changes:
                    self._pending[key] = [*changes, *self._pending.get(key, ())]
            self._take_over(circuits)

    async def keep_fresh(self) -> None:
        """Refreshes for ever."""
        while True:
            try:
                await self.refresh()
            except Exception:
                # A defect must not end the task: the process would know only of its own calls.
                log.exception("the circuits could not be refreshed")
            with suppress(TimeoutError):
                async with asyncio.timeout(VIEW_S if self._alone_since is None else RECONNECT_S):
                    await self._news.wait()
            self._news.clear()

    # --- The process's own view

    def _standing(self, key: Key) -> Standing:
        return in_force(*self._known(key), _now())

    def _known(self, key: Key) -> tuple[Circuit, Circuit]:
        """The model's circuit, and that of all the provider's models."""
        return self._circuits.get(key, UNTOUCHED), self._circuits.get((key[0], ALL_MODELS), UNTOUCHED)

    def _ended(self, key: Key, change: Change) -> None:
        before = self._standing(key)
        self._probing.pop(key, None)
        self._change(key, change)
        after = self._standing(key)
        if before != after:
            self._news.set()
            log.warning(
                "the circuit of %s %s is now %s (%s)", *key, after, self._circuits[key].reason or "ok"
            )

    def _change(self, key: Key, change: Change) -> None:
        self._circuits[key] = change(self._circuits.get(key, UNTOUCHED))
        if self._alone_since is None and len(self._pending.get(key, ())) < PENDING_MAX:
            self._pending.setdefault(key, []).append(change)

    async def _takes_probe(self, key: Key) -> bool:
        now = time.monotonic()
        if now < self._no_probe_before.get(key, 0):
            return False
        # While this call asks, and until the view is fresh, the process's other calls need not.
        self._no_probe_before[key] = now + VIEW_S
        if not await self._has_probe(key):
            return False
        self._no_probe_before[key] = now + circuit_store.PROBE_WINDOW_S
        self._probing[key] = asyncio.current_task()
        return True

    async def _has_probe(self, key: Key) -> bool:
        """Whether the fleet's probe falls to this call; without Valkey each process has one of its own."""
        if self._alone_since is not None:
            # Who had the fleet's probe when Valkey went may be at it until its window is over.
            return time.monotonic() - self._alone_since >= circuit_store.PROBE_WINDOW_S
        try:
            circuit = await self._store.take_probe(key)
        except StoreUnavailable as error:
            self._detach(error)
            return False
        if circuit is None:
            return False
        # What this process has not told yet is done again on what the store knows.
        self._circuits[key] = replayed(circuit, self._pending.get(key, []))
        return self._standing(key) != "open"

    # --- The store

    def _take_over(self, circuits: dict[Key, Circuit]) -> None:
        for key, circuit in circuits.items():
            self._circuits[key] = replayed(circuit, self._pending.get(key, ()))
        if self._alone_since is not None:
            log.warning("Valkey is back: the circuits are shared again")
        self._alone_since = None

    def _detach(self, error: StoreUnavailable) -> None:
        if self._alone_since is None:
            log.warning("Valkey does not answer, each process has circuits of its own: %s", error)
            self._alone_since = time.monotonic()
        self._pending.clear()


def _now() -> float:
    return clock.now().timestamp()


# --- One for each running loop

_breakers: WeakKeyDictionary[asyncio.AbstractEventLoop, Breaker] = WeakKeyDictionary()


def breaker() -> Breaker:
    """The running loop's breaker, within `breaker_opened`."""
    return _breakers[asyncio.get_running_loop()]


@asynccontextmanager
async def breaker_opened() -> AsyncIterator[None]:
    """Keeps the running loop's breaker for the time of the block. Valkey may be down."""
    store = CircuitStore(settings.REDIS_URL)
    opened = Breaker(store)
    await opened.refresh()
    task = asyncio.create_task(opened.keep_fresh(), name="circuits")
    _breakers[asyncio.get_running_loop()] = opened
    try:
        yield
    finally:
        _breakers.pop(asyncio.get_running_loop(), None)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await opened.refresh()
        await store.aclose()


# --- For the admin, whose views are synchronous


def shared_states() -> Mapping[Key, State]:
    """What `Breaker.states` says, from the store.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    return _states(circuit_store.read())


def turn_switch(*, provider: str, model: str, to: Switch) -> None:
    """What `Breaker.switch` does, in the store; in force in every process within `VIEW_S`.

    Raises:
        StoreUnavailable: Valkey does not answer.
    """
    circuit_store.write_switch(provider=provider, model=model, to=to)


def _states(circuits: Mapping[Key, Circuit]) -> dict[Key, State]:
    now = _now()
    return {
        key: _state(circuit, circuits.get((key[0], ALL_MODELS), UNTOUCHED), now)
        for key, circuit in circuits.items()
    }


def _state(circuit: Circuit, all_models: Circuit, now: float) -> State:
    return State(
        state=in_force(circuit, all_models, now),
        switch=switch_in_force(circuit, all_models),
        successes=circuit.successes,
        failures=circuit.failures,
        opened_at=_instant(circuit.opened_at),
        retry_at=_instant(circuit.retry_at),
        reason=circuit.reason,
        down_since=_instant(circuit.down_since),
    )


def _instant(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
