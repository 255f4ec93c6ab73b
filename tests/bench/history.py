"""A long history of many organizations, how fast it is rolled up and read: `python -m tests.bench.history`.

The rows are made by the database itself, in the order of their time, with accounts that are their sums, so
that the books balance. Other benches fill their database with `fill`.

HISTORY_ORGANIZATIONS (500)  HISTORY_MONTHS (24)  HISTORY_ROWS  cost records, and as many decisions (5000000)
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from typing import Any

import django

from tests.bench import stand

TIME_ZONE = "Europe/Berlin"
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Size:
    organizations: int = 500
    months: int = 24
    rows: int = 5_000_000

    @classmethod
    def of_environment(cls) -> "Size":
        wanted = {
            name: os.environ.get(f"HISTORY_{name.upper()}") for name in ("organizations", "months", "rows")
        }
        return cls(**{name: int(value) for name, value in wanted.items() if value})


def fill(size: Size) -> list[int]:
    """Writes the history, up to a minute ago; the ids of its organizations."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_ORGANIZATIONS, [size.organizations, TIME_ZONE])
        ids = [row[0] for row in cursor.fetchall()]
        for month in _months(size.months):
            chosen = {"month": month, "rows": size.rows // size.months, "ids": ids, "zone": TIME_ZONE}
            for statement in (_RECORDS, _DECISIONS, _OUTCOMES):
                cursor.execute(statement, chosen)
        cursor.execute(_ACCOUNTS, [ids])
        for table in ("ai_costs", "ai_decisions", "kpi_outcomes", "budget_accounts"):
            cursor.execute(f"VACUUM ANALYZE {table}")
    return ids


def _months(count: int) -> Iterator[date]:
    this_month = date.today().replace(day=1)
    for back in range(count - 1, -1, -1):
        months = this_month.year * 12 + this_month.month - 1 - back
        yield date(months // 12, months % 12 + 1, 1)


_ORGANIZATIONS = """
WITH home AS (
    INSERT INTO organizations_tenant (name, created_at) VALUES ('History ' || gen_random_uuid(), now())
    RETURNING id
)
INSERT INTO organizations_organization (tenant_id, name, time_zone, currency, created_at)
SELECT home.id, 'History ' || n || ' of ' || home.id, zone, 'EUR', now()
FROM home, (SELECT generate_series(1, %s) AS n, %s AS zone) numbers RETURNING id
"""
# Times rise through the month; the organizations take turns, and what is asked for next is mixed by a prime.
# Three calls in a row of an organization name the same lead.
_ROWS = """
SELECT n, mixed, at, %(month)s::date AS month, organization_id,
       'use_case_' || mixed %% 7 AS use_case, 'u-' || mixed %% 23 AS "user",
       'cmp_' || md5(%(month)s::date || ' ' || n) AS completion_id, route,
       CASE route WHEN 'large' THEN 'large' ELSE 'small' END AS tier,
       CASE WHEN mixed %% 3 = 0 THEN 'anthropic' ELSE 'openai' END AS provider,
       CASE route WHEN 'large' THEN 'large-' ELSE 'small-' END || mixed %% 3 AS model,
       jsonb_build_object('lead_id', 'L-' || %(month)s::date || '-' || turn / 3) AS metadata
FROM (
    SELECT n, mixed, at, (%(ids)s::bigint[])[1 + n %% cardinality(%(ids)s::bigint[])] AS organization_id,
           n / cardinality(%(ids)s::bigint[]) AS turn,
           (ARRAY['small', 'small', 'small', 'large', 'cache', 'degraded', 'small', 'large', 'small',
                  'small'])[1 + mixed %% 10] AS route
    FROM (
        SELECT n, (n * 7919::bigint) %% 1000003 AS mixed,
               first + (last - first) * (n::float8 / %(rows)s) AS at
        FROM generate_series(1, %(rows)s) n, (
            SELECT %(month)s::timestamp AT TIME ZONE %(zone)s AS first, least(
                (%(month)s::date + interval '1 month') AT TIME ZONE %(zone)s, now()
            ) - interval '1 minute' AS last
        ) span
    ) timed
) chosen
"""
_RECORDS = f"""
INSERT INTO ai_costs (
    organization_id, month, "user", use_case, completion_id, attempt, purpose, provider, model, tier,
    metadata, hold_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd, estimated, overrun, reason,
    service_tier, provider_request_id, input_total, cache_read, cache_write_5m, cache_write_1h,
    output_total, reasoning
)
SELECT organization_id, month, "user", use_case, completion_id, 0,
       CASE WHEN mixed %% 50 = 0 THEN 'check' ELSE 'answer' END,
       provider, model, tier, metadata, gen_random_uuid(), at, 0.1,
       mixed * 1e-8::numeric, mixed * 1e-8::numeric, 0.92, false, false, '', 'standard', '',
       500, 0, 0, 0, 50, 0
FROM ({_ROWS}) r ORDER BY n
"""
_DECISIONS = f"""
INSERT INTO ai_decisions (
    id, organization_id, key_id, request_id, created_at, use_case, "user", wanted, prompt_sha256, route, tier,
    provider, model, confidence, confidence_method, threshold, attempts, cost_eur, cached, saved_eur,
    all_large_eur, finish_reason, error_code, latency_ms, metadata, recorded_at
)
SELECT completion_id, organization_id, '', '', at, use_case, "user", 'auto', '', route, tier, provider, model,
       (mixed %% 100) / 100.0, '', 0.7,
       CASE WHEN route = 'cache' THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object(
           'tier', 'small', 'provider', provider, 'model', model, 'confidence', (mixed %% 100) / 100.0,
           'outcome', CASE WHEN route = 'small' THEN 'accepted' ELSE 'low_confidence' END)) END,
       CASE WHEN route = 'cache' THEN 0 ELSE mixed * 1e-8::numeric END, route = 'cache',
       CASE WHEN route = 'cache' THEN mixed * 1e-8::numeric ELSE 0 END, mixed * 4e-8::numeric, 'stop', '',
       50 + mixed %% 3000, metadata, at
FROM ({_ROWS}) r ORDER BY n
"""
_OUTCOMES = f"""
INSERT INTO kpi_outcomes (organization_id, kind, external_id, occurred_at, day, value_eur, received_at)
SELECT organization_id, CASE WHEN n %% 100 = 0 THEN 'order' ELSE 'lead' END, completion_id, at,
       (at AT TIME ZONE %(zone)s)::date, CASE WHEN n %% 100 = 0 THEN mixed * 0.001 ELSE 0 END, at
FROM ({_ROWS}) r WHERE n %% 20 = 0
"""
_ACCOUNTS = """
INSERT INTO budget_accounts
    (organization_id, month, scope, subject, cap_eur, cap_is_of_month, spent_eur, held_eur)
SELECT organization_id, month, scope, subject, CASE scope WHEN 'organization' THEN 1000 END, false,
       sum(cost_eur), 0
FROM ai_costs, LATERAL (
    VALUES ('organization', ''), ('user', "user"), ('use_case', use_case)
) account (scope, subject)
WHERE organization_id = ANY(%s) GROUP BY organization_id, month, scope, subject
"""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def rolled_up(size: Size, ids: list[int]) -> Iterator[str]:
    """Rolls everything up, and says at how many rows a second; and what it costs to read what is newer."""
    from django.db import connection

    from budgets import daily, roll_ups
    from kpis import facts

    sources = (daily.COSTS, facts.NAMES, facts.DECISIONS)
    batches = (size.rows // size.months * size.months - 1) // roll_ups.BATCH_ROWS
    newer = size.rows // size.months * size.months - batches * roll_ups.BATCH_ROWS
    for source in sources:
        seconds, rows = timed(lambda source=source: _batches(source, batches))  # type: ignore[misc]
        yield f"rolled up {source.name:<10} {rows:>10,} rows {rows / max(seconds, 1e-9):>10,.0f} rows/s"
    yield f"today, with {newer:,} rows newer than each roll-up: {_today_ms(ids):,.0f} ms"
    for source in sources:
        while roll_ups.roll_up(source):
            pass
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")  # as autovacuum does within minutes
    yield f"today, with everything rolled up: {_today_ms(ids):,.0f} ms"


def _batches(source: Any, number: int) -> int:
    from budgets import roll_ups

    return sum(roll_ups.roll_up_batch(source) for _ in range(number))


def _today_ms(ids: list[int]) -> float:
    """The key figures of today, of all organizations together."""
    from kpis import queries
    from kpis.periods import Period

    today = Period(date.today(), date.today())
    return 1000 * sorted(timed(lambda: queries.figures(ids, today))[0] for _ in range(ROUNDS))[ROUNDS // 2]


def readings(ids: list[int]) -> Iterator[str]:
    """How long the overview takes: of one organization and of all, of this month and of all of them."""
    from kpis import queries
    from kpis.periods import Period

    today = date.today()
    month = Period.of_month(today)
    years = Period(today - timedelta(days=729), today)
    for name, chosen in (("one organization", ids[:1]), (f"{len(ids)} organizations", ids)):
        for span, period in (("this month", month), ("two years", years)):
            took = sorted(timed(lambda c=chosen, p=period: queries.figures(c, p))[0] for _ in range(ROUNDS))  # type: ignore[misc]
            yield f"figures of {name:<20} {span:<12} {1000 * took[ROUNDS // 2]:>8.0f} ms"


def main() -> None:
    size = Size.of_environment()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
    with stand.services(upstream_port=9):
        django.setup()
        from budgets import ledger
        from tests.bench import world

        world.migrated()
        seconds, ids = timed(lambda: fill(size))
        print(f"filled {size.rows:,} cost records and decisions in {seconds:.0f} s", flush=True)
        for line in chain(rolled_up(size, ids), readings(ids)):
            print(line, flush=True)
        print(f"{len(ledger.differences())} differences in the books")


if __name__ == "__main__":
    main()
