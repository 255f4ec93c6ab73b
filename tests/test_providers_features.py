"""What a provider cannot honour is named, and a value that changes nothing is honoured."""

from typing import Any

import pytest

from providers.features import unsupported
from providers.types import Image, Message, Prompt, Sampling, Text, Tool, ToolCall, ToolChoice, ToolResult

IMAGE = Image(url="https://example.com/a.png")


def prompt(**fields: Any) -> Prompt:
    return Prompt(**{"messages": (Message("user", "Hi"),), **fields})


def with_part(part: Any) -> Prompt:
    return prompt(messages=(Message("user", (Text("Look."), part)),))


def sampled(**fields: Any) -> Prompt:
    return prompt(sampling=Sampling(**fields))


EVERYTHING = prompt(
    messages=(
        Message("system", (Text("Be brief.", cache="1h"),)),
        Message("user", (IMAGE, Text("?"))),
        Message("assistant", (ToolCall("c1", "look", "{}"),)),
        Message("user", (ToolResult("c1", (Text("seen"),), is_error=True),)),
    ),
    response_schema={"type": "object"},
    tools=(Tool("look", {"type": "object"}),),
    tool_choice=ToolChoice("named", "look"),
    parallel_tool_calls=False,
    sampling=Sampling(temperature=0.5, reasoning_effort="low"),
    stop=("END",),
)
NEUTRAL = sampled(temperature=1.0, top_p=1, frequency_penalty=0.0, presence_penalty=0)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("asked", [EVERYTHING, NEUTRAL, prompt()])
def test_what_both_have_or_what_changes_nothing_is_honoured(provider: str, asked: Prompt) -> None:
    assert unsupported(provider, asked, model="claude-haiku-4-5") is None


AT_OPENAI = [
    (sampled(top_k=40), "top_k"),
    (prompt(stop=tuple("abcde")), "stop"),
    (with_part(ToolResult("c1", (Text("seen"), IMAGE))), "tool_result.image"),
    (prompt(stop=tuple("abcd")), None),
    (prompt(top_logprobs=0), None),
    (prompt(json_object=True), None),
    (sampled(temperature=2.0, top_p=0.5, seed=0, frequency_penalty=1.0, presence_penalty=-1.0), None),
]


@pytest.mark.parametrize(("asked", "param"), AT_OPENAI)
def test_openai_refuses_by_name(asked: Prompt, param: str | None) -> None:
    assert unsupported("openai", asked, model="gpt-4o") == param


AT_ANTHROPIC = [
    (prompt(top_logprobs=0), "logprobs"),
    (prompt(json_object=True), "response_format"),
    (sampled(seed=0), "seed"),
    (sampled(frequency_penalty=0.1), "frequency_penalty"),
    (sampled(presence_penalty=-0.1), "presence_penalty"),
    (sampled(temperature=1.1), "temperature"),
    (sampled(temperature=0.5, top_p=0.5), "top_p"),
    (sampled(reasoning_effort="minimal"), "reasoning_effort"),
    (sampled(reasoning_effort="none"), "reasoning_effort"),
    (prompt(stop=("END", "\n")), "stop"),
    (with_part(Image(url="https://example.com/a.png", detail="low")), "image_url.detail"),
    (with_part(ToolResult("c1", (Image(url="u", detail="low"),))), "image_url.detail"),
    (with_part(Image(url="u", detail="high")), None),
    (with_part(ToolResult("c1", (IMAGE,))), None),
    (sampled(temperature=0.0), None),
    (sampled(temperature=1.0, top_p=0.5), None),
    (sampled(top_k=1), None),
    (sampled(reasoning_effort="max"), None),
    (prompt(stop=tuple("abcde")), None),
]


@pytest.mark.parametrize(("asked", "param"), AT_ANTHROPIC)
def test_anthropic_refuses_by_name(asked: Prompt, param: str | None) -> None:
    assert unsupported("anthropic", asked, model="claude-haiku-4-5") == param


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-3-5-haiku-20241022", True),
        ("claude-opus-4-20250514", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-sonnet-4-5", True),
        ("claude-sonnet-4-6", True),
        ("", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-8-20260101", False),
        ("claude-sonnet-5", False),
        ("claude-haiku-5-5", False),
        ("claude-fable-5-1", False),
        ("claude-opus-10", False),
    ],
)
def test_newer_claudes_take_no_sampling_but_the_default(model: str, takes: bool) -> None:
    for name, value in (("temperature", 0.0), ("top_p", 0.5), ("top_k", 5)):
        param = None if takes else name
        assert unsupported("anthropic", sampled(**{name: value}), model=model) == param
    assert unsupported("anthropic", NEUTRAL, model=model) is None


def test_of_a_provider_that_is_not_known_nothing_is_said() -> None:
    assert unsupported("elsewhere", sampled(top_k=1)) is None
