"""Who spends it: use cases, models and users, and the way from each to its single calls in the admin."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.money import ZERO
from kpis.circuits import provider_name
from kpis.definitions import cost_per
from kpis.figures import Figure, Words, top_list
from kpis.pages.overview import NO_CALLS
from kpis.pages.page import Page, no_cards
from kpis.readings import Readings
from kpis.tables import Column
from routing.admin import NAMELESS

DRILL = gettext_lazy("Each leads to its single requests.")


def use_cases(read: Readings) -> Figure:
    words = Words("use-cases", _("Cost by use case"), "cost", str(NO_CALLS), str(DRILL))
    columns = (
        *(Column(_("Use case")), Column(_("Cost"), "euro"), Column(_("Calls"), "count")),
        *(Column(_("Cost per call"), "euro"), *_before_column(read)),
    )
    rows = [
        (
            each.group[0] or _("without a use case"),
            each.cost_eur,
            each.calls,
            cost_per(each.cost_eur, each.calls),
            *_before(read, "use_case", each.group),
        )
        for each in read.by_use_case
    ]
    addresses = [
        requests_address(read, {"by_use_case": each.group[0] or NAMELESS}) for each in read.by_use_case
    ]
    return top_list(words, columns, rows, addresses=addresses)


def users(read: Readings) -> Figure | None:
    """The users who spent most; none where one use case is chosen, by which they are not counted."""
    if read.use_case:
        return None
    names = {each.pk: each.name for each in read.chosen.organizations}
    words = Words(
        *("users", _("Cost by user"), "cost"),
        _("No call of this period names a user. Send `user` in the requests."),
        str(DRILL),
    )
    columns = (
        *(Column(_("User")), Column(_("Cost"), "euro"), Column(_("Calls"), "count")),
        *(Column(_("Cost per call"), "euro"), Column(_("Organization"))),
    )
    rows = [
        (
            each.user,
            each.cost_eur,
            each.calls,
            cost_per(each.cost_eur, each.calls),
            names[each.organization_id],
        )
        for each in read.users
    ]
    addresses = [
        requests_address(read, {"by_user": each.user, "organization": str(each.organization_id)})
        for each in read.users
    ]
    return top_list(words, columns, rows, addresses=addresses)


def models(read: Readings) -> Figure:
    words = Words("models", _("Cost by model"), "cost", str(NO_CALLS))
    columns = (
        *(Column(_("Model")), Column(_("Cost"), "euro"), Column(_("Calls"), "count")),
        *(Column(_("Cost per call"), "euro"), *_before_column(read), Column(_("Provider"))),
    )
    rows = [
        (
            *(each.group[1] or _("without a model"), each.cost_eur, each.calls),
            *(cost_per(each.cost_eur, each.calls), *_before(read, "model", each.group)),
            provider_name(each.group[0]),
        )
        for each in read.by_model
    ]
    return top_list(words, columns, rows)


def _before_column(read: Readings) -> list[Column]:
    return [Column(_("Cost in the period before"), "euro")] if read.costs_before else []


def _before(read: Readings, dimension: str, group: tuple[str, ...]) -> list[Decimal]:
    costs = read.costs_before
    return [costs[dimension].get(group, ZERO)] if costs else []


def requests_address(read: Readings, narrowed: Mapping[str, str]) -> str:
    """The admin's list of the period's requests that are narrowed so."""
    chosen = read.chosen
    zones = {ZoneInfo(each.time_zone) for each in chosen.organizations}
    end = read.period.last + timedelta(days=1)
    # Of several time zones: all that is in the period in one of them.
    asked = {
        "created_at__gte": min(_midnight(read.period.first, zone) for zone in zones).isoformat(),
        "created_at__lt": max(_midnight(end, zone) for zone in zones).isoformat(),
    }
    if len(chosen.organization_ids) == 1 and len(chosen.offered) > 1:
        asked["organization"] = str(chosen.organization_ids[0])
    if read.use_case:
        asked["by_use_case"] = read.use_case
    return f"{reverse('admin:routing_decision_changelist')}?{urlencode({**asked, **narrowed})}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


PAGE = Page(
    gettext_lazy("Use cases and users"),
    no_cards,
    {"use-cases": use_cases, "users": users, "models": models},
    wide=frozenset({"use-cases", "users", "models"}),
)
