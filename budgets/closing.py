"""Month close: once a month is closed, its figures stay what they are.

A month can be closed when its checklist is met. From then on the database refuses every cost record, hold and
cap of that month (`budgets/sql/closing.sql`); what comes late goes into the next open month. Only a request
that a second person has approved opens it again. Each close is a row with the figures of that moment.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connection, transaction
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aigov import clock
from aigov.errors import BadRequest
from aigov.money import euro_text
from aigov.organizations.audit import Acting, actor_name, write_audit_entry
from aigov.organizations.models import Organization
from budgets import ledger
from budgets.models import (
    ApprovalRequest,
    BudgetAccount,
    Hold,
    MonthClose,
    RequestKind,
    RequestState,
    Scope,
)
from budgets.reconciliation import is_reconciled


@dataclass(frozen=True, slots=True)
class Check:
    """A point of the checklist.

    Args:
        text: what must be so, in a sentence.
        todo: what to do where it is not.
        can_be_left: whether the month may be closed all the same by somebody who says why.
    """

    name: str
    text: str
    is_met: bool
    todo: str = ""
    can_be_left: bool = False


# --- How a month stands


def is_closed(organization_id: int, month: date) -> bool:
    return BudgetAccount.objects.filter(
        organization=organization_id, month=month, scope=Scope.ORGANIZATION, closed=True
    ).exists()


def is_over(organization: Organization, month: date) -> bool:
    """Whether the month has ended in the organization's own time zone."""
    return clock.now() >= clock.month_start(clock.next_month(month), organization.time_zone)


def first_open_month(organization_id: int, month: date) -> date:
    """`month` itself if it is open, else the first open one after it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_first_open_month(%s, %s)", (organization_id, month))
        (found,) = cursor.fetchone()
    return found  # type: ignore[no-any-return]


def checklist(organization: Organization, month: date) -> list[Check]:
    """All that must be so before the month is closed, each with whether it is."""
    return [
        _over(organization, month),
        _no_open_holds(organization, month),
        _no_open_requests(organization, month),
        _books_balance(organization, month),
        _bills_agree(month),
    ]


def _over(organization: Organization, month: date) -> Check:
    ends = clock.month_start(clock.next_month(month), organization.time_zone)
    todo = _("It ends on %(day)s, 00:00 (%(time_zone)s).") % {
        "day": date_format(ends, "DATE_FORMAT"),
        "time_zone": organization.time_zone,
    }
    return Check("over", _("The month is over."), is_over(organization, month), todo)


def _no_open_holds(organization: Organization, month: date) -> Check:
    open_holds = Hold.objects.filter(organization=organization, month=month).count()
    todo = ngettext(
        "%(count)d call is still in flight. It ends by itself within minutes.",
        "%(count)d calls are still in flight. They end by themselves within minutes.",
        open_holds,
    ) % {"count": open_holds}
    return Check("holds", _("No call in flight holds money of this month."), not open_holds, todo)


def _no_open_requests(organization: Organization, month: date) -> Check:
    about_month = ApprovalRequest.objects.exclude(kind=RequestKind.STANDING_CAP)
    waiting = about_month.filter(organization=organization, month=month, state=RequestState.OPEN).count()
    todo = ngettext(
        "%(count)d request is open. Please approve, reject or withdraw it.",
        "%(count)d requests are open. Please approve, reject or withdraw them.",
        waiting,
    ) % {"count": waiting}
    return Check("requests", _("No request for this month waits for a decision."), not waiting, todo)


def _books_balance(organization: Organization, month: date) -> Check:
    wrong = ledger.differences(organization_id=organization.pk, month=month)
    todo = _("Please tell your operators: “manage.py check_ledger” names the accounts that are wrong.")
    return Check("books", _("What was spent is the sum of the cost records."), not wrong, todo)


def _bills_agree(month: date) -> Check:
    """The bills are the whole company's, and may be long in coming: who closes without them says why."""
    todo = _(
        "The reconciliation comes first; your operators see to it. Or give a reason for closing without it."
    )
    agree = is_reconciled(month)
    return Check("bills", _("The providers' bills agree with the ledger."), agree, todo, can_be_left=True)


# --- What changes it


@transaction.atomic
def close_month(*, organization: Organization, month: date, acting: Acting, reason: str = "") -> MonthClose:
    """Closes the month, with its figures as they are now.

    Raises:
        BadRequest: there is no such month, it is closed already, or a point of the checklist is not met (and
            cannot be left, or no reason is given); the unmet ones are named in `metadata`.
    """
    account = _locked_account(organization, month)
    if account.closed:
        raise BadRequest(_("This month is closed already."), param="month", code="month_closed")
    left = [check for check in checklist(organization, month) if not check.is_met]
    unmet = [check for check in left if not (check.can_be_left and reason.strip())]
    if unmet:
        raise BadRequest(
            _("This month cannot be closed yet. %(todo)s")
            % {"todo": " ".join(check.todo for check in unmet)},
            code="month_not_ready",
            metadata={"unmet": [check.name for check in unmet]},
        )
    close = MonthClose.objects.create(
        organization=organization,
        month=month,
        closed_at=clock.now(),
        closed_by=actor_name(acting)[:254],
        reason=reason.strip(),
    )
    close.refresh_from_db()  # with the figures that the database has filled in
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="budget.month_closed",
        target=str(close),
        after={
            "spent_eur": euro_text(close.spent_eur),
            "cost_records": close.records,
            **({"left_open": [check.name for check in left]} if left else {}),
        },
        reason=reason.strip(),
    )
    return close


@transaction.atomic
def reopen_month(
    *, organization: Organization, month: date, request: ApprovalRequest, acting: Acting
) -> MonthClose:
    """Opens a closed month again, by the approved request for just that; a request opens it once.

    Raises:
        BadRequest: the month is not closed, or the request is not such a one; `param` names which.
    """
    _locked_account(organization, month)
    close = MonthClose.objects.filter(organization=organization, month=month, reopened_at=None).first()
    if close is None:
        raise BadRequest(_("This month is not closed."), param="month")
    approved = ApprovalRequest.objects.filter(
        pk=request.pk,
        kind=RequestKind.REOPENING,
        state=RequestState.APPROVED,
        organization=organization,
        month=month,
        reopened=None,
    )
    if not approved.exists():
        raise BadRequest(_("A month is reopened when a second person has approved it."), param="request")
    MonthClose.objects.filter(pk=close.pk).update(
        reopened_at=clock.now(), reopened_by=actor_name(acting)[:254], request=request
    )
    close.refresh_from_db()
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="budget.month_reopened",
        target=str(close),
        reason=request.reason,
    )
    return close


def _locked_account(organization: Organization, month: date) -> BudgetAccount:
    """The organization's own account, locked with all others of the month, in the ledger's order."""
    accounts = list(
        BudgetAccount.objects.select_for_update()
        .filter(organization=organization, month=month)
        .order_by("-scope", "subject")
    )
    for account in accounts:
        if account.scope == Scope.ORGANIZATION:
            return account
    raise BadRequest(_("The organization has no budget for this month."), param="month")
