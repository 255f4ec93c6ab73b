"""From an exception to an answer."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import psycopg_pool
import pytest
from django import db
from django.contrib import admin
from django.core import exceptions as django_errors
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import include, path, re_path, reverse
from rest_framework import exceptions as drf_errors
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from aigov import errors
from aigov.api import ApiView
from aigov.web import errors as web_errors
from aigov.web.errors import (
    anthropic_body,
    gateway_error,
    headers_of,
    lean_view,
    openai_body,
    unknown_address,
)

SECRET = "what only we may know"


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["user"])


class BodySerializer(serializers.Serializer[Any]):
    messages = MessageSerializer(many=True)
    tags = serializers.ListField(child=serializers.CharField(max_length=3), required=False)


#: What the views below raise, by the last part of their address.
RAISED: dict[str, Callable[[], Exception]] = {
    "bad": lambda: errors.BadRequest("No such role.", param="messages[0].role"),
    "budget": lambda: errors.BudgetExceeded("Used up.", metadata={"limit_eur": "10.00"}),
    "defect": lambda: ZeroDivisionError(SECRET),
    "database": lambda: psycopg.OperationalError(SECRET),
    "404": Http404,
    "big": lambda: django_errors.RequestDataTooBig(SECRET),
}


@lean_view(methods=["POST"])
async def lean(request: HttpRequest, kind: str) -> HttpResponse:
    if kind in RAISED:
        raise RAISED[kind]()
    return HttpResponse("ok")


@lean_view(methods=["GET", "POST"], body=anthropic_body)
def lean_sync(request: HttpRequest, kind: str) -> HttpResponse:
    if kind in RAISED:
        raise RAISED[kind]()
    return HttpResponse("ok")


class Drf(ApiView):
    authentication_classes = ()
    permission_classes = ()

    async def post(self, request: Request, kind: str) -> Response:
        if kind in RAISED:
            raise RAISED[kind]()
        body = BodySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(body.validated_data)


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def drf_sync(request: Request, kind: str) -> Response:
    raise RAISED[kind]()


def outside(request: HttpRequest, kind: str) -> HttpResponse:
    raise {"400": django_errors.SuspiciousOperation, "403": django_errors.PermissionDenied}.get(
        kind, ValueError
    )(SECRET)


urlpatterns = [
    path("v1/lean/<str:kind>", lean),
    path("v1/lean-sync/<str:kind>", lean_sync),
    path("api/drf/<str:kind>", Drf.as_view()),
    path("api/drf-sync/<str:kind>", drf_sync),
    path("api/outside/<str:kind>", outside),
    path("outside/<str:kind>", outside),
    path("admin/", admin.site.urls),
    path("kpis/", include("kpis.urls")),
    re_path(r"^(api|v1)/", unknown_address),
]
handler400 = web_errors.handler400
handler403 = web_errors.handler403
handler404 = web_errors.handler404
handler500 = web_errors.handler500


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    middleware = ["aigov.web.middleware.request_headers"]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"]):
        yield


def post(address: str, body: Any = None) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(address, json.dumps(body or {}), content_type="application/json")


# --- What an exception means


@pytest.mark.parametrize(
    ("exc", "status", "kind", "code"),
    [
        (errors.BadRequest("x"), 400, "invalid_request_error", None),
        (errors.ModelNotPriced("x"), 400, "invalid_request_error", "model_not_priced"),
        (errors.AuthenticationFailed("x"), 401, "authentication_error", "invalid_api_key"),
        (errors.BudgetExceeded("x"), 402, "budget_exceeded", "organization_budget_exceeded"),
        (errors.PermissionDenied("x"), 403, "permission_error", None),
        (errors.NotFound("x"), 404, "not_found_error", "not_found"),
        (errors.IdempotencyConflict("x"), 422, "invalid_request_error", "idempotency_conflict"),
        (errors.RateLimited("x"), 429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (errors.BudgetUnavailable("x"), 503, "api_error", "budget_unavailable"),
        (errors.NoProviderAvailable("x"), 503, "api_error", "no_provider_available"),
        (drf_errors.ParseError(), 400, "invalid_request_error", "parse_error"),
        (drf_errors.NotAuthenticated(), 401, "authentication_error", "invalid_api_key"),
        (drf_errors.AuthenticationFailed(), 401, "authentication_error", "invalid_api_key"),
        (drf_errors.PermissionDenied(), 403, "permission_error", None),
        (drf_errors.NotFound(), 404, "not_found_error", "not_found"),
        (drf_errors.MethodNotAllowed("PUT"), 405, "invalid_request_error", "method_not_allowed"),
        (drf_errors.NotAcceptable(), 406, "invalid_request_error", "not_acceptable"),
        (drf_errors.UnsupportedMediaType("text/csv"), 415, "invalid_request_error", "unsupported_media_type"),
        (drf_errors.Throttled(), 429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (drf_errors.APIException(), 500, "api_error", "internal_error"),
        (Http404(), 404, "not_found_error", "not_found"),
        (django_errors.PermissionDenied(), 403, "permission_error", None),
        (django_errors.RequestDataTooBig(), 413, "invalid_request_error", "request_too_large"),
        (django_errors.BadRequest(), 400, "invalid_request_error", None),
        (django_errors.DisallowedHost(), 400, "invalid_request_error", None),
        (psycopg.OperationalError(), 503, "api_error", "budget_unavailable"),
        (psycopg.errors.QueryCanceled(), 503, "api_error", "budget_unavailable"),
        (psycopg_pool.PoolTimeout(), 503, "api_error", "budget_unavailable"),
        (db.OperationalError(), 503, "api_error", "budget_unavailable"),
        (db.InterfaceError(), 503, "api_error", "budget_unavailable"),
    ],
    ids=lambda value: type(value).__qualname__ if isinstance(value, Exception) else None,
)
def test_every_error_has_its_status_type_and_code(
    exc: Exception, status: int, kind: str, code: str | None
) -> None:
    error = gateway_error(RequestFactory().get("/"), exc)
    assert (error.status, error.type, error.code) == (status, kind, code)
    assert error.message


def test_other_errors_of_the_database_are_defects() -> None:
    assert gateway_error(RequestFactory().get("/"), psycopg.errors.UniqueViolation()).status == 500


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.BudgetExceeded("x"), {"x-should-retry": "false"}),
        (
            errors.BudgetExceeded("x", code="in_flight_budget_exhausted", retry_after_s=2),
            {"x-should-retry": "true", "Retry-After": "2"},
        ),
        (
            errors.BudgetExceeded("x", code="in_flight_budget_exhausted"),
            {"x-should-retry": "true", "Retry-After": "1"},
        ),
        (errors.RateLimited("x", retry_after_s=7), {"x-should-retry": "true", "Retry-After": "7"}),
        (errors.BudgetUnavailable("x"), {"x-should-retry": "true", "Retry-After": "1"}),
        (errors.NoProviderAvailable("x", retry_after_s=30), {"x-should-retry": "true", "Retry-After": "30"}),
        (errors.AuthenticationFailed("x"), {"WWW-Authenticate": 'Bearer realm="aigov"'}),
        (errors.BadRequest("x"), {}),
        (errors.NotFound("x"), {}),
    ],
)
def test_the_client_program_is_told_whether_to_repeat(
    error: errors.GatewayError, headers: dict[str, str]
) -> None:
    assert headers_of(error) == headers


def test_the_wait_of_a_throttled_request_is_told() -> None:
    error = gateway_error(RequestFactory().get("/"), drf_errors.Throttled(wait=2.5))
    assert headers_of(error)["Retry-After"] == "3"


@pytest.mark.parametrize(
    ("detail", "param", "message"),
    [
        ("Wrong.", None, "Wrong."),
        ({"tier": ["Unknown."]}, "tier", "Unknown."),
        ({"messages": [{}, {"role": ["Unknown."]}]}, "messages[1].role", "Unknown."),
        ({"tags": {2: ["Too long."]}}, "tags[2]", "Too long."),
        ({"non_field_errors": ["Wrong."]}, None, "Wrong."),
        ({"metadata": {"non_field_errors": ["Wrong."]}}, "metadata", "Wrong."),
        ([{"kind": ["Unknown."]}], "[0].kind", "Unknown."),
        ({}, None, "The request is malformed."),
    ],
)
def test_a_wrong_field_is_named_by_its_path(detail: Any, param: str | None, message: str) -> None:
    error = gateway_error(RequestFactory().get("/"), drf_errors.ValidationError(detail))
    assert (error.status, error.param, error.message) == (400, param, message)


def test_all_wrong_fields_are_listed_up_to_a_limit() -> None:
    detail = {f"field{number}": ["Wrong."] for number in range(30)}
    error = gateway_error(RequestFactory().get("/"), drf_errors.ValidationError(detail))
    assert error.param == "field0"
    assert error.metadata["errors"][1] == {"param": "field1", "message": "Wrong."}
    assert len(error.metadata["errors"]) == web_errors.DETAILS_MAX


def test_djangos_validation_is_named_alike() -> None:
    exc = django_errors.ValidationError({"time_zone": ["No time zone."], "__all__": ["Wrong."]})
    error = gateway_error(RequestFactory().get("/"), exc)
    assert (error.param, error.message) == ("time_zone", "No time zone.")
    plain = gateway_error(RequestFactory().get("/"), django_errors.ValidationError("Wrong."))
    assert (plain.param, plain.message) == (None, "Wrong.")


def test_the_envelope_of_the_openai_api() -> None:
    error = errors.BadRequest("No.", param="tier", code="unknown_tier", metadata={"known": ["small"]})
    assert openai_body(error) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "tier",
            "code": "unknown_tier",
            "metadata": {"known": ["small"]},
        }
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest("x"), "invalid_request_error"),
        (errors.AuthenticationFailed("x"), "authentication_error"),
        (errors.BudgetExceeded("x"), "billing_error"),
        (errors.PermissionDenied("x"), "permission_error"),
        (errors.NotFound("x"), "not_found_error"),
        (errors.RateLimited("x"), "rate_limit_error"),
        (errors.BudgetUnavailable("x"), "api_error"),
    ],
)
def test_the_envelope_of_the_anthropic_api(error: errors.GatewayError, kind: str) -> None:
    assert anthropic_body(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


# --- Through the views


@pytest.mark.parametrize("view", ["/v1/lean", "/api/drf", "/api/drf-sync"])
@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("bad", 400, None),
        ("budget", 402, "organization_budget_exceeded"),
        ("defect", 500, "internal_error"),
        ("database", 503, "budget_unavailable"),
        ("404", 404, "not_found"),
        ("big", 413, "request_too_large"),
    ],
)
def test_all_kinds_of_views_answer_alike(view: str, kind: str, status: int, code: str | None) -> None:
    answer = post(f"{view}/{kind}")
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code", "metadata"}
    assert answer.json()["error"]["code"] == code
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("view", ["/v1/lean", "/api/drf"])
async def test_views_answer_alike_in_the_event_loop(view: str) -> None:
    answer = await AsyncClient().post(f"{view}/budget", "{}", content_type="application/json")
    assert answer.status_code == 402
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["metadata"] == {"limit_eur": "10.00"}


def test_a_view_may_have_the_other_envelope() -> None:
    answer = post("/v1/lean-sync/budget")
    assert answer.json()["error"]["type"] == "billing_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_view_without_an_error_is_let_be() -> None:
    assert post("/v1/lean/fine").content == b"ok"
    assert post("/v1/lean-sync/fine").content == b"ok"
    assert post("/api/drf/fine", {"messages": [{"role": "user"}]}).json()["messages"] == [{"role": "user"}]


def test_programs_need_no_csrf_token() -> None:
    middleware = ["aigov.web.middleware.request_headers", "django.middleware.csrf.CsrfViewMiddleware"]
    with override_settings(MIDDLEWARE=middleware):
        assert Client(enforce_csrf_checks=True).post("/v1/lean/fine").status_code == 200


@pytest.mark.parametrize(("view", "allow"), [("/v1/lean/fine", "POST"), ("/api/drf/fine", "POST, OPTIONS")])
def test_a_method_that_a_view_lacks_is_405(view: str, allow: str) -> None:
    answer = Client().delete(view)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == allow
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_serializers_name_the_place_in_the_body() -> None:
    answer = post("/api/drf/fine", {"messages": [{"role": "user"}, {"role": "king"}], "tags": ["long tag"]})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == "messages[1].role"
    assert error["code"] == "invalid_choice"
    assert [entry["param"] for entry in error["metadata"]["errors"]] == ["messages[1].role", "tags[0]"]


def test_what_is_no_json_is_415_or_400() -> None:
    form = Client().post("/api/drf/fine", {"messages": "x"})
    assert (form.status_code, form.json()["error"]["code"]) == (415, "unsupported_media_type")
    broken = Client().post("/api/drf/fine", "{", content_type="application/json")
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")


def test_a_defect_is_logged_with_the_requests_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="aigov.web.errors"):
        answer = post("/v1/lean/defect")
    [record] = [record for record in caplog.records if record.name == "aigov.web.errors"]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert record.exc_info


def test_a_refusal_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="aigov.web.errors"):
        post("/v1/lean/budget")
    assert not [record for record in caplog.records if record.name == "aigov.web.errors"]


# --- Outside every view


@pytest.mark.parametrize(("kind", "status"), [("400", 400), ("403", 403), ("500", 500)])
def test_outside_the_handler_the_api_speaks_json_too(kind: str, status: int) -> None:
    answer = post(f"/api/outside/{kind}")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("address", ["/api/v1/nothing", "/v1/nothing/", "/api/"])
def test_an_unknown_address_of_the_api_is_json(address: str) -> None:
    answer = Client().get(address)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_an_unknown_address_of_the_api_is_json_without_the_last_pattern() -> None:
    request = RequestFactory().get("/api/v1/nothing")
    assert b"not_found" in web_errors.handler404(request, Http404()).content  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "status"), [("/outside/400", 400), ("/outside/403", 403), ("/nothing", 404)]
)
def test_people_get_pages(address: str, status: int) -> None:
    answer = post(address)
    assert answer.status_code == status
    assert_leads_back(answer)


def test_people_get_a_page_for_a_defect_too() -> None:
    answer = post("/outside/500")
    assert answer.status_code == 500
    assert_leads_back(answer)
    assert SECRET not in answer.content.decode()


def test_people_get_a_page_for_a_form_without_its_token() -> None:
    middleware = ["aigov.web.middleware.request_headers", "django.middleware.csrf.CsrfViewMiddleware"]
    with override_settings(MIDDLEWARE=middleware):
        answer = Client(enforce_csrf_checks=True).post("/outside/403")
    assert answer.status_code == 403
    assert_leads_back(answer)
    assert "Your form was not sent" in answer.content.decode()


def assert_leads_back(answer: Any) -> None:
    """It is a page in our style, within the content policy, from which people find the way."""
    page = answer.content.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert static("aigov/problem.css") in page
    assert f'href="{reverse("admin:index")}"' in page
    assert "<style" not in page and "style=" not in page
