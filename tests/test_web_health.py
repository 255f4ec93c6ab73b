"""Whether the process lives and can work."""

import json
from typing import Any

import pytest
from django.test import RequestFactory, override_settings

from aigov import database, snapshots
from aigov.web.health import database_answers, healthz, readyz, redis_answers

UNREACHABLE = "redis://127.0.0.1:1/0"


async def ask(view: Any) -> tuple[int, dict[str, Any]]:
    answer = await view(RequestFactory().get("/"))
    return answer.status_code, json.loads(answer.content)


async def test_a_process_that_answers_is_alive() -> None:
    assert await ask(healthz) == (200, {"status": "ok"})


async def test_a_process_with_ledger_and_copies_is_ready() -> None:
    async with database.pool_opened():
        await snapshots.refresh_all()
        status, facts = await ask(readyz)
    assert status == 200
    assert facts["status"] == "ready"
    assert facts["database"] is facts["snapshots"] is True


async def test_what_only_speeds_up_is_reported_and_not_required() -> None:
    with override_settings(REDIS_URL=UNREACHABLE, PROVIDERS={"openai": {}, "anthropic": {}}):
        async with database.pool_opened():
            await snapshots.refresh_all()
            status, facts = await ask(readyz)
    assert status == 200
    assert facts["redis"] is False
    assert facts["providers"] == ["anthropic", "openai"]


async def test_without_the_database_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "conninfo", lambda: "host=127.0.0.1 port=1 connect_timeout=1")
    async with database.pool_opened():
        assert not await database_answers()
        status, facts = await ask(readyz)
    assert status == 503
    assert (facts["status"], facts["database"]) == ("not ready", False)


async def test_with_stale_copies_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with database.pool_opened():
        await snapshots.refresh_all()
        monkeypatch.setattr(snapshots, "STALE_AFTER_S", -1.0)
        status, facts = await ask(readyz)
    assert status == 503
    assert (facts["database"], facts["snapshots"]) == (True, False)


async def test_valkey_is_asked_for_real() -> None:
    assert await redis_answers()
    with override_settings(REDIS_URL=UNREACHABLE):
        assert not await redis_answers()
