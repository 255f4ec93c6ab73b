"""API keys: their form, what is kept of them, and how they end."""

import hmac
from datetime import timedelta

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from aigov import clock, database
from aigov.organizations import keys
from aigov.organizations.keys import MalformedKey, create_api_key, issue, parse, revoke_api_key, verify
from aigov.organizations.models import ApiKey, AuditEntry, Organization, Scope
from aigov.snapshots import CHANNEL

ACTING = "alice@example.com"


def test_a_key_has_the_form_that_secret_scanners_look_for() -> None:
    token = str(issue())
    assert keys.TOKEN_PATTERN.fullmatch(token)
    assert token.startswith("aig_")
    assert len(token) == 64


def test_a_key_reads_back_as_what_was_issued() -> None:
    token = issue()
    assert parse(str(token)) == token


def test_two_keys_differ_in_id_and_secret() -> None:
    one, other = issue(), issue()
    assert one.key_id != other.key_id
    assert one.secret != other.secret


def test_the_secret_is_not_in_the_repr() -> None:
    token = issue()
    assert token.secret not in repr(token)


@given(place=st.integers(4, 63), sign=st.sampled_from(keys.ALPHABET))
def test_a_typo_in_id_or_secret_is_refused_without_a_look_up(place: int, sign: str) -> None:
    token = str(issue())
    typo = token[:place] + sign + token[place + 1 :]
    if typo == token:
        assert str(parse(typo)) == token
        return
    with pytest.raises(MalformedKey):
        parse(typo)


@given(st.text())
def test_text_that_was_never_issued_is_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse(text)


@pytest.mark.parametrize("change", [lambda key: key + "\n", lambda key: " " + key, lambda key: key[:-1]])
def test_a_key_with_more_or_less_around_it_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MalformedKey):
        parse(change(str(issue())))


def test_only_the_own_secret_is_verified() -> None:
    token, other = issue(), issue()
    stored = keys.secret_hmac(token.secret)
    assert verify(token, stored)
    assert not verify(other, stored)


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    token = issue()
    assert verify(token, keys.secret_hmac(token.secret))
    assert len(compared) == 1


def test_another_secret_key_voids_all_keys() -> None:
    token = issue()
    stored = keys.secret_hmac(token.secret)
    with override_settings(SECRET_KEY="quite another secret key"):
        assert not verify(token, stored)


def test_base62_is_positional_and_never_cuts() -> None:
    assert keys.base62(0, length=2) == "00"
    assert keys.base62(62, length=2) == "10"
    assert keys.base62(62**2 - 1, length=2) == "zz"
    with pytest.raises(OverflowError):
        keys.base62(62**2, length=2)


def test_random_bytes_and_checksum_always_fit() -> None:
    assert len(keys.base62(2**256 - 1, length=keys.RANDOM_LENGTH)) == keys.RANDOM_LENGTH
    assert len(keys.base62(2**32 - 1, length=keys.CHECKSUM_LENGTH)) == keys.CHECKSUM_LENGTH


def test_the_database_keeps_no_part_of_the_secret(organization: Organization) -> None:
    api_key, key = create_api_key(
        organization=organization, name="crm", scopes=[Scope.BUDGET_READ], acting=ACTING
    )
    secret = parse(key).secret
    with psycopg.connect(database.conninfo()) as conn:
        [row] = conn.execute(
            "SELECT k::text, secret_hmac FROM organizations_apikey k WHERE id = %s", [api_key.pk]
        )
        [[audit]] = conn.execute(
            "SELECT string_agg(a::text, '') FROM organizations_auditentry a WHERE target = %s",
            [f"aig_{api_key.key_id}"],
        )
    assert row[1] == keys.secret_hmac(secret)
    for place in range(0, len(secret) - 8):
        assert secret[place : place + 8] not in row[0] + audit
        assert secret[place : place + 8].encode() not in row[1]


def test_creating_a_key_is_audited(organization: Organization) -> None:
    api_key, _key = create_api_key(
        organization=organization, name="crm", scopes=["budget:read"], acting=ACTING
    )
    entry = AuditEntry.objects.get(target=f"aig_{api_key.key_id}")
    assert (entry.actor, entry.action, entry.organization) == (ACTING, "api_key.create", organization)
    assert entry.after["scopes"] == ["budget:read"]


@pytest.mark.parametrize("scopes", [[], ["budget:burn"], ["budget:read", "budget:burn"]])
def test_a_key_needs_scopes_that_exist(organization: Organization, scopes: list[str]) -> None:
    with pytest.raises(ValidationError):
        create_api_key(organization=organization, name="crm", scopes=scopes, acting=ACTING)
    assert not organization.api_keys.exists()


def test_the_database_refuses_an_unknown_scope(organization: Organization) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.create(
            organization=organization, name="crm", key_id=issue().key_id, secret_hmac=b"", scopes=["all"]
        )


def test_a_key_cannot_begin_its_life_expired(organization: Organization) -> None:
    with pytest.raises(ValidationError):
        create_api_key(
            organization=organization,
            name="crm",
            scopes=Scope.values,
            acting=ACTING,
            expires_at=clock.now() - timedelta(seconds=1),
        )


def test_a_key_is_revoked_once_and_audited(organization: Organization) -> None:
    api_key, _key = create_api_key(organization=organization, name="crm", scopes=Scope.values, acting=ACTING)
    assert revoke_api_key(api_key=api_key, acting=ACTING, reason="left the company")
    first = ApiKey.objects.get(pk=api_key.pk).revoked_at
    assert first is not None
    assert not revoke_api_key(api_key=api_key, acting=ACTING, reason="again")
    assert ApiKey.objects.get(pk=api_key.pk).revoked_at == first
    [entry] = AuditEntry.objects.filter(target=f"aig_{api_key.key_id}", action="api_key.revoke")
    assert entry.reason == "left the company"
    assert entry.before["revoked_at"] is None
    assert entry.after["revoked_at"] == first.isoformat()


def test_keys_and_organizations_announce_their_changes(organization: Organization) -> None:
    def announced(conn: "psycopg.Connection[tuple[object, ...]]") -> set[str]:
        return {notice.payload for notice in conn.notifies(timeout=1, stop_after=1)}

    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        conn.execute(f"LISTEN {CHANNEL}")
        api_key, _key = create_api_key(
            organization=organization, name="crm", scopes=Scope.values, acting=ACTING
        )
        assert "api_keys" in announced(conn)
        revoke_api_key(api_key=api_key, acting=ACTING, reason="")
        assert "api_keys" in announced(conn)
        Organization.objects.filter(pk=organization.pk).update(time_zone="Europe/Lisbon")
        assert "api_keys" in announced(conn)
