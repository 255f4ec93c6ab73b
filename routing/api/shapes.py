"""What a request's JSON may look like, declared once: for reading it, and for the OpenAPI schema.

A shape is strict: no number is taken for a string, and a field that it does not know is refused by name,
unless it is null, which says nothing. What is wrong is named by its path: `messages[0].content[1].image_url`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from aigov.errors import BadRequest

#: Wrong fields that one answer lists.
DETAILS_MAX = 20
UNSUPPORTED = "unsupported_parameter"

_MISSING = "missing_required_parameter"
_CODES = {
    "missing": _MISSING,
    "union_tag_not_found": _MISSING,
    "union_tag_invalid": UNSUPPORTED,
    "extra_forbidden": UNSUPPORTED,
    UNSUPPORTED: UNSUPPORTED,
}
_MESSAGES = {
    "missing": "This field is required.",
    "union_tag_not_found": "This field is required.",
    "extra_forbidden": "This parameter is not supported.",
    "dict_type": "Must be an object.",
    "model_type": "Must be an object.",
    "model_attributes_type": "Must be an object.",
}
_OF_A_KEY = "[key]"

AnyShape = TypeVar("AnyShape", bound="Shape")


class Shape(BaseModel):
    """A JSON object; fields are required unless they have a default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {name: value for name, value in data.items() if value is not None}
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = handler(schema)
        _say_in_openapi_3_0(handler.resolve_ref_schema(described))
        return described


def read(shape: type[AnyShape], data: Any) -> AnyShape:
    """`data` as a `shape`.

    Raises:
        BadRequest: it is none. `param` is the path of what is wrong first; the code of what we cannot honour
            is `unsupported_parameter`.
    """
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise _refusal(error, data) from None


def _text_or_other(value: Any) -> str:
    return "text" if isinstance(value, str) else "other"


#: Of a union of a string (tagged `text`) and something else (tagged `other`).
TEXT_OR_OTHER = Discriminator(_text_or_other)


@dataclass(frozen=True)
class Only:
    """In an `Annotated`: the field may only have one of these values, since we cannot honour any other."""

    supported: tuple[Any, ...]

    def __init__(self, *supported: Any) -> None:
        object.__setattr__(self, "supported", supported)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": list(self.supported)}

    def _check(self, value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in self.supported):
            words = " or ".join(json.dumps(one) for one in self.supported)
            raise unsupported(f"Only {words} is supported.")
        return value


def checked(check: Callable[[Any], None]) -> AfterValidator:
    """A further check of a field, which raises `wrong` or `unsupported`."""

    def checked_value(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(checked_value)


def wrong(message: str) -> PydanticCustomError:
    """For checks: the value is none."""
    return _custom("invalid_value", message)


def unsupported(message: str) -> PydanticCustomError:
    """For checks: we cannot honour the value."""
    return _custom(UNSUPPORTED, message)


def _say_in_openapi_3_0(node: Any) -> None:
    """Changes the JSON Schema `node` to words that OpenAPI 3.0 has."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _say_in_openapi_3_0(child)
    if not isinstance(node, dict):
        return
    node.pop("propertyNames", None)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    alternatives = node.get("anyOf", [])
    if {"type": "null"} in alternatives:
        alternatives.remove({"type": "null"})
        node["nullable"] = True
        if len(alternatives) == 1:
            node["allOf"] = node.pop("anyOf")


def _custom(kind: Any, message: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{message}", {"message": message})


def _refusal(error: ValidationError, data: Any) -> BadRequest:
    details = error.errors(include_url=False, include_input=False)[:DETAILS_MAX]
    listed = [{"param": _path(detail, data), "message": _message(detail)} for detail in details]
    return BadRequest(
        str(listed[0]["message"]),
        param=listed[0]["param"],
        code=_code(details[0]),
        metadata={"errors": listed} if len(listed) > 1 else None,
    )


def _code(detail: ErrorDetails) -> str:
    if detail["type"] == "literal_error" and detail["loc"][-1] == "type":
        return UNSUPPORTED
    return _CODES.get(detail["type"], "invalid_value")


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "union_tag_invalid":
        context: Mapping[str, Any] = detail["ctx"]
        return f"{context['tag'][:100]!r} is not supported here, only {context['expected_tags']}."
    return _MESSAGES.get(detail["type"]) or detail["msg"]


def _path(detail: ErrorDetails, data: Any) -> str | None:
    """The place of `detail` in `data`, without pydantic's own words for the alternatives of a union."""
    path = "".join(_steps(detail, data))
    return path.removeprefix(".") or None


def _steps(detail: ErrorDetails, data: Any) -> Iterator[str]:
    *places, last = detail["loc"] or (None,)
    for place, following in zip(places, detail["loc"][1:], strict=True):
        if isinstance(place, int) and isinstance(data, list):
            yield f"[{place}]"
            data = data[place]
        elif isinstance(data, dict) and place in data and not _is_tag(place, following, data):
            yield f".{place}"
            data = data[place]
    if isinstance(last, int):
        yield f"[{last}]"
    elif isinstance(data, dict) and last is not None and last != _OF_A_KEY:
        yield f".{last}"
    if discriminator := detail.get("ctx", {}).get("discriminator"):
        yield f".{discriminator.strip(chr(39))}"


def _is_tag(place: Any, following: Any, data: Mapping[str, Any]) -> bool:
    """Whether `place` is the type of `data` rather than the field of that name: then a field follows."""
    return bool(place == data.get("type")) and following in data
