"""Answers that are given again: to whom, for how long, and what happens without Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets import accounts
from budgets.models import CostRecord
from providers.types import Usage
from routing import cache
from routing.cache import AnswerCache, Remembered
from routing.course import Answer
from routing.models import Decision
from tests.conftest import Sandbox, Server, month_account

PATH = "/api/v1/completions"
ANSWER = Answer("A", None, "small", "openai", "gpt-4o-mini", 0.9, "m", "stop", Usage(10, 1))
REMEMBERED = Remembered(ANSWER, Decimal("0.000001000"))


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "[[confidence:0.9]]" + text}], **more}


def provider_calls(sandbox: Sandbox) -> int:
    return sum(
        count
        for models in sandbox.stats()["calls"].values()
        for outcomes in models.values()
        for count in outcomes.values()
    )


# --- Through the API


def test_an_identical_request_is_answered_from_the_cache(
    api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    first, second = api.post(PATH, json=body(user="u-1")), api.post(PATH, json=body(user="u-2"))
    asked, again = first.json(), second.json()
    assert (first.headers["x-ai-cache"], second.headers["x-ai-cache"]) == ("MISS", "HIT")
    assert (again["route"], again["cached"], again["cost_eur"], again["attempts"]) == (
        "cache",
        True,
        "0.000000000",
        [],
    )
    assert (again["content"], again["confidence"], again["model"]) == (
        asked["content"],
        asked["confidence"],
        asked["model"],
    )
    assert again["id"] != asked["id"]
    assert again["budget"] == asked["budget"]
    assert provider_calls(sandbox) == 1
    assert CostRecord.objects.filter(organization=organization).count() == 1
    decision = Decision.objects.get(pk=again["id"])
    assert (decision.route, decision.cached, decision.cost_eur) == ("cache", True, 0)
    assert f"{decision.saved_eur:.9f}" == asked["cost_eur"]
    assert api.get(f"{PATH}/{again['id']}").json()["saved_eur"] == asked["cost_eur"]


@pytest.mark.parametrize(
    "other",
    [
        {"labels": ["hello", "B"]},
        {"max_output_tokens": 5},
        {"tier": "small"},
        {"tier": "large"},
        {"confidence_threshold": 0.1},
        {"response_schema": {"type": "object", "properties": {}, "additionalProperties": False}},
        {"messages": [{"role": "system", "content": "x"}, *body()["messages"]]},
    ],
)
def test_whatever_shapes_the_answer_parts_the_requests(
    api: httpx2.Client, sandbox: Sandbox, other: dict[str, Any]
) -> None:
    api.post(PATH, json=body())
    assert api.post(PATH, json=body() | other).json()["cached"] is False


def test_another_organization_never_gets_the_entry(
    api: httpx2.Client,
    make_organization: Callable[..., Organization],
    make_client: Callable[..., httpx2.Client],
) -> None:
    api.post(PATH, json=body())
    assert make_client(make_organization()).post(PATH, json=body()).json()["cached"] is False


def test_refresh_asks_anew_and_keeps_the_new_answer(api: httpx2.Client, sandbox: Sandbox) -> None:
    api.post(PATH, json=body())
    refreshed = api.post(PATH, json=body(cache="refresh"))
    assert (refreshed.json()["cached"], refreshed.headers["x-ai-cache"]) == (False, "MISS")
    assert provider_calls(sandbox) == 2
    assert api.post(PATH, json=body()).json()["cached"] is True


def test_off_neither_reads_nor_keeps(api: httpx2.Client) -> None:
    off = api.post(PATH, json=body(cache="off"))
    assert off.headers["x-ai-cache"] == "BYPASS"
    assert api.post(PATH, json=body()).json()["cached"] is False
    assert api.post(PATH, json=body(cache="off")).json()["cached"] is False


def test_a_time_to_live_of_zero_switches_it_off(
    api: httpx2.Client, organization: Organization, server: Server
) -> None:
    common: dict[str, Any] = {"organization": organization, "acting": "test", "reason": "test"}
    set_value(key="ai.cache.ttl", scope="organization", value="PT0S", **common)
    server.refresh()
    assert [api.post(PATH, json=body()).json()["cached"] for _ in range(2)] == [False, False]


def test_a_hit_needs_no_budget(api: httpx2.Client, organization: Organization) -> None:
    api.post(PATH, json=body())
    account = month_account(organization)
    accounts.set_month_cap(account=account, cap_eur=Decimal(0), acting="finance", reason="a test")
    assert api.post(PATH, json=body()).json()["cached"] is True
    assert api.post(PATH, json=body("something else")).status_code == 402


def test_an_answer_that_was_not_good_enough_is_not_given_again(
    make_organization: Callable[..., Organization], make_client: Callable[..., httpx2.Client]
) -> None:
    client = make_client(make_organization(cap_eur="0.002"))
    unsure = {"messages": [{"role": "user", "content": "[[confidence:0.3]]hello"}], "max_output_tokens": 256}
    assert client.post(PATH, json=unsure).json()["route"] == "degraded"
    assert client.post(PATH, json=unsure).json()["cached"] is False


def test_100_identical_requests_at_once_make_one_call(api: httpx2.Client, sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(20) as clients:
        slow = body("[[delay:500]]")
        answers = list(clients.map(lambda _: api.post(PATH, json=slow).json(), range(100)))
    assert provider_calls(sandbox) == 1
    assert sum(answer["cached"] for answer in answers) == 99


def test_identical_requests_whose_leader_fails_ask_for_themselves(
    api: httpx2.Client, sandbox: Sandbox
) -> None:
    with ThreadPoolExecutor(4) as clients:
        failing = body("[[delay:200]][[fault:503]]", tier="small")
        statuses = list(clients.map(lambda _: api.post(PATH, json=failing).status_code, range(4)))
    assert statuses == [503] * 4
    assert provider_calls(sandbox) == 8


def test_a_repeated_workload_is_mostly_hits(api: httpx2.Client) -> None:
    answers = [api.post(PATH, json=body(f"question {number % 6}")).json() for number in range(30)]
    assert sum(answer["cached"] for answer in answers) == 24


# --- Two processes, and none of Valkey


@pytest.fixture
async def processes() -> AsyncIterator[tuple[AnswerCache, AnswerCache]]:
    """The caches of two processes on one Valkey."""
    async with Redis.from_url(settings.REDIS_URL) as one, Redis.from_url(settings.REDIS_URL) as other:
        yield AnswerCache(one), AnswerCache(other)


@pytest.fixture
def key() -> str:
    return f"aigov:answer:test:{uuid4().hex}"


async def kept(process: AnswerCache, key: str) -> None:
    await process.keep(key, REMEMBERED, ttl_s=60)


def soon(wait_s: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + wait_s


async def test_another_process_waits_for_the_answer_under_way(
    processes: tuple[AnswerCache, AnswerCache], key: str
) -> None:
    ours, theirs = processes
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    waiting = asyncio.create_task(theirs.find_or_lead(key, deadline=soon()))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await kept(ours, key)
    assert await waiting == (REMEMBERED, False)


async def test_another_process_asks_itself_when_the_first_gives_up(
    processes: tuple[AnswerCache, AnswerCache], key: str
) -> None:
    ours, theirs = processes
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    waiting = asyncio.create_task(theirs.find_or_lead(key, deadline=soon()))
    await asyncio.sleep(0.05)
    await ours.give_up(key)
    assert await waiting == (None, True)


async def test_nobody_waits_beyond_the_deadline(processes: tuple[AnswerCache, AnswerCache], key: str) -> None:
    ours, theirs = processes
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    assert await ours.find_or_lead(key, deadline=soon(0.05)) == (None, False)
    assert await theirs.find_or_lead(key, deadline=soon(0.05)) == (None, True)


async def test_an_answer_is_read_as_it_was_written(
    processes: tuple[AnswerCache, AnswerCache], key: str
) -> None:
    ours, theirs = processes
    await kept(ours, key)
    assert await theirs.find_or_lead(key, deadline=soon()) == (REMEMBERED, False)


async def test_an_answer_that_is_too_large_is_handed_over_but_not_kept(
    processes: tuple[AnswerCache, AnswerCache], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "ANSWER_BYTES_MAX", 10)
    ours, theirs = processes
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    waiting = asyncio.create_task(ours.find_or_lead(key, deadline=soon()))
    await asyncio.sleep(0)
    await kept(ours, key)
    assert await waiting == (REMEMBERED, False)
    assert await theirs.find_or_lead(key, deadline=soon()) == (None, True)


async def test_without_valkey_there_is_no_cache_and_no_error(key: str) -> None:
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", retry=Retry(NoBackoff(), 0))
    async with nowhere as valkey:
        alone = AnswerCache(valkey)
        assert await alone.find_or_lead(key, deadline=soon()) == (None, True)
        waiting = asyncio.create_task(alone.find_or_lead(key, deadline=soon()))
        await asyncio.sleep(0)
        await kept(alone, key)
        assert await waiting == (REMEMBERED, False), (
            "within a process identical requests still share one call"
        )
        assert await alone.find_or_lead(key, deadline=soon()) == (None, True)
        await alone.give_up(key)


async def test_a_damaged_entry_is_none(processes: tuple[AnswerCache, AnswerCache], key: str) -> None:
    ours, _ = processes
    async with Redis.from_url(settings.REDIS_URL) as valkey:
        await valkey.set(key, b'{"answer": {"another": "release"}}', ex=60)
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    await kept(ours, key)
    assert await ours.find_or_lead(key, deadline=soon()) == (REMEMBERED, False)


async def test_nobody_ends_what_another_process_leads(
    processes: tuple[AnswerCache, AnswerCache], key: str
) -> None:
    ours, theirs = processes
    assert await ours.find_or_lead(key, deadline=soon()) == (None, True)
    await theirs.give_up(key)
    assert await theirs.find_or_lead(key, deadline=soon(0.1)) == (None, True), (
        "waited, as the claim was there"
    )
    waited = asyncio.create_task(AnswerCache(theirs._valkey).find_or_lead(key, deadline=soon()))
    await asyncio.sleep(0.1)
    await kept(ours, key)
    assert await waited == (REMEMBERED, False)
