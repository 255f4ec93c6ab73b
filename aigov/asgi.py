"""The web process: Django, and around it what a completion needs and a request must not wait for.

The server's lifespan opens the ledger's connections, the copies of keys, settings, prices and rates, and the
providers' connections; at the end calls in flight are finished and settled before these are closed.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
django_application = get_asgi_application()

from aigov import background, database, snapshots  # noqa: E402
from aigov.web.body_limit import Application, Message, Receive, Send, limited  # noqa: E402
from aigov.web.lean_handler import PATHS, LeanHandler  # noqa: E402
from providers.breaker import breaker_opened  # noqa: E402
from routing import cache, gateway  # noqa: E402

DRAIN_S = 30.0

lean_application = LeanHandler()


async def by_path(scope: Message, receive: Receive, send: Send) -> None:
    handler = lean_application if scope.get("path") in PATHS else django_application
    await cast(Application, handler)(scope, receive, send)


http_application = limited(by_path)


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """What holds for as long as the process serves."""
    async with (
        database.pool_opened(),
        snapshots.kept_fresh(),
        cache.cache_opened(),
        gateway.adapters_opened(),
        breaker_opened(),
    ):
        try:
            yield
        finally:
            await background.drained(wait_s=DRAIN_S)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await http_application(scope, receive, send)
        return
    await receive()
    async with lifespan():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
