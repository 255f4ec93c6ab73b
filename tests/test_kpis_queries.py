"""The dashboards' figures equal what plain SQL over the raw rows says, live and rolled up."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.http import QueryDict

from aigov.demo.past import write_past
from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets import daily, roll_ups
from budgets.models import BudgetAccount, CostRecord
from kpis import bins, facts, queries
from kpis.buckets import buckets
from kpis.filters import selection
from kpis.named import direct, named
from kpis.periods import Period
from kpis.queries import Figures
from kpis.readings import Readings
from routing.models import Decision
from tests.kpis_world import (
    MODELS,
    all_of,
    attempt,
    cost_record,
    decision,
    random_decisions,
    write_random_past,
)
from tests.ledger_world import charge_of, hold_sync, settle_sync, spend
from tests.test_budgets_daily import rolled_up_past_everything

ZONES = ("Europe/Berlin", "America/Los_Angeles", "Pacific/Auckland")
PERIODS = (
    Period(date(2026, 9, 1), date(2026, 11, 30)),
    Period(date(2026, 10, 1), date(2026, 10, 31)),
    Period(date(2026, 10, 25), date(2026, 11, 1)),
    Period(date(2026, 9, 30), date(2026, 9, 30)),
    # Whole months with days before and after them.
    Period(date(2026, 8, 17), date(2026, 11, 4)),
    Period(date(2026, 9, 30), date(2026, 11, 30)),
)


def sql(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


# --- The independent computation: one organization at a time, its raw rows, its zone as a literal.

#: The last moment of a month's last day is where a cost of that month counts to at the latest.
COST_DAY = """
CASE WHEN date_trunc('month', c.created_at AT TIME ZONE z.zone)::date > c.month
          THEN (c.month + interval '1 month')::date - 1
     WHEN date_trunc('month', c.created_at AT TIME ZONE z.zone)::date < c.month THEN c.month
     ELSE (c.created_at AT TIME ZONE z.zone)::date END
"""
RAW_COSTS = f"""
WITH z AS (SELECT %s::text AS zone), chosen AS (
    SELECT c.*, {COST_DAY} AS day FROM ai_costs c, z WHERE c.organization_id = %s
) SELECT {{}} FROM chosen WHERE day >= %s AND day <= %s AND (%s::text IS NULL OR use_case = %s)
"""
RAW_REQUESTS = """
SELECT {} FROM (
    SELECT d.*, (d.created_at AT TIME ZONE %s)::date AS day FROM ai_decisions d WHERE d.organization_id = %s
) chosen WHERE day >= %s AND day <= %s AND (%s::text IS NULL OR use_case = %s)
"""
ATTEMPTS = "SELECT * FROM jsonb_to_recordset(attempts) AS a (tier text, outcome text, error text)"
LOW = f"EXISTS ({ATTEMPTS} WHERE tier = 'small' AND outcome = 'low_confidence')"
RESCUED = f"""EXISTS ({ATTEMPTS} WHERE outcome = 'skipped_circuit_open'
    OR (outcome = 'failed' AND error IS DISTINCT FROM 'broken_off'))"""
FAILED = "('no_provider_available', 'answer_broken', 'budget_unavailable', 'internal_error', 'api_error')"
COUNTS = f"""
count(*) FILTER (WHERE route = 'small'), count(*) FILTER (WHERE route = 'large'),
count(*) FILTER (WHERE route = 'degraded'), count(*) FILTER (WHERE route = 'cache'),
count(*) FILTER (WHERE route = '' AND error_code IN {FAILED}),
count(*) FILTER (WHERE route = '' AND error_code NOT IN {FAILED}),
count(*) FILTER (WHERE wanted = 'auto' AND (route IN ('small', 'degraded') OR route = 'large' AND {LOW})),
count(*) FILTER (WHERE route = 'large' AND {LOW}), count(*) FILTER (WHERE route <> '' AND {RESCUED}),
coalesce(sum(cost_eur), 0), coalesce(sum(saved_eur), 0), coalesce(sum(coalesce(all_large_eur, cost_eur)), 0)
"""


def raw(
    statement: str, columns: str, organization: Organization, period: Period, use_case: str | None = None
) -> Any:
    chosen = (organization.time_zone, organization.pk, period.first, period.last, use_case, use_case)
    return sql(statement.format(columns), *chosen)


def expected(organizations: list[Organization], period: Period, use_case: str | None) -> tuple[Any, ...]:
    """Everything that `figures` says, added up over the organizations."""
    named = "coalesce(sum(cost_eur) FILTER (WHERE metadata ->> '{0}' > '' AND purpose = 'answer'), 0),"
    named += "count(DISTINCT metadata ->> '{0}') FILTER (WHERE purpose = 'answer')"
    costs = (
        f"coalesce(sum(cost_eur), 0), count(hold_id), {named.format('lead_id')}, {named.format('order_id')}"
    )
    rows = []
    for organization in organizations:
        outcomes = sql(
            "SELECT count(*) FILTER (WHERE kind = 'lead'), count(*) FILTER (WHERE kind = 'order'),"
            " coalesce(sum(value_eur), 0) FROM kpi_outcomes WHERE organization_id = %s"
            " AND (occurred_at AT TIME ZONE %s)::date BETWEEN %s AND %s",
            *(organization.pk, organization.time_zone, period.first, period.last),
        )
        rows.append(
            raw(RAW_COSTS, costs, organization, period, use_case)[0]
            + raw(RAW_REQUESTS, COUNTS, organization, period, use_case)[0]
            + outcomes[0]
        )
    return tuple(sum(column) for column in zip(*rows, strict=True))


def said(figures: Figures) -> tuple[Any, ...]:
    business, asked, direct = figures.business, figures.requests, figures.business.direct
    return (
        *(business.cost_eur, business.calls, direct.lead_cost_eur, direct.leads),
        *(direct.order_cost_eur, direct.orders),
        *(asked.small, asked.large, asked.degraded, asked.cache, asked.failed, asked.refused),
        *(asked.judged, asked.escalated, asked.rescued),
        *(asked.cost_eur, asked.saved_eur, asked.all_large_eur),
        *(business.outcomes.leads, business.outcomes.orders, business.outcomes.value_eur),
    )


@pytest.fixture(scope="module")
def past(database: None) -> list[Organization]:
    """Three organizations around the world with random calls, requests, leads and orders."""
    made = []
    for seed, zone in enumerate(ZONES):
        organization = create_organization(
            name=f"Past {uuid4().hex[:12]}", time_zone=zone, acting="the tests"
        )
        write_random_past(organization, seed)
        made.append(organization)
    return made


def agree(organizations: list[Organization]) -> None:
    for period in PERIODS:
        for use_case in (None, "", "leads"):
            found = queries.figures(all_of(organizations), period, use_case)
            assert said(found) == expected(organizations, period, use_case), (period, use_case)


def test_figures_equal_plain_sql_live_and_rolled_up(past: list[Organization]) -> None:
    agree(past)
    rolled_up_past_everything()
    facts.roll_up()
    agree(past)
    for organization in past:
        agree([organization])


def test_the_days_of_a_month_add_up_to_what_the_ledger_says(past: list[Organization]) -> None:
    for organization in past:
        for month in (date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 1)):
            days = queries.cost_by_day([organization.pk], Period.of_month(month))
            account = BudgetAccount.objects.get(organization=organization, month=month, scope="organization")
            assert sum(days.values()) == account.spent_eur


def test_days_add_up_to_the_period(past: list[Organization]) -> None:
    ids, period = all_of(past), PERIODS[0]
    whole = queries.figures(ids, period)
    business = queries.business_by_day(ids, period)
    requests = queries.requests_by_day(ids, period)
    assert sum(day.cost_eur for day in business.values()) == whole.business.cost_eur
    assert sum(day.outcomes.leads for day in business.values()) == whole.business.outcomes.leads
    assert sum(day.answered for day in requests.values()) == whole.requests.answered
    assert sum(day.failed for day in requests.values()) == whole.requests.failed
    tiers = queries.tier_cost_by_day(ids, period)
    assert sum(sum(day.values()) for day in tiers.values()) == whole.business.cost_eur
    groups = queries.dearest_by("model", ids, period)
    assert sum(group.cost_eur for group in groups) == whole.business.cost_eur
    assert {group.group for group in groups} == set(MODELS.values())


@pytest.mark.parametrize("period", PERIODS)
def test_a_month_is_the_sum_of_its_days(past: list[Organization], period: Period) -> None:
    ids = all_of(past)
    days = queries.requests_by_day(ids, period)
    months = queries.requests_by_day(ids, period, step="month")
    assert next(iter(months)) == period.first
    for first, month in months.items():
        of_month = [each for day, each in days.items() if (day.year, day.month) == (first.year, first.month)]
        assert month.answered == sum(each.answered for each in of_month)
        assert month.all_large_eur == sum(each.all_large_eur for each in of_month)
    business = queries.business_by_day(ids, period, step="month")
    tiers = queries.tier_cost_by_day(ids, period, step="month")
    assert sum(month.cost_eur for month in business.values()) == queries.spending(ids, period).cost_eur
    assert {at: month.cost_eur for at, month in business.items()} == {
        at: sum(costs.values()) for at, costs in tiers.items()
    }
    assert sum(month.outcomes.leads for month in business.values()) == (
        queries.spending(ids, period).outcomes.leads
    )


@pytest.mark.parametrize("period", [PERIODS[1], Period(date(2026, 8, 17), date(2026, 11, 30))])
def test_a_lead_counts_once_in_each_step_and_group(past: list[Organization], period: Period) -> None:
    steps, ids = buckets(period.first, period.last).steps, all_of(past)
    found = named([step.first for step in steps], ids, period)
    assert found.steps == [direct(ids, Period(step.first, step.last)) for step in steps]
    assert sum(step.leads for step in found.steps) > 0
    assert found.total == direct(ids, period)
    assert found.by_use_case == {(name,): direct(ids, period, name) for name in ("", "leads", "offers")}
    by_model = RAW_COSTS + " AND metadata ->> 'lead_id' > '' AND purpose = 'answer' GROUP BY 1, 2"
    columns = "provider, model, sum(cost_eur), count(DISTINCT metadata ->> 'lead_id')"
    for organization in past:
        wanted = raw(by_model, columns, organization, period)
        of_models = named([period.first], [organization.pk], period).by_model
        assert {
            (*group, each.lead_cost_eur, each.leads) for group, each in of_models.items() if each.leads
        } == set(wanted)


def test_users_equal_plain_sql(past: list[Organization]) -> None:
    organization = past[0]
    records = CostRecord.objects.filter(organization=organization)
    with transaction.atomic():
        records.filter(user="u-2").update(user="erased-2")
        BudgetAccount.objects.filter(organization=organization, scope="user", subject="u-2").update(
            subject="erased-2"
        )
    found = queries.top_users([organization.pk], PERIODS[1])
    by_user = RAW_COSTS + " AND \"user\" <> '' GROUP BY 1 ORDER BY 2 DESC"
    wanted = raw(by_user, '"user", sum(cost_eur), count(*)', organization, PERIODS[1])
    assert [(user.user, user.cost_eur, user.calls) for user in found] == wanted
    assert {user.user for user in found} == {"u-1", "erased-2"}


def test_distributions_equal_plain_sql(past: list[Organization]) -> None:
    organization, period = past[0], PERIODS[0]
    ordered = "array_agg(latency_ms ORDER BY latency_ms) FILTER (WHERE route <> '')"
    ((latency,),) = raw(RAW_REQUESTS, ordered, organization, period)
    found, last_bin = queries.latencies([organization.pk], period)[""], bins.latency_from_ms(67)
    assert found.answers == len(latency)
    for share, percentile in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        exact = latency[max(int(len(latency) * share + 0.9999) - 1, 0)]
        assert percentile == pytest.approx(min(exact, last_bin), rel=0.19, abs=1.2)
    over_time = queries.latencies_by_step([organization.pk], period, step="month")
    by_day = queries.latencies_by_step([organization.pk], period)
    for steps in (over_time, by_day):
        assert sum(step.answers for step in steps.values()) == found.answers
    october = queries.latencies([organization.pk], PERIODS[1])[""]
    assert over_time[date(2026, 10, 1)] == october != found
    by_lead = " AND purpose = 'answer' AND metadata ? 'lead_id' GROUP BY metadata ->> 'lead_id' ORDER BY 1"
    leads = raw(RAW_COSTS + by_lead, "sum(cost_eur)", organization, period)
    spread = named([period.first], [organization.pk], period).spread["lead"]
    assert (spread.named, spread.max_eur) == (len(leads), leads[-1][0])
    assert spread.median_eur == leads[(len(leads) - 1) // 2][0]


def test_confidences_are_split_by_what_became_of_the_answer(organization: Organization) -> None:
    noon = datetime(2026, 9, 15, 12, tzinfo=UTC)

    def asked(route: str, outcome: str, confidence: float | None, **more: Any) -> Any:
        small = attempt("small", outcome, confidence=confidence)
        return decision(organization, noon, route=route, attempts=[small], **more)

    Decision.objects.bulk_create(
        [
            asked("small", "accepted", 0.7),
            asked("small", "accepted", 1.0),
            asked("large", "low_confidence", 0.7),
            asked("degraded", "low_confidence", 0.1499),
            asked("small", "accepted", 0.95, wanted="small"),
            asked("small", "accepted", None),
        ]
    )
    histogram = queries.confidence_histogram([organization.pk], PERIODS[0])
    filled = [(bin.low, bin.accepted, bin.escalated, bin.degraded) for bin in histogram]
    assert [row for row in filled if any(row[1:])] == [(0.1, 0, 0, 1), (0.7, 1, 1, 0), (0.95, 1, 0, 0)]


def test_attempts_are_told_by_how_they_ended(organization: Organization) -> None:
    made = random_decisions(organization, random.Random(4), 30)
    Decision.objects.bulk_create(made)
    found = queries.attempts([organization.pk], PERIODS[0])
    assert sum(row.attempts for row in found) == sum(len(one.attempts) for one in made)
    timed_out = sum(one.get("error") == "timed_out" for made_one in made for one in made_one.attempts)
    assert sum(row.attempts for row in found if row.error == "timed_out") == timed_out


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_failovers_are_told_by_who_answered_for_whom(organization: Organization, is_rolled_up: bool) -> None:
    noon = datetime(2026, 9, 15, 12, tzinfo=UTC)

    def asked(answered: str, *failed: tuple[str, str], **more: Any) -> Decision:
        tried = [{"provider": provider, "tier": "small", "outcome": how, **more} for provider, how in failed]
        answer = {"provider": answered, "tier": "small", "outcome": "accepted"}
        attempts = [*tried, answer] if answered else tried
        route = "small" if answered else ""
        return decision(organization, noon, route=route, provider=answered, attempts=attempts)

    Decision.objects.bulk_create(
        [
            asked("anthropic", ("openai", "failed"), ("openai", "skipped_circuit_open")),
            asked("anthropic", ("openai", "skipped_circuit_open")),
            asked("openai", ("anthropic", "failed"), error="overloaded"),
            asked("openai", ("openai", "failed")),
            asked("anthropic", ("openai", "failed"), error="broken_off"),
            asked("", ("openai", "failed"), ("anthropic", "failed")),
            asked("openai"),
        ]
    )
    if is_rolled_up:
        rolled_up_past_everything()
        facts.roll_up()
    days = queries.failovers_by_day([organization.pk], PERIODS[0])
    assert {day: pairs for day, pairs in days.items() if pairs} == {
        noon.date(): {("openai", "anthropic"): 2, ("anthropic", "openai"): 1}
    }
    assert not any(queries.failovers_by_day([organization.pk], PERIODS[0], "another").values())


def test_today_is_live(organization: Organization) -> None:
    spend(organization, "0.25", use_case="leads")
    late = hold_sync(charge_of(organization, use_case="offers"))
    assert queries.today_eur([organization.pk]) == Decimal("0.25")
    settle_sync(late, "0.5")
    assert queries.today_eur([organization.pk]) == Decimal("0.75")
    assert queries.today_eur([organization.pk], "offers") == Decimal("0.5")
    assert queries.today_eur([]) == 0


def test_a_correction_counts_to_its_own_day_and_is_no_call(organization: Organization) -> None:
    period = Period(date(2026, 10, 1), date(2026, 10, 31))
    charged = cost_record(organization, datetime(2026, 10, 3, 9, tzinfo=UTC), Decimal("0.5"))
    write_past(organization=organization, records=[charged], decisions=[])
    back = cost_record(
        organization,
        datetime(2026, 10, 9, 9, tzinfo=UTC),
        Decimal("-0.2"),
        **{"hold_id": None, "corrects": charged, "held_eur": 0},
    )
    write_past(organization=organization, records=[back], decisions=[])
    days = queries.business_by_day([organization.pk], period)
    assert [(day, found.cost_eur, found.calls) for day, found in days.items() if found.cost_eur] == [
        (date(2026, 10, 3), charged.cost_eur, 1),
        (date(2026, 10, 9), back.cost_eur, 0),
    ]


def test_nothing_at_all_has_no_figures(organization: Organization) -> None:
    overview = queries.overview([organization.pk], PERIODS[1])
    for figures in (overview.now, overview.before):
        assert said(figures) == (0,) * 21
        business, requests = figures.business, figures.requests
        assert (business.cost_per_lead_eur, business.direct.cost_per_order_eur) == (None, None)
        assert (figures.savings_factor, business.return_on_spend, requests.cache_hit_rate) == (
            None,
            None,
            None,
        )
        assert (requests.availability, requests.availability_without_fallback) == (None, None)
    assert queries.latencies([organization.pk], PERIODS[1])[""].p50_ms is None
    assert named([PERIODS[1].first], [organization.pk], PERIODS[1]).spread == {}


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("use_case", [None, "leads"])
def test_sums_of_all_organizations_say_what_those_of_each_say(
    past: list[Organization], period: Period, use_case: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (list(Organization.objects.values_list("pk", flat=True)), period, use_case)

    def reads() -> list[Any]:
        by_step = (queries.business_by_day, queries.requests_by_day, queries.tier_cost_by_day)
        over_all = (queries.figures, queries.confidence_histogram, queries.latencies, queries.attempts)
        return [
            *(read(*asked) for read in over_all),
            *(read(*asked, step=step) for read in by_step for step in ("day", "month")),
            *(queries.latencies_by_step(*asked, step=step) for step in ("day", "month")),
            *(queries.costs_of(*asked, *group) for group in (("use_case",), ("provider", "model"))),
        ]

    standing = roll_ups.standing
    assert standing(daily.COSTS, asked[0]).of_all
    of_all = reads()
    monkeypatch.setattr(roll_ups, "standing", lambda *of: replace(standing(*of), of_all=False))
    assert of_all == reads()


def test_the_overview_takes_a_fixed_number_of_queries(
    past: list[Organization], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(17):
        queries.overview(all_of(past[1:]), PERIODS[1])


def test_a_roll_up_that_is_counted_anew_is_the_same(past: list[Organization]) -> None:
    rolled_up_past_everything()
    facts.roll_up()
    for source in (daily.COSTS, facts.DECISIONS, facts.NAMES):
        roll_ups.roll_up_anew(source, organization_id=past[1].pk)
    agree([past[1]])


def test_where_it_is_tomorrow_already_the_forecast_is_no_lower() -> None:
    now, names = datetime(2026, 10, 20, 11, tzinfo=UTC), ("Etc/GMT+12", "Etc/GMT-14")
    spends, idle = (
        create_organization(name=f"Far {uuid4().hex[:12]}", time_zone=zone, acting="the tests")
        for zone in names
    )
    days = [now - timedelta(days=back) for back in range(1, 29)]
    records = [cost_record(spends, day, Decimal(5)) for day in days]
    write_past(organization=spends, records=records, decisions=[])

    def forecast(*organizations: Organization) -> Any:
        return Readings(selection(QueryDict("period=2026-10"), organizations, now)).forecast

    assert forecast(spends).expected_eur > 100
    assert forecast(spends, idle) == forecast(spends)


# --- Periods


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        ((2026, 11, 1), (2026, 11, 30), ((2026, 10, 1), (2026, 10, 31))),
        ((2026, 1, 1), (2026, 3, 31), ((2025, 10, 1), (2025, 12, 31))),
        ((2026, 3, 1), (2026, 3, 31), ((2026, 2, 1), (2026, 2, 28))),
        ((2026, 11, 3), (2026, 11, 9), ((2026, 10, 27), (2026, 11, 2))),
        ((2026, 11, 1), (2026, 11, 29), ((2026, 10, 3), (2026, 10, 31))),
    ],
)
def test_the_period_before(first: Any, last: Any, before: Any) -> None:
    period = Period(date(*first), date(*last))
    assert period.before == Period(date(*before[0]), date(*before[1]))


def test_a_period_has_an_order_and_a_limit() -> None:
    day = date(2026, 11, 1)
    for last in (day - timedelta(days=1), day + timedelta(days=732)):
        with pytest.raises(ValueError, match="no period"):
            Period(day, last)
    assert len(Period(day, day + timedelta(days=731)).days) == 732
    assert Period.of_month(date(2026, 2, 14)) == Period(date(2026, 2, 1), date(2026, 2, 28))
