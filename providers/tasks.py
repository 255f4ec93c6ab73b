"""What the providers' room does on its own, by Celery."""

import asyncio

from celery import shared_task

from providers import health


@shared_task  # type: ignore[untyped-decorator]
def probe_providers() -> None:
    """Asks providers whose calls have failed whether they are back; every 15 s."""
    asyncio.run(health.probe_providers())
