"""One `Idempotency-Key`, one charge: on all faces, plain and streamed, one by one and all at once."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets.models import CostRecord, Hold
from tests.conftest import Sandbox, Server

NATIVE, CHAT, MESSAGES = "/api/v1/completions", "/v1/chat/completions", "/v1/messages"
PATHS = (NATIVE, CHAT, MESSAGES)


def body(path: str, text: str = "Say hello.", **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}], **more}
    if path == NATIVE:
        return {**asked, "cache": "off"}
    return {**asked, "model": "small", "max_tokens": 40}


def keyed(key: str = "k-1") -> dict[str, str]:
    return {"Idempotency-Key": key}


def same(response: httpx2.Response) -> dict[str, str]:
    """The headers that a repeated answer has too."""
    return {name: value for name, value in response.headers.items() if name.startswith("x-ai-")}


@pytest.mark.parametrize("path", PATHS)
def test_a_repeated_request_gets_the_first_answer_and_costs_nothing(
    api: httpx2.Client, organization: Organization, path: str
) -> None:
    first = api.post(path, json=body(path), headers=keyed()).raise_for_status()
    again = api.post(path, json=body(path), headers=keyed()).raise_for_status()
    assert again.content == first.content
    assert same(again) == same(first)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert CostRecord.objects.filter(organization=organization).count() == 1


@pytest.mark.parametrize("path", PATHS)
def test_another_request_under_the_same_key_is_a_conflict(api: httpx2.Client, path: str) -> None:
    api.post(path, json=body(path), headers=keyed()).raise_for_status()
    other = api.post(path, json=body(path, "Say goodbye."), headers=keyed())
    assert other.status_code == 422
    assert "idempotency" in other.text.lower()


def test_a_key_that_is_none_is_named(api: httpx2.Client) -> None:
    response = api.post(NATIVE, json=body(NATIVE), headers={"Idempotency-Key": "x" * 256})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("path", PATHS)
def test_a_repeated_stream_is_the_whole_answer_and_costs_nothing(
    api: httpx2.Client, organization: Organization, path: str
) -> None:
    asked = body(path, tier="large", stream=True) if path == NATIVE else body(path, stream=True)
    first = api.post(path, json=asked, headers=keyed()).raise_for_status()
    again = api.post(path, json=asked, headers=keyed()).raise_for_status()
    assert first.headers["content-type"] == again.headers["content-type"]
    assert said(again.text) == said(first.text) != ""
    assert again.headers["idempotency-replayed"] == "true"
    assert CostRecord.objects.filter(organization=organization).count() == 1


def said(stream: str) -> str:
    """The words of a stream, in whichever format."""
    words = []
    for line in stream.splitlines():
        if not line.startswith("data: {"):
            continue
        data = json.loads(line[6:])
        for choice in data.get("choices", []):
            words.append(choice["delta"].get("content") or "")
        if data.get("type") == "content_block_delta":
            words.append(data["delta"]["text"])
        if set(data) == {"content"}:
            words.append(data["content"])
    return "".join(words)


def test_fifty_at_once_are_one_charge(
    server: Server, api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    asked = [body(NATIVE, "[[delay:300]] hello")] * 50
    answers = asyncio.run(all_at_once(server, api, asked, **keyed("all-at-once")))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert CostRecord.objects.filter(organization=organization).count() == 1


def test_without_the_key_each_is_a_charge_of_its_own(api: httpx2.Client, organization: Organization) -> None:
    for _ in range(3):
        api.post(NATIVE, json=body(NATIVE)).raise_for_status()
    assert CostRecord.objects.filter(organization=organization).count() == 3


def test_an_error_frees_the_key(api: httpx2.Client, sandbox: Sandbox) -> None:
    sandbox.configure(faults=[{"mode": "503"}])
    refused = [api.post(NATIVE, json=body(NATIVE, "try"), headers=keyed()) for _ in range(2)]
    assert [(answer.status_code, "idempotency-replayed" in answer.headers) for answer in refused] == [
        (503, False),
        (503, False),
    ]


def test_a_client_that_leaves_its_stream_gets_the_whole_answer_later(
    api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    asked = body(NATIVE, "[[content:one two three four five six]] [[slow:50]]", tier="large", stream=True)
    with api.stream("POST", NATIVE, json=asked, headers=keyed()) as response:
        next(response.iter_bytes())
    again = api.post(NATIVE, json=asked, headers=keyed()).raise_for_status()
    assert said(again.text) == "one two three four five six"
    assert CostRecord.objects.filter(organization=organization).count() == 1
    assert not Hold.objects.filter(organization=organization).exists()


def test_a_stream_that_broke_off_can_be_asked_for_again(
    api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    words = "one two three four five six"
    asked = body(NATIVE, f"[[content:{words}]] [[fault:cut:3@openai]]", tier="large", stream=True)
    broken = api.post(NATIVE, json=asked, headers=keyed()).raise_for_status()
    assert "event: error" in broken.text
    again = api.post(NATIVE, json=asked, headers=keyed()).raise_for_status()
    assert "idempotency-replayed" not in again.headers


# --- Limits


def limit(organization: Organization, server: Server, key: str, value: int) -> None:
    set_value(
        key=key,
        scope="organization",
        organization=organization,
        value=value,
        acting="the tests",
        reason="a test",
    )
    server.refresh()


@pytest.mark.parametrize("path", PATHS)
def test_a_key_that_sends_too_much_is_told_when_to_come_back(
    api: httpx2.Client, organization: Organization, server: Server, path: str
) -> None:
    limit(organization, server, "ai.limits.requests_per_minute", 2)
    answers = [api.post(path, json=body(path)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert int(answers[2].headers["retry-after"]) > 0


def test_too_much_under_way_is_refused_before_anything_is_paid(
    server: Server, api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    limit(organization, server, "ai.limits.in_flight", 2)
    asked = [body(NATIVE, f"[[delay:3000]] {number}", tier="small") for number in range(6)]
    answers = asyncio.run(all_at_once(server, api, asked))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["error"]["code"] == "overloaded"
    assert "retry-after" in refused.headers
    assert CostRecord.objects.filter(organization=organization).count() == 2


async def all_at_once(
    server: Server, api: httpx2.Client, bodies: Sequence[dict[str, Any]], **headers: str
) -> list[httpx2.Response]:
    headers = {"Authorization": api.headers["Authorization"], **headers}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        return await asyncio.gather(*(client.post(NATIVE, json=asked) for asked in bodies))
