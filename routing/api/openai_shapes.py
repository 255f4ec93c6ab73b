"""What a request to `/v1/chat/completions` may look like, and what it asks of the gateway.

What cannot be honoured is refused by name, never dropped. What the SDK has and we refuse, and what we do with
the rest, stands in `docs/sdks.md`, parameter by parameter.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from providers.types import (
    Image,
    Message,
    Part,
    Prompt,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from routing.api import fields
from routing.api.fields import refuse, tier_and_model
from routing.api.shapes import TEXT_OR_OTHER, Only, Shape, checked, unsupported, wrong
from routing.requests import CompletionRequest

DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,")
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Penalty = Annotated[float, Field(ge=-2, le=2)]


def _check_image_url(url: str) -> None:
    if not url.startswith(("https://", "http://")) and not DATA_URL.match(url):
        raise wrong("Must be an http(s) address, or data:image/…;base64,… of a PNG, JPEG, GIF or WebP image.")


# --- Messages


class TextPart(Shape):
    type: Literal["text"]
    text: str


class RefusalPart(Shape):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Shape):
    url: Annotated[str, checked(_check_image_url)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Shape):
    type: Literal["image_url"]
    image_url: ImageUrl


class CalledFunction(Shape):
    name: FunctionName
    arguments: str
    #: The client's own reading of the arguments, which come back beside them.
    parsed_arguments: Any = None


class FunctionCall(Shape):
    id: fields.Name
    type: Annotated[Any, Only("function")]
    function: CalledFunction
    #: The client's helper for streams leaves the place among the calls in its messages.
    index: int | None = None


UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
UserParts = Annotated[list[UserPart], Field(min_length=1, max_length=fields.PARTS_MAX)]
AssistantParts = Annotated[list[AssistantPart], Field(min_length=1, max_length=fields.PARTS_MAX)]
TextParts = Annotated[list[TextPart], Field(min_length=1, max_length=fields.PARTS_MAX)]

UserContent = Annotated[Annotated[str, Tag("text")] | Annotated[UserParts, Tag("other")], TEXT_OR_OTHER]
AssistantContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[AssistantParts, Tag("other")], TEXT_OR_OTHER
]
TextContent = Annotated[Annotated[str, Tag("text")] | Annotated[TextParts, Tag("other")], TEXT_OR_OTHER]


def _check_no_annotations(annotations: list[Any]) -> None:
    if annotations:
        raise unsupported("Annotations are not supported.")


class SystemMessage(Shape):
    role: Literal["system", "developer"]
    content: TextContent


class UserMessage(Shape):
    role: Literal["user"]
    content: UserContent


class AssistantMessage(Shape):
    """Also as the SDK's own answer is sent back."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    tool_calls: list[FunctionCall] | None = None
    annotations: Annotated[list[Any], checked(_check_no_annotations)] = []
    #: The client's own reading of the content, which comes back beside it.
    parsed: Any = None


class ToolMessage(Shape):
    role: Literal["tool"]
    tool_call_id: fields.Name
    content: TextContent


AnyMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


# --- Tools and formats


class Function(Shape):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    strict: bool | None = None


class FunctionTool(Shape):
    type: Annotated[Any, Only("function")]
    function: Function


class NamedFunction(Shape):
    name: str


class NamedTool(Shape):
    type: Annotated[Any, Only("function")]
    function: NamedFunction


class NamedSchema(Shape):
    name: FunctionName
    schema_: Annotated[fields.JsonSchema, Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextFormat(Shape):
    type: Literal["text"]


class JsonFormat(Shape):
    type: Literal["json_object"]


class SchemaFormat(Shape):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ToolChoiceOption = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("text")] | Annotated[NamedTool, Tag("other")],
    TEXT_OR_OTHER,
]
Stop = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[str], Field(max_length=fields.STOPS_MAX), Tag("other")],
    TEXT_OR_OTHER,
]


class StreamOptions(Shape):
    include_usage: bool = False
    include_obfuscation: Annotated[Any, Only(False)] = False


# --- The request


class ChatCompletionRequest(fields.Extras):
    model: fields.ModelName
    messages: Annotated[list[AnyMessage], Field(min_length=1, max_length=fields.MESSAGES_MAX)]
    frequency_penalty: Penalty | None = None
    logprobs: bool = False
    max_completion_tokens: fields.OutputTokens | None = None
    max_tokens: fields.OutputTokens | None = None
    metadata: fields.Tags = {}
    modalities: Annotated[Any, Only(["text"])] = None
    n: Annotated[Any, Only(1)] = 1
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    safety_identifier: fields.Name | None = None
    seed: int | None = None
    service_tier: Annotated[Any, Only("auto", "default")] = None
    stop: Stop | None = None
    store: Annotated[Any, Only(False)] = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    tool_choice: ToolChoiceOption | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=fields.TOOLS_MAX)] = []
    top_logprobs: Annotated[int, Field(ge=0, le=fields.TOP_LOGPROBS_MAX)] | None = None
    top_p: fields.Share | None = None
    user: fields.Name | None = None


def completion_request(asked: ChatCompletionRequest) -> CompletionRequest:
    """What is asked of the gateway.

    Raises:
        BadRequest: two parameters do not go together.
    """
    _check_together(asked)
    tier, model = tier_and_model(asked.model)
    return CompletionRequest(
        prompt=_prompt(asked),
        tier=tier,
        model=model,
        use_case=fields.use_case_of(asked.use_case, asked.metadata),
        user=asked.user or asked.safety_identifier or "",
        max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
        confidence_threshold=asked.confidence_threshold,
        exact=True,
        cache=asked.cache,
        metadata=asked.metadata,
    )


def _check_together(asked: ChatCompletionRequest) -> None:
    formatted = asked.response_format is not None and asked.response_format.type != "text"
    if asked.labels and (formatted or asked.tools):
        raise refuse("labels", "Give either labels, or a response_format or tools.")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise refuse("top_logprobs", "Goes with logprobs: true.")
    if asked.stream_options is not None and not asked.stream:
        raise refuse("stream_options", "Goes with stream: true.")
    if None not in (asked.max_tokens, asked.max_completion_tokens):
        raise refuse("max_tokens", "Give either max_tokens or max_completion_tokens.")
    if asked.user and asked.safety_identifier and asked.user != asked.safety_identifier:
        raise refuse("safety_identifier", "Give the same as user, or only one of them.")
    if not asked.tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(asked, name) is not None:
                raise refuse(name, "Goes with tools.")
    elif isinstance(asked.tool_choice, NamedTool):
        named = asked.tool_choice.function.name
        if all(tool.function.name != named for tool in asked.tools):
            raise refuse("tool_choice.function.name", "There is no such tool among tools.")


def _prompt(asked: ChatCompletionRequest) -> Prompt:
    form = asked.response_format
    prompt = Prompt(
        messages=tuple(_messages(asked.messages)),
        labels=tuple(asked.labels or ()),
        json_object=isinstance(form, JsonFormat),
        tools=tuple(_tool(tool.function) for tool in asked.tools),
        tool_choice=_tool_choice(asked.tool_choice),
        parallel_tool_calls=asked.parallel_tool_calls,
        sampling=Sampling(
            temperature=asked.temperature,
            top_p=asked.top_p,
            frequency_penalty=asked.frequency_penalty,
            presence_penalty=asked.presence_penalty,
            seed=asked.seed,
            reasoning_effort=asked.reasoning_effort,
        ),
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )
    return _with_schema(prompt, form.json_schema) if isinstance(form, SchemaFormat) else prompt


def _with_schema(prompt: Prompt, named: NamedSchema) -> Prompt:
    return replace(
        prompt,
        response_schema=named.schema_,
        schema_name=named.name,
        schema_description=named.description,
        schema_strict=named.strict,
    )


def _messages(messages: Sequence[Any]) -> Iterator[Message]:
    """Answers of tools that follow each other are one turn of the user's."""
    at = 0
    for is_tools, run in groupby(messages, key=lambda message: isinstance(message, ToolMessage)):
        turns = list(run)
        if is_tools:
            yield Message("user", tuple(_result(turn) for turn in turns))
        else:
            for place, turn in enumerate(turns, start=at):
                yield _message(turn, place)
        at += len(turns)


def _message(message: SystemMessage | UserMessage | AssistantMessage, place: int) -> Message:
    if isinstance(message, AssistantMessage):
        return _assistant_message(message, place)
    role: Literal["system", "user"] = "user" if message.role == "user" else "system"
    return Message(role, _content(message.content))


def _assistant_message(message: AssistantMessage, place: int) -> Message:
    content = message.content if message.content is not None else message.refusal
    if not message.tool_calls:
        if content is None:
            raise refuse(f"messages[{place}].content", "Is needed where there are no tool_calls.")
        return Message("assistant", _content(content))
    said = (Text(content),) if isinstance(content, str) and content else _content(content or ())
    calls = (ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls)
    return Message("assistant", (*said, *calls))


def _content(content: Any) -> Any:
    return content if isinstance(content, str) else tuple(_part(part) for part in content)


def _part(part: TextPart | RefusalPart | ImagePart) -> Part:
    if isinstance(part, TextPart):
        return Text(part.text)
    if isinstance(part, RefusalPart):
        return Text(part.refusal)
    url, detail = part.image_url.url, part.image_url.detail
    data = DATA_URL.match(url)
    if data is None:
        return Image(url=url, detail=detail)
    return Image(data=url[data.end() :], media_type=data[1], detail=detail)


def _result(message: ToolMessage) -> ToolResult:
    content = message.content
    parts = (Text(content),) if isinstance(content, str) else _content(content)
    return ToolResult(message.tool_call_id, parts)


def _tool(function: Function) -> Tool:
    return Tool(
        name=function.name,
        parameters=function.parameters,
        description=function.description,
        strict=function.strict,
    )


def _tool_choice(choice: Any) -> ToolChoice | None:
    if isinstance(choice, NamedTool):
        return ToolChoice("named", choice.function.name)
    return None if choice is None else ToolChoice(choice)
