"""A request in words, for pages and mails."""

from decimal import Decimal

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aigov.money import euro_for_people
from budgets.models import ApprovalRequest, RequestKind


def title(asked: ApprovalRequest) -> str:
    """What it is about, such as “Cap of Acme for November 2026”."""
    facts = {
        "whose": " · ".join(filter(None, (asked.organization.name, asked.subject))),
        "month": date_format(asked.month, "YEAR_MONTH_FORMAT"),
    }
    if asked.kind == RequestKind.CAP:
        return _("Cap of %(whose)s for %(month)s") % facts
    if asked.kind == RequestKind.STANDING_CAP:
        return _("Standing cap of %(whose)s from %(month)s on") % facts
    if asked.kind == RequestKind.CORRECTION:
        return _("Correction for %(whose)s in %(month)s") % facts
    return _("Reopening of %(month)s for %(whose)s") % facts


def change_words(asked: ApprovalRequest) -> str:
    """What would change, such as “1,000.00 € → 1,500.00 €”; empty where no amount is asked for."""
    if asked.amount_eur is None:
        return ""
    if asked.kind == RequestKind.CORRECTION:
        return euro_for_people(asked.amount_eur)
    return f"{_cap(asked.before_eur)} → {_cap(asked.amount_eur)}"


def _cap(cap_eur: Decimal | None) -> str:
    return _("no cap") if cap_eur is None else euro_for_people(cap_eur)
