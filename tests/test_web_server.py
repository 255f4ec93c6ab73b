"""The web ground under the real server, over HTTP."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from aigov.organizations.keys import parse, revoke_api_key
from aigov.organizations.models import ApiKey, Organization
from aigov.web.middleware import STRICT_POLICY
from aigov.web.parsers import body_bytes_max

MakeClient = Callable[..., httpx2.Client]
#: What is promised: a revoked key is refused in every process within these seconds.
REVOCATION_S = 5.0


def key_of(client: httpx2.Client) -> ApiKey:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    return ApiKey.objects.get(key_id=parse(token).key_id)


def test_a_revoked_key_is_refused_by_the_running_server(
    make_client: MakeClient, organization: Organization
) -> None:
    client, other = make_client(organization), make_client(organization)
    assert client.get("/api/v1/budget").status_code == 200
    revoke_api_key(api_key=key_of(client), acting="the tests", reason="lost")
    give_up_at = time.monotonic() + REVOCATION_S
    while client.get("/api/v1/budget").status_code != 401:
        assert time.monotonic() < give_up_at, "the revoked key still opens"
        time.sleep(0.05)
    assert other.get("/api/v1/budget").status_code == 200


def test_every_answer_carries_its_id_and_the_strict_policy(api: httpx2.Client) -> None:
    for address in ("/healthz", "/api/v1/budget", "/api/v1/nothing"):
        answer = api.get(address, headers={"x-request-id": "caller-7"})
        assert answer.headers["x-request-id"] == "caller-7"
        assert answer.headers["content-security-policy"] == STRICT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_server_is_alive_and_ready(api: httpx2.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_an_unknown_address_speaks_json(api: httpx2.Client) -> None:
    for address in ("/api/v1/nothing", "/v1/nothing"):
        answer = api.post(address, json={})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("address", "start"),
    [("/api/v1/completions", b"{"), ("/v1/chat/completions", b'{"model": "auto", ')],
)
def test_a_body_in_chunks_is_read(api: httpx2.Client, address: str, start: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        yield start
        yield b'"messages": [{"role": "nobody", "content": "x"}]}'

    answer = api.post(address, content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].role"


@pytest.mark.parametrize("address", ["/api/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"messages": NaN}', "invalid_json"),
        (b'{"a": 1, "a": 2}', "invalid_json"),
        (b"[" * 10_000, "invalid_json"),
        (rb'{"user": "\u0000"}', "invalid_json"),
        (b"\xff", "invalid_json"),
    ],
)
def test_what_is_no_proper_json_is_400(api: httpx2.Client, address: str, body: bytes, code: str) -> None:
    answer = api.post(address, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("hidden", [False, True])
def test_a_body_over_the_limit_is_413(api: httpx2.Client, hidden: bool) -> None:
    body = b" " * (body_bytes_max() + 1)
    content: Any = (body[at : at + 2**20] for at in range(0, len(body), 2**20)) if hidden else body
    answer = api.post("/api/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("address", ["/api/v1/completions", "/v1/chat/completions"])
def test_without_a_key_the_answer_is_401_whatever_the_body(server: Any, address: str) -> None:
    for body in (b"{", b'{"messages": []}'):
        answer = httpx2.post(server.url + address, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["error"]["type"] == "authentication_error"
