"""The record of how each request ended: one row, read by its id.

Those that end while a statement is under way share the next one.
"""

import asyncio
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from psycopg.rows import dict_row

from aigov import background, database
from aigov.errors import GatewayError, NotFound
from aigov.money import euro_text
from aigov.web.renderers import json_bytes
from routing import charging
from routing.course import Completion, Course, usage_as_json
from routing.requests import CompletionRequest

#: For how long a decision is tried to be recorded while the database is away; the ledger has the money.
REPEAT_FOR_S = 60

_ID = re.compile(r"cmp_[0-9a-f]{32}", re.ASCII)

_COLUMNS = (
    *("id", "organization_id", "key_id", "request_id", "created_at", "use_case", '"user"', "wanted"),
    *("prompt_sha256", "threshold", "attempts", "cost_eur", "latency_ms", "metadata"),
    *("cached", "saved_eur", "all_large_eur"),
    *("route", "tier", "provider", "model", "confidence", "confidence_method", "usage", "finish_reason"),
    "error_code",
)
# A repeat after a lost acknowledgement is no second decision.
_INSERT = (
    f"INSERT INTO ai_decisions ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)}"
    " FROM json_populate_recordset(NULL::ai_decisions, %s::json) ON CONFLICT (id) DO NOTHING"
)
#: What every row has, where nothing was answered.
_UNANSWERED = {
    **dict.fromkeys(("route", "tier", "provider", "model", "confidence_method", "finish_reason"), ""),
    **{"cached": False, "saved_eur": "0", "error_code": ""},
}

Row = Mapping[str, Any]


async def record(completion: Completion) -> None:
    """Records how a request was answered."""
    answer, all_large_eur = completion.answer, charging.all_large_eur(completion)
    outcome = {
        "cached": completion.cached,
        "saved_eur": euro_text(completion.saved_eur),
        "all_large_eur": None if all_large_eur is None else euro_text(all_large_eur),
        "route": completion.route,
        "tier": answer.tier,
        "provider": answer.provider,
        "model": answer.model,
        "confidence": answer.confidence,
        "confidence_method": answer.confidence_method,
        "usage": usage_as_json(answer.usage),
        "finish_reason": answer.finish_reason,
    }
    await _write(_row(completion.course, outcome))


async def record_refusal(course: Course, error: Exception) -> None:
    """Records that a request was refused, or got no answer, with all that was paid on the way."""
    code = (error.code or error.type) if isinstance(error, GatewayError) else "internal_error"
    await _write(_row(course, {"error_code": code}))


def _row(course: Course, outcome: Mapping[str, Any]) -> Row:
    request, principal = course.request, course.principal
    return {
        **_UNANSWERED,
        "id": course.id,
        "organization_id": principal.organization_id,
        "key_id": principal.key_id,
        "request_id": course.request_id,
        "created_at": course.created_at.isoformat(),
        "use_case": request.use_case,
        "user": request.user,
        "wanted": request.model or request.tier,
        "prompt_sha256": prompt_sha256(request),
        "threshold": course.threshold,
        "attempts": [attempt.as_recorded() for attempt in course.attempts],
        "cost_eur": euro_text(course.cost_eur),
        "latency_ms": course.latency_ms,
        "metadata": dict(request.metadata),
        **outcome,
    }


# --- Writing


class _Batch:
    """Rows that one statement writes.

    Args:
        before: the batch before it, while which is under way its own rows gather.
        refused: why the database does not take a row, by its id.
    """

    def __init__(self, before: "asyncio.Task[None] | None") -> None:
        self.rows: list[Row] = []
        self.refused: dict[str, Exception] = {}
        self.written = background.spawn(self._write(before), name="decisions")

    async def _write(self, before: "asyncio.Task[None] | None") -> None:
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait([before])
        del _gathering[loop]
        try:
            await _insert(self.rows)
        except Exception:
            await self._write_each()
        if _latest.get(loop) is self.written:
            del _latest[loop]

    async def _write_each(self) -> None:
        """One of the rows is wrong, for which the others must not suffer."""
        for row in self.rows:
            try:
                await _insert([row])
            except Exception as error:
                self.refused[row["id"]] = error


#: Each running loop's batch that still takes rows, and the last that was begun.
_gathering: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batch] = WeakKeyDictionary()
_latest: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


async def _write(row: Row) -> None:
    loop = asyncio.get_running_loop()
    batch = _gathering.get(loop)
    if batch is None:
        batch = _gathering[loop] = _Batch(before=_latest.get(loop))
        _latest[loop] = batch.written
    batch.rows.append(row)
    await asyncio.shield(batch.written)
    if row["id"] in batch.refused:
        raise batch.refused[row["id"]]


async def _insert(rows: Sequence[Row]) -> None:
    """Writes `rows` in one statement; while the database is away, in the background."""
    values = (json_bytes(rows).decode(),)

    async def once() -> None:
        async with database.connection(wait_s=database.PATIENT_WAIT_S) as conn:
            await conn.execute(_INSERT, values)

    await background.now_or_later(once, name=f"record {len(rows)} decisions", for_s=REPEAT_FOR_S)


def prompt_sha256(request: CompletionRequest) -> str:
    """A keyed hash of what was asked: repeats can be counted, and nobody can guess the text from it."""
    text = "".join(f"{message.role}\0{message.content}\0" for message in request.prompt.messages)
    return hmac.digest(settings.SECRET_KEY.encode(), text.encode(), "sha256").hex()


async def find(*, completion_id: str, organization_id: int) -> dict[str, Any]:
    """A completion's metadata and costs, as the API shows them; its text is not kept.

    Raises:
        NotFound: the organization has no completion of that id.
    """
    if _ID.fullmatch(completion_id) is None:
        raise NotFound("There is no completion of this id.", param="id")
    async with database.connection() as conn:
        cursor = conn.cursor(row_factory=dict_row)
        await cursor.execute(_FIND, (completion_id, organization_id))
        decision = await cursor.fetchone()
        if decision is None:
            raise NotFound("There is no completion of this id.", param="id")
        await cursor.execute(_FIND_COSTS, (completion_id, organization_id))
        costs = {row["attempt"]: row async for row in cursor}
    return _shown(decision, costs)


def _shown(decision: dict[str, Any], costs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    attempts = [
        attempt | _shown_cost(costs.get(at), attempt) for at, attempt in enumerate(decision.pop("attempts"))
    ]
    created_at: datetime = decision["created_at"]
    return decision | {
        "created_at": created_at.isoformat(timespec="seconds"),
        "route": decision["route"] or None,
        "attempts": attempts,
        "cost_eur": euro_text(decision["cost_eur"]),
        "saved_eur": euro_text(decision["saved_eur"]),
    }


def _shown_cost(cost: dict[str, Any] | None, attempt: dict[str, Any]) -> dict[str, Any]:
    if cost is None:
        return {"cost_usd": None, "fx_rate": None, "usage": None, "price": None}
    return {
        "cost_eur": euro_text(cost["cost_eur"]),
        "cost_usd": f"{cost['cost_usd'].normalize():f}",
        "fx_rate": f"{cost['eur_per_usd'].normalize():f}",
        "estimated": cost["estimated"],
        "usage": cost["usage"],
        "price": cost["price"],
    }


_FIND = """
SELECT id, created_at, use_case, "user", wanted, route, tier, provider, model, confidence, confidence_method,
       threshold, attempts, usage, cost_eur, saved_eur, cached, finish_reason,
       nullif(error_code, '') AS error, latency_ms, metadata, request_id
FROM ai_decisions WHERE id = %s AND organization_id = %s
"""
# What an attempt cost is its charge and every correction of it.
_FIND_COSTS = """
SELECT c.attempt, sum(c.cost_eur) OVER attempt AS cost_eur, sum(c.cost_usd) OVER attempt AS cost_usd,
       c.eur_per_usd, c.estimated,
       CASE WHEN c.input_total IS NOT NULL THEN jsonb_build_object(
           'input_total', c.input_total, 'cache_read', c.cache_read,
           'cache_write', c.cache_write_5m + c.cache_write_1h,
           'output_total', c.output_total, 'reasoning', c.reasoning) END AS usage,
       jsonb_build_object(
           'id', p.id, 'provider', p.provider, 'model', p.model, 'service_tier', p.service_tier,
           'valid_from', p.valid_from, 'currency', p.currency, 'bands', p.bands, 'source', p.source) AS price
FROM ai_costs c LEFT JOIN providers_price p ON p.id = c.price_id
WHERE c.completion_id = %s AND c.organization_id = %s
WINDOW attempt AS (PARTITION BY c.attempt)
ORDER BY c.id
"""
