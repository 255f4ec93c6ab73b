"""The record of how each request ended: one row, written with the hot path's own statement, and read by its
id.
"""

import hmac
import re
from datetime import datetime
from typing import Any

from django.conf import settings
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from aigov import background, database
from aigov.errors import GatewayError, NotFound
from aigov.money import ZERO, euro_text
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
    f"INSERT INTO ai_decisions ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (id) DO NOTHING"
)


async def record(completion: Completion) -> None:
    """Records how a request was answered."""
    answer = completion.answer
    await _insert(
        completion.course,
        *(completion.cached, completion.saved_eur, charging.all_large_eur(completion)),
        *(completion.route, answer.tier, answer.provider, answer.model),
        *(answer.confidence, answer.confidence_method, Jsonb(usage_as_json(answer.usage))),
        *(answer.finish_reason, ""),
    )


async def record_refusal(course: Course, error: Exception) -> None:
    """Records that a request was refused, or got no answer, with all that was paid on the way."""
    code = (error.code or error.type) if isinstance(error, GatewayError) else "internal_error"
    await _insert(course, False, ZERO, None, *("", "", "", "", None, "", None, ""), code)


async def _insert(course: Course, *outcome: object) -> None:
    request, principal = course.request, course.principal
    values = (
        *(course.id, principal.organization_id, principal.key_id, course.request_id, course.created_at),
        *(request.use_case, request.user, request.model or request.tier, prompt_sha256(request)),
        *(course.threshold, Jsonb([attempt.as_recorded() for attempt in course.attempts]), course.cost_eur),
        *(course.latency_ms, Jsonb(dict(request.metadata))),
        *outcome,
    )

    async def once() -> None:
        async with database.connection(wait_s=database.PATIENT_WAIT_S) as conn:
            await conn.execute(_INSERT, values)

    await background.now_or_later(once, name=f"record {course.id}", for_s=REPEAT_FOR_S)


def prompt_sha256(request: CompletionRequest) -> str:
    """A keyed hash of what was asked: repeats can be counted, and nobody can guess the text from it."""
    digest = hmac.new(settings.SECRET_KEY.encode(), digestmod="sha256")
    for message in request.prompt.messages:
        digest.update(f"{message.role}\0{message.content}\0".encode())
    return digest.hexdigest()


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
