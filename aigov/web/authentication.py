"""The way from a request's headers to its `Principal`: no query, no thread."""

from collections.abc import Mapping

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from aigov import clock
from aigov.errors import AuthenticationFailed
from aigov.organizations.principals import KEY_RING, REFUSAL, Principal

CHALLENGE = 'Bearer realm="aigov"'


def principal_of(headers: Mapping[str, str]) -> Principal:
    """Whom a request with these headers (looked up by lower-case name) acts for.

    The key is in `Authorization: Bearer …`, or in `x-api-key`, as the Anthropic SDK sends it.

    Raises:
        AuthenticationFailed: no key, or none that is valid now.
        BudgetUnavailable: the process has lost touch with the database, so that it can't know.
    """
    token = token_of(headers)
    if token is None:
        raise AuthenticationFailed(REFUSAL)
    return KEY_RING.current.principal(token, clock.now())


def token_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request brings, unjudged; None where it brings none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


class ApiKeyAuthentication(BaseAuthentication):
    """For DRF: `request.auth` is the `Principal`; `request.user` stays None, for a key is no person."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        if token_of(request.headers) is None:
            return None
        return None, principal_of(request.headers)

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE
