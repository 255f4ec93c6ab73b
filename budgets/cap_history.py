"""The history of a month's cap: who set it, from what, to what, and why. The audit trail is its only home."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from aigov.organizations.models import AuditEntry
from budgets.accounts import CAP_CHANGED
from budgets.models import BudgetAccount

CHANGES_SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class CapChanged:
    """One change of a month's cap, in euro; None: there was no cap."""

    at: datetime
    who: str
    before_eur: Decimal | None
    after_eur: Decimal | None
    reason: str


def cap_history(account: BudgetAccount) -> list[CapChanged]:
    """The changes of the account's own cap in its month, the latest first."""
    entries = AuditEntry.objects.filter(
        organization=account.organization_id, action=CAP_CHANGED, target=str(account)
    ).order_by("-at", "-id")
    return [
        CapChanged(entry.at, entry.actor, _cap(entry.before), _cap(entry.after), entry.reason)
        for entry in entries[:CHANGES_SHOWN_MAX]
    ]


def _cap(value: Any) -> Decimal | None:
    cap = value["cap_eur"]
    return None if cap is None else Decimal(cap)
