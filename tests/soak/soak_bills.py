"""Mock billing with ten thousand calls: the ledger's total is the bill's, down to each day and model."""

import time

import httpx2

from tests.bills_world import Maker, check_the_turn, play_the_turn

pytest_plugins = ["tests.sandbox_fixtures"]

CALLS = 10_000


def test_ten_thousand_calls(make_organization: Maker, billed: httpx2.Client) -> None:
    started_s = time.monotonic()
    cost_usd = play_the_turn(CALLS, make_organization, billed)
    check_the_turn(cost_usd)
    print(f"\n{CALLS} calls, {cost_usd} USD: ledger and bill are one ({time.monotonic() - started_s:.0f} s)")
