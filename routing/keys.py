"""The settings that this room honours: how a request is routed, and to which models."""

from django.utils.translation import gettext_lazy as _

from aigov.registry.keys import Key, Scope, register

WIDE: tuple[Scope, ...] = ("global", "tenant", "organization")
MODEL_NAME = {"type": "string", "minLength": 1, "maxLength": 100}
MODELS = {
    "properties": {"small": MODEL_NAME, "large": MODEL_NAME},
    "additionalProperties": False,
}

THRESHOLD = Key(
    name="ai.routing.confidence.threshold",
    type="number",
    scopes=(*WIDE, "user"),
    default=0.7,
    schema={"minimum": 0, "maximum": 1},
    description=_(
        "How confident a small model's answer must be to be taken; below, the large model is asked."
    ),
)
LARGE_USE_CASES = Key(
    name="ai.routing.large.use_cases",
    type="array",
    members="string",
    merge="append",
    scopes=WIDE,
    default=[],
    schema={"items": {"minLength": 1, "maxLength": 200}},
    description=_("Use cases that always need the large model."),
)
DEMOTION_COOLDOWN = Key(
    name="ai.routing.demotion.cooldown",
    type="duration",
    scopes=WIDE,
    default="PT30M",
    description=_("For how long a route asks only the small model after the large one was not to be had."),
)
DEGRADED_FROM = Key(
    name="ai.budget.degraded.from",
    type="number",
    nullable=True,
    scopes=WIDE,
    default=None,
    schema={"minimum": 0, "maximum": 100},
    description=_(
        "From which part of the month's cap on, in per cent, spent and held, requests with tier auto ask the"
        " small model only. Empty: never."
    ),
)
CACHE_TTL = Key(
    name="ai.cache.ttl",
    type="duration",
    scopes=WIDE,
    default="PT8H",
    description=_("For how long an answer is kept and given again for an identical request."),
)
MAX_OUTPUT_TOKENS = Key(
    name="ai.completion.max_output_tokens",
    type="integer",
    scopes=(*WIDE, "user"),
    default=1024,
    schema={"minimum": 1, "maximum": 128_000},
    description=_("The longest answer, in tokens, of a request that does not say how long it may be."),
)
PROVIDER_ORDER = Key(
    name="ai.providers.order",
    type="array",
    members="string",
    scopes=WIDE,
    default=["openai", "anthropic"],
    schema={"items": {"enum": ["openai", "anthropic"]}, "minItems": 1, "uniqueItems": True},
    description=_(
        "Which provider is asked first, and which one when it fails. One that is left out is not used."
    ),
)
FIRST_CONTENT_TIMEOUT = Key(
    name="ai.providers.first_content.timeout",
    type="duration",
    scopes=WIDE,
    default="PT15S",
    description=_("For how long a streaming model may be silent before another provider is asked."),
)
HEDGE_AFTER = Key(
    name="ai.providers.hedge.after",
    type="duration",
    nullable=True,
    scopes=WIDE,
    default=None,
    description=_(
        "After how long a second provider is asked beside a slow one, for one call in twenty at most; the"
        " slower answer is paid as well. Empty: never."
    ),
)
OPENAI_MODELS = Key(
    name="ai.providers.openai.models",
    type="object",
    merge="merge",
    scopes=WIDE,
    default={"small": "gpt-4o-mini", "large": "gpt-4o"},
    schema=MODELS,
    description=_("OpenAI's small and large model."),
)
ANTHROPIC_MODELS = Key(
    name="ai.providers.anthropic.models",
    type="object",
    merge="merge",
    scopes=WIDE,
    default={"small": "claude-haiku-4-5", "large": "claude-sonnet-4-6"},
    schema=MODELS,
    description=_("Anthropic's small and large model."),
)


def register_keys() -> None:
    for key in (
        *(THRESHOLD, LARGE_USE_CASES, DEMOTION_COOLDOWN, DEGRADED_FROM, CACHE_TTL, MAX_OUTPUT_TOKENS),
        *(PROVIDER_ORDER, FIRST_CONTENT_TIMEOUT, HEDGE_AFTER, OPENAI_MODELS, ANTHROPIC_MODELS),
    ):
        register(key)
