"""What the admin changes about organizations and people, each with its line in the audit trail."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Member, Organization, Tenant, User
from aigov.organizations.passwords import send_password_link


@transaction.atomic
def create_tenant(*, name: str, acting: Acting) -> Tenant:
    """A new tenant; raises `ValidationError` where the name is taken or none."""
    tenant = Tenant(name=name.strip())
    tenant.full_clean()
    tenant.save()
    write_audit_entry(
        organization=None, acting=acting, action="tenant.create", target=tenant.name, after={"name": name}
    )
    return tenant


@transaction.atomic
def change_organization(
    *, organization: Organization, name: str, time_zone: str, acting: Acting, reason: str
) -> Organization:
    """Gives the organization another name or time zone; raises `ValidationError` for a bad one."""
    row = Organization.objects.select_for_update().get(pk=organization.pk)
    before = {"name": row.name, "time_zone": row.time_zone}
    row.name, row.time_zone = name.strip(), time_zone
    row.full_clean()
    row.save(update_fields=["name", "time_zone"])
    write_audit_entry(
        organization=row,
        acting=acting,
        action="organization.change",
        target=row.name,
        before=before,
        after={"name": row.name, "time_zone": row.time_zone},
        reason=reason,
    )
    return row


@transaction.atomic
def add_member(*, organization: Organization, email: str, role: str, acting: Acting) -> Member:
    """Makes the person of that e-mail address a member; who is new gets a link to set their password.

    Whoever adds a person must not come to log in as them: nobody sees a password, and a person who exists
    keeps theirs. Raises `ValidationError` where they are a member already, or an operator.
    """
    address = email.strip().lower()
    user = User.objects.filter(email=address).first()
    if user is None:
        user = _add_user(address, organization=organization, acting=acting)
    if user.is_superuser or Member.objects.filter(organization=organization, user=user).exists():
        raise ValidationError({"email": _("This person has a role there already.")})
    member = Member(organization=organization, user=user, role=role)
    member.full_clean()
    member.save()
    _audit_member(member, acting=acting, action="member.add", after=role)
    return member


def _add_user(email: str, *, organization: Organization, acting: Acting) -> User:
    user = User(email=email)
    user.set_unusable_password()
    user.full_clean()
    user.save()
    write_audit_entry(organization=organization, acting=acting, action="user.create", target=email)
    send_password_link(user=user, organization=organization, acting=acting)
    return user


@transaction.atomic
def change_role(*, member: Member, role: str, acting: Acting, reason: str) -> Member:
    """Gives the member another role; raises `ValidationError` for an unknown one."""
    row = Member.objects.select_for_update().select_related("user", "organization").get(pk=member.pk)
    before, row.role = row.role, role
    row.full_clean()
    row.save(update_fields=["role"])
    _audit_member(row, acting=acting, action="member.change", before=before, after=role, reason=reason)
    return row


@transaction.atomic
def remove_member(*, member: Member, acting: Acting, reason: str) -> None:
    """Takes the person out of the organization; the person remains."""
    row = Member.objects.select_for_update().select_related("user", "organization").get(pk=member.pk)
    row.delete()
    _audit_member(row, acting=acting, action="member.remove", before=row.role, reason=reason)


@transaction.atomic
def change_user(
    *, user: User, name: str, is_active: bool, language: str, acting: Acting, reason: str
) -> User:
    """Names a person, says in which language they get mail (empty: the service's), or shuts them out or in.

    Raises `ValidationError` for shutting out oneself.
    """
    if acting == user and not is_active:
        raise ValidationError({"is_active": _("Nobody can shut themselves out.")})
    row = User.objects.select_for_update().get(pk=user.pk)
    before = {"name": row.name, "active": row.is_active, "language": row.language}
    row.name, row.is_active, row.language = name.strip(), is_active, language
    row.full_clean(exclude=["password"])
    row.save(update_fields=["name", "is_active", "language"])
    write_audit_entry(
        organization=None,
        acting=acting,
        action="user.change",
        target=row.email,
        before=before,
        after={"name": row.name, "active": row.is_active, "language": row.language},
        reason=reason,
    )
    return row


def _audit_member(
    member: Member,
    *,
    acting: Acting,
    action: str,
    before: str | None = None,
    after: str | None = None,
    reason: str = "",
) -> None:
    write_audit_entry(
        organization=member.organization,
        acting=acting,
        action=action,
        target=member.user.email,
        before=before and {"role": before},
        after=after and {"role": after},
        reason=reason,
    )
