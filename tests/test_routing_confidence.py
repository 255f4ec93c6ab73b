"""Raw signals and the confidence that they make."""

from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.types import ProviderReply, Token, Usage
from routing.confidence.calibration import confidence_of
from routing.confidence.signals import Signals, label_probability, match_label, signals_of


def token(text: str, probability: float, **others: float) -> Token:
    top = ((text, log(probability)), *((other, log(p)) for other, p in others.items()))
    return Token(text, log(probability), top)


def reply(content: str, **more: Any) -> ProviderReply:
    fixed: dict[str, Any] = {
        "content": content,
        "parsed": None,
        "finish_reason": "stop",
        "usage": Usage(input_total=1, output_total=1),
        "tokens": None,
        "verbalized": None,
        "request_id": None,
        "model": "m",
        "raw_usage": {},
    }
    return ProviderReply(**{**fixed, **more})


def confidence(answer: ProviderReply, **constraints: Any) -> tuple[float | None, str]:
    return confidence_of(signals_of(answer, **{"labels": (), "response_schema": None, **constraints}))


def test_a_labels_probability_is_its_share_of_what_leads_to_any_label() -> None:
    tokens = (token("A", 0.6, B=0.2, x=0.1),)
    assert label_probability(tokens, ["A", "B", "C"], "A") == pytest.approx(0.75)


def test_tokens_that_differ_in_case_or_space_lead_to_the_same_label() -> None:
    tokens = (token("A", 0.5, **{" A": 0.2, "a": 0.1, "B": 0.2}),)
    assert label_probability(tokens, ["A", "B"], "A") == pytest.approx(0.8)


def test_labels_that_begin_alike_are_told_apart_where_they_part() -> None:
    tokens = (token("comp", 0.9, spam=0.1), token("laint", 0.6, liment=0.4))
    probability = label_probability(tokens, ["complaint", "compliment", "spam"], "complaint")
    assert probability == pytest.approx(0.9 * 0.6)


def test_what_follows_the_label_does_not_count() -> None:
    tokens = (token("A", 0.8, B=0.2), token(".", 0.1, B=0.9))
    assert label_probability(tokens, ["A", "B"], "A") == pytest.approx(0.8)


def test_no_probability_where_no_alternative_leads_to_a_label() -> None:
    assert label_probability((token("x", 0.9),), ["A", "B"], "A") is None
    assert label_probability((), ["A", "B"], "A") is None
    assert label_probability((token(" ", 0.9),), ["A", "B"], "A") is None


@given(st.lists(st.floats(1e-6, 0.5), min_size=2, max_size=5))
def test_a_labels_probability_is_one(masses: list[float]) -> None:
    labels = [chr(ord("A") + at) for at in range(len(masses))]
    tokens = (token("A", masses[0], **dict(zip(labels[1:], masses[1:], strict=True))),)
    probability = label_probability(tokens, labels, "A")
    assert probability is not None and 0 <= probability <= 1
    assert probability == pytest.approx(masses[0] / sum(masses))


@pytest.mark.parametrize("content", ["B", " b ", '"B"', "B.", "**B**"])
def test_a_label_is_known_in_its_dress(content: str) -> None:
    assert match_label(content, ["A", "B"]) == "B"


@pytest.mark.parametrize("content", ["", "A or B", "AB", "I think B"])
def test_what_is_more_than_a_label_is_none(content: str) -> None:
    assert match_label(content, ["A", "B"]) is None


def test_a_label_with_punctuation_of_its_own_is_matched_exactly_first() -> None:
    assert match_label("(B)", ["B", "(B)"]) == "(B)"


@pytest.mark.parametrize(
    ("answer", "constraints", "failed"),
    [
        (reply("", verbalized=0.9), {}, "empty"),
        (reply("I cannot help", finish_reason="content_filter"), {}, "content_filter"),
        (reply("D"), {"labels": ("A", "B")}, "label"),
        (reply("{}", parsed={}), {"response_schema": {"type": "object", "required": ["x"]}}, "schema"),
        (reply("no json"), {"response_schema": {"type": "object"}}, "schema"),
    ],
)
def test_an_answer_that_is_wrong_in_form_has_no_confidence(
    answer: ProviderReply, constraints: dict[str, Any], failed: str
) -> None:
    assert confidence(answer, **constraints) == (0.0, f"failed_check:{failed}")


def test_the_labels_probability_goes_before_the_tokens_mean() -> None:
    answer = reply("A", tokens=(token("A", 0.6, B=0.2),), verbalized=0.99)
    value, method = confidence(answer, labels=("A", "B"))
    assert (value, method) == (pytest.approx(0.75), "uncalibrated:label_probability")


def test_free_text_has_the_mean_of_its_tokens() -> None:
    answer = reply(
        "so it is", tokens=(token("so", 0.9), token(" it", 0.4), token(" is", 0.8)), verbalized=0.99
    )
    value, method = confidence(answer)
    assert (value, method) == (pytest.approx(exp(log(0.9 * 0.4 * 0.8) / 3)), "uncalibrated:mean_logprob")


def test_without_log_probabilities_it_is_what_the_model_says() -> None:
    assert confidence(reply("A", verbalized=0.8), labels=("A",)) == (0.8, "uncalibrated:verbalized")


def test_no_signal_is_no_confidence_rather_than_full_or_none_at_all() -> None:
    assert confidence(reply("hello")) == (None, "none")


def test_all_raw_signals_are_kept() -> None:
    tokens = tuple(token("x", p, y=0.05) for p in (0.9, 0.5, 0.8, 0.7, 0.6, 0.9, 0.9, 0.9, 0.9, 0.3, 0.9))
    kept = signals_of(reply("text", tokens=tokens, verbalized=0.6), labels=(), response_schema=None).as_json()
    assert set(kept) == {"mean_logprob", "min_logprob", "low_logprob", "min_margin", "verbalized"}
    assert kept["min_logprob"] == pytest.approx(log(0.3))
    assert kept["low_logprob"] == pytest.approx(log(0.5))
    assert kept["min_margin"] == pytest.approx(log(0.3 / 0.05))
    assert Signals().as_json() == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
    ],
)
def test_a_schema_that_leads_nowhere_is_met_by_nothing_and_fetches_nothing(schema: dict[str, Any]) -> None:
    assert confidence(reply("{}", parsed={}), response_schema=schema) == (0.0, "failed_check:schema")


def test_no_regular_expression_of_the_callers_is_run() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    answer = reply("{}", parsed={"x": "a" * 60 + "!"}, verbalized=0.9)
    assert confidence(answer, response_schema=schema) == (0.9, "uncalibrated:verbalized")
