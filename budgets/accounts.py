"""Accounts are opened with the standing cap of the settings registry, and follow it until finance sets a
cap for the month.

A cap must never be a stale one. So an account is opened, and a standing cap changed, under the lock of the
registry's version: whoever opens knows that no cap has changed since the settings it goes by were read, and
whoever changes a cap sees every account that was opened before.
"""

import logging
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from django.db import connection as django_connection
from django.db import transaction
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aigov import clock, database
from aigov.errors import BadRequest, BudgetUnavailable
from aigov.money import EURO_MAX, NANO_EURO, cap_text, exact_euro_for_people
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Organization
from aigov.registry.effective import Settings
from aigov.registry.snapshot import SETTINGS, load_settings_sync, settings_for
from aigov.registry.values import Change
from budgets.four_eyes import check_raise_of_month
from budgets.models import BudgetAccount, Scope

log = logging.getLogger(__name__)


class MonthClosed(BadRequest):
    """A closed month's caps stay as they are."""

    code = "month_closed"

    def __init__(self, month: date) -> None:
        name = date_format(month, "YEAR_MONTH_FORMAT")
        super().__init__(
            _("%(month)s is closed: its caps stay as they are.") % {"month": name}, param="cap_eur"
        )


MONTHLY_CAP = "ai.budget.monthly.cap"
USER_MONTHLY_CAP = "ai.budget.user.monthly.cap"
USE_CASE_MONTHLY_CAPS = "ai.budget.use_case.monthly.caps"
CAP_CHANGED = "budget.cap_changed"

LOCK_VERSION = "SELECT version FROM registry_registryversion FOR SHARE"
# What is there already is not inserted at all: the insert's trigger would lock the organization's account,
# out of the ledger's order.
_OPEN = """
INSERT INTO budget_accounts
    (organization_id, month, scope, subject, cap_eur, cap_is_of_month, spent_eur, held_eur)
SELECT wanted.*, false, 0, 0
FROM (VALUES (%s::bigint, %s::date, %s::varchar, %s::varchar, %s::numeric))
    wanted (organization_id, month, scope, subject, cap_eur)
WHERE NOT EXISTS (
    SELECT FROM budget_accounts a
    WHERE (a.organization_id, a.month, a.scope, a.subject)
        = (wanted.organization_id, wanted.month, wanted.scope, wanted.subject)
) ON CONFLICT DO NOTHING
"""


def standing_cap(settings: Settings, organization_id: int, scope: str, subject: str) -> Decimal | None:
    """The standing cap in euro of an organization, a user or a use case; None: it has no cap of its own."""
    if scope == Scope.USER:
        cap = settings.value(USER_MONTHLY_CAP, organization_id=organization_id, user=subject)
    elif scope == Scope.USE_CASE:
        cap = settings.value(USE_CASE_MONTHLY_CAPS, organization_id=organization_id).get(subject)
    else:
        cap = settings.value(MONTHLY_CAP, organization_id=organization_id)
    return None if cap is None else Decimal(cap)


def _subjects(user: str, use_case: str) -> Iterator[tuple[str, str]]:
    yield Scope.ORGANIZATION, ""
    if user:
        yield Scope.USER, user
    if use_case:
        yield Scope.USE_CASE, use_case


async def open_accounts(*, organization_id: int, month: date, user: str, use_case: str) -> None:
    """Opens those of a charge's accounts that the month does not have yet.

    Does nothing but reload the settings where this process's copy of them is out of date; ask again then.
    """
    settings = await settings_for(organization_id)
    async with database.connection() as conn, conn.transaction():
        cursor = await conn.execute(LOCK_VERSION)
        if await cursor.fetchone() == (settings.version,):
            for scope, subject in _subjects(user, use_case):
                cap = standing_cap(settings, organization_id, scope, subject)
                await conn.execute(_OPEN, (organization_id, month, scope, subject, cap))
            return
    await SETTINGS.refresh()


def open_month(
    *, organization: Organization, month: date | None = None, user: str = "", use_case: str = ""
) -> BudgetAccount:
    """The organization's own account of `month` (default: the present one), opened if there is none; and with
    it those of a user and a use case, if they are named.
    """
    month = month or clock.month_of(clock.now(), organization.time_zone)
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute(LOCK_VERSION)
        settings = load_settings_sync()
        for scope, subject in _subjects(user, use_case):
            cap = standing_cap(settings, organization.pk, scope, subject)
            cursor.execute(_OPEN, (organization.pk, month, scope, subject, cap))
    return BudgetAccount.objects.get(organization=organization, month=month, scope=Scope.ORGANIZATION)


def open_months() -> None:
    """Opens the present month for every organization that has not yet begun it."""
    for organization in Organization.objects.all():
        try:
            open_month(organization=organization)
        except BudgetUnavailable:
            # Its stored cap cannot be used; that is no other organization's fault.
            log.exception("the month of %s cannot be opened", organization)


def follow_standing_caps(change: Change) -> None:
    """Carries a changed standing cap to the accounts of this month and later that follow it.

    Runs in the change's own transaction, so that the next hold already goes by it.
    """
    settings = change.settings
    organizations = Organization.objects.filter(pk__in=settings.organizations(change.subject))
    for organization in organizations.order_by("pk"):
        month = clock.month_of(clock.now(), organization.time_zone)
        # In the ledger's order of locks: users, use cases, the organization last.
        accounts = BudgetAccount.objects.filter(
            organization=organization, month__gte=month, cap_is_of_month=False, closed=False
        ).order_by("-scope", "subject")
        for account in accounts:
            cap = standing_cap(settings, organization.pk, account.scope, account.subject)
            if cap != account.cap_eur:
                BudgetAccount.objects.filter(pk=account.pk, cap_is_of_month=False, closed=False).update(
                    cap_eur=cap
                )


@transaction.atomic
def set_month_cap(
    *, account: BudgetAccount, cap_eur: Decimal, acting: Acting, reason: str, approved: bool = False
) -> None:
    """Sets the cap of one account for its month alone; it is in force for the next hold.

    Args:
        approved: whether two people have agreed to it (`budgets.approvals`).

    Raises:
        BadRequest: the cap is no amount, the month is closed, or the reason is missing; `param` names it.
        SecondPersonNeeded: this raise takes two people, and is not approved.
    """
    check_cap(cap_eur)
    if not reason.strip():
        raise BadRequest(_("Please give a reason for the change."), param="reason")
    before = BudgetAccount.objects.select_for_update().get(pk=account.pk)
    if before.closed:
        raise MonthClosed(before.month)
    if not approved:
        check_raise_of_month(account=before, cap_eur=cap_eur, acting=acting)
    BudgetAccount.objects.filter(pk=account.pk).update(cap_eur=cap_eur, cap_is_of_month=True)
    account.refresh_from_db()
    write_audit_entry(
        organization=account.organization,
        acting=acting,
        action=CAP_CHANGED,
        target=str(account),
        before={"cap_eur": before.cap_eur if before.cap_eur is None else cap_text(before.cap_eur)},
        after={"cap_eur": cap_text(cap_eur)},
        reason=reason.strip(),
    )


def check_cap(cap_eur: Decimal, *, param: str = "cap_eur") -> None:
    """Makes sure that a cap is an amount of euro that the ledger can hold.

    Raises:
        BadRequest: it is not; `param` names it.
    """
    if not cap_eur.is_finite() or not 0 <= cap_eur <= EURO_MAX or cap_eur != cap_eur.quantize(NANO_EURO):
        raise BadRequest(
            _("An amount in euro is 0 or more, at most %(max)s, and has at most nine decimal places.")
            % {"max": exact_euro_for_people(EURO_MAX)},
            param=param,
        )
