"""Keys in headers, and the scopes that open views."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.http import HttpRequest, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from aigov import clock, database, snapshots
from aigov.api import ApiView
from aigov.errors import BudgetUnavailable
from aigov.organizations.keys import create_api_key, issue, revoke_api_key
from aigov.organizations.models import ApiKey, Organization, Scope
from aigov.organizations.principals import KEY_RING, REFUSAL, KeyRing
from aigov.snapshots import Snapshot
from aigov.web import authentication
from aigov.web.authentication import principal_of, token_of
from aigov.web.errors import lean_view
from aigov.web.permissions import require_scope


class OneScope(ApiView):
    required_scope = "budget:read"

    async def get(self, request: Request) -> Response:
        return Response({"organization": request.auth.organization_id, "user": request.user})


class ScopePerMethod(ApiView):
    required_scope = {"GET": "settings:read", "PUT": "settings:write"}

    async def get(self, request: Request) -> Response:
        return Response({})

    async def put(self, request: Request) -> Response:
        return Response({})


class Forgotten(ApiView):
    async def get(self, request: Request) -> Response:
        return Response({})


class HalfForgotten(ApiView):
    required_scope = {"GET": "settings:read"}

    async def get(self, request: Request) -> Response:
        return Response({})

    async def put(self, request: Request) -> Response:
        return Response({})


@lean_view(methods=["GET"])
async def lean(request: HttpRequest) -> JsonResponse:
    principal = principal_of(request.headers)
    require_scope(principal, "budget:read")
    return JsonResponse({"organization": principal.organization_id})


urlpatterns = [
    path("api/one", OneScope.as_view()),
    path("api/each", ScopePerMethod.as_view()),
    path("api/forgotten", Forgotten.as_view()),
    path("api/half", HalfForgotten.as_view()),
    path("v1/lean", lean),
]


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    middleware = ["aigov.web.middleware.request_headers"]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"]):
        yield


def refresh() -> None:
    """Load the keys as the web process does when it is told of a change."""

    async def load() -> None:
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
            await KEY_RING.refresh(conn)

    asyncio.run(load())


@pytest.fixture
def make_key(organization: Organization) -> Callable[..., tuple[ApiKey, str]]:
    def make(*scopes: str, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
        made = create_api_key(
            organization=organization,
            name="crm",
            scopes=scopes or Scope.values,
            acting="tests",
            expires_at=expires_at,
        )
        refresh()
        return made

    return make


MakeKey = Callable[..., tuple[ApiKey, str]]


def get(address: str, key: str) -> Any:
    return Client(raise_request_exception=False).get(address, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"authorization": "Bearer"}, ""),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Bearer abc", "x-api-key": "def"}, "abc"),
        ({"authorization": "Basic YTpi"}, None),
        ({"authorization": "Basic YTpi", "x-api-key": "def"}, "def"),
    ],
)
def test_the_key_is_found_in_either_header(headers: dict[str, str], token: str | None) -> None:
    assert token_of(headers) == token


@pytest.mark.parametrize("address", ["/api/one", "/v1/lean"])
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_opens_both_kinds_of_views(
    make_key: MakeKey, organization: Organization, address: str, header: str
) -> None:
    _api_key, key = make_key()
    sent = f"Bearer {key}" if header == "authorization" else key
    answer = Client().get(address, headers={header: sent})
    assert answer.status_code == 200
    assert answer.json()["organization"] == organization.pk


def test_a_key_is_no_person(make_key: MakeKey) -> None:
    assert get("/api/one", make_key()[1]).json()["user"] is None


@pytest.mark.parametrize("address", ["/api/one", "/v1/lean"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer x"}, {"x-api-key": str(issue())}])
def test_without_a_valid_key_the_answer_is_the_same_401(address: str, headers: dict[str, str]) -> None:
    refresh()
    answer = Client().get(address, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.json()["error"]["message"] == REFUSAL


def test_a_revoked_key_and_an_expired_one_get_the_same_401(
    make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_key, revoked = make_key()
    _api_key, expiring = make_key(expires_at=clock.now() + timedelta(hours=1))
    assert get("/api/one", revoked).status_code == get("/api/one", expiring).status_code == 200
    revoke_api_key(api_key=api_key, acting="tests", reason="lost")
    refresh()
    later = clock.now() + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    answers = [get("/api/one", revoked), get("/api/one", expiring)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()


def test_a_process_that_has_lost_touch_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(_conn: database.Connection) -> KeyRing:
        return KeyRing({})

    monkeypatch.setattr(snapshots, "_all", {})  # The new one is none of the process's own.
    monkeypatch.setattr(authentication, "KEY_RING", Snapshot(kind="test_never_loaded", load=load))
    with pytest.raises(BudgetUnavailable):
        principal_of({"authorization": f"Bearer {issue()}"})


@pytest.mark.parametrize("address", ["/api/one", "/v1/lean"])
def test_a_missing_scope_is_named(make_key: MakeKey, address: str) -> None:
    answer = get(address, make_key("kpis:read")[1])
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "missing_scope")
    assert "budget:read" in error["message"]
    assert error["metadata"] == {"required_scope": "budget:read"}


def test_each_method_may_have_its_scope(make_key: MakeKey) -> None:
    reader = {"authorization": f"Bearer {make_key('settings:read')[1]}"}
    assert Client().get("/api/each", headers=reader).status_code == 200
    assert Client().head("/api/each", headers=reader).status_code == 200
    assert Client().put("/api/each", headers=reader).status_code == 403
    assert Client().delete("/api/each", headers=reader).status_code == 405
    assert Client().options("/api/each", headers=reader).status_code == 200


@pytest.mark.parametrize(("address", "method"), [("/api/forgotten", "get"), ("/api/half", "put")])
def test_a_view_that_forgot_its_scope_is_not_open(make_key: MakeKey, address: str, method: str) -> None:
    headers = {"authorization": f"Bearer {make_key()[1]}"}
    answer = getattr(Client(raise_request_exception=False), method)(address, headers=headers)
    assert answer.status_code == 500
