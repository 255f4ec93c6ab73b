"""The admin's home page: how this month stands, for the organizations that the person may see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import site
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from aigov import clock
from aigov.money import ZERO, euro_for_people
from aigov.organizations.models import Organization
from aigov.organizations.tenant_admin import count, euro_cell
from budgets.admin_alerts import open_alerts
from budgets.admin_months import month_text
from budgets.admin_requests import waiting_count
from budgets.forecast import Forecast
from budgets.models import BudgetAccount, Scope
from budgets.months import MonthOfOrganization, left_in_total, this_month, total
from budgets.outlook import Outlook, level_of_forecast, outlook_of_all, outlooks
from budgets.progress import progress_bar
from budgets.sparkline import sparkline
from routing.models import Decision

ORGANIZATIONS_SHOWN = 10


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds this month to what the admin's home page shows; a fixed number of queries."""
    rows = this_month(_organizations(request, BudgetAccount))
    shown = rows[:ORGANIZATIONS_SHOWN]
    courses = outlooks(shown)
    answering = _organizations(request, Decision)
    return {
        **context,
        **open_alerts(request),
        "figures": _figures(rows, outlook_of_all(rows)) if rows else [],
        "month_title": _months_title(rows),
        "organizations": [_organization(row, courses[row.organization.pk]) for row in shown],
        "organizations_count": len(rows),
        "all_months": _all_months_address(rows),
        "requests_waiting": waiting_count(request),
        "requests_address": reverse("admin:budgets_approvalrequest_changelist"),
        "answers": _answers_shown(answers_of(answering)) if rows else [],
    }


def _organizations(request: HttpRequest, model: type[Any]) -> QuerySet[Organization]:
    """Those whose rows of that kind the person may see."""
    page: Any = site.get_model_admin(model)
    found: QuerySet[Organization] = page.organizations(request)
    return found


# --- Money


def _figures(rows: Sequence[MonthOfOrganization], course: Outlook) -> list[dict[str, Any]]:
    sums = total(rows)
    return [
        {"title": _("Spent"), "value": euro_cell(sums.spent_eur)},
        {"title": _("Held by calls in flight"), "value": euro_cell(sums.held_eur)},
        {"title": _("Left"), "value": euro_cell(left_in_total(rows))},
        {"title": _("Cap"), "value": euro_cell(sums.cap_eur)},
        {
            "title": _("Forecast for the month's end"),
            "value": euro_cell(course.forecast.expected_eur if course.forecast else None),
            "note": _range(course.forecast),
            "hint": course.forecast.method if course.forecast else "",
        },
        {"title": _("Last month"), "value": euro_cell(course.last_month_eur)},
    ]


def _range(expected: Forecast | None) -> str:
    """The range that the month's end is expected in; nothing without a forecast."""
    if expected is None:
        return ""
    return _("%(low)s to %(high)s") % {
        "low": euro_for_people(expected.low_eur),
        "high": euro_for_people(expected.high_eur),
    }


def _months_title(rows: Sequence[MonthOfOrganization]) -> str:
    """At the turn of a month, organizations of different time zones live in different ones."""
    return " / ".join(month_text(month) for month in sorted({row.month for row in rows}))


def _organization(row: MonthOfOrganization, course: Outlook) -> dict[str, Any]:
    balance = row.balance
    return {
        "name": row.organization.name,
        "address": row.account_id and reverse("admin:budgets_budgetaccount_change", args=[row.account_id]),
        "bar": progress_bar(balance),
        "figures": [
            (_("Cap"), euro_cell(balance.cap_eur)),
            (_("Spent"), euro_cell(balance.spent_eur)),
            (_("Held"), euro_cell(balance.held_eur)),
            (_("Left"), euro_cell(balance.remaining_eur)),
        ],
        "last_month": _("last month %(spent)s") % {"spent": euro_for_people(course.last_month_eur)}
        if course.last_month_eur is not None
        else "",
        "forecast": euro_cell(course.forecast.expected_eur if course.forecast else None),
        "forecast_range": _range(course.forecast),
        "forecast_level": level_of_forecast(course.forecast, balance.cap_eur),
        "forecast_method": course.forecast.method if course.forecast else _("Nothing to forecast from yet."),
        "trend": sparkline(course.days, said=_("The cost of each day of this month")),
        "resets": _("resets on %(day)s") % {"day": date_format(row.resets_at, "DATE_FORMAT")},
        "resets_exactly": f"{row.resets_at.isoformat()} ({row.organization.time_zone})",
    }


def _all_months_address(rows: Sequence[MonthOfOrganization]) -> str:
    address = reverse("admin:budgets_budgetaccount_changelist")
    if not rows:
        return address
    columns = site.get_model_admin(BudgetAccount).list_display
    fullest_first = f"-{list(columns).index('used_up')}"
    chosen = {
        "in_month": f"{rows[0].month:%Y-%m}",
        "scope__exact": Scope.ORGANIZATION.value,
        "o": fullest_first,
    }
    return f"{address}?{urlencode(chosen)}"


# --- Answers


@dataclass(frozen=True, slots=True)
class Answers:
    """The month's requests by route, and in euro what the answers from the cache would have cost.

    The route of a request without an answer is empty.
    """

    by_route: Mapping[str, int]
    saved_eur: Decimal


def answers_of(organizations: QuerySet[Organization]) -> Answers:
    """How this month's requests of `organizations` were answered, each in its own month."""
    wanted = _this_month_of(organizations)
    if wanted is None:
        return Answers({}, ZERO)
    by_route = Decision.objects.filter(wanted).order_by().values_list("route")
    found = list(by_route.annotate(number=Count("*"), saved=Sum("saved_eur")))
    return Answers(
        {route: number for route, number, _saved in found}, sum((saved for *_rest, saved in found), ZERO)
    )


def _this_month_of(organizations: QuerySet[Organization]) -> Q | None:
    now = clock.now()
    starts: dict[Any, list[int]] = {}
    for id_, zone in organizations.values_list("pk", "time_zone"):
        start = clock.month_start(clock.month_of(now, zone), zone)
        starts.setdefault(start, []).append(id_)
    wanted: Q | None = None
    for start, ids in starts.items():
        part = Q(organization__in=ids, created_at__gte=start)
        wanted = part if wanted is None else wanted | part
    return wanted


def _answers_shown(answers: Answers) -> list[dict[str, Any]]:
    names = {
        "small": _("Small model"),
        "large": _("Large model"),
        "cache": _("Cache"),
        "degraded": _("Degraded"),
        "": _("Not answered"),
    }
    number_of_all = sum(answers.by_route.values())
    shown: list[dict[str, Any]] = [
        {
            "title": name,
            "value": count(answers.by_route.get(route, 0)),
            "note": _share(answers.by_route.get(route, 0), number_of_all),
            "address": _decisions_address(route),
        }
        for route, name in names.items()
    ]
    saved: SafeString | str = euro_cell(answers.saved_eur)
    return [*shown, {"title": _("Saved by the cache"), "value": saved}]


def _share(number: int, number_of_all: int) -> str:
    if not number_of_all:
        return ""
    return f"{number * 100 / number_of_all:.0f}\N{NO-BREAK SPACE}%"


def _decisions_address(route: str) -> str:
    address = reverse("admin:routing_decision_changelist")
    return f"{address}?{urlencode({'by_route': route or 'none'})}"
