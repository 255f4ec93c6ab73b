"""JSON Schemas: what a provider refuses in one, and an answer that fits it.

`fault_in` says what the provider's structured output refuses; `fill` walks the schema and yields the
pieces of a fitting JSON text: fixed text, a choice between labels, running text, or the model's confidence.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from providers.sandbox.tokens import json_text

DEPTH_MAX = 12
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
    for keyword in ("properties", "$defs"):
        yield from schema.get(keyword, {}).values()
    yield from schema.get("anyOf", ())
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
        yield Piece("fixed", "[")
        if depth < DEPTH_MAX and "items" in schema:
            yield from _fill(schema["items"], root, name=name, text=text, numbers=numbers, depth=depth + 1)
        yield Piece("fixed", "]")
    else:
        yield from _scalar(kind, schema, name=name, text=text, numbers=numbers)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """`schema` behind its references and first alternatives, at most `DEPTH_MAX` of them."""
    for _ in range(DEPTH_MAX):
        if "$ref" in schema:
            schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
        elif "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            break
    return schema


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
        yield Piece("prose", json_text(text)[1:-1])
        yield Piece("fixed", '"')


def _number(kind: str, schema: Schema, found: str) -> str:
    """The whole part of the number `found` in the question, within the schema's bounds."""
    value = int(re.split("[.,]", found)[0][:9])
    value = max(value, int(schema.get("minimum", value)))
    return str(min(value, int(schema.get("maximum", value))))
