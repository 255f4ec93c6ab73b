"""What makes a correction look like a slip of the pen. It is said to whoever asks and whoever decides, and
nothing is refused for it: a bill can be what nobody expected.
"""

from decimal import Decimal

from django.db.models import F, Q
from django.utils.translation import gettext as _

from aigov.money import euro_for_people
from budgets.closing import first_open_month
from budgets.corrections import net_cost
from budgets.models import ApprovalRequest, BudgetAccount, CostRecord, RequestKind, Scope

#: A charge is seldom dearer than its hold, so this much dearer is hardly ever meant.
HOLDS_MAX = 10


def doubts(asked: ApprovalRequest) -> list[str]:
    """Why a correction that is asked for may be a mistake, in sentences; none for other requests."""
    if asked.kind != RequestKind.CORRECTION or asked.amount_eur is None or asked.amount_eur <= 0:
        return []
    return [*_of_charge(asked.corrects, asked.amount_eur), *_of_caps(asked, asked.amount_eur)]


def _of_charge(charge: CostRecord | None, amount_eur: Decimal) -> list[str]:
    if charge is None or not charge.held_eur:
        return []
    cost_eur = net_cost(charge) + amount_eur
    if cost_eur <= HOLDS_MAX * charge.held_eur:
        return []
    facts = {"cost": euro_for_people(cost_eur), "held": euro_for_people(charge.held_eur), "times": HOLDS_MAX}
    return [
        _(
            "Please look twice: the call would cost %(cost)s, more than %(times)s times the %(held)s that"
            " were held for it."
        )
        % facts
    ]


def _of_caps(asked: ApprovalRequest, amount_eur: Decimal) -> list[str]:
    """The budgets of the month that it goes into which it would take over their caps."""
    charge = asked.corrects
    paying = Q(scope=Scope.ORGANIZATION)
    if charge is not None:
        paying |= Q(scope=Scope.USER, subject=charge.user) | Q(scope=Scope.USE_CASE, subject=charge.use_case)
    over = BudgetAccount.objects.filter(
        paying,
        organization=asked.organization_id,
        month=first_open_month(asked.organization_id, asked.month),
        cap_eur__lt=F("spent_eur") + amount_eur,
    )
    return [_over_cap(account, amount_eur) for account in over.order_by("scope", "subject")]


def _over_cap(account: BudgetAccount, amount_eur: Decimal) -> str:
    assert account.cap_eur is not None
    return _("Please look twice: %(whose)s would have spent %(spent)s, more than the cap of %(cap)s.") % {
        "whose": account.subject or account.organization.name,
        "spent": euro_for_people(account.spent_eur + amount_eur),
        "cap": euro_for_people(account.cap_eur),
    }
