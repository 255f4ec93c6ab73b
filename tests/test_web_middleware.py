"""What every answer carries."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from aigov.web.middleware import ADMIN_POLICY, STRICT_POLICY, request_id_from


def own_policy(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", headers={"Content-Security-Policy": "default-src 'none'"})


def told_id(request: Any) -> HttpResponse:
    return HttpResponse(request.request_id)


async def told_id_async(request: Any) -> HttpResponse:
    return HttpResponse(request.request_id)


def length(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.META.get("CONTENT_LENGTH", ""))


urlpatterns = [
    path("own", own_policy),
    path("id", told_id),
    path("id-async", told_id_async),
    path("admin/id", told_id),
    path("length", length),
]


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    middleware = ["aigov.web.middleware.request_headers"]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"]):
        yield


@given(st.text(max_size=80))
def test_only_a_sane_request_id_is_taken_over(incoming: str) -> None:
    sane = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", incoming) is not None
    chosen = request_id_from(incoming)
    assert (chosen == incoming) == sane
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", chosen)


def test_without_one_each_request_gets_an_id_of_its_own() -> None:
    assert request_id_from(None) != request_id_from(None)


@pytest.mark.parametrize("address", ["/id", "/id-async"])
def test_the_view_and_the_answer_have_the_same_id(address: str) -> None:
    answer = Client().get(address, headers={"x-request-id": "caller-7"})
    assert answer.content == b"caller-7"
    assert answer.headers["x-request-id"] == "caller-7"


@pytest.mark.parametrize("address", ["/id", "/id-async"])
async def test_the_view_and_the_answer_have_the_same_id_in_the_event_loop(address: str) -> None:
    answer = await AsyncClient().get(address)
    assert answer.content.decode() == answer.headers["x-request-id"]


def test_an_answer_is_bound_to_our_own_scripts() -> None:
    headers = Client().get("/id").headers
    assert headers["Content-Security-Policy"] == STRICT_POLICY
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_strict_policy_allows_nothing_unsafe() -> None:
    assert "unsafe" not in STRICT_POLICY
    for directive in ("default-src 'self'", "object-src 'none'", "base-uri 'self'", "frame-ancestors 'none'"):
        assert directive in STRICT_POLICY


def test_the_admin_may_evaluate_what_its_framework_needs_and_no_inline_script() -> None:
    assert Client().get("/admin/id").headers["Content-Security-Policy"] == ADMIN_POLICY
    directives = dict(directive.split(" ", 1) for directive in ADMIN_POLICY.split("; "))
    assert directives["script-src"] == "'self' 'unsafe-eval'"
    assert directives["style-src-attr"] == "'unsafe-inline'"
    assert directives["style-src"] == "'self'"


def test_a_view_may_have_a_policy_of_its_own() -> None:
    assert Client().get("/own").headers["Content-Security-Policy"] == "default-src 'none'"


def test_an_error_has_the_headers_too() -> None:
    answer = Client().get("/nowhere")
    assert answer.status_code == 404
    assert answer.headers["x-request-id"]
    assert answer.headers["Content-Security-Policy"] == STRICT_POLICY


async def test_a_body_in_chunks_has_a_length_for_those_who_ask() -> None:
    answer = await AsyncClient().post(
        "/length", b"12345", content_type="text/plain", headers={"transfer-encoding": "chunked"}
    )
    assert answer.content == b"5"
