"""Organizations, members, people and API keys in the admin."""

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import httpx2
import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import reverse

from aigov import clock
from aigov.organizations.audit_words import action_words, difference, facts_changed, value_words
from aigov.organizations.create import create_user
from aigov.organizations.keys import revoke_api_key
from aigov.organizations.models import ApiKey, AuditEntry, Member, Organization, Tenant, User
from tests.admin_world import (
    add_page,
    as_role,
    change_page,
    errors_of,
    last_audit_entry,
    list_page,
    logged_in,
    person,
    text_of,
)
from tests.conftest import Server

TOKEN = re.compile(r"aig_[0-9A-Za-z]{10}\.[0-9A-Za-z]{49}")


def button(row: object, name: str) -> str:
    return change_page(row).replace("/change/", f"/{name}/")  # type: ignore[arg-type]


def make_key(client: Client, organization: Organization, **more: object) -> tuple[ApiKey, str]:
    """Makes a key in the admin, and gives the token that the next page shows."""
    form = {"organization": organization.pk, "name": "crm", "scopes": ["budget:read"], **more}
    page = text_of(client.post(add_page(ApiKey), form, follow=True))
    [token] = set(TOKEN.findall(page))
    return ApiKey.objects.get(key_id=token[4:14]), token


# --- API keys


def test_a_new_key_is_shown_once_and_never_again(organization: Organization, server: Server) -> None:
    client = as_role("admin", organization)
    key, token = make_key(client, organization)
    secret = token.partition(".")[2]
    for address in (list_page(ApiKey), change_page(key), reverse("admin:index"), list_page(AuditEntry)):
        assert secret not in text_of(client.get(address))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_session WHERE session_data LIKE %s", [f"%{secret}%"])
        assert cursor.fetchone() == (0,)
    server.refresh()
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as api:
        assert api.get("/api/v1/budget").status_code == 200


def test_a_revoked_key_is_refused_and_stays_in_the_list(organization: Organization, server: Server) -> None:
    admin = person("admin", organization)
    client = logged_in(admin)
    key, token = make_key(client, organization)
    asked = text_of(client.get(button(key, "revoke")))
    assert "This cannot be undone." in asked
    client.post(button(key, "revoke"), {"reason": "leaked"})
    server.refresh()
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as api:
        assert api.get("/api/v1/budget").status_code == 401
    entry = last_audit_entry(organization, "api_key.revoke")
    assert (entry.actor, entry.reason) == (admin.email, "leaked")
    assert "revoked" in text_of(client.get(list_page(ApiKey)))
    assert button(key, "revoke") not in text_of(client.get(change_page(key)))


def test_a_key_is_not_revoked_without_a_reason(organization: Organization) -> None:
    client = as_role("admin", organization)
    key, _token = make_key(client, organization)
    errors = errors_of(client.post(button(key, "revoke"), {"reason": ""}))
    assert errors == {"reason": ["Please give a reason for the change."]}
    key.refresh_from_db()
    assert key.revoked_at is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, "expires_at"),
    ],
)
def test_a_bad_key_is_refused_at_its_field(
    organization: Organization, wrong: dict[str, object], field: str
) -> None:
    form = {"organization": organization.pk, "name": "crm", "scopes": ["budget:read"], **wrong}
    errors = errors_of(as_role("admin", organization).post(add_page(ApiKey), form))
    assert list(errors) == [field]


def test_no_key_is_made_for_anothers_organization(make_organization: Callable[..., Organization]) -> None:
    ours, theirs = make_organization(), make_organization()
    form = {"organization": theirs.pk, "name": "crm", "scopes": ["budget:read"]}
    errors = errors_of(as_role("admin", ours).post(add_page(ApiKey), form))
    assert "organization" in errors
    assert not ApiKey.objects.filter(organization=theirs).exists()


@pytest.mark.parametrize("state", ["in force", "expired", "revoked"])
def test_keys_are_found_by_their_state(organization: Organization, state: str) -> None:
    client = as_role("admin", organization)
    keys = {name: make_key(client, organization, name=name)[0] for name in ("in force", "expired", "revoked")}
    ApiKey.objects.filter(name="expired", organization=organization).update(expires_at=clock.now())
    revoke_api_key(api_key=keys["revoked"], acting="the tests", reason="a test")
    page = text_of(client.get(list_page(ApiKey), {"state": state}))
    assert {name for name, key in keys.items() if change_page(key) in page} == {state}


# --- Members and people


def test_a_new_member_gets_a_password_that_is_shown_once(organization: Organization) -> None:
    client = as_role("admin", organization)
    email = f"{uuid4().hex}@example.com"
    page = text_of(
        client.post(
            add_page(Member),
            {"organization": organization.pk, "email": email, "role": "finance"},
            follow=True,
        )
    )
    password = re.search(rf"Password of {email}: (\S+)", page)
    assert password
    assert Client().login(username=email, password=password[1])
    assert password[1] not in text_of(client.get(list_page(Member)))


def test_who_exists_already_keeps_their_password(make_organization: Callable[..., Organization]) -> None:
    """Or an administrator of one organization could log in as a person of another."""
    ours, theirs = make_organization(), make_organization()
    user, password = create_user(
        email=f"{uuid4().hex}@example.com", role="admin", organization=theirs, acting="the tests"
    )
    form = {"organization": ours.pk, "email": user.email.upper(), "role": "manager"}
    page = text_of(as_role("admin", ours).post(add_page(Member), form, follow=True))
    assert "Password of" not in page
    assert Client().login(username=user.email, password=password)
    assert Member.objects.get(organization=ours, user=user).role == "manager"
    assert last_audit_entry(ours, "member.add").after == {"role": "manager"}


def test_nobody_is_a_member_twice_and_no_operator_is_one(organization: Organization) -> None:
    client = as_role("admin", organization)
    for user in (person("finance", organization), person("operator")):
        form = {"organization": organization.pk, "email": user.email, "role": "admin"}
        assert errors_of(client.post(add_page(Member), form)) == {
            "email": ["This person has a role there already."]
        }


def test_another_role_and_removal_are_audited(organization: Organization) -> None:
    admin, user = person("admin", organization), person("manager", organization)
    member = Member.objects.get(user=user)
    client = logged_in(admin)
    assert errors_of(client.post(change_page(member), {"role": "finance", "reason": ""})) == {
        "reason": ["Please give a reason for the change."]
    }
    client.post(change_page(member), {"role": "finance", "reason": "new job"})
    entry = last_audit_entry(organization, "member.change")
    assert (entry.actor, entry.target, entry.reason) == (admin.email, user.email, "new job")
    assert (entry.before, entry.after) == ({"role": "manager"}, {"role": "finance"})

    client.post(button(member, "remove"), {"reason": "left"})
    assert not Member.objects.filter(pk=member.pk).exists()
    assert User.objects.filter(pk=user.pk).exists()
    assert last_audit_entry(organization, "member.remove").before == {"role": "finance"}


def test_people_are_seen_with_the_roles_that_concern_the_viewer(
    make_organization: Callable[..., Organization],
) -> None:
    ours, theirs = make_organization(), make_organization()
    user = person("manager", ours)
    Member.objects.create(user=user, organization=theirs, role="finance")
    page = text_of(as_role("admin", ours).get(list_page(User)))
    assert f"{ours.name}: manager" in page
    assert theirs.name not in page


def test_an_operator_shuts_a_person_out(organization: Organization) -> None:
    operator, user = person("operator"), person("manager", organization)
    logged_in(operator).post(change_page(user), {"name": "Jo", "language": "de", "reason": "left"})
    user.refresh_from_db()
    assert (user.name, user.is_active, user.language) == ("Jo", False, "de")
    after = {"name": "Jo", "active": False, "language": "de"}
    assert last_audit_entry(None, "user.change").after == after
    errors = errors_of(logged_in(operator).post(change_page(operator), {"name": "", "reason": "x"}))
    assert errors == {"is_active": ["Nobody can shut themselves out."]}


def test_a_new_password_logs_a_person_out_everywhere(organization: Organization) -> None:
    user = person("manager", organization)
    client = logged_in(user)
    operator = as_role("operator")
    page = text_of(operator.post(button(user, "new-password"), {"reason": "forgotten"}, follow=True))
    password = re.search(rf"Password of {user.email}: (\S+)", page)
    assert password
    assert Client().login(username=user.email, password=password[1])
    assert client.get(reverse("admin:index")).status_code == 302
    assert last_audit_entry(None, "user.new_password").target == user.email


# --- Organizations and tenants


def test_an_operator_makes_tenants_and_organizations() -> None:
    client, name = as_role("operator"), f"Acme {uuid4().hex[:8]}"
    client.post(add_page(Tenant), {"name": f"{name} group"})
    tenant = Tenant.objects.get(name=f"{name} group")
    client.post(add_page(Organization), {"name": name, "tenant": tenant.pk, "time_zone": "Europe/Vienna"})
    made = Organization.objects.get(name=name)
    assert (made.tenant, made.time_zone) == (tenant, "Europe/Vienna")
    assert last_audit_entry(made, "organization.create").after == {
        "tenant": tenant.name,
        "time_zone": "Europe/Vienna",
    }
    client.post(add_page(Organization), {"name": f"{name} alone", "tenant": "", "time_zone": "Europe/Berlin"})
    assert Organization.objects.get(name=f"{name} alone").tenant.name == f"{name} alone"
    again = client.post(add_page(Organization), {"name": name, "tenant": "", "time_zone": "Europe/Berlin"})
    assert "name" in errors_of(again)


def test_an_administrator_renames_their_organization(organization: Organization) -> None:
    client, name = as_role("admin", organization), f"New name {uuid4().hex[:8]}"
    assert client.get(add_page(Organization)).status_code == 403
    wrong = client.post(change_page(organization), {"name": name, "time_zone": "Mars/Base"})
    assert list(errors_of(wrong)) == ["time_zone"]
    form = {"name": name, "time_zone": "Europe/Paris", "reason": "moved"}
    client.post(change_page(organization), form)
    before = organization.name
    organization.refresh_from_db()
    assert (organization.name, organization.time_zone) == (name, "Europe/Paris")
    entry = last_audit_entry(organization, "organization.change")
    assert (entry.before, entry.reason) == ({"name": before, "time_zone": "Europe/Berlin"}, "moved")


# --- The audit trail


def test_the_audit_trail_reads_in_plain_words(organization: Organization) -> None:
    user = person("manager", organization)
    client = as_role("admin", organization)
    given = {"role": "finance", "reason": "a <new> job"}
    client.post(change_page(Member.objects.get(user=user)), given)
    entry = last_audit_entry(organization, "member.change")
    listed = text_of(client.get(list_page(AuditEntry)))
    shown = text_of(client.get(change_page(entry)))
    for page in (listed, shown):
        for words in ("Role changed", user.email, "a &lt;new&gt; job"):
            assert words in page
        assert "member.change" not in page
    assert "role: manager" in listed and "role: finance" in listed
    assert "<td>role</td><td>manager</td><td>finance</td>" in shown
    assert f"Role changed: {user.email}" in shown


def test_the_audit_trail_is_filtered_by_its_date(organization: Organization) -> None:
    client = as_role("admin", organization)
    key, _token = make_key(client, organization)
    for days, expected in ((1, False), (-1, True)):
        since = clock.now() + timedelta(days=days)
        listed = client.get(list_page(AuditEntry), {"at__gte": since.isoformat()})
        assert (f"aig_{key.key_id}" in text_of(listed)) is expected


@pytest.mark.parametrize(
    ("action", "words"),
    [("budget.cap_changed", "Cap changed"), ("some_thing.was_done", "Some thing: was done")],
)
def test_an_action_is_named_in_words(action: str, words: str) -> None:
    assert action_words(action) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        ({}, "–"),
        ({"role": None}, "–"),
        (0.8, "0.8"),
        (0, "0"),
        ("PT4H", "PT4H"),
        (["a", "b"], "a, b"),
        ({"active": True, "operator": False, "role": None}, "active: yes; operator: no"),
        ({"cap_eur": "1200.50"}, "cap: 1,200.50\N{NO-BREAK SPACE}€"),
        ({"cap_eur": "no amount"}, "cap: no amount"),
        ({"expires_at": "2026-12-01T11:30:00+00:00"}, "expires: 1 Dec 2026, 12:30"),
        ({"expires_at": "2026-13-41T11:30:00"}, "expires: 2026-13-41T11:30:00"),
        ({"time_zone": "Europe/Paris"}, "time zone: Europe/Paris"),
        ([{"input": "1.25"}, {"input": "2.5"}], "input: 1.25, input: 2.5"),
    ],
)
def test_a_value_is_shown_in_words(value: object, words: str) -> None:
    assert value_words(value) == words


def test_what_has_not_changed_is_left_out() -> None:
    before, after = {"name": "crm", "revoked_at": None}, {"name": "crm", "revoked_at": "now"}
    assert (difference(before, after), difference(after, before)) == (
        {"revoked_at": None},
        {"revoked_at": "now"},
    )
    assert difference(0.7, 0.8) == 0.7
    assert facts_changed(before, after) == [("name", "crm", "crm"), ("revoked", "–", "now")]
    assert facts_changed(0.7, None) == [("", "0.7", "–")]
    assert facts_changed(None, {"role": "admin"}) == [("role", "–", "admin")]
    assert facts_changed(None, None) == []


def test_the_audit_trail_is_the_only_history(organization: Organization) -> None:
    logged = LogEntry.objects.count()
    make_key(as_role("admin", organization), organization)
    assert LogEntry.objects.count() == logged
