"""The official `anthropic` client: `client.messages.create(model=…, **call)`, `parse`, `stream`."""

from typing import Any

from tests.conformance.case import Call, Case, Refusal, Way, call
from tests.conformance.prompts import (
    ASK,
    BOTH_TOOLS,
    CITY,
    COUNT,
    LEAD,
    LEAD_BY_ANTHROPIC,
    LEAD_SCHEMA,
    LETTERS,
    LOGO,
    RED_SQUARE,
    STORY,
    SYSTEM,
    TERMS,
    WEATHER_IN_BONN,
    Lead,
)
from tests.conformance.said import calls, ends, is_object, lacks, one_call, one_of, says


def case(feature: str, call: Call, **known: Any) -> Case:
    return Case(feature, "anthropic", {"max_tokens": 300, **call}, **known)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


GET_WEATHER = {"name": "get_weather", "description": "The weather in a city.", "input_schema": CITY}
GET_TIME = {"name": "get_time", "description": "The local time in a city.", "input_schema": CITY}
TOOLS = [GET_WEATHER, GET_TIME]
CALLED = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Bonn"}}],
}
PICTURE = {"type": "base64", "media_type": "image/png", "data": RED_SQUARE}
NOT_CHUNKS: tuple[Way, ...] = ("plain", "helper")


def result(content: Any, **more: Any) -> dict[str, Any]:
    return user([{"type": "tool_result", "tool_use_id": "call_1", "content": content, **more}])


def as_openai(*messages: dict[str, Any], **more: Any) -> Call:
    """The twin of a call with tools."""
    functions = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool["description"],
                "parameters": tool["input_schema"],
            },
        }
        for tool in TOOLS
    ]
    return call(messages=list(messages), tools=functions, **more)


CASES = (
    # --- What is said
    case("Plain text", call(messages=[user(ASK)])),
    case("System prompt", call(system=SYSTEM, messages=[user(ASK)])),
    case(
        "System prompt in blocks",
        call(system=[{"type": "text", "text": SYSTEM}], messages=[user(ASK)]),
        twin=call(messages=[{"role": "system", "content": SYSTEM}, user(ASK)]),
    ),
    case(
        "Several turns",
        call(messages=[user(ASK), {"role": "assistant", "content": "A fair price."}, user("And what else?")]),
    ),
    case(
        "Content in parts",
        call(messages=[user([{"type": "text", "text": "Be brief."}, {"type": "text", "text": ASK}])]),
    ),
    case(
        "Letters of all languages",
        call(messages=[user(LETTERS)]),
        holds=says("Übergrößenträger"),
        marker="[[content:Übergrößenträger 🚲 日本]]",
    ),
    # --- Images
    case(
        "Image by address",
        call(
            messages=[
                user(
                    [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image", "source": {"type": "url", "url": LOGO}},
                    ]
                )
            ]
        ),
    ),
    case(
        "Image as data",
        call(
            messages=[
                user(
                    [{"type": "text", "text": "Which colour is this?"}, {"type": "image", "source": PICTURE}]
                )
            ]
        ),
    ),
    # --- Tools
    case(
        "Tools: the model chooses",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS, tool_choice={"type": "auto"}),
        holds=calls("get_weather"),
    ),
    case(
        "Tools: a call is demanded",
        call(messages=[user("How are things in Bonn?")], tools=TOOLS, tool_choice={"type": "any"}),
        holds=ends("tool_calls"),
    ),
    case(
        "Tools: one is demanded by name",
        call(
            messages=[user("How are things in Bonn?")],
            tools=TOOLS,
            tool_choice={"type": "tool", "name": "get_time"},
        ),
        holds=calls("get_time"),
    ),
    case(
        "Tools: none may be called",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS, tool_choice={"type": "none"}),
    ),
    case(
        "Tools: several calls at once",
        call(messages=[user(BOTH_TOOLS)], tools=TOOLS),
        holds=calls("get_weather", "get_time"),
    ),
    case(
        "Tools: one call at most",
        call(
            messages=[user(BOTH_TOOLS)],
            tools=TOOLS,
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        ),
        holds=one_call,
    ),
    case(
        "Tool results",
        call(messages=[user(WEATHER_IN_BONN), CALLED, result("18 °C, sunny")], tools=TOOLS),
    ),
    case(
        "A tool that failed",
        call(
            messages=[user(WEATHER_IN_BONN), CALLED, result("No such city.", is_error=True)],
            tools=TOOLS,
        ),
        # OpenAI has no word for it, so the text says it.
        twin=as_openai(
            user(WEATHER_IN_BONN),
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Bonn"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Error: No such city."},
        ),
    ),
    case(
        "Tool results with an image",
        call(
            messages=[user(WEATHER_IN_BONN), CALLED, result([{"type": "image", "source": PICTURE}])],
            tools=TOOLS,
        ),
        refused="tool_result.image",
    ),
    case(
        "Agent loop: the model calls, the caller answers",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS),
        results={"get_weather": "18 °C, sunny", "get_time": "14:30"},
        ways=NOT_CHUNKS,
    ),
    # --- The form of the answer
    case(
        "JSON by a schema",
        call(
            messages=[user(LEAD)],
            output_config={"format": {"type": "json_schema", "schema": LEAD_SCHEMA}},
        ),
        holds=is_object("category", "reason"),
    ),
    case(
        "JSON into a class",
        call(messages=[user(LEAD)], output_format=Lead),
        holds=is_object("category", "reason"),
        parsed=True,
        ways=NOT_CHUNKS,
        twin=call(
            messages=[user(LEAD)],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "lead", "strict": True, "schema": LEAD_BY_ANTHROPIC},
            },
        ),
    ),
    case(
        "Stop sequences",
        call(messages=[user(COUNT)], stop_sequences=["four"]),
        holds=lacks("four"),
        marker="[[content:one two three four five six]]",
    ),
    case("Longest answer", call(messages=[user(STORY)], max_tokens=12), holds=ends("length")),
    case(
        "A model that refuses",
        call(messages=[user(ASK)]),
        holds=ends("refused"),
        marker="[[refuse]]",
        live=False,
    ),
    # --- How words are chosen; the newer clients have no parameter for it
    case("Temperature", call(messages=[user(ASK)], extra_body={"temperature": 0.5})),
    case("top_p", call(messages=[user(ASK)], extra_body={"top_p": 0.9})),
    case("top_k", call(messages=[user(ASK)], extra_body={"top_k": 20}), refused="top_k"),
    # --- Whom it is for
    case("End user", call(messages=[user(ASK)], metadata={"user_id": "u-1"})),
    # --- The provider's prompt cache
    case(
        "Cached prompt",
        call(
            system=[{"type": "text", "text": TERMS, "cache_control": {"type": "ephemeral"}}],
            messages=[user("When must I pay?")],
        ),
        twin=call(messages=[{"role": "system", "content": TERMS}, user("When must I pay?")]),
    ),
    case(
        "Cached prompt, for an hour",
        call(
            system=[{"type": "text", "text": TERMS, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            messages=[user("When must I pay?")],
        ),
        twin=call(messages=[{"role": "system", "content": TERMS}, user("When must I pay?")]),
    ),
    # --- Ours
    case(
        "Labels (our own)",
        call(messages=[user(LEAD)], extra_body={"labels": ["hot", "warm", "cold"], "use_case": "leads"}),
        holds=one_of("hot", "warm", "cold"),
        ours=True,
    ),
)


def refusal(feature: str, param: str | None, call: Call, **known: Any) -> Refusal:
    return Refusal(feature, "anthropic", {"max_tokens": 300, **call}, param=param, **known)


HELLO = [user(ASK)]
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
REFUSALS = (
    # --- By the provider and by us alike
    refusal("Wrong value", "temperature", call(messages=HELLO, extra_body={"temperature": 3}), alike=True),
    refusal("No messages", "messages", call(messages=[]), alike=True),
    refusal(
        "Wrong key",
        None,
        call(messages=HELLO),
        error="AuthenticationError",
        status=401,
        alike=True,
        key="bad-key",
    ),
    refusal(
        "Unknown model",
        "model",
        call(messages=HELLO),
        error="NotFoundError",
        status=404,
        alike=True,
        model="claude-of-nobody",
    ),
    # --- What the gateway does not offer
    refusal(
        "Thinking",
        "thinking.type",
        call(messages=HELLO, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}),
    ),
    refusal(
        "Documents",
        "messages[0].content[0].type",
        call(messages=[user([{"type": "document", "source": PDF}])]),
    ),
    refusal(
        "Server tools",
        "tools[0].type",
        call(messages=HELLO, tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    ),
    refusal("Containers", "container", call(messages=HELLO, container="container_1")),
    refusal("Region of inference", "inference_geo", call(messages=HELLO, inference_geo="us")),
    refusal("Fast mode", "speed", call(messages=HELLO, speed="fast")),
)
