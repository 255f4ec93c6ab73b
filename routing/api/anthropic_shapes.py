"""What a request to `/v1/messages` may look like, and what it asks of the gateway.

What cannot be honoured is refused by name, never dropped. What the SDK has and we refuse, and what we do with
the rest, stands in `docs/sdks.md`, parameter by parameter.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from aigov.errors import BadRequest
from providers.types import (
    CacheLifetime,
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
from routing.api.shapes import TEXT_OR_OTHER, Only, Shape, checked, wrong
from routing.requests import CompletionRequest

#: Headers of Anthropic's that change whom a call is for.
UNSUPPORTED_HEADERS = ("anthropic-user-profile-id", "anthropic-workspace-id")
STOPS_MAX = 100
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


def _check_image_url(url: str) -> None:
    if not url.startswith(("https://", "http://")):
        raise wrong("Must be an http(s) address.")


class CacheControl(Shape):
    type: Literal["ephemeral"]
    ttl: CacheLifetime = "5m"


class Cacheable(Shape):
    cache_control: CacheControl | None = None

    @property
    def cache(self) -> CacheLifetime | None:
        return None if self.cache_control is None else self.cache_control.ttl


# --- Messages


class TextBlock(Cacheable):
    type: Literal["text"]
    text: str


class Base64Source(Shape):
    type: Literal["base64"]
    data: Annotated[str, Field(min_length=1)]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class UrlSource(Shape):
    type: Literal["url"]
    url: Annotated[str, checked(_check_image_url)]


class ImageBlock(Cacheable):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class DirectCaller(Shape):
    type: Literal["direct"]


class ToolUseBlock(Cacheable):
    type: Literal["tool_use"]
    id: fields.Name
    name: ToolName
    input: dict[str, Any]
    caller: DirectCaller | None = None


ResultBlock = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]
ResultBlocks = Annotated[list[ResultBlock], Field(max_length=fields.PARTS_MAX)]
ResultContent = Annotated[Annotated[str, Tag("text")] | Annotated[ResultBlocks, Tag("other")], TEXT_OR_OTHER]


class ToolResultBlock(Cacheable):
    type: Literal["tool_result"]
    tool_use_id: fields.Name
    content: ResultContent = ""
    is_error: bool = False


UserBlock = Annotated[TextBlock | ImageBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[TextBlock | ToolUseBlock, Field(discriminator="type")]
UserBlocks = Annotated[list[UserBlock], Field(min_length=1, max_length=fields.PARTS_MAX)]
AssistantBlocks = Annotated[list[AssistantBlock], Field(min_length=1, max_length=fields.PARTS_MAX)]
TextBlocks = Annotated[list[TextBlock], Field(min_length=1, max_length=fields.PARTS_MAX)]
UserContent = Annotated[Annotated[str, Tag("text")] | Annotated[UserBlocks, Tag("other")], TEXT_OR_OTHER]
AssistantContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[AssistantBlocks, Tag("other")], TEXT_OR_OTHER
]
System = Annotated[Annotated[str, Tag("text")] | Annotated[TextBlocks, Tag("other")], TEXT_OR_OTHER]


class UserTurn(Shape):
    role: Literal["user"]
    content: UserContent


class AssistantTurn(Shape):
    role: Literal["assistant"]
    content: AssistantContent


class SystemTurn(Shape):
    role: Literal["system"]
    content: System


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock


# --- Tools and formats


class CustomTool(Cacheable):
    type: Annotated[Any, Only("custom")] = "custom"
    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ChooseFreely(Shape):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool | None = None


class ChooseNamed(Shape):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class ChooseNone(Shape):
    type: Literal["none"]


class SchemaOutput(Shape):
    type: Literal["json_schema"]
    schema_: Annotated[fields.JsonSchema, Field(alias="schema")]


class OutputConfig(Shape):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: SchemaOutput | None = None


class NoThinking(Shape):
    type: Annotated[Any, Only("disabled")]


# --- The request


class MessagesRequest(fields.Extras):
    max_tokens: fields.OutputTokens
    messages: Annotated[list[Turn], Field(min_length=1, max_length=fields.MESSAGES_MAX)]
    model: fields.ModelName
    cache_control: CacheControl | None = None
    metadata: fields.Tags = {}
    output_config: OutputConfig = OutputConfig()
    service_tier: Annotated[Any, Only("auto", "standard_only")] = None
    speed: Annotated[Any, Only("standard")] = None
    stop_sequences: Annotated[list[str], Field(max_length=STOPS_MAX)] = []
    stream: bool = False
    system: System | None = None
    temperature: fields.Share | None = None
    thinking: NoThinking | None = None
    tool_choice: Annotated[ChooseFreely | ChooseNamed | ChooseNone, Field(discriminator="type")] | None = None
    tools: Annotated[list[CustomTool], Field(max_length=fields.TOOLS_MAX)] = []
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: fields.Share | None = None


def completion_request(asked: MessagesRequest, headers: Mapping[str, str]) -> CompletionRequest:
    """What is asked of the gateway.

    Args:
        headers: of the request, looked up by lower-case name.

    Raises:
        BadRequest: two parameters do not go together, or blocks are in an order that only Anthropic has.
    """
    for header in UNSUPPORTED_HEADERS:
        if header in headers:
            raise refuse(header, "This header is not supported.")
    _check_together(asked)
    tier, model = tier_and_model(asked.model)
    tags = {name: value for name, value in asked.metadata.items() if name != "user_id"}
    return CompletionRequest(
        prompt=_prompt(asked),
        tier=tier,
        model=model,
        use_case=fields.use_case_of(asked.use_case, tags),
        user=_user(asked.metadata),
        max_output_tokens=asked.max_tokens,
        confidence_threshold=asked.confidence_threshold,
        exact=True,
        cache=asked.cache,
        metadata=tags,
    )


def _user(metadata: Mapping[str, Any]) -> str:
    user = metadata.get("user_id") or ""
    if not isinstance(user, str) or len(user) > fields.NAME_CHARACTERS_MAX:
        message = f"Must be a string of at most {fields.NAME_CHARACTERS_MAX} characters."
        raise BadRequest(message, param="metadata.user_id")
    return user


def _check_together(asked: MessagesRequest) -> None:
    if asked.labels and (asked.output_config.format or asked.tools):
        raise refuse("labels", "Give either labels, or an output_config.format or tools.")
    choice = asked.tool_choice
    if choice is None or isinstance(choice, ChooseNone):
        return
    if not asked.tools:
        raise refuse("tool_choice", "Goes with tools.")
    if isinstance(choice, ChooseNamed) and all(tool.name != choice.name for tool in asked.tools):
        raise refuse("tool_choice.name", "There is no such tool among tools.")


def _prompt(asked: MessagesRequest) -> Prompt:
    form = asked.output_config.format
    return Prompt(
        messages=tuple(_messages(asked)),
        labels=tuple(asked.labels or ()),
        response_schema=None if form is None else form.schema_,
        tools=tuple(_tool(tool) for tool in asked.tools),
        tool_choice=_tool_choice(asked.tool_choice),
        parallel_tool_calls=_parallel(asked.tool_choice),
        sampling=Sampling(
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=asked.top_k,
            reasoning_effort=asked.output_config.effort,
        ),
        stop=tuple(asked.stop_sequences),
    )


def _messages(asked: MessagesRequest) -> Iterator[Message]:
    if asked.system:
        yield Message("system", _content(asked.system))
    *turns, last = (Message(turn.role, _ordered(turn, place)) for place, turn in enumerate(asked.messages))
    yield from turns
    yield last if asked.cache_control is None else _cached(last, asked.cache_control.ttl)


def _cached(message: Message, lifetime: CacheLifetime) -> Message:
    """`message` with the cache's mark on its last part."""
    *others, last = message.parts
    return Message(message.role, (*others, replace(last, cache=lifetime)))


def _ordered(turn: UserTurn | AssistantTurn | SystemTurn, place: int) -> Any:
    """The turn's content; tool results come first in theirs, and tool calls last."""
    if isinstance(turn.content, str):
        return turn.content
    ranks = [_rank(block) for block in turn.content]
    for at, (before, after) in enumerate(zip(ranks, ranks[1:], strict=False), start=1):
        if after < before:
            message = "In a message, tool_result blocks come first, and tool_use blocks last."
            raise refuse(f"messages[{place}].content[{at}]", message)
    return _content(turn.content)


def _rank(block: Block) -> int:
    if isinstance(block, ToolResultBlock):
        return 0
    return 2 if isinstance(block, ToolUseBlock) else 1


def _content(content: str | Sequence[Block]) -> Any:
    return content if isinstance(content, str) else tuple(_part(block) for block in content)


def _part(block: Block) -> Part:
    if isinstance(block, TextBlock):
        return Text(block.text, cache=block.cache)
    if isinstance(block, ImageBlock):
        return _image(block)
    if isinstance(block, ToolUseBlock):
        arguments = json.dumps(block.input, ensure_ascii=False, separators=(",", ":"))
        return ToolCall(block.id, block.name, arguments, cache=block.cache)
    return _result(block)


def _result(block: ToolResultBlock) -> ToolResult:
    content = block.content
    if isinstance(content, str):
        # Anthropic takes no empty text.
        parts: Any = (Text(content),) if content else ()
    else:
        parts = _content(content)
    return ToolResult(block.tool_use_id, parts, is_error=block.is_error, cache=block.cache)


def _image(block: ImageBlock) -> Image:
    source = block.source
    if isinstance(source, UrlSource):
        return Image(url=source.url, cache=block.cache)
    return Image(data=source.data, media_type=source.media_type, cache=block.cache)


def _tool(tool: CustomTool) -> Tool:
    return Tool(
        name=tool.name,
        parameters=tool.input_schema,
        description=tool.description,
        strict=tool.strict,
        cache=tool.cache,
    )


def _tool_choice(choice: ChooseFreely | ChooseNamed | ChooseNone | None) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, ChooseNamed):
        return ToolChoice("named", choice.name)
    if isinstance(choice, ChooseNone):
        return ToolChoice("none")
    return ToolChoice("auto" if choice.type == "auto" else "required")


def _parallel(choice: ChooseFreely | ChooseNamed | ChooseNone | None) -> bool | None:
    if choice is None or isinstance(choice, ChooseNone) or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use
