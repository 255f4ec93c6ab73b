"""Fields and limits that the faces of the gateway share."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from jsonschema import Draft202012Validator, SchemaError
from pydantic import Field

from aigov.errors import BadRequest
from routing.api.shapes import UNSUPPORTED, Shape, checked, wrong
from routing.confidence.signals import plain_label
from routing.requests import WantedTier

NAME_CHARACTERS_MAX = 200
MODEL_CHARACTERS_MAX = 100
MESSAGES_MAX = 1_000
PARTS_MAX = 1_000
TOOLS_MAX = 128
LABELS_MAX = 100
STOPS_MAX = 4
OUTPUT_TOKENS_MAX = 128_000
TOP_LOGPROBS_MAX = 20
TAGS_MAX = 32
TAG_NAME_CHARACTERS_MAX = 64
TAG_CHARACTERS_MAX = 512
#: Of a JSON Schema whose check is remembered: to check one takes milliseconds, and services repeat theirs.
SCHEMA_CHARACTERS_KEPT = 20_000
SCHEMAS_KEPT = 256

TIERS: tuple[WantedTier, ...] = ("auto", "small", "large")


def _check_tag(value: Any) -> None:
    if not isinstance(value, str | int | float | bool | None):
        raise wrong("Must be a string, a number or a boolean.")
    if isinstance(value, str) and len(value) > TAG_CHARACTERS_MAX:
        raise wrong(f"Has at most {TAG_CHARACTERS_MAX} characters.")


def _check_labels(labels: list[str]) -> None:
    """Makes sure that an answer can be told to be one of the labels."""
    if any(not label.strip() for label in labels):
        raise wrong("A label may not be blank.")
    if len({plain_label(label) for label in labels}) < len(labels):
        raise wrong("Labels must differ in more than case, quotes and punctuation.")


def _check_json_schema(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    fault = _fault_of(text) if len(text) <= SCHEMA_CHARACTERS_KEPT else _fault_of.__wrapped__(text)
    if fault is not None:
        raise wrong(fault)


@lru_cache(maxsize=SCHEMAS_KEPT)
def _fault_of(text: str) -> str | None:
    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"Is not a JSON Schema: {error.message[:300]}"
    if any(not str(target).startswith("#") for target in _references(schema)):
        return "May refer to its own definitions only (“#/…”)."
    return None


def _references(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (node[name] for name in ("$ref", "$dynamicRef") if name in node)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _references(child)


Name = Annotated[str, Field(max_length=NAME_CHARACTERS_MAX)]
ModelName = Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS_MAX)]
OutputTokens = Annotated[int, Field(ge=1, le=OUTPUT_TOKENS_MAX)]
Share = Annotated[float, Field(ge=0, le=1)]
Labels = Annotated[list[Name], Field(min_length=1, max_length=LABELS_MAX), checked(_check_labels)]
#: Kept with the costs.
Tags = Annotated[
    dict[Annotated[str, Field(max_length=TAG_NAME_CHARACTERS_MAX)], Annotated[Any, checked(_check_tag)]],
    Field(max_length=TAGS_MAX),
]
#: Of an object, Draft 2020-12.
JsonSchema = Annotated[dict[str, Any], checked(_check_json_schema)]


class Extras(Shape):
    """What our own interface has and the SDKs have not; they send it as `extra_body`."""

    use_case: Name = ""
    labels: Labels | None = None
    confidence_threshold: Share | None = None
    cache: Literal["use", "refresh", "off"] = "use"


def use_case_of(named: str, tags: Mapping[str, Any]) -> str:
    """The use case of a request: its own field, else the one among its tags."""
    use_case = named or tags.get("use_case") or ""
    if not isinstance(use_case, str) or len(use_case) > NAME_CHARACTERS_MAX:
        message = f"Must be a string of at most {NAME_CHARACTERS_MAX} characters."
        raise BadRequest(message, param="metadata.use_case")
    return use_case


def tier_and_model(model: str) -> tuple[WantedTier, str | None]:
    """What an SDK's `model` means: one of our tiers, else a concrete model."""
    tier = next((tier for tier in TIERS if tier == model), None)
    return ("auto", model) if tier is None else (tier, None)


def refuse(param: str, message: str) -> BadRequest:
    """An error for what cannot be honoured."""
    return BadRequest(message, param=param, code=UNSUPPORTED)
