"""What an answer tells of its own quality, before anything is learned from it: pure.

Validators come first: an answer that fails one is wrong in form, whatever its tokens say. Then the
log-probabilities of the answer's tokens, and for labels the probability of the label itself; last what the
model says of itself. A signal that is not there is None, never a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from providers.types import ProviderReply, Token

# The schema is the caller's: nothing is fetched for it (an empty registry), and no regular expression of
# theirs is run, since one can keep the process busy for hours.
_IGNORED: dict[str, Any] = {"pattern": None, "patternProperties": None}
_Validator = extend(Draft202012Validator, _IGNORED)  # type: ignore[no-untyped-call]

_LABEL_TRIMMINGS = " \t\r\n\"'`*.,:;!()[]"


@dataclass(frozen=True, slots=True)
class Signals:
    """The raw signals of one answer, kept with its decision.

    Args:
        failed_check: the validator that the answer fails: `content_filter`, `empty`, `label`, `schema`.
        label_probability: of the chosen label among all labels, 0 to 1.
        mean_logprob, min_logprob, low_logprob: over the answer's tokens; `low` is the 10 % quantile.
        min_margin: the smallest lead of a chosen token over its best alternative, in log-probability.
        verbalized: how sure the model says it is, 0 to 1.
    """

    failed_check: str | None = None
    label_probability: float | None = None
    mean_logprob: float | None = None
    min_logprob: float | None = None
    low_logprob: float | None = None
    min_margin: float | None = None
    verbalized: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def signals_of(
    reply: ProviderReply, *, labels: Sequence[str], response_schema: Mapping[str, Any] | None
) -> Signals:
    """All signals that `reply` holds, for a request with these constraints."""
    tokens = reply.tokens or ()
    logprobs = sorted(token.logprob for token in tokens)
    margins = [margin for token in tokens if (margin := _margin(token)) is not None]
    label = match_label(reply.content, labels) if labels else None
    return Signals(
        failed_check=_failed_check(reply, labels, response_schema),
        label_probability=label_probability(tokens, labels, label) if label and tokens else None,
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        min_logprob=logprobs[0] if logprobs else None,
        low_logprob=logprobs[len(logprobs) // 10] if logprobs else None,
        min_margin=min(margins, default=None),
        verbalized=reply.verbalized,
    )


def match_label(content: str, labels: Iterable[str]) -> str | None:
    """The label that `content` is, but for case, quotes and punctuation around it; else None."""
    for label in labels:
        if content.strip() == label:
            return label
    return next((label for label in labels if plain_label(label) == plain_label(content)), None)


def plain_label(text: str) -> str:
    """`text` without case, and without quotes and punctuation around it."""
    return text.strip(_LABEL_TRIMMINGS).casefold()


def label_probability(tokens: Sequence[Token], labels: Sequence[str], chosen: str) -> float | None:
    """P(chosen | one of the labels), by the chain rule over the answer's tokens.

    At each token the alternatives that lead on to the chosen label are weighed against those that lead on
    to any label still possible, until the text can only become the chosen one:
    Π Σ p(alternatives → chosen) / Σ p(alternatives → labels). None where no alternative leads anywhere.
    """
    probability, text = 1.0, ""
    plain = {label: label.casefold() for label in labels}
    for token in tokens:
        alive = {label: plain[label] for label in _led_to(text, plain)}
        if list(alive) == [chosen] and text.strip():
            break
        if chosen not in alive:
            return None
        mass = reachable = 0.0
        for other, logprob in (dict(token.top) | {token.text: token.logprob}).items():
            if reached := _led_to(text + other, alive):
                reachable += exp(logprob)
                mass += exp(logprob) if chosen in reached else 0.0
        if reachable <= 0:
            return None
        probability *= mass / reachable
        text += token.text
    return min(probability, 1.0) if text.strip() else None


def _led_to(text: str, labels: Mapping[str, str]) -> list[str]:
    """Which labels (each with itself without case) an answer that begins with `text` can be, perhaps with
    punctuation after them."""
    begun = text.lstrip(_LABEL_TRIMMINGS).casefold()
    whole = begun.rstrip(_LABEL_TRIMMINGS)
    return [label for label, plain in labels.items() if plain.startswith(begun) or plain == whole]


def _margin(token: Token) -> float | None:
    others = [logprob for text, logprob in token.top if text != token.text]
    return token.logprob - max(others) if others else None


def _failed_check(
    reply: ProviderReply, labels: Sequence[str], response_schema: Mapping[str, Any] | None
) -> str | None:
    # An answer cut off at its length is no failure of its own: the large model would be cut off as well.
    if reply.finish_reason == "content_filter":
        return "content_filter"
    if not reply.content.strip() and reply.finish_reason != "tool_calls":
        return "empty"
    if labels and match_label(reply.content, labels) is None:
        return "label"
    if response_schema is not None and not _fits(response_schema, reply.parsed):
        return "schema"
    return None


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether `value` meets the caller's schema; nothing meets one that leads nowhere or in a circle."""
    try:
        return bool(_Validator(schema, registry=Registry()).is_valid(value))
    except (Unresolvable, RecursionError):
        return False
