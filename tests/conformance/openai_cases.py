"""The official `openai` client: `client.chat.completions.create(model=…, **call)`, `parse`, `stream`."""

from typing import Any

from tests.conformance.case import Call, Case, Refusal, Way, call
from tests.conformance.prompts import (
    ASK,
    BOTH_TOOLS,
    CITY,
    COUNT,
    LEAD,
    LEAD_BY_OPENAI,
    LEAD_SCHEMA,
    LETTERS,
    LOGO,
    RED_SQUARE,
    STORY,
    SYSTEM,
    TERMS,
    WEATHER_IN_BONN,
    GetWeather,
    Lead,
)
from tests.conformance.said import calls, ends, is_object, lacks, one_call, one_of, says


def case(feature: str, call: Call, **known: Any) -> Case:
    return Case(feature, "openai", call, **known)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


GET_WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY},
}
GET_TIME = {
    "type": "function",
    "function": {"name": "get_time", "description": "The local time in a city.", "parameters": CITY},
}
TOOLS = [GET_WEATHER, GET_TIME]
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Bonn"}'},
        }
    ],
}
LEAD_FORMAT = {"name": "lead", "strict": True, "schema": LEAD_SCHEMA}
STRICT_WEATHER = {
    "type": "function",
    "function": {
        "name": "GetWeather",
        "description": "The weather in a city.",
        "strict": True,
        "parameters": {**GetWeather.model_json_schema(), "additionalProperties": False},
    },
}
#: Without the answer in one piece there is no message to go on with.
NOT_CHUNKS: tuple[Way, ...] = ("plain", "helper")
#: The helper raises an error of its own where an answer is cut, or Claude refuses, whoever was asked.
NOT_HELPER: tuple[Way, ...] = ("plain", "stream")

CASES = (
    # --- What is said
    case("Plain text", call(messages=[user(ASK)])),
    case("System prompt", call(messages=[{"role": "system", "content": SYSTEM}, user(ASK)])),
    case(
        "Developer prompt",
        call(messages=[{"role": "developer", "content": SYSTEM}, user(ASK)]),
        twin=call(system=SYSTEM, messages=[user(ASK)], max_tokens=300),
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
                        {"type": "image_url", "image_url": {"url": LOGO}},
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
                    [
                        {"type": "text", "text": "Which colour is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_SQUARE}"}},
                    ]
                )
            ]
        ),
    ),
    case(
        "Image at low detail",
        call(
            messages=[
                user([{"type": "image_url", "image_url": {"url": LOGO, "detail": "low"}}]),
                user("What is this?"),
            ]
        ),
        refused="image_url.detail",
    ),
    # --- Tools
    case(
        "Tools: the model chooses",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS, tool_choice="auto"),
        holds=calls("get_weather"),
    ),
    case(
        "Tools: a call is demanded",
        call(messages=[user("How are things in Bonn?")], tools=TOOLS, tool_choice="required"),
        holds=ends("tool_calls"),
    ),
    case(
        "Tools: one is demanded by name",
        call(
            messages=[user("How are things in Bonn?")],
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "get_time"}},
        ),
        holds=calls("get_time"),
    ),
    case(
        "Tools: none may be called",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS, tool_choice="none"),
    ),
    case(
        "Tools: several calls at once",
        call(messages=[user(BOTH_TOOLS)], tools=TOOLS, parallel_tool_calls=True),
        holds=calls("get_weather", "get_time"),
        twin=call(
            messages=[user(BOTH_TOOLS)],
            tools=[
                {"name": "get_weather", "description": "The weather in a city.", "input_schema": CITY},
                {"name": "get_time", "description": "The local time in a city.", "input_schema": CITY},
            ],
            max_tokens=300,
        ),
    ),
    case(
        "Tools: one call at most",
        call(messages=[user(BOTH_TOOLS)], tools=TOOLS, parallel_tool_calls=False),
        holds=one_call,
    ),
    case(
        "Tool results",
        call(
            messages=[
                user(WEATHER_IN_BONN),
                CALLED,
                {"role": "tool", "tool_call_id": "call_1", "content": "18 °C, sunny"},
            ],
            tools=TOOLS,
        ),
    ),
    case(
        "Agent loop: the model calls, the caller answers",
        call(messages=[user(WEATHER_IN_BONN)], tools=TOOLS),
        results={"get_weather": "18 °C, sunny", "get_time": "14:30"},
        ways=NOT_CHUNKS,
    ),
    case(
        "Tools with a strict schema, arguments parsed by the client",
        call(messages=[user("Use GetWeather for Bonn.")], tools=[STRICT_WEATHER]),
        holds=calls("GetWeather"),
        parsed=True,
        ways=NOT_CHUNKS,
        twin=call(
            messages=[user("Use GetWeather for Bonn.")],
            tools=[
                {
                    "name": "GetWeather",
                    "description": "The weather in a city.",
                    "strict": True,
                    "input_schema": STRICT_WEATHER["function"]["parameters"],  # type: ignore[index]
                }
            ],
            max_tokens=300,
        ),
    ),
    # --- The form of the answer
    case(
        "JSON object",
        call(messages=[user("Name a bicycle part, as JSON.")], response_format={"type": "json_object"}),
        holds=is_object(),
        refused="response_format",
    ),
    case(
        "JSON by a schema",
        call(
            messages=[user(LEAD)],
            response_format={"type": "json_schema", "json_schema": LEAD_FORMAT},
        ),
        holds=is_object("category", "reason"),
    ),
    case(
        "JSON into a class",
        call(messages=[user(LEAD)], response_format=Lead),
        holds=is_object("category", "reason"),
        parsed=True,
        ways=NOT_CHUNKS,
        twin=call(
            messages=[user(LEAD)],
            output_config={"format": {"type": "json_schema", "schema": LEAD_BY_OPENAI}},
            max_tokens=300,
        ),
    ),
    case(
        "Log-probabilities",
        call(messages=[user(ASK)], logprobs=True, top_logprobs=3),
        refused="logprobs",
    ),
    case(
        "Stop sequences",
        call(messages=[user(COUNT)], stop=["four"]),
        holds=lacks("four"),
        marker="[[content:one two three four five six]]",
    ),
    case(
        "Longest answer",
        call(messages=[user(STORY)], max_completion_tokens=12),
        holds=ends("length"),
        ways=NOT_HELPER,
    ),
    case(
        "Longest answer, by its older name",
        call(messages=[user(STORY)], max_tokens=12),
        holds=ends("length"),
        ways=NOT_HELPER,
        twin=call(messages=[user(STORY)], max_tokens=12),
    ),
    case(
        "A model that refuses",
        call(messages=[user(ASK)]),
        holds=ends("refused"),
        ways=NOT_HELPER,
        marker="[[refuse]]",
        live=False,
    ),
    # --- How words are chosen
    case("Temperature", call(messages=[user(ASK)], temperature=0.5)),
    case("Temperature above 1", call(messages=[user(ASK)], temperature=1.2), refused="temperature"),
    case("top_p", call(messages=[user(ASK)], top_p=0.9)),
    case(
        "Penalties",
        call(messages=[user(ASK)], frequency_penalty=0.5, presence_penalty=0.5),
        refused="frequency_penalty",
    ),
    case("Seed", call(messages=[user(ASK)], seed=7), refused="seed"),
    # --- Whom it is for
    case("End user", call(messages=[user(ASK)], user="u-1")),
    case(
        "Metadata",
        call(messages=[user(ASK)], metadata={"lead_id": "L-1"}),
        twin=call(messages=[user(ASK)], max_tokens=300),
    ),
    # --- Streams
    case(
        "Usage at the end of a stream",
        call(messages=[user(ASK)], stream_options={"include_usage": True}),
        ways=("stream",),
        twin=call(messages=[user(ASK)], max_tokens=300),
    ),
    case(
        "Long prompt",
        call(messages=[{"role": "system", "content": TERMS}, user("When must I pay?")]),
        twin=call(system=TERMS, messages=[user("When must I pay?")], max_tokens=300),
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
    return Refusal(feature, "openai", call, param=param, **known)


HELLO = [user(ASK)]
REFUSALS = (
    # --- By the provider and by us alike
    refusal("Wrong value", "temperature", call(messages=HELLO, temperature=3), alike=True),
    refusal(
        "No messages",
        "messages",
        call(messages=[]),
        alike=True,
    ),
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
        model="gpt-of-nobody",
    ),
    # --- What the gateway does not offer
    refusal("Several answers", "n", call(messages=HELLO, n=2)),
    refusal("Stored answers", "store", call(messages=HELLO, store=True)),
    refusal("Other service tiers", "service_tier", call(messages=HELLO, service_tier="priority")),
    refusal("Token biases", "logit_bias", call(messages=HELLO, logit_bias={"50256": -100})),
    refusal("Web search", "web_search_options", call(messages=HELLO, web_search_options={})),
    refusal(
        "Predicted output",
        "prediction",
        call(messages=HELLO, prediction={"type": "content", "content": "x"}),
    ),
    refusal(
        "Answers as audio",
        "modalities",
        call(messages=HELLO, modalities=["text", "audio"]),
    ),
    refusal(
        "Audio input",
        "messages[0].content[0].type",
        call(
            messages=[
                user([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]),
            ]
        ),
    ),
    refusal(
        "Files",
        "messages[0].content[0].type",
        call(messages=[user([{"type": "file", "file": {"file_id": "file-1"}}])]),
    ),
    refusal(
        "Custom tools",
        "tools[0].type",
        call(messages=HELLO, tools=[{"type": "custom", "custom": {"name": "shell"}}]),
    ),
)
