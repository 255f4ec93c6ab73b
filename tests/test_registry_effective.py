"""Which value applies: the laws of replace, merge and append, and what happens to what is not usable."""

import itertools
import logging
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigov.errors import BudgetUnavailable
from aigov.registry import effective
from aigov.registry.effective import (
    Settings,
    StaleSettings,
    StoredValue,
    Subject,
    append_arrays,
    combine,
    merge_objects,
)
from aigov.registry.keys import SCOPES, Key, UnknownKey

KEYS = {
    key.name: key
    for key in (
        Key(name="test.number", type="number", scopes=SCOPES, default=0.7, description=""),
        Key(name="test.cap", type="money", scopes=SCOPES, default=1000, description=""),
        Key(name="test.own", type="integer", scopes=("organization",), default=1, description=""),
        Key(name="test.wait", type="duration", scopes=SCOPES, default="PT30M", description=""),
        Key(
            name="test.models", type="object", scopes=SCOPES, default={"s": 1}, merge="merge", description=""
        ),
        Key(name="test.list", type="array", scopes=SCOPES, default=["a"], merge="append", description=""),
        Key(
            name="test.caps",
            type="object",
            members="money",
            scopes=SCOPES,
            default={},
            merge="merge",
            description="",
        ),
    )
}
TENANT, OTHER_TENANT, ORGANIZATION, SIBLING, STRANGER = 1, 2, 10, 11, 20
TENANTS = {ORGANIZATION: TENANT, SIBLING: TENANT, STRANGER: OTHER_TENANT}
SUBJECTS = {
    "global": Subject("global"),
    "tenant": Subject("tenant", TENANT),
    "organization": Subject("organization", ORGANIZATION),
    "user": Subject("user", ORGANIZATION, "u-1"),
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)
arrays = st.lists(json_values, max_size=4)


def settings(values: Mapping[tuple[str, Subject], Any]) -> Settings:
    stored = (StoredValue(key, subject, value) for (key, subject), value in values.items())
    return Settings(stored, tenants=TENANTS, version=7, keys=KEYS)


def set_in(scopes: Mapping[str, Any], key: str = "test.number") -> Settings:
    return settings({(key, SUBJECTS[scope]): value for scope, value in scopes.items()})


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    effective._warn_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="aigov.registry")
    return caplog


def test_the_default_applies_where_nothing_is_set() -> None:
    applying = settings({}).effective("test.number", organization_id=ORGANIZATION)
    assert (applying.value_json, applying.value, applying.source) == (0.7, 0.7, "default")


@pytest.mark.parametrize("scopes", [some for n in range(1, 5) for some in itertools.combinations(SCOPES, n)])
def test_the_narrowest_value_replaces_all_wider_ones(scopes: tuple[str, ...]) -> None:
    state = set_in({scope: SCOPES.index(scope) for scope in scopes})
    applying = state.effective("test.number", organization_id=ORGANIZATION, user="u-1")
    assert applying.source == scopes[-1]
    assert applying.value == SCOPES.index(scopes[-1])


def test_a_value_reaches_its_own_subject_alone() -> None:
    state = set_in({"tenant": 1, "organization": 2, "user": 3})
    assert state.value("test.number", organization_id=ORGANIZATION, user="u-1") == 3
    assert state.value("test.number", organization_id=ORGANIZATION, user="u-2") == 2
    assert state.value("test.number", organization_id=ORGANIZATION) == 2
    assert state.value("test.number", organization_id=SIBLING, user="u-1") == 1
    assert state.value("test.number", organization_id=STRANGER, user="u-1") == 0.7
    assert state.value("test.number", organization_id=None) == 0.7


def test_the_same_number_of_another_scope_is_another_subject() -> None:
    state = settings({("test.number", Subject("tenant", ORGANIZATION)): 5})
    assert state.value("test.number", organization_id=ORGANIZATION) == 0.7


def test_a_value_changes_its_own_key_alone() -> None:
    state = set_in({"global": 5})
    assert state.value("test.cap", organization_id=ORGANIZATION) == Decimal(1000)


def test_values_are_python_values() -> None:
    state = settings({("test.caps", Subject("global")): {"triage": 0.1}})
    assert state.value("test.cap", organization_id=ORGANIZATION) == Decimal(1000)
    assert isinstance(state.value("test.cap", organization_id=ORGANIZATION), Decimal)
    assert state.value("test.caps", organization_id=ORGANIZATION) == {"triage": Decimal("0.1")}
    assert state.value("test.wait", organization_id=ORGANIZATION) == timedelta(minutes=30)


def test_objects_are_merged_member_by_member() -> None:
    state = set_in({"global": {"s": 2, "t": {"x": 1, "y": 1}}, "user": {"t": {"y": 2}}}, "test.models")
    applying = state.effective("test.models", organization_id=ORGANIZATION, user="u-1")
    assert applying.value_json == {"s": 2, "t": {"x": 1, "y": 2}}
    assert applying.source == "user"
    assert state.effective("test.models", organization_id=ORGANIZATION).source == "global"


def test_arrays_are_appended_each_item_once() -> None:
    state = set_in({"tenant": ["b", "a"], "organization": [1, True, "b"]}, "test.list")
    applying = state.effective("test.list", organization_id=ORGANIZATION)
    assert applying.value_json == ["a", "b", 1, True]
    assert [type(item) for item in applying.value] == [str, str, int, bool]
    assert applying.source == "organization"


@given(objects, objects)
def test_merging_is_idempotent_and_the_narrower_wins(wide: Any, narrow: Any) -> None:
    merged = merge_objects(wide, narrow)
    assert merge_objects(merged, narrow) == merged
    assert merge_objects(wide, wide) == wide
    assert set(merged) == set(wide) | set(narrow)
    for name in merged:
        if name not in narrow:
            assert merged[name] == wide[name]
        elif not isinstance(narrow[name], dict):
            assert merged[name] == narrow[name]


@given(objects, objects, objects)
def test_merging_is_associative_and_leaves_its_arguments_alone(a: Any, b: Any, c: Any) -> None:
    before = repr((a, b, c))
    # An object over something that is none replaces it, so the laws hold where the shapes agree.
    shapes_agree = merge_objects(merge_objects(a, b), c) == merge_objects(a, merge_objects(b, c))
    assert shapes_agree or any(_differs_in_shape(x, y) for x, y in ((a, b), (b, c), (a, c)))
    assert repr((a, b, c)) == before


def _differs_in_shape(one: Any, other: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return isinstance(one, dict) != isinstance(other, dict)
    return any(_differs_in_shape(one[name], other[name]) for name in one.keys() & other.keys())


@given(arrays, arrays)
def test_appending_is_idempotent_and_keeps_the_order(wide: Any, narrow: Any) -> None:
    whole = append_arrays(wide, narrow)
    assert append_arrays(whole, narrow) == whole
    assert append_arrays(whole, wide) == whole
    assert whole[: len(append_arrays(wide, []))] == append_arrays(wide, [])
    assert len({repr(item) for item in whole}) <= len(wide) + len(narrow)
    assert all(item in whole for item in [*wide, *narrow])


@given(st.lists(st.tuples(st.sampled_from(SCOPES), arrays), max_size=4))
def test_the_source_is_that_of_the_narrowest_layer(layers: list[Any]) -> None:
    value, source = combine(KEYS["test.list"], [("default", ["a"]), *layers])
    assert source == (layers[-1][0] if layers else "default")
    assert value[0] == "a"


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UnknownKey):
        settings({}).value("test.nothing", organization_id=ORGANIZATION)


def test_an_organization_younger_than_the_state_is_refused_until_it_is_loaded_anew() -> None:
    state = settings({})
    assert not state.knows(99)
    assert state.knows(ORGANIZATION)
    with pytest.raises(StaleSettings) as refused:
        state.value("test.cap", organization_id=99)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)


def test_a_stored_value_that_is_not_allowed_gives_way_to_the_next_wider(
    warned: pytest.LogCaptureFixture,
) -> None:
    state = set_in({"tenant": 0.5, "organization": "much"})
    applying = state.effective("test.number", organization_id=ORGANIZATION)
    assert (applying.value, applying.source) == (0.5, "tenant")
    assert "test.number (organization 10)" in warned.text


def test_a_defect_is_logged_once_and_not_at_each_loading(warned: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        set_in({"organization": "much"}).value("test.number", organization_id=ORGANIZATION)
    assert len(warned.records) == 1


@pytest.mark.parametrize(
    ("key", "bad"), [("test.cap", "much"), ("test.cap", -1), ("test.caps", {"triage": "much"})]
)
def test_money_that_is_not_allowed_refuses_those_whom_it_concerns_and_nobody_else(
    key: str, bad: Any, warned: pytest.LogCaptureFixture
) -> None:
    state = set_in({"organization": bad}, key)
    with pytest.raises(BudgetUnavailable, match=r"organization 10.*not allowed"):
        state.value(key, organization_id=ORGANIZATION)
    assert state.value(key, organization_id=SIBLING) == KEYS[key].default


def test_money_that_is_not_allowed_does_no_harm_where_a_narrower_value_replaces_it() -> None:
    state = set_in({"global": "much", "organization": 5}, "test.cap")
    assert state.value("test.cap", organization_id=ORGANIZATION) == 5
    with pytest.raises(BudgetUnavailable):
        state.value("test.cap", organization_id=STRANGER)


def test_what_no_key_knows_is_ignored_and_logged(warned: pytest.LogCaptureFixture) -> None:
    state = settings(
        {("test.gone", Subject("global")): 1, ("test.own", Subject("tenant", TENANT)): 5}  # not a scope of it
    )
    assert state.value("test.own", organization_id=ORGANIZATION) == 1
    assert "test.gone (global)" in warned.text
    assert "test.own (tenant 1)" in warned.text


def test_a_value_is_computed_once_for_all_users_without_values_of_their_own() -> None:
    state = set_in({"user": 3})
    first = state.effective("test.number", organization_id=ORGANIZATION, user="u-2")
    assert state.effective("test.number", organization_id=ORGANIZATION, user="u-3") is first
    assert state.effective("test.number", organization_id=ORGANIZATION) is first


def test_the_memory_of_computed_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effective, "MEMO_MAX", 2)
    state = settings({})
    for name in KEYS:
        assert state.effective(name, organization_id=ORGANIZATION).source == "default"
        assert len(state._memo) <= 2


def test_a_subject_reaches_its_organizations() -> None:
    state = settings({})
    assert state.organizations(SUBJECTS["global"]) == [ORGANIZATION, SIBLING, STRANGER]
    assert state.organizations(SUBJECTS["tenant"]) == [ORGANIZATION, SIBLING]
    assert state.organizations(SUBJECTS["organization"]) == [ORGANIZATION]
    assert state.organizations(SUBJECTS["user"]) == [ORGANIZATION]
