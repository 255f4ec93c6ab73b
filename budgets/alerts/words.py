"""What an alert says, in the language of whoever reads it, and where to act on it."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from aigov.money import euro_for_people
from budgets.models import Alert, AlertKind, Scope
from providers.circuit import ALL_MODELS
from providers.models import ProviderName
from providers.status_pages import REASONS

Words = Callable[[Alert], str]


def title(alert: Alert) -> str:
    """What has happened, in one line."""
    return _TITLES[AlertKind(alert.kind)](alert)


def text(alert: Alert) -> str:
    """What has happened with its figures, and what follows from it, in a sentence or two."""
    return _TEXTS[AlertKind(alert.kind)](alert)


def address(alert: Alert) -> str:
    """The path of the page where one acts on it."""
    return _ADDRESSES.get(AlertKind(alert.kind), page)(alert)


def page(alert: Alert) -> str:
    """The path of its own page."""
    return reverse("admin:budgets_alert_change", args=[alert.pk])


def absolute(path: str) -> str:
    return f"{settings.PUBLIC_URL}{path}"


# --- The parts


def _euro(alert: Alert, name: str) -> str:
    return euro_for_people(Decimal(alert.figures[name]))


def _money(alert: Alert) -> dict[str, str]:
    """The amounts among the figures, for people."""
    return {name.removesuffix("_eur"): _euro(alert, name) for name in alert.figures if name.endswith("_eur")}


def _whose(alert: Alert) -> str:
    """Whose account it is, with the organization's name."""
    figures = alert.figures
    names = {"organization": alert.organization, "subject": figures.get("subject", "")}
    if figures.get("scope") == Scope.USER:
        return _("user %(subject)s of %(organization)s") % names
    if figures.get("scope") == Scope.USE_CASE:
        return _("use case %(subject)s of %(organization)s") % names
    return str(alert.organization)


def _period(alert: Alert) -> str:
    """The month or day, for people."""
    is_month = len(alert.period) == len("2026-11")
    day = date.fromisoformat(f"{alert.period}-01" if is_month else alert.period)
    return date_format(day, "F Y" if is_month else "DATE_FORMAT")


def _model(alert: Alert) -> str:
    provider, model = alert.figures["provider"], alert.figures.get("model", "")
    name = str(ProviderName(provider).label) if provider in ProviderName.values else provider
    return _("all models of %(provider)s") % {"provider": name} if model == ALL_MODELS else f"{name} {model}"


def _facts(alert: Alert) -> dict[str, Any]:
    return {**_money(alert), "whose": _whose(alert), "period": _period(alert)}


# --- Titles


def _threshold_title(alert: Alert) -> str:
    return _("%(percent)s %% of the cap spent: %(whose)s") % {
        "percent": alert.figures["percent"],
        "whose": _whose(alert),
    }


def _provider_title(alert: Alert) -> str:
    if alert.figures["reason"] == "switched_off":
        return _("Switched off: %(model)s") % {"model": _model(alert)}
    return _("Not available: %(model)s") % {"model": _model(alert)}


_TITLES: Mapping[AlertKind, Words] = {
    AlertKind.THRESHOLD: _threshold_title,
    AlertKind.FORECAST: lambda alert: _("Forecast over the cap: %(whose)s") % _facts(alert),
    AlertKind.UNUSUAL_DAY: lambda alert: _("Unusually expensive day: %(whose)s") % _facts(alert),
    AlertKind.BUDGET_REFUSED: lambda alert: _("Calls refused for want of budget: %(whose)s") % _facts(alert),
    AlertKind.OVER_CAP: lambda alert: _("Over the cap: %(whose)s") % _facts(alert),
    AlertKind.OVERRUN: lambda alert: _("A call cost more than was held for it: %(whose)s") % _facts(alert),
    AlertKind.RECONCILIATION: lambda alert: (
        _("The bill of %(model)s differs from the books") % {"model": _model(alert).strip()}
    ),
    AlertKind.PROVIDER_DOWN: _provider_title,
    AlertKind.TEST: lambda alert: _("Test alert"),
}

# --- Texts


def _threshold_text(alert: Alert) -> str:
    return _(
        "In %(period)s, %(spent)s of the cap of %(cap)s are spent, and calls in flight hold %(held)s."
    ) % _facts(alert)


def _unusual_text(alert: Alert) -> str:
    return _("%(period)s has cost %(cost)s so far; a usual day costs %(usual)s.") % _facts(alert)


def _forecast_text(alert: Alert) -> str:
    return _(
        "%(period)s is expected to end at %(expected)s (between %(low)s and %(high)s), and the cap is"
        " %(cap)s. Without a higher cap, calls will be refused."
    ) % _facts(alert)


def _refused_text(alert: Alert) -> str:
    return _("What is left of the cap of %(period)s did not cover a call; such calls are refused.") % _facts(
        alert
    )


def _over_cap_text(alert: Alert) -> str:
    return _(
        "In %(period)s, %(spent)s are spent and %(held)s held under a cap of %(cap)s: it was lowered, or a"
        " correction was booked. Nothing new is let in."
    ) % _facts(alert)


def _overrun_text(alert: Alert) -> str:
    facts = {**_facts(alert), "model": _model(alert)}
    return (
        _("%(model)s billed %(cost)s for a call for which %(held)s were held. Please tell the operators.")
        % facts
    )


def _reconciliation_text(alert: Alert) -> str:
    text = _("For %(period)s the provider billed %(billed)s, and %(booked)s are booked.") % _facts(alert)
    if models := [name for name in alert.figures.get("models", ()) if name]:
        text += " " + _("These models differ: %(models)s.") % {"models": ", ".join(models)}
    return text


def _provider_text(alert: Alert) -> str:
    figures = alert.figures
    if figures["reason"] == "switched_off":
        return _("An operator has switched it off; other models are asked in its place.")
    since = date_format(localtime(datetime.fromisoformat(figures["since"])), "DATETIME_FORMAT")
    why = REASONS.get(figures["reason"], figures["reason"])
    return _("Since %(since)s: %(why)s. Other models are asked in its place.") % {"since": since, "why": why}


_TEXTS: Mapping[AlertKind, Words] = {
    AlertKind.THRESHOLD: _threshold_text,
    AlertKind.FORECAST: _forecast_text,
    AlertKind.UNUSUAL_DAY: _unusual_text,
    AlertKind.BUDGET_REFUSED: _refused_text,
    AlertKind.OVER_CAP: _over_cap_text,
    AlertKind.OVERRUN: _overrun_text,
    AlertKind.RECONCILIATION: _reconciliation_text,
    AlertKind.PROVIDER_DOWN: _provider_text,
    AlertKind.TEST: lambda alert: _("Alerts reach this address. There is nothing to do."),
}

# --- Where to act


def _account_address(alert: Alert) -> str:
    if account_id := alert.figures.get("account_id"):
        return reverse("admin:budgets_budgetaccount_change", args=[account_id])
    chosen = {"organization": alert.organization_id, "in_month": alert.period}
    return f"{reverse('admin:budgets_budgetaccount_changelist')}?{urlencode(chosen)}"


def _cost_records_address(alert: Alert, **more: Any) -> str:
    chosen = {"organization": alert.organization_id, "in_month": alert.period[:7], **more}
    return f"{reverse('admin:budgets_costrecord_changelist')}?{urlencode(chosen)}"


_ADDRESSES: Mapping[AlertKind, Words] = {
    AlertKind.THRESHOLD: _account_address,
    AlertKind.FORECAST: _account_address,
    AlertKind.OVER_CAP: _account_address,
    AlertKind.BUDGET_REFUSED: _account_address,
    AlertKind.UNUSUAL_DAY: _cost_records_address,
    AlertKind.OVERRUN: lambda alert: _cost_records_address(alert, overrun__exact=1),
    AlertKind.RECONCILIATION: lambda alert: reverse(
        "reconciliation-provider", args=[alert.period, alert.figures["provider"]]
    ),
    AlertKind.PROVIDER_DOWN: lambda alert: reverse("providers-status"),
}
