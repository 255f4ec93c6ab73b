"""The registry as each process holds it."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from aigov import database, snapshots
from aigov.organizations.models import Organization, Tenant
from aigov.registry import keys, snapshot
from aigov.registry.keys import SCOPES, Key
from aigov.registry.models import RegistryVersion, SettingValue
from aigov.registry.snapshot import load_settings, load_settings_sync, settings_for
from aigov.registry.values import set_value
from aigov.snapshots import CHANNEL, Snapshot

CAP = "test.snapshot.cap"


@pytest.fixture(autouse=True)
def cap(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(name=CAP, type="money", scopes=SCOPES, default=1000, description="")
    monkeypatch.setitem(keys._KEYS, CAP, key)


@pytest.fixture
def set_up(organization: Organization) -> Organization:
    """An organization with a value for its tenant, for itself and for one of its users."""
    set_cap = partial(set_value, key=CAP, acting="an operator", reason="")
    set_cap(scope="tenant", tenant=organization.tenant, value=2)
    set_cap(scope="organization", organization=organization, value=0.3)
    set_cap(scope="user", organization=organization, user="u-1", value="4.0")
    return organization


@pytest.fixture
def notices() -> Iterator[Callable[[], set[str]]]:
    """The kinds of change that were announced since the test began."""
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute(f"LISTEN {CHANNEL}")
        yield lambda: {notice.payload for notice in conn.notifies(timeout=0.5)}


async def test_the_whole_registry_is_read(set_up: Organization) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
        settings = await load_settings(conn)
    assert settings.value(CAP, organization_id=set_up.pk, user="u-1") == 4
    assert settings.value(CAP, organization_id=set_up.pk) == Decimal("0.3")
    assert settings.effective(CAP, organization_id=set_up.pk, user="u-1").value_json == "4.0"
    assert settings.version > 0


def test_the_orm_reads_the_same(set_up: Organization) -> None:
    settings = load_settings_sync()
    assert settings.value(CAP, organization_id=set_up.pk, user="u-1") == 4
    assert settings.value(CAP, organization_id=set_up.pk) == Decimal("0.3")
    SettingValue.objects.filter(organization=set_up).delete()
    assert load_settings_sync().value(CAP, organization_id=set_up.pk) == 2
    assert settings.version < load_settings_sync().version == RegistryVersion.objects.get().version


def test_a_change_of_a_setting_is_announced(
    organization: Organization, notices: Callable[[], set[str]]
) -> None:
    set_value(key=CAP, scope="organization", organization=organization, value=1, acting="me", reason="")
    assert "settings" in notices()


def test_a_new_organization_is_announced(
    make_organization: Callable[..., Organization], notices: Callable[[], set[str]]
) -> None:
    make_organization()
    assert "settings" in notices()


def test_an_organizations_move_to_another_tenant_is_announced(
    organization: Organization, notices: Callable[[], set[str]]
) -> None:
    other = Tenant.objects.create(name=f"another than {organization.tenant.name}")
    Organization.objects.filter(pk=organization.pk).update(tenant=other)
    assert "settings" in notices()


def test_what_is_no_setting_is_not_announced_as_one(
    organization: Organization, notices: Callable[[], set[str]]
) -> None:
    Organization.objects.filter(pk=organization.pk).update(name=f"{organization.name} & Co.")
    assert "settings" not in notices()


async def test_the_process_knows_an_organization_as_soon_as_it_is_asked(
    make_organization: Callable[..., Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_and_hang_up() -> Organization:
        try:
            return make_organization()
        finally:
            connection.close()  # this thread's own

    # A copy that nobody else keeps fresh meanwhile.
    copy = Snapshot(kind="test", load=load_settings)
    monkeypatch.delitem(snapshots._all, "test")
    monkeypatch.setattr(snapshot, "SETTINGS", copy)
    async with database.pool_opened():
        await copy.refresh()
        young = await sync_to_async(make_and_hang_up)()
        assert not copy.current.knows(young.pk)
        settings = await settings_for(young.pk)
        assert settings.knows(young.pk)
        assert await settings_for(young.pk) is settings
