"""Which models a completion may ask, and what each of them is asked."""

from django.conf import settings

from aigov.errors import BadRequest, NotFound
from providers import failover
from providers.failover import Candidate
from providers.features import unsupported
from providers.types import Prompt, ProviderRequest, Tier
from routing import policy
from routing.course import Course


def candidates_of(course: Course, tier: Tier) -> tuple[Candidate, ...]:
    """The models of `tier` that may be asked, best first.

    Raises:
        BadRequest: none of them honours everything that the prompt asks for.
        NotFound: the concrete model's provider is not in use.
    """
    candidates = failover.candidates(
        tier=tier,
        order=course.policy.provider_order,
        models=course.policy.models,
        configured=settings.PROVIDERS,
        failed=course.failed_providers,
    )
    concrete = course.request.model
    wanted = tuple(candidate for candidate in candidates if concrete in (None, candidate.model))
    if concrete is not None and not wanted:
        raise NotFound(
            f"No provider that is in use here has the model {concrete[:100]!r}.",
            param="model",
            code="model_not_found",
        )
    return _able(wanted, course.request.prompt)


def _able(candidates: tuple[Candidate, ...], prompt: Prompt) -> tuple[Candidate, ...]:
    lacks = {
        candidate: unsupported(candidate.provider, prompt, model=candidate.model) for candidate in candidates
    }
    able = tuple(candidate for candidate, param in lacks.items() if param is None)
    if candidates and not able:
        param = lacks[candidates[0]]
        message = f"The models that may be asked do not support {param}."
        raise BadRequest(message, param=param, code="unsupported_parameter")
    return able


def provider_request(course: Course, candidate: Candidate) -> ProviderRequest:
    """What `candidate` is asked."""
    request = course.request
    return ProviderRequest(
        model=candidate.model,
        prompt=request.prompt,
        max_output_tokens=request.max_output_tokens or course.policy.max_output_tokens,
        want_confidence=wants_confidence(course, candidate.tier),
    )


def wants_confidence(course: Course, tier: Tier) -> bool:
    """Whether an answer of `tier` is to come with a sign of how sure its model is."""
    request = course.request
    return policy.is_judged(tier, request) or not (request.exact or course.is_live(tier))
