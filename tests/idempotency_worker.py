"""Processes of `test_web_idempotency`: the same request many times at once, or a run that is to be killed.

python -m tests.idempotency_worker claim|look_then_keep|hang ORGANIZATION KEY PROCESSES CLIENTS_EACH

Prints what each client got, as JSON: [whether it ran, status, headers, body]; or that it hangs. One import,
then forks.
"""

import asyncio
import json
import os
import sys
from functools import partial
from typing import Any
from uuid import uuid4

import django
import psycopg
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
if not apps.ready:
    django.setup()

from aigov import database  # noqa: E402
from aigov.web import idempotency  # noqa: E402

ADDRESS, BODY = "/v1/chat/completions", b'{"messages": []}'
RUN_S = 0.3
#: What of `aigov.database` takes it for away where it is only slow.
PATIENCE = {
    "connection": partial(database.connection, wait_s=60),
    "PATIENT_WAIT_S": 60.0,
    "SILENCE_MAX_S": 60.0,
}

Got = tuple[bool, int, dict[str, str], str]


async def run() -> tuple[dict[str, str], str]:
    """The work, whose answer tells one run from another."""
    await asyncio.sleep(RUN_S)
    return {"x-ai-cost-eur": str(uuid4())}, str(uuid4())


async def by_claim(request: dict[str, Any]) -> Got:
    got = await idempotency.begin(**request)
    if isinstance(got, idempotency.Replay):
        return False, got.status, dict(got.headers), got.body.decode()
    async with got:
        headers, body = await run()
        await got.finish(status=200, headers=headers, body=body.encode())
    return True, 200, headers, body


async def by_look_then_keep(request: dict[str, Any]) -> Got:
    """The control: whoever finds no answer runs, and keeps his own."""
    async with database.connection() as conn:
        query = "SELECT id FROM idempotent_answers WHERE organization_id = %s"
        found = await (await conn.execute(query, (request["organization_id"],))).fetchone()
    if found is not None:
        return False, 200, {}, ""
    headers, body = await run()
    kept = await idempotency.begin(**request)
    if isinstance(kept, idempotency.Claim):
        await kept.finish(status=200, headers=headers, body=body.encode())
    return True, 200, headers, body


async def hang(request: dict[str, Any]) -> Got:
    got = await idempotency.begin(**request)
    assert isinstance(got, idempotency.Claim)
    print("hangs", flush=True)
    await asyncio.sleep(3600)
    raise AssertionError("this process is to be killed")


WAYS = {"claim": by_claim, "look_then_keep": by_look_then_keep, "hang": hang}


async def barrier(organization_id: int) -> None:
    """Returns in all processes at once: the test holds this lock until all of them wait for it."""
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
        await conn.execute("SET statement_timeout = 0")
        await conn.execute("SELECT pg_advisory_lock_shared(%s)", (organization_id,))


async def clients(way: str, organization_id: int, key: str, count: int) -> list[Got]:
    request = {"organization_id": organization_id, "key": key, "address": ADDRESS, "body": BODY}
    async with database.pool_opened():
        await barrier(organization_id)
        return await asyncio.gather(*(WAYS[way](request) for _ in range(count)))


def main(way: str, organization_id: int, key: str, processes: int, count: int) -> None:
    for _ in range(processes):
        if os.fork() == 0:
            got = asyncio.run(clients(way, organization_id, key, count))
            # In one piece: they all write into one pipe.
            os.write(sys.stdout.fileno(), "".join(f"{json.dumps(one)}\n" for one in got).encode())
            os._exit(0)
    statuses = [os.wait()[1] for _ in range(processes)]
    assert statuses == [0] * processes


if __name__ == "__main__":
    way, organization_id, key, processes, count = sys.argv[1:]
    vars(database).update(PATIENCE)
    if way == "hang":
        asyncio.run(clients(way, int(organization_id), key, 1))
    main(way, int(organization_id), key, int(processes), int(count))
