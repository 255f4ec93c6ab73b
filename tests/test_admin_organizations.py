"""Organizations, members, people and API keys in the admin."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.urls import reverse

from aigov import clock
from aigov.organizations.audit_words import action_words, difference, facts_changed, value_words
from aigov.organizations.create import create_user
from aigov.organizations.keys import revoke_api_key
from aigov.organizations.models import ApiKey, AuditEntry, Mail, Member, Organization, Tenant, User
from aigov.organizations.passwords import set_password
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


def test_a_new_member_sets_their_own_password_and_nobody_else_sees_one(organization: Organization) -> None:
    client, email = as_role("admin", organization), f"{uuid4().hex}@example.com"
    form = {"organization": organization.pk, "email": email, "role": "finance"}
    page = text_of(client.post(add_page(Member), form, follow=True))
    assert f"A link to set a password goes to {email}." in page
    user, link = User.objects.get(email=email), link_to(email)
    assert not user.has_usable_password()
    assert link not in page
    entries = AuditEntry.objects.filter(organization=organization, target=email).order_by("id")
    assert [entry.action for entry in entries] == ["user.create", "user.password_link", "member.add"]
    assert_sets_password(link, email, "a password of my own")
    assert last_audit_entry(None, "user.password_set").actor == email


def test_who_exists_already_keeps_their_password(make_organization: Callable[..., Organization]) -> None:
    """Or an administrator of one organization could log in as a person of another."""
    ours, theirs = make_organization(), make_organization()
    user, password = create_user(
        email=f"{uuid4().hex}@example.com", role="admin", organization=theirs, acting="the tests"
    )
    form = {"organization": ours.pk, "email": user.email.upper(), "role": "manager"}
    page = text_of(as_role("admin", ours).post(add_page(Member), form, follow=True))
    assert "A link to set a password" not in page
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


def test_an_administrator_sends_a_link_and_the_present_password_holds_until_it_is_used(
    organization: Organization,
) -> None:
    user = person("manager", organization)
    at_work = logged_in(user)
    member = Member.objects.get(user=user)
    admin = as_role("admin", organization)
    page = text_of(admin.post(button(member, "send-link"), {"reason": "forgotten"}, follow=True))
    link = link_to(user.email)
    assert link not in page
    assert at_work.get(reverse("admin:index")).status_code == 200
    entry = last_audit_entry(organization, "user.password_link")
    assert (entry.target, entry.reason) == (user.email, "forgotten")

    assert_sets_password(link, user.email, "another password")
    assert at_work.get(reverse("admin:index")).status_code == 302


def test_an_operator_too_only_sends_a_link(organization: Organization) -> None:
    user = person("manager", organization)
    page = text_of(as_role("operator").post(button(user, "send-link"), {"reason": "forgotten"}, follow=True))
    assert link_to(user.email) not in page
    assert last_audit_entry(None, "user.password_link").target == user.email


@pytest.mark.parametrize("role", ["finance", "manager", "auditor"])
def test_others_send_no_links(organization: Organization, role: str) -> None:
    member = Member.objects.get(user=person("manager", organization))
    client = as_role(role, organization)
    assert client.post(button(member, "send-link"), {"reason": "x"}).status_code in (302, 403)
    assert not Mail.objects.filter(recipient=member.user.email).exists()


def test_who_is_shut_out_gets_no_link_and_can_use_none(organization: Organization) -> None:
    user, operator = person("manager", organization), as_role("operator")
    operator.post(button(user, "send-link"), {"reason": "forgotten"})
    user.is_active = False
    user.save()
    assert LINK_IS_OVER in text_of(Client().get(link_to(user.email), follow=True))
    answer = operator.post(button(user, "send-link"), {"reason": "forgotten"})
    assert errors_of(answer) == {"__all__": [f"{user} is shut out."]}


def test_a_link_ends_with_its_time_or_a_login(organization: Organization, settings: Any) -> None:
    user = person("manager", organization)
    as_role("operator").post(button(user, "send-link"), {"reason": "forgotten"})

    def works() -> bool:
        return LINK_IS_OVER not in text_of(Client().get(link_to(user.email), follow=True))

    settings.PASSWORD_RESET_TIMEOUT = -1
    assert not works()
    settings.PASSWORD_RESET_TIMEOUT = 60
    assert works()
    logged_in(user)
    assert not works()


def test_of_two_who_use_a_link_at_once_one_sets_the_password(organization: Organization) -> None:
    """Both have the form; the token is looked at again in the transaction that writes."""
    user = person("manager", organization)
    as_role("operator").post(button(user, "send-link"), {"reason": "forgotten"})
    token = link_to(user.email).rstrip("/").rpartition("/")[2]
    stale = User.objects.get(pk=user.pk)
    set_password(user=user, token=token, password="the first password")
    with pytest.raises(ValidationError, match="does not work any more"):
        set_password(user=stale, token=token, password="the second password")
    assert Client().login(username=user.email, password="the first password")


LINK_IS_OVER = "This link does not work any more"


def link_to(email: str) -> str:
    """The address in the last mail to that person."""
    mail = Mail.objects.filter(recipient=email).latest("id")
    found = re.search(r"https?://[^/]+(/admin/password/\S+)", mail.body)
    assert found
    return found[1]


def assert_sets_password(link: str, email: str, password: str) -> None:
    client = Client()
    form = client.get(link, follow=True)
    address = form.redirect_chain[-1][0]
    assert link not in text_of(form)

    def send(password: str) -> str:
        given = {"new_password1": password, "new_password2": password}
        return text_of(client.post(address, given, follow=True))

    assert "This password is too short" in send("short")
    assert "Your password is set." in send(password)
    assert Client().login(username=email, password=password)
    assert LINK_IS_OVER in text_of(Client().get(link, follow=True))


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
