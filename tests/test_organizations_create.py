"""Organizations and people come into being."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.test import override_settings

from aigov.organizations.create import OPERATOR, create_organization, create_user
from aigov.organizations.models import AuditEntry, Member, Organization, Role, User

ACTING = "tests"
MakeOrganization = Callable[..., Organization]


@pytest.fixture(autouse=True)
def quick_hashes() -> Iterator[None]:
    """A real hash takes half a second, on purpose."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


def unique(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex}"


def an_address() -> str:
    return f"{unique('alice')}@example.com"


def test_an_organization_has_a_tenant_of_its_own_name_unless_told() -> None:
    name = unique("acme")
    organization = create_organization(name=name, acting=ACTING)
    assert organization.tenant.name == name
    assert organization.time_zone == "Europe/Berlin"
    assert AuditEntry.objects.get(organization=organization).action == "organization.create"


def test_organizations_share_a_tenant_by_its_name() -> None:
    tenant = unique("group")
    one = create_organization(name=unique("one"), tenant=tenant, acting=ACTING)
    two = create_organization(name=unique("two"), tenant=tenant, acting=ACTING)
    assert one.tenant == two.tenant


def test_an_organization_that_exists_is_found_and_left_as_it_is() -> None:
    first = create_organization(name=unique("acme"), tenant=unique("t"), time_zone="UTC", acting=ACTING)
    again = create_organization(name=f" {first.name} ", acting=ACTING)
    assert again == first
    assert again.time_zone == "UTC"
    assert AuditEntry.objects.filter(organization=first).count() == 1


def test_an_organization_that_exists_otherwise_is_not_changed_in_silence() -> None:
    name = create_organization(name=unique("acme"), acting=ACTING).name
    with pytest.raises(ValidationError, match="belongs to the tenant"):
        create_organization(name=name, tenant="another", acting=ACTING)
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        create_organization(name=name, time_zone="UTC", acting=ACTING)
    assert create_organization(name=name, tenant=name, time_zone="Europe/Berlin", acting=ACTING).name == name


@pytest.mark.parametrize(
    "bad", [{"time_zone": "Mars"}, {"name": ""}, {"name": "x" * 201}, {"tenant": "x" * 201}]
)
def test_a_bad_organization_leaves_nothing_behind(bad: dict[str, str]) -> None:
    arguments = {"name": unique("acme"), **bad}
    with pytest.raises(ValidationError):
        create_organization(acting=ACTING, **arguments)
    assert not Organization.objects.filter(name=arguments["name"]).exists()


@pytest.mark.parametrize("role", Role.values)
def test_a_person_logs_in_with_the_password_and_has_the_role(organization: Organization, role: str) -> None:
    email = an_address()
    user, password = create_user(email=email, role=role, organization=organization, acting=ACTING)
    assert authenticate(username=email, password=password) == user
    assert user.is_staff and not user.is_superuser
    assert Member.objects.get(user=user, organization=organization).role == role


def test_an_operator_stands_over_all_organizations() -> None:
    user, password = create_user(email=an_address(), role=OPERATOR, acting=ACTING)
    assert authenticate(username=user.email, password=password) == user
    assert user.is_superuser
    assert not user.memberships.exists()


def test_the_password_is_not_in_the_audit_trail() -> None:
    user, password = create_user(email=an_address(), role=OPERATOR, acting=ACTING)
    entry = AuditEntry.objects.get(target=user.email)
    assert entry.action == "user.create"
    assert password not in str([entry.before, entry.after, entry.reason])


def test_a_person_who_exists_gets_the_new_role_and_password(organization: Organization) -> None:
    email = an_address()
    _user, old = create_user(email=email, role="manager", organization=organization, acting=ACTING)
    user, new = create_user(email=email.upper(), role="finance", organization=organization, acting=ACTING)
    assert authenticate(username=email, password=old) is None
    assert authenticate(username=email, password=new) == user
    assert [member.role for member in user.memberships.all()] == ["finance"]
    renewal = AuditEntry.objects.get(target=email, action="user.renew")
    assert (renewal.before["role"], renewal.after["role"]) == ("manager", "finance")


def test_a_person_may_have_a_role_in_each_organization(make_organization: MakeOrganization) -> None:
    email, one, two = an_address(), make_organization(), make_organization()
    create_user(email=email, role="manager", organization=one, acting=ACTING)
    user, _password = create_user(email=email, role="auditor", organization=two, acting=ACTING)
    assert dict(user.memberships.values_list("organization", "role")) == {
        one.pk: "manager",
        two.pk: "auditor",
    }


def test_a_person_who_was_shut_out_can_log_in_again(organization: Organization) -> None:
    email = an_address()
    create_user(email=email, role="manager", organization=organization, acting=ACTING)
    User.objects.filter(email=email).update(is_active=False)
    user, password = create_user(email=email, role="manager", organization=organization, acting=ACTING)
    assert authenticate(username=email, password=password) == user


def test_an_operator_is_not_made_less_in_silence(organization: Organization) -> None:
    user, password = create_user(email=an_address(), role=OPERATOR, acting=ACTING)
    with pytest.raises(ValidationError, match="operator already"):
        create_user(email=user.email, role="finance", organization=organization, acting=ACTING)
    assert authenticate(username=user.email, password=password) == user


def test_a_role_needs_its_organization() -> None:
    with pytest.raises(ValidationError, match="needs an organization"):
        create_user(email=an_address(), role="finance", acting=ACTING)


@pytest.mark.parametrize("bad", [{"email": "alice"}, {"role": "emperor"}, {"password": "short"}])
def test_a_bad_person_is_refused(organization: Organization, bad: dict[str, str]) -> None:
    arguments = {"email": an_address(), "role": "finance", **bad}
    with pytest.raises(ValidationError):
        create_user(organization=organization, acting=ACTING, **arguments)
    assert not User.objects.filter(email=arguments["email"]).exists()


def test_a_password_can_be_given(organization: Organization) -> None:
    given = "correct horse battery staple"
    user, password = create_user(
        email=an_address(), role="finance", organization=organization, password=given, acting=ACTING
    )
    assert password == given
    assert authenticate(username=user.email, password=given) == user
