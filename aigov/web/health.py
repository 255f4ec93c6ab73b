"""Whether the process lives, and whether it can do its work.

Ready means: the ledger can be reached, and the process's copies of keys and settings are fresh. Valkey and
the providers are reported but not required: without them the gateway answers still, slower or with an error
that says why, and no load balancer could do better elsewhere.
"""

import asyncio

import psycopg
import redis.asyncio
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from aigov import database, snapshots
from aigov.errors import BudgetUnavailable

DATABASE_WAIT_S = 1.0
REDIS_WAIT_S = 0.5


async def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers: no more is asked."""
    return JsonResponse({"status": "ok"})


async def readyz(request: HttpRequest) -> JsonResponse:
    """200 where completions can be served, else 503; within about a second."""
    database_up, redis_up = await asyncio.gather(database_answers(), redis_answers())
    fresh = snapshots.all_fresh()
    ready = database_up and fresh
    facts = {
        "status": "ready" if ready else "not ready",
        "database": database_up,
        "snapshots": fresh,
        "redis": redis_up,
        "providers": sorted(settings.PROVIDERS),
    }
    return JsonResponse(facts, status=200 if ready else 503)


async def database_answers() -> bool:
    try:
        async with asyncio.timeout(DATABASE_WAIT_S), database.connection() as conn:
            await conn.execute("SELECT 1")
    except (BudgetUnavailable, psycopg.Error, TimeoutError):
        return False
    return True


async def redis_answers() -> bool:
    client = redis.asyncio.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0))
    try:
        async with asyncio.timeout(REDIS_WAIT_S), client:
            await client.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True
