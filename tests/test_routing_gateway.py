"""The way of a request: which model answers, what is charged, what the caller is told."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx2
import openai
import psycopg
import pytest

from aigov import clock, database, snapshots
from aigov.organizations.models import Organization
from aigov.registry.values import set_value
from budgets import ledger
from budgets.models import CostRecord, Hold
from providers.pricing import Unpriced
from routing import charging
from routing.models import Decision
from tests.conftest import Sandbox, Server, month_account

LEAD = "Wir suchen eine Lösung für 500 Mitarbeiter, Budget ist freigegeben."
PATH = "/api/v1/completions"


def body(text: str = LEAD, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_a_sure_small_answer_is_taken(api: httpx2.Client, organization: Organization) -> None:
    response = api.post(PATH, json=body("[[confidence:0.9]]" + LEAD, labels=["A", "B", "C"], use_case="lead"))
    answer = response.json()
    assert response.status_code == 200, answer
    assert (answer["route"], answer["tier"], answer["provider"]) == ("small", "small", "openai")
    assert answer["content"] in {"A", "B", "C"}
    assert answer["confidence"] == pytest.approx(0.9, abs=0.01)
    assert answer["confidence_method"] == "uncalibrated:label_probability"
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["accepted"]
    record = CostRecord.objects.get(completion_id=answer["id"])
    assert answer["cost_eur"] == f"{record.cost_eur:.9f}"
    assert month_account(organization).spent_eur == record.cost_eur
    assert response.headers["x-ai-route"] == "small"
    assert response.headers["x-ai-cost-eur"] == answer["cost_eur"]


def test_an_unsure_small_answer_is_escalated_and_both_are_paid(
    api: httpx2.Client, organization: Organization
) -> None:
    answer = api.post(PATH, json=body("[[confidence:0.4@small]]" + LEAD, labels=["A", "B", "C"])).json()
    assert (answer["route"], answer["tier"], answer["model"]) == ("large", "large", "gpt-4o")
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["low_confidence", "accepted"]
    costs = [record.cost_eur for record in CostRecord.objects.filter(completion_id=answer["id"])]
    assert len(costs) == 2
    assert Decimal(answer["cost_eur"]) == sum(costs) == month_account(organization).spent_eur


def test_the_large_model_that_is_not_affordable_leaves_the_small_answer(
    make_organization: Any, make_client: Any
) -> None:
    client = make_client(make_organization(cap_eur="0.002"))
    response = client.post(PATH, json=body("[[confidence:0.4]]" + LEAD, max_output_tokens=256))
    answer = response.json()
    assert (answer["route"], answer["tier"]) == ("degraded", "small")
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["low_confidence", "refused_budget"]
    assert response.headers["x-ai-route"] == "degraded"


@pytest.mark.parametrize(("wanted", "model"), [("small", "gpt-4o-mini"), ("large", "gpt-4o")])
def test_a_tier_that_is_asked_for_is_not_left(api: httpx2.Client, wanted: str, model: str) -> None:
    answer = api.post(PATH, json=body("[[confidence:0.1]]" + LEAD, tier=wanted)).json()
    assert (answer["route"], answer["model"], len(answer["attempts"])) == (wanted, model, 1)


def test_a_use_case_can_need_the_large_model(
    api: httpx2.Client, organization: Organization, server: Server
) -> None:
    set_value(
        key="ai.routing.large.use_cases",
        scope="organization",
        organization=organization,
        value=["contracts"],
        acting="test",
        reason="test",
    )
    server.refresh()
    answer = api.post(PATH, json=body(use_case="contracts")).json()
    assert (answer["route"], len(answer["attempts"])) == ("large", 1)
    assert api.post(PATH, json=body("[[confidence:0.9]]", use_case="other")).json()["route"] == "small"


def test_the_callers_threshold_is_the_one_that_counts(api: httpx2.Client) -> None:
    text = "[[confidence:0.8@small]]" + LEAD
    assert api.post(PATH, json=body(text, confidence_threshold=0.75)).json()["route"] == "small"
    assert api.post(PATH, json=body(text, confidence_threshold=0.85)).json()["route"] == "large"


def test_the_other_provider_answers_when_one_fails(api: httpx2.Client, organization: Organization) -> None:
    answer = api.post(PATH, json=body("[[fault:500@openai]]" + LEAD, tier="small")).json()
    assert (answer["provider"], answer["tier"]) == ("anthropic", "small")
    assert [(a["provider"], a["outcome"]) for a in answer["attempts"]] == [
        ("openai", "failed"),
        ("anthropic", "accepted"),
    ]
    assert CostRecord.objects.filter(completion_id=answer["id"]).count() == 1
    assert not Hold.objects.filter(organization=organization).exists()


def test_when_all_providers_fail_it_is_said_and_costs_nothing(
    api: httpx2.Client, organization: Organization
) -> None:
    response = api.post(PATH, json=body("[[fault:503]]" + LEAD))
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "no_provider_available"
    assert "retry-after" in response.headers
    account = month_account(organization)
    assert (account.spent_eur, account.held_eur) == (0, 0)
    refused = Decision.objects.get(organization=organization)
    assert refused.error_code == "no_provider_available"
    assert [attempt["outcome"] for attempt in refused.attempts] == ["failed"] * 3, "there is no fourth try"


@pytest.mark.parametrize(
    ("faults", "retry_after"),
    [("[[fault:429:40@openai]][[fault:429:20@anthropic]]", range(19, 21)), ("[[fault:503]]", range(1, 2))],
)
def test_the_caller_is_told_when_the_first_model_may_be_asked_again(
    api: httpx2.Client, faults: str, retry_after: range
) -> None:
    for _ in range(2):  # at the second time, open circuits alone say no
        response = api.post(PATH, json=body(faults + LEAD, tier="small"))
        assert (response.status_code, int(response.headers["retry-after"]) in retry_after) == (503, True)


def test_a_call_that_may_have_been_billed_is_charged_in_full_as_estimated(
    api: httpx2.Client, organization: Organization
) -> None:
    answer = api.post(PATH, json=body("[[fault:reset@openai]]" + LEAD, tier="small")).json()
    lost, answered = CostRecord.objects.filter(completion_id=answer["id"]).order_by("attempt")
    assert (lost.provider, lost.estimated, lost.cost_eur) == ("openai", True, lost.held_eur)
    assert (answered.provider, answered.estimated) == ("anthropic", False)
    assert Decimal(answer["cost_eur"]) == lost.cost_eur + answered.cost_eur
    assert answer["attempts"][0]["estimated"] is True


def test_a_request_that_the_provider_finds_wrong_is_the_callers(api: httpx2.Client) -> None:
    response = api.post(PATH, json=body("[[fault:400]]" + LEAD))
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_lowered_cap_refuses_the_next_call(make_organization: Any, make_client: Any) -> None:
    client = make_client(make_organization(cap_eur="0"))
    response = client.post(PATH, json=body())
    error = response.json()["error"]
    assert response.status_code == 402
    assert (error["type"], error["code"]) == ("budget_exceeded", "organization_budget_exceeded")
    assert response.headers["x-should-retry"] == "false"
    metadata = error["metadata"]
    assert (metadata["scope"], metadata["limit_eur"], metadata["spent_eur"]) == (
        "organization",
        "0.00",
        "0.000000000",
    )
    assert Decimal(metadata["required_eur"]) > 0
    assert metadata["resets_at"].endswith(("+01:00", "+02:00"))


def test_a_users_cap_refuses_that_user_alone(
    api: httpx2.Client, organization: Organization, server: Server
) -> None:
    set_value(
        key="ai.budget.user.monthly.cap",
        scope="user",
        organization=organization,
        user="u-1",
        value="0",
        acting="test",
        reason="test",
    )
    server.refresh()
    refused = api.post(PATH, json=body(user="u-1"))
    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "user_budget_exceeded"
    assert "1000" not in refused.text, "another scope's figures are nobody's business"
    assert api.post(PATH, json=body(user="u-2")).status_code == 200


def test_a_completion_can_be_looked_up_with_its_costs(api: httpx2.Client) -> None:
    answer = api.post(PATH, json=body("[[confidence:0.4@small]]" + LEAD, metadata={"lead_id": "L-1"})).json()
    found = api.get(f"{PATH}/{answer['id']}").json()
    assert (found["id"], found["route"], found["cost_eur"]) == (answer["id"], "large", answer["cost_eur"])
    assert found["metadata"] == {"lead_id": "L-1"}
    for attempt in found["attempts"]:
        rate, cost_usd = Decimal(attempt["fx_rate"]), Decimal(attempt["cost_usd"])
        assert Decimal(attempt["cost_eur"]) - cost_usd * rate < Decimal("1e-9")
        assert attempt["usage"]["input_total"] > 0
        assert attempt["price"]["model"] == attempt["model"]
        assert attempt["signals"]["mean_logprob"] < 0


def test_a_strangers_completion_is_not_found(
    api: httpx2.Client, make_organization: Any, make_client: Any
) -> None:
    completion_id = api.post(PATH, json=body()).json()["id"]
    assert api.get(f"{PATH}/cmp_%00").status_code == 404
    response = make_client(make_organization()).get(f"{PATH}/{completion_id}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_a_structured_answer_is_parsed(api: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"category": {"type": "string", "enum": ["A", "B"]}},
        "required": ["category"],
        "additionalProperties": False,
    }
    answer = api.post(PATH, json=body(response_schema=schema)).json()
    assert set(answer["parsed"]) == {"category"}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"tier": "huge"}, "tier"),
        ({"labels": ["A", "A"]}, "labels"),
        ({"labels": ["A"], "response_schema": {"type": "object"}}, "response_schema"),
        ({"response_schema": {"type": "nonsense"}}, "response_schema"),
        ({"response_schema": {"$ref": "http://127.0.0.1/x"}}, "response_schema"),
        ({"labels": ["A", '"a"']}, "labels"),
        ({"metadata": {"use_case": "x" * 201}}, "metadata.use_case"),
        ({"metadata": {"use_case": 5}}, "metadata.use_case"),
        ({"confidence_threshold": 1.5}, "confidence_threshold"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temprature": 1}, "temprature"),
        ({"metadata": {"lead_id": {"deep": 1}}}, "metadata.lead_id"),
        ({"user": "x" * 201}, "user"),
    ],
)
def test_bad_input_is_refused_by_the_fields_name(
    api: httpx2.Client, wrong: dict[str, Any], param: str
) -> None:
    response = api.post(PATH, json={**body(), **wrong})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_the_budget_is_told(api: httpx2.Client, organization: Organization) -> None:
    answer = api.post(PATH, json=body(user="u-7")).json()
    budget = api.get("/api/v1/budget?user=u-7").json()
    assert budget["spent_eur"] == answer["cost_eur"] == budget["user"]["spent_eur"]
    assert (budget["limit_eur"], budget["user"]["limit_eur"]) == ("1000.00", None)
    assert budget["held_eur"] == "0.000000000"


class TestOpenAIClient:
    @pytest.fixture
    def client(self, api: httpx2.Client, server: Server) -> openai.OpenAI:
        token = api.headers["authorization"].removeprefix("Bearer ")
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0)

    def test_it_gets_a_routed_answer(self, client: openai.OpenAI) -> None:
        completion = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "[[confidence:0.9]]" + LEAD}]
        )
        assert completion.choices[0].message.content
        assert completion.usage and completion.usage.total_tokens > 0
        assert completion.model == "gpt-4o-mini"
        assert completion.model_extra and completion.model_extra["aigov"]["route"] == "small"

    def test_a_concrete_model_is_honoured(self, client: openai.OpenAI) -> None:
        completion = client.chat.completions.create(
            model="claude-sonnet-4-6", messages=[{"role": "user", "content": LEAD}]
        )
        assert completion.model == "claude-sonnet-4-6"

    def test_a_model_that_the_organization_does_not_use_is_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": LEAD}])
        assert caught.value.param == "model"

    def test_what_cannot_be_honoured_is_refused_by_name(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="auto", messages=[{"role": "user", "content": LEAD}], n=2)
        assert caught.value.param == "n"
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": LEAD}], logit_bias={"1": 1}
            )
        assert caught.value.param == "logit_bias"

    def test_a_structured_answer_comes_as_json(self, client: openai.OpenAI) -> None:
        schema = {
            "type": "object",
            "properties": {"category": {"type": "string", "enum": ["A", "B"]}},
            "required": ["category"],
            "additionalProperties": False,
        }
        completion = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": LEAD}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "c", "schema": schema, "strict": True},
            },
        )
        assert '"category"' in (completion.choices[0].message.content or "")

    def test_the_cap_raises_the_clients_own_error(
        self, make_organization: Any, make_client: Any, server: Server
    ) -> None:
        token = make_client(make_organization(cap_eur="0")).headers["authorization"].removeprefix("Bearer ")
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=token)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="auto", messages=[{"role": "user", "content": LEAD}])
        assert (caught.value.status_code, caught.value.code) == (402, "organization_budget_exceeded")


def test_no_provider_is_called_without_a_hold(
    make_organization: Any, make_client: Any, sandbox: Sandbox
) -> None:
    before = sandbox.stats()
    make_client(make_organization(cap_eur="0")).post(PATH, json=body())
    assert sandbox.stats() == before


def test_a_small_answer_takes_three_statements(api: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    api.post(PATH, json=body(cache="off"))  # opens the month
    statements: list[str] = []
    execute = psycopg.AsyncConnection.execute

    async def counted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        statements.append(str(query).split("(")[0].strip())
        return await execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
    assert api.post(PATH, json=body("[[confidence:0.9]]" + LEAD)).json()["route"] == "small"
    ours = [statement for statement in statements if "ledger_" in statement or "INSERT" in statement]
    assert ours == ["SELECT * FROM ledger_reserve", "SELECT * FROM ledger_settle", "INSERT INTO ai_decisions"]
    loads = [
        statement for statement in statements if statement not in (*ours, "SELECT 1", "LISTEN aigov_changed")
    ]
    assert loads == [], "keys, settings, prices and rates cost no query"


def test_a_model_without_a_price_is_never_called(
    api: httpx2.Client, organization: Organization, server: Server, sandbox: Sandbox
) -> None:
    set_value(
        key="ai.providers.openai.models",
        scope="organization",
        organization=organization,
        value={"small": "gpt-unheard-of"},
        acting="test",
        reason="test",
    )
    server.refresh()
    response = api.post(PATH, json=body())
    assert (response.status_code, response.json()["error"]["code"]) == (400, "model_not_priced")
    assert sandbox.stats()["calls"] == {}


def test_a_call_belongs_to_the_local_month_of_its_hold(
    api: httpx2.Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for instant, month in (("2027-03-31T21:59", date(2027, 3, 1)), ("2027-03-31T22:00", date(2027, 4, 1))):
        now = datetime.fromisoformat(instant).replace(tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        answer = api.post(PATH, json=body(cache="off")).json()
        assert CostRecord.objects.get(completion_id=answer["id"]).month == month
    assert answer["budget"]["resets_at"] == "2027-05-01T00:00:00+02:00"


def test_without_the_database_nothing_is_sent_and_it_is_said_at_once(
    api: httpx2.Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> Any:
        raise database.unavailable()

    with monkeypatch.context() as patched:
        patched.setattr(database, "connection", away)
        response = api.post(PATH, json=body())
    assert (response.status_code, response.json()["error"]["code"]) == (503, "budget_unavailable")
    assert response.headers["retry-after"] == "1"
    assert sandbox.stats()["calls"] == {}


def test_a_paid_answer_is_given_though_the_database_went_away_meanwhile(
    api: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_fresh(_: Any) -> bool:
        return False

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as thread:
        call = thread.submit(api.post, PATH, json=body("[[delay:600]][[confidence:0.3@small]]" + LEAD))
        time.sleep(0.3)
        patched.setattr(snapshots.Snapshot, "is_fresh", property(is_fresh))
        response = call.result()
    assert (response.status_code, response.json()["route"]) == (200, "degraded")


def test_a_defect_after_the_call_is_charged_and_recorded(
    api: httpx2.Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(**_: Any) -> None:
        raise psycopg.DataError("a value that the ledger cannot take")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "settle", broken)
        response = api.post(PATH, json=body(tier="small"))
    assert response.status_code == 500
    record = CostRecord.objects.get(organization=organization)
    assert (record.estimated, record.reason, record.cost_eur) == (True, "broken_off", record.held_eur)
    decision = Decision.objects.get(organization=organization)
    assert (decision.error_code, decision.cost_eur) == ("internal_error", record.cost_eur)
    assert not Hold.objects.filter(organization=organization).exists()


def test_a_bill_over_the_hold_is_charged_in_full_and_marked(
    api: httpx2.Client, organization: Organization, sandbox: Sandbox
) -> None:
    sandbox.configure(usage={"prompt_tokens": 9_000_000, "completion_tokens": 1, "total_tokens": 9_000_001})
    answer = api.post(PATH, json=body(tier="small")).json()
    record = CostRecord.objects.get(completion_id=answer["id"])
    assert (record.overrun, record.estimated) == (True, False)
    assert record.cost_eur > record.held_eur
    # 9,000,000 × 0.15 $ and 1 × 0.60 $ a million tokens, at 0.92
    assert record.cost_eur == Decimal("1.242000552")
    assert month_account(organization).spent_eur == record.cost_eur


def test_a_service_tier_without_a_price_is_charged_in_full_as_estimated(
    api: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpriced(*_: Any) -> Any:
        raise Unpriced("openai", "gpt-4o-mini", "unheard-of")

    with monkeypatch.context() as patched:
        patched.setattr(charging, "_price_on_tier", unpriced)
        answer = api.post(PATH, json=body(tier="small")).json()
    record = CostRecord.objects.get(completion_id=answer["id"])
    assert (record.estimated, record.reason) == (True, "unpriced_service_tier")
    assert f"{record.held_eur:.9f}" == answer["cost_eur"]
