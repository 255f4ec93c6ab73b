"""Text cut into pieces as a tokenizer would: about four characters each, and joined they are the text."""

import re
from dataclasses import dataclass
from functools import lru_cache

import pydantic_core

PIECE = re.compile(r" ?[^\W\d_]{1,6}|\d{1,3}| ?[^\w\s]{1,3}|[^\S\n]+|\s+|\w")

#: Likely other words at a place in running text; a token's own text is passed over.
COMMON = (
    " the", " a", " and", " to", " of", " in", " is", " for", " we", " you", " your", " our",
    " die", " der", " und", " das", " wir", " Ihr", " mit", " zu", ",", ".", "\n", " that",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an answer with its probability, and the other texts that were likely there.

    `rivals` (text, probability) are sorted downwards; None stands for running text, whose rivals
    are made up only where somebody asks for them.
    """

    text: str
    probability: float
    rivals: tuple[tuple[str, float], ...] | None = None


@lru_cache(maxsize=8192)
def split(text: str) -> tuple[str, ...]:
    """The pieces of `text`; `"".join(split(text)) == text`."""
    return tuple(PIECE.findall(text))


def estimate(text: str) -> int:
    """About how many tokens `text` has; never more than it has characters, so never more than its bytes."""
    return (len(text) + 3) // 4


def prompt_tokens(texts: list[str]) -> int:
    """About how many tokens a prompt of these message texts has: at least 1, at most its UTF-8 bytes."""
    guess = sum(estimate(text) + 3 for text in texts)
    return max(1, min(guess, sum(len(text.encode()) for text in texts)))


def most_likely(token: Token, count: int) -> list[tuple[str, float]]:
    """The `count` likeliest texts at this place with their probabilities, downwards; their sum is ≤ 1."""
    rivals = token.rivals if token.rivals is not None else _running_text_rivals(token, count)
    entries = [(token.text, token.probability), *rivals]
    entries.sort(key=lambda entry: -entry[1])
    return entries[:count]


def _running_text_rivals(token: Token, count: int) -> list[tuple[str, float]]:
    """What is left of the probability, halved from word to word, and never above the token's own."""
    left = 1.0 - token.probability
    rivals = []
    for text in COMMON[: count + 1]:
        if text != token.text:
            share = min(left * 0.5, token.probability)
            rivals.append((text, share))
            left -= share
    return rivals


#: JSON without spaces, as models write it and both providers send it; and back (raises ValueError).
#: pydantic's, which both SDKs bring along, are three times as fast as the standard library's.
encode = pydantic_core.to_json
decode = pydantic_core.from_json


def json_text(value: object) -> str:
    """`value` as JSON text."""
    return encode(value).decode()
