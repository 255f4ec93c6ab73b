"""Mock billing: calls of random usage, tiers, rates and time zones, on the sandbox's bill and in the ledger.

The bill is priced by the public list and read by the official SDKs over HTTP; the ledger's costs come from
the price book. `tests/soak/soak_bills.py` does the same with ten thousand calls.
"""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx2
import pytest

from aigov import clock
from budgets import bill_watch
from budgets.alerts.raising import raise_alerts
from budgets.alerts.words import address, text, title
from budgets.reconciliation import deltas, is_reconciled
from tests.bills_world import (
    Maker,
    add_to_bill,
    charge,
    check_the_turn,
    import_bills,
    own_month,
    play_the_turn,
    random_calls,
)
from tests.sandbox_world import configure

pytest_plugins = ["tests.sandbox_fixtures"]


def test_the_ledger_is_the_bill(make_organization: Maker, billed: httpx2.Client) -> None:
    cost_usd = play_the_turn(400, make_organization, billed)
    check_the_turn(cost_usd)


def test_an_error_of_three_percent_is_found_and_named(
    make_organization: Maker, billed: httpx2.Client
) -> None:
    month = own_month()
    own_month()  # the month's last calls in Berlin lie in the next one, which is no other test's
    chances, organization = random.Random(3), make_organization()
    start, end = (
        datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (month, clock.next_month(month))
    )
    calls = list(random_calls(chances, 60, [organization], start, end))
    add_to_bill(billed, calls)
    charge(calls)
    configure(billed, bill_faults=[{"provider": "anthropic", "model": "claude-sonnet-4-5", "percent": 3}])
    import_bills(month, clock.next_month(month) - timedelta(days=1))
    claude, gpt = deltas(month)
    assert (claude.provider, claude.state, gpt.state) == ("anthropic", "out_of_bounds", "reconciled")
    [finding] = bill_watch.findings(month)
    assert (finding.period, finding.key) == (f"{month:%Y-%m}", "anthropic")
    assert finding.figures["models"] == ["claude-sonnet-4-5"]
    [alert] = raise_alerts([finding])
    assert title(alert) == "The bill of Anthropic differs from the books"
    assert text(alert).endswith("These models differ: claude-sonnet-4-5.")
    assert address(alert) == f"/admin/budgets/reconciliation/{month:%Y-%m}/of/anthropic/"
    off = claude.models["claude-sonnet-4-5"]
    assert off.delta_usd == pytest.approx(off.ledger_usd * Decimal("0.03"), rel=Decimal("1e-6"))
    assert not is_reconciled(month)
    # The provider puts its bill right: the same days again.
    configure(billed, bill_faults=[])
    import_bills(month, clock.next_month(month) - timedelta(days=1))
    assert is_reconciled(month)
    bill_watch.watch()
    alert.refresh_from_db()
    assert alert.resolved_at is not None
