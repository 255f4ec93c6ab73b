"""The providers' wire formats, on their official SDKs. Only the gateway may call them: a call is money."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from providers.adapters.base import Adapter


def open_adapters(providers: Mapping[str, Mapping[str, str | None]]) -> dict[str, "Adapter"]:
    """An adapter for each configured provider.

    Args:
        providers: by name, each with its `api_key` and `base_url` (None: the provider's own).
    """
    return {name: open_adapter(name, **settings) for name, settings in providers.items()}


def open_adapter(name: str, *, api_key: str | None, base_url: str | None = None) -> "Adapter":
    """The adapter of the provider `name`. Its SDK is imported now: not every process needs each of them.

    Raises:
        LookupError: there is no such provider.
    """
    if not api_key:
        raise LookupError(f"{name} has no key")
    if name == "openai":
        from providers.adapters.openai import OpenAIAdapter

        return OpenAIAdapter(api_key=api_key, base_url=base_url)
    if name == "anthropic":
        from providers.adapters.anthropic import AnthropicAdapter

        return AnthropicAdapter(api_key=api_key, base_url=base_url)
    raise LookupError(f"there is no provider {name}")
