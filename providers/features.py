"""What a provider cannot honour of a prompt: such a provider is left out, and nothing is silently dropped."""

from providers.types import Prompt


def unsupported(provider: str, prompt: Prompt) -> str | None:
    """The parameter of `prompt` that `provider` does not have; None: it honours everything."""
    sampling = prompt.sampling
    lacks = {
        "openai": {"top_k": sampling.top_k},
        "anthropic": {
            "logprobs": prompt.top_logprobs,
            "seed": sampling.seed,
            "frequency_penalty": sampling.frequency_penalty,
            "presence_penalty": sampling.presence_penalty,
        },
    }
    return next((name for name, value in lacks.get(provider, {}).items() if value is not None), None)
