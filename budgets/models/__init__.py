"""The tables of this room, by what they are about."""

from budgets.models.alerts import (
    Alert,
    AlertDelivery,
    AlertDestination,
    AlertKind,
    Channel,
    DeliveryState,
    Severity,
)
from budgets.models.approvals import ApprovalRequest, RequestKind, RequestState
from budgets.models.books import (
    BudgetAccount,
    CostRecord,
    EuroField,
    FxRate,
    Hold,
    Purpose,
    Scope,
)
from budgets.models.closing import AccountingMonth, MonthClose

__all__ = [
    "AccountingMonth",
    "Alert",
    "AlertDelivery",
    "AlertDestination",
    "AlertKind",
    "ApprovalRequest",
    "BudgetAccount",
    "Channel",
    "CostRecord",
    "DeliveryState",
    "EuroField",
    "FxRate",
    "Hold",
    "MonthClose",
    "Purpose",
    "RequestKind",
    "RequestState",
    "Scope",
    "Severity",
]
