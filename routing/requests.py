"""What a caller asks for, whichever of the API's faces it came through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.types import Prompt

CacheUse = Literal["use", "refresh", "off"]
WantedTier = Literal["auto", "small", "large"]

#: The keys of `metadata` that name what the answer was for.
LEAD_ID, ORDER_ID = "lead_id", "order_id"


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A completion to be routed.

    Args:
        tier: `auto`: small first; `small`, `large`: that tier alone.
        model: a concrete model in place of a tier; nothing is tried instead of it.
        user: the caller's own end user, for that user's cap and settings.
        max_output_tokens: None: what the settings say.
        confidence_threshold: 0 to 1; None: what the settings say.
        exact: the answer is to be just as its model gives it, without anything asked for on our behalf, but
            for the small model's confidence where the tier is `auto`.
        cache: `refresh`: ask anew, and keep the answer; `off`: neither read nor keep it.
        metadata: free tags of the caller, kept with the costs.
    """

    prompt: Prompt
    tier: WantedTier = "auto"
    model: str | None = None
    use_case: str = ""
    user: str = ""
    max_output_tokens: int | None = None
    confidence_threshold: float | None = None
    exact: bool = False
    cache: CacheUse = "use"
    metadata: Mapping[str, Any] = field(default_factory=dict)
