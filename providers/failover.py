"""Which provider is asked next."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from providers.types import Tier


@dataclass(frozen=True, slots=True)
class Candidate:
    provider: str
    model: str
    tier: Tier


def candidates(
    *,
    tier: Tier,
    order: Sequence[str],
    models: Mapping[str, Mapping[str, str]],
    configured: Collection[str],
    failed: Collection[str] = (),
) -> tuple[Candidate, ...]:
    """The models of `tier`, best first, one a provider.

    Args:
        order: the providers, first choice first (`ai.providers.order`).
        models: each provider's model of each tier (`ai.providers.<name>.models`).
        configured: the providers that we have credentials for; the others are left out.
        failed: providers that have failed within this request; they go last.
    """
    usable = [name for name in dict.fromkeys(order) if name in configured and models.get(name, {}).get(tier)]
    ordered = sorted(usable, key=lambda name: name in failed)
    return tuple(Candidate(provider=name, model=models[name][tier], tier=tier) for name in ordered)
