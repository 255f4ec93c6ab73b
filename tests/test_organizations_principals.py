"""From a key to whom it stands for."""

import asyncio
from datetime import datetime, timedelta

import psycopg
import pytest

from aigov import clock, database
from aigov.errors import AuthenticationFailed
from aigov.organizations.keys import create_api_key, issue, parse, revoke_api_key
from aigov.organizations.models import Organization, Scope
from aigov.organizations.principals import KeyRing, load_key_ring

ACTING = "tests"


def ring() -> KeyRing:
    async def load() -> KeyRing:
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
            return await load_key_ring(conn)

    return asyncio.run(load())


def new_key(organization: Organization, *, expires_at: datetime | None = None) -> str:
    _api_key, key = create_api_key(
        organization=organization,
        name="crm",
        scopes=[Scope.BUDGET_READ, Scope.KPIS_READ],
        acting=ACTING,
        expires_at=expires_at,
    )
    return key


def refusal(keys: KeyRing, token: str, now: datetime | None = None) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        keys.principal(token, now or clock.now())
    return str(caught.value)


def test_a_key_stands_for_its_organization(organization: Organization) -> None:
    key = new_key(organization)
    principal = ring().principal(key, clock.now())
    assert principal.organization_id == organization.pk
    assert principal.organization_name == organization.name
    assert principal.tenant_id == organization.tenant_id
    assert principal.time_zone == organization.time_zone
    assert principal.key_id == parse(key).key_id
    assert principal.scopes == {"budget:read", "kpis:read"}


def test_every_refusal_has_the_same_words(organization: Organization) -> None:
    now = clock.now()
    revoked, _key = create_api_key(organization=organization, name="crm", scopes=Scope.values, acting=ACTING)
    expiring = new_key(organization, expires_at=now + timedelta(hours=1))
    keys = ring()
    revoke_api_key(api_key=revoked, acting=ACTING, reason="")
    words = {
        refusal(keys, ""),
        refusal(keys, "aig_nonsense"),
        refusal(keys, str(issue())),
        refusal(ring(), _key),
        refusal(keys, expiring, now + timedelta(hours=2)),
    }
    assert len(words) == 1


def test_the_secret_of_another_key_does_not_open(organization: Organization) -> None:
    key = new_key(organization)
    stranger = issue()
    forged = type(stranger)(parse(key).key_id, stranger.secret)
    refusal(ring(), str(forged))


def test_a_forged_secret_with_a_right_checksum_does_not_open(organization: Organization) -> None:
    from aigov.organizations.keys import RANDOM_LENGTH, Token, _checksum

    key_id = parse(new_key(organization)).key_id
    random = "0" * RANDOM_LENGTH
    forged = str(Token(key_id, random + _checksum(key_id, random)))
    assert parse(forged).key_id == key_id
    refusal(ring(), forged)


def test_a_key_opens_up_to_the_instant_of_its_expiry(organization: Organization) -> None:
    expires_at = clock.now() + timedelta(hours=1)
    key = new_key(organization, expires_at=expires_at)
    keys = ring()
    assert keys.principal(key, expires_at - timedelta(microseconds=1)).organization_id == organization.pk
    refusal(keys, key, expires_at)


def test_a_revoked_key_is_gone_with_the_next_copy(organization: Organization) -> None:
    api_key, key = create_api_key(organization=organization, name="crm", scopes=Scope.values, acting=ACTING)
    assert ring().principal(key, clock.now())
    revoke_api_key(api_key=api_key, acting=ACTING, reason="lost")
    refusal(ring(), key)
