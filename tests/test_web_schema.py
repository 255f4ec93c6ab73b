"""What the OpenAPI schema says of every operation."""

from typing import Any

from django.templatetags.static import static
from django.test import Client
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


def test_the_whole_schema_is_valid_and_has_every_face() -> None:
    described: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    validate_schema(described)
    paths, shapes = described["paths"], described["components"]["schemas"]
    for path_, shape in {
        "/api/v1/completions": "NativeRequest",
        "/v1/chat/completions": "ChatCompletionRequest",
        "/v1/messages": "MessagesRequest",
    }.items():
        operation = paths[path_]["post"]
        asked = operation["requestBody"]["content"]["application/json"]["schema"]
        assert asked == {"$ref": f"#/components/schemas/{shape}"}
        assert {"application/json", "text/event-stream"} <= set(operation["responses"]["200"]["content"])
        assert "messages" in shapes[shape]["required"] and shapes[shape]["additionalProperties"] is False
    assert {"/v1/models", "/v1/models/{model}"} <= set(paths)


def test_the_page_of_the_api_keeps_to_the_content_policy() -> None:
    page = Client().get("/api/docs/").content.decode()
    assert static("aigov/api-docs.css") in page
    assert "<style" not in page and "<script>" not in page
