"""The decisions in the admin: how each request was answered, looked at by all whom its costs concern."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.organizations.tenant_admin import (
    NOTHING,
    OrganizationFilter,
    TenantAdmin,
    count,
    euro,
    facts_table,
    json_block,
)
from routing.models import Decision

LEDGER_PLACES = 9


class RouteFilter(admin.SimpleListFilter):
    title = gettext_lazy("route")
    parameter_name = "by_route"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            *(("small", _("small")), ("large", _("large")), ("degraded", _("degraded"))),
            *(("cache", _("cache")), ("none", _("no answer"))),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return queryset.filter(route="" if chosen == "none" else chosen)


@admin.register(Decision)
class DecisionAdmin(TenantAdmin):
    list_display = (
        *("created_at", "organization", "use_case", "user", "route_shown", "model"),
        *("confidence_number", "cost_euro", "latency_number"),
    )
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter, RouteFilter)
    search_fields = ("id", "user", "use_case", "model", "request_id")
    search_help_text = gettext_lazy("Completion, user, use case, model or request")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    sortable_by = ()
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *(("created_at", "id"), ("organization", "key_id"), ("use_case", "user")),
                    *(("wanted", "request_id"), "prompt_sha256"),
                )
            },
        ),
        (
            gettext_lazy("Answer"),
            {
                "fields": (
                    *(("route_shown", "tier"), ("provider", "model"), ("finish_reason", "cached")),
                    *(("confidence_number", "confidence_method"), ("threshold", "latency_number")),
                    "cost_euro",
                )
            },
        ),
        (gettext_lazy("Attempts"), {"fields": ("attempts_shown", "signals_shown", "costs")}),
        (gettext_lazy("Usage and metadata"), {"fields": ("usage_shown", "metadata_shown")}),
    )
    readonly_fields = (
        *("route_shown", "confidence_number", "latency_number", "cost_euro", "attempts_shown"),
        *("signals_shown", "costs", "usage_shown", "metadata_shown"),
    )

    @admin.display(description=gettext_lazy("route"))
    def route_shown(self, decision: Decision) -> str:
        if decision.route:
            return decision.route
        return _("no answer: %(code)s") % {"code": decision.error_code}

    @admin.display(description=gettext_lazy("confidence"))
    def confidence_number(self, decision: Decision) -> str:
        if decision.confidence is None:
            return NOTHING
        return number_format(f"{decision.confidence:.3f}", use_l10n=True)

    @admin.display(description=gettext_lazy("latency, ms"))
    def latency_number(self, decision: Decision) -> str:
        return count(decision.latency_ms)

    @admin.display(description=gettext_lazy("cost"))
    def cost_euro(self, decision: Decision) -> str:
        return euro(decision.cost_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, decision: Decision) -> str:
        names = ("tier", "provider", "model", "outcome", "error", "confidence", "latency_ms", "cost_eur")
        titles = (
            *(_("tier"), _("provider"), _("model"), _("outcome"), _("error")),
            *(_("confidence"), _("latency, ms"), _("cost, €")),
        )
        return facts_table(
            titles, [[_text(attempt.get(name)) for name in names] for attempt in decision.attempts]
        )

    @admin.display(description=gettext_lazy("raw signals"))
    def signals_shown(self, decision: Decision) -> str:
        return json_block([attempt.get("signals") for attempt in decision.attempts])

    @admin.display(description=gettext_lazy("costs"))
    def costs(self, decision: Decision) -> str:
        address = reverse("admin:budgets_costrecord_changelist")
        return format_html(
            '<a class="text-link" href="{}?q={}">{}</a>', address, decision.pk, _("Cost records")
        )

    @admin.display(description=gettext_lazy("usage"))
    def usage_shown(self, decision: Decision) -> str:
        return json_block(decision.usage)

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_shown(self, decision: Decision) -> str:
        return json_block(decision.metadata)


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.3f}" if isinstance(value, float) else str(value)
