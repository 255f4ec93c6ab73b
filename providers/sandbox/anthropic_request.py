"""What a message asks for, read and refused as Anthropic does."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from providers.sandbox import catalogue
from providers.sandbox.anthropic_content import Blocks, blocks_of, lifetime_of
from providers.sandbox.caching import Segment
from providers.sandbox.catalogue import Model
from providers.sandbox.schemas import fault_in
from providers.sandbox.tokens import json_text
from providers.sandbox.tools import Choice, Tool
from providers.sandbox.wire import Call, Refused

PROVIDER = "anthropic"
KNOWN = frozenset(
    {
        "model", "messages", "max_tokens", "system", "stream", "stop_sequences", "temperature", "top_k",
        "top_p", "metadata", "output_config", "service_tier", "tools", "tool_choice", "cache_control",
        "inference_geo", "thinking", "speed", "diagnostics",
    }
)  # fmt: skip
OUTPUT_TOKENS_MAX = 128_000
BREAKPOINTS_MAX = 4
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
EFFORTS = (None, "low", "medium", "high", "xhigh", "max")
#: What Anthropic adds to a prompt with tools, by the kind of `tool_choice`.
TOOL_PROMPT_TOKENS = {"auto": 346, "none": 346, "required": 313, "named": 313}


def read(body: Any) -> Call:
    if not isinstance(body, dict):
        raise Refused(400, "The request body is not valid JSON")
    for name in ("model", "messages", "max_tokens"):
        if body.get(name) is None:
            raise Refused(400, f"{name}: Field required")
    if unknown := body.keys() - KNOWN:
        raise Refused(400, f"{min(unknown)}: Extra inputs are not permitted")
    model = _model(body["model"])
    turns = _turns(body["messages"], model)
    system = _system(body.get("system"))
    tools = _tools(body.get("tools"))
    choice = _choice(body.get("tool_choice"), tools, model)
    schema = _schema(body.get("output_config"))
    _check_parameters(body, model)
    texts = [*_texts(turns), *filter(None, (system.text, schema)), *map(json_text, body.get("tools") or ())]
    return Call(
        model=model,
        system=system.text,
        text="\n".join(blocks.text for role, blocks in turns if role == "user"),
        texts=texts,
        added_tokens=sum(blocks.image_tokens for _, blocks in turns)
        + (TOOL_PROMPT_TOKENS[choice.mode] if tools else 0),
        asked=turns[-1][1].text if turns[-1][0] == "user" else "",
        tools=tools,
        choice=choice,
        output_tokens_max=_whole(body, "max_tokens", low=1, high=OUTPUT_TOKENS_MAX) or 1,
        schema=schema,
        stop=_stop(body.get("stop_sequences")),
        stream=body.get("stream") is True,
        service_tier="standard",
        segments=_segments(body, system, turns, schema),
        segments_least=model.cache_tokens_min,
    )


def _model(name: Any) -> Model:
    model = catalogue.find(PROVIDER, str(name))
    if model is None:
        raise Refused(404, f"model: {name}")
    return model


# --- The conversation

Turn = tuple[str, Blocks]


def _turns(messages: Any, model: Model) -> list[Turn]:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: at least one message is required")
    turns = [_turn(message, at, model) for at, message in enumerate(messages)]
    if turns[0][0] != "user":
        raise Refused(400, 'messages: first message must use the "user" role')
    for at, (_, blocks) in enumerate(turns):
        if not blocks and at < len(turns) - 1:
            raise Refused(
                400,
                f"messages.{at}: all messages must have non-empty content except for the optional final"
                " assistant message",
            )
    _check_last(*turns[-1], at=len(turns) - 1, model=model)
    _check_tool_turns(turns)
    return turns


def _turn(message: Any, at: int, model: Model) -> Turn:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant"):
        raise Refused(400, f"messages.{at}.role: Input should be 'user' or 'assistant'")
    if "content" not in message:
        raise Refused(400, f"messages.{at}.content: Field required")
    return role, blocks_of(message["content"], f"messages.{at}.content", role, model)


def _check_last(role: str, blocks: Blocks, *, at: int, model: Model) -> None:
    if role == "user":
        if not blocks:
            raise Refused(400, f"messages.{at}: user messages must have non-empty content")
        return
    if not model.prefill:
        raise Refused(
            400,
            "This model does not support assistant message prefill. The conversation must end with a user"
            " message.",
        )
    if blocks.text != blocks.text.rstrip():
        raise Refused(400, "messages: final assistant content cannot end with trailing whitespace")


def _check_tool_turns(turns: Sequence[Turn]) -> None:
    """Every result answers a call in the message before it, and every call has its result right after it."""
    seen: set[str] = set()
    for at, (role, blocks) in enumerate(turns):
        before = turns[at - 1][1].calls if at and turns[at - 1][0] == "assistant" else ()
        for place, result in blocks.results:
            if result not in before:
                raise Refused(
                    400,
                    f"messages.{at}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks:"
                    f" {result}. Each `tool_result` block must have a corresponding `tool_use` block in the"
                    " previous message.",
                )
        if role == "assistant" and blocks.calls:
            if len(set(blocks.calls)) < len(blocks.calls) or seen.intersection(blocks.calls):
                raise Refused(400, "messages: `tool_use` ids must be unique")
            seen.update(blocks.calls)
            _check_results(blocks.calls, turns[at + 1 : at + 2], at)


def _check_results(calls: Sequence[str], following: Sequence[Turn], at: int) -> None:
    """Results stand before anything else in the next message."""
    results = following[0][1].leading_results if following and following[0][0] == "user" else ()
    missing = [call for call in calls if call not in results]
    if missing:
        raise Refused(
            400,
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after:"
            f" {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in"
            " the next message.",
        )


def _texts(turns: Sequence[Turn]) -> list[str]:
    return [text for _, blocks in turns for text in (blocks.text, *blocks.other_texts) if text]


def _system(system: Any) -> Blocks:
    if system is None or system == "":
        return Blocks()
    return blocks_of(system, "system", "system", None)


# --- Tools


def _tools(tools: Any) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise Refused(400, "tools: Input should be a valid list")
    found = tuple(_tool(tool, f"tools.{at}") for at, tool in enumerate(tools))
    if len({tool.name for tool in found}) < len(found):
        raise Refused(400, "tools: Tool names must be unique.")
    return found


def _tool(tool: Any, where: str) -> Tool:
    if not isinstance(tool, dict) or tool.get("type") not in (None, "custom"):
        kind = tool.get("type") if isinstance(tool, dict) else None
        raise Refused(400, f"{where}: Input tag '{kind}' found using 'type' does not match 'custom'")
    where = f"{where}.custom"
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise Refused(400, f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(schema, dict):
        raise Refused(400, f"{where}.input_schema: Field required")
    if schema.get("type") != "object":
        raise Refused(400, f"{where}.input_schema.type: Input should be 'object'")
    strict = tool.get("strict") is True
    if fault := fault_in(schema, PROVIDER if strict else "", strict=strict):
        raise Refused(400, f"{where}.input_schema: {fault}")
    lifetime_of(tool, where)
    return Tool(name, json_text(schema))


def _choice(wanted: Any, tools: Sequence[Tool], model: Model) -> Choice:
    if wanted is None:
        return Choice()
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise Refused(
            400,
            f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags:"
            " 'auto', 'any', 'tool', 'none'",
        )
    if not tools:
        raise Refused(400, "tool_choice: tool_choice may only be specified while providing tools.")
    if kind in ("any", "tool") and not model.forced_tools:
        raise Refused(400, 'tool_choice: type "tool" and "any" are not supported for this model.')
    parallel = wanted.get("disable_parallel_tool_use") is not True
    if kind == "tool":
        return Choice("named", _known_name(wanted, tools), parallel)
    if kind == "any":
        return Choice("required", parallel=parallel)
    return Choice("none") if kind == "none" else Choice("auto", parallel=parallel)


def _known_name(wanted: Mapping[str, Any], tools: Sequence[Tool]) -> str:
    name = wanted.get("name")
    if not isinstance(name, str):
        raise Refused(400, "tool_choice.tool.name: Field required")
    if not any(tool.name == name for tool in tools):
        raise Refused(400, f"tool_choice.name: Tool '{name}' not found in provided tools")
    return name


# --- The form of the answer, and the other parameters


def _schema(output_config: Any) -> str | None:
    if output_config is None:
        return None
    if not isinstance(output_config, dict) or output_config.keys() - {"format", "effort"}:
        raise Refused(400, "output_config: Extra inputs are not permitted")
    if output_config.get("effort") not in EFFORTS:
        raise Refused(400, "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    form = output_config.get("format")
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema" or "schema" not in form:
        raise Refused(400, "output_config.format.schema: Field required")
    if fault := fault_in(form["schema"], PROVIDER):
        raise Refused(400, f"output_config.format.schema: {fault}")
    return json_text(form["schema"])


def _check_parameters(body: Mapping[str, Any], model: Model) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
            raise Refused(400, f"{name}: range: 0..1")
    _whole(body, "top_k", low=0, high=10**9)
    given = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    if not model.sampling and any(body[name] != 1 or name == "top_k" for name in given):
        raise Refused(400, f"`{given[0]}` is deprecated for this model.")
    if model.sampling and {"temperature", "top_p"} <= set(given):
        raise Refused(
            400, "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )
    if body.get("service_tier") not in (None, "auto", "standard_only"):
        raise Refused(400, "service_tier: Input should be 'auto' or 'standard_only'")
    if isinstance(body.get("thinking"), dict) and body["thinking"].get("type") == "enabled":
        raise Refused(400, "thinking: the sandbox's models do not think")
    metadata = body.get("metadata")
    if metadata is not None and not (isinstance(metadata, dict) and metadata.keys() <= {"user_id"}):
        raise Refused(400, "metadata: Extra inputs are not permitted")


def _stop(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise Refused(400, "stop_sequences: Input should be a valid list of strings")
    if not all(text.strip() for text in stop):
        raise Refused(400, "stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(stop)


def _whole(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise Refused(400, f"{name}: Input should be a valid integer")
    if value < low:
        raise Refused(400, f"{name}: Input should be greater than or equal to {low}")
    if value > high:
        raise Refused(400, f"{name}: {value} > {high}, which is the maximum allowed")
    return value


# --- What is to be cached


def _segments(
    body: Mapping[str, Any], system: Blocks, turns: Sequence[Turn], schema: str | None
) -> tuple[Segment, ...]:
    """The prompt from its beginning; nothing where no part of it is to be cached."""
    segments = list(_all_segments(body, system, turns, schema))
    whole = lifetime_of(body, "messages")
    if whole is not None:
        segments[-1] = Segment(segments[-1].text, segments[-1].tokens, whole)
    marked = sum(segment.lifetime is not None for segment in segments)
    if marked > BREAKPOINTS_MAX:
        text = f"A maximum of {BREAKPOINTS_MAX} blocks with cache_control may be provided. Found {marked}."
        raise Refused(400, text)
    return tuple(segments) if marked else ()


def _all_segments(
    body: Mapping[str, Any], system: Blocks, turns: Sequence[Turn], schema: str | None
) -> Iterator[Segment]:
    if schema is not None:
        yield Segment(schema)
    for tool in body.get("tools") or ():
        plain = {name: value for name, value in tool.items() if name != "cache_control"}
        yield Segment(json_text(plain), lifetime=lifetime_of(tool, "tools"))
    yield from system.segments
    for role, blocks in turns:
        yield Segment(role, counted=False)
        yield from blocks.segments
