"""What the budgets' room does on its own, by Celery."""

from celery import shared_task

from budgets import accounts, approvals, bill_watch, daily, ledger
from budgets.alerts import deliveries, evaluation


@shared_task  # type: ignore[untyped-decorator]
def expire_holds() -> int:
    """Charges the holds of calls whose process died; every 15 s."""
    return ledger.expire_holds()


@shared_task  # type: ignore[untyped-decorator]
def open_months() -> None:
    """Opens the accounts of a month that has begun, so that finance sees it before the first call."""
    accounts.open_months()


@shared_task  # type: ignore[untyped-decorator]
def evaluate_alerts() -> None:
    """Raises alerts for accounts, providers and overruns; every minute."""
    evaluation.evaluate()


@shared_task  # type: ignore[untyped-decorator]
def evaluate_days() -> None:
    """Raises alerts for forecasts and unusual days; every ten minutes."""
    evaluation.evaluate_days()


@shared_task  # type: ignore[untyped-decorator]
def deliver_alerts() -> int:
    """Brings alerts to people; every 15 s."""
    return deliveries.deliver_due()


@shared_task  # type: ignore[untyped-decorator]
def roll_up_costs() -> int:
    """Adds the newest cost records to their days; every minute."""
    return daily.roll_up()


@shared_task  # type: ignore[untyped-decorator]
def expire_requests() -> int:
    """Ends the requests that nobody has decided in time."""
    return approvals.expire_requests()


@shared_task  # type: ignore[untyped-decorator]
def import_bills() -> None:
    """Reads the bills of the last days, and raises alerts where they differ from the ledger; twice a day."""
    bill_watch.watch()
