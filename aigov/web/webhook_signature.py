"""The signature of Standard Webhooks 1.0.0 (standardwebhooks.com), for messages that come and that go.

`webhook-signature` is `v1,` and the base64 of HMAC-SHA-256(secret, id . timestamp . body), where the secret
is the base64 after `whsec_`, of 24 to 64 bytes. Source: github.com/standard-webhooks/standard-webhooks.
"""

import base64
import hmac
import secrets

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """What `webhook-signature` has to hold."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
