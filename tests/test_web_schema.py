"""What the OpenAPI schema says of every operation."""

from typing import Any

from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.validation import validate_schema
from rest_framework.request import Request
from rest_framework.response import Response

from aigov.api import ApiView


class Thing(ApiView):
    required_scope = "budget:read"

    @extend_schema(responses={200: str})
    async def get(self, request: Request) -> Response:
        return Response("")


def schema() -> dict[str, Any]:
    generator = SchemaGenerator(patterns=[path("api/v1/thing", Thing.as_view())])
    described: dict[str, Any] = generator.get_schema(request=None, public=True)
    validate_schema(described)
    return described


def test_operations_ask_for_a_key() -> None:
    described = schema()
    assert described["paths"]["/api/v1/thing"]["get"]["security"] == [{"ApiKey": []}]
    assert described["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_operations_describe_the_errors_envelope() -> None:
    described = schema()
    responses = described["paths"]["/api/v1/thing"]["get"]["responses"]
    assert responses["default"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Error"
    }
    members = described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    assert set(members) == {"message", "type", "param", "code", "metadata"}
