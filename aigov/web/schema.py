"""What the OpenAPI schema says of every operation: how to log in, and what an error looks like."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

ERROR = {
    "type": "object",
    "description": "Every answer other than a success.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "metadata"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string", "example": "budget_exceeded"},
                "param": {"type": "string", "nullable": True, "example": "messages[0].role"},
                "code": {"type": "string", "nullable": True, "example": "organization_budget_exceeded"},
                "metadata": {"type": "object", "additionalProperties": True},
            },
        }
    },
}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "aigov.web.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "aig_<id>.<secret>"}


class GatewaySchema(AutoSchema):
    """DRF's `DEFAULT_SCHEMA_CLASS`."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation["responses"].setdefault("default", self._error_response())
        return operation

    def _error_response(self) -> dict[str, Any]:
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="Error", type=ResolvedComponent.SCHEMA, object="Error", schema=ERROR
        )
        self.registry.register_on_missing(component)
        return {"description": "An error", "content": {"application/json": {"schema": component.ref}}}
