"""What is rolled up for the dashboards: how each request ended, and what each named lead or order cost.

A decision counts to the local day of its request. A call names a lead or an order by its request's
`metadata`; checks, which are made on nobody's behalf, name none.
"""

from budgets import roll_ups
from budgets.roll_ups import Level, Source, Target
from kpis import bins
from routing.requests import LEAD_ID, ORDER_ID

_DAY = "(s.created_at AT TIME ZONE o.time_zone)::date AS day"
_FROM = "FROM ai_decisions s JOIN organizations_organization o ON o.id = s.organization_id"

_LOW_CONFIDENCE = """s.attempts @> '[{"tier": "small", "outcome": "low_confidence"}]'"""
#: A hedge that lost was broken off by ourselves: it has not failed.
_FAILED = """'$[*] ? (@.outcome == "skipped_circuit_open"
    || (@.outcome == "failed" && !(@.error == "broken_off")))'"""
#: The first answer of a small model, whether it was taken or not.
_SMALL_ANSWER = """'$[*] ? (@.tier == "small"
    && (@.outcome == "accepted" || @.outcome == "low_confidence"))'"""

REQUESTS = Target(
    table="kpi_request_days",
    key=("organization_id", "day", "use_case", "route", "provider", "model", "error_code"),
    amounts=("cost_eur", "saved_eur", "all_large_eur"),
    counts=("requests", "judged", "escalated", "rescued"),
    rows=f"""
    SELECT s.organization_id, {_DAY}, s.use_case, s.route, s.provider, s.model, s.error_code, 1 AS requests,
           (s.wanted = 'auto' AND (s.route IN ('small', 'degraded')
            OR s.route = 'large' AND {_LOW_CONFIDENCE}))::integer AS judged,
           (s.route = 'large' AND {_LOW_CONFIDENCE})::integer AS escalated,
           (s.route <> '' AND jsonb_path_exists(s.attempts, {_FAILED}))::integer AS rescued,
           s.cost_eur, s.saved_eur, coalesce(s.all_large_eur, s.cost_eur) AS all_large_eur
    {_FROM} WHERE""",
    sums_table="kpi_request_sums",
    levels=(
        Level("day", "day", ("route", "error_code"), of="both"),
        Level("month", "month", ("route", "error_code"), of="both"),
        Level("use_cases", "month", ("use_case", "route", "error_code"), of="both"),
    ),
)
HISTOGRAMS = Target(
    table="kpi_histogram_days",
    key=("organization_id", "day", "use_case", "kind", "label", "bin"),
    amounts=(),
    counts=("requests",),
    rows=f"""
    SELECT s.organization_id, {_DAY}, s.use_case, counted.kind, counted.label, counted.bin, 1 AS requests
    {_FROM}
    CROSS JOIN LATERAL (
        SELECT (jsonb_path_query_first(s.attempts, {_SMALL_ANSWER}) ->> 'confidence')::float8 AS confidence
    ) small
    CROSS JOIN LATERAL (
        SELECT '{bins.LATENCY}' AS kind, s.route AS label, {bins.latency_bin_sql("s.latency_ms")} AS bin
        WHERE s.route <> ''
        UNION ALL
        SELECT '{bins.CONFIDENCE}',
               CASE s.route WHEN 'small' THEN 'accepted' WHEN 'large' THEN 'escalated' ELSE s.route END,
               {bins.confidence_bin_sql("small.confidence")}
        WHERE s.wanted = 'auto' AND s.route IN ('small', 'large', 'degraded') AND small.confidence IS NOT NULL
    ) counted
    WHERE""",
    sums_table="kpi_histogram_sums",
    levels=(
        Level("day", "day", ("kind", "label", "bin"), of="all"),
        Level("month", "month", ("kind", "label", "bin"), of="both"),
    ),
)
ATTEMPTS = Target(
    table="kpi_attempt_days",
    key=("organization_id", "day", "use_case", "provider", "model", "tier", "outcome", "error"),
    amounts=(),
    counts=("attempts",),
    rows=f"""
    SELECT s.organization_id, {_DAY}, s.use_case, coalesce(attempt.provider, '') AS provider,
           coalesce(attempt.model, '') AS model, coalesce(attempt.tier, '') AS tier,
           coalesce(attempt.outcome, '') AS outcome, coalesce(left(attempt.error, 64), '') AS error,
           1 AS attempts
    {_FROM}
    CROSS JOIN LATERAL jsonb_to_recordset(s.attempts)
        AS attempt (provider text, model text, tier text, outcome text, error text)
    WHERE""",
    sums_table="kpi_attempt_sums",
    levels=(
        Level("month", "month", ("provider", "model", "tier", "outcome", "error"), of="both"),
        Level("day", "day", ("provider", "model", "tier", "outcome", "error"), of="all"),
    ),
)
#: Requests that another provider answered than one whose call had failed, or was skipped; once for each such.
FAILOVERS = Target(
    table="kpi_failover_days",
    key=("organization_id", "day", "use_case", "failed_provider", "provider"),
    amounts=(),
    counts=("requests",),
    rows=f"""
    SELECT s.organization_id, {_DAY}, s.use_case, failed.provider AS failed_provider, s.provider,
           1 AS requests
    {_FROM}
    CROSS JOIN LATERAL (
        SELECT DISTINCT left(attempt ->> 'provider', 32) AS provider
        FROM jsonb_path_query(s.attempts, {_FAILED}) attempt
    ) failed
    WHERE s.route <> '' AND failed.provider NOT IN ('', s.provider) AND""",
)
DECISIONS = Source("decisions", "ai_decisions", "recorded_at", (REQUESTS, HISTOGRAMS, ATTEMPTS, FAILOVERS))

NAMED = Target(
    table="kpi_named_days",
    key=("organization_id", "day", "kind", "external_id", "use_case", "provider", "model"),
    amounts=("cost_eur",),
    counts=("calls",),
    rows=f"""
    SELECT s.organization_id, cost_day(s.month, s.created_at, o.time_zone) AS day, named.kind::varchar(8),
           left(named.external_id, 200)::varchar(200) AS external_id, s.use_case, s.provider, s.model,
           s.cost_eur, (s.hold_id IS NOT NULL)::integer::bigint AS calls
    FROM ai_costs s JOIN organizations_organization o ON o.id = s.organization_id
    CROSS JOIN LATERAL (VALUES
        ('lead', s.metadata ->> '{LEAD_ID}'), ('order', s.metadata ->> '{ORDER_ID}')
    ) named (kind, external_id)
    WHERE named.external_id <> '' AND s.purpose = 'answer' AND""",
)
NAMES = Source("names", "ai_costs", "created_at", (NAMED,))


def roll_up() -> int:
    """Brings the roll-ups of decisions and of named leads and orders up to date; how many rows that were."""
    return roll_ups.roll_up(DECISIONS) + roll_ups.roll_up(NAMES)
