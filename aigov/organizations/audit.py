"""The audit trail: who changed what, from, to, and why, written in the transaction of the change."""

from typing import Any

from aigov.organizations.models import ApiKey, AuditEntry, Organization, User

#: Who acts: a person, a service's key, or the words for what is neither, such as `manage.py create_user`.
Acting = User | ApiKey | str


def actor_name(acting: Acting) -> str:
    """How the audit trail names `acting`: by e-mail address, a key's public part, or the given words."""
    if isinstance(acting, ApiKey):
        return f"API key aig_{acting.key_id}"
    return acting.email if isinstance(acting, User) else acting


def person_behind(acting: Acting) -> User | None:
    """The person who answers for what is done: who acts, or who made the key that does."""
    if isinstance(acting, ApiKey):
        return acting.created_by
    return acting if isinstance(acting, User) else None


def write_audit_entry(
    *,
    organization: Organization | None,
    acting: Acting,
    action: str,
    target: str,
    before: Any = None,
    after: Any = None,
    reason: str = "",
) -> AuditEntry:
    """Note a change, in the transaction that makes it; `before` and `after` are JSON values."""
    return AuditEntry.objects.create(
        organization=organization,
        actor=actor_name(acting)[:254],
        action=action,
        target=target[:300],
        before=before,
        after=after,
        reason=reason,
    )
