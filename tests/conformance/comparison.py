"""The provider's own answer beside the gateway's, field by field, and the list of what may differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.conformance.case import Client


class Absent:
    """In place of a field that is not there."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()


class Difference(NamedTuple):
    path: str
    direct: Any
    gateway: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.direct!r}, through the gateway {self.gateway!r}"


@dataclass(frozen=True)
class Documented:
    """A field that may differ.

    Args:
        field: its path, without the places in lists.
        why: for whoever reads the docs.
    """

    client: Client
    field: str
    why: str


OURS_ID = "ours: `cmp_…`, for `GET /api/v1/completions/{id}`"
ASKED_NAME = "the name that was asked for; the provider names a dated snapshot of it"
OWN_CALL_ID = "made anew by the provider for each call, and passed on as it is"
EXTRAS = "our extras: cost, route, confidence, attempts, budget"

#: All that may differ; the docs have the same list.
DOCUMENTED = (
    Documented("openai", "id", OURS_ID),
    Documented("openai", "created", "when the gateway was asked"),
    Documented("openai", "model", ASKED_NAME),
    Documented("openai", "system_fingerprint", "null; we keep none"),
    Documented("openai", "aigov", EXTRAS),
    Documented("openai", "obfuscation", "padding of streamed chunks, which the gateway does not add"),
    Documented("openai", "choices[].message.tool_calls[].id", OWN_CALL_ID),
    Documented("anthropic", "id", OURS_ID),
    Documented("anthropic", "model", ASKED_NAME),
    Documented("anthropic", "aigov", EXTRAS),
    Documented("anthropic", "usage.inference_geo", "left out; the gateway lets nobody choose a region"),
    Documented("anthropic", "content[].id", OWN_CALL_ID),
    Documented("anthropic", "events[].message.id", OURS_ID),
    Documented("anthropic", "events[].message.model", ASKED_NAME),
    Documented(
        "anthropic",
        "events[].message.usage.inference_geo",
        "left out; the gateway lets nobody choose a region",
    ),
    Documented(
        "anthropic",
        "events[].message.usage.output_tokens",
        "a placeholder at the provider; where the answer is known whole before its first word, its own count",
    ),
    Documented("anthropic", "events[].content_block.id", OWN_CALL_ID),
    Documented("anthropic", "events[].aigov", EXTRAS),
)


def undocumented(of: Client, direct: Any, gateway: Any) -> list[Difference]:
    """What differs, though nothing says that it may."""
    may_differ = {each.field for each in DOCUMENTED if each.client == of}
    return [each for each in all_differences(direct, gateway) if each.path not in may_differ]


def all_differences(direct: Any, gateway: Any) -> list[Difference]:
    """What differs between two results of `asking`."""
    return list(_differences(_inner(direct), _inner(gateway)))


def _inner(result: Any) -> Any:
    return result.get("answers", result.get("chunks", result))


def _differences(direct: Any, gateway: Any, path: str = "") -> Iterator[Difference]:
    """Every field that is not the same on both sides, by its path without the places in lists."""
    if isinstance(direct, dict) and isinstance(gateway, dict):
        for name in {**direct, **gateway}:
            where = f"{path}.{name}".removeprefix(".")
            yield from _differences(direct.get(name, ABSENT), gateway.get(name, ABSENT), where)
    elif isinstance(direct, list) and isinstance(gateway, list) and len(direct) == len(gateway):
        where = f"{path}[]" if path else ""
        for one, other in zip(direct, gateway, strict=True):
            yield from _differences(one, other, where)
    elif direct != gateway or type(direct) is not type(gateway):
        yield Difference(path, direct, gateway)
