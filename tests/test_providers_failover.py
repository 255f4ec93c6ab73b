"""Who is asked, and in which order."""

import pytest

from providers.failover import Candidate, candidates
from providers.types import Tier

MODELS = {
    "openai": {"small": "gpt-4o-mini", "large": "gpt-4o"},
    "anthropic": {"small": "claude-haiku-4-5", "large": "claude-sonnet-4-6"},
}
BOTH = ("openai", "anthropic")


@pytest.mark.parametrize(("tier", "first"), [("small", "gpt-4o-mini"), ("large", "gpt-4o")])
def test_the_first_choice_comes_first_with_its_model_of_the_tier(tier: Tier, first: str) -> None:
    ranked = candidates(tier=tier, order=BOTH, models=MODELS, configured=BOTH)
    assert ranked[0] == Candidate(provider="openai", model=first, tier=tier)
    assert [candidate.provider for candidate in ranked] == ["openai", "anthropic"]


def test_the_order_is_the_settings() -> None:
    ranked = candidates(tier="small", order=("anthropic", "openai"), models=MODELS, configured=BOTH)
    assert [candidate.provider for candidate in ranked] == ["anthropic", "openai"]


def test_a_provider_that_has_failed_goes_last_and_is_not_left_out() -> None:
    ranked = candidates(tier="large", order=BOTH, models=MODELS, configured=BOTH, failed={"openai"})
    assert [candidate.model for candidate in ranked] == ["claude-sonnet-4-6", "gpt-4o"]


def test_where_all_have_failed_the_order_stays() -> None:
    ranked = candidates(tier="small", order=BOTH, models=MODELS, configured=BOTH, failed=set(BOTH))
    assert [candidate.provider for candidate in ranked] == ["openai", "anthropic"]


def test_only_configured_providers_with_a_model_of_the_tier_are_asked_and_each_once() -> None:
    models = {"openai": {"large": "gpt-4o"}, "anthropic": MODELS["anthropic"]}
    order = ("openai", "anthropic", "anthropic", "elsewhere")
    assert candidates(tier="small", order=order, models=models, configured=BOTH) == (
        Candidate("anthropic", "claude-haiku-4-5", "small"),
    )
    assert candidates(tier="small", order=BOTH, models=MODELS, configured=()) == ()
