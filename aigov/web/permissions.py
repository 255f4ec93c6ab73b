"""Which scope of a key opens which view."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from aigov.errors import AuthenticationFailed, PermissionDenied
from aigov.organizations.principals import REFUSAL, Principal

if TYPE_CHECKING:
    # DRF imports this module while it sets up its views.
    from rest_framework.views import APIView


def require_scope(principal: Principal, scope: str) -> None:
    """Raises `PermissionDenied`, naming `scope`, where the key lacks it."""
    if scope not in principal.scopes:
        raise PermissionDenied(
            f"This API key lacks the scope “{scope}”.",
            code="missing_scope",
            metadata={"required_scope": scope},
        )


class HasScope(BasePermission):
    """Opens a view to keys that have its `required_scope`: one scope, or one for each method."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not isinstance(request.auth, Principal):
            raise AuthenticationFailed(REFUSAL)
        scope = scope_of(view, str(request.method))
        if scope is not None:
            require_scope(request.auth, scope)
        return True


def scope_of(view: Any, method: str) -> str | None:
    """The scope that `view` asks for; None for a method that it does not have, which is refused later.

    Raises `ImproperlyConfigured` where a view forgot to say: nothing is open by oversight.
    """
    required: str | Mapping[str, str] | None = getattr(view, "required_scope", None)
    if isinstance(required, str):
        return required
    scope = (required or {}).get("GET" if method == "HEAD" else method)
    if scope is None and method != "OPTIONS" and hasattr(view, method.lower()):
        raise ImproperlyConfigured(f"{type(view).__name__} names no required_scope for {method}.")
    return scope
