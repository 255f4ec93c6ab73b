"""A route whose large model was not to be had asks only the small one for a while.

A route is an organization's use case. It is demoted when its escalation is refused because the month's
money is used up, or because all providers of the large model have failed; not when the money is only held
by calls in flight. A changed cap clears every demotion of its organization (by a trigger of the database,
so that no way of changing one is forgotten), an answer of any large model those that failure caused, and
time the rest.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from aigov import background, clock, database
from aigov.errors import BudgetExceeded, GatewayError, NoProviderAvailable
from aigov.snapshots import Snapshot
from routing.course import Attempt, Course

Cause = Literal["budget", "providers"]
RouteKey = tuple[int, str]

REPEAT_FOR_S = 5

_LOAD = "SELECT organization_id, use_case, cause, until FROM ai_demotions WHERE until > now()"
# In one order, so that two who clear at once do not wait for each other.
_CLEAR_FAILURES = """
DELETE FROM ai_demotions WHERE id IN (
    SELECT id FROM ai_demotions WHERE cause = 'providers' ORDER BY id FOR UPDATE
)
"""
_DEMOTE = """
INSERT INTO ai_demotions (organization_id, use_case, cause, since, until) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (organization_id, use_case) DO UPDATE SET cause = excluded.cause, until = excluded.until
"""


class Demotions:
    """Which routes are demoted, why, and until when."""

    def __init__(self, until: Mapping[RouteKey, datetime], *, by_failure: bool) -> None:
        self._until = until
        self.by_failure = by_failure

    def holds(self, organization_id: int, use_case: str, now: datetime) -> bool:
        """Whether the route is demoted at the instant `now`."""
        until = self._until.get((organization_id, use_case))
        return until is not None and now < until


async def load_demotions(conn: database.Connection) -> Demotions:
    cursor = await conn.execute(_LOAD)
    rows = await cursor.fetchall()
    until = {(organization_id, use_case): until for organization_id, use_case, _, until in rows}
    return Demotions(until, by_failure=any(cause == "providers" for _, _, cause, _ in rows))


DEMOTIONS = Snapshot(kind="demotions", load=load_demotions)


def is_demoted(course: Course) -> bool:
    """Whether the course's route asks only the small model now."""
    demotions = DEMOTIONS.latest  # only a preference: a paid small answer must not fail for it
    if demotions is None:
        return False
    return demotions.holds(course.principal.organization_id, course.request.use_case, clock.now())


async def note_refusal(course: Course, error: GatewayError) -> None:
    """Demotes the route, if `error` is a reason to."""
    cause = cause_of(error, course.attempts)
    if cause is None or course.policy.demotion_cooldown <= timedelta(0):
        return
    now = clock.now()
    until = now + course.policy.demotion_cooldown
    if cause == "budget" and course.resets_at is not None:
        until = min(until, course.resets_at)  # a new month brings new money
    values = (course.principal.organization_id, course.request.use_case, cause, now, until)
    await _write(_DEMOTE, values, f"demote {course.request.use_case!r}")


async def note_large_answer() -> None:
    """Clears what failure has caused: a large model has answered."""
    demotions = DEMOTIONS.latest
    if demotions is not None and demotions.by_failure:
        await _write(_CLEAR_FAILURES, (), "clear demotions")


def cause_of(error: GatewayError, attempts: Sequence[Attempt]) -> Cause | None:
    """Why `error` demotes a route; None: it does not. One user's cap is no reason for all the others."""
    if isinstance(error, BudgetExceeded):
        return None if error.in_flight or error.metadata.get("scope") == "user" else "budget"
    outcomes = {attempt.outcome for attempt in attempts if attempt.candidate.tier == "large"}
    failed = bool(outcomes & {"failed", "skipped_circuit_open"})
    return "providers" if isinstance(error, NoProviderAvailable) and failed else None


async def _write(statement: str, values: tuple[object, ...], name: str) -> None:
    async def once() -> None:
        async with database.connection() as conn:
            await conn.execute(statement, values)

    await background.now_or_later(once, name=name, for_s=REPEAT_FOR_S)
