"""Several months' caps changed at once, by somebody who has seen the caps that were in force until then.

All of them are changed, or none; a raise that takes a second person becomes a request. Whoever has seen
another cap than the one in force is refused: somebody else was quicker, and must not be overwritten unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.utils.translation import gettext as _

from aigov.errors import BadRequest, SecondPersonNeeded
from aigov.money import euro_for_people
from aigov.organizations.audit import Acting
from budgets.accounts import set_month_cap
from budgets.approvals import ask
from budgets.models import ApprovalRequest, BudgetAccount, RequestKind


@dataclass(frozen=True, slots=True)
class CapChange:
    """A cap for one account's month, in euro, and the one that it is to replace (None: there was none)."""

    account: BudgetAccount
    seen_cap_eur: Decimal | None
    cap_eur: Decimal


class CapRefused(BadRequest):
    """The cap of one of the accounts was refused; none has been changed."""

    def __init__(self, refusal: BadRequest, account: BudgetAccount) -> None:
        super().__init__(refusal.message, param=refusal.param)
        self.account = account


class CapChangedMeanwhile(BadRequest):
    """The cap in force, `cap_eur`, is not the one that was seen."""

    def __init__(self, cap_eur: Decimal | None) -> None:
        shown = _("none") if cap_eur is None else euro_for_people(cap_eur)
        super().__init__(
            _("Somebody else has changed this cap meanwhile; it is %(cap)s now.") % {"cap": shown},
            param="cap_eur",
        )


@transaction.atomic
def set_month_caps(
    *, changes: Sequence[CapChange], acting: Acting, reason: str
) -> dict[int, ApprovalRequest]:
    """Sets the caps of several accounts, each for its month alone; in force for the next hold.

    Returns the requests that have been made instead where it takes a second person, by account.

    Raises:
        CapRefused: one of them is no cap, or no longer the one that was seen; or the reason is missing.
    """
    in_force = _locked_caps([change.account.pk for change in changes])
    asked = {}
    for change in changes:
        try:
            if in_force[change.account.pk] != change.seen_cap_eur:
                raise CapChangedMeanwhile(in_force[change.account.pk])
            try:
                set_month_cap(account=change.account, cap_eur=change.cap_eur, acting=acting, reason=reason)
            except SecondPersonNeeded:
                asked[change.account.pk] = ask_for_cap(
                    account=change.account, cap_eur=change.cap_eur, acting=acting, reason=reason
                )
        except BadRequest as refusal:
            raise CapRefused(refusal, change.account) from refusal
    return asked


def ask_for_cap(*, account: BudgetAccount, cap_eur: Decimal, acting: Acting, reason: str) -> ApprovalRequest:
    """Asks for a cap for the account's month; raises as `approvals.ask`."""
    return ask(
        organization=account.organization,
        kind=RequestKind.CAP,
        month=account.month,
        amount_eur=cap_eur,
        scope=account.scope,
        subject=account.subject,
        reason=reason,
        acting=acting,
    )


def _locked_caps(account_ids: Sequence[int]) -> dict[int, Decimal | None]:
    """The caps in force, locked in the order in which the ledger and the standing caps lock accounts."""
    accounts = BudgetAccount.objects.select_for_update().filter(pk__in=account_ids)
    ordered = accounts.order_by("organization_id", "-scope", "subject", "month")
    return dict(ordered.values_list("pk", "cap_eur"))
