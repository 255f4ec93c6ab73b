"""All settings as the database has them: each process's copy for the hot path, and a reader for the rest."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Max
from django.db.models.functions import Coalesce

from aigov import database
from aigov.organizations.models import Organization
from aigov.registry.effective import Settings, StoredValue, Subject
from aigov.registry.keys import all_keys
from aigov.registry.models import RegistryVersion, SettingValue
from aigov.snapshots import Snapshot

# The version comes first: whatever changes meanwhile makes it too low, which is noticed, never too high.
SELECT_VERSION = "SELECT coalesce(max(version), 0) FROM registry_registryversion"
SELECT_VALUES = """
    SELECT key, scope, coalesce(tenant_id, organization_id), "user", value FROM registry_settingvalue
"""
SELECT_TENANTS = "SELECT id, tenant_id FROM organizations_organization"

Row = tuple[Any, ...]


async def load_settings(conn: database.Connection) -> Settings:
    """Reads the whole registry."""
    [(version,)] = await (await conn.execute(SELECT_VERSION)).fetchall()
    values = await (await conn.execute(SELECT_VALUES)).fetchall()
    tenants = await (await conn.execute(SELECT_TENANTS)).fetchall()
    return _settings(version, values, tenants)


def load_settings_sync() -> Settings:
    """Reads the whole registry, as Django's present transaction sees it."""
    version = RegistryVersion.objects.aggregate(version=Coalesce(Max("version"), 0))["version"]
    subject_id = Coalesce("tenant_id", "organization_id")
    values = SettingValue.objects.values_list("key", "scope", subject_id, "user", "value")
    return _settings(version, values.iterator(), Organization.objects.values_list("id", "tenant_id"))


def _settings(version: int, values: Iterable[Row], tenants: Iterable[Row]) -> Settings:
    return Settings(
        (StoredValue(key, Subject(scope, id_, user), value) for key, scope, id_, user, value in values),
        tenants=dict(tenants),
        version=version,
        keys=all_keys(),
    )


SETTINGS = Snapshot(kind="settings", load=load_settings)


async def settings_for(organization_id: int) -> Settings:
    """This process's copy, loaded anew where it is older than the organization.

    Raises:
        BudgetUnavailable: there is no copy that may be used.
    """
    settings = SETTINGS.current
    return settings if settings.knows(organization_id) else await SETTINGS.refresh()
