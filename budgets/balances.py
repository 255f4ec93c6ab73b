"""The months' figures for the API; an account that is not open yet has its standing cap and zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from aigov import clock, database
from aigov.money import ZERO, cap_text, euro_text
from aigov.registry.snapshot import settings_for
from budgets.accounts import standing_cap
from budgets.ledger import Balance
from budgets.models import Scope

_SELECT = """
SELECT scope, cap_eur, spent_eur, held_eur FROM budget_accounts
WHERE organization_id = %s AND month = %s AND (scope, subject) IN (('organization', ''), ('user', %s))
"""
_SELECT_MONTHS = """
SELECT month, closed, cap_eur, spent_eur, held_eur FROM budget_accounts
WHERE organization_id = %s AND month BETWEEN %s AND %s AND scope = 'organization'
ORDER BY month DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Month:
    """An organization's month (its first day), and whether it is closed."""

    month: date
    closed: bool
    balance: Balance


async def balances(*, organization_id: int, month: date, user: str) -> Mapping[str, Balance]:
    """The figures of an organization, and of its user if one is named, by scope."""
    settings = await settings_for(organization_id)
    scopes = {str(Scope.ORGANIZATION): ""} | ({str(Scope.USER): user} if user else {})
    found = {
        scope: Balance(standing_cap(settings, organization_id, scope, subject), ZERO, ZERO)
        for scope, subject in scopes.items()
    }
    async with database.connection() as conn:
        cursor = await conn.execute(_SELECT, (organization_id, month, user))
        return found | {scope: Balance(cap, spent, held) async for scope, cap, spent, held in cursor}


async def months(
    *, organization_id: int, time_zone: str, first: date | None, last: date, limit: int
) -> list[Month]:
    """The organization's own figures by month, from `last` back to `first`, `limit` at most.

    The present month is one of them, whether it has been opened or not.
    """
    async with database.connection() as conn:
        cursor = await conn.execute(_SELECT_MONTHS, (organization_id, first or date.min, last, limit))
        found = [Month(month, closed, Balance(*figures)) async for month, closed, *figures in cursor]
    present = clock.month_of(clock.now(), time_zone)
    if (first or date.min) <= present <= last and all(row.month != present for row in found):
        settings = await settings_for(organization_id)
        cap = standing_cap(settings, organization_id, Scope.ORGANIZATION, "")
        found.append(Month(present, False, Balance(cap, ZERO, ZERO)))
    return sorted(found, reverse=True, key=lambda row: row.month)[:limit]


def balance_as_json(balance: Balance, resets_at: datetime) -> dict[str, Any]:
    """A balance as the API shows it; a user without a cap has no limit and no remainder."""
    return {
        "limit_eur": None if balance.cap_eur is None else cap_text(balance.cap_eur),
        "spent_eur": euro_text(balance.spent_eur),
        "held_eur": euro_text(balance.held_eur),
        "remaining_eur": None if balance.remaining_eur is None else euro_text(balance.remaining_eur),
        "resets_at": resets_at.isoformat(),
    }
