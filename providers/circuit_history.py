"""When circuits opened and closed: kept in a table, for people who look back.

The store notes each turn of a circuit in Valkey, in the script that makes it (`providers.circuit_store`); a
task brings them into the table every few seconds. No call waits for any of it. What happens while Valkey is
away is each process's own affair, and is not in the history.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from providers import circuit_store
from providers.circuit import Key
from providers.circuit_store import Turn
from providers.models import CircuitTurn

BATCH_TURNS = 1_000
#: As far as the dashboards look back.
KEPT = timedelta(days=732)
FORGOTTEN_AT_ONCE = 10_000
#: What is read of a period; beyond it the picture would be one colour.
TURNS_READ_MAX = 20_000

Standing = Literal["open", "half_open", "forced_open"]


def keep_turns() -> int:
    """Takes the turns that wait in Valkey into the table; how many. Safe to run twice at once.

    Raises:
        StoreUnavailable: Valkey does not answer; they wait there.
    """
    with circuit_store.connected() as client:
        turns = circuit_store.read_turns(client, BATCH_TURNS)
        if turns:
            record_turns(map(_row, turns))
            circuit_store.remove_turns(client, turns)
    return len(turns)


def record_turns(turns: Iterable[CircuitTurn]) -> None:
    """Writes turns; those that are written already stay as they are."""
    CircuitTurn.objects.bulk_create(turns, ignore_conflicts=True)


def _row(turn: Turn) -> CircuitTurn:
    circuit, (provider, model) = turn.circuit, turn.key
    return CircuitTurn(
        provider=provider[:32],
        model=model[:200],
        at=datetime.fromtimestamp(turn.at, UTC),
        retry_at=datetime.fromtimestamp(circuit.retry_at, UTC) if circuit.retry_at else None,
        reason=circuit.reason[:64],
        switch=circuit.switch,
    )


def forget_turns(before: datetime) -> int:
    """Deletes turns that are older; how many, `FORGOTTEN_AT_ONCE` at most."""
    old = CircuitTurn.objects.filter(at__lt=before).order_by("at").values("pk")[:FORGOTTEN_AT_ONCE]
    return CircuitTurn.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()[0]


@dataclass(frozen=True, slots=True)
class Rest:
    """A time in which a model was not asked, or but for trials.

    Args:
        model: `*` for all of the provider's.
        end: None while it lasts.
        reason: the kind of failure; empty for a switch.
    """

    provider: str
    model: str
    standing: Standing
    begin: datetime
    end: datetime | None
    reason: str


def rests(keys: Iterable[Key], begin: datetime, end: datetime) -> list[Rest]:
    """When the circuits of `keys` were not closed between `begin` and `end`, by key and time; 2 queries."""
    wanted = set(keys)
    by_key = ("provider", "model", "-at")
    known = CircuitTurn.objects.filter(provider__in={key[0] for key in wanted}, at__lt=end)
    earlier = known.filter(at__lt=begin).order_by(*by_key).distinct("provider", "model")
    within = list(known.filter(at__gte=begin).order_by("-at")[:TURNS_READ_MAX])
    # Where only the newest are read, what stood before the period does not reach up to them.
    whole = len(within) < TURNS_READ_MAX
    found: dict[Key, list[CircuitTurn]] = {}
    for turn in (*(earlier if whole else ()), *reversed(within)):
        if (turn.provider, turn.model) in wanted:
            found.setdefault((turn.provider, turn.model), []).append(turn)
    return [
        rest for key in sorted(found) for rest in rests_of(found[key]) if not rest.end or rest.end > begin
    ]


def rests_of(turns: Sequence[CircuitTurn]) -> Iterator[Rest]:
    """The rests that a circuit's turns, one after the other, mean."""
    ends = [turn.at for turn in turns[1:]]
    for turn, until in zip(turns, [*ends, None], strict=True):
        yield from _rests_until(turn, until)


def _rests_until(turn: CircuitTurn, until: datetime | None) -> Iterator[Rest]:
    key = turn.provider, turn.model
    if turn.switch == "forced_open":
        yield Rest(*key, "forced_open", turn.at, until, "")
    if turn.switch != "automatic" or turn.retry_at is None:
        return
    tried_at = turn.retry_at if until is None else min(turn.retry_at, until)
    if turn.at < tried_at:
        yield Rest(*key, "open", turn.at, tried_at, turn.reason)
    if until is None or tried_at < until:
        yield Rest(*key, "half_open", max(tried_at, turn.at), until, turn.reason)
