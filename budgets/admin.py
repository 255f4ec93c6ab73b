"""The books in the admin: months' budgets with their caps, cost records, open holds, exchange rates.

The cap is all that people change here, and only for the month and account that they look at; the standing
cap is a setting. Everything else is the ledger's.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.utils import quote
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminFileFieldWidget

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.tenant_admin import (
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    button,
    count,
    euro,
    json_block,
    person,
    reason_field,
)
from budgets.accounts import set_month_cap
from budgets.amounts import CapField
from budgets.ecb import FILE_BYTES_MAX, PLACES, SOURCE, DayRate, append_rates, read_file
from budgets.ledger import Balance
from budgets.models import BudgetAccount, CostRecord, FxRate, Hold

MONTHS_OFFERED = 13
LEDGER_PLACES = 9


class MonthFilter(SimpleListFilter):
    """Offers the present month and those before it, as they are in UTC."""

    title = gettext_lazy("month")
    parameter_name = "in_month"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        present = clock.month_of(clock.now(), "UTC")
        months = [_months_before(present, number) for number in range(MONTHS_OFFERED)]
        return [(f"{month:%Y-%m}", month_text(month)) for month in months]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        try:
            return queryset.filter(month=date.fromisoformat(f"{chosen}-01"))
        except ValueError:
            return queryset.none()


def _months_before(month: date, number: int) -> date:
    years, index = divmod(month.year * 12 + month.month - 1 - number, 12)
    return date(years, index + 1, 1)


def month_text(month: date) -> str:
    return date_format(month, "YEAR_MONTH_FORMAT")


# --- Months' budgets


class CapForm(VerbForm):
    cap = CapField(
        help_text=gettext_lazy(
            "In euro, for this month alone; in force from the next call on. Calls in flight run on."
        )
    )
    reason = reason_field()
    fields_of_params = {"cap_eur": "cap"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("cap", self.instance.cap_eur)


@admin.register(BudgetAccount)
class BudgetAccountAdmin(TenantAdmin):
    verbs = ("view", "change")
    form = CapForm
    list_display = (
        *("month_shown", "organization", "scope", "subject"),
        *("cap_euro", "spent_euro", "held_euro", "left_euro"),
    )
    list_select_related = ("organization",)
    list_filter = (MonthFilter, OrganizationFilter, "scope")
    search_fields = ("organization__name", "subject")
    ordering = ("-month", "organization__name", "scope", "subject")
    sortable_by = ("cap_euro", "spent_euro", "held_euro", "left_euro")
    readonly_fields = (
        *("organization", "month_shown", "scope", "subject", "kind_of_cap"),
        *("cap_exact", "spent_exact", "held_exact", "left_exact"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: BudgetAccount | None = None) -> Any:
        whose = ("subject",) if obj is not None and obj.subject else ()
        figures = ("spent_exact", "held_exact", "left_exact", "kind_of_cap")
        cap = ("cap", "reason") if self.has_change_permission(request, obj) else ("cap_exact",)
        return [
            (None, {"fields": (("month_shown", "organization"), ("scope", *whose))}),
            (gettext_lazy("Cap"), {"fields": cap}),
            (gettext_lazy("Figures"), {"fields": figures}),
        ]

    @admin.display(description=gettext_lazy("month"), ordering="month")
    def month_shown(self, account: BudgetAccount) -> str:
        return month_text(account.month)

    @admin.display(description=gettext_lazy("cap"), ordering="cap_eur")
    def cap_euro(self, account: BudgetAccount) -> str:
        return euro(account.cap_eur)

    @admin.display(description=gettext_lazy("spent"), ordering="spent_eur")
    def spent_euro(self, account: BudgetAccount) -> str:
        return euro(account.spent_eur)

    @admin.display(description=gettext_lazy("held"), ordering="held_eur")
    def held_euro(self, account: BudgetAccount) -> str:
        return euro(account.held_eur)

    @admin.display(description=gettext_lazy("left"), ordering=F("cap_eur") - F("spent_eur") - F("held_eur"))
    def left_euro(self, account: BudgetAccount) -> str:
        return euro(_left(account))

    @admin.display(description=gettext_lazy("Cap"))
    def cap_exact(self, account: BudgetAccount) -> str:
        return euro(account.cap_eur)

    @admin.display(description=gettext_lazy("Spent"))
    def spent_exact(self, account: BudgetAccount) -> str:
        return euro(account.spent_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Held by calls in flight"))
    def held_exact(self, account: BudgetAccount) -> str:
        return euro(account.held_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Left"))
    def left_exact(self, account: BudgetAccount) -> str:
        return euro(_left(account), places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Where the cap comes from"))
    def kind_of_cap(self, account: BudgetAccount) -> str:
        if account.cap_is_of_month:
            return _("It was set for this month.")
        return _("It follows the standing cap of the settings.")

    def save_model(self, request: HttpRequest, obj: BudgetAccount, form: Any, change: bool) -> None:
        given = form.cleaned_data
        set_month_cap(account=obj, cap_eur=given["cap"], acting=person(request), reason=given["reason"])

    def said(self, obj: BudgetAccount) -> str:
        return _("Saved: the cap of %(account)s is %(cap)s now.") % {"account": obj, "cap": euro(obj.cap_eur)}


def _left(account: BudgetAccount) -> Decimal | None:
    return Balance(account.cap_eur, account.spent_eur, account.held_eur).remaining_eur


# --- Holds and cost records


def completion_link(completion_id: str) -> str:
    """A link to how the completion was decided."""
    if not completion_id:
        return "–"
    address = reverse("admin:routing_decision_change", args=[quote(completion_id)])
    return format_html('<a class="text-link" href="{}">{}</a>', address, completion_id)


@admin.register(Hold)
class HoldAdmin(TenantAdmin):
    list_display = (
        *("created_at", "organization", "use_case", "user", "model", "amount_euro", "expires_at"),
    )
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter,)
    search_fields = ("completion_id", "user", "use_case", "model")
    ordering = ("-created_at",)
    fields = (
        *("id", "organization", "month_shown", "user", "use_case", "completion", "attempt", "purpose"),
        *("provider", "model", "tier", "amount_exact", "amount_usd", "price", "fx_rate"),
        *("created_at", "expires_at", "metadata_shown"),
    )
    readonly_fields = ("month_shown", "completion", "amount_exact", "metadata_shown")

    @admin.display(description=gettext_lazy("month"))
    def month_shown(self, hold: Hold) -> str:
        return month_text(hold.month)

    @admin.display(description=gettext_lazy("completion"))
    def completion(self, hold: Hold) -> str:
        return completion_link(hold.completion_id)

    @admin.display(description=gettext_lazy("amount"), ordering="amount_eur")
    def amount_euro(self, hold: Hold) -> str:
        return euro(hold.amount_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("amount"))
    def amount_exact(self, hold: Hold) -> str:
        return euro(hold.amount_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_shown(self, hold: Hold) -> str:
        return json_block(hold.metadata)


@admin.register(CostRecord)
class CostRecordAdmin(TenantAdmin):
    list_display = (
        *("created_at", "organization", "use_case", "user", "model", "tier"),
        *("input_count", "output_count", "cost_euro", "remark"),
    )
    list_select_related = ("organization",)
    list_filter = (MonthFilter, OrganizationFilter, "tier", "purpose", "estimated", "overrun")
    search_fields = ("completion_id", "user", "use_case", "model")
    search_help_text = gettext_lazy("Completion, user, use case or model")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    sortable_by = ()
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *(("created_at", "month_shown"), ("organization", "completion"), ("use_case", "user")),
                    *(("provider", "model"), ("tier", "attempt"), ("purpose", "remark")),
                )
            },
        ),
        (
            gettext_lazy("Cost"),
            {"fields": (("cost_exact", "held_exact"), ("cost_usd", "eur_per_usd"), "corrects")},
        ),
        (
            gettext_lazy("Why this price"),
            {
                "fields": (
                    *(("price", "fx_rate"), ("service_tier", "provider_request_id"), "rates"),
                    *(("input_count", "output_count"), ("cache_read_count", "reasoning_count")),
                    *(("cache_write_5m_count", "cache_write_1h_count"), "usage_shown"),
                )
            },
        ),
        (gettext_lazy("Metadata"), {"fields": ("metadata_shown",)}),
    )
    readonly_fields = (
        *("month_shown", "completion", "remark", "cost_exact", "held_exact", "rates", "usage_shown"),
        *("input_count", "output_count", "cache_read_count", "reasoning_count"),
        *("cache_write_5m_count", "cache_write_1h_count", "metadata_shown"),
    )

    @admin.display(description=gettext_lazy("month"))
    def month_shown(self, record: CostRecord) -> str:
        return month_text(record.month)

    @admin.display(description=gettext_lazy("completion"))
    def completion(self, record: CostRecord) -> str:
        return completion_link(record.completion_id)

    @admin.display(description=gettext_lazy("cost"))
    def cost_euro(self, record: CostRecord) -> str:
        return euro(record.cost_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("cost"))
    def cost_exact(self, record: CostRecord) -> str:
        return euro(record.cost_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("was held"))
    def held_exact(self, record: CostRecord) -> str:
        return euro(record.held_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("remark"))
    def remark(self, record: CostRecord) -> str:
        marks = (
            *((record.estimated, _("estimated")), (record.overrun, _("over the hold"))),
            *((record.corrects_id, _("correction")), (record.reason, record.reason)),
        )
        return ", ".join(str(text) for holds, text in marks if holds)

    @admin.display(description=gettext_lazy("input tokens"))
    def input_count(self, record: CostRecord) -> str:
        return count(record.input_total)

    @admin.display(description=gettext_lazy("output tokens"))
    def output_count(self, record: CostRecord) -> str:
        return count(record.output_total)

    @admin.display(description=gettext_lazy("of the input, read from the provider's cache"))
    def cache_read_count(self, record: CostRecord) -> str:
        return count(record.cache_read)

    @admin.display(description=gettext_lazy("of the input, written to it for 5 minutes"))
    def cache_write_5m_count(self, record: CostRecord) -> str:
        return count(record.cache_write_5m)

    @admin.display(description=gettext_lazy("of the input, written to it for an hour"))
    def cache_write_1h_count(self, record: CostRecord) -> str:
        return count(record.cache_write_1h)

    @admin.display(description=gettext_lazy("of the output, reasoning"))
    def reasoning_count(self, record: CostRecord) -> str:
        return count(record.reasoning)

    @admin.display(description=gettext_lazy("rates, US dollars per million tokens"))
    def rates(self, record: CostRecord) -> str:
        return json_block(record.price.bands if record.price else None)

    @admin.display(description=gettext_lazy("the provider's own usage"))
    def usage_shown(self, record: CostRecord) -> str:
        return json_block(record.raw_usage)

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_shown(self, record: CostRecord) -> str:
        return json_block(record.metadata)


# --- Exchange rates


class FxRateForm(VerbForm):
    eur_per_unit = forms.DecimalField(
        label=gettext_lazy("Euro for one US dollar"),
        min_value=PLACES,
        max_digits=18,
        decimal_places=10,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )
    reason = reason_field()


class EcbFileForm(forms.Form):
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("eurofxref-daily.xml, eurofxref-hist.csv or eurofxref-hist.zip"),
    )

    def clean_file(self) -> list[DayRate]:
        try:
            return read_file(self.cleaned_data["file"].read(FILE_BYTES_MAX + 1))
        except BadRequest as refusal:
            raise forms.ValidationError(refusal.message) from None


@admin.register(FxRate)
class FxRateAdmin(TenantAdmin):
    """A rate is added and never changed; a later row for the same day wins."""

    organization_lookup = None
    verbs = ("view", "add")
    form = FxRateForm
    list_display = ("valid_from", "currency", "rate_euro", "source", "created_at")
    date_hierarchy = "valid_from"
    ordering = ("-valid_from", "-id")
    actions_list = ("upload",)

    def get_fields(self, request: HttpRequest, obj: FxRate | None = None) -> Any:
        if obj is None:
            return ("valid_from", "eur_per_unit", "reason")
        return ("valid_from", "currency", "eur_per_unit", "source", "created_at")

    @admin.display(description=gettext_lazy("euro per unit"), ordering="eur_per_unit")
    def rate_euro(self, rate: FxRate) -> str:
        return number_format(rate.eur_per_unit, use_l10n=True)

    def save_model(self, request: HttpRequest, obj: FxRate, form: Any, change: bool) -> None:
        given = form.cleaned_data
        rate = DayRate(given["valid_from"], given["eur_per_unit"])
        new = append_rates(rates=[rate], source="by hand", acting=person(request), reason=given["reason"])
        if not new:
            raise BadRequest(_("This rate is in force for that day already."), param="eur_per_unit")

    def has_upload_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request)

    @button(title=gettext_lazy("Import the ECB's file"), path="import-ecb", permission="upload")
    def upload(self, request: HttpRequest) -> HttpResponse:
        def act(given: Mapping[str, Any]) -> str:
            new = append_rates(rates=given["file"], source=SOURCE, acting=person(request))
            return _("%(new)d of %(all)d exchange rates appended.") % {
                "new": len(new),
                "all": len(given["file"]),
            }

        return self.form_page(
            request,
            EcbFileForm,
            title=_("Import the ECB's file"),
            note=_("The European Central Bank's reference rates, as downloaded from its site."),
            button=_("Import"),
            act=act,
        )
