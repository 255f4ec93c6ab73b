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


class RetryBudget:
    """How many failed calls may be followed by another one: a retry in vain is paid for by other calls.

    While one provider fails, the retries with another one cost nothing. Where all of them fail, it keeps
    retries from multiplying their load. One for each process.

    Args:
        calls_per_retry: so many calls earn one retry.
        reserve: retries that are there from the start, and are saved up at most.
    """

    def __init__(self, *, calls_per_retry: int = 5, reserve: int = 100) -> None:
        self._earned_by_call = 1 / calls_per_retry
        self._reserve = float(reserve)
        self._left = self._reserve

    def earn(self) -> None:
        """A request begins."""
        self._left = min(self._left + self._earned_by_call, self._reserve)

    def give_back(self, retries: int) -> None:
        """So many retries were not in vain."""
        self._left = min(self._left + retries, self._reserve)

    def spend(self) -> bool:
        """Whether a failed call may be followed by another one; if so, that is counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
