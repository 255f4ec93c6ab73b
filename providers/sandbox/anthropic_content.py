"""The content of a message or of the system prompt: its blocks, read and refused as Anthropic does."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.sandbox import images
from providers.sandbox.caching import Lifetime, Segment
from providers.sandbox.catalogue import Model
from providers.sandbox.tokens import json_text
from providers.sandbox.wire import Refused

MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
ID = re.compile(r"[a-zA-Z0-9_-]+")
#: The block types of each role; a tool's result has those of `result`.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use"),
    "system": ("text",),
    "result": ("text", "image"),
}
#: How large a side of an image is taken, and how many tokens it has at most: Claude 5, and the models before.
IMAGE_LIMITS = {True: (2576, 4784), False: (1568, 1600)}


@dataclass(slots=True)
class Blocks:
    """What was found in a message's content.

    Args:
        other_texts: texts that are counted, and are not the message's own: of tool calls and their results.
        calls: the ids of tool calls.
        results: place and id of tool results.
    """

    texts: list[str] = field(default_factory=list)
    other_texts: list[str] = field(default_factory=list)
    image_tokens: int = 0
    calls: list[str] = field(default_factory=list)
    results: list[tuple[int, str]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.segments)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def leading_results(self) -> list[str]:
        """The ids of the results that stand before anything else."""
        return [one for nth, (place, one) in enumerate(self.results) if nth == place]


Role = Literal["user", "assistant", "system", "result"]


def blocks_of(content: Any, where: str, role: str, model: Model | None) -> Blocks:
    """The blocks of `content`, a string or a list. Raises Refused."""
    blocks = Blocks()
    if isinstance(content, str):
        if content and not content.strip():
            raise Refused(400, f"{where}: text content blocks must contain non-whitespace text")
        if content:
            blocks.texts.append(content)
            blocks.segments.append(Segment(content))
        return blocks
    if not isinstance(content, list):
        raise Refused(400, f"{where}: Input should be a valid string or list")
    for place, block in enumerate(content):
        _read(blocks, block, place, f"{where}.{place}", role, model)
    return blocks


def _read(blocks: Blocks, block: Any, place: int, where: str, role: str, model: Model | None) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in ALLOWED[role]:
        expected = ", ".join(f"'{one}'" for one in ALLOWED[role])
        raise Refused(
            400,
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags:"
            f" {expected}",
        )
    before = len(blocks.other_texts), len(blocks.texts), blocks.image_tokens
    if kind == "text":
        blocks.texts.append(_text(block, where))
    elif kind == "image":
        blocks.image_tokens += _image_tokens(block.get("source"), f"{where}.image.source", model)
    elif kind == "tool_use":
        _tool_use(blocks, block, f"{where}.tool_use")
    else:
        _tool_result(blocks, block, place, f"{where}.tool_result", model)
    said = [*blocks.other_texts[before[0] :], *blocks.texts[before[1] :]]
    tokens = blocks.image_tokens - before[2]
    blocks.segments.append(Segment("\n".join(said), tokens, lifetime_of(block, where)))


def _text(block: Mapping[str, Any], where: str) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise Refused(400, f"{where}.text.text: Field required")
    if not text:
        raise Refused(400, "messages: text content blocks must be non-empty")
    if not text.strip():
        raise Refused(400, "messages: text content blocks must contain non-whitespace text")
    return text


def _tool_use(blocks: Blocks, block: Mapping[str, Any], where: str) -> None:
    identity, name = block.get("id"), block.get("name")
    if not isinstance(identity, str) or not ID.fullmatch(identity):
        raise Refused(400, f"{where}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(name, str) or not name:
        raise Refused(400, f"{where}.name: String should have at least 1 character")
    if not isinstance(block.get("input"), dict):
        raise Refused(400, f"{where}.input: Input should be a valid dictionary")
    blocks.calls.append(identity)
    blocks.other_texts += [name, json_text(block["input"])]


def _tool_result(
    blocks: Blocks, block: Mapping[str, Any], place: int, where: str, model: Model | None
) -> None:
    identity = block.get("tool_use_id")
    if not isinstance(identity, str):
        raise Refused(400, f"{where}.tool_use_id: Field required")
    blocks.results.append((place, identity))
    if block.get("content") is not None:
        inner = blocks_of(block["content"], f"{where}.content", "result", model)
        blocks.other_texts.append(inner.text)
        blocks.image_tokens += inner.image_tokens


def _image_tokens(source: Any, where: str, model: Model | None) -> int:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "base64":
        size = _size_of_data(source, f"{where}.base64")
    elif kind == "url":
        size = _size_of_url(source.get("url"), f"{where}.url")
    else:
        raise Refused(
            400,
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags:"
            " 'base64', 'url'",
        )
    side_max, tokens_max = IMAGE_LIMITS[model is not None and not model.sampling]
    return images.anthropic_tokens(size, side_max=side_max, tokens_max=tokens_max)


def _size_of_data(source: Mapping[str, Any], where: str) -> images.Size:
    if source.get("media_type") not in MEDIA_TYPES:
        expected = "'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        raise Refused(400, f"{where}.media_type: Input should be {expected}")
    data = images.decoded(source["data"]) if isinstance(source.get("data"), str) else None
    if data is None:
        raise Refused(400, f"{where}: invalid base64 data")
    size = images.size_of(data)
    if size is None:
        raise Refused(400, "Could not process image")
    return size


def _size_of_url(url: Any, where: str) -> images.Size:
    if not isinstance(url, str) or not url.startswith("https://"):
        raise Refused(400, f"{where}.url: Only HTTPS URLs are supported.")
    if url.removeprefix("https://").partition("/")[0].endswith(".invalid"):
        raise Refused(400, "Unable to download the file. Please verify the URL and try again.")
    return images.size_of_url(url)


def lifetime_of(block: Mapping[str, Any], where: str) -> Lifetime | None:
    """How long what comes before the end of `block` is to be cached. Raises Refused."""
    control = block.get("cache_control")
    if control is None:
        return None
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        raise Refused(400, f"{where}.cache_control.type: Input should be 'ephemeral'")
    match control.get("ttl"):
        case None | "5m":
            return "5m"
        case "1h":
            return "1h"
    raise Refused(400, f"{where}.cache_control.ttl: Input should be '5m' or '1h'")
