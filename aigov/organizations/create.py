"""Organizations and people come into being here, each with its line in the audit trail."""

import secrets
import string

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Member, Organization, Role, Tenant, User, validate_time_zone

#: The role of those who stand over all organizations; it is no membership.
OPERATOR = "operator"
DEFAULT_TIME_ZONE = "Europe/Berlin"
# Without the look-alikes 0 O 1 l I; 20 of 57 signs are more than 116 bits.
PASSWORD_SIGNS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))
PASSWORD_LENGTH = 20


@transaction.atomic
def create_organization(
    *, name: str, acting: Acting, tenant: str | None = None, time_zone: str | None = None
) -> Organization:
    """The organization called `name`, created where there is none.

    A new one belongs to the tenant named `tenant` (created too; without one, a tenant of its own name) and
    counts its months in `time_zone` (an IANA name, Europe/Berlin by default). Raises `ValidationError` for a
    bad name or time zone, and where one that exists has another tenant or time zone than is asked for.
    """
    found = Organization.objects.select_related("tenant").filter(name=name.strip()).first()
    if found is not None:
        _require_same(found, tenant=tenant, time_zone=time_zone)
        return found
    new_tenant = Tenant(name=(tenant or name).strip())
    new_tenant.clean_fields()
    owner, _created = Tenant.objects.get_or_create(name=new_tenant.name)
    organization = Organization(tenant=owner, name=name.strip(), time_zone=time_zone or DEFAULT_TIME_ZONE)
    organization.full_clean()
    organization.save()
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="organization.create",
        target=organization.name,
        after={"tenant": owner.name, "time_zone": organization.time_zone},
    )
    return organization


@transaction.atomic
def create_user(
    *,
    email: str,
    role: str,
    acting: Acting,
    organization: Organization | None = None,
    password: str | None = None,
) -> tuple[User, str]:
    """A person who can log in as `role`, and their password (a random one, where none is given).

    `role` is one of `Role`, in `organization`, or "operator", over all. A person who exists already gets
    the role, replacing an earlier one in that organization, and the new password. Raises `ValidationError`
    for a bad e-mail address, role, password, or a role without its organization.
    """
    address = email.strip().lower()
    validate_email(address)
    _require_role(role, organization)
    user = User.objects.filter(email=address).first() or User(email=address)
    if user.is_superuser and role != OPERATOR:
        raise ValidationError(
            _("%(email)s is an operator already, and stands over all organizations.") % {"email": address}
        )
    before = _standing(user, organization)
    chosen = _set_password(user, password)
    user.is_active = user.is_staff = True
    user.is_superuser = role == OPERATOR
    user.save()
    if organization is not None and role != OPERATOR:
        Member.objects.update_or_create(organization=organization, user=user, defaults={"role": role})
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="user.create" if before is None else "user.renew",
        target=address,
        before=before,
        after=_standing(user, organization),
    )
    return user, chosen


def random_password() -> str:
    """A password that is long enough for every rule, and can be read aloud."""
    return "".join(secrets.choice(PASSWORD_SIGNS) for _place in range(PASSWORD_LENGTH))


def _set_password(user: User, password: str | None) -> str:
    if password is not None:
        validate_password(password, user)
    chosen = password or random_password()
    user.set_password(chosen)
    return chosen


def _require_same(found: Organization, *, tenant: str | None, time_zone: str | None) -> None:
    if tenant is not None and found.tenant.name != tenant.strip():
        raise ValidationError(
            _("“%(name)s” exists already and belongs to the tenant “%(tenant)s”.")
            % {"name": found.name, "tenant": found.tenant.name}
        )
    if time_zone is not None:
        validate_time_zone(time_zone)
        if found.time_zone != time_zone:
            raise ValidationError(
                _("“%(name)s” exists already with the time zone %(zone)s.")
                % {"name": found.name, "zone": found.time_zone}
            )


def _require_role(role: str, organization: Organization | None) -> None:
    if role == OPERATOR:
        return
    if role not in Role.values:
        roles = ", ".join([*Role.values, OPERATOR])
        raise ValidationError(
            _("“%(role)s” is no role; there are: %(roles)s.") % {"role": role, "roles": roles}
        )
    if organization is None:
        raise ValidationError(_("The role “%(role)s” needs an organization.") % {"role": role})


def _standing(user: User, organization: Organization | None) -> dict[str, object] | None:
    if user._state.adding:
        return None
    member = Member.objects.filter(user=user, organization=organization).first() if organization else None
    return {
        "active": user.is_active,
        "operator": user.is_superuser,
        "role": member.role if member else None,
    }
