"""The decisions in the admin: how each request was answered, looked at by all whom its costs concern."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.money import exact_euro_for_people
from aigov.organizations.lists import exported
from aigov.organizations.tenant_admin import (
    NOTHING,
    DateFilter,
    OrganizationFilter,
    TenantAdmin,
    count,
    euro_cell,
    facts_table,
    instant,
    json_block,
    two_lines,
)
from providers.models import ProviderName
from routing.models import Decision

ROUTES = {
    "small": gettext_lazy("small model"),
    "large": gettext_lazy("large model"),
    "degraded": gettext_lazy("small model, in want of the large one"),
    "cache": gettext_lazy("cache"),
}
OUTCOMES = {
    "accepted": gettext_lazy("accepted"),
    "low_confidence": gettext_lazy("not sure enough"),
    "failed": gettext_lazy("failed"),
    "refused_budget": gettext_lazy("refused by the budget"),
    "skipped_circuit_open": gettext_lazy("skipped: the model rests"),
}


def route_words(decision: Decision) -> str:
    """How the request was answered, or why not."""
    if decision.route:
        return str(ROUTES.get(decision.route, decision.route))
    return _("no answer: %(code)s") % {"code": decision.error_code}


#: In an address: those that name no use case or user.
NAMELESS = "-"


class RouteFilter(admin.SimpleListFilter):
    title = gettext_lazy("route")
    parameter_name = "by_route"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*((route, str(words)) for route, words in ROUTES.items()), ("none", _("no answer"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return queryset.filter(route="" if chosen == "none" else chosen)


class ProviderFilter(admin.SimpleListFilter):
    title = gettext_lazy("provider")
    parameter_name = "by_provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(provider.value, str(provider.label)) for provider in ProviderName]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


class NamedFilter(admin.SimpleListFilter):
    """Narrows to one use case or user that an address names, such as the dashboards'; it offers no others."""

    field: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(NAMELESS, _("none"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {
            "selected": False,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": _("All"),
        }
        chosen = self.value() or ""
        yield {
            "selected": True,
            "query_string": changelist.get_query_string({self.parameter_name: chosen}),
            "display": _("none") if chosen == NAMELESS else chosen,
        }

    def has_output(self) -> bool:
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return queryset.filter(**{self.field: "" if chosen == NAMELESS else chosen})


class UseCaseFilter(NamedFilter):
    title = gettext_lazy("use case")
    parameter_name = "by_use_case"
    field = "use_case"


class UserFilter(NamedFilter):
    title = gettext_lazy("user")
    parameter_name = "by_user"
    field = "user"


@admin.register(Decision)
class DecisionAdmin(TenantAdmin):
    list_display = (
        *("created_at", "organization", "asked_by", "answered_by"),
        *("confidence_number", "cost_euro", "latency_number"),
    )
    list_select_related = ("organization",)
    list_filter = (
        *(OrganizationFilter, RouteFilter, ProviderFilter, UseCaseFilter, UserFilter),
        ("created_at", DateFilter),
    )
    search_fields = ("id", "user", "use_case", "model", "request_id")
    search_help_text = gettext_lazy("Completion, user, use case, model or request")
    ordering = ("-created_at",)
    sortable_by = ()
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *("id", ("created", "wanted"), ("organization", "key_id"), ("use_case", "user")),
                    *("request_id", "prompt_sha256"),
                )
            },
        ),
        (
            gettext_lazy("Answer"),
            {
                "fields": (
                    *(("route_shown", "tier"), ("provider", "model"), ("confidence_number", "threshold")),
                    *(("confidence_method", "finish_reason"), ("cost_exact", "saved_exact")),
                    "latency_number",
                )
            },
        ),
        (gettext_lazy("Attempts"), {"fields": ("attempts_shown", "signals_shown", "costs")}),
        (gettext_lazy("Usage and metadata"), {"fields": ("usage_shown", "metadata_shown")}),
    )
    readonly_fields = (
        *("created", "route_shown", "confidence_number", "latency_number", "cost_exact", "saved_exact"),
        *("attempts_shown", "signals_shown", "costs", "usage_shown", "metadata_shown"),
    )

    @admin.display(description=gettext_lazy("at"))
    def created(self, decision: Decision) -> str:
        return instant(decision.created_at)

    @exported("use_case", "user")
    @admin.display(description=gettext_lazy("use case and user"))
    def asked_by(self, decision: Decision) -> str:
        return two_lines(decision.use_case or NOTHING, decision.user)

    @exported((gettext_lazy("answer"), route_words), "model")
    @admin.display(description=gettext_lazy("answer"))
    def answered_by(self, decision: Decision) -> str:
        return two_lines(self.route_shown(decision), decision.model)

    @admin.display(description=gettext_lazy("route"))
    def route_shown(self, decision: Decision) -> str:
        return route_words(decision)

    @exported("confidence")
    @admin.display(description=gettext_lazy("confidence"))
    def confidence_number(self, decision: Decision) -> str:
        return _confidence(decision.confidence)

    @exported("latency_ms")
    @admin.display(description=gettext_lazy("latency, ms"))
    def latency_number(self, decision: Decision) -> str:
        return count(decision.latency_ms)

    @exported("cost_eur")
    @admin.display(description=gettext_lazy("cost"))
    def cost_euro(self, decision: Decision) -> str:
        return euro_cell(decision.cost_eur)

    @admin.display(description=gettext_lazy("cost"))
    def cost_exact(self, decision: Decision) -> str:
        return exact_euro_for_people(decision.cost_eur)

    @admin.display(description=gettext_lazy("saved by the cache"))
    def saved_exact(self, decision: Decision) -> str:
        return exact_euro_for_people(decision.saved_eur)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, decision: Decision) -> str:
        titles = (_("model"), _("outcome"), _("confidence"), _("latency, ms"), _("cost"))
        return facts_table(titles, map(_attempt_facts, decision.attempts))

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


def _attempt_facts(attempt: Mapping[str, Any]) -> tuple[str, ...]:
    """An attempt in words: its model, how it ended, how sure the answer was, and what it took."""
    outcome, cost_eur = attempt["outcome"], attempt.get("cost_eur")
    return (
        two_lines(attempt["model"], f"{attempt['provider']}, {attempt['tier']}"),
        two_lines(OUTCOMES.get(outcome, outcome), attempt.get("error")),
        _confidence(attempt.get("confidence")),
        count(attempt.get("latency_ms")),
        NOTHING if cost_eur is None else exact_euro_for_people(Decimal(cost_eur)),
    )


def _confidence(confidence: float | None) -> str:
    return NOTHING if confidence is None else number_format(f"{confidence:.3f}", use_l10n=True)
