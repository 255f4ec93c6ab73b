"""Fields and limits that the faces of the gateway share."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from rest_framework import serializers

from aigov.errors import BadRequest
from routing.confidence.signals import plain_label

NAME_CHARACTERS_MAX = 200
MESSAGES_MAX = 1_000
LABELS_MAX = 100
STOPS_MAX = 4
OUTPUT_TOKENS_MAX = 128_000
TAGS_MAX = 32
TAG_NAME_CHARACTERS_MAX = 64
TAG_CHARACTERS_MAX = 512


class Text(serializers.CharField):
    """A string that stays as it is: no number is taken for one, and no blank is trimmed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Tags(serializers.Field[dict[str, Any], Any, Any, Any]):
    """An object of tags: strings, numbers or booleans, kept with the costs."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object of tags.")
        if len(data) > TAGS_MAX:
            raise serializers.ValidationError(f"Holds at most {TAGS_MAX} tags.")
        for name, value in data.items():
            _check_tag(name, value)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class JsonSchema(serializers.Field[dict[str, Any], Any, Any, Any]):
    """A JSON Schema (Draft 2020-12) of an object."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be a JSON Schema, which is an object.")
        try:
            Draft202012Validator.check_schema(data)
        except SchemaError as error:
            raise serializers.ValidationError(f"Is not a JSON Schema: {error.message[:300]}") from error
        if any(not str(target).startswith("#") for target in _references(data)):
            raise serializers.ValidationError("May refer to its own definitions only (“#/…”).")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Strict(serializers.Serializer[Any]):
    """A serializer that refuses fields which it does not know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            for name, value in data.items():
                if name not in self.fields and value is not None:
                    raise serializers.ValidationError(
                        {name: "This parameter is not supported."}, code="unsupported_parameter"
                    )
        return super().to_internal_value(data)


def _references(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (node[name] for name in ("$ref", "$dynamicRef") if name in node)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _references(child)


def refuse_idempotency_key(headers: Mapping[str, str]) -> None:
    """A client that relies on `Idempotency-Key` must learn that it is not honoured, or it pays twice."""
    if "idempotency-key" in headers:
        raise BadRequest(
            "Idempotency-Key is not supported yet; without it each request is a call of its own.",
            param="Idempotency-Key",
            code="unsupported_parameter",
        )


def use_case_of(data: dict[str, Any]) -> str:
    """The use case of valid `data`: its own field, else the one among its tags."""
    named = data["use_case"] or (data["metadata"] or {}).get("use_case") or ""
    if not isinstance(named, str) or len(named) > NAME_CHARACTERS_MAX:
        message = f"Must be a string of at most {NAME_CHARACTERS_MAX} characters."
        raise serializers.ValidationError({"metadata": {"use_case": message}})
    return named


def check_labels(labels: list[str] | None) -> list[str] | None:
    """Makes sure that an answer can be told to be one of the labels."""
    if any(not label.strip() for label in labels or ()):
        raise serializers.ValidationError("A label may not be blank.")
    if labels and len({plain_label(label) for label in labels}) < len(labels):
        raise serializers.ValidationError("Labels must differ in more than case, quotes and punctuation.")
    return labels


def _check_tag(name: str, value: Any) -> None:
    if len(name) > TAG_NAME_CHARACTERS_MAX:
        raise serializers.ValidationError(f"A tag's name has at most {TAG_NAME_CHARACTERS_MAX} characters.")
    if not isinstance(value, str | int | float | bool | None):
        raise serializers.ValidationError({name: "Must be a string, a number or a boolean."})
    if isinstance(value, str) and len(value) > TAG_CHARACTERS_MAX:
        raise serializers.ValidationError({name: f"Has at most {TAG_CHARACTERS_MAX} characters."})
