"""The types that a setting can have: what their JSON looks like, and which Python value it stands for.

A value enters as JSON, is checked once against its key's JSON Schema (Draft 2020-12) and against the
limits below, and is kept as it was written. Python reads it as `Decimal`, `timedelta`, … and never as
something that could be altered in place.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

from aigov.errors import BadRequest
from aigov.money import EURO_MAX, NANO_EURO, ZERO

Type = Literal["number", "integer", "string", "boolean", "duration", "money", "object", "array"]
#: A part of a path in a value: a member's name or an item's index.
Part = str | int

VALUE_BYTES_MAX = 65_536
VALUE_DEPTH_MAX = 16
MESSAGE_CHARACTERS_MAX = 300
INTEGER_MAX = 2**63 - 1
DURATION_MAX = timedelta(days=3660)
#: A JSON number has been a binary float on its way; up to 15 digits it still says what was written.
FLOAT_DIGITS_MAX = 15

_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_DURATION = re.compile(
    r"P(?:(?P<weeks>[0-9]{1,5})W|(?:(?P<days>[0-9]{1,5})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,8})M)?"
    r"(?:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,6})?)S)?)?)"
)

_SCHEMAS: Mapping[Type, Mapping[str, Any]] = {
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "duration": {"type": "string", "format": "duration"},
    "money": {
        "type": ["number", "string"],
        "format": "money",
        "pattern": f"^{_MONEY.pattern}$",
        "minimum": 0,
        "exclusiveMaximum": 1_000_000_000,
    },
    "object": {"type": "object"},
    "array": {"type": "array"},
}


class InvalidValue(BadRequest):
    """A value that its key does not allow; `param` is the path in it, such as `value.support[0]`."""

    code = "invalid_value"


def parse_duration(text: str) -> timedelta:
    """The length of an ISO 8601 duration of weeks, or days, hours, minutes and seconds, such as `PT30M`.

    Years and months have no fixed length and are refused, as is anything beyond `DURATION_MAX`.

    Raises:
        ValueError: `text` is no such duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration such as PT30M")
    seconds = Decimal(match["seconds"] or 0)
    length = timedelta(
        weeks=int(match["weeks"] or 0),
        days=int(match["days"] or 0),
        hours=int(match["hours"] or 0),
        minutes=int(match["minutes"] or 0),
        seconds=int(seconds),
        microseconds=int(seconds % 1 * 1_000_000),
    )
    if length > DURATION_MAX:
        raise ValueError(f"{text!r} is longer than {DURATION_MAX.days} days")
    return length


def parse_money(value: str | int | float) -> Decimal:
    """An amount in euro, exactly as written, with nine places.

    Raises:
        ValueError: it is negative or too large, has more than nine places, or is a JSON number of more
            digits than a number is certain to keep (such an amount is written as a string).
    """
    if isinstance(value, str) and not _MONEY.fullmatch(value):
        raise ValueError(f"{value!r} is not an amount such as 12.50, of nine places at most")
    amount = Decimal(str(value))
    if not 0 <= amount <= EURO_MAX:
        raise ValueError(f"{value} is not between 0 and {EURO_MAX}")
    if isinstance(value, float) and len(amount.as_tuple().digits) > FLOAT_DIGITS_MAX:
        raise ValueError(f"{value} has more digits than a number keeps; write it as a string")
    if amount != amount.quantize(NANO_EURO):
        raise ValueError(f"{value} has more than nine places")
    return amount + ZERO


_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("duration", raises=ValueError)
def _is_duration(value: object) -> bool:
    if isinstance(value, str):
        parse_duration(value)
    return True


@_FORMATS.checks("money", raises=ValueError)
def _is_money(value: object) -> bool:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        parse_money(value)
    return True


def full_schema(
    type_: Type, *, members: Type | None, nullable: bool, schema: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON Schema of a type, of its members' type, and of what the key itself adds in `schema`."""
    whole: dict[str, Any] = {**_SCHEMAS[type_], **schema}
    if members is not None:
        place = members_keyword(type_)
        whole[place] = {**_SCHEMAS[members], **schema.get(place, {})}
    if nullable:
        types = [whole["type"]] if isinstance(whole["type"], str) else whole["type"]
        whole["type"] = [*types, "null"]
    return whole


def members_keyword(type_: Type) -> str:
    """The keyword of JSON Schema that says what an object's or an array's members are."""
    return "items" if type_ == "array" else "additionalProperties"


def compile_schema(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A validator that knows our formats too.

    Raises:
        jsonschema.SchemaError: `schema` is no JSON Schema.
    """
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=_FORMATS)


def check(validator: Draft202012Validator, value: Any) -> None:
    """Make sure that `value` keeps to its schema and to the limits of this module.

    Raises:
        InvalidValue: with the path in the value.
    """
    _check_limits(value, ())
    error = best_match(validator.iter_errors(value))
    if error is not None:
        raise _invalid(tuple(error.absolute_path), str(error.cause or error.message))
    if len(json.dumps(value).encode()) > VALUE_BYTES_MAX:
        raise _invalid((), f"longer than {VALUE_BYTES_MAX} bytes")


def read(type_: Type, value: Any, *, members: Type | None = None) -> Any:
    """The Python value of a checked JSON value; objects and arrays are read-only, at every depth."""
    if value is None:
        return None
    if members is not None and isinstance(value, dict):
        return MappingProxyType({name: read(members, member) for name, member in value.items()})
    if members is not None and isinstance(value, list):
        return tuple(read(members, item) for item in value)
    return _READERS[type_](value)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(member) for name, member in value.items()})
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


_READERS: Mapping[Type, Callable[[Any], Any]] = {
    "number": float,
    "integer": int,
    "string": str,
    "boolean": bool,
    "duration": parse_duration,
    "money": parse_money,
    "object": _frozen,
    "array": _frozen,
}


def _check_limits(value: Any, path: tuple[Part, ...]) -> None:
    """What PostgreSQL's JSON cannot hold, or nobody needs: NaN, NUL, endless numbers and depths."""
    if len(path) > VALUE_DEPTH_MAX:
        raise _invalid((), f"nested deeper than {VALUE_DEPTH_MAX} levels")
    if isinstance(value, dict):
        for name, member in value.items():
            _check_text(name, path)
            _check_limits(member, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_limits(item, (*path, index))
    elif isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float) and not isfinite(value):
        raise _invalid(path, f"{value} is not a number of JSON")
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise _invalid(path, "the number is too large")


def _check_text(text: str, path: tuple[Part, ...]) -> None:
    if not is_storable(text):
        raise _invalid(path, "the text holds characters that cannot be stored")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold `text`: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _invalid(path: tuple[Part, ...], message: str) -> InvalidValue:
    where = path_text(path)
    return InvalidValue(f"{where}: {message}"[:MESSAGE_CHARACTERS_MAX], param=where)


def path_text(path: tuple[Part, ...]) -> str:
    """A path in a value as errors show it: `value.support[0]`."""
    return "value" + "".join(_step(part) for part in path)


def _step(part: Part) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else f"[{json.dumps(part[:64])}]"
