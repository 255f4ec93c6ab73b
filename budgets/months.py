"""This month's figures of many organizations at once, for people; how each account stands is the ledger's.

An organization's month is the one at its own local time. One that has not begun its month yet has its
standing cap, and zeros.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db.models import QuerySet

from aigov import clock
from aigov.errors import BudgetUnavailable
from aigov.money import ZERO
from aigov.organizations.models import Organization
from aigov.registry.effective import Settings
from aigov.registry.snapshot import load_settings_sync
from budgets.accounts import standing_cap
from budgets.ledger import Balance
from budgets.models import BudgetAccount, Scope

_FULL = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class MonthOfOrganization:
    """One organization's month.

    Args:
        account_id: None where the month has not begun.
    """

    organization: Organization
    month: date
    resets_at: datetime
    account_id: int | None
    balance: Balance


def this_month(organizations: QuerySet[Organization]) -> list[MonthOfOrganization]:
    """The present month of each of `organizations`, the fullest first; a fixed number of queries."""
    found = list(organizations.only("id", "name", "time_zone"))
    now = clock.now()
    months = {organization.pk: clock.month_of(now, organization.time_zone) for organization in found}
    accounts = _accounts(organizations, months)
    missing = [organization.pk for organization in found if organization.pk not in accounts]
    standing = _standing_balances(missing) if missing else {}
    rows = [
        MonthOfOrganization(
            organization=organization,
            month=months[organization.pk],
            resets_at=clock.month_start(clock.next_month(months[organization.pk]), organization.time_zone),
            account_id=accounts[organization.pk].pk if organization.pk in accounts else None,
            balance=balance_of(accounts[organization.pk])
            if organization.pk in accounts
            else standing[organization.pk],
        )
        for organization in found
    ]
    return sorted(rows, key=lambda row: (-fullness(row.balance), row.organization.name))


def _accounts(organizations: QuerySet[Organization], months: Mapping[int, date]) -> dict[int, BudgetAccount]:
    own = BudgetAccount.objects.filter(
        scope=Scope.ORGANIZATION, organization__in=organizations, month__in=set(months.values())
    )
    # At the turn of a month, organizations of different time zones live in different ones.
    return {
        account.organization_id: account
        for account in own
        if account.month == months.get(account.organization_id)
    }


def _standing_balances(organization_ids: Iterable[int]) -> dict[int, Balance]:
    settings = load_settings_sync()
    return {id_: Balance(_standing_cap(settings, id_), ZERO, ZERO) for id_ in organization_ids}


def _standing_cap(settings: Settings, organization_id: int) -> Decimal | None:
    try:
        return standing_cap(settings, organization_id, Scope.ORGANIZATION, "")
    except BudgetUnavailable:
        return None  # Its stored cap cannot be used: it is refused everything until that is mended.


def balance_of(account: BudgetAccount) -> Balance:
    return Balance(account.cap_eur, account.spent_eur, account.held_eur)


def fullness(balance: Balance) -> Decimal:
    """Spent and held by the cap; endless for a cap of 0, and 0 without one."""
    used = balance.spent_eur + balance.held_eur
    if balance.cap_eur is None:
        return Decimal(0)
    return used / balance.cap_eur if balance.cap_eur else _FULL


def total(rows: Sequence[MonthOfOrganization]) -> Balance:
    """The caps of `rows`, and what is spent and held, added up."""
    return Balance(
        sum((row.balance.cap_eur or ZERO for row in rows), ZERO),
        sum((row.balance.spent_eur for row in rows), ZERO),
        sum((row.balance.held_eur for row in rows), ZERO),
    )


def left_in_total(rows: Sequence[MonthOfOrganization]) -> Decimal:
    """What each of `rows` may still spend, added up: who has passed a lowered cap takes from no other."""
    return sum((row.balance.remaining_eur or ZERO for row in rows), ZERO)
