"""What is done about a difference between a bill and the ledger: it is posted, or accepted as it is.

Posted, it becomes a request for a correction in each organization that paid for calls of that provider and
model, in proportion to what it paid, exact to the nano-euro; a second person approves each. Where some were
approved and others not, the rest is posted again to those others alone. Accepted, a difference stays, and
the audit trail says why. Both only when the month is over, and each difference only once.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

from django.db import connection, transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.money import NANO_EURO
from aigov.organizations.audit import write_audit_entry
from aigov.organizations.models import Organization, User
from budgets.approvals import ask
from budgets.models import AcceptedDifference, ApprovalRequest, RequestKind
from budgets.reconciliation import ProviderMonth, bare_model, delta, midnight
from providers.models import ProviderName

#: By organization, in euro.
Amounts = Mapping[int, Decimal]

LOCK = 7_290_314
REASON_CHARACTERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """What an organization bears of a difference; negative: what it gets back. `model` is empty for all."""

    organization: Organization
    model: str
    amount_eur: Decimal


@transaction.atomic
def post_difference(
    *, month: date, provider: str, model: str = "", reason: str, acting: User
) -> list[ApprovalRequest]:
    """Asks for the corrections that make the ledger say what the bill says, of one model or of all.

    Raises:
        BadRequest: there is nothing to post, something waits already, or the bill is not whole.
    """
    _lock()
    shares = _shares(_settled(month, provider, reason), model)
    return [
        ask(
            organization=share.organization,
            kind=RequestKind.CORRECTION,
            month=month,
            amount_eur=share.amount_eur,
            provider=provider,
            model=share.model,
            reason=reason,
            acting=acting,
        )
        for share in shares
    ]


def choices_of(month: date, provider: str) -> dict[str, list[Share]]:
    """What each organization would bear of the difference of each model that differs, if that was posted
    alone, and under "" of all models' in one sum. What cannot be posted so is left out.

    Raises:
        BadRequest: as `post_difference`, if nothing can be posted.
    """
    found = _settled(month, provider, "-")
    differing = [model for model in found.models if model and not found.is_model_within(model)]
    choices, refusals = {}, []
    for model in (*differing, ""):
        try:
            choices[model] = _shares(found, model)
        except BadRequest as refusal:
            refusals.append(refusal)
    if not choices:
        raise refusals[-1]
    return choices


@transaction.atomic
def accept_difference(*, month: date, provider: str, reason: str, acting: User) -> AcceptedDifference:
    """Accepts what is left of the month's difference; it holds for this amount, and not for a later one.

    Raises:
        BadRequest: there is none, corrections wait, or the reason is missing.
    """
    _lock()
    found = _settled(month, provider, reason, whole=False)
    if not found.open_usd:
        raise BadRequest(_("There is no difference."), param="provider")
    accepted = AcceptedDifference.objects.create(
        provider=provider,
        month=month,
        amount_usd=found.open_usd,
        reason=reason,
        accepted_by=acting,
        accepted_at=clock.now(),
    )
    write_audit_entry(
        organization=None,
        acting=acting,
        action="bill.accept",
        target=f"{ProviderName(provider).label} {month:%Y-%m}",
        before={"difference_usd": f"{found.open_usd.normalize():f}"},
        after={"difference_usd": "0"},
        reason=reason,
    )
    return accepted


def _settled(month: date, provider: str, reason: str, *, whole: bool = True) -> ProviderMonth:
    """The month, where something can be done about its difference now."""
    if not 0 < len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise BadRequest(_("Please give a reason for the change."), param="reason")
    found = delta(month, provider)
    if found is None or found.known_until is None:
        raise BadRequest(_("There is no bill of this provider for this month."), param="provider")
    if clock.now() < midnight(clock.next_month(month)):
        raise BadRequest(_("The month is not over; its difference can still change."), param="month")
    if found.waiting:
        raise BadRequest(_("Corrections of this month wait for a second person."), param="provider")
    if whole and found.missing:
        raise BadRequest(
            _("Days are missing on the bill; a difference can be posted when it is whole."), param="month"
        )
    return found


def _shares(found: ProviderMonth, only: str) -> list[Share]:
    """The organizations' shares: for one model, or for all of them in one sum an organization."""
    if only and only not in found.models:
        raise BadRequest(_("There is no such model on the bill."), param="model")
    if found.accepted:
        raise BadRequest(_("This month's difference has been accepted."), param="provider")
    posted = _posted(found)
    if only and "" in posted:
        raise BadRequest(
            _("A part has been posted for all models in one sum; so the rest can only be posted for all."),
            param="model",
        )
    differences = {
        model: comparison.delta_eur.quantize(NANO_EURO, rounding=ROUND_HALF_EVEN)
        for model, comparison in found.unposted.items()
        if only in ("", model)
    }
    sums = due(differences, _paid(found), [own for model, own in posted.items() if only in ("", model)])
    organizations = Organization.objects.in_bulk(sums)
    shares = [Share(organizations[key], only, amount) for key, amount in sorted(sums.items())]
    if not shares:
        raise BadRequest(_("There is no difference."), param="provider")
    return shares


def due(
    differences: Mapping[str, Decimal], paid: Mapping[str, Amounts], posted: Iterable[Amounts]
) -> dict[int, Decimal]:
    """What each organization still has to bear: its shares of all differences, less what it bears already.

    So the sum of what was posted and what is due is that of the differences, and nobody bears a share twice.

    Args:
        differences: by model, before anything was posted.
        paid: by model what each organization paid, and under "" for all models.
        posted: what each organization bears already.
    """
    sums: dict[int, Decimal] = defaultdict(Decimal)
    for model, amount in differences.items():
        for organization_id, share in pro_rata(amount, paid.get(model) or paid[""]).items():
            sums[organization_id] += share
    for own in posted:
        for organization_id, amount in own.items():
            sums[organization_id] -= amount
    return {organization_id: amount for organization_id, amount in sums.items() if amount}


def _posted(found: ProviderMonth) -> dict[str, dict[int, Decimal]]:
    """By model, what each organization bears already of the month as a whole; under "" for all in one."""
    with connection.cursor() as cursor:
        cursor.execute(_POSTED, [found.provider, found.month])
        rows = cursor.fetchall()
    posted: dict[str, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for organization_id, model, cost_eur in rows:
        posted[bare_model(model)][organization_id] += cost_eur
    return posted


_POSTED = """
SELECT c.organization_id, c.model, sum(c.cost_eur)
FROM ai_costs c JOIN budget_requests r ON r.id = c.request_id
WHERE c.provider = %s AND r.month = %s AND r.kind = 'correction' AND c.corrects_id IS NULL
GROUP BY 1, 2
"""


def _paid(found: ProviderMonth) -> dict[str, dict[int, Decimal]]:
    """What each organization paid for each model, and (under "") for all; where none paid this provider,
    nobody can bear its difference."""
    with connection.cursor() as cursor:
        start, end = midnight(found.month), midnight(clock.next_month(found.month))
        cursor.execute(_PAID, [found.provider, start, end])
        rows = cursor.fetchall()
    paid: dict[str, dict[int, Decimal]] = {"": {}}
    for organization_id, model, cost_eur in rows:
        for name in ("", bare_model(model)):
            own = paid.setdefault(name, {})
            own[organization_id] = own.get(organization_id, Decimal(0)) + cost_eur
    if not paid[""]:
        raise BadRequest(
            _("No organization has paid for calls of this provider, so nobody can bear the difference."),
            param="provider",
        )
    return paid


_PAID = """
SELECT organization_id, model, sum(cost_eur) FROM ai_costs
WHERE provider = %s AND created_at >= %s AND created_at < %s AND corrects_id IS NULL AND request_id IS NULL
GROUP BY 1, 2 HAVING sum(cost_eur) > 0
"""


def pro_rata(amount: Decimal, weights: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """`amount`, a number of nano-euro, in proportion to `weights` (above 0): exact, by largest remainder.

    Each share is cut off to the nano-euro, towards 0; what is left goes, a nano-euro each, to those whose
    shares were cut most (Hamilton's method), and among equals to the one that comes first.
    """
    whole = int(abs(amount) / NANO_EURO)
    total = sum(weights.values(), Decimal(0))
    shares = {key: int(whole * _fraction(weight) // _fraction(total)) for key, weight in weights.items()}
    cut = {key: whole * _fraction(weight) % _fraction(total) for key, weight in weights.items()}
    for key in _first(cut, whole - sum(shares.values())):
        shares[key] += 1
    sign = -1 if amount < 0 else 1
    return {key: sign * share * NANO_EURO for key, share in shares.items()}


def _fraction(weight: Decimal) -> int:
    """A weight as a whole number of nano-euro, so that nothing is rounded."""
    return int(weight.scaleb(9))


def _first(cut: Mapping[int, int], number: int) -> Sequence[int]:
    return sorted(cut, key=lambda key: (-cut[key], key))[:number]


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
