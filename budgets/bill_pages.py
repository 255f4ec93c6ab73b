"""The pages of the admin on which the providers' bills and the ledger are compared.

Bills are sums over all organizations. So these pages are for operators, and for finance staff and auditors
who have that role in every organization (`aigov.organizations.permissions.PLATFORM`); nobody else sees them.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov import clock
from aigov.money import euro_for_people, exact_usd_for_people, usd_for_people
from aigov.organizations.exports import FORMATS
from aigov.organizations.tenant_admin import NOTHING, count, euro, instant, person
from budgets.admin_months import LEDGER_PLACES, MONTHS_OFFERED, month_text, months_before
from budgets.reconciliation import (
    Comparison,
    DayComparison,
    Edges,
    ProviderMonth,
    State,
    Tolerance,
    delta,
    deltas,
    edges,
)
from providers.billing import can_read
from providers.models import ProviderName

VIEW, CHANGE = "budgets.view_billday", "budgets.change_billday"
PERCENT = Decimal(100)
#: A label's colour and words.
STATES: Mapping[State, tuple[str, Any]] = {
    "nothing": ("", gettext_lazy("nothing to compare")),
    "reconciled": ("success", gettext_lazy("agrees")),
    "accepted": ("success", gettext_lazy("accepted as it is")),
    "within": ("success", gettext_lazy("agrees so far")),
    "no_bill": ("warning", gettext_lazy("no bill yet")),
    "incomplete": ("warning", gettext_lazy("days are missing")),
    "waiting": ("warning", gettext_lazy("waits for approval")),
    "out_of_bounds": ("danger", gettext_lazy("differs")),
}
#: What else can make a bill and the ledger differ, by provider.
LEFT_OUT: Mapping[str, tuple[Any, ...]] = {
    ProviderName.OPENAI: (
        gettext_lazy("Taxes, and credits and discounts that OpenAI only applies to the invoice."),
        gettext_lazy("Scale Tier and other capacity that was bought in advance."),
    ),
    ProviderName.ANTHROPIC: (
        gettext_lazy("Priority Tier: what was bought in advance is not in Anthropic's cost report."),
        gettext_lazy("Taxes, and credits, which Anthropic only applies to the invoice."),
        gettext_lazy("A file from Anthropic's Console has whole cents for each line, so it is less exact."),
    ),
}
LEFT_OUT_BY_ALL = (
    gettext_lazy("Calls that others make with the same account stand on the bill, and not in our ledger."),
    gettext_lazy(
        "Calls that broke off stand in our ledger at the most that they can have cost (“estimated”); the"
        " provider may have billed less, or nothing."
    ),
    gettext_lazy(
        "A call at midnight UTC may stand on one day here and on the next one there; over a month, this evens"
        " out but for its first and last minute."
    ),
)


def check(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied where the person may not do that."""
    if not person(request).has_perm(permission):
        raise PermissionDenied


def provider_name(provider: str) -> str:
    """How people call it; one that has no name here, as the ledger does."""
    return str(dict(ProviderName.choices).get(provider, provider))


def month_in(text: str) -> date:
    """The first day of a month such as `2026-11`; raises Http404."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise Http404 from None


def month_in_path(month: date) -> str:
    return f"{month:%Y-%m}"


def address_of(month: date, provider: str = "") -> str:
    if provider:
        return reverse("reconciliation-provider", args=[month_in_path(month), provider])
    return f"{reverse('reconciliation')}?month={month_in_path(month)}"


def overview_files(month: date) -> list[tuple[str, str]]:
    """(name, address) of the files with the overview's rows."""
    return [
        (name.upper(), reverse("reconciliation-export", args=[month_in_path(month), name]))
        for name in FORMATS
    ]


def files(found: ProviderMonth, table: str, **query: str) -> list[tuple[str, str]]:
    """(name, address) of the files with the rows of one of a provider's tables."""
    arguments = [month_in_path(found.month), found.provider, table]
    asked = f"?{urlencode(query)}" if query else ""
    return [
        (name.upper(), reverse("reconciliation-table", args=[*arguments, name]) + asked) for name in FORMATS
    ]


def page(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    known = {**admin.site.each_context(request), "title": title, "content_title": _("Reconciliation")}
    return TemplateResponse(request, f"admin/budgets/bills/{template}", {**known, **context})


# --- All providers


def overview(request: HttpRequest) -> HttpResponse:
    """A month's bills and the ledger, by provider."""
    check(request, VIEW)
    month = _chosen(request)
    found = deltas(month)
    context = {
        "month": month_text(month),
        "months": _months(month),
        "providers": provider_rows(found),
        "files": overview_files(month),
        "edges": _edge_rows(edges(month, found)) if found else [],
        "edges_sum": euro(sum((one.total.ledger_eur for one in found), Decimal(0)), places=LEDGER_PLACES),
        "tolerance": _tolerance_words(found[0].tolerance) if found else "",
        "may_change": person(request).has_perm(CHANGE),
        "readable": [ProviderName(name).label for name in ProviderName.values if can_read(name)],
        "unreadable": [ProviderName(name).label for name in ProviderName.values if not can_read(name)],
        "read_address": reverse("reconciliation-read", args=[month_in_path(month)]),
    }
    return page(
        request, "overview.html", _("Reconciliation, %(month)s") % {"month": month_text(month)}, **context
    )


def _chosen(request: HttpRequest) -> date:
    text = request.GET.get("month")
    return month_in(text) if text else clock.month_of(clock.now(), "UTC")


def _months(chosen: date) -> list[dict[str, Any]]:
    present = clock.month_of(clock.now(), "UTC")
    months = [months_before(present, number) for number in range(MONTHS_OFFERED)]
    if chosen not in months:
        months.append(chosen)
    return [
        {"value": month_in_path(one), "text": month_text(one), "is_chosen": one == chosen} for one in months
    ]


def provider_rows(found: Iterable[ProviderMonth]) -> list[dict[str, Any]]:
    return [
        {
            "name": provider_name(one.provider),
            "address": address_of(one.month, one.provider),
            **amounts(one.total),
            **state_label(one),
            "note": note_on(one),
        }
        for one in found
    ]


def amounts(found: Comparison) -> dict[str, Any]:
    """A comparison, and its figures as cells."""
    return {
        "comparison": found,
        "bill": usd_cell(found.bill_usd),
        "ledger": usd_cell(found.ledger_usd),
        "delta": usd_cell(found.delta_usd, signed=True),
        "delta_eur": ("+" if found.delta_eur > 0 else "") + euro_for_people(found.delta_eur),
        "percent": percent(found.ratio),
        "calls": count(found.calls),
    }


def usd_cell(amount: Decimal, *, signed: bool = False) -> SafeString:
    """`amount` in as many digits as readers need, all of them in its tooltip."""
    sign = "+" if signed and amount > 0 else ""
    return format_html(
        '<span title="{}">{}{}</span>', exact_usd_for_people(amount), sign, usd_for_people(amount)
    )


def percent(ratio: Decimal | None) -> str:
    if ratio is None:
        return NOTHING
    sign = "+" if ratio > 0 else ""
    return (
        f"{sign}{number_format(round(ratio * PERCENT, 2), decimal_pos=2, use_l10n=True)}\N{NO-BREAK SPACE}%"
    )


def state_label(found: ProviderMonth) -> dict[str, Any]:
    variant, words = STATES[found.state]
    return {"variant": variant, "state": words}


def note_on(found: ProviderMonth) -> str:
    """What there is to know of a provider's month besides its state, in a few words."""
    notes = []
    if found.missing:
        days = ", ".join(date_format(one.day, _("j M")) for one in found.missing[:5])
        more = " …" if len(found.missing) > 5 else ""
        notes.append(_("not on the bill: %(days)s") % {"days": days + more})
    if found.accepted:
        notes.append(_("accepted as it is: %(amount)s") % {"amount": usd_for_people(found.accepted_usd)})
    if found.waiting:
        notes.append(_("corrections wait for a second person"))
    if found.known_until is not None and not found.is_over:
        notes.append(_("bill known until %(at)s") % {"at": instant(found.known_until)})
    return "; ".join(notes)


def _tolerance_words(tolerance: Tolerance) -> str:
    limit = number_format((tolerance.ratio * PERCENT).normalize(), use_l10n=True)
    if tolerance.usd:
        facts = {"percent": limit, "amount": usd_for_people(tolerance.usd)}
        return _("Up to %(percent)s %% of the bill, or %(amount)s, a difference counts as none.") % facts
    return _("Up to %(percent)s %% of the bill, a difference counts as none.") % {"percent": limit}


def _edge_rows(found: Edges) -> list[tuple[str, str]]:
    """The way from the months' budgets to what is compared, in lines that add up."""
    lines = [
        (_("Spent in this month, as the organizations account for it (local time)"), found.spent),
        (_("of it, calls at the month's edges that lie in another month of UTC"), -found.of_other_utc_months),
        (_("calls of this month of UTC that count in another local month"), found.of_other_local_months),
        (_("calls since the day's bill was read"), -found.not_compared),
        (_("corrections and late entries that stand in another month"), found.corrections),
    ]
    first, *others = lines
    return [
        (words, euro(amount, places=LEDGER_PLACES))
        for words, amount in (first, *(one for one in others if one[1]))
    ]


# --- One provider


def provider_page(request: HttpRequest, month: str, provider: str) -> HttpResponse:
    """A provider's month by model and by day; a day's models where one is chosen."""
    check(request, VIEW)
    found = found_or_404(month, provider)
    context = {
        **amounts(found.total),
        **state_label(found),
        "note": note_on(found),
        "month": month_text(found.month),
        "back": address_of(found.month),
        "estimated": usd_for_people(found.total.estimated_usd) if found.total.estimated_usd else "",
        "corrections": usd_for_people(found.total.corrections_usd) if found.total.corrections_usd else "",
        "models": model_rows(found),
        "models_files": files(found, "models"),
        "days": day_rows(found),
        "days_files": files(found, "days"),
        "day": _chosen_day(request, found),
        "accepted": [_accepted_row(one) for one in found.accepted],
        "left_out": (*LEFT_OUT.get(provider, ()), *LEFT_OUT_BY_ALL),
        "actions": _actions(found) if person(request).has_perm(CHANGE) else [],
    }
    title = _("%(provider)s, %(month)s") % {
        "provider": provider_name(provider),
        "month": month_text(found.month),
    }
    return page(request, "provider.html", title, **context)


def found_or_404(month: str, provider: str) -> ProviderMonth:
    found = delta(month_in(month), provider)
    if found is None:
        raise Http404
    return found


def model_rows(found: ProviderMonth) -> list[dict[str, Any]]:
    return [
        {
            "name": model_words(model),
            **amounts(comparison),
            **_differs(found, not found.is_model_within(model)),
        }
        for model, comparison in found.models.items()
    ]


def _differs(found: ProviderMonth, is_off: bool) -> dict[str, Any]:
    """A part of the month that is off, in words; of a month whose difference was accepted, it is so, too."""
    if not is_off:
        return {}
    if found.state == "accepted":
        return {"variant": "success", "state": _("accepted as it is")}
    return {"variant": "danger", "state": _("differs"), "is_off": True}


def model_words(model: str) -> str:
    return model or _("without a model")


def day_rows(found: ProviderMonth) -> list[dict[str, Any]]:
    return [_day_row(found, one) for one in found.days]


def _day_row(found: ProviderMonth, one: DayComparison) -> dict[str, Any]:
    within = found.tolerance.holds(one.total.delta_usd, one.total.bill_usd)
    if not one.is_over:
        state = {"variant": "warning", "state": _("not over yet")}
    elif not one.is_billed and one.total.ledger_usd:
        state = {"variant": "warning", "state": _("not on the bill")}
    else:
        state = _differs(found, not within)
    return {
        "day": one.day,
        "name": date_format(one.day, _("j M")),
        "address": f"{address_of(found.month, found.provider)}?day={one.day.isoformat()}#day",
        **amounts(one.total),
        **state,
    }


def _chosen_day(request: HttpRequest, found: ProviderMonth) -> dict[str, Any] | None:
    day = chosen_day(request, found)
    if day is None:
        return None
    return {
        "name": date_format(day.day, "DATE_FORMAT"),
        "rows": rows_of_day(found, day),
        "files": files(found, "day", day=day.day.isoformat()),
    }


def chosen_day(request: HttpRequest, found: ProviderMonth) -> DayComparison | None:
    return next((one for one in found.days if one.day.isoformat() == request.GET.get("day")), None)


def rows_of_day(found: ProviderMonth, one: DayComparison) -> list[dict[str, Any]]:
    """A day's models."""
    compared = one.is_over and one.is_billed
    return [
        {
            "name": model_words(model),
            **amounts(comparison),
            **_differs(
                found, compared and not found.tolerance.holds(comparison.delta_usd, comparison.bill_usd)
            ),
        }
        for model, comparison in one.models.items()
    ]


def _accepted_row(one: Any) -> dict[str, Any]:
    return {
        "amount": usd_for_people(one.amount_usd),
        "who": one.accepted_by.email,
        "at": instant(one.accepted_at),
        "reason": one.reason,
    }


def _actions(found: ProviderMonth) -> list[tuple[Any, str]]:
    """What can be done about a difference now; `budgets.differences` has the rules."""
    if not found.is_over or found.known_until is None or found.waiting or not found.open_usd:
        return []
    arguments = [month_in_path(found.month), found.provider]
    accept = (_("Accept as it is"), reverse("reconciliation-accept", args=arguments))
    if found.missing or found.accepted:
        return [accept]
    return [(_("Post the difference"), reverse("reconciliation-post", args=arguments)), accept]
