"""The FOCUS file: its rules, its sums, and whose charges it has."""

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from aigov.money import NANO_EURO
from aigov.organizations.create import create_organization
from aigov.organizations.models import Organization
from budgets.charge_days import charge_day, in_days
from budgets.models import CostRecord
from kpis.focus import COLUMNS, METERS, Account, Charge, billed_costs, focus_rows
from providers.pricing import Band, PriceRow
from tests.admin_world import as_role
from tests.conftest import month_account
from tests.focus_checker import faults, faults_of_columns
from tests.random_ledgers import correct_by_hand, event_loop, play

ADDRESS = reverse("kpis:focus")
BAND = Band(0, *map(Decimal, ("3", "0.3", "3.75", "6", "15")))
PRICE = PriceRow(7, "anthropic", "claude", "standard", datetime(2026, 1, 1, tzinfo=UTC), (BAND,))
ACCOUNT = Account(1, "Müller AG", 2, "Vertrieb", "Europe/Berlin")


def charge(**more: Any) -> Charge:
    given: dict[str, Any] = {
        **dict.fromkeys(("user", "use_case", "completion_id", "tier", "service_tier", "reason"), ""),
        **dict.fromkeys(("corrects_id", "corrects_month", "cache_read", "cache_write_5m", "cache_write_1h")),
        **{"id": 9, "month": date(2026, 11, 1), "created_at": datetime(2026, 11, 30, 23, 30, tzinfo=UTC)},
        **{"attempt": 0, "purpose": "answer", "provider": "anthropic", "model": "claude"},
        **{"provider_request_id": "", "metadata": {"lead_id": "L-1", "deep": {"a": 1}}, "price_id": 7},
        **{"cost_eur": Decimal("0.002325001"), "cost_usd": Decimal("0.0025"), "hold_id": "a hold"},
        **{"eur_per_usd": Decimal("0.93"), "estimated": False, "late": False},
        **{"input_total": 300, "output_total": 100},
    }
    return Charge(**given | more)


def rows_of(one: Charge) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in focus_rows(one, ACCOUNT, PRICE)]


def test_a_charge_is_a_row_for_each_kind_of_token() -> None:
    cached = charge(cache_read=100, cache_write_5m=20, cache_write_1h=10, cost_eur=Decimal("0.001972995"))
    exact = (
        Decimal("0.93") * (170 * 3 + 100 * Decimal("0.3") + 20 * Decimal("3.75") + 10 * 6 + 100 * 15) / 10**6
    )
    rows = rows_of(charge(**{**vars_of(cached), "cost_eur": exact.quantize(NANO_EURO)}))
    assert [row["SkuMeter"] for row in rows] == list(METERS.values())
    assert [row["ConsumedQuantity"] for row in rows] == [170, 100, 20, 10, 100]
    assert sum(row["BilledCost"] for row in rows) == exact.quantize(NANO_EURO)
    assert rows[1]["PricingCurrencyListUnitPrice"] == Decimal("0.3")
    assert rows[1]["SkuPriceId"] == "7/cache_read/0"


def vars_of(one: Charge) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Charge.__slots__}


@given(
    st.lists(st.decimals(0, 100, places=14), min_size=1, max_size=5),
    st.integers(0, 10),
)
def test_what_is_billed_adds_up_to_the_nano_euro(parts: list[Decimal], more: int) -> None:
    cost = sum(parts, Decimal(0)).quantize(NANO_EURO) + more * NANO_EURO
    billed = billed_costs(cost, parts)
    assert sum(billed) == cost
    for part, row in zip(parts, billed, strict=True):
        assert abs(row - part) <= (len(parts) + more + 1) * NANO_EURO


def test_a_period_is_the_organizations_month_in_utc() -> None:
    """Settled on 1 December, half an hour after local midnight, it is of November still."""
    row = rows_of(charge())[0]
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
        "2026-10-31T23:00:00Z",
        "2026-11-30T23:00:00Z",
    )
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        "2026-11-29T23:00:00Z",
        "2026-11-30T23:00:00Z",
    )
    assert row["x_ChargedAt"] == "2026-11-30T23:30:00Z"


def test_a_charge_whose_usage_is_not_known_is_one_row() -> None:
    (row,) = rows_of(charge(input_total=None, output_total=None, estimated=True, reason="timed_out"))
    assert (row["ChargeCategory"], row["ChargeClass"], row["ConsumedQuantity"]) == ("Adjustment", None, None)
    assert (row["BilledCost"], row["PricingCurrencyEffectiveCost"]) == (
        Decimal("0.002325001"),
        Decimal("0.0025"),
    )
    assert "timed_out" in row["ChargeDescription"]


def test_a_cost_that_its_tokens_do_not_explain_is_one_row() -> None:
    (row,) = rows_of(charge(cost_eur=Decimal("5")))
    assert (row["ChargeCategory"], row["BilledCost"]) == ("Adjustment", 5)


@pytest.mark.parametrize(
    ("of", "late", "expected"),
    [
        (date(2026, 11, 1), False, None),  # FOCUS: within the billing period, the class must be null
        (date(2026, 10, 1), False, "Correction"),
        (None, True, "Correction"),
        (None, False, None),
    ],
)
def test_a_correction_of_an_earlier_month_is_said_to_be_one(
    of: Any, late: bool, expected: str | None
) -> None:
    corrects = 4 if of else None
    (row,) = rows_of(
        charge(
            hold_id=None,
            corrects_id=corrects,
            corrects_month=of,
            late=late,
            cost_eur=Decimal(-1),
            reason="bill",
        )
    )
    assert (row["ChargeClass"], row["BilledCost"], row["x_CorrectsId"]) == (expected, -1, corrects and "4")


def test_the_day_of_a_charge_is_in_its_month() -> None:
    november = date(2026, 11, 1)
    late, early = datetime(2026, 12, 1, 0, 5, tzinfo=UTC), datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    assert charge_day(late, november, "Europe/Berlin") == date(2026, 11, 30)
    assert charge_day(early, november, "Europe/Berlin") == november
    assert charge_day(early, november, "America/New_York") == november


# --- The file


@pytest.fixture(scope="module")
def busy() -> Iterator[Organization]:
    organization = create_organization(name="Focus & Söhne", acting="the tests")
    with event_loop() as loop:
        loop.run(play(organization, seed=1, calls=60))
    record = CostRecord.objects.filter(organization=organization).earliest("id")
    correct_by_hand(organization, "-0.000000007", corrects=record)
    correct_by_hand(organization, "1.23", late=True)
    yield organization


def read(client: Client, query: str = "") -> list[dict[str, str]]:
    response = client.get(ADDRESS + query)
    assert response.status_code == 200, response
    return list(csv.DictReader(StringIO(b"".join(response.streaming_content).decode(), newline="")))


def test_the_file_keeps_the_rules(busy: Organization) -> None:
    rows = read(as_role("finance", busy))
    assert list(faults_of_columns(list(rows[0]))) == []
    assert [fault for row in rows for fault in faults(row)] == []
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Adjustment"}
    assert {row["SkuMeter"] for row in rows} >= {"", *METERS.values()}


def test_the_file_is_the_ledger(busy: Organization) -> None:
    rows = read(as_role("finance", busy))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == month_account(busy).spent_eur
    records = CostRecord.objects.filter(organization=busy)
    assert {row["x_CostRecordId"] for row in rows} == {str(pk) for pk in records.values_list("pk", flat=True)}
    by_use_case = records.filter(use_case="leads").aggregate(total=Sum("cost_eur"))["total"]
    assert sum(Decimal(row["BilledCost"]) for row in rows if row["x_UseCase"] == "leads") == by_use_case
    assert "'=u-2" in {row["x_User"] for row in rows}


def test_the_sums_of_days_are_that_of_the_month(busy: Organization) -> None:
    month = month_account(busy).month
    client = as_role("finance", busy)
    today = read(client, f"?from={month}&to={month}")
    rest = read(client, f"?from={month.replace(day=2)}&to={month.replace(day=27)}")
    last = read(client, f"?from={month.replace(day=28)}")
    total = sum(Decimal(row["BilledCost"]) for rows in (today, rest, last) for row in rows)
    assert total == month_account(busy).spent_eur


def test_days_are_those_of_the_charges(busy: Organization) -> None:
    """The filter in the database says of every day what `charge_day` says."""
    records = CostRecord.objects.filter(organization=busy)
    for day in range(1, 29, 3):
        chosen = month_account(busy).month.replace(day=day)
        found = set(records.filter(in_days(chosen, chosen, busy.time_zone)).values_list("pk", flat=True))
        expected = {
            record.pk
            for record in records
            if charge_day(record.created_at, record.month, busy.time_zone) == chosen
        }
        assert found == expected


def test_one_sees_ones_own_organizations_alone(
    busy: Organization, make_organization: Callable[..., Organization]
) -> None:
    stranger = as_role("finance", make_organization())
    assert read(stranger) == []
    assert stranger.get(f"{ADDRESS}?organization={busy.pk}").status_code == 404
    assert read(as_role("operator"), f"?organization={busy.pk}")
    assert as_role(None).get(ADDRESS).status_code == 403
    assert Client().get(ADDRESS).status_code == 302


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(("from=x", "from"), ("to=2026-13-01", "to"), ("from=2026-11-02&to=2026-11-01", "to")),
        *(("from=2000-01-01&to=2026-11-01", "to"), ("organization=abc", "organization")),
    ],
)
def test_what_is_wrong_is_named(busy: Organization, query: str, param: str) -> None:
    response = as_role("finance", busy).get(f"{ADDRESS}?{query}")
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


def test_the_file_costs_the_same_queries_whatever_its_length(busy: Organization) -> None:
    client = as_role("finance", busy)
    with CaptureQueriesContext(connection) as queries:
        read(client, f"?organization={busy.pk}")
    # session, person, roles, whether there is that organization, it, prices, its records
    assert len(queries) <= 7, [query["sql"][:100] for query in queries]
