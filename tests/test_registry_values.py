"""Setting and removing values, on a real database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import JSONField, Value

from aigov import database
from aigov.errors import BadRequest
from aigov.organizations.models import AuditEntry, Organization
from aigov.registry import keys, values
from aigov.registry.effective import Subject
from aigov.registry.json_values import InvalidValue
from aigov.registry.keys import SCOPES, Key, UnknownKey
from aigov.registry.models import RegistryVersion, SettingValue
from aigov.registry.snapshot import load_settings_sync
from aigov.registry.values import Change, remove_value, set_value

CAP = "test.values.cap"
OWN = "test.values.own"
MAYBE = "test.values.maybe"


@pytest.fixture(autouse=True)
def changes(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """Keys for these tests alone, and the changes of `CAP` that its owner was told of."""
    told: list[Change] = []
    for key in (
        Key(name=CAP, type="money", scopes=SCOPES, default=1000, description="", on_change=told.append),
        Key(name=OWN, type="integer", scopes=("organization",), default=1, description=""),
        Key(name=MAYBE, type="integer", scopes=SCOPES, default=None, nullable=True, description=""),
    ):
        monkeypatch.setitem(keys._KEYS, key.name, key)
    return told


def put(organization: Organization, value: Any, *, key: str = CAP, **more: Any) -> None:
    set_value(
        key=key,
        organization=organization,
        value=value,
        **{"scope": "organization", "acting": "alice@example.com", "reason": "a test", **more},
    )


def drop(organization: Organization, *, key: str = CAP, **more: Any) -> bool:
    return remove_value(
        key=key,
        organization=organization,
        **{"scope": "organization", "acting": "alice@example.com", "reason": "a test", **more},
    )


def applying(organization: Organization, *, key: str = CAP, user: str = "") -> tuple[Any, str]:
    effective = load_settings_sync().effective(key, organization_id=organization.pk, user=user)
    return effective.value_json, effective.source


def version() -> int:
    return RegistryVersion.objects.get().version


def test_a_value_applies_until_it_is_removed(organization: Organization) -> None:
    put(organization, 500)
    assert applying(organization) == (500, "organization")
    put(organization, "12.50")
    assert applying(organization) == ("12.50", "organization")
    assert drop(organization) is True
    assert applying(organization) == (1000, "default")


def test_each_scope_has_a_value_of_its_own(
    organization: Organization, make_organization: Callable[..., Organization]
) -> None:
    stranger = make_organization()
    put(organization, 3)
    put(organization, 4, scope="user", user="u-1")
    set_value(key=CAP, scope="tenant", tenant=organization.tenant, value=2, acting="an operator", reason="")
    assert applying(organization, user="u-1") == (4, "user")
    assert applying(organization, user="u-2") == (3, "organization")
    assert applying(stranger) == (1000, "default")
    drop(organization)
    assert applying(organization) == (2, "tenant")


def test_a_value_for_everybody_reaches_every_organization(organization: Organization) -> None:
    set_value(key=CAP, scope="global", value=7, acting="an operator", reason="")
    try:
        assert applying(organization) == (7, "global")
    finally:
        remove_value(key=CAP, scope="global", acting="an operator", reason="")
    assert applying(organization) == (1000, "default")


def test_null_is_kept_where_it_is_a_value(organization: Organization) -> None:
    put(organization, 5, key=MAYBE)
    put(organization, None, key=MAYBE, scope="user", user="u-1")
    assert applying(organization, key=MAYBE, user="u-1") == (None, "user")


def test_the_audit_trail_says_who_changed_what_from_to_and_why(organization: Organization) -> None:
    put(organization, 500)
    put(organization, "600", reason="a busy month")
    drop(organization)
    entries = AuditEntry.objects.filter(organization=organization, target=f"{CAP} · organization").order_by(
        "id"
    )
    assert [(entry.action, entry.before, entry.after) for entry in entries] == [
        ("setting.set", None, 500),
        ("setting.set", 500, "600"),
        ("setting.remove", "600", None),
    ]
    assert (entries[1].actor, entries[1].reason) == ("alice@example.com", "a busy month")


def test_removing_what_is_not_set_changes_nothing(organization: Organization, changes: list[Change]) -> None:
    before = version()
    assert drop(organization) is False
    assert version() == before
    assert changes == []
    assert not AuditEntry.objects.filter(organization=organization, action="setting.remove").exists()


def test_the_owner_of_the_key_acts_in_the_transaction_of_the_change(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def act(change: Change) -> None:
        assert connection.in_atomic_block
        settings = change.settings
        for organization_id in settings.organizations(change.subject):
            seen.append((organization_id, settings.value(CAP, organization_id=organization_id)))

    monkeypatch.setitem(keys._KEYS, CAP, replace(keys._KEYS[CAP], on_change=act))
    put(organization, 500)
    drop(organization)
    assert seen == [(organization.pk, 500), (organization.pk, 1000)]


def test_the_owner_is_told_what_changed(organization: Organization, changes: list[Change]) -> None:
    put(organization, 500, scope="user", user="u-1")
    [change] = changes
    assert change.subject == Subject("user", organization.pk, "u-1")
    assert (change.before, change.after, change.reason) == (None, 500, "a test")


def test_where_the_owner_fails_nothing_is_changed(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(change: Change) -> None:
        raise LookupError

    monkeypatch.setitem(keys._KEYS, CAP, replace(keys._KEYS[CAP], on_change=fail))
    before = version()
    with pytest.raises(LookupError):
        put(organization, 500)
    assert applying(organization) == (1000, "default")
    assert version() == before
    assert not AuditEntry.objects.filter(organization=organization, action="setting.set").exists()


def test_a_value_that_the_key_does_not_allow_is_refused(organization: Organization) -> None:
    with pytest.raises(InvalidValue) as refused:
        put(organization, -1)
    assert refused.value.param == "value"
    assert applying(organization) == (1000, "default")


def test_an_unknown_key_is_refused(organization: Organization) -> None:
    with pytest.raises(UnknownKey):
        put(organization, 1, key="test.values.nothing")
    with pytest.raises(UnknownKey):
        drop(organization, key="test.values.nothing")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"scope": "user", "user": "u-1", "key": OWN}, "scope"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "user"}, "user"),
        ({"user": "u-1"}, "user"),
        ({"scope": "global"}, "organization"),
        ({"scope": "tenant"}, "tenant"),
        ({"scope": "user", "user": "u" * 201}, "user"),
        ({"scope": "user", "user": "u\x00"}, "user"),
        ({"reason": "r" * 1001}, "reason"),
        ({"reason": "\x00"}, "reason"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(organization: Organization, more: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        put(organization, 1, **more)
    assert refused.value.param == param
    assert not SettingValue.objects.filter(organization=organization).exists()


def test_an_organization_has_a_bounded_number_of_users_values(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "USER_VALUES_MAX_PER_ORGANIZATION", 2)
    put(organization, 1, scope="user", user="u-1")
    put(organization, 1, scope="user", user="u-2")
    with pytest.raises(BadRequest) as refused:
        put(organization, 1, scope="user", user="u-3")
    assert refused.value.code == "too_many_values"
    put(organization, 2, scope="user", user="u-2")
    put(organization, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "global"},
        {"scope": "tenant"},
        {"scope": "user"},
        {"scope": "organization", "user": "u-1"},
        {"scope": "organization", "organization": None},
        {"scope": "planet"},
    ],
)
def test_the_database_refuses_a_scope_without_its_subject(organization: Organization, wrong: Any) -> None:
    row = {"key": CAP, "organization": organization, "value": 1, **wrong}
    with pytest.raises(IntegrityError, match="setting_scope_fits_subject"), transaction.atomic():
        SettingValue.objects.create(**row)


def test_the_database_refuses_a_second_value_of_a_subject(organization: Organization) -> None:
    put(organization, 1)
    with pytest.raises(IntegrityError, match="setting_once_per_subject"), transaction.atomic():
        SettingValue.objects.create(key=CAP, scope="organization", organization=organization, value=2)


def test_the_database_keeps_one_version(organization: Organization) -> None:
    with pytest.raises(IntegrityError, match="registry_version_single_row"), transaction.atomic():
        RegistryVersion.objects.create(id=2, version=1)


def test_the_version_counts_every_change_whoever_makes_it(organization: Organization) -> None:
    before = version()
    put(organization, 1)
    SettingValue.objects.filter(organization=organization).update(value=Value(2, JSONField()))
    SettingValue.objects.filter(organization=organization).delete()
    assert version() == before + 3


def test_the_version_counts_an_organizations_move_to_another_tenant(
    organization: Organization, make_organization: Callable[..., Organization]
) -> None:
    stranger = make_organization()
    set_value(key=CAP, scope="tenant", tenant=stranger.tenant, value=5, acting="an operator", reason="")
    before = version()
    Organization.objects.filter(pk=organization.pk).update(name=f"{organization.name} & Co.")
    assert version() == before
    Organization.objects.filter(pk=organization.pk).update(tenant=stranger.tenant)
    assert version() == before + 1
    assert applying(organization) == (5, "tenant")


def put_without_waiting(organization: Organization) -> None:
    """Like `put`, in a transaction that gives up where it would have to wait for another."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        put(organization, 2)
    finally:
        connection.close()


def in_another_thread(call: Callable[..., None], *arguments: Any) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(call, *arguments).result()


def test_no_setting_changes_while_somebody_relies_on_it(organization: Organization) -> None:
    with psycopg.connect(database.conninfo()) as relying:
        relying.execute("SELECT version FROM registry_registryversion FOR SHARE")
        with pytest.raises(OperationalError, match="lock timeout"):
            in_another_thread(put_without_waiting, organization)
    # The control: it was the lock that stood in the way.
    in_another_thread(put_without_waiting, organization)
    assert applying(organization) == (2, "organization")


def test_writers_take_turns(
    organization: Organization, make_organization: Callable[..., Organization]
) -> None:
    stranger = make_organization()
    with transaction.atomic():
        put(organization, 1)
        with pytest.raises(OperationalError, match="lock timeout"):
            in_another_thread(put_without_waiting, stranger)
    in_another_thread(put_without_waiting, stranger)
    assert applying(stranger) == (2, "organization")


def test_each_writer_knows_what_it_replaces(organization: Organization) -> None:
    def write(number: int) -> None:
        try:
            put(organization, number)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(16)))
    entries = AuditEntry.objects.filter(organization=organization, action="setting.set").order_by("id")
    assert [entry.before for entry in entries] == [None, *(entry.after for entry in entries)][:16]
    assert {entry.after for entry in entries} == set(range(16))
