"""The keys that exist, and what a declaration must keep to."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from aigov.registry import keys
from aigov.registry.json_values import InvalidValue
from aigov.registry.keys import Key, UnknownKey, all_keys, check_value, find, register


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_KEYS", {})


def key(**changes: Any) -> Key:
    declared = {
        "name": "test.threshold",
        "type": "number",
        "scopes": ("organization",),
        "default": 0.7,
        "description": "A threshold.",
        "schema": {"minimum": 0, "maximum": 1},
    }
    return Key(**{**declared, **changes})


def test_a_registered_key_is_found() -> None:
    declared = register(key())
    assert find("test.threshold") is declared
    assert all_keys() == {"test.threshold": declared}


def test_keys_come_in_the_order_of_their_names() -> None:
    for name in ("test.b", "test.c", "test.a"):
        register(key(name=name))
    assert list(all_keys()) == ["test.a", "test.b", "test.c"]


def test_registering_a_key_again_is_harmless_but_another_of_its_name_is_not() -> None:
    register(register(key()))
    with pytest.raises(ImproperlyConfigured, match="test.threshold: registered twice"):
        register(key())


def test_an_unknown_key_is_not_found() -> None:
    with pytest.raises(UnknownKey) as missing:
        find("test.nothing")
    assert missing.value.status == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "threshold"},
        {"name": "Test.Threshold"},
        {"name": "test." + "x" * 80},
        {"scopes": ()},
        {"scopes": ("planet",)},
        {"merge": "merge"},
        {"merge": "append", "type": "object", "default": {}, "schema": {}},
        {"merge": "append", "type": "array", "default": [], "schema": {}, "nullable": True},
        {"members": "money"},
        {"type": "money", "default": 1},
        {"type": "array", "members": "money", "default": [], "schema": {"items": {"minimum": 5}}},
        {"schema": {"type": "nonsense"}},
        {"default": 2},
        {"default": None},
    ],
)
def test_a_contradictory_declaration_stops_the_start(changes: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match="^Setting "):
        register(key(**changes))
    assert all_keys() == {}


def test_a_key_describes_itself_as_a_json_schema() -> None:
    assert key().json_schema == {"type": "number", "minimum": 0, "maximum": 1}
    assert key(type="integer", default=None, nullable=True, schema={}).json_schema == {
        "type": ["integer", "null"]
    }


def test_a_value_keeps_to_the_schema_of_the_key() -> None:
    check_value(key(), 1)
    with pytest.raises(InvalidValue, match="1.5 is greater than the maximum of 1"):
        check_value(key(), 1.5)


@pytest.mark.parametrize(
    ("changes", "is_money"),
    [
        ({}, False),
        ({"type": "money", "schema": {}, "default": "1"}, True),
        ({"type": "object", "members": "money", "schema": {}, "default": {}}, True),
    ],
)
def test_a_key_knows_whether_it_is_about_money(changes: dict[str, Any], is_money: bool) -> None:
    assert register(key(**changes)).is_money is is_money
