"""When models were asked and when they rested, as a timeline. Pure: what it shows is handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kpis import plots
from kpis.buckets import Buckets
from kpis.figures import Figure, Words
from kpis.plots import Span, Spans
from kpis.tables import Column, Table, Value, write
from providers.circuit import ALL_MODELS, Key
from providers.circuit_history import Rest
from providers.models import ProviderName
from providers.status_pages import REASONS

#: In the order in which they are drawn, one over the other where there is no room.
STANDINGS: Mapping[str, tuple[Any, str]] = {
    "half_open": (gettext_lazy("Being tried"), plots.PURPLE),
    "open": (gettext_lazy("Resting"), plots.VERMILION),
    "forced_open": (gettext_lazy("Kept off"), plots.GREY),
}
#: Of more, the picture and the table have the newest.
RESTS_SHOWN_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Lately:
    """What is known of the circuits.

    Args:
        called: the models that were called; of others, and of all of a provider's, only those that rested.
        now: until when there is something to show.
    """

    called: Sequence[Key]
    rests: Sequence[Rest]
    steps: Buckets
    now: datetime


def circuit_timeline(words: Words, given: Lately) -> Figure:
    """A row for each model: a thin line where it was asked, and broad where it was not."""
    newest = sorted(given.rests, key=lambda rest: rest.begin, reverse=True)[:RESTS_SHOWN_MAX]
    if not newest:
        return Figure(words, Table(_columns(), []))
    keys = sorted({*given.called, *((rest.provider, rest.model) for rest in newest)})
    table = Table(_columns(), [_row(rest) for rest in newest])
    plot = plots.timeline(
        [_name(key) for key in keys], _series(keys, newest, given), ticks=given.steps.labels
    )
    return Figure(words, table, plot)


def _columns() -> tuple[Column, ...]:
    return (
        *(Column(_("Provider")), Column(_("Model")), Column(_("State")), Column(_("From"), "instant")),
        *(Column(_("To"), "instant"), Column(_("Duration"), "s"), Column(_("Reason"))),
    )


def _row(rest: Rest) -> tuple[Value, ...]:
    lasted_s = (rest.end - rest.begin).total_seconds() if rest.end else None
    return (
        *(provider_name(rest.provider), _model(rest.model), str(STANDINGS[rest.standing][0])),
        *(rest.begin, rest.end, lasted_s, str(REASONS.get(rest.reason, rest.reason))),
    )


def _series(keys: Sequence[Key], rests: Sequence[Rest], given: Lately) -> list[Spans]:
    asked = str(_("Asked as usual"))
    now = place(given.now, given.steps)
    lines = [Span(row, 0, now, f"{_name(key)}: {asked}") for row, key in enumerate(keys)]
    found = [Spans(asked, plots.GREEN, lines, is_broad=False)]
    for standing, (name, color) in STANDINGS.items():
        spans = [
            _span(rest, keys.index((rest.provider, rest.model)), given)
            for rest in rests
            if rest.standing == standing
        ]
        if spans:
            found.append(Spans(str(name), color, spans))
    return found


def _span(rest: Rest, row: int, given: Lately) -> Span:
    end = rest.end or given.now
    words = f"{_name((rest.provider, rest.model))}: {STANDINGS[rest.standing][0]}"
    times = f"{write(rest.begin, 'instant')} – {write(end, 'instant')}"
    return Span(row, place(rest.begin, given.steps), place(end, given.steps), f"{words}, {times}")


def place(at: datetime, steps: Buckets) -> float:
    """Where an instant is among the steps: 1.5 is the middle of the second one."""
    local = localtime(at).replace(tzinfo=None)
    for number, step in enumerate(steps.steps):
        if local.date() <= step.last:
            begin = datetime.combine(step.first, time.min)
            whole = timedelta(days=(step.last - step.first).days + 1)
            return number + max((local - begin) / whole, 0.0)
    return float(len(steps.steps))


def provider_name(provider: str) -> str:
    return str(ProviderName(provider).label) if provider in ProviderName else provider


def _model(model: str) -> str:
    return _("all models") if model == ALL_MODELS else model


def _name(key: Key) -> str:
    return f"{provider_name(key[0])} {_model(key[1])}" if key[1] == ALL_MODELS else key[1]
