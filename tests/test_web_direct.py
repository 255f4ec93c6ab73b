"""JSON posted to a completions' address goes without Django, and what is wrong with it is said alike."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async as in_thread

from aigov import asgi, database, snapshots
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from aigov.web.direct import DirectHandler, Whole, is_direct

WAIT_S = 30.0
ADDRESSES = ["/api/v1/completions", "/v1/chat/completions", "/v1/messages"]


@pytest.fixture(autouse=True)
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    for name in ("CONNECT_WAIT_S", "AWAY_WAIT_S", "PATIENT_WAIT_S"):
        monkeypatch.setattr(database, name, WAIT_S)
    for name in ("STALE_AFTER_S", "FIRST_LOAD_WAIT_S"):
        monkeypatch.setattr(snapshots, name, WAIT_S)
    async with database.pool_opened(), snapshots.kept_fresh():
        yield


def scope_of(path: str, *headers: tuple[str, str], method: str = "POST") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


async def answer(application: Any, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], Any]:
    """What the ASGI application answers: status, headers, JSON."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    head, *rest = sent
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in head["headers"]}
    return head["status"], headers, json.loads(b"".join(message["body"] for message in rest))


WRONG = [b"", b"{", b'{"a": 1, "a": 2}', b'{"messages": []}', b'{"mesages": 1}', b"\xff", b"[]", b"1"]


@pytest.mark.parametrize("path", ADDRESSES)
async def test_both_ways_refuse_in_the_same_words(
    path: str, make_organization: Callable[..., Organization]
) -> None:
    def key(*scopes: str) -> str:
        return create_api_key(organization=organization, name="k", scopes=scopes, acting="the tests")[1]

    organization = await in_thread(make_organization)()
    may, may_not = await in_thread(key)(*Scope.values), await in_thread(key)(Scope.COMPLETIONS_READ)
    await snapshots.refresh_all()
    callers = [
        (),
        (("authorization", "Bearer aig_x.y"),),
        (("authorization", f"Bearer {may_not}"),),
        (("x-api-key", may),),
    ]
    statuses = set()
    for caller in callers:
        for body in WRONG:
            length = ("content-length", str(len(body)))
            headers = (("content-type", "application/json"), ("x-request-id", "r-1"), length, *caller)
            directly = await answer(asgi.direct_applications[path], scope_of(path, *headers), body)
            through_django = await answer(asgi.lean_application, scope_of(path, *headers), body)
            through_django[1].pop("allow")
            through_django[1].pop("vary", None)
            assert directly == through_django, (caller, body)
            statuses.add(directly[0])
    assert statuses == {400, 401, 403}


@pytest.mark.parametrize(
    ("method", "kind", "direct"),
    [
        ("POST", "application/json", True),
        ("POST", "Application/JSON; charset=utf-8", True),
        ("POST", "text/plain", False),
        ("POST", "application/jsonl", False),
        ("POST", None, False),
        ("PUT", "application/json", False),
    ],
)
def test_only_posted_json_is_direct(method: str, kind: str | None, direct: bool) -> None:
    headers = () if kind is None else (("content-type", kind),)
    assert is_direct(scope_of("/v1/messages", *headers, method=method)) is direct


class Told:
    """A view that answers with a header of these words."""

    required_scope = Scope.COMPLETIONS_WRITE

    def __init__(self, words: str) -> None:
        self._words = words

    async def post(self, request: Any) -> Whole:
        return Whole(200, {"content-type": "application/json", "x-ai-model": self._words}, b"{}")


@pytest.mark.parametrize(
    ("words", "status", "sent"),
    [("gpt-4o", 200, "gpt-4o"), ("größe", 200, "gr\xf6\xdfe"), ("a\r\nx-ai-route: large", 500, None)],
)
async def test_a_header_is_sent_as_django_would(
    words: str, status: int, sent: str | None, organization: Organization
) -> None:
    _, key = await in_thread(create_api_key)(
        organization=organization, name="k", scopes=Scope.values, acting="the tests"
    )
    await snapshots.refresh_all()
    handler = DirectHandler(Told(words))  # type: ignore[arg-type]
    scope = scope_of(ADDRESSES[0], ("x-api-key", key), ("content-type", "application/json"))
    told = await answer(handler, scope, b"{}")
    assert (told[0], told[1].get("x-ai-model"), "x-ai-route" in told[1]) == (status, sent, False)


async def test_what_is_not_direct_goes_through_django(organization: Organization) -> None:
    _, key = await in_thread(create_api_key)(
        organization=organization, name="k", scopes=Scope.values, acting="the tests"
    )
    await snapshots.refresh_all()
    caller = ("x-api-key", key)
    put = scope_of(ADDRESSES[0], caller, ("content-type", "application/json"), method="PUT")
    text = scope_of(ADDRESSES[0], caller, ("content-type", "text/plain"), ("content-length", "1"))
    ends = [await answer(asgi.application, scope, b"x") for scope in (put, text)]
    assert [(status, body["error"]["code"]) for status, _, body in ends] == [
        (405, "method_not_allowed"),
        (415, "unsupported_media_type"),
    ]
