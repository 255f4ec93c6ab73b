"""`manage.py create_organization` and `manage.py create_user`."""

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.test import override_settings

from aigov.organizations.keys import parse
from aigov.organizations.models import ApiKey, Organization, Scope
from aigov.registry.snapshot import load_settings_sync

CAP = "ai.budget.monthly.cap"


@pytest.fixture(autouse=True)
def quick_hashes() -> Iterator[None]:
    """A real hash takes half a second, on purpose."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return answer


def a_name() -> str:
    return f"Acme {uuid.uuid4().hex}"


def cap_of(organization: Organization) -> tuple[Any, str]:
    effective = load_settings_sync().effective(CAP, organization_id=organization.pk)
    return effective.value, effective.source


def test_an_organization_and_a_key_with_all_scopes_are_made() -> None:
    name = a_name()
    answer = run_json("create_organization", name)
    organization = Organization.objects.get(name=name)
    assert set(answer) == {"organization_id", "api_key"}
    assert answer["organization_id"] == str(organization.pk)
    assert ApiKey.objects.get(key_id=parse(answer["api_key"]).key_id).scopes == sorted(Scope.values)


def test_the_key_is_printed_once_for_people_too() -> None:
    out = run("create_organization", a_name())
    keys = [word for word in out.split() if word.startswith("aig_")]
    assert len(keys) == 1
    assert parse(keys[0])


def test_an_organization_that_exists_gets_a_further_key() -> None:
    name = a_name()
    first, second = run_json("create_organization", name), run_json("create_organization", name)
    assert first["organization_id"] == second["organization_id"]
    assert first["api_key"] != second["api_key"]


def test_tenant_and_time_zone_are_honoured() -> None:
    name, tenant = a_name(), a_name()
    run("create_organization", name, "--tenant", tenant, "--timezone", "America/New_York")
    organization = Organization.objects.get(name=name)
    assert (organization.tenant.name, organization.time_zone) == (tenant, "America/New_York")


def test_without_a_cap_the_default_applies() -> None:
    name = a_name()
    run("create_organization", name)
    assert cap_of(Organization.objects.get(name=name)) == (Decimal(1000), "default")


def test_a_cap_stays_until_another_is_given() -> None:
    name = a_name()
    run("create_organization", name, "--cap-eur", "99.123456789")
    organization = Organization.objects.get(name=name)
    assert cap_of(organization) == (Decimal("99.123456789"), "organization")
    run("create_organization", name)
    assert cap_of(organization) == (Decimal("99.123456789"), "organization")
    run("create_organization", name, "--cap-eur", "0")
    assert cap_of(organization) == (Decimal(0), "organization")


@pytest.mark.parametrize("cap", ["-1", "abc", "NaN", "Infinity", "1e10", "0.0000000001", ""])
def test_a_cap_that_is_none_is_refused_with_a_sentence(cap: str) -> None:
    name = a_name()
    with pytest.raises(CommandError, match="--cap-eur"):
        run("create_organization", name, f"--cap-eur={cap}")
    assert not Organization.objects.filter(name=name).exists()


def test_a_bad_time_zone_is_refused_with_a_sentence() -> None:
    with pytest.raises(CommandError, match="Mars"):
        run("create_organization", a_name(), "--timezone", "Mars")


def test_a_person_is_made_who_can_log_in(organization: Organization) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    answer = run_json("create_user", email, "--role", "finance", "--organization", organization.name)
    assert set(answer) == {"email", "password"}
    user = authenticate(username=email, password=answer["password"])
    assert user is not None
    assert organization.members.get(user=user).role == "finance"


def test_an_operator_is_made_without_an_organization() -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    out = run("create_user", email, "--role", "operator")
    [password] = [line.split()[-1] for line in out.splitlines() if line.startswith("Password:")]
    user = authenticate(username=email, password=password)
    assert user is not None and user.is_superuser


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["alice@example.com", "--role", "finance"], "needs an organization"),
        (["alice@example.com", "--role", "finance", "--organization", "nobody's"], "no organization"),
        (["alice", "--role", "operator"], "email"),
        (["alice@example.com", "--role", "emperor"], "role"),
    ],
)
def test_a_bad_person_is_refused_with_a_sentence(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("create_user", *arguments)
