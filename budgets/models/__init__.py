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
from budgets.models.bills import (
    AcceptedDifference,
    BillDay,
    BillImport,
    BillLine,
    BillSource,
)
from budgets.models.books import (
    BudgetAccount,
    CostRecord,
    EuroField,
    FxRate,
    Hold,
    Purpose,
    Scope,
)

__all__ = [
    "Alert",
    "AlertDelivery",
    "AlertDestination",
    "AlertKind",
    "AcceptedDifference",
    "ApprovalRequest",
    "BillDay",
    "BillImport",
    "BillLine",
    "BillSource",
    "BudgetAccount",
    "Channel",
    "CostRecord",
    "DeliveryState",
    "EuroField",
    "FxRate",
    "Hold",
    "Purpose",
    "RequestKind",
    "RequestState",
    "Scope",
    "Severity",
]
