"""What is kept of a request with an `Idempotency-Key`, and of its answer, so that neither can be read.

Everything goes through the client's key, which is not kept: its row is found by a keyed hash, and the answer
is encrypted (AES-256-GCM) under a key that is derived from it and from `SECRET_KEY`. So a copy of the
database shows nothing; with `SECRET_KEY` too, it shows nothing to whoever cannot guess the client's key.

Secrets that we need again by ourselves (`sealed_text`) are encrypted under `SECRET_KEY` alone.
"""

import hmac
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from aigov.web.models import SEALED_BYTES_MAX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = "aigov.web.sealing: "
NONCE_BYTES = 12
TAG_BYTES = 16
LENGTH_BYTES = 4
#: Of an answer's body as the client gets it.
BODY_BYTES_MAX = 64 * 2**20
ZLIB_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a client's key comes to in one organization.

    Args:
        key_hash: finds the row.
        sealing_key: opens the answer.
    """

    key_hash: bytes
    sealing_key: bytes = field(repr=False)

    @classmethod
    def of(cls, *, organization_id: int, key: str) -> "Secrets":
        text = f"{organization_id} {key}".encode()
        return cls(_digest("finding answers, 1", text), _digest("sealing answers, 1", text))


def request_hash(address: str, body: bytes) -> bytes:
    """32 bytes that tell whether two requests are the same, and nothing else."""
    return _digest("telling requests apart, 1", address.encode() + b"\0" + body)


def sealed(answer: Answer, *, secrets: Secrets, bound_to: bytes) -> bytes | None:
    """The answer, compressed and encrypted; None where it is too large to keep.

    Args:
        bound_to: what must be shown again to open it, such as the request's hash.
    """
    if len(answer.body) > BODY_BYTES_MAX:
        return None
    head = json.dumps([answer.status, dict(answer.headers)]).encode()
    plain = b"".join((len(head).to_bytes(LENGTH_BYTES), head, zlib.compress(answer.body, ZLIB_LEVEL)))
    if NONCE_BYTES + len(plain) + TAG_BYTES > SEALED_BYTES_MAX:
        return None
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher(secrets).encrypt(nonce, plain, bound_to)


def opened(sealed: bytes, *, secrets: Secrets, bound_to: bytes) -> Answer:
    """The answer that `sealed` has made this of.

    Raises:
        cryptography.exceptions.InvalidTag: it was sealed for another key or request, or is damaged.
    """
    plain = _cipher(secrets).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    end = LENGTH_BYTES + int.from_bytes(plain[:LENGTH_BYTES])
    status, headers = json.loads(plain[LENGTH_BYTES:end])
    return Answer(status, headers, zlib.decompress(plain[end:]))


def _cipher(secrets: Secrets) -> "AESGCM":
    # Imported by those who need it: 11 MB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(secrets.sealing_key)


def _digest(purpose: str, text: bytes) -> bytes:
    return hmac.digest(_derived_key(settings.SECRET_KEY, purpose), text, "sha256")


@lru_cache(maxsize=8)
def _derived_key(secret_key: str, purpose: str) -> bytes:
    return hmac.digest(secret_key.encode(), f"{PURPOSE}{purpose}".encode(), "sha256")


# --- Secrets of ours that are needed again, such as the one that signs a webhook


def sealed_text(text: str, *, purpose: str, bound_to: str) -> bytes:
    """`text`, encrypted under a key that is derived from `SECRET_KEY` for this purpose.

    Args:
        bound_to: what must be shown again to open it, such as whose it is.
    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _text_cipher(purpose).encrypt(nonce, text.encode(), bound_to.encode())


def opened_text(sealed: bytes, *, purpose: str, bound_to: str) -> str:
    """The text that `sealed_text` has made this of.

    Raises:
        cryptography.exceptions.InvalidTag: it was sealed under another `SECRET_KEY`, or for something else.
    """
    nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    return _text_cipher(purpose).decrypt(nonce, text, bound_to.encode()).decode()


def _text_cipher(purpose: str) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_derived_key(settings.SECRET_KEY, f"sealing texts, 1: {purpose}"))
