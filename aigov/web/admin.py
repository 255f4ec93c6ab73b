"""The admin's frame: its sidebar, by the words of those who use it, and its style sheet."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

Page = tuple[Any, str, str] | tuple[Any, str, str, str]

#: A group's title, and in it each page's title, model and icon; and its address, if that is not the list.
GROUPS: tuple[tuple[Any, tuple[Page, ...]], ...] = (
    (
        _("Budgets"),
        (
            (_("Months' budgets"), "budgets.budgetaccount", "account_balance_wallet"),
            (_("Month close"), "budgets.accountingmonth", "event_available"),
            (_("Requests"), "budgets.approvalrequest", "how_to_vote"),
            (_("Cost records"), "budgets.costrecord", "receipt_long"),
            (_("Open holds"), "budgets.hold", "hourglass_top"),
            (_("Reconciliation"), "budgets.billday", "balance", "reconciliation"),
            (_("Alerts"), "budgets.alert", "notifications"),
            (_("Destinations of alerts"), "budgets.alertdestination", "alternate_email"),
            (_("Deliveries of alerts"), "budgets.alertdelivery", "outgoing_mail"),
        ),
    ),
    (
        _("Routing"),
        (
            (_("Decisions"), "routing.decision", "alt_route"),
            (_("Providers"), "providers.price", "cloud", "providers-status"),
        ),
    ),
    (
        _("Key figures"),
        (
            (_("Leads and orders"), "kpis.outcome", "handshake"),
            (_("CRM webhooks"), "kpis.outcomehook", "webhook"),
            (_("E-mails with key figures"), "kpis.digestsubscription", "outgoing_mail"),
        ),
    ),
    (
        _("Organizations"),
        (
            (_("Organizations"), "organizations.organization", "domain"),
            (_("Tenants"), "organizations.tenant", "corporate_fare"),
            (_("Members"), "organizations.member", "group"),
            (_("People"), "organizations.user", "person"),
            (_("API keys"), "organizations.apikey", "key"),
        ),
    ),
    (_("Settings"), ((_("Settings"), "registry.settingvalue", "tune"),)),
    (
        _("Prices and exchange rates"),
        (
            (_("Prices"), "providers.price", "sell"),
            (_("Exchange rates"), "budgets.fxrate", "currency_exchange"),
        ),
    ),
    (_("Audit trail"), ((_("Audit trail"), "organizations.auditentry", "history_edu"),)),
)


#: Where a page's title has a number beside it: the function that counts for the person who asks.
BADGES: Mapping[str, str] = {"budgets.approvalrequest": "budgets.admin_requests.waiting_count"}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: the home page, one's own files, and the pages that the person who asks may see."""
    home = [{"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}]
    if request.user.has_perm("budgets.view_costrecord"):
        home.append({"title": _("Key figures"), "icon": "monitoring", "link": reverse("kpis:home")})
    home.append({"title": _("Your files"), "icon": "download", "link": reverse("exports")})
    groups = [
        {
            "title": title,
            "separator": True,
            "items": [_item(request, page) for page in pages if _may(request, page)],
        }
        for title, pages in GROUPS
    ]
    return [{"items": home}, *(group for group in groups if group["items"])]


def stylesheet(request: HttpRequest) -> str:
    return static("aigov/admin.css")


def icon(request: HttpRequest) -> str:
    return static("aigov/icon.svg")


def no_inline_colors(request: HttpRequest) -> dict[str, Any]:
    """Keeps the colours out of the pages, where the content policy forbids them; the style sheet has them."""
    return {"colors": None}


def _may(request: HttpRequest, page: Page) -> bool:
    room, _dot, thing = page[1].partition(".")
    return request.user.has_perm(f"{room}.view_{thing}")


def _item(request: HttpRequest, page: Page) -> dict[str, Any]:
    title, model, icon, *address = page
    name = address[0] if address else f"admin:{model.replace('.', '_')}_changelist"
    badge = {"badge": import_string(BADGES[model])(request)} if model in BADGES else {}
    return {"title": title, "icon": icon, "link": reverse(name), "badge_variant": "primary", **badge}
