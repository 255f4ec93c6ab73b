"""The tools of a chat completion and which of them may be called, read and refused as OpenAI does."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.sandbox.catalogue import Model
from providers.sandbox.openai_parameters import EMPTY_ARRAY
from providers.sandbox.schemas import fault_in
from providers.sandbox.tokens import json_text
from providers.sandbox.tools import Choice, Tool
from providers.sandbox.wire import Refused

PROVIDER = "openai"
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOLS_MAX = 128
NO_PARAMETERS = {"type": "object", "properties": {}}


def tools_of(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The tools that are offered. Raises Refused."""
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list) or not tools:
        text = EMPTY_ARRAY.format("tools")
        raise Refused(400, text, param="tools", code="empty_array")
    if len(tools) > TOOLS_MAX:
        text = (
            f"Invalid 'tools': array too long. Expected an array with maximum length {TOOLS_MAX}, but got an"
            f" array with length {len(tools)} instead."
        )
        raise Refused(400, text, param="tools", code="array_above_max_length")
    return tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools))


def _tool(tool: Any, where: str) -> Tool:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        kind = tool.get("type") if isinstance(tool, dict) else None
        text = f"Invalid value: '{kind}'. Supported values are: 'function'."
        raise Refused(400, text, param=f"{where}.type", code="invalid_value")
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or name is None:
        text = f"Missing required parameter: '{where}.function.name'."
        raise Refused(400, text, param=f"{where}.function.name", code="missing_required_parameter")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        text = (
            f"Invalid '{where}.function.name': string does not match pattern. Expected a string that matches"
            " the pattern '^[a-zA-Z0-9_-]+$'."
        )
        raise Refused(400, text, param=f"{where}.function.name", code="invalid_value")
    parameters = function.get("parameters")
    return Tool(name, _schema(parameters, function.get("strict") is True, name, where))


def _schema(parameters: Any, strict: bool, name: str, where: str) -> str:
    if parameters is None:
        return json_text(NO_PARAMETERS)
    kind = parameters.get("type") if isinstance(parameters, dict) else None
    fault = fault_in(parameters, PROVIDER, strict=strict)
    if fault is None and parameters and kind != "object":
        fault = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    if fault is not None:
        text = f"Invalid schema for function '{name}': In context=(), {fault}"
        raise Refused(400, text, param=f"{where}.function.parameters", code="invalid_function_parameters")
    return json_text(parameters or NO_PARAMETERS)


def choice_of(
    body: Mapping[str, Any], tools: Sequence[Tool], model: Model
) -> tuple[Choice, tuple[Tool, ...]]:
    """What the caller demands, and the tools that are open to it. Raises Refused."""
    wanted, parallel = body.get("tool_choice"), body.get("parallel_tool_calls")
    for name, value in (("tool_choice", wanted), ("parallel_tool_calls", parallel)):
        if value is not None and not tools:
            text = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
            raise Refused(400, text, param=name)
    if parallel is not None and model.name.startswith("o"):
        text = "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."
        raise Refused(400, text, param="parallel_tool_calls", code="unsupported_parameter")
    if parallel not in (None, True, False):
        text = "Invalid type for 'parallel_tool_calls': expected a boolean."
        raise Refused(400, text, param="parallel_tool_calls", code="invalid_type")
    return _choice(wanted, tuple(tools), parallel is not False)


def _choice(wanted: Any, tools: tuple[Tool, ...], parallel: bool) -> tuple[Choice, tuple[Tool, ...]]:
    if wanted is None or wanted == "auto":
        return Choice("auto", parallel=parallel), tools
    if wanted == "none":
        return Choice("none"), tools
    if wanted == "required":
        return Choice("required", parallel=parallel), tools
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "function":
        name = _named(wanted.get("function"), tools)
        return Choice("named", name, parallel), tools
    if kind == "allowed_tools" and isinstance(wanted.get("allowed_tools"), dict):
        return _allowed(wanted["allowed_tools"], tools, parallel)
    text = f"Invalid value: '{kind or wanted}'. Supported values are: 'none', 'auto', and 'required'."
    raise Refused(400, text, param="tool_choice", code="invalid_value")


def _allowed(
    allowed: Mapping[str, Any], tools: tuple[Tool, ...], parallel: bool
) -> tuple[Choice, tuple[Tool, ...]]:
    mode, given = allowed.get("mode"), allowed.get("tools")
    if mode not in ("auto", "required") or not isinstance(given, list) or not given:
        text = "Invalid value: 'tool_choice.allowed_tools' needs a mode, 'auto' or 'required', and tools."
        raise Refused(400, text, param="tool_choice.allowed_tools", code="invalid_value")
    names = {_named(one.get("function") if isinstance(one, dict) else None, tools) for one in given}
    open_tools = tuple(tool for tool in tools if tool.name in names)
    return Choice("required" if mode == "required" else "auto", parallel=parallel), open_tools


def _named(function: Any, tools: Sequence[Tool]) -> str:
    name = function.get("name") if isinstance(function, dict) else None
    if not any(tool.name == name for tool in tools):
        text = (
            f"Invalid value for 'tool_choice': no function named '{name}' was specified in the 'tools'"
            " parameter."
        )
        raise Refused(400, text, param="tool_choice")
    return str(name)
