"""The settings over HTTP."""

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from aigov.organizations.keys import create_api_key
from aigov.organizations.models import AuditEntry, Organization
from aigov.registry import keys
from aigov.registry.keys import SCOPES, Key
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value

THRESHOLD = "test.api.threshold"
CAP = "test.api.cap"
TEAMS = "test.api.teams"
WIDE = "test.api.wide"
EFFECTIVE = "/api/v1/settings/effective"


@pytest.fixture(autouse=True)
def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys for these tests alone; the server runs in this process."""
    teams = {"additionalProperties": {"type": "array", "items": {"type": "string"}}}
    bounds = {"minimum": 0, "maximum": 1}
    for key in (
        Key(name=THRESHOLD, type="number", scopes=SCOPES, default=0.7, schema=bounds, description="A bound."),
        Key(name=CAP, type="money", scopes=("organization",), default=1000, description=""),
        Key(
            name=TEAMS, type="object", scopes=SCOPES, default={}, schema=teams, merge="merge", description=""
        ),
        Key(name=WIDE, type="integer", scopes=("global", "tenant"), default=1, description=""),
    ):
        monkeypatch.setitem(keys._KEYS, key.name, key)


def put(api: httpx2.Client, key: str, value: Any, **more: Any) -> httpx2.Response:
    body = {"scope": "organization", "value": value, "reason": "a test", **more}
    return api.put(f"/api/v1/settings/{key}", json=body)


def effective(api: httpx2.Client, key: str, **query: str) -> dict[str, Any]:
    answer = api.get(EFFECTIVE, params={"keys": key, **query})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()["values"][key]
    return shown


def error(answer: httpx2.Response) -> tuple[int, str, str | None]:
    body = answer.json()["error"]
    return answer.status_code, body["type"], body["param"]


def headers_with(api: httpx2.Client, organization: Organization, *scopes: str) -> dict[str, str]:
    """The header of a new key; returns when the server knows it."""
    _key, token = create_api_key(organization=organization, name="test", scopes=scopes, acting="a test")
    headers = {"Authorization": f"Bearer {token}"}
    for _attempt in range(100):
        if api.get(EFFECTIVE, headers=headers).status_code != 401:
            return headers
        time.sleep(0.05)
    raise AssertionError("the server does not learn of the key")


def test_a_default_is_shown_with_its_source(api: httpx2.Client) -> None:
    answer = api.get(EFFECTIVE, params={"keys": f"{THRESHOLD},{CAP}"})
    assert answer.status_code == 200
    assert answer.json()["values"] == {
        THRESHOLD: {"value": 0.7, "source": "default"},
        CAP: {"value": 1000, "source": "default"},
    }
    assert answer.headers["etag"] == f'"{answer.json()["etag"]}"'


def test_without_names_all_keys_are_shown(api: httpx2.Client) -> None:
    values = api.get(EFFECTIVE).json()["values"]
    assert list(values) == list(keys.all_keys())


def test_a_value_that_was_set_applies_at_once_and_falls_back_when_removed(api: httpx2.Client) -> None:
    written = put(api, THRESHOLD, 0.8)
    assert written.status_code == 200
    assert written.json() == {"key": THRESHOLD, "value": 0.8, "source": "organization"}
    assert effective(api, THRESHOLD) == {"value": 0.8, "source": "organization"}
    removed = api.delete(f"/api/v1/settings/{THRESHOLD}")
    assert removed.status_code == 200
    assert removed.json() == {"key": THRESHOLD, "value": 0.7, "source": "default"}
    assert effective(api, THRESHOLD) == {"value": 0.7, "source": "default"}


def test_why_a_value_is_removed_may_stand_in_the_body(api: httpx2.Client, organization: Organization) -> None:
    put(api, THRESHOLD, 0.8)
    body = {"scope": "organization", "reason": "back to the rule"}
    assert api.request("DELETE", f"/api/v1/settings/{THRESHOLD}", json=body).status_code == 200
    assert AuditEntry.objects.filter(organization=organization).latest("id").reason == "back to the rule"


def test_removing_what_is_not_set_is_no_error(api: httpx2.Client) -> None:
    assert api.delete(f"/api/v1/settings/{THRESHOLD}").status_code == 200


def test_a_user_can_have_a_value_of_their_own(api: httpx2.Client) -> None:
    put(api, THRESHOLD, 0.8)
    written = put(api, THRESHOLD, 0.9, scope="user", user="u-1")
    assert written.json() == {"key": THRESHOLD, "value": 0.9, "source": "user"}
    assert effective(api, THRESHOLD, user="u-1") == {"value": 0.9, "source": "user"}
    assert effective(api, THRESHOLD, user="u-2") == {"value": 0.8, "source": "organization"}
    query = {"scope": "user", "user": "u-1", "reason": "gone"}
    assert api.delete(f"/api/v1/settings/{THRESHOLD}", params=query).json()["source"] == "organization"


@pytest.mark.parametrize("value", [1200, 12.5, "0.000000001"])
def test_an_amount_comes_back_as_it_was_written(api: httpx2.Client, value: Any) -> None:
    assert put(api, CAP, value).json()["value"] == value
    assert effective(api, CAP) == {"value": value, "source": "organization"}


def test_objects_are_merged_over_the_tenants(api: httpx2.Client, organization: Organization) -> None:
    set_value(
        key=TEAMS, scope="tenant", tenant=organization.tenant, value={"a": ["x"]}, acting="me", reason=""
    )
    assert put(api, TEAMS, {"b": ["y"]}).json()["value"] == {"a": ["x"], "b": ["y"]}


def test_the_writer_and_the_reason_stand_in_the_audit_trail(
    api: httpx2.Client, organization: Organization
) -> None:
    put(api, THRESHOLD, 0.8, reason="fewer escalations")
    entry = AuditEntry.objects.get(organization=organization, action="setting.set")
    assert entry.actor.startswith("API key aig_")
    assert (entry.before, entry.after, entry.reason) == (None, 0.8, "fewer escalations")


def test_the_etag_saves_what_has_not_changed(api: httpx2.Client) -> None:
    def ask(etag: str) -> httpx2.Response:
        return api.get(EFFECTIVE, params={"keys": THRESHOLD}, headers={"If-None-Match": etag})

    first = api.get(EFFECTIVE, params={"keys": THRESHOLD})
    etag = first.headers["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', first.json()["etag"], "*"):
        again = ask(sent)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert ask('"other"').status_code == 200
    put(api, THRESHOLD, 0.8)
    changed = ask(etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_the_etag_depends_on_what_is_asked(api: httpx2.Client) -> None:
    one, other = (api.get(EFFECTIVE, params={"keys": key}).headers["etag"] for key in (THRESHOLD, CAP))
    assert one != other


def test_all_keys_are_described(api: httpx2.Client) -> None:
    described = api.get("/api/v1/settings/keys").json()["keys"]
    assert described[THRESHOLD] == {
        "type": "number",
        "scopes": ["global", "tenant", "organization", "user"],
        "schema": {"type": "number", "minimum": 0, "maximum": 1},
        "default": 0.7,
        "merge": "replace",
        "description": "A bound.",
    }
    assert set(described) == set(keys.all_keys())


def test_a_bad_value_is_refused_with_the_path_in_it(api: httpx2.Client) -> None:
    assert error(put(api, TEAMS, {"support": [7]})) == (400, "invalid_request_error", "value.support[0]")
    assert error(put(api, THRESHOLD, 1.5)) == (400, "invalid_request_error", "value")
    assert effective(api, TEAMS) == {"value": {}, "source": "default"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scope": "organization", "reason": "r"}, "value"),
        ({"value": 1, "reason": "r"}, "scope"),
        ({"scope": "organization", "value": 1}, "reason"),
        ({"scope": "organization", "value": 1, "reason": " "}, "reason"),
        ({"scope": "planet", "value": 1, "reason": "r"}, "scope"),
        ({"scope": "user", "value": 1, "reason": "r"}, "user"),
        ({"scope": "organization", "user": "u-1", "value": 1, "reason": "r"}, "user"),
        ({"scope": "user", "user": "u" * 201, "value": 1, "reason": "r"}, "user"),
        ({"scope": "organization", "value": None, "reason": "r"}, "value"),
        ([1], None),
    ],
)
def test_a_bad_request_is_refused_by_name(
    api: httpx2.Client, organization: Organization, body: Any, param: str | None
) -> None:
    answer = api.put(f"/api/v1/settings/{THRESHOLD}", json=body)
    assert error(answer) == (400, "invalid_request_error", param)
    assert not SettingValue.objects.filter(organization=organization).exists()


def test_a_scope_that_the_key_does_not_have_is_refused(api: httpx2.Client) -> None:
    assert error(put(api, CAP, 1, scope="user", user="u-1")) == (400, "invalid_request_error", "scope")
    assert error(put(api, WIDE, 1)) == (400, "invalid_request_error", "scope")


@pytest.mark.parametrize("scope", ["global", "tenant"])
def test_a_key_sets_nothing_beyond_its_organization(api: httpx2.Client, scope: str) -> None:
    assert error(put(api, THRESHOLD, 0.9, scope=scope)) == (403, "permission_error", "scope")
    removed = api.delete(f"/api/v1/settings/{THRESHOLD}", params={"scope": scope})
    assert error(removed) == (403, "permission_error", "scope")


def test_a_stranger_sees_and_changes_nothing_of_ours(
    api: httpx2.Client, make_organization: Callable[..., Organization]
) -> None:
    put(api, THRESHOLD, 0.8)
    put(api, THRESHOLD, 0.9, scope="user", user="u-1")
    theirs = headers_with(api, make_organization(), "settings:read", "settings:write")
    seen = api.get(EFFECTIVE, params={"keys": THRESHOLD, "user": "u-1"}, headers=theirs).json()
    assert seen["values"][THRESHOLD] == {"value": 0.7, "source": "default"}
    for query in ({}, {"scope": "user", "user": "u-1"}):
        api.delete(f"/api/v1/settings/{THRESHOLD}", params=query, headers=theirs)
    assert effective(api, THRESHOLD, user="u-1") == {"value": 0.9, "source": "user"}
    assert effective(api, THRESHOLD) == {"value": 0.8, "source": "organization"}


def test_without_a_key_nothing_is_said(api: httpx2.Client) -> None:
    nobody = {"Authorization": ""}
    for method, path in (("GET", "effective"), ("GET", "keys"), ("PUT", THRESHOLD), ("DELETE", THRESHOLD)):
        answer = api.request(method, f"/api/v1/settings/{path}", headers=nobody)
        assert error(answer) == (401, "authentication_error", None)


def test_reading_and_writing_need_a_scope_each(api: httpx2.Client, organization: Organization) -> None:
    reads = headers_with(api, organization, "settings:read")
    writes = headers_with(api, organization, "settings:write")
    path = f"/api/v1/settings/{THRESHOLD}"
    body = {"scope": "organization", "value": 0.9, "reason": "r"}
    assert api.get(EFFECTIVE, headers=reads).status_code == 200
    assert api.get("/api/v1/settings/keys", headers=reads).status_code == 200
    assert error(api.put(path, json=body, headers=reads))[:2] == (403, "permission_error")
    assert error(api.delete(path, headers=reads))[:2] == (403, "permission_error")
    assert error(api.get(EFFECTIVE, headers=writes))[:2] == (403, "permission_error")
    assert error(api.get("/api/v1/settings/keys", headers=writes))[:2] == (403, "permission_error")
    assert api.put(path, json=body, headers=writes).status_code == 200


def test_unknown_keys_are_refused(api: httpx2.Client) -> None:
    asked = api.get(EFFECTIVE, params={"keys": f"{CAP},test.api.nothing"})
    assert error(asked) == (400, "invalid_request_error", "keys")
    assert error(put(api, "test.api.nothing", 1)) == (404, "not_found_error", "key")
    assert error(api.delete("/api/v1/settings/test.api.nothing")) == (404, "not_found_error", "key")


@pytest.mark.parametrize("user", ["u" * 201, "u\x00"])
def test_a_user_that_cannot_be_is_refused(api: httpx2.Client, user: str) -> None:
    assert error(api.get(EFFECTIVE, params={"user": user})) == (400, "invalid_request_error", "user")
