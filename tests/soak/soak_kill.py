"""Fifty web processes, each killed (kill -9) amid its calls at a random moment (`make soak`).

Afterwards every call that a provider has answered is charged, at its true cost or, where the process died
before it could settle, with its whole hold; none is charged twice; the accounts are the sums of their rows.

KILLS     how many (50)
KILL_SEED of the random choices (1)
"""

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx2

from aigov.organizations.models import Organization
from budgets import ledger
from budgets.models import CostRecord, Hold
from tests.conftest import Sandbox
from tests.test_routing_under_fire import PATH, key_of, true_cost
from tests.web_processes import WebProcesses, web_processes

KILLS = int(os.environ.get("KILLS", "50"))
SEED = int(os.environ.get("KILL_SEED", "1"))
CLIENTS = 8
LIVES_S = (0.1, 1.2)
DELAY_MS_MAX = 400
FAULTS = ("hang@openai", "reset@openai", "500@openai", "truncate@openai")


@dataclass
class Seen:
    """What the clients know: how often they asked, and what each answer said that it cost."""

    calls: int = 0
    costs: dict[str, Decimal] = field(default_factory=dict)


def question(chance: random.Random) -> dict[str, Any]:
    """As a rule a delay, sometimes two attempts or a fault."""
    trouble = f"[[delay:{chance.randrange(DELAY_MS_MAX)}]]"
    if chance.random() < 0.2:
        trouble += " [[confidence:0.4@small]]"
    elif chance.random() < 0.1:
        trouble = f"[[fault:{chance.choice(FAULTS)}]]"
    content = f"{trouble} question {chance.randrange(10**9)}: please answer briefly"
    return {"messages": [{"role": "user", "content": content}], "max_output_tokens": 40}


async def ask_until_it_dies(api: httpx2.AsyncClient, chance: random.Random, seen: Seen) -> None:
    with suppress(httpx2.TransportError):
        while True:
            seen.calls += 1
            response = await api.post(PATH, json=question(chance))
            assert response.status_code == 200, response.text
            body = response.json()
            seen.costs[body["id"]] = Decimal(body["cost_eur"])


async def kill_amid_calls(
    web: WebProcesses, headers: dict[str, str], chance: random.Random, seen: Seen
) -> None:
    async with httpx2.AsyncClient(base_url=web.url, headers=headers, timeout=30) as api:
        clients = [asyncio.create_task(ask_until_it_dies(api, chance, seen)) for _ in range(CLIENTS)]
        await asyncio.sleep(chance.uniform(*LIVES_S))
        await asyncio.to_thread(web.kill)
        await asyncio.gather(*clients)


def lost(organization: Organization, seen: Seen, answered: list[dict[str, Any]]) -> list[str]:
    """What a provider has answered and nobody has paid, and answers that cost something else than said."""
    records = CostRecord.objects.filter(organization=organization)
    open_answers = {row["request_id"]: row for row in answered}
    found = []
    for record in records.filter(estimated=False):
        row = open_answers.pop(record.provider_request_id, None)
        if row is None or record.cost_eur != true_cost(row):
            found.append(f"record {record.pk} is not what the provider has answered")
    # The process died between the answer and its settlement: an estimate stands for each, and covers it.
    estimates = Counter(records.filter(estimated=True).values_list("provider", "model"))
    for row in open_answers.values():
        estimates[row["provider"], row["model"]] -= 1
        covering = records.filter(estimated=True, model=row["model"], cost_eur__gte=true_cost(row))
        if estimates[row["provider"], row["model"]] < 0 or not covering.exists():
            found.append(f"answer {row['request_id']} is charged nowhere")
    charged: dict[str, Decimal] = {}
    for name, cost_eur in records.values_list("completion_id", "cost_eur"):
        charged[name] = charged.get(name, Decimal(0)) + cost_eur
    found += [f"completion {name}" for name, cost in seen.costs.items() if charged.get(name) != cost]
    return found


def doubled(organization: Organization) -> list[object]:
    """Attempts, holds or answers with more than one charge."""
    records = CostRecord.objects.filter(organization=organization, corrects=None)
    counts = (
        Counter(records.values_list("completion_id", "attempt")),
        Counter(records.values_list("hold_id")),
        Counter(records.exclude(provider_request_id="").values_list("provider_request_id")),
    )
    return [key for count in counts for key, number in count.items() if number > 1]


def test_fifty_processes_killed_amid_their_calls(organization: Organization, sandbox: Sandbox) -> None:
    chance, seen, headers = random.Random(SEED), Seen(), key_of(organization)
    for number in range(1, KILLS + 1):
        with web_processes(1, REQUEST_DEADLINE_S="2", HOLD_LIFETIME_S="60") as web:
            asyncio.run(kill_amid_calls(web, headers, chance, seen))
        if number % 10 == 0:
            print(f"\n{number} of {KILLS} killed, {seen.calls} calls", end="", flush=True)
    orphans = Hold.objects.filter(organization=organization)
    left = orphans.count()
    orphans.update(expires_at="2000-01-01T00:00Z")
    ledger.expire_holds()

    records = CostRecord.objects.filter(organization=organization)
    expired = records.filter(reason="expired")
    settled, estimated = records.filter(estimated=False), records.filter(estimated=True)
    wrong = lost(organization, seen, sandbox.stats()["answered"])
    twice = doubled(organization)
    differences = [row for row in ledger.differences() if row.organization == organization.name]
    print(
        f"\n{KILLS} processes killed, {seen.calls} calls ({len(seen.costs)} answered),"
        f" {settled.count()} charges settled, {estimated.count() - expired.count()} estimated,"
        f" {expired.count()} holds expired; lost {len(wrong)}, double {len(twice)},"
        f" differences {len(differences)}"
    )
    assert (wrong, twice, differences) == ([], [], [])
    assert not orphans.exists()
    assert expired.count() == left > KILLS, "hardly a process was killed in mid-call"
    assert all(record.cost_eur == record.held_eur and record.estimated for record in expired)
    assert settled.count() > KILLS
