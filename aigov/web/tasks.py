"""What the web does on its own, by Celery."""

from celery import shared_task

from aigov.web import idempotency


@shared_task  # type: ignore[untyped-decorator]
def forget_answers() -> int:
    """Deletes the answers that an `Idempotency-Key` keeps no longer."""
    return idempotency.forget_expired()
