"""A case, asked of a client: sync or async, in each of its ways; the result as JSON, as the client gives it.

Only what both the current clients and their older majors have is used here.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.conformance.case import Call, Case, Client, Way

TURNS_MAX = 5
T = TypeVar("T")
Result = dict[str, Any]
#: Asks with a call, and gives the client's own object.
Ask = Callable[[Call], Any]


class NotInThisClient(Exception):
    """An older client does not have the method or parameter."""


async def ask(
    client: Any, case: Case, way: Way, model: str, *, marked: bool = False, cached: bool = True
) -> Result:
    """What comes back.

    Args:
        marked: with the marker for the sandbox.
        cached: False: the gateway's cache is left out.

    Returns:
        `{"answers": […]}`, one for each turn; of a stream that is read chunk by chunk `{"chunks": …}`.
    """
    parameters = with_marker(case.call, case.marker) if marked else case.call
    parameters = {**(parameters if cached else without_cache(parameters)), "model": model}
    if way == "stream":
        return {"chunks": await _chunks(client, case.client, parameters)}
    return {"answers": await _answers(client, case, way, parameters)}


async def refused(client: Any, of: Client, call: Call, model: str, *, stream: bool) -> Exception | None:
    """The error that a call ends with; None: it is answered."""
    streamed = {"stream": True} if stream else {}
    try:
        await _awaited(_endpoint(client, of).create(**call, **streamed, model=model))
    except client_errors(of) as error:
        return error
    return None


async def models(client: Any) -> list[dict[str, Any]]:
    """What a client lists, page by page."""
    pages = client.models.list()
    if hasattr(pages, "__aiter__"):
        return [dumped(model) async for model in pages]
    return [dumped(model) for model in pages]


async def model(client: Any, name: str) -> dict[str, Any]:
    return dumped(await _awaited(client.models.retrieve(name)))


async def first_words(
    client: Any, of: Client, call: Call, model: str, then: Callable[[], T]
) -> tuple[str, T]:
    """The first words of a stream, and what `then` gives when they have come; the rest is left."""
    with _endpoint(client, of).create(**call, model=model, stream=True) as stream:
        for chunk in stream:
            if text := _text_of(chunk):
                return text, then()
    raise AssertionError("the stream has no words")


def _text_of(chunk: Any) -> str | None:
    if hasattr(chunk, "choices"):
        return str(chunk.choices[0].delta.content or "") if chunk.choices else None
    return getattr(getattr(chunk, "delta", None), "text", None)


def client_errors(of: Client) -> type[Exception]:
    """The class that all errors of a client have in common."""
    module = __import__(of)
    found: type[Exception] = module.APIError
    return found


def with_marker(call: Call, marker: str) -> Call:
    """`call` with `marker` at the end of its last message, which is a text."""
    if not marker:
        return call
    *before, last = call["messages"]
    return {**call, "messages": [*before, {**last, "content": f"{last['content']} {marker}"}]}


def without_cache(call: Call) -> Call:
    """`call` with our own parameter for it."""
    return {**call, "extra_body": {"cache": "off", **call.get("extra_body", {})}}


def _endpoint(client: Any, of: Client) -> Any:
    return client.chat.completions if of == "openai" else client.messages


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def dumped(answer: Any) -> dict[str, Any]:
    """A client's object as JSON, with what came and nothing else."""
    found: dict[str, Any] = answer.model_dump(mode="json", exclude_unset=True, warnings=False)
    # The client leaves what it has parsed out of its JSON.
    parsed = [block.parsed_output for block in getattr(answer, "content", ()) if _is_parsed(block)]
    return {**found, "parsed_output": [one.model_dump() for one in parsed]} if parsed else found


def _is_parsed(block: Any) -> bool:
    return getattr(block, "parsed_output", None) is not None


# --- Whole answers


async def _answers(client: Any, case: Case, way: Way, parameters: Call) -> list[dict[str, Any]]:
    asked = _asker(client, case, way)
    if not case.results:
        return [dumped(await asked(parameters))]
    answers: list[dict[str, Any]] = []
    messages = list(parameters["messages"])
    while len(answers) < TURNS_MAX:
        answer = await asked({**parameters, "messages": messages})
        answers.append(dumped(answer))
        turns = _next_turns(case.client, answer, case.results)
        if not turns:
            break
        messages += turns
    return answers


def _asker(client: Any, case: Case, way: Way) -> Ask:
    endpoint = _endpoint(client, case.client)
    if way == "plain":
        method = _method(endpoint, "parse" if case.parsed else "create")
        return lambda call: _awaited(method(**call))
    stream = _method(endpoint, "stream")
    if case.client == "openai":
        usage = {"stream_options": {"include_usage": True}}
        return lambda call: _joined(stream(**usage, **call), "get_final_completion")
    return lambda call: _joined(stream(**call), "get_final_message")


def _method(endpoint: Any, name: str) -> Any:
    """The method, which must take what it is given."""
    found = getattr(endpoint, name, None)
    if found is None:
        raise NotInThisClient(f"{name}()")

    def called(**parameters: Any) -> Any:
        try:
            inspect.signature(found).bind(**parameters)
        except TypeError as error:
            raise NotInThisClient(str(error)) from None
        try:
            return found(**parameters)
        except ValueError as error:
            if "not strict" not in str(error):  # older ones take strict tools alone
                raise
            raise NotInThisClient(str(error)) from None

    return called


async def _joined(manager: Any, final: str) -> Any:
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            return await getattr(stream, final)()
    with manager as stream:
        return getattr(stream, final)()


def _next_turns(of: Client, answer: Any, results: Mapping[str, str]) -> list[Any]:
    """The model's calls, and what the caller's tools say to them; nothing where there are none."""
    if of == "openai":
        message = answer.choices[0].message
        told = [
            {"role": "tool", "tool_call_id": call.id, "content": results[call.function.name]}
            for call in message.tool_calls or ()
        ]
        return [message, *told] if told else []
    told = [
        {"type": "tool_result", "tool_use_id": block.id, "content": results[block.name]}
        for block in answer.content
        if block.type == "tool_use"
    ]
    turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": told}]
    return turns if told else []


# --- Chunk by chunk


async def _chunks(client: Any, of: Client, parameters: Call) -> dict[str, Any]:
    create = _method(_endpoint(client, of), "create")
    stream = await _awaited(create(**parameters, stream=True))
    if hasattr(stream, "__aiter__"):
        chunks = [dumped(chunk) async for chunk in stream]
    else:
        chunks = [dumped(chunk) for chunk in stream]
    return openai_stream(chunks) if of == "openai" else anthropic_stream(chunks)


def openai_stream(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The pieces of content in their order, and what the chunks have besides."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice["delta"] for choice in choices]
    last = {name: value for chunk in chunks for name, value in chunk.items() if name != "choices"}
    return {
        **last,
        "role": deltas[0].get("role"),
        "pieces": [piece for delta in deltas for piece in _pieces(delta)],
        "logprobs": [choice["logprobs"] for choice in choices if choice.get("logprobs")],
        "finish_reasons": [choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
    }


def _pieces(delta: Mapping[str, Any]) -> list[list[Any]]:
    pieces = [[name, delta[name]] for name in ("content", "refusal") if delta.get(name)]
    for call in delta.get("tool_calls") or ():
        function = call["function"]
        if function.get("name"):
            pieces.append(["tool", call["index"], call["type"], function["name"]])
        if function.get("arguments"):
            pieces.append(["arguments", call["index"], function["arguments"]])
    return pieces


def anthropic_stream(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The events, without those that add nothing."""
    return {"events": [event for event in events if event.get("delta", {}).get("partial_json") != ""]}
