"""The promise in the running service: many clients, several processes, everything that can go wrong."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx2
import psycopg
import pytest

from aigov import database
from aigov.money import round_up
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from budgets import ledger
from budgets.models import BudgetAccount, CostRecord, FxRate, Hold
from providers.models import Price
from routing.models import Decision
from tests.conftest import Sandbox, month_account
from tests.web_processes import web_processes

PATH = "/api/v1/completions"
CLIENTS, CALLS_EACH = 64, 4
LIFETIME_S = 3
LEFT = "SELECT cap_eur - spent_eur - held_eur FROM budget_accounts WHERE id = %s"
TROUBLES = (
    *("[[confidence:0.95]]",) * 4,
    *("[[confidence:0.4@small]]",) * 3,
    *("[[fault:500@openai]]", "[[fault:429@openai]]", "[[fault:reset@openai]]", "[[fault:truncate@openai]]"),
    *("[[fault:malformed@openai]]", "[[fault:503]]", "[[fault:hang@openai]]", "[[delay:300]]"),
)


def key_of(organization: Organization) -> dict[str, str]:
    _, token = create_api_key(organization=organization, name="fire", scopes=Scope.values, acting="the tests")
    return {"Authorization": f"Bearer {token}"}


async def client(api: httpx2.AsyncClient, number: int, statuses: Counter[object]) -> None:
    chance = random.Random(number)
    for call in range(CALLS_EACH):
        text = f"{chance.choice(TROUBLES)} client {number} call {call}: please answer briefly"
        body = {
            "messages": [{"role": "user", "content": text}],
            "max_output_tokens": 40,
            "user": f"u-{number % 7}",
        }
        patience_s = chance.choice((20.0, 20.0, 20.0, 0.05))
        try:
            response = await api.post(PATH, json=body, timeout=patience_s)
            statuses[response.status_code] += 1
        except httpx2.TimeoutException:
            statuses["gone away"] += 1


async def fire(url: str, headers: dict[str, str], account: BudgetAccount) -> tuple[Counter[object], int]:
    """All clients at once, and a watcher that holds the promise against each instant."""
    statuses: Counter[object] = Counter()
    done = asyncio.Event()

    async def watch() -> int:
        looks = 0
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
            while not done.is_set():
                cursor = await conn.execute(LEFT, (account.pk,))
                (left,) = await cursor.fetchone() or (None,)
                assert left is not None and left >= 0, "overspent"
                looks += 1
                await asyncio.sleep(0.01)
        return looks

    limits = httpx2.Limits(max_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=url, headers=headers, limits=limits) as api:
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(client(api, number, statuses) for number in range(CLIENTS)))
        done.set()
        return statuses, await watcher


def true_cost(answered: dict[str, Any]) -> Decimal:
    """What the provider bills for an answer, by hand: its usage × the list price × the exchange rate."""
    usage, provider = answered["usage"], answered["provider"]
    price = Price.objects.filter(provider=provider, model=answered["model"], service_tier="standard").latest(
        "id"
    )
    band = price.bands[0]
    tokens = (
        (usage["prompt_tokens"], usage["completion_tokens"])
        if provider == "openai"
        else (usage["input_tokens"], usage["output_tokens"])
    )
    usd = (tokens[0] * Decimal(band["input"]) + tokens[1] * Decimal(band["output"])) / 1_000_000
    return round_up(usd * FxRate.objects.latest("id").eur_per_unit)


def test_no_load_and_no_fault_passes_the_cap_and_every_nano_euro_is_accounted_for(
    make_organization: Callable[..., Organization], sandbox: Sandbox
) -> None:
    cap = Decimal("0.12")
    organization = make_organization(cap_eur=str(cap))
    account, headers = month_account(organization), key_of(organization)
    with web_processes(4, REQUEST_DEADLINE_S="2", HOLD_LIFETIME_S=str(LIFETIME_S)) as web:
        statuses, looks = asyncio.run(fire(web.url, headers, account))
    # The processes are gone, after they have finished and settled what was in flight.
    assert not Hold.objects.filter(organization=organization).exists()
    assert looks > 0
    assert statuses[200] > 0, statuses
    assert statuses[402] > 0, "the cap was never reached, so nothing was shown"
    assert set(statuses) <= {200, 402, 503, "gone away"}, statuses

    answered = {row["request_id"]: row for row in sandbox.stats()["answered"]}
    records = CostRecord.objects.filter(organization=organization)
    for record in records.filter(estimated=False):
        assert record.cost_eur == true_cost(answered.pop(record.provider_request_id))
    estimated = records.filter(estimated=True)
    assert estimated.exists()
    assert all(record.cost_eur == record.held_eur for record in estimated)
    # An answer that the deadline cut off in its last moment is among the estimates, at no less than it cost.
    for row in answered.values():
        covering = estimated.filter(reason="timed_out", model=row["model"], cost_eur__gte=true_cost(row))
        assert covering.exists(), "what a provider has answered is charged"
    assert len(answered) <= estimated.filter(reason="timed_out").count()
    spent = month_account(organization).spent_eur
    assert spent == sum(record.cost_eur for record in records) <= cap
    assert sum(d.cost_eur for d in Decision.objects.filter(organization=organization)) == spent
    assert [row for row in ledger.differences() if row.organization == organization.name] == []


@pytest.mark.parametrize(
    "moment", ["[[delay:1500]]", "[[delay:400]]", "[[fault:hang@openai]]", "[[delay:800]]"]
)
def test_kill_9_in_mid_call_loses_and_doubles_no_charge(
    organization: Organization, sandbox: Sandbox, moment: str
) -> None:
    headers = key_of(organization)
    with web_processes(1, REQUEST_DEADLINE_S="2", HOLD_LIFETIME_S=str(LIFETIME_S)) as web:

        async def killed_in_mid_call() -> int:
            async with httpx2.AsyncClient(base_url=web.url, headers=headers, timeout=30) as api:
                body = {"messages": [{"role": "user", "content": moment}], "tier": "small", "cache": "off"}
                calls = [asyncio.create_task(api.post(PATH, json=body)) for _ in range(8)]
                await asyncio.sleep(0.6)
                await asyncio.to_thread(web.kill)
                ends = await asyncio.gather(*calls, return_exceptions=True)
                return sum(isinstance(end, httpx2.Response) for end in ends)

        answers = asyncio.run(killed_in_mid_call())
        held = Hold.objects.filter(organization=organization).count()
        records = CostRecord.objects.filter(organization=organization)
        # Each of the eight is held, or charged; answered or not, none is both.
        assert held + records.filter(estimated=False).count() == 8
        assert answers <= records.count()
    Hold.objects.filter(organization=organization).update(expires_at="2000-01-01T00:00Z")
    ledger.expire_holds()
    assert not Hold.objects.filter(organization=organization).exists()
    expired = records.filter(reason="expired")
    assert expired.count() == held
    assert all(record.cost_eur == record.held_eur and record.estimated for record in expired)
    assert [row for row in ledger.differences() if row.organization == organization.name] == []
