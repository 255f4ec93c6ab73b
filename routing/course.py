"""A completion under way: what was asked, what applies, and what has been tried and paid so far."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import uuid4

from django.conf import settings

from aigov import clock
from aigov.money import ZERO, euro_text
from aigov.organizations.principals import Principal
from aigov.registry.snapshot import settings_for
from budgets.ledger import Balance
from providers.failover import Candidate
from providers.types import FinishReason, StreamStart, Tier, ToolCall, Usage
from routing import policy
from routing.confidence.signals import Signals
from routing.listener import Listener
from routing.policy import Policy, Route
from routing.requests import CompletionRequest

Outcome = Literal["accepted", "low_confidence", "failed", "refused_budget", "skipped_circuit_open"]


@dataclass(slots=True, eq=False)
class Attempt:
    """One try with one model, whether or not a call was made."""

    candidate: Candidate
    outcome: Outcome
    latency_ms: int = 0
    cost_eur: Decimal = ZERO
    estimated: bool = False
    error: str | None = None
    confidence: float | None = None
    signals: Signals | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the call is over and had no answer; one that we broke off ourselves has not failed."""
        return self.outcome == "failed" and self.error not in (None, "broken_off")

    def as_json(self) -> dict[str, Any]:
        """As the API shows it."""
        shown = {
            "tier": self.candidate.tier,
            "provider": self.candidate.provider,
            "model": self.candidate.model,
            "outcome": self.outcome,
            "confidence": self.confidence,
            "latency_ms": self.latency_ms,
            "cost_eur": euro_text(self.cost_eur),
        }
        if self.estimated:
            shown["estimated"] = True
        return shown if self.error is None else {**shown, "error": self.error}

    def as_recorded(self) -> dict[str, Any]:
        """As the decision keeps it: with the raw signals."""
        return self.as_json() | {"signals": self.signals.as_json() if self.signals else {}}


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, judged.

    Args:
        refused: whether `content` is the words of a refusal.
        stop_sequence: which of the request's stop sequences ended the answer, where the provider says so.
        logprobs: OpenAI's object, where the caller wanted log-probabilities.
    """

    content: str
    parsed: Any | None
    tier: Tier
    provider: str
    model: str
    confidence: float | None
    confidence_method: str
    finish_reason: FinishReason
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    refused: bool = False
    stop_sequence: str | None = None
    logprobs: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Answer":
        """The answer that `dataclasses.asdict` has made `kept` of.

        Raises:
            TypeError, KeyError, ValueError: it was another release's.
        """
        calls = tuple(ToolCall(**call) for call in kept["tool_calls"])
        return cls(**{**kept, "usage": Usage(**kept["usage"]), "tool_calls": calls})


def usage_as_json(usage: Usage) -> dict[str, int]:
    """The tokens of a call as the API shows them."""
    return {
        "input_total": usage.input_total,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write_5m + usage.cache_write_1h,
        "output_total": usage.output_total,
        "reasoning": usage.reasoning,
    }


@dataclass(slots=True)
class Course:
    """The state of one completion from its request to its answer.

    Args:
        deadline: the one end of everything that is done for it, on the event loop's clock.
        resets_at: when the month of the last hold ends.
        cache_key: of the answer; None where the cache is not to be used.
        leads_cache: whether identical requests wait for this one.
        retries: how many calls were made after a failed one.
        listener: who gets the answer while it comes; None: it is given whole.
        stream_start: the start of the stream that the listener gets.
    """

    id: str
    principal: Principal
    request: CompletionRequest
    request_id: str
    policy: Policy
    threshold: float
    created_at: datetime
    started: float
    deadline: float
    attempts: list[Attempt] = field(default_factory=list)
    balance: Balance | None = None
    resets_at: datetime | None = None
    cache_key: str | None = None
    leads_cache: bool = False
    retries: int = 0
    listener: Listener | None = None
    stream_start: StreamStart = StreamStart("")

    @classmethod
    async def begin(
        cls,
        *,
        principal: Principal,
        request: CompletionRequest,
        request_id: str,
        listener: Listener | None = None,
    ) -> "Course":
        registry = await settings_for(principal.organization_id)
        rules = policy.policy_of(registry, organization_id=principal.organization_id, user=request.user)
        return cls(
            id=f"cmp_{uuid4().hex}",
            principal=principal,
            request=request,
            request_id=request_id,
            policy=rules,
            threshold=policy.threshold_of(rules, request),
            created_at=clock.now(),
            started=time.monotonic(),
            deadline=asyncio.get_running_loop().time() + settings.REQUEST_DEADLINE_S,
            listener=listener,
        )

    @property
    def cost_eur(self) -> Decimal:
        """What all attempts cost, the rejected and failed ones too."""
        return sum((attempt.cost_eur for attempt in self.attempts), ZERO)

    @property
    def failures(self) -> int:
        """How many calls have failed."""
        return sum(attempt.has_failed for attempt in self.attempts)

    @property
    def failed_providers(self) -> set[str]:
        return {attempt.candidate.provider for attempt in self.attempts if attempt.has_failed}

    def is_live(self, tier: Tier) -> bool:
        """Whether an answer of `tier` is given while it comes."""
        return self.listener is not None and policy.is_live(tier, self.request)

    @property
    def has_begun(self) -> bool:
        """Whether somebody has got a part of the answer already."""
        return self.listener is not None and self.listener.begun

    @property
    def is_deserted(self) -> bool:
        """Whether whoever listened has gone."""
        return self.listener is not None and self.listener.gone

    @property
    def latency_ms(self) -> int:
        return int((time.monotonic() - self.started) * 1000)

    @property
    def remaining_s(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()

    def begin_attempt(self, candidate: Candidate) -> Attempt:
        """A new attempt, failed until it is known to have an answer."""
        self.attempts.append(Attempt(candidate, "failed"))
        return self.attempts[-1]

    def reject_answer(self) -> None:
        """Notes that the answer was not sure enough."""
        for attempt in self.attempts:
            if attempt.outcome == "accepted":
                attempt.outcome = "low_confidence"

    def deadline_of_attempt(self, *, candidates_left: int) -> float:
        """When to give an attempt up: where others are left, in time to try them too."""
        return self.deadline - self.remaining_s * candidates_left / (candidates_left + 1)


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished course.

    Args:
        saved_eur: what the answer cost when it was asked for, where it now came from the cache.
    """

    course: Course
    answer: Answer
    route: Route
    saved_eur: Decimal = ZERO

    @property
    def cached(self) -> bool:
        return self.route == "cache"
