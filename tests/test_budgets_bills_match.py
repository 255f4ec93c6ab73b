"""Mock billing: calls of random usage, tiers, rates and time zones, on the sandbox's bill and in the ledger.

The bill is priced by the public list and read by the official SDKs over HTTP; the ledger's costs come from
the price book. `tests/soak/soak_bills.py` does the same with ten thousand calls.
"""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from aigov import clock
from budgets import bill_watch
from budgets.bills import import_from_provider
from budgets.reconciliation import deltas, edges, is_reconciled
from tests import bills_world
from tests.bills_world import Maker, add_to_bill, charge, random_calls, random_rates
from tests.sandbox_world import configure

pytest_plugins = ["tests.sandbox_fixtures"]

ZONES = ("Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati")
#: The month whose last day brings summer time to Berlin, at 1:00 UTC.
MARCH, APRIL = date(2024, 3, 1), date(2024, 4, 1)
EXACT = Decimal("0.00001")


@pytest.fixture
def billing(settings: Any, url: str, control: httpx2.Client) -> Iterator[httpx2.Client]:
    settings.BILLING = {"openai": ("sk-admin-1", f"{url}/v1"), "anthropic": ("sk-ant-admin01-1", url)}
    yield control


def import_all(first: date, last: date) -> None:
    for provider in ("openai", "anthropic"):
        for start in range(0, (last - first).days + 1, 31):
            end = min(first + timedelta(days=start + 30), last)
            import_from_provider(
                provider=provider, first=first + timedelta(days=start), last=end, acting="the tests"
            )


@pytest.fixture(scope="module")
def chances() -> random.Random:
    return random.Random(20240331)


def play(chances: random.Random, number: int, make_organization: Maker, billing: httpx2.Client) -> Decimal:
    """Calls in March and April 2024, a third of them at the turn; returns their cost in dollars."""
    organizations = [make_organization(time_zone=zone) for zone in ZONES]
    random_rates(chances, MARCH - timedelta(days=2), 65)
    at_the_turn = datetime(2024, 4, 1, tzinfo=UTC)
    calls = [
        *random_calls(
            chances,
            number - number // 3,
            organizations,
            datetime(2024, 3, 1, tzinfo=UTC),
            datetime(2024, 5, 1, tzinfo=UTC),
        ),
        *random_calls(
            chances,
            number // 3,
            organizations,
            at_the_turn - timedelta(hours=36),
            at_the_turn + timedelta(hours=36),
        ),
    ]
    add_to_bill(billing, calls)
    import_all(MARCH, APRIL + timedelta(days=29))
    return charge(calls)


def test_the_ledger_is_the_bill(
    chances: random.Random, make_organization: Maker, billing: httpx2.Client
) -> None:
    cost_usd = play(chances, 400, make_organization, billing)
    months = {month: deltas(month) for month in (MARCH, APRIL)}
    everything = [found for month in months.values() for found in month]
    assert sum(found.total.bill_usd for found in everything) == pytest.approx(cost_usd, rel=EXACT)
    for found in everything:
        assert found.state == "reconciled" and found.total.calls > 50
        for part in (found.total, *found.models.values(), *(day.total for day in found.days)):
            assert part.ratio is not None and abs(part.ratio) < EXACT
            assert part.delta_eur == part.delta_usd * part.eur_per_usd
            assert part.bill_eur - part.ledger_eur == part.delta_eur
    assert is_reconciled(MARCH) and is_reconciled(APRIL)
    for month, found_all in months.items():
        found_edges = edges(month, found_all)
        assert found_edges.of_other_utc_months and found_edges.of_other_local_months
        assert found_edges.not_compared == found_edges.corrections == 0
        assert found_edges.compared == sum(found.total.ledger_eur for found in found_all)
    # What March's local months have and its month of UTC has not, April's month of UTC has (and nothing else
    # lies between: the calls begin and end with a month of UTC, seen from which the zones lie on both sides).
    assert edges(MARCH, months[MARCH]).compared + edges(APRIL, months[APRIL]).compared == sum(
        found.total.ledger_eur for found in everything
    )


def test_an_error_of_three_percent_is_found_and_named(
    make_organization: Maker, billing: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    month = bills_world.own_month()
    chances, organization = random.Random(3), make_organization()
    random_rates(chances, month - timedelta(days=1), 1)
    start, end = (
        datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (month, clock.next_month(month))
    )
    calls = list(random_calls(chances, 60, [organization], start, end))
    add_to_bill(billing, calls)
    charge(calls)
    configure(billing, bill_faults=[{"provider": "anthropic", "model": "claude-sonnet-4-5", "percent": 3}])
    import_all(month, clock.next_month(month) - timedelta(days=1))
    claude, gpt = deltas(month)
    assert (claude.provider, claude.state, gpt.state) == ("anthropic", "out_of_bounds", "reconciled")
    [finding] = bill_watch.findings(month)
    assert (finding.provider, finding.models) == ("anthropic", ("claude-sonnet-4-5",))
    off = claude.models["claude-sonnet-4-5"]
    assert off.delta_usd == pytest.approx(off.ledger_usd * Decimal("0.03"), rel=EXACT)
    assert not is_reconciled(month)
    # The provider puts its bill right: the same days again.
    configure(billing, bill_faults=[])
    import_all(month, clock.next_month(month) - timedelta(days=1))
    assert is_reconciled(month)
