"""What the demo's traffic cost, and what it would have cost with the large model alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aigov import database
from aigov.demo.traffic import Answer
from aigov.money import ZERO

ROUTES = ("small", "large", "cache", "degraded")
#: How the table names the routes.
NAMES = {"small": "small", "large": "large", "cache": "cached", "degraded": "degraded"}
WIDTH = 78


@dataclass(slots=True)
class Line:
    """The answers of one route: how many, their cost, and how many labels of how many were right."""

    answers: int = 0
    cost_eur: Decimal = ZERO
    judged: int = 0
    right: int = 0

    def add(self, answer: Answer) -> None:
        self.answers += 1
        self.cost_eur += Decimal(answer.body["cost_eur"])
        if answer.right is not None:
            self.judged += 1
            self.right += answer.right


@dataclass(slots=True)
class Figures:
    """The lines of the table; `all_large_eur` is what the same answers would have cost all-large."""

    lines: dict[str, Line] = field(default_factory=lambda: {route: Line() for route in ROUTES})
    total: Line = field(default_factory=Line)
    escalated: int = 0
    all_large_eur: Decimal = ZERO
    unanswered: Counter[str] = field(default_factory=Counter)

    @property
    def saved_eur(self) -> Decimal:
        return self.all_large_eur - self.total.cost_eur


async def all_large_of(answers: Sequence[Answer]) -> Mapping[str, Decimal]:
    """What each of the answers would have cost all-large, by its id, as its decision says."""
    ids = [answer.body["id"] for answer in answers if answer.answered]
    async with database.pool_opened(), database.connection() as conn:
        cursor = await conn.execute(
            "SELECT id, coalesce(all_large_eur, cost_eur) FROM ai_decisions WHERE id = ANY(%s)", (ids,)
        )
        return dict(await cursor.fetchall())


def add_up(answers: Sequence[Answer], all_large_eur: Mapping[str, Decimal]) -> Figures:
    """The figures of `answers`; what each would have cost all-large is looked up by its id."""
    figures = Figures()
    for answer in answers:
        if not answer.answered:
            figures.unanswered[answer.error_code] += 1
            continue
        figures.lines[answer.body["route"]].add(answer)
        figures.total.add(answer)
        attempts = answer.body["attempts"]
        figures.escalated += any(attempt["outcome"] == "low_confidence" for attempt in attempts)
        figures.all_large_eur += all_large_eur[answer.body["id"]]
    return figures


def table(figures: Figures, budget: Mapping[str, Any]) -> Iterator[str]:
    """The table's lines, at most `WIDTH` characters wide."""
    yield f"{'answered by':<22}{'answers':>9}{'share':>8}{'cost EUR':>16}{'labels right':>18}"
    yield "-" * WIDTH
    for route, line in figures.lines.items():
        yield _row(NAMES[route], line, figures.total.answers)
    yield "-" * WIDTH
    yield _row("total", figures.total, figures.total.answers)
    yield ""
    yield from _notes(figures)
    yield ""
    yield _amount(f"cap of {budget['month']}", Decimal(budget["limit_eur"]))
    yield _amount("spent", Decimal(budget["spent_eur"]))
    yield _amount("left", Decimal(budget["remaining_eur"]))


def _row(name: str, line: Line, answers: int) -> str:
    share = f"{100 * line.answers / answers:.0f} %" if answers else "–"
    right = f"{line.right} of {line.judged}" if line.judged else "–"
    return f"{name:<22}{line.answers:>9}{share:>8}{line.cost_eur:>16.6f}{right:>18}"


def _notes(figures: Figures) -> Iterator[str]:
    yield _amount("all-large would cost", figures.all_large_eur)
    share = f"  ({100 * figures.saved_eur / figures.all_large_eur:.0f} %)" if figures.all_large_eur else ""
    yield _amount("saved", figures.saved_eur) + share
    yield "All-large: the same tokens at the large model's price; where the large model"
    yield f"was asked ({figures.escalated} times after an unsure small one), what it cost."
    for code, count in figures.unanswered.most_common():
        yield f"Not answered: {count} ({code})"


def _amount(name: str, amount_eur: Decimal) -> str:
    return f"{name:<22}{amount_eur:>33.6f} EUR"
