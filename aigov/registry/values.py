"""Setting and removing values: checked, audited, and acted upon in one transaction.

Writers take turns on the row of `RegistryVersion`, so that each knows what it replaces, and whoever acts
on a change (`Key.on_change`) sees all earlier ones. That row is locked before anything else; who takes
it and ledger rows takes it first.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db import transaction
from django.db.models import JSONField, Value

from aigov.errors import BadRequest
from aigov.organizations.audit import Acting, actor_name, write_audit_entry
from aigov.organizations.models import Organization, Tenant
from aigov.registry.effective import Settings, Subject
from aigov.registry.json_values import is_storable
from aigov.registry.keys import SCOPES, Key, Scope, check_value, find
from aigov.registry.models import USER_CHARACTERS_MAX, RegistryVersion, SettingValue
from aigov.registry.snapshot import load_settings_sync

REASON_CHARACTERS_MAX = 1_000
#: Every process holds all values in memory.
USER_VALUES_MAX_PER_ORGANIZATION = 10_000


@dataclass(frozen=True)
class Change:
    """A change of a setting, for the code that acts on it inside the transaction.

    `before` and `after` are the values (JSON) of `subject` alone, None where none is set.
    """

    key: Key
    subject: Subject
    before: Any
    after: Any
    acting: Acting
    reason: str
    approved: bool

    @cached_property
    def settings(self) -> Settings:
        """What applies after the change; its `organizations(subject)` are those that it reaches."""
        return load_settings_sync()

    @cached_property
    def settings_before(self) -> Settings:
        """What applied before it. Only for keys that cannot be null, whose `before` of None is no value."""
        return self.settings.with_value(self.key.name, self.subject, self.before)


def set_value(
    *,
    key: str,
    scope: Scope,
    tenant: Tenant | None = None,
    organization: Organization | None = None,
    user: str = "",
    value: Any,
    acting: Acting,
    reason: str,
    approved: bool = False,
) -> None:
    """Sets `value` (JSON) for everybody, a tenant, an organization, or one of its users.

    Args:
        acting: who does it, as the audit trail names them.
        reason: why, for the audit trail.
        approved: whether two people have agreed to it, which some keys ask for.

    Raises:
        UnknownKey: there is no such setting.
        InvalidValue: `param` is the path in the value.
        BadRequest: the scope is not one of the key's, or does not fit the subject; `param` names it.
        SecondPersonNeeded: this value takes two people, and is not approved.
    """
    known = find(key)
    row, subject = _row(known, scope, tenant, organization, user)
    check_value(known, value)
    _check_reason(reason)
    with transaction.atomic():
        stored = _lock(row)
        if stored is None:
            _check_room(row)
        before = stored.value if stored else None
        row.pk, row.updated_by = (stored.pk if stored else None), actor_name(acting)[:254]
        row.value = Value(None, JSONField()) if value is None else value
        row.save()
        _conclude(row, "setting.set", Change(known, subject, before, value, acting, reason, approved))


def remove_value(
    *,
    key: str,
    scope: Scope,
    tenant: Tenant | None = None,
    organization: Organization | None = None,
    user: str = "",
    acting: Acting,
    reason: str,
) -> bool:
    """Removes the value of that scope, so that the next wider one applies; False where none was set.

    Arguments and errors are those of `set_value`.
    """
    known = find(key)
    row, subject = _row(known, scope, tenant, organization, user)
    _check_reason(reason)
    with transaction.atomic():
        stored = _lock(row)
        if stored is None:
            return False
        stored.delete()
        _conclude(row, "setting.remove", Change(known, subject, stored.value, None, acting, reason, False))
    return True


def _row(
    key: Key, scope: Scope, tenant: Tenant | None, organization: Organization | None, user: str
) -> tuple[SettingValue, Subject]:
    """The row of the subject, not yet saved, and the subject."""
    if scope not in SCOPES or scope not in key.scopes:
        raise BadRequest(f"{key.name} can be set for: {', '.join(key.scopes)}.", param="scope")
    for name, given, wanted in (
        ("tenant", tenant is not None, scope == "tenant"),
        ("organization", organization is not None, scope in ("organization", "user")),
        ("user", user != "", scope == "user"),
    ):
        if given != wanted:
            verb = "needs a" if wanted else "takes no"
            raise BadRequest(f"The scope {scope} {verb} {name}.", param=name)
    check_user(user)
    row = SettingValue(key=key.name, scope=scope, tenant=tenant, organization=organization, user=user)
    return row, Subject(scope, row.tenant_id or row.organization_id, user)


def check_user(user: str) -> None:
    """Make sure that `user`, a caller's own end-user id, can be stored.

    Raises:
        BadRequest: it cannot.
    """
    if len(user) > USER_CHARACTERS_MAX or not is_storable(user):
        raise BadRequest(f"A user is text of {USER_CHARACTERS_MAX} characters at most.", param="user")


def _check_reason(reason: str) -> None:
    if len(reason) > REASON_CHARACTERS_MAX or not is_storable(reason):
        raise BadRequest(f"A reason is text of {REASON_CHARACTERS_MAX} characters at most.", param="reason")


def _lock(row: SettingValue) -> SettingValue | None:
    """Waits for other writers, and finds what is set now."""
    RegistryVersion.objects.select_for_update().get()
    return SettingValue.objects.filter(
        key=row.key, scope=row.scope, tenant=row.tenant, organization=row.organization, user=row.user
    ).first()


def _check_room(row: SettingValue) -> None:
    if row.scope != "user":
        return
    if SettingValue.objects.filter(organization=row.organization).count() >= USER_VALUES_MAX_PER_ORGANIZATION:
        raise BadRequest("The organization has as many values as it may have.", code="too_many_values")


def _conclude(row: SettingValue, action: str, change: Change) -> None:
    """Writes the audit trail and lets the key's owner act."""
    tenant = row.tenant.name if row.tenant else ""
    write_audit_entry(
        organization=row.organization,
        acting=change.acting,
        action=action,
        target=" · ".join(part for part in (row.key, row.scope, tenant, row.user) if part),
        before=change.before,
        after=change.after,
        reason=change.reason,
    )
    if change.key.on_change is not None:
        change.key.on_change(change)
