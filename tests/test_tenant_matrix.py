"""Every address × everybody: the anonymous, a stranger, a reader, a member.

The URLconf is walked, so an address without a row in `CASES` fails: nothing is open by oversight.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from aigov import clock
from aigov.organizations.models import Organization, Scope
from budgets.approvals import ask
from budgets.models import ApprovalRequest

MESSAGES = [{"role": "user", "content": "[[confidence:0.9]] hello"}]
OUTCOME = {"kind": "lead", "external_id": "L-1", "occurred_at": "2026-11-02T10:00:00+01:00"}
READ_SCOPES = (Scope.COMPLETIONS_READ, Scope.BUDGET_READ, Scope.SETTINGS_READ, Scope.KPIS_READ)
CAP_REQUESTS = "/api/v1/budget/cap-requests"
NEXT_MONTH = clock.next_month(clock.month_of(clock.now(), "Europe/Berlin"))
WANTED_CAP = {"month": f"{NEXT_MONTH:%Y-%m}", "amount_eur": "1200", "reason": "a test"}
THRESHOLD = "/api/v1/settings/ai.routing.confidence.threshold"
WRITE_THRESHOLD = {"scope": "organization", "value": 0.6, "reason": "a test"}


@dataclass(frozen=True)
class Case:
    """One call. `reader` is a key that may only read; `stranger` a member of another organization."""

    method: str
    path: str
    anonymous: int
    reader: int
    member: int
    stranger: int
    body: dict[str, Any] | None = None
    secret: bool = field(default=True, kw_only=True)


CASES: dict[str, list[Case]] = {
    "api/v1/completions": [
        Case("POST", "/api/v1/completions", 401, 403, 200, 200, {"messages": MESSAGES}),
        Case("GET", "/api/v1/completions", 401, 403, 405, 405),
    ],
    "api/v1/completions/<str:completion_id>": [
        Case("GET", "/api/v1/completions/{completion_id}", 401, 200, 200, 404),
        Case("DELETE", "/api/v1/completions/{completion_id}", 401, 405, 405, 405),
    ],
    "api/v1/budget": [Case("GET", "/api/v1/budget", 401, 200, 200, 200)],
    "api/v1/outcomes": [
        Case("POST", "/api/v1/outcomes", 401, 403, 200, 200, {"outcomes": [OUTCOME]}),
        Case("GET", "/api/v1/outcomes", 401, 403, 405, 405),
    ],
    # A key is no way in: what counts is the signature.
    "api/v1/outcomes/webhook/<uuid:hook_id>": [
        Case("POST", f"/api/v1/outcomes/webhook/{UUID(int=1)}", 401, 401, 401, 401, {"outcomes": [OUTCOME]}),
    ],
    "api/v1/kpis/summary": [Case("GET", "/api/v1/kpis/summary", 401, 200, 200, 200)],
    "api/v1/budget/months": [Case("GET", "/api/v1/budget/months", 401, 200, 200, 200)],
    "api/v1/budget/cap-requests": [
        Case("GET", CAP_REQUESTS, 401, 200, 200, 200),
        Case("POST", CAP_REQUESTS, 401, 403, 201, 201, WANTED_CAP),
    ],
    "api/v1/budget/cap-requests/<int:request_id>": [
        Case("GET", f"{CAP_REQUESTS}/{{cap_request_id}}", 401, 200, 200, 404),
        Case("PATCH", f"{CAP_REQUESTS}/{{cap_request_id}}", 401, 405, 405, 405, {"state": "approved"}),
    ],
    "api/v1/budget/cap-requests/<int:request_id>/withdraw": [
        Case("POST", f"{CAP_REQUESTS}/{{cap_request_id}}/withdraw", 401, 403, 200, 404, {"reason": "x"}),
    ],
    "api/v1/settings/effective": [Case("GET", "/api/v1/settings/effective", 401, 200, 200, 200)],
    "api/v1/settings/keys": [Case("GET", "/api/v1/settings/keys", 401, 200, 200, 200)],
    "api/v1/settings/<str:key>": [
        Case("PUT", THRESHOLD, 401, 403, 200, 200, WRITE_THRESHOLD),
        Case("DELETE", THRESHOLD, 401, 403, 200, 200),
    ],
    "v1/chat/completions": [
        Case("POST", "/v1/chat/completions", 401, 403, 200, 200, {"model": "auto", "messages": MESSAGES})
    ],
    "v1/messages": [
        Case(
            "POST",
            "/v1/messages",
            401,
            403,
            200,
            200,
            {"model": "auto", "max_tokens": 99, "messages": MESSAGES},
        ),
        Case("GET", "/v1/messages", 401, 403, 405, 405),
    ],
    "v1/models": [Case("GET", "/v1/models", 401, 403, 200, 200)],
    "v1/models/<str:model>": [
        Case("GET", "/v1/models/auto", 401, 403, 200, 200),
        Case("GET", "/v1/models/gpt-9", 401, 403, 404, 404),
    ],
    "^(api|v1)/": [Case("GET", "/api/v1/nothing", 404, 404, 404, 404)],
    "api/schema/": [Case("GET", "/api/schema/", 200, 200, 200, 200, secret=False)],
    "api/docs/": [Case("GET", "/api/docs/", 200, 200, 200, 200, secret=False)],
    "healthz": [Case("GET", "/healthz", 200, 200, 200, 200, secret=False)],
    "readyz": [Case("GET", "/readyz", 200, 200, 200, 200, secret=False)],
    "language/": [Case("GET", "/language/", 302, 302, 302, 302, secret=False)],
    "favicon.ico": [Case("GET", "/favicon.ico", 302, 302, 302, 302, secret=False)],
    "": [Case("GET", "/", 302, 302, 302, 302, secret=False)],
}
#: The admin has a matrix of its own, over its models; so have the dashboards.
ELSEWHERE = ("admin/", "kpis/")


def routes(patterns: list[Any] | None = None, prefix: str = "") -> Iterator[str]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if route.startswith(ELSEWHERE):
            continue
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def asked_for(organization: Organization) -> ApprovalRequest:
    month = clock.month_of(clock.now(), organization.time_zone)
    wanted = {"kind": "cap", "month": month, "amount_eur": Decimal(1500), "reason": "a test"}
    return ask(organization=organization, acting="the tests", **wanted)  # type: ignore[arg-type]


def test_every_address_has_its_cases() -> None:
    assert sorted(routes()) == sorted(CASES)


@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=str)
def test_everybody_gets_what_is_theirs_and_no_more(
    case: Case,
    organization: Organization,
    make_organization: Callable[..., Organization],
    make_client: Callable[..., httpx2.Client],
) -> None:
    member, reader = make_client(organization), make_client(organization, *READ_SCOPES)
    stranger = make_client(make_organization())
    completion_id = member.post("/api/v1/completions", json={"messages": MESSAGES}).json()["id"]
    cap_request_id = asked_for(organization).pk

    def call(client: httpx2.Client, **headers: str) -> httpx2.Response:
        path = case.path.format(completion_id=completion_id, cap_request_id=cap_request_id)
        return client.request(case.method, path, json=case.body, headers=headers)

    anonymous = call(member, Authorization="")
    assert anonymous.status_code == case.anonymous
    assert call(member, Authorization="Bearer aig_nobody.nothing").status_code == case.anonymous
    if case.anonymous == 401:
        assert anonymous.headers["www-authenticate"].startswith("Bearer")
    assert call(reader).status_code == case.reader
    assert call(member).status_code == case.member
    theirs = call(stranger)
    assert theirs.status_code == case.stranger
    if case.secret:
        assert organization.name not in theirs.text and completion_id not in theirs.text
