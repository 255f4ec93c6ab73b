"""JSON from outside, strictly: what could mean two things, or can't be stored, is refused with a reason.

Refused are duplicate names, NaN and numbers out of range, NUL characters and halves of surrogate pairs
(PostgreSQL stores neither), and nesting deeper than `DEPTH_MAX`. Most bodies can have none of the last
three, which is seen from their bytes, so that only the others are walked through.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.parsers import BaseParser

from aigov.errors import BadRequest

#: Levels of objects and arrays; JSON Schemas of structured answers need a dozen or two.
DEPTH_MAX = 64
#: Characters of a whole number; a 64-bit one has 20 at most.
INTEGER_CHARACTERS_MAX = 20
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class BodyTooLarge(BadRequest):
    status = 413
    code = "request_too_large"

    def __init__(self) -> None:
        megabytes = body_bytes_max() // 2**20
        super().__init__(f"The request's body is larger than {megabytes} MiB.")


class InvalidJson(BadRequest):
    code = "invalid_json"


def body_bytes_max() -> int:
    """The largest body that is read, in bytes."""
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0


def parse_json(body: bytes) -> Any:
    """The value that `body` holds.

    Raises:
        BodyTooLarge: over `body_bytes_max()`.
        InvalidJson: anything else that is wrong; `param` names the field where it is a field's fault.
    """
    if len(body) > body_bytes_max():
        raise BodyTooLarge
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8: see byte {error.start}.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(f"The body is not JSON: {error.msg} ({where}).") from None
    except RecursionError:
        raise _too_deep() from None
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        _check(value)
    return value


class JsonParser(BaseParser):
    """For DRF; the body stays readable as `request.body`."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request = (parser_context or {}).get("request")
        return parse_json(stream.read() if request is None else request.body)


def _check(value: Any) -> None:
    """Refuse what lies too deep or can't be stored, without recursion."""
    waiting = [(value, "", 0)]
    while waiting:
        item, path, depth = waiting.pop()
        if isinstance(item, str):
            if UNSTORABLE.search(item):
                raise InvalidJson(
                    "There is a character that can't be stored (NUL, or half of a pair).", param=path or None
                )
        elif isinstance(item, dict | list):
            if depth >= DEPTH_MAX:
                raise _too_deep()
            waiting.extend((child, child_path, depth + 1) for child_path, child in _children(item, path))


def _children(item: dict[str, Any] | list[Any], path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(item, list):
        yield from ((f"{path}[{index}]", child) for index, child in enumerate(item))
        return
    for name, child in item.items():
        if UNSTORABLE.search(name):
            raise InvalidJson("A field's name has a character that can't be stored.", param=path or None)
        yield f"{path}.{name}" if path else name, child


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice, _times = Counter(name for name, _value in pairs).most_common(1)[0]
        raise InvalidJson(f"The field “{_printable(twice)}” is there twice.", param=_printable(twice))
    return members


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidJson(f"The number {text[:40]} is out of range.")
    return number


def _integer(text: str) -> int:
    if len(text) > INTEGER_CHARACTERS_MAX:
        raise InvalidJson(f"The number {text[:40]}… is out of range.")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise InvalidJson(f"{text} is no JSON number.")


def _too_deep() -> InvalidJson:
    return InvalidJson(f"The body is nested deeper than {DEPTH_MAX} levels.")


def _printable(name: str) -> str:
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", name)[:100]


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant
)
