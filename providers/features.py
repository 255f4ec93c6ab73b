"""What a provider cannot honour: it is left out, or refuses by name; nothing is dropped in silence.

Only what follows from the providers' interfaces stands here, and where a model's family settles it. What else
a model lacks it says itself, in an error that names the parameter.

A value that changes nothing (a penalty of 0, a temperature or `top_p` of 1) is honoured by leaving it out.
Anthropic looks at each image as closely as it can, so `detail` asks for nothing there unless it is `low`.
"""

import re
from collections.abc import Iterator

from providers.types import Image, Prompt, ToolResult

OPENAI_STOP_MAX = 4
ANTHROPIC_TEMPERATURE_MAX = 1.0
#: Of OpenAI's words for an effort, those that Anthropic does not have.
_NO_EFFORT_AT_ANTHROPIC = frozenset({"none", "minimal"})
#: From 4.7 on, models answer 400 to any temperature, top_p or top_k but the default.
_CLAUDE_WITHOUT_SAMPLING = re.compile(r"claude-[a-z]+-(4-[7-9]|[5-9]|[1-9]\d)(?!\d)")


def unsupported(provider: str, prompt: Prompt, *, model: str = "") -> str | None:
    """The parameter of `prompt`, by its name in the field, that `provider`, or its `model`, cannot honour.

    None: it honours everything.
    """
    if provider == "openai":
        return next(_openai(prompt), None)
    if provider == "anthropic":
        return next(_anthropic(prompt, model), None)
    return None


def _openai(prompt: Prompt) -> Iterator[str]:
    if prompt.sampling.top_k is not None:
        yield "top_k"
    if len(prompt.stop) > OPENAI_STOP_MAX:
        yield "stop"
    if any(_images_of_results(prompt)):
        yield "tool_result.image"


def _anthropic(prompt: Prompt, model: str) -> Iterator[str]:
    sampling = prompt.sampling
    if prompt.top_logprobs is not None:
        yield "logprobs"
    if prompt.json_object:
        yield "response_format"
    if sampling.seed is not None:
        yield "seed"
    if sampling.frequency_penalty:
        yield "frequency_penalty"
    if sampling.presence_penalty:
        yield "presence_penalty"
    if sampling.reasoning_effort in _NO_EFFORT_AT_ANTHROPIC:
        yield "reasoning_effort"
    if not all(text.strip() for text in prompt.stop):
        yield "stop"
    if any(image.detail == "low" for image in _images(prompt)):
        yield "image_url.detail"
    yield from _claude_sampling(prompt, model)


def _claude_sampling(prompt: Prompt, model: str) -> Iterator[str]:
    sampling = prompt.sampling
    chosen = [name for name in ("temperature", "top_p") if getattr(sampling, name) not in (None, 1)]
    if sampling.top_k is not None:
        chosen.append("top_k")
    if _CLAUDE_WITHOUT_SAMPLING.match(model):
        yield from chosen
    if sampling.temperature is not None and sampling.temperature > ANTHROPIC_TEMPERATURE_MAX:
        yield "temperature"
    if "temperature" in chosen and "top_p" in chosen:
        # Models from 4.1 on take one of the two.
        yield "top_p"


def _images(prompt: Prompt) -> Iterator[Image]:
    for message in prompt.messages:
        yield from (part for part in message.parts if isinstance(part, Image))
    yield from _images_of_results(prompt)


def _images_of_results(prompt: Prompt) -> Iterator[Image]:
    for message in prompt.messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                yield from (each for each in part.content if isinstance(each, Image))
