"""The types of settings: which JSON they take, and what Python makes of it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigov.money import EURO_MAX, NANO_EURO
from aigov.registry.json_values import (
    DURATION_MAX,
    INTEGER_MAX,
    VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX,
    InvalidValue,
    Type,
    check,
    compile_schema,
    full_schema,
    is_storable,
    parse_duration,
    parse_money,
    path_text,
    read,
)


def checked(type_: Type, value: Any, **schema: Any) -> Any:
    check(compile_schema(full_schema(type_, members=None, nullable=False, schema=schema)), value)
    return read(type_, value)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT30M", timedelta(minutes=30)),
        ("PT8H", timedelta(hours=8)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("P2W", timedelta(weeks=2)),
        ("PT0S", timedelta(0)),
        ("PT0.000001S", timedelta(microseconds=1)),
        ("P3660D", DURATION_MAX),
    ],
)
def test_durations_are_read(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length
    assert checked("duration", text) == length


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "30M",
        "PT30",
        "P1Y",
        "P1M",
        "PT1H1H",
        "PT1M1H",
        "P1W1D",
        "-PT1M",
        "PT-1M",
        "pt1m",
    ]
    + ["PT1.5H", "PT1S\n", " PT1S", "PT٣S", "P3660DT1S", "P99999W", "PT0.0000001S"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration|longer"):
        parse_duration(text)
    with pytest.raises(InvalidValue):
        checked("duration", text)


@given(st.timedeltas(min_value=timedelta(0), max_value=DURATION_MAX))
def test_every_duration_in_bounds_can_be_written(length: timedelta) -> None:
    text = f"P{length.days}DT{length.seconds}.{length.microseconds:06}S"
    assert parse_duration(text) == length


@given(st.decimals(min_value=0, max_value=EURO_MAX, places=9))
def test_money_as_text_is_exact(amount: Decimal) -> None:
    assert checked("money", f"{amount:f}") == amount


@given(st.integers(min_value=0, max_value=999_999_999), st.integers(min_value=0, max_value=999_999))
def test_money_as_a_number_is_exact_or_refused(euro: int, micro: int) -> None:
    written = f"{euro}.{micro:06}"
    assert checked("money", float(written)) == Decimal(written)
    assert checked("money", euro) == euro


def test_money_has_nine_places() -> None:
    assert parse_money(1000).as_tuple().exponent == NANO_EURO.as_tuple().exponent
    assert parse_money("0.000000001") == NANO_EURO
    assert str(parse_money(-0.0)) == "0E-9"


@pytest.mark.parametrize(
    "value",
    ["", "1e3", "-1", "+1", " 1", "1 ", "1\n", "1.", ".5", "1,5", "NaN", "١", "0.0000000001", "1000000000"]
    + [-1, -0.01, 1e9, 1e300, 1e-10, 999999999.9999999, 123456789.123456789, 10**12, True, None, [], {}],
)
def test_what_is_no_money_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        checked("money", value)
    assert refused.value.param == "value"
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("type_", "value", "python"),
    [
        ("number", 1, 1.0),
        ("number", 0.7, 0.7),
        ("integer", 3, 3),
        ("string", "ä", "ä"),
        ("boolean", False, False),
        ("array", [1, [2]], (1, (2,))),
        ("object", {"a": {"b": [1]}}, {"a": {"b": (1,)}}),
    ],
)
def test_a_value_of_each_type_is_read(type_: Type, value: Any, python: Any) -> None:
    result = checked(type_, value)
    assert result == python
    assert type(result) is not list


@pytest.mark.parametrize(
    ("type_", "value"),
    [("number", True), ("number", "1"), ("integer", 1.5), ("integer", True), ("string", 1), ("boolean", 0)]
    + [("array", {}), ("object", []), ("duration", 30), ("string", None)],
)
def test_a_value_of_another_type_is_refused(type_: Type, value: Any) -> None:
    with pytest.raises(InvalidValue):
        checked(type_, value)


def test_what_is_read_cannot_be_altered() -> None:
    value = checked("object", {"small": {"name": "x"}})
    with pytest.raises(TypeError):
        value["small"] = 1
    with pytest.raises(TypeError):
        value["small"]["name"] = "y"


def test_members_have_a_type_of_their_own() -> None:
    validator = compile_schema(full_schema("object", members="money", nullable=False, schema={}))
    check(validator, {"triage": 12.5, "chat": "0.000000001"})
    with pytest.raises(InvalidValue) as refused:
        check(validator, {"triage": 1, "chat": -1})
    assert refused.value.param == "value.chat"
    assert read("object", {"triage": 12.5}, members="money") == {"triage": Decimal("12.5")}
    assert read("array", ["PT1M"], members="duration") == (timedelta(minutes=1),)


def test_what_a_key_adds_for_members_does_not_loosen_their_type() -> None:
    schema = full_schema("array", members="string", nullable=False, schema={"items": {"minLength": 2}})
    assert schema["items"] == {"type": "string", "minLength": 2}
    validator = compile_schema(schema)
    check(validator, ["ab"])
    for wrong in (["a"], [7]):
        with pytest.raises(InvalidValue):
            check(validator, wrong)


def test_null_is_a_value_only_where_it_is_said() -> None:
    validator = compile_schema(full_schema("money", members=None, nullable=True, schema={}))
    check(validator, None)
    assert read("money", None) is None
    with pytest.raises(InvalidValue):
        check(validator, "null")


def test_an_error_names_the_path_in_the_value() -> None:
    schema = {"additionalProperties": {"type": "array", "items": {"type": "string"}}}
    with pytest.raises(InvalidValue) as refused:
        checked("object", {"support": [7]}, **schema)
    assert refused.value.param == "value.support[0]"
    assert refused.value.message.startswith("value.support[0]: ")
    assert refused.value.code == "invalid_value"


def test_paths_with_unusual_names_are_quoted() -> None:
    assert path_text(()) == "value"
    assert path_text(("a", 0, "b c", "d.e")) == 'value.a[0]["b c"]["d.e"]'


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(VALUE_DEPTH_MAX + 1),
        [float("nan")],
        [float("inf")],
        [INTEGER_MAX + 1],
        ["\x00"],
        ["\ud800"],
        [{"\x00": 1}],
        ["x" * VALUE_BYTES_MAX],
    ],
    ids=["deep", "nan", "infinite", "huge", "nul", "surrogate", "nul in a name", "long"],
)
def test_what_cannot_be_stored_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        checked("array", value)
    assert len(refused.value.message) <= 300


def test_the_limits_themselves_are_allowed() -> None:
    checked("array", nested(VALUE_DEPTH_MAX))
    checked("array", [INTEGER_MAX, -INTEGER_MAX])
    checked("string", "x" * (VALUE_BYTES_MAX - 2))


@pytest.mark.parametrize(("text", "storable"), [("ä€😀", True), ("a\x00", False), ("\udfff", False)])
def test_text_that_the_database_holds(text: str, storable: bool) -> None:
    assert is_storable(text) is storable
