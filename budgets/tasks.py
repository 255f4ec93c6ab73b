"""What the budgets' room does on its own, by Celery."""

from celery import shared_task

from budgets import accounts, ledger


@shared_task  # type: ignore[untyped-decorator]
def expire_holds() -> int:
    """Charges the holds of calls whose process died; every 15 s."""
    return ledger.expire_holds()


@shared_task  # type: ignore[untyped-decorator]
def open_months() -> None:
    """Opens the accounts of a month that has begun, so that finance sees it before the first call."""
    accounts.open_months()
