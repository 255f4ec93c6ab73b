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
from budgets.models.approvals import (
    CORRECTION_ASKED_ONCE,
    SAME_ASKED_ONCE,
    ApprovalRequest,
    RequestKind,
    RequestState,
)
from budgets.models.bills import (
    AcceptedDifference,
    BillDay,
    BillImport,
    BillLine,
    BillSource,
)
from budgets.models.books import (
    LATE_ANSWER,
    BudgetAccount,
    CostRecord,
    EuroField,
    FxRate,
    Hold,
    Purpose,
    Scope,
)
from budgets.models.closing import AccountingMonth, MonthClose
from budgets.models.daily import CostDay, CostSum, CostUserDay, CostUserSum, RollUp

__all__ = [
    "CORRECTION_ASKED_ONCE",
    "LATE_ANSWER",
    "SAME_ASKED_ONCE",
    "AccountingMonth",
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
    "CostDay",
    "CostRecord",
    "CostSum",
    "CostUserDay",
    "CostUserSum",
    "DeliveryState",
    "EuroField",
    "FxRate",
    "Hold",
    "MonthClose",
    "Purpose",
    "RequestKind",
    "RequestState",
    "RollUp",
    "Scope",
    "Severity",
]
