"""The web process: Django, and around it what a completion needs and a request must not wait for.

The server's lifespan opens the ledger's connections, the copies of keys, settings, prices and rates, and the
providers' connections; at the end calls in flight are finished and settled before these are closed.
"""

import gc
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from django.core.asgi import get_asgi_application
from django.urls import reverse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
django_application = get_asgi_application()

from aigov import background, database, snapshots  # noqa: E402
from aigov.web import limits  # noqa: E402
from aigov.web.body_limit import Message, Receive, Send, limited  # noqa: E402
from aigov.web.direct import DirectHandler, is_direct  # noqa: E402
from aigov.web.lean_handler import PATHS, LeanHandler  # noqa: E402
from providers.breaker import breaker_opened  # noqa: E402
from routing import cache, gateway  # noqa: E402
from routing.api.anthropic import MessagesView  # noqa: E402
from routing.api.native import CompletionsView  # noqa: E402
from routing.api.openai import ChatCompletionsView  # noqa: E402

DRAIN_S = 30.0
#: New objects before the youngest are looked at, and how often that before the older ones are: a completion
#: makes thousands, hardly any of them in circles.
COLLECT_AFTER = (10_000, 20, 50)

lean_application = LeanHandler()


#: The completions' addresses, by their path.
direct_applications = {
    reverse("completions"): DirectHandler(CompletionsView()),
    reverse("chat-completions"): DirectHandler(ChatCompletionsView()),
    reverse("messages"): DirectHandler(MessagesView()),
}


async def by_path(scope: Message, receive: Receive, send: Send) -> None:
    path = scope.get("path")
    handler: Any = django_application
    if path in direct_applications and is_direct(scope):
        handler = direct_applications[path]
    elif path in PATHS:
        handler = lean_application
    await handler(scope, receive, send)


http_application = limited(by_path)


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """What holds for as long as the process serves."""
    async with (
        database.pool_opened(),
        snapshots.kept_fresh(),
        cache.cache_opened(),
        limits.rates_opened(),
        gateway.adapters_opened(),
        breaker_opened(),
    ):
        _settle_memory()
        _allow_open_files()
        try:
            yield
        finally:
            await background.drained(wait_s=DRAIN_S)


def _settle_memory() -> None:
    """Takes what was loaded at the start out of the garbage collector's sight.

    It stays until the end, and to walk over it again and again cost a seventh of a completion's CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _allow_open_files() -> None:
    """As many as the system lets us: a stream has two connections, and often 1,024 is all that is preset."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where what is allowed has no end, the system may still have one
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await http_application(scope, receive, send)
        return
    await receive()
    async with lifespan():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
