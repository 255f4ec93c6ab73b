"""What the providers' room does on its own, by Celery."""

import asyncio
import logging

from celery import shared_task

from aigov import clock
from providers import circuit_history, health
from providers.circuit_store import StoreUnavailable

log = logging.getLogger(__name__)


@shared_task  # type: ignore[untyped-decorator]
def probe_providers() -> None:
    """Asks providers whose calls have failed whether they are back; every 15 s."""
    asyncio.run(health.probe_providers())


@shared_task  # type: ignore[untyped-decorator]
def keep_circuit_turns() -> int:
    """Takes what happened to circuits into their history; every 15 s. How many turns that were."""
    try:
        return circuit_history.keep_turns()
    except StoreUnavailable as error:
        log.warning("the turns of the circuits wait in Valkey: %s", error)
        return 0


@shared_task  # type: ignore[untyped-decorator]
def forget_circuit_turns() -> int:
    """Deletes what is older than the dashboards look back; daily."""
    return circuit_history.forget_turns(clock.now() - circuit_history.KEPT)
