"""Tools: which of them a model calls, and with what arguments. Nothing is left to chance.

A marker in the last message decides (`[[tool:NAME {"json": "args"}]]`, several for parallel calls); else
every tool that the last message names is called; else, where the caller demands a call, the first tool. The
arguments fit the tool's schema.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from providers.sandbox import prose, schemas, tasks, tokens
from providers.sandbox.switches import BadSwitch

Mode = Literal["auto", "none", "required", "named"]

MARKER = re.compile(r"\[\[tool:\s*([\w.-]+)\s*")
MARKER_END = re.compile(r"\s*((?:@[\w.\-]+)*)\]\]")
ANY_MARKER = re.compile(r"\[\[.*?\]\]", re.DOTALL)
#: What a call costs besides its arguments: the words around it.
OVERHEAD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema` is the JSON Schema of the arguments, as JSON text."""

    name: str
    schema: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether tools may, must or must not be called; with `mode` `named`, `name` is the one that must be."""

    mode: Mode = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for; `arguments` is JSON text, cut where the answer is."""

    name: str
    arguments: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """The arguments as a stream sends them."""
        return tokens.split(self.arguments)

    @property
    def head_tokens(self) -> int:
        return OVERHEAD_TOKENS + len(tokens.split(self.name))

    @property
    def output_tokens(self) -> int:
        return self.head_tokens + len(self.pieces)


def calls_for(
    tools: Sequence[Tool], choice: Choice, asked: str, targets: frozenset[str]
) -> tuple[ToolCall, ...]:
    """The calls that a model answers with; none where it answers in words.

    Args:
        asked: the text of the last message, where it is the user's turn; else empty.
        targets: whom a marker's restriction (`@small`) may name.

    Raises:
        BadSwitch: a marker names a tool that was not offered, or its arguments are no JSON object.
    """
    if not tools or choice.mode == "none":
        return ()
    offered = {tool.name: tool for tool in tools}
    calls = list(_marked(asked, offered, targets))
    if choice.mode == "named" and choice.name is not None:
        calls = [call for call in calls if call.name == choice.name] or [filled(offered[choice.name], asked)]
    elif not calls:
        named = _named(tools, asked)
        chosen = named or ([tools[0]] if choice.mode == "required" else [])
        calls = [filled(tool, asked) for tool in chosen]
    return tuple(calls if choice.parallel else calls[:1])


def _marked(asked: str, offered: dict[str, Tool], targets: frozenset[str]) -> Iterator[ToolCall]:
    for found in MARKER.finditer(asked):
        name = found[1]
        arguments, end = _arguments_at(asked, found.end())
        closing = MARKER_END.match(asked, end)
        if closing is None:
            raise BadSwitch(f"[[tool:{name}]] cannot be read: a JSON object and ]] are expected.")
        if not targets.issuperset(closing[1].split("@")[1:]):
            continue
        if name not in offered:
            raise BadSwitch(f"[[tool:{name}]] names no tool that is offered.")
        yield filled(offered[name], asked) if arguments is None else ToolCall(name, arguments)


def _arguments_at(text: str, start: int) -> tuple[str | None, int]:
    """The JSON object at `start` of `text`, compact, and where it ends; None where there is none."""
    if text[start : start + 1] != "{":
        return None, start
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError as error:
        raise BadSwitch(f"The arguments of a [[tool:…]] cannot be read: {error}") from error
    return tokens.json_text(value), end


def _named(tools: Sequence[Tool], asked: str) -> list[Tool]:
    """The tools that `asked` names as whole words outside markers, in the order of their first mention."""
    asked = ANY_MARKER.sub(" ", asked)
    places = [
        (found.start(), place)
        for place, tool in enumerate(tools)
        if (found := re.search(rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])", asked, re.IGNORECASE))
    ]
    return [tools[place] for _, place in sorted(places)]


def filled(tool: Tool, asked: str) -> ToolCall:
    """A call with arguments that fit the tool's schema, with what `asked` offers of numbers and words."""
    return ToolCall(tool.name, arguments_for(tool.schema, asked))


@lru_cache(maxsize=1024)
def arguments_for(schema: str, asked: str) -> str:
    text = prose.topic_of(asked, prose.language_of(asked))
    pieces = schemas.fill(tokens.decode(schema), text=text, question=asked)
    return "".join(_written(piece, asked) for piece in pieces)


def _written(piece: schemas.Piece, asked: str) -> str:
    if piece.kind == "choice":
        return tokens.json_text(tasks.truth(asked, piece.labels))[1:-1]
    return "0.9" if piece.kind == "confidence" else piece.text
