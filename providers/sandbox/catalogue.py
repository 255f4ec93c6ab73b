"""The models that the sandbox knows, and what they can do."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Provider = Literal["openai", "anthropic"]
Size = Literal["small", "large"]

#: Model name → the dated snapshot that a provider answers as, where that differs.
OPENAI_MODELS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "o3": "o3-2025-04-16",
    "o4-mini": "o4-mini-2025-04-16",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.4": "gpt-5.4",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
}
ANTHROPIC_MODELS = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-6": "claude-sonnet-4-6",
    "claude-opus-4-6": "claude-opus-4-6",
    "claude-haiku-5-5": "claude-haiku-5-5",
    "claude-sonnet-5-5": "claude-sonnet-5-5",
    "claude-opus-5-5": "claude-opus-5-5",
}
SMALL = re.compile(r"mini|nano|haiku")
#: gpt-5.1 and later give log-probabilities when they do not reason; o-series and gpt-5 never do.
OPTIONAL_REASONING = re.compile(r"gpt-5\.[1-9]")
ALWAYS_REASONING = re.compile(r"o\d|gpt-5(-|$)")
#: Models that have no structured output.
WITHOUT_STRUCTURE = re.compile(r"gpt-4-turbo|gpt-3\.5")
WITHOUT_IMAGES = re.compile(r"gpt-3\.5")
CLAUDE = re.compile(r"claude-(haiku|sonnet|opus)-(\d+)-(\d+)")
#: Prompts of fewer tokens are not cached, by family and version; 1,024 where nothing is said.
CACHE_TOKENS_MIN = {
    ("haiku", 4, 5): 4096,
    ("opus", 4, 5): 4096,
    ("opus", 4, 6): 4096,
    ("opus", 5, 5): 512,
}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What a model is called and what it can do. There is one object of each, so that comparing is cheap.

    Args:
        name: as the caller wrote it.
        snapshot: as the answer names it.
        sampling: whether it takes a temperature, top_p and top_k.
        forced_tools: whether a caller may demand that a tool is called.
        prefill: whether a conversation may end with the beginning of the answer.
        cache_tokens_min: how long a prompt is at least, in tokens, for Anthropic to cache it.
    """

    provider: Provider
    name: str
    snapshot: str
    size: Size
    reasoning: Literal["never", "optional", "always"]
    structured: bool = True
    images: bool = True
    sampling: bool = True
    forced_tools: bool = True
    prefill: bool = True
    cache_tokens_min: int = 1024


def all_models() -> Iterator[Model]:
    """Every model that the sandbox offers, under its short name."""
    for provider, names in (("openai", OPENAI_MODELS), ("anthropic", ANTHROPIC_MODELS)):
        for name in names:
            model = find(provider, name)
            assert model is not None
            yield model


@lru_cache(maxsize=256)
def find(provider: str, name: str) -> Model | None:
    """The model called `name`, short or dated, at `provider`; None where it has none of that name."""
    names = OPENAI_MODELS if provider == "openai" else ANTHROPIC_MODELS
    if name in names:
        snapshot = names[name]
    elif name in names.values():
        snapshot = name
    else:
        return None
    if provider == "anthropic":
        return _claude(name, snapshot)
    return Model(
        provider="openai",
        name=name,
        snapshot=snapshot,
        size="small" if SMALL.search(name) else "large",
        reasoning=_reasoning(name),
        structured=not WITHOUT_STRUCTURE.match(name),
        images=not WITHOUT_IMAGES.match(name),
    )


def _claude(name: str, snapshot: str) -> Model:
    """Claude 5 has no sampling, its larger models no forced tools; since 4.6 none continues an answer."""
    found = CLAUDE.match(name)
    assert found is not None
    family, version = found[1], (int(found[2]), int(found[3]))
    return Model(
        provider="anthropic",
        name=name,
        snapshot=snapshot,
        size="small" if family == "haiku" else "large",
        reasoning="never",
        sampling=version < (5, 0),
        forced_tools=version < (5, 5) or family == "haiku",
        prefill=version < (4, 6),
        cache_tokens_min=CACHE_TOKENS_MIN.get((family, *version), 1024),
    )


def _reasoning(name: str) -> Literal["never", "optional", "always"]:
    if OPTIONAL_REASONING.match(name):
        return "optional"
    return "always" if ALWAYS_REASONING.match(name) else "never"
