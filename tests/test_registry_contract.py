"""The settings that clients and operators rely on by name."""

from typing import Any

import httpx2
import pytest

from aigov.registry.keys import find
from aigov.registry.values import set_value

WIDE = ("global", "tenant", "organization")
WIDE_AND_USER = (*WIDE, "user")
OPENAI = {"small": "gpt-4o-mini", "large": "gpt-4o"}
ANTHROPIC = {"small": "claude-haiku-4-5", "large": "claude-sonnet-4-6"}


@pytest.mark.parametrize(
    ("name", "type_", "scopes", "default", "merge"),
    [
        ("ai.budget.monthly.cap", "money", WIDE, 1000, "replace"),
        ("ai.budget.user.monthly.cap", "money", WIDE_AND_USER, None, "replace"),
        ("ai.budget.use_case.monthly.caps", "object", WIDE, {}, "merge"),
        ("ai.routing.confidence.threshold", "number", WIDE_AND_USER, 0.7, "replace"),
        ("ai.routing.large.use_cases", "array", WIDE, [], "append"),
        ("ai.routing.demotion.cooldown", "duration", WIDE, "PT30M", "replace"),
        ("ai.cache.ttl", "duration", WIDE, "PT8H", "replace"),
        ("ai.completion.max_output_tokens", "integer", WIDE_AND_USER, 1024, "replace"),
        ("ai.providers.order", "array", WIDE, ["openai", "anthropic"], "replace"),
        ("ai.providers.openai.models", "object", WIDE, OPENAI, "merge"),
        ("ai.providers.anthropic.models", "object", WIDE, ANTHROPIC, "merge"),
    ],
)
def test_a_promised_key_exists_as_promised(
    api: httpx2.Client, name: str, type_: str, scopes: tuple[str, ...], default: Any, merge: str
) -> None:
    described = api.get("/api/v1/settings/keys").json()["keys"][name]
    assert (described["type"], described["merge"], described["default"]) == (type_, merge, default)
    assert set(described["scopes"]) == set(scopes)
    applying = api.get("/api/v1/settings/effective", params={"keys": name}).json()["values"][name]
    assert applying == {"value": default, "source": "default"}


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("ai.budget.monthly.cap", -1, "value"),
        ("ai.budget.monthly.cap", None, "value"),
        ("ai.budget.use_case.monthly.caps", {"triage": "much"}, "value.triage"),
        ("ai.routing.confidence.threshold", 1.01, "value"),
        ("ai.routing.large.use_cases", ["", "x"], "value[0]"),
        ("ai.routing.large.use_cases", ["x", 7], "value[1]"),
        ("ai.routing.demotion.cooldown", "30 minutes", "value"),
        ("ai.cache.ttl", 28800, "value"),
        ("ai.completion.max_output_tokens", 0, "value"),
        ("ai.providers.order", ["openai", "another"], "value[1]"),
        ("ai.providers.openai.models", {"small": 4}, "value.small"),
        ("ai.providers.anthropic.models", {"medium": "x"}, "value"),
    ],
)
def test_a_bad_value_of_a_promised_key_is_refused(
    api: httpx2.Client, name: str, value: Any, path: str
) -> None:
    body = {"scope": "organization", "value": value, "reason": "a test"}
    answer = api.put(f"/api/v1/settings/{name}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == path


def test_the_cap_of_the_registry_is_the_cap_in_force(api: httpx2.Client) -> None:
    assert api.get("/api/v1/budget").json()["limit_eur"] == "1000.00"
    body = {"scope": "organization", "value": 250.5, "reason": "a test"}
    assert api.put("/api/v1/settings/ai.budget.monthly.cap", json=body).status_code == 200
    assert api.get("/api/v1/budget").json()["limit_eur"] == "250.50"
    assert api.delete("/api/v1/settings/ai.budget.monthly.cap").status_code == 200
    assert api.get("/api/v1/budget").json()["limit_eur"] == "1000.00"


def test_a_tenants_models_hold_for_its_organizations(api: httpx2.Client, organization: Any) -> None:
    name = "ai.providers.openai.models"
    set_value(
        key=name,
        scope="tenant",
        tenant=organization.tenant,
        value={"large": "gpt-4.1"},
        acting="an operator",
        reason="a test",
    )
    body = {"scope": "organization", "value": {"small": "gpt-4.1-mini"}, "reason": "a test"}
    written = api.put(f"/api/v1/settings/{name}", json=body).json()
    assert written["value"] == {"small": "gpt-4.1-mini", "large": "gpt-4.1"}
    assert find(name).default == OPENAI
