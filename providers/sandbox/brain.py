"""What a model of a given size would answer, and how sure it would be of it.

The words of a text give each label a score (`tasks`); each model then mishears: a bell-shaped error, fixed
by the text, the model and the label, is added to the score, a larger one for a small model. The answer
is the label that is then ahead, and its probability comes from the lead. So a model errs where the case is
close, its probability tells something, and the small one, which does not know how large its error is,
is surer of itself than it should be. Nothing is random: the same question gets the same answer.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Literal

from providers.sandbox import prose, schemas, tasks, tokens
from providers.sandbox.catalogue import Model, Size
from providers.sandbox.tokens import Token
from providers.sandbox.tools import ToolCall


@dataclass(frozen=True, slots=True)
class Temper:
    """How a model of one size is: its error, how sharply it sees a lead, and its text's probabilities."""

    error: float
    sharpness: float
    token_probability: tuple[float, float]
    asserted: float


TEMPERS: dict[Size, Temper] = {
    "small": Temper(error=1.0, sharpness=2.4, token_probability=(0.70, 0.97), asserted=0.20),
    "large": Temper(error=0.60, sharpness=2.6, token_probability=(0.84, 0.99), asserted=0.40),
}
#: The part of the probability that goes to texts which are no label at all.
STRAY = 0.004
SURE = 0.9999
REFUSAL = "I'm sorry, but I can't assist with that request."


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that an answer hangs on.

    Args:
        calls: the tools that it calls, instead of answering in words.
        schema: JSON text that the answer has to fit.
        json_object: whether it has to be some JSON object.
        reasoning: tokens that are spent before the answer; they count towards `output_tokens_max`.
        length: a wished number of tokens.
        refused: whether it declines to answer.
        sample: which of several answers to the same question this is.
    """

    model: Model
    system: str
    text: str
    calls: tuple[ToolCall, ...] = ()
    schema: str | None = None
    json_object: bool = False
    stop: tuple[str, ...] = ()
    output_tokens_max: int = 4096
    reasoning: int = 0
    confidence: float | None = None
    content: str | None = None
    length: int | None = None
    refused: bool = False
    sample: int = 0

    @property
    def seed(self) -> str:
        """What the model's errors are fixed by, besides the model itself."""
        return f"{self.text}|{self.sample}" if self.sample else self.text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says and calls.

    Args:
        tokens: joined they are the text, or where it is `refused`, the words of the refusal.
        output_tokens: what is billed.
        stopped_at: the stop text that was met.
    """

    tokens: tuple[Token, ...]
    finish: Literal["stop", "length", "tool_calls", "refusal"]
    output_tokens: int
    calls: tuple[ToolCall, ...] = ()
    refused: bool = False
    reasoning_tokens: int = 0
    stopped_at: str | None = None

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


#: A refusal: billed, and empty.
NOTHING = Answer(tokens=(), finish="refusal", output_tokens=1)


@lru_cache(maxsize=4096)
def answer(question: Question) -> Answer:
    """The answer of `question.model`; the same for the same question, always."""
    spoken, stopped_at = _stopped(_spoken(question), question.stop)
    room = max(0, question.output_tokens_max - question.reasoning)
    reasoning = min(question.reasoning, question.output_tokens_max)
    kept = spoken[:room]
    calls = () if question.refused else _fitting(question.calls, room - len(kept))
    cut = len(spoken) > room or calls != question.calls and not question.refused
    said = len(kept) + sum(call.output_tokens for call in calls)
    return Answer(
        tokens=kept,
        finish="length" if cut else "tool_calls" if calls else "stop",
        output_tokens=reasoning + min(room, max(1, said)),
        calls=calls,
        refused=question.refused,
        reasoning_tokens=reasoning,
        stopped_at=None if cut else stopped_at,
    )


def _fitting(calls: tuple[ToolCall, ...], room: int) -> tuple[ToolCall, ...]:
    """As many of `calls` as `room` tokens hold; of the last one perhaps only the arguments' beginning."""
    kept = []
    for call in calls:
        left = room - call.head_tokens
        if left < 0:
            break
        kept.append(call if len(call.pieces) <= left else ToolCall(call.name, "".join(call.pieces[:left])))
        room = left - len(kept[-1].pieces)
    return tuple(kept)


def label_probabilities(
    text: str, labels: tuple[str, ...], model: Model, *, seed: str | None = None
) -> list[float]:
    """How probable `model` finds each of `labels` for `text`; they sum to 1. `seed` fixes its errors."""
    seed = text if seed is None else seed
    temper = TEMPERS[model.size]
    heard = [
        temper.sharpness * (math.log1p(score) + temper.error * _error(f"{model.name}|{label}|{seed}"))
        for label, score in zip(labels, tasks.scores(text, labels), strict=True)
    ]
    top = max(heard)
    weights = [math.exp(one - top) for one in heard]
    total = sum(weights)
    return [weight / total for weight in weights]


def _error(key: str) -> float:
    """A draw from the standard normal distribution, fixed by `key` (Box and Muller's transform)."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    first = (int.from_bytes(digest[:4], "big") + 1) / 2**32
    second = int.from_bytes(digest[4:], "big") / 2**32
    return math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)


def _spoken(question: Question) -> tuple[Token, ...]:
    """The whole text of the answer, before any limit."""
    if question.refused:
        return _prose(REFUSAL, question)
    if question.content is not None:
        return _prose(question.content, question)
    if question.calls:
        return ()
    if question.length is not None:
        text = prose.padded(prose.write(question.system, question.text), question.length)
        return _prose(text, question)[: question.length]
    schema = tokens.decode(question.schema) if question.schema else schemas.schema_in(question.system)
    if schema is not None:
        return _structured(question, schema)
    labels = tasks.labels_in(question.system) or tasks.labels_in(question.text)
    if question.json_object:
        return _structured(question, _some_object(labels))
    if labels:
        return _label(labels, question)
    return _prose(prose.write(question.system, question.text), question)


def _some_object(labels: tuple[str, ...]) -> schemas.Schema:
    """What an answer looks like that has to be JSON, and nobody says which."""
    answer = {"enum": list(labels)} if labels else {"type": "string"}
    return {"type": "object", "properties": {"answer": answer}}


def _structured(question: Question, schema: schemas.Schema) -> tuple[Token, ...]:
    """A JSON text that fits `schema`; a confidence in it speaks for the first choice, or the text."""
    text = prose.write(question.system, question.text)
    labels = schemas.labels_of(schema)
    sure = _said_confidence(labels, text, question)
    spoken: list[Token] = []
    for piece in schemas.fill(schema, text=text, question=question.text):
        if piece.kind == "choice":
            spoken += _label(piece.labels, question)
        elif piece.kind == "prose":
            spoken += _prose(piece.text, question)
        else:
            fixed = f"{sure:.2f}" if piece.kind == "confidence" else piece.text
            spoken += [Token(part, SURE) for part in tokens.split(fixed)]
    return tuple(spoken)


def _said_confidence(labels: tuple[str, ...], text: str, question: Question) -> float:
    """What the model says when it is asked how sure it is."""
    if question.confidence is not None:
        return question.confidence
    if labels:
        shares = label_probabilities(question.text, labels, question.model, seed=question.seed)
        probability = max(shares)
    else:
        spoken = _prose(text, question)
        probability = sum(token.probability for token in spoken) / max(1, len(spoken))
    return _asserted(probability, TEMPERS[question.model.size])


def _asserted(probability: float, temper: Temper) -> float:
    """What a model says of itself when asked: more than it knows, and never very little."""
    return temper.asserted + (0.99 - temper.asserted) * probability


def _label(labels: tuple[str, ...], question: Question) -> tuple[Token, ...]:
    """The answered label's tokens; each token's rivals are the tokens of the other labels."""
    shares = label_probabilities(question.text, labels, question.model, seed=question.seed)
    ahead = shares.index(max(shares))
    if question.confidence is None:
        shares = [share * (1 - STRAY) for share in shares]
    elif len(labels) > 1:
        shares = _forced(shares, ahead, question.confidence)
    ways = [(tokens.split(label), share) for label, share in zip(labels, shares, strict=True)]
    said = ways[ahead][0]
    spoken = []
    for place, piece in enumerate(said):
        open_ways = [way for way in ways if way[0][:place] == said[:place] and len(way[0]) > place]
        spoken.append(_branch(piece, place, open_ways))
    return tuple(spoken)


def _forced(shares: list[float], ahead: int, confidence: float) -> list[float]:
    """`shares` with `confidence` for the label that is ahead, the rest shared out among the others."""
    others = 1.0 - shares[ahead]
    if others <= 0:
        even = (1.0 - confidence) / (len(shares) - 1)
        return [confidence if place == ahead else even for place in range(len(shares))]
    scale = (1.0 - confidence) / others
    return [confidence if place == ahead else share * scale for place, share in enumerate(shares)]


def _branch(piece: str, place: int, ways: list[tuple[tuple[str, ...], float]]) -> Token:
    """The token `piece` at `place`, with what the labels in `ways` would say there instead."""
    mass: dict[str, float] = {}
    for parts, share in ways:
        mass[parts[place]] = mass.get(parts[place], 0.0) + share
    # At the first place a little goes to texts that are no label; later ones are given that there is one.
    total = sum(mass.values()) if place else 1.0
    shares = {text: share / total for text, share in mass.items()} if total else dict.fromkeys(mass, 1.0)
    stray = max(0.0, 1.0 - sum(shares.values())) / 2
    rivals = [(text, share) for text, share in shares.items() if text != piece]
    rivals += [(text, stray) for text in (f" {piece}", "\n") if stray > 0]
    return Token(piece, shares[piece], tuple(sorted(rivals, key=lambda rival: -rival[1])))


def _prose(text: str, question: Question) -> tuple[Token, ...]:
    """Running text: each token's probability lies in a band that the question fixes."""
    parts = tokens.split(text)
    if question.confidence is not None:
        return tuple(Token(part, question.confidence) for part in parts)
    low, high = _band(question)
    digest = blake2b(f"{question.model.name}{question.seed}".encode()).digest()
    return tuple(
        Token(part, low + (high - low) * digest[place % 64] / 255) for place, part in enumerate(parts)
    )


def _band(question: Question) -> tuple[float, float]:
    """The least and the greatest probability of a token, by how well this model fares with this text."""
    low, high = TEMPERS[question.model.size].token_probability
    luck = 1 / (1 + math.exp(-1.5 * _error(f"{question.model.name}|prose|{question.seed}") - 1))
    return low - 0.15 + 0.3 * luck * (1 - low), low + (high - low) * luck


def _stopped(spoken: tuple[Token, ...], stop: tuple[str, ...]) -> tuple[tuple[Token, ...], str | None]:
    """`spoken` up to the first of the `stop` texts in it, and that text."""
    text = "".join(token.text for token in spoken)
    found = [(text.index(one), one) for one in stop if one and one in text]
    if not found:
        return spoken, None
    end, which = min(found)
    kept = [
        (token, finish - end)
        for token, finish in zip(spoken, accumulate(len(token.text) for token in spoken), strict=True)
        if finish - len(token.text) < end
    ]
    whole = tuple(token for token, over in kept if over <= 0)
    cut = tuple(
        Token(token.text[:-over], token.probability, token.rivals) for token, over in kept if over > 0
    )
    return whole + cut, which
