"""The sandbox's bills: read by the official SDKs, right to the last digit, and wrong on request."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from genai_prices import Usage, calc_price

from providers.sandbox.catalogue import all_models
from providers.sandbox.metering import LONG_TOKENS_MIN, Metering, band_starts
from tests.sandbox_world import TIMEOUT_S, configure

pytest_plugins = ["tests.sandbox_fixtures"]

DAY_S = 86_400
TODAY_S = int(time.time()) // DAY_S * DAY_S
CLAUDE_USAGE = {
    "input_tokens": 1_000,
    "cache_creation_input_tokens": 700,
    "cache_read_input_tokens": 5_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 300},
    "output_tokens": 321,
}


@pytest.fixture(scope="module")
def gpt_admin(url: str) -> Iterator[openai.OpenAI]:
    options: Any = {"base_url": f"{url}/v1", "max_retries": 0, "timeout": TIMEOUT_S}
    with openai.OpenAI(api_key="k", admin_api_key="sk-admin-1", **options) as client:
        yield client


def add(control: httpx2.Client, *calls: dict[str, Any]) -> None:
    response = control.post("/sandbox/usage", json=list(calls))
    assert response.status_code == 200, response.text


def gpt_call(days_ago: float = 1, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 400}}
    at = TODAY_S - days_ago * DAY_S + 60
    return {"provider": "openai", "model": "gpt-4o-mini", "at": at, "usage": usage, **more}


def claude_call(**more: Any) -> dict[str, Any]:
    at = TODAY_S - DAY_S
    return {"provider": "anthropic", "model": "claude-haiku-4-5", "at": at, "usage": CLAUDE_USAGE, **more}


def costs(client: openai.OpenAI, **more: Any) -> list[tuple[int, str | None, float]]:
    page = client.admin.organization.usage.costs(
        start_time=TODAY_S - 3 * DAY_S, group_by=["line_item"], limit=180, **more
    )
    return [(day.start_time, line.line_item, line.amount.value) for day in page.data for line in day.results]  # type: ignore[union-attr, misc]


def cost_report(url: str, **params: Any) -> Any:
    with anthropic.Anthropic(api_key="sk-ant-admin01-1", base_url=url, max_retries=0) as client:
        options: Any = {"params": {"starting_at": day(3), "limit": 31, **params}}
        response = client.get("/v1/organizations/cost_report", cast_to=httpx2.Response, options=options)
        return response.json()


def day(days_ago: int) -> str:
    at = datetime.fromtimestamp(TODAY_S, UTC) - timedelta(days=days_ago)
    return at.isoformat()


def test_a_call_that_was_answered_stands_on_the_bill(gpt: openai.OpenAI, gpt_admin: openai.OpenAI) -> None:
    usage = gpt.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
    ).usage
    assert usage is not None
    asked = Usage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
    price = calc_price(asked, "gpt-4o-mini", provider_id="openai")
    assert [(item, Decimal(str(value))) for _, item, value in costs(gpt_admin)] == [
        ("gpt-4o-mini-2024-07-18, input", price.input_price),
        ("gpt-4o-mini-2024-07-18, output", price.output_price),
    ]


def test_each_kind_of_tokens_is_a_line(control: httpx2.Client, url: str) -> None:
    add(control, claude_call(), claude_call())
    [line] = [one for one in cost_report(url, group_by=["description"])["data"] if one["results"]]
    # Dollars per million tokens: 1, 0.10 read, 1.25 and 2 written, 5 out; the report has cents.
    assert line["starting_at"] == day(1).replace("+00:00", "Z")
    assert {one["token_type"]: Decimal(one["amount"]) for one in line["results"]} == {
        "uncached_input_tokens": Decimal("0.2"),
        "cache_read_input_tokens": Decimal("0.1"),
        "cache_creation.ephemeral_5m_input_tokens": Decimal("0.1"),
        "cache_creation.ephemeral_1h_input_tokens": Decimal("0.12"),
        "output_tokens": Decimal("0.321"),
    }
    assert {one["model"] for one in line["results"]} == {"claude-haiku-4-5-20251001"}
    [[whole]] = [one["results"] for one in cost_report(url)["data"] if one["results"]]
    assert Decimal(whole["amount"]) == Decimal("0.841") and whole["description"] is None


def test_service_tiers_and_long_prompts_have_lines_of_their_own(
    control: httpx2.Client, gpt_admin: openai.OpenAI, url: str
) -> None:
    long = {"prompt_tokens": 300_000, "completion_tokens": 1_000}
    add(control, gpt_call(model="gpt-5.4", usage=long), gpt_call(service_tier="batch"))
    found = {item: Decimal(str(value)) for _, item, value in costs(gpt_admin)}
    exact = calc_price(Usage(input_tokens=300_000, output_tokens=1_000), "gpt-5.4", provider_id="openai")
    assert found["gpt-5.4, input, long context"] == exact.input_price
    assert found["gpt-5.4, output, long context"] == exact.output_price
    assert found["batch | gpt-4o-mini-2024-07-18, output"] == Decimal("0.000015")
    add(control, claude_call(service_tier="priority"))
    assert not any(one["results"] for one in cost_report(url)["data"])


def test_no_price_depends_on_the_length_of_short_prompts() -> None:
    starts = {start for one in all_models() for start in band_starts(one.provider, one.snapshot)}
    assert min(starts - {0}) >= LONG_TOKENS_MIN


def test_pages_join_into_the_whole(control: httpx2.Client, gpt_admin: openai.OpenAI, url: str) -> None:
    add(control, *(gpt_call(days_ago) for days_ago in range(40)))
    start, days, page = TODAY_S - 40 * DAY_S, [], None
    for _ in range(10):
        more: Any = {} if page is None else {"page": page}
        answer = gpt_admin.admin.organization.usage.costs(start_time=start, limit=7, **more)
        days += [bucket.start_time for bucket in answer.data if bucket.results]
        page = answer.next_page
        assert answer.has_more is (page is not None)
        if page is None:
            break
    assert days == [start + number * DAY_S for number in range(1, 41)]
    first = cost_report(url, limit=1)
    assert first["has_more"]
    [second] = cost_report(url, limit=1, page=first["next_page"])["data"]
    assert second["starting_at"].startswith(day(2)[:10])


def test_usage_is_reported_by_the_hour(control: httpx2.Client, gpt_admin: openai.OpenAI, url: str) -> None:
    add(control, gpt_call(), gpt_call())
    answer = gpt_admin.admin.organization.usage.completions(
        start_time=TODAY_S - DAY_S, end_time=TODAY_S, bucket_width="1h", group_by=["model"]
    )
    [used] = [one for bucket in answer.data for one in bucket.results]
    assert len(answer.data) == 24
    assert used.model == "gpt-4o-mini-2024-07-18"  # type: ignore[union-attr]
    assert (used.input_tokens, used.input_cached_tokens, used.num_model_requests) == (2_000, 800, 2)  # type: ignore[union-attr]


def test_a_bill_is_wrong_late_or_rounded_on_request(control: httpx2.Client, gpt_admin: openai.OpenAI) -> None:
    def outputs() -> list[float]:
        return [value for _, item, value in costs(gpt_admin) if str(item).endswith("output")]

    usage = {"prompt_tokens": 0, "completion_tokens": 10_000}
    add(control, gpt_call(2, usage=usage), gpt_call(1, usage=usage), gpt_call(1, usage=usage, model="gpt-4o"))
    assert outputs() == [0.006, 0.1, 0.006]
    configure(control, bill_faults=[{"model": "gpt-4o", "percent": 3}])
    assert outputs() == [0.006, 0.103, 0.006]
    configure(control, bill_faults=[{"day": day(2)[:10], "missing": True}], bill_places=2)
    assert outputs() == [0.1, 0.01]
    configure(control, bill_faults=[], bill_places=None, bill_delay_h=26 + time.time() % DAY_S / 3600)
    assert outputs() == [0.006]


def test_only_an_admin_key_opens_a_bill(gpt: openai.OpenAI, url: str) -> None:
    for path in ("/v1/organization/costs", "/v1/organization/usage/completions"):
        answer = httpx2.get(f"{url}{path}?start_time=1", headers={"authorization": "Bearer sk-1"})
        assert answer.status_code == 401
    headers = {"x-api-key": "sk-ant-api03-1", "anthropic-version": "2023-06-01"}
    for path in ("/v1/organizations/cost_report", "/v1/organizations/usage_report/messages"):
        answer = httpx2.get(f"{url}{path}?starting_at=2026-11-01T00:00:00Z", headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    "query",
    ["", "start_time=x", "start_time=1&limit=0", "start_time=1&group_by[]=model", "start_time=1&page=page_!"],
)
def test_a_question_that_a_provider_refuses(gpt: openai.OpenAI, url: str, query: str) -> None:
    headers = {"authorization": "Bearer sk-admin-1"}
    assert httpx2.get(f"{url}/v1/organization/costs?{query}", headers=headers).status_code == 400


def test_bills_outlive_the_process(tmp_path: Any) -> None:
    metering = Metering()
    metering.note("openai", "gpt-4o", {"prompt_tokens": 3, "completion_tokens": 4}, at=TODAY_S)
    metering.save(tmp_path / "bills.json")
    again = Metering()
    again.load(tmp_path / "bills.json")
    assert again.days == metering.days and metering.days
