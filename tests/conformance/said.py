"""What an answer says, whichever format it came in, and what can be asked of any model's."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Both providers' words for the end of an answer.
ENDS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "refused",
    "refusal": "refused",
}


@dataclass(frozen=True)
class Said:
    """An answer without its format.

    Args:
        calls: name and arguments of each tool call.
        end: `stop`, `length`, `tool_calls` or `refused`. OpenAI ends a call that was demanded by name with
            `stop`; here it is one of `tool_calls`.
        input_tokens: all of them, those of the provider's prompt cache too; None: a stream has not said so.
    """

    text: str
    calls: tuple[tuple[str, str], ...]
    end: str
    input_tokens: int | None
    output_tokens: int | None


def said(result: Mapping[str, Any]) -> list[Said]:
    """What each answer of a result of `asking` says."""
    if "answers" in result:
        return [_openai(each) if "choices" in each else _anthropic(each) for each in result["answers"]]
    chunks = result["chunks"]
    return [_anthropic_stream(chunks["events"]) if "events" in chunks else _openai_stream(chunks)]


def _openai(answer: Mapping[str, Any]) -> Said:
    choice = answer["choices"][0]
    message = choice["message"]
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return _as_openai(
        text=message.get("content") or "",
        refusal=message.get("refusal") or "",
        calls=[(one["name"], one["arguments"]) for one in functions],
        finish_reason=choice["finish_reason"],
        usage=answer["usage"],
    )


def _openai_stream(chunks: Mapping[str, Any]) -> Said:
    """Of the pieces that `asking` has found."""
    calls: dict[int, list[str]] = {}
    for kind, *piece in chunks["pieces"]:
        if kind == "tool":
            calls[piece[0]] = [piece[2], ""]
        elif kind == "arguments":
            calls[piece[0]][1] += piece[1]
    return _as_openai(
        text="".join(piece[1] for piece in chunks["pieces"] if piece[0] == "content"),
        refusal="".join(piece[1] for piece in chunks["pieces"] if piece[0] == "refusal"),
        calls=[(name, arguments) for name, arguments in calls.values()],
        finish_reason=chunks["finish_reasons"][-1],
        usage=chunks.get("usage") or {},
    )


def _as_openai(
    *, text: str, refusal: str, calls: list[tuple[str, str]], finish_reason: str, usage: Mapping[str, Any]
) -> Said:
    return Said(
        text=refusal or text,
        calls=tuple((name, _canonical(json.loads(arguments or "{}"))) for name, arguments in calls),
        end="refused" if refusal else "tool_calls" if calls else ENDS[finish_reason],
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
    )


def _anthropic(answer: Mapping[str, Any]) -> Said:
    blocks, usage = answer["content"], answer["usage"]
    cached = [usage.get(f"cache_{what}_input_tokens") or 0 for what in ("creation", "read")]
    return Said(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        calls=tuple(
            (block["name"], _canonical(block["input"])) for block in blocks if block["type"] == "tool_use"
        ),
        end=ENDS[answer["stop_reason"]],
        input_tokens=usage["input_tokens"] + sum(cached),
        output_tokens=usage["output_tokens"],
    )


def _anthropic_stream(events: Sequence[Mapping[str, Any]]) -> Said:
    """Of the events, put together to the message that they tell."""
    blocks: dict[int, dict[str, Any]] = {}
    message: dict[str, Any] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = {"usage": dict(event["message"]["usage"])}
            case "content_block_start":
                blocks[event["index"]] = {**event["content_block"], "json": ""}
            case "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                block["text"] = block.get("text", "") + delta.get("text", "")
                block["json"] += delta.get("partial_json", "")
            case "message_delta":
                message["stop_reason"] = event["delta"]["stop_reason"]
                message["usage"].update(event["usage"])
    for block in blocks.values():
        block["input"] = json.loads(block["json"] or "{}")
    return _anthropic({**message, "content": list(blocks.values())})


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


# --- What must hold of any model's answer: each returns what is wrong, or None

Check = Callable[[Said], str | None]


def speaks(answer: Said) -> str | None:
    if answer.end != "stop" or answer.calls:
        return f"ended with {answer.end}, {len(answer.calls)} tool calls"
    return None if answer.text.strip() else "says nothing"


def says(*words: str) -> Check:
    def check(answer: Said) -> str | None:
        missing = [word for word in words if word not in answer.text]
        return f"does not say {missing}" if missing else None

    return check


def lacks(word: str) -> Check:
    def check(answer: Said) -> str | None:
        return f"goes on to say {word!r}" if word in answer.text else None

    return check


def ends(end: str) -> Check:
    def check(answer: Said) -> str | None:
        return None if answer.end == end else f"ended with {answer.end}"

    return check


def calls(*names: str) -> Check:
    """These tools and no others are called, in any order, with arguments that are an object."""

    def check(answer: Said) -> str | None:
        called = sorted(name for name, _ in answer.calls)
        if called != sorted(names) or answer.end != "tool_calls":
            return f"called {called}, and ended with {answer.end}"
        return None

    return check


def one_call(answer: Said) -> str | None:
    return None if len(answer.calls) == 1 else f"made {len(answer.calls)} calls"


def one_of(*labels: str) -> Check:
    def check(answer: Said) -> str | None:
        return None if answer.text in labels else f"answers {answer.text!r}"

    return check


def is_object(*members: str) -> Check:
    """The text is a JSON object with these members, or any where none are named."""

    def check(answer: Said) -> str | None:
        try:
            value = json.loads(answer.text)
        except ValueError:
            return f"is no JSON: {answer.text!r}"
        if not isinstance(value, dict) or (members and set(value) != set(members)):
            return f"is another object: {answer.text!r}"
        return None

    return check


def first_wrong(check: Check, answers: Sequence[Said]) -> str | None:
    """What is wrong with the last of `answers`, or with the counts of any."""
    if any(0 in (answer.input_tokens, answer.output_tokens) for answer in answers):
        return "has no usage"
    return check(answers[-1])
