"""JSON Schemas: what a provider refuses in one, and an answer that fits it.

`fault_in` says what the provider's structured output refuses; `fill` walks the schema and yields the
pieces of a fitting JSON text: fixed text, a choice between labels, running text, or the model's confidence.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from providers.sandbox.tokens import json_text

DEPTH_MAX = 12
ITEMS_MAX = 100
#: A text of each form that a schema may ask for.
FORMATS = {
    "date": "2026-11-02",
    "time": "09:30:00Z",
    "date-time": "2026-11-02T09:30:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "6f1a4c0e-5d0b-4c39-9c56-0d5c3a1f2b7e",
}
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: Anthropic answers 400 to each of these keywords.
ANTHROPIC_UNSUPPORTED = frozenset(
    [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
    ]
)

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer's text: `fixed`, `prose` and `confidence` carry text, a `choice` its labels."""

    kind: Literal["fixed", "choice", "prose", "confidence"]
    text: str = ""
    labels: tuple[str, ...] = ()


def fault_in(schema: Any, provider: str, *, strict: bool = True, depth: int = 0) -> str | None:
    """Why `provider` would refuse `schema`, as a sentence; None where it takes it."""
    if not isinstance(schema, dict):
        return "A schema must be an object."
    if depth > DEPTH_MAX:
        return f"Schemas may be nested at most {DEPTH_MAX} deep."
    if strict and schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false for objects."
        if provider == "openai" and set(schema.get("required", ())) != set(schema.get("properties", {})):
            return (
                "'required' is required to be supplied and to be an array including every key in properties."
            )
    if provider == "anthropic" and (refused := ANTHROPIC_UNSUPPORTED.intersection(schema)):
        return f"For '{schema.get('type')}' type, property '{min(refused)}' is not supported."
    faults = (fault_in(child, provider, strict=strict, depth=depth + 1) for child in _children(schema))
    return next((fault for fault in faults if fault), None)


def _children(schema: Schema) -> Iterator[Any]:
    for keyword in ("properties", "$defs", "definitions"):
        yield from schema.get(keyword, {}).values()
    for keyword in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(keyword, ())
    if "items" in schema:
        yield schema["items"]


def schema_in(instruction: str) -> Schema | None:
    """The schema that an instruction in words asks for: `… this JSON Schema: {…}`; None where it has none."""
    _, found, rest = instruction.rpartition("JSON Schema: ")
    if not found:
        return None
    try:
        schema, _ = json.JSONDecoder().raw_decode(rest)
    except ValueError:
        return None
    return schema if isinstance(schema, dict) else None


def labels_of(schema: Schema) -> tuple[str, ...]:
    """The labels of the first list of allowed texts in `schema`; none where it has none."""
    for piece in fill(schema, text="", question=""):
        if piece.kind == "choice":
            return piece.labels
    return ()


def fill(schema: Schema, *, text: str, question: str) -> Iterator[Piece]:
    """The pieces of a JSON text that fits `schema`.

    `text` is what a text property says; numbers are taken from `question` in their order, and a number
    whose name says confidence or probability is left to the model.
    """
    numbers = iter(NUMBER.findall(question))
    yield from _merged(_fill(schema, schema, name="", text=text, numbers=numbers, depth=0))


def _merged(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Neighbouring fixed pieces as one."""
    fixed = ""
    for piece in pieces:
        if piece.kind == "fixed":
            fixed += piece.text
            continue
        if fixed:
            yield Piece("fixed", fixed)
            fixed = ""
        yield piece
    if fixed:
        yield Piece("fixed", fixed)


def _fill(
    schema: Schema, root: Schema, *, name: str, text: str, numbers: Iterator[str], depth: int
) -> Iterator[Piece]:
    schema = _resolved(schema, root)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if "const" in schema:
        yield Piece("fixed", json_text(schema["const"]))
    elif "enum" in schema:
        yield from _one_of(schema["enum"])
    elif kind == "object" or "properties" in schema:
        yield from _object(schema, root, text=text, numbers=numbers, depth=depth)
    elif kind == "array":
        yield from _array(schema, root, name=name, text=text, numbers=numbers, depth=depth)
    else:
        yield from _scalar(kind, schema, name=name, text=text, numbers=numbers)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """`schema` behind its references and first alternatives, at most `DEPTH_MAX` of them."""
    for _ in range(DEPTH_MAX):
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            schema = (
                root
                if schema["$ref"] == "#"
                else {**root.get("definitions", {}), **root.get("$defs", {})}.get(name, {})
            )
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            schema = alternatives[0]
        elif parts := schema.get("allOf"):
            schema = {
                **{key: value for key, value in schema.items() if key != "allOf"},
                **_all_of(parts, root),
            }
        else:
            break
    return schema


def _all_of(parts: Sequence[Schema], root: Schema) -> dict[str, Any]:
    """Several schemas that all hold, as one."""
    whole: dict[str, Any] = {}
    for part in parts:
        part = _resolved(part, root) if "$ref" in part else part
        properties = {**whole.get("properties", {}), **part.get("properties", {})}
        whole = {**whole, **part, **({"properties": properties} if properties else {})}
    return whole


def _one_of(values: list[Any]) -> Iterator[Piece]:
    if all(isinstance(value, str) for value in values):
        yield Piece("fixed", '"')
        yield Piece("choice", labels=tuple(values))
        yield Piece("fixed", '"')
    else:
        yield Piece("fixed", json_text(values[0]))


def _object(
    schema: Schema, root: Schema, *, text: str, numbers: Iterator[str], depth: int
) -> Iterator[Piece]:
    before = "{"
    for name, child in schema.get("properties", {}).items():
        if depth >= DEPTH_MAX:
            break
        yield Piece("fixed", f"{before}{json_text(name)}:")
        yield from _fill(child, root, name=name, text=text, numbers=numbers, depth=depth + 1)
        before = ","
    yield Piece("fixed", "{}" if before == "{" else "}")


def _array(
    schema: Schema, root: Schema, *, name: str, text: str, numbers: Iterator[str], depth: int
) -> Iterator[Piece]:
    """As few entries as are allowed, and one where that is none."""
    count = min(max(1, int(schema.get("minItems", 1))), int(schema.get("maxItems", ITEMS_MAX)), ITEMS_MAX)
    if depth >= DEPTH_MAX or "items" not in schema:
        count = 0
    yield Piece("fixed", "[")
    for place in range(count):
        if place:
            yield Piece("fixed", ",")
        yield from _fill(schema["items"], root, name=name, text=text, numbers=numbers, depth=depth + 1)
    yield Piece("fixed", "]")


def _scalar(kind: Any, schema: Schema, *, name: str, text: str, numbers: Iterator[str]) -> Iterator[Piece]:
    lowered = name.casefold()
    if kind == "number" and ("confidence" in lowered or "probability" in lowered):
        yield Piece("confidence")
    elif kind in ("number", "integer"):
        yield Piece("fixed", _number(kind, schema, next(numbers, "1")))
    elif kind == "boolean":
        yield Piece("fixed", "true")
    elif kind == "null":
        yield Piece("fixed", "null")
    else:
        yield Piece("fixed", '"')
        yield Piece("prose", json_text(_string(schema, text))[1:-1])
        yield Piece("fixed", '"')


def _string(schema: Schema, text: str) -> str:
    """`text` in the schema's form and length; of a pattern only what the schema gives as an example fits."""
    if "pattern" in schema:
        given = [schema["default"]] if "default" in schema else schema.get("examples", [])
        text = str(given[0]) if given else text
    text = FORMATS.get(schema.get("format", ""), text)
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", len(text)))
    if len(text) < least:
        text = f"{text} ".ljust(1) * (least // (len(text) + 1) + 1)
        text = text[:least]
    return text[: max(most, least)]


def _number(kind: str, schema: Schema, found: str) -> str:
    """The whole part of the number `found` in the question, within the schema's bounds."""
    value = int(re.split("[.,]", found)[0][:9])
    low = [schema[name] + more for name, more in (("minimum", 0), ("exclusiveMinimum", 1)) if name in schema]
    high = [schema[name] - less for name, less in (("maximum", 0), ("exclusiveMaximum", 1)) if name in schema]
    value = max([value, *(math.ceil(bound) for bound in low)])
    value = min([value, *(math.floor(bound) for bound in high)])
    step = schema.get("multipleOf")
    if isinstance(step, int) and step > 0:
        value = value // step * step if high else -(-value // step) * step
    if low and value < min(low):  # no whole number lies between the bounds
        return json_text(float(max(low)) if kind == "number" else value)
    return str(value)
