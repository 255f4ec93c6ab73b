"""Corrections: what a charge cost is put right by a further, signed record; nothing is ever overwritten.

A correction names the charge that it corrects, or, where no single charge is wrong, the provider and model
whose bill differs. It goes into the books of its own month while that is open, else into the first open month
after it, marked `late`. It may reduce what was charged, but never turn it around: no charge costs less than
nothing with its corrections, and no account's month has spent less than nothing after one. (Only a late
answer, which takes back what the ledger itself has estimated, is posted whatever its month has spent.)

A person's correction takes two: it is posted by the request that another person has approved, once, and with
the very amount that was approved.
"""

from datetime import date
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Sum
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aigov.errors import BadRequest, BudgetUnavailable
from aigov.money import EURO_MAX, NANO_EURO, ZERO, euro_for_people, euro_text
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Organization
from budgets.accounts import LOCK_VERSION, open_month
from budgets.closing import first_open_month
from budgets.ledger import OPEN_TRIES_MAX
from budgets.models import LATE_ANSWER, ApprovalRequest, CostRecord, RequestKind, RequestState

REASON_CHARACTERS_MAX = 200
_LOCK_ACCOUNTS = "SELECT * FROM ledger_lock_accounts(%s, %s, %s, %s)"
_CORRECT = "SELECT * FROM ledger_correct(%s, %s, %s, %s, %s, %s, %s, %s, %s)"


@transaction.atomic
def post_correction(
    *,
    organization: Organization,
    month: date,
    amount_eur: Decimal,
    corrects: CostRecord | None,
    request: ApprovalRequest | None,
    provider: str = "",
    model: str = "",
    amount_usd: Decimal | None = None,
    reason: str,
    acting: Acting,
) -> CostRecord:
    """Writes the record by which `month` costs `amount_eur` more, or less where it is negative.

    Args:
        corrects: the charge that is put right; None needs a request, and takes `provider` and `model`.
        amount_usd: likewise in US dollars; by default at the charge's own exchange rate.

    Raises:
        BadRequest: it is not allowed, or would bring a charge or an account below zero; `param` names
            what is wrong.
    """
    _check_amount(amount_eur)
    _check_reason(reason)
    _check_charge(corrects, organization, month)
    _check_request(request, organization, month, corrects, amount_eur, acting)
    before_eur = None if corrects is None else net_cost(corrects)
    record = _post(
        organization, month, amount_eur, amount_usd, corrects, request, provider, model, reason.strip()
    )
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="budget.cost_corrected",
        target=f"{organization} {month:%Y-%m} {record.model} {record.completion_id}".rstrip(),
        before=None if before_eur is None else {"cost_eur": euro_text(before_eur)},
        after={
            "cost_eur": euro_text((before_eur or ZERO) + amount_eur),
            "correction_eur": euro_text(amount_eur),
            "posted_in": f"{record.month:%Y-%m}",
        },
        reason=reason.strip(),
    )
    return record


def net_cost(charge: CostRecord) -> Decimal:
    """What a charge costs with all its corrections, in euro."""
    corrections: Decimal = charge.corrections.aggregate(sum=Sum("cost_eur", default=ZERO))["sum"]
    return Decimal(charge.cost_eur + corrections)


def _check_amount(amount_eur: Decimal) -> None:
    if (
        not amount_eur.is_finite()
        or not 0 < abs(amount_eur) <= EURO_MAX
        or amount_eur != amount_eur.quantize(NANO_EURO)
    ):
        raise BadRequest(
            _("A correction is an amount in euro other than 0, with at most nine decimal places."),
            param="amount_eur",
        )


def _check_reason(reason: str) -> None:
    if not reason.strip() or reason.strip() == LATE_ANSWER:
        raise BadRequest(_("Please give a reason for the correction."), param="reason")


def _check_charge(corrects: CostRecord | None, organization: Organization, month: date) -> None:
    if corrects is None:
        return
    if corrects.organization_id != organization.pk or corrects.month != month:
        raise BadRequest(_("This charge is not of that organization and month."), param="corrects")
    if corrects.hold_id is None:
        raise BadRequest(
            _("This record is a correction itself. Please correct the charge that it names."),
            param="corrects",
        )


def _check_request(
    request: ApprovalRequest | None,
    organization: Organization,
    month: date,
    corrects: CostRecord | None,
    amount_eur: Decimal,
    acting: Acting,
) -> None:
    if request is None:
        if corrects is None or not isinstance(acting, str):
            raise BadRequest(_("A correction needs a second person's approval."), param="request")
        return
    approved = ApprovalRequest.objects.filter(
        pk=request.pk,
        kind=RequestKind.CORRECTION,
        state=RequestState.APPROVED,
        organization=organization,
        month=month,
        corrects=corrects,
        amount_eur=amount_eur,
        records=None,
    )
    if not approved.exists():
        raise BadRequest(
            _("This is not the correction that was approved, or it has been posted already."), param="request"
        )


def _post(
    organization: Organization,
    month: date,
    amount_eur: Decimal,
    amount_usd: Decimal | None,
    corrects: CostRecord | None,
    request: ApprovalRequest | None,
    provider: str,
    model: str,
    reason: str,
) -> CostRecord:
    user, use_case = ("", "") if corrects is None else (corrects.user, corrects.use_case)
    for _try in range(OPEN_TRIES_MAX):
        opened = first_open_month(organization.pk, month)
        with connection.cursor() as cursor:
            # In the order of whoever changes a standing cap and of the ledger: the settings' version, the
            # accounts that are there, and only then those that are not.
            cursor.execute(LOCK_VERSION)
            cursor.execute(_LOCK_ACCOUNTS, (organization.pk, opened, user, use_case))
            open_month(organization=organization, month=opened, user=user, use_case=use_case)
            cursor.execute(
                _CORRECT,
                (
                    *(organization.pk, month, amount_eur, amount_usd),
                    *(corrects.pk if corrects else None, request.pk if request else None),
                    *(provider, model),
                    reason[:REASON_CHARACTERS_MAX],
                ),
            )
            outcome, posted_in, record_id, figure = cursor.fetchone()
        if outcome == "corrected":
            return CostRecord.objects.get(pk=record_id)
        if outcome != "no_account":
            raise _below_zero(outcome, month, posted_in, figure)
    raise BudgetUnavailable("The accounts of the month cannot be opened.")


def _below_zero(outcome: str, month: date, posted_in: date, figure: Decimal) -> BadRequest:
    facts = {
        "month": date_format(month, "YEAR_MONTH_FORMAT"),
        "open": date_format(posted_in, "YEAR_MONTH_FORMAT"),
        "amount": euro_for_people(figure),
    }
    if outcome == "charge_below_zero":
        text = _("This charge costs %(amount)s with its corrections; no more than that can be taken back.")
    elif posted_in > month:
        text = _(
            "%(month)s is closed, so this would go into %(open)s, which has spent %(amount)s so far; no more"
            " than that can be taken back there. Please post it later, or ask for %(month)s to be reopened."
        )
    else:
        text = _("The month has spent %(amount)s; no more than that can be taken back.")
    return BadRequest(text % facts, param="amount_eur")
