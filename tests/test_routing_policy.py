"""The rules of routing, each alone."""

from datetime import timedelta

import pytest

from aigov.errors import NotFound
from aigov.registry.effective import Settings, StoredValue, Subject
from aigov.registry.keys import all_keys
from providers.types import Message, Prompt
from routing import policy
from routing.policy import Policy
from routing.requests import CompletionRequest

POLICY = Policy(
    hedge_after_s=None,
    first_content_timeout_s=15.0,
    cache_ttl_s=60,
    demotion_cooldown=timedelta(minutes=30),
    degraded_from=None,
    threshold=0.7,
    large_use_cases=frozenset({"contracts"}),
    max_output_tokens=1024,
    provider_order=("openai", "anthropic"),
    models={"openai": {"small": "s", "large": "l"}, "anthropic": {"small": "as"}},
)


def request(**more: object) -> CompletionRequest:
    return CompletionRequest(prompt=Prompt((Message("user", "hello"),)), **more)  # type: ignore[arg-type]


def test_the_policy_is_what_the_registry_says() -> None:
    stored = [
        StoredValue("ai.routing.confidence.threshold", Subject("user", 1, "u-1"), 0.9),
        StoredValue("ai.routing.large.use_cases", Subject("global"), ["audit"]),
        StoredValue("ai.routing.large.use_cases", Subject("organization", 1), ["contracts"]),
        StoredValue("ai.providers.order", Subject("tenant", 5), ["anthropic"]),
        StoredValue("ai.providers.openai.models", Subject("organization", 1), {"large": "gpt-5"}),
    ]
    settings = Settings(stored, tenants={1: 5}, version=1, keys=all_keys())
    ours = policy.policy_of(settings, organization_id=1, user="u-1")
    assert ours.threshold == 0.9
    assert policy.policy_of(settings, organization_id=1, user="u-2").threshold == 0.7
    assert ours.large_use_cases == {"audit", "contracts"}
    assert ours.provider_order == ("anthropic",)
    assert ours.models["openai"] == {"small": "gpt-4o-mini", "large": "gpt-5"}
    assert ours.max_output_tokens == 1024


@pytest.mark.parametrize(
    ("asked", "tier"),
    [
        ({}, "small"),
        ({"tier": "small"}, "small"),
        ({"tier": "large"}, "large"),
        ({"use_case": "contracts"}, "large"),
        ({"use_case": "contracts", "tier": "small"}, "small"),
        ({"model": "l"}, "large"),
        ({"model": "as", "use_case": "contracts"}, "small"),
    ],
)
def test_which_tier_is_asked_first(asked: dict[str, str], tier: str) -> None:
    assert policy.first_tier(POLICY, request(**asked)) == tier


@pytest.mark.parametrize(
    ("asked", "may"),
    [({}, True), ({"tier": "small"}, False), ({"tier": "large"}, False), ({"model": "s"}, False)],
)
def test_only_what_was_left_to_us_is_escalated(asked: dict[str, str], may: bool) -> None:
    assert policy.may_escalate(request(**asked)) is may


@pytest.mark.parametrize(
    ("confidence", "threshold", "accepted"),
    [(0.7, 0.7, True), (0.6999, 0.7, False), (0.0, 0.0, True), (None, 0.0, False), (1.0, 1.0, True)],
)
def test_an_answer_is_accepted_from_the_threshold_on(
    confidence: float | None, threshold: float, accepted: bool
) -> None:
    assert policy.is_accepted(confidence, threshold) is accepted


def test_the_requests_own_threshold_goes_before_the_policys() -> None:
    assert policy.threshold_of(POLICY, request()) == 0.7
    assert policy.threshold_of(POLICY, request(confidence_threshold=0.0)) == 0.0


def test_a_model_that_is_not_used_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="as, l, s") as caught:
        policy.tier_of_model(POLICY, "gpt-9")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
