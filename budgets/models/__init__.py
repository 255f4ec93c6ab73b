"""The tables of this room, by what they are about."""

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

__all__ = [
    "ApprovalRequest",
    "BudgetAccount",
    "CostRecord",
    "EuroField",
    "FxRate",
    "Hold",
    "Purpose",
    "RequestKind",
    "RequestState",
    "Scope",
]
