"""What each role may do, and where."""

import uuid
from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.contenttypes.models import ContentType

from aigov.organizations.create import OPERATOR
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Member, Organization, Role, Scope, User
from aigov.organizations.permissions import TABLE, organizations_of, organizations_where, permissions_of

MakeOrganization = Callable[..., Organization]


def person(role: str, organization: Organization | None = None) -> User:
    user = User.objects.create_user(f"{uuid.uuid4().hex}@example.com", is_superuser=role == OPERATOR)
    if organization is not None:
        Member.objects.create(user=user, organization=organization, role=role)
    return user


def test_every_role_and_every_model_of_the_table_exists() -> None:
    assert set(TABLE) == set(Role)
    for models in TABLE.values():
        for model in models:
            assert apps.get_model(model)


@pytest.mark.parametrize(
    ("role", "allowed", "refused"),
    [
        ("manager", "budgets.view_budgetaccount", "budgets.change_budgetaccount"),
        ("manager", "organizations.view_organization", "organizations.view_auditentry"),
        ("finance", "budgets.change_budgetaccount", "organizations.view_apikey"),
        ("manager", "budgets.add_approvalrequest", "budgets.change_approvalrequest"),
        ("auditor", "budgets.view_approvalrequest", "budgets.add_approvalrequest"),
        ("finance", "budgets.change_approvalrequest", "budgets.delete_approvalrequest"),
        ("admin", "budgets.change_approvalrequest", "budgets.delete_approvalrequest"),
        ("finance", "registry.view_settingvalue", "registry.change_settingvalue"),
        ("auditor", "organizations.view_auditentry", "budgets.change_budgetaccount"),
        ("admin", "organizations.add_apikey", "organizations.delete_apikey"),
        ("admin", "registry.change_settingvalue", "organizations.change_user"),
        ("admin", "organizations.delete_member", "budgets.change_fxrate"),
    ],
)
def test_a_role_may_do_what_the_table_says_and_no_more(
    organization: Organization, role: str, allowed: str, refused: str
) -> None:
    user = person(role, organization)
    assert user.has_perm(allowed)
    assert not user.has_perm(refused)


def test_an_auditor_changes_nothing() -> None:
    own = {"kpis.add_digestsubscription", "kpis.delete_digestsubscription"}
    assert {name.partition(".")[2].partition("_")[0] for name in permissions_of("auditor") - own} == {"view"}


@pytest.mark.parametrize("role", Role.values)
def test_nobody_writes_money_or_the_audit_trail_by_hand(role: str) -> None:
    written_by_code = {"hold", "costrecord", "auditentry", "decision", "price", "user"}
    for name in permissions_of(role):
        verb, _, model = name.partition(".")[2].partition("_")
        # “correct” only lets somebody ask for a correction.
        assert verb in ("view", "correct") or model not in written_by_code


def test_an_operator_may_do_everything() -> None:
    user = person(OPERATOR)
    assert user.has_perm("providers.add_price")
    assert user.has_module_perms("budgets")


def test_who_is_shut_out_may_do_nothing(organization: Organization) -> None:
    user = person("admin", organization)
    user.is_active = False
    assert not user.has_perm("organizations.view_organization")
    assert not organizations_of(user).exists()


def test_the_admin_shows_only_rooms_that_a_role_may_enter(organization: Organization) -> None:
    user = person("manager", organization)
    assert user.has_module_perms("budgets")
    assert not user.has_module_perms("registry")
    assert not person_without_roles().has_module_perms("budgets")


def person_without_roles() -> User:
    return User.objects.create_user(f"{uuid.uuid4().hex}@example.com")


def test_djangos_own_permissions_open_nothing() -> None:
    user = person_without_roles()
    content_type = ContentType.objects.get_for_model(Organization)
    permission, _created = Permission.objects.get_or_create(
        codename="change_organization", content_type=content_type, defaults={"name": "x"}
    )
    user.user_permissions.add(permission)
    assert not user.has_perm("organizations.change_organization")


def test_about_one_thing_only_the_role_at_its_home_counts(make_organization: MakeOrganization) -> None:
    home, away = make_organization(), make_organization()
    user = person("admin", home)
    Member.objects.create(user=user, organization=away, role="manager")
    assert user.has_perm("organizations.change_organization", home)
    assert not user.has_perm("organizations.change_organization", away)
    assert user.has_perm("organizations.view_organization", away)
    assert not user.has_perm("organizations.view_organization", make_organization())
    key, _token = create_api_key(organization=away, name="k", scopes=Scope.values, acting="tests")
    assert not user.has_perm("organizations.change_apikey", key)


def test_a_person_sees_their_own_organizations(make_organization: MakeOrganization) -> None:
    home, away, _stranger = make_organization(), make_organization(), make_organization()
    user = person("finance", home)
    Member.objects.create(user=user, organization=away, role="manager")
    assert set(organizations_of(user)) == {home, away}
    assert list(organizations_where(user, ["finance", "admin"])) == [home]
    assert not organizations_where(user, []).exists()


def test_an_operator_sees_all_organizations_and_a_stranger_none(organization: Organization) -> None:
    assert organization in organizations_of(person(OPERATOR))
    assert not organizations_of(person_without_roles()).exists()
    assert not organizations_of(AnonymousUser()).exists()
    assert not AnonymousUser().has_perm("organizations.view_organization")


def test_the_roles_are_asked_for_once(organization: Organization) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    user = person("admin", organization)
    with CaptureQueriesContext(connection) as queries:
        for _time in range(3):
            user.has_perm("organizations.view_organization")
            user.has_module_perms("budgets")
    assert len(queries) == 1
