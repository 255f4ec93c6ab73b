"""What the key figures' room does on its own, by Celery."""

from celery import shared_task

from kpis import digests, facts


@shared_task  # type: ignore[untyped-decorator]
def roll_up_requests() -> int:
    """Adds the newest decisions, and the calls that name a lead or an order, to their days; every minute."""
    return facts.roll_up()


@shared_task  # type: ignore[untyped-decorator]
def send_digests() -> int:
    """Sends the key figures to those who want them; every quarter of an hour."""
    return digests.send_due()
