"""What the key figures' room does on its own, by Celery."""

from celery import shared_task

from kpis import facts


@shared_task  # type: ignore[untyped-decorator]
def roll_up_requests() -> int:
    """Adds the newest decisions, and the calls that name a lead or an order, to their days; every minute."""
    return facts.roll_up()
