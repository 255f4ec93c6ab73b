"""What applies to a request, and what follows from it: pure, so that each rule can be tested alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from aigov.errors import NotFound
from aigov.registry.effective import Settings
from budgets.ledger import Balance
from providers.types import Tier
from routing.requests import CompletionRequest

TIERS: tuple[Tier, ...] = ("small", "large")
Route = Literal["small", "large", "cache", "degraded"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings in force for one organization and user.

    Args:
        threshold: the confidence from which on a small model's answer is taken, 0 to 1.
        large_use_cases: these never ask the small model.
        max_output_tokens: for requests that do not say.
        hedge_after_s: a second provider is asked where the first takes longer than this; None: never.
        first_content_timeout_s: after so many seconds without a word a streaming model is given up.
        cache_ttl_s: for how many seconds an answer is given again; 0: never.
        demotion_cooldown: for how long a route asks only the small model once it could not escalate.
        degraded_from: from so many per cent of the month's cap on, only the small model; None: never.
        provider_order: who is asked first, and who next.
        models: by provider and tier.
    """

    threshold: float
    large_use_cases: frozenset[str]
    max_output_tokens: int
    hedge_after_s: float | None
    first_content_timeout_s: float
    cache_ttl_s: int
    demotion_cooldown: timedelta
    degraded_from: Decimal | None
    provider_order: tuple[str, ...]
    models: Mapping[str, Mapping[str, str]]


def policy_of(settings: Settings, *, organization_id: int, user: str) -> Policy:
    """The policy that the settings registry has for an organization and its user."""

    def value(name: str) -> object:
        return settings.value(name, organization_id=organization_id, user=user)

    hedge_after, degraded_from = value("ai.providers.hedge.after"), value("ai.budget.degraded.from")
    return Policy(
        threshold=value("ai.routing.confidence.threshold"),  # type: ignore[arg-type]
        large_use_cases=frozenset(value("ai.routing.large.use_cases")),  # type: ignore[call-overload]
        max_output_tokens=value("ai.completion.max_output_tokens"),  # type: ignore[arg-type]
        demotion_cooldown=value("ai.routing.demotion.cooldown"),  # type: ignore[arg-type]
        degraded_from=None if degraded_from is None else Decimal(str(degraded_from)),
        hedge_after_s=None if hedge_after is None else hedge_after.total_seconds(),  # type: ignore[attr-defined]
        first_content_timeout_s=value("ai.providers.first_content.timeout").total_seconds(),  # type: ignore[attr-defined]
        cache_ttl_s=int(value("ai.cache.ttl").total_seconds()),  # type: ignore[attr-defined]
        provider_order=tuple(value("ai.providers.order")),  # type: ignore[arg-type]
        models={
            "openai": value("ai.providers.openai.models"),  # type: ignore[dict-item]
            "anthropic": value("ai.providers.anthropic.models"),  # type: ignore[dict-item]
        },
    )


def threshold_of(policy: Policy, request: CompletionRequest) -> float:
    """The confidence that this request asks for: its own, else the policy's."""
    return policy.threshold if request.confidence_threshold is None else request.confidence_threshold


def first_tier(policy: Policy, request: CompletionRequest) -> Tier:
    """Small first, unless the request or its use case needs the large model.

    A wish for a tool comes without log-probabilities: nobody could say how sure the small model is of it.
    """
    if request.model is not None:
        return tier_of_model(policy, request.model)
    needs_large = request.prompt.tools or request.use_case in policy.large_use_cases
    return "large" if request.tier == "large" or (request.tier == "auto" and needs_large) else "small"


def may_escalate(request: CompletionRequest) -> bool:
    """Whether the large model may be asked after the small one: only where the choice was left to us."""
    return request.tier == "auto" and request.model is None


def is_small_only(policy: Policy, balance: Balance) -> bool:
    """Whether so much of the organization's cap is spent and held that only the small model is asked."""
    if policy.degraded_from is None or balance.cap_eur is None:
        return False
    return (balance.spent_eur + balance.held_eur) * 100 >= balance.cap_eur * policy.degraded_from


def is_judged(tier: Tier, request: CompletionRequest) -> bool:
    """Whether an answer of `tier` is looked at before it is given: it may not be the last word."""
    return tier == "small" and may_escalate(request)


def is_live(tier: Tier, request: CompletionRequest) -> bool:
    """Whether an answer of `tier` can be given while it comes. A label is known when it is whole."""
    return not is_judged(tier, request) and not request.prompt.labels


def is_accepted(confidence: float | None, threshold: float) -> bool:
    """Whether a small model's answer is good enough. No signal at all is no confidence."""
    return confidence is not None and confidence >= threshold


def tier_of_model(policy: Policy, model: str) -> Tier:
    """The tier in which the organization uses a concrete model.

    Raises:
        NotFound: it does not use it.
    """
    for models in policy.models.values():
        for tier in TIERS:
            if models.get(tier) == model:
                return tier
    allowed = sorted({name for models in policy.models.values() for name in models.values()})
    raise NotFound(
        f"This organization does not use the model {model[:100]!r}. Use auto, small, large or one of:"
        f" {', '.join(allowed)}.",
        param="model",
        code="model_not_found",
    )
