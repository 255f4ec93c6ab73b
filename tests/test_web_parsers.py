"""JSON from outside: read exactly, or refused with a reason; never a crash."""

import json
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from aigov.errors import BadRequest
from aigov.web.parsers import DEPTH_MAX, BodyTooLarge, InvalidJson, JsonParser, parse_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Every character but NUL and halves of pairs.
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=20,
)


def refusal(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_json(body)
    return caught.value


@given(values, st.booleans())
def test_what_json_can_say_is_read_as_it_is(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse_json(body)
    except InvalidJson as error:
        assert error.status == 400


@given(st.text(st.sampled_from('{}[]",:0123456789eE+-.\\u00dDabNIty nf'), max_size=60))
def test_what_looks_like_json_is_read_or_refused(text: str) -> None:
    try:
        value = parse_json(text.encode())
    except InvalidJson as error:
        assert error.status == 400
    else:
        assert json.loads(text) == value
        json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1} x', "Extra data"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 21 + b"}", "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"a": "\n"}', "control character"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, words: str) -> None:
    error = refusal(body)
    assert words in error.message
    assert (error.status, error.code) == (400, "invalid_json")


def test_a_field_that_is_there_twice_is_named() -> None:
    assert refusal(b'{"a": {"b": 1, "c": 2, "b": 1}}').param == "b"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (rb'{"messages": [{"role": "user", "content": "a\u0000b"}]}', "messages[0].content"),
        (rb'{"messages": [{}, {"content": "\ud83d"}]}', "messages[1].content"),
        (rb'{"metadata": {"a\u0000": 1}}', "metadata"),
        (rb'["\u0000"]', "[0]"),
        (rb'"\u0000"', None),
        (rb'{"\udfff": 1}', None),
    ],
)
def test_text_that_cannot_be_stored_is_refused_by_its_place(body: bytes, param: str | None) -> None:
    error = refusal(body)
    assert "stored" in error.message
    assert error.param == param


def test_a_whole_pair_of_surrogates_is_one_character() -> None:
    assert parse_json(rb'["\ud83d\ude00"]') == ["\N{GRINNING FACE}"]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_a_limit(opening: str, closing: str) -> None:
    def nested(depth: int) -> bytes:
        return (opening * depth + "1" + closing * depth).encode()

    assert parse_json(nested(DEPTH_MAX))
    for depth in (DEPTH_MAX + 1, 500, 100_000):
        assert "nested deeper" in refusal(nested(depth)).message


def test_brackets_in_text_are_not_nesting() -> None:
    assert parse_json(json.dumps("[" * 1000).encode()) == "[" * 1000


def test_a_body_has_a_largest_size() -> None:
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        assert parse_json(b'"' + b"x" * 98 + b'"')
        error = refusal(b'"' + b"x" * 99 + b'"')
    assert isinstance(error, BodyTooLarge)
    assert (error.status, error.code) == (413, "request_too_large")


def test_drf_reads_json_and_leaves_the_body_readable() -> None:
    request = RequestFactory().post("/", b'{"a": 1}', content_type="application/json")
    assert JsonParser().parse(request, parser_context={"request": request}) == {"a": 1}
    assert request.body == b'{"a": 1}'
