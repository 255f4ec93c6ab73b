"""The hot path's connections to Valkey."""

from contextlib import AbstractAsyncContextManager

from django.conf import settings
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECTIONS_MAX = 500


def opened() -> AbstractAsyncContextManager[Redis]:
    """The running loop's connections, for a block. Valkey may be down: whoever asks bounds the wait.

    Not the pool that waits for a free connection: under load it costs more than the command.
    """
    pool = ConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=CONNECTIONS_MAX,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)
