"""A second model beside a slow one: the first answer is taken, and both are paid for."""

import asyncio

import httpx2
import pytest

from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets.models import CostRecord
from providers.failover import RetryBudget
from routing import hedging
from routing.hedging import hedged
from tests.conftest import Sandbox, Server, month_account

PATH = "/api/v1/completions"


@pytest.fixture(autouse=True)
def one_hedge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hedging, "_hedges", RetryBudget(calls_per_retry=20, reserve=1))


async def answer_after(seconds: float, answer: str, log: list[str]) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.append(f"{answer} cancelled")
        raise
    return answer


async def failure_after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    raise ValueError("failed")


async def test_a_quick_answer_asks_nobody_else() -> None:
    asked: list[str] = []
    answer = await hedged(
        answer_after(0, "first", []),
        after_s=60,
        other=lambda: asked.append("other"),  # type: ignore[func-returns-value]
    )
    assert (answer, asked) == ("first", [])


async def test_the_first_answer_is_taken_and_the_loser_has_ended() -> None:
    log: list[str] = []
    answer = await hedged(
        answer_after(60, "slow", log), after_s=0.01, other=lambda: answer_after(0, "other", log)
    )
    assert (answer, log) == ("other", ["slow cancelled"])


async def test_a_failure_leaves_the_other_one_its_chance() -> None:
    answer = await hedged(failure_after(0.05), after_s=0.01, other=lambda: answer_after(0.2, "other", []))
    assert answer == "other"


async def test_where_both_fail_that_is_raised() -> None:
    with pytest.raises(ValueError, match="failed"):
        await hedged(failure_after(0.05), after_s=0.01, other=lambda: failure_after(0.05))


async def test_whoever_cancels_it_cancels_both() -> None:
    log: list[str] = []
    whole = asyncio.create_task(
        hedged(answer_after(60, "first", log), after_s=0.01, other=lambda: answer_after(60, "other", log))
    )
    await asyncio.sleep(0.1)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert sorted(log) == ["first cancelled", "other cancelled"]


async def test_one_call_in_twenty_is_hedged_at_most() -> None:
    hedges = 0

    def other() -> None:
        nonlocal hedges
        hedges += 1

    for _ in range(41):
        await hedged(answer_after(0.01, "slow", []), after_s=0.001, other=other)
    assert hedges == 1 + 2


def test_who_loses_is_charged_once_also_where_its_answer_has_just_come(
    api: httpx2.Client, organization: Organization, server: Server, sandbox: Sandbox
) -> None:
    set_value(
        key="ai.providers.hedge.after",
        scope="organization",
        organization=organization,
        value="PT0.05S",
        acting="the tests",
        reason="a test",
    )
    server.refresh()
    body = {"messages": [{"role": "user", "content": "[[delay:100]] hello"}], "tier": "small"}
    answer = api.post(PATH, json=body).raise_for_status().json()
    records = CostRecord.objects.filter(completion_id=answer["id"])
    account = month_account(organization)
    assert account.held_eur == 0
    assert account.spent_eur == sum(record.cost_eur for record in records)
    assert len({record.attempt for record in records}) == len(records) == len(answer["attempts"])


def test_a_slow_provider_is_overtaken_and_both_are_charged(
    api: httpx2.Client, organization: Organization, server: Server, sandbox: Sandbox
) -> None:
    set_value(
        key="ai.providers.hedge.after",
        scope="organization",
        organization=organization,
        value="PT0.2S",
        acting="the tests",
        reason="a test",
    )
    server.refresh()
    body = {"messages": [{"role": "user", "content": "[[delay:20000@openai]] hello"}], "tier": "small"}
    answer = api.post(PATH, json=body).raise_for_status().json()
    assert answer["provider"] == "anthropic"
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["failed", "accepted"]
    lost, won = CostRecord.objects.filter(completion_id=answer["id"]).order_by("attempt")
    assert (lost.provider, lost.estimated, lost.cost_eur) == ("openai", True, lost.held_eur)
    assert (won.provider, won.estimated) == ("anthropic", False)
    account = month_account(organization)
    assert (account.spent_eur, account.held_eur) == (lost.cost_eur + won.cost_eur, 0)
