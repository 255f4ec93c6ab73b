"""Async DRF views, in the event loop and without a thread."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from django.http import JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from aigov.api import ApiView

checked_in: list[int] = []


class NotesThread(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        checked_in.append(threading.get_ident())
        return True


class Thing(ApiView):
    authentication_classes = ()
    permission_classes = (NotesThread,)

    async def get(self, request: Request, name: str) -> JsonResponse:
        await asyncio.sleep(0)
        return JsonResponse({"name": name, "q": request.query_params.get("q")})

    async def post(self, request: Request, name: str) -> JsonResponse:
        return JsonResponse({"name": name, "body": request.data})


urlpatterns = [path("api/<str:name>", Thing.as_view())]


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[], ALLOWED_HOSTS=["*"]):
        yield


async def test_a_handler_is_awaited() -> None:
    answer = await AsyncClient().get("/api/x", {"q": "1"})
    assert (answer.status_code, answer.json()) == (200, {"name": "x", "q": "1"})


async def test_permissions_are_asked_in_the_event_loop() -> None:
    checked_in.clear()
    await AsyncClient().get("/api/x")
    assert checked_in == [threading.get_ident()]


async def test_the_body_is_read() -> None:
    answer = await AsyncClient().post("/api/x", '{"a": [1]}', content_type="application/json")
    assert answer.json() == {"name": "x", "body": {"a": [1]}}


async def test_other_methods_are_answered_as_drf_does() -> None:
    assert (await AsyncClient().options("/api/x")).status_code == 200
    assert (await AsyncClient().put("/api/x")).status_code == 405
    assert (await AsyncClient().generic("PROPFIND", "/api/x")).status_code == 405


def test_a_sync_server_can_serve_it_too() -> None:
    assert Client().get("/api/x").json()["name"] == "x"
