"""The audit trail: who changed what, from, to, and why, written in the transaction of the change."""

from typing import Any

from aigov.organizations.models import AuditEntry, Organization, User

#: Who acts: a person, or the words for what is none, such as `manage.py create_user` or `API key aig_…`.
Acting = User | str


def actor_name(acting: Acting) -> str:
    """How the audit trail names `acting`: a person's e-mail address, or the given words."""
    return acting.email if isinstance(acting, User) else acting


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
