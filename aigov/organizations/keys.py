"""API keys: `aig_<id>.<secret>`, shown once, of which only an HMAC is kept.

The id finds the row. The secret is 32 random bytes and ends with a checksum over the whole key, so
that a typo is refused without a look-up, and secret scanners can tell a key from chance:

    aig_ 10 letters or digits . 43 letters or digits (the random bytes) 6 letters or digits (CRC32)

What is stored is HMAC-SHA256(secret) under a key derived from `SECRET_KEY`: a copy of the database
opens nothing, and whoever changes `SECRET_KEY` voids all keys.
"""

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import ApiKey, Organization, Scope, User

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 10
SECRET_BYTES = 32
RANDOM_LENGTH = 43  # base62 digits that hold 32 bytes
CHECKSUM_LENGTH = 6  # base62 digits that hold 32 bits
TOKEN_PATTERN = re.compile(r"aig_([0-9A-Za-z]{10})\.([0-9A-Za-z]{49})", re.ASCII)
PURPOSE = b"aigov.organizations.keys: secrets of API keys at rest, 1"


class MalformedKey(ValueError):
    """This was never issued: a typo, a cut, or something else altogether."""


@dataclass(frozen=True, slots=True)
class Token:
    """A whole key. Its `str` is what the client sends; its `repr`, as in a log, keeps the secret."""

    key_id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"aig_{self.key_id}.{self.secret}"


def issue() -> Token:
    """A new random key."""
    key_id = "".join(secrets.choice(ALPHABET) for _place in range(ID_LENGTH))
    random = base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), length=RANDOM_LENGTH)
    return Token(key_id, random + _checksum(key_id, random))


def parse(text: str) -> Token:
    """The key that `text` is; raises `MalformedKey` where its form or checksum is wrong."""
    match = TOKEN_PATTERN.fullmatch(text)
    if match is None:
        raise MalformedKey("no API key")
    key_id, secret = match.groups()
    if _checksum(key_id, secret[:RANDOM_LENGTH]) != secret[RANDOM_LENGTH:]:
        raise MalformedKey("the checksum is wrong")
    return Token(key_id, secret)


def secret_hmac(secret: str) -> bytes:
    """What is kept of `secret`: 32 bytes."""
    return hmac.digest(_hashing_key(settings.SECRET_KEY), secret.encode(), "sha256")


def verify(token: Token, stored_hmac: bytes) -> bool:
    """Whether `stored_hmac` was made from the secret of `token`, in constant time."""
    return hmac.compare_digest(secret_hmac(token.secret), stored_hmac)


def base62(number: int, *, length: int) -> str:
    """`number`, not negative, as `length` base62 digits, padded with zeros; raises where it does not fit."""
    digits = []
    for _place in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    if number:
        raise OverflowError(f"needs more than {length} digits")
    return "".join(reversed(digits))


def create_api_key(
    *,
    organization: Organization,
    name: str,
    scopes: Iterable[str],
    acting: Acting,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Issue a key for `organization`; the second of the pair is the key itself, which can't be had again.

    Raises `ValidationError` where a scope is unknown or `expires_at` is past.
    """
    chosen = _known_scopes(scopes)
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationError({"expires_at": _("The key would have expired already.")})
    token = issue()
    with transaction.atomic():
        api_key = ApiKey.objects.create(
            organization=organization,
            name=name,
            key_id=token.key_id,
            secret_hmac=secret_hmac(token.secret),
            scopes=chosen,
            created_by=acting if isinstance(acting, User) else None,
            expires_at=expires_at,
        )
        _audit(api_key, acting=acting, action="api_key.create", after=_facts(api_key))
    return api_key, str(token)


def revoke_api_key(*, api_key: ApiKey, acting: Acting, reason: str) -> bool:
    """Refuse this key from now on, in every process within 5 s; False where it was revoked before."""
    revoked_at = clock.now()
    with transaction.atomic():
        unrevoked = ApiKey.objects.filter(pk=api_key.pk, revoked_at__isnull=True)
        if unrevoked.update(revoked_at=revoked_at) != 1:
            return False
        before = _facts(api_key)
        api_key.revoked_at = revoked_at
        _audit(
            api_key,
            acting=acting,
            action="api_key.revoke",
            before=before,
            after=_facts(api_key),
            reason=reason,
        )
    return True


@lru_cache(maxsize=4)
def _hashing_key(secret_key: str) -> bytes:
    return hmac.digest(secret_key.encode(), PURPOSE, "sha256")


def _checksum(key_id: str, random: str) -> str:
    return base62(zlib.crc32(f"{key_id}.{random}".encode()), length=CHECKSUM_LENGTH)


def _known_scopes(scopes: Iterable[str]) -> list[str]:
    wanted = {str(scope) for scope in scopes}
    unknown = sorted(wanted.difference(Scope.values))
    if unknown:
        raise ValidationError({"scopes": _("Unknown scope: %(scopes)s.") % {"scopes": ", ".join(unknown)}})
    if not wanted:
        raise ValidationError({"scopes": _("A key needs at least one scope.")})
    return sorted(wanted)


def _facts(api_key: ApiKey) -> dict[str, object]:
    return {
        "name": api_key.name,
        "scopes": api_key.scopes,
        "expires_at": api_key.expires_at.isoformat() if api_key.expires_at else None,
        "revoked_at": api_key.revoked_at.isoformat() if api_key.revoked_at else None,
    }


def _audit(
    api_key: ApiKey,
    *,
    acting: Acting,
    action: str,
    after: dict[str, object],
    before: dict[str, object] | None = None,
    reason: str = "",
) -> None:
    write_audit_entry(
        organization=api_key.organization,
        acting=acting,
        action=action,
        target=f"aig_{api_key.key_id}",
        before=before,
        after=after,
        reason=reason,
    )
