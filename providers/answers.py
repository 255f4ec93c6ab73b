"""How an answer is asked for, so that we can tell how sure the model was, and read again.

Three ways, the best that the model has (which is learned from its refusals):

1. with log-probabilities: labels by an instruction and as plain text (one to three tokens), a schema
   natively;
2. else with what the model says of itself, in the same call: `{"answer": …, "confidence": 0 to 1}`
   as structured output;
3. else, where the model has no structured output either, by an instruction alone.

The second is another form of answer, so it is never asked for where the caller sees the answer as it comes
(a stream), where it may be a tool call, or where the caller has chosen its form.

What is added to a request here is what `providers.pricing.input_tokens_bound` has to count.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from providers.types import Message, Part, ProviderRequest, Text

#: OpenAI wants a name for each schema.
SCHEMA_NAME = "answer"
INVALID_JSON = "INVALID_JSON"
_CUT_ANSWER = re.compile(r'\s*\{\s*"answer"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an adapter adds to a request.

    Args:
        instruction: for the system prompt.
        schema: of the structured output.
        wrapped: whether `schema` is our `{"answer", "confidence"}` around what was asked for.
        logprobs: whether log-probabilities are asked for.
    """

    instruction: str | None
    schema: Mapping[str, Any] | None
    wrapped: bool
    logprobs: bool


@dataclass(frozen=True, slots=True)
class Answer:
    content: str
    parsed: Any | None
    verbalized: float | None


def ask(request: ProviderRequest, *, logprobs: bool, structured: bool, stream: bool = False) -> Asked:
    """What to add to `request` for a model that has log-probabilities, or structured output, or neither.

    Log-probabilities that the caller wants are asked for in any case: the provider then refuses by name.
    """
    prompt = request.prompt
    wanted = prompt.top_logprobs is not None
    # A stop sequence would be looked for in the wrapper's text.
    as_it_is = stream or wanted or prompt.json_object or bool(prompt.tools or prompt.stop)
    if request.want_confidence and structured and not logprobs and not as_it_is:
        return Asked(instruction=None, schema=wrapper_schema(request), wrapped=True, logprobs=False)
    return Asked(
        instruction=instruction(request, structured=structured),
        schema=prompt.response_schema if structured else None,
        wrapped=False,
        logprobs=wanted or (logprobs and request.want_confidence),
    )


def instruction(request: ProviderRequest, *, structured: bool) -> str | None:
    """The sentence that asks for a label, or for JSON from a model without structured output."""
    if request.prompt.labels:
        labels = json.dumps(request.prompt.labels, ensure_ascii=False)[1:-1]
        return f"Answer with exactly one of these labels and nothing else, without quotes: {labels}"
    if request.prompt.response_schema is not None and not structured:
        schema = json.dumps(request.prompt.response_schema, ensure_ascii=False)
        return f"Answer with one JSON object and nothing else. It must fit this JSON Schema: {schema}"
    return None


def with_instruction(messages: tuple[Message, ...], text: str | None) -> tuple[Message, ...]:
    """`messages` with `text` at the end of the (first) system prompt."""
    if text is None:
        return messages
    for at, message in enumerate(messages):
        if message.role == "system":
            return (*messages[:at], Message("system", _appended(message.content, text)), *messages[at + 1 :])
    return (Message("system", text), *messages)


def _appended(content: str | tuple[Part, ...], text: str) -> str | tuple[Part, ...]:
    return f"{content}\n\n{text}" if isinstance(content, str) else (*content, Text(f"\n\n{text}"))


def arguments_object(arguments: str) -> dict[str, Any]:
    """A tool call's JSON text as the object that Anthropic wants.

    No text is no arguments. What is no JSON object, since a model may write anything, becomes
    `{"INVALID_JSON": text}`, as Anthropic's documentation advises.
    """
    if not arguments.strip():
        return {}
    value = _json_object(arguments)
    return {INVALID_JSON: arguments} if value is None else value


def wrapper_schema(request: ProviderRequest) -> dict[str, Any]:
    """The schema of `{"answer": what was asked for, "confidence": number}`.

    It keeps to what both providers take in strict schemas: all properties required, no further ones, no
    bounds on numbers. Definitions move to the root, where references look for them.
    """
    answer, definitions = _answer_schema(request)
    return {
        "type": "object",
        "properties": {
            "answer": answer,
            "confidence": {
                "type": "number",
                "description": "How probable it is that the answer is correct, from 0 to 1.",
            },
        },
        "required": ["answer", "confidence"],
        "additionalProperties": False,
        **definitions,
    }


def _answer_schema(request: ProviderRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    if request.prompt.labels:
        return {"type": "string", "enum": list(request.prompt.labels)}, {}
    if request.prompt.response_schema is None:
        return {"type": "string"}, {}
    schema = _rebased(dict(request.prompt.response_schema))
    definitions = {key: schema.pop(key) for key in ("$defs", "definitions") if key in schema}
    return schema, definitions


def _rebased(node: Any) -> Any:
    """`node` with references to the old root (`#`, `#/properties/…`) led to where it stands now."""
    if isinstance(node, Mapping):
        return {key: _reference(value) if key == "$ref" else _rebased(value) for key, value in node.items()}
    return [_rebased(item) for item in node] if isinstance(node, list) else node


def _reference(target: Any) -> Any:
    if (
        not isinstance(target, str)
        or not target.startswith("#")
        or target.startswith(("#/$defs", "#/definitions"))
    ):
        return target
    return "#/properties/answer" + target[1:]


def read_answer(text: str, *, request: ProviderRequest, asked: Asked) -> Answer:
    """What `text` answers to what was `asked`; a text that keeps to no form is the content as it is."""
    whole = _json_object(text) if asked.wrapped or request.prompt.response_schema is not None else None
    if not asked.wrapped or whole is None or "answer" not in whole:
        parsed = whole if request.prompt.response_schema is not None else None
        return Answer(_cut_answer(text) if asked.wrapped and whole is None else text, parsed, None)
    answer = whole["answer"]
    return Answer(
        content=answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False),
        parsed=answer if request.prompt.response_schema is not None and isinstance(answer, dict) else None,
        verbalized=_probability(whole.get("confidence")),
    )


def _probability(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _json_object(text: str) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        return value if isinstance(value, dict) else None
    return None


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} cannot be written as JSON")


def _cut_answer(text: str) -> str:
    """The words of an `{"answer": "…` that was cut off by the limit of output; else `text` as it is."""
    cut = _CUT_ANSWER.match(text)
    if cut is None:
        return text
    words = re.sub(r"\\u[0-9a-fA-F]{0,3}$", "", cut[1])
    with suppress(ValueError):
        return str(json.loads(f'"{words}"', strict=False))
    return text
