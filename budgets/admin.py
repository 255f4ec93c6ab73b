"""The books in the admin: cost records, open holds, exchange rates; months, closes and requests stand
beside it.

Nobody changes a cost record or a hold; they are the ledger's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminFileFieldWidget

from aigov.errors import BadRequest
from aigov.money import exact_euro_for_people
from aigov.organizations.lists import exported
from aigov.organizations.tenant_admin import (
    NOTHING,
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    button,
    count,
    euro,
    euro_cell,
    facts_table,
    form_page,
    instant,
    json_block,
    person,
    reason_field,
    two_lines,
)
from budgets import admin_alerts, admin_closing  # noqa: F401  they register their pages
from budgets.admin_months import LEDGER_PLACES, MonthFilter, month_text
from budgets.admin_requests import ApprovalRequestAdmin as ApprovalRequestAdmin
from budgets.amounts import CapField
from budgets.approvals import ask, said_asked
from budgets.corrections import net_cost
from budgets.doubts import doubts
from budgets.ecb import FILE_BYTES_MAX, PLACES, SOURCE, DayRate, append_rates, read_file
from budgets.models import LATE_ANSWER, ApprovalRequest, CostRecord, FxRate, Hold, RequestKind, RequestState

#: The ledger's own words for why a record is there; others are kinds of failure, or a person's reason.
REASONS: Mapping[str, Any] = {
    "expired": gettext_lazy("no answer before its hold expired"),
    LATE_ANSWER: gettext_lazy("the answer came after its hold had expired"),
}
#: What the ids of completions begin with.
COMPLETION_PREFIX = "cmp_"

# --- Holds and cost records


class TierFilter(SimpleListFilter):
    title = gettext_lazy("tier")
    parameter_name = "tier"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("small", _("small")), ("large", _("large"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(tier=chosen)


def completion_link(completion_id: str) -> str:
    """A link to how the completion was decided."""
    if not completion_id:
        return "–"
    address = reverse("admin:routing_decision_change", args=[quote(completion_id)])
    return format_html('<a class="text-link" href="{}">{}</a>', address, completion_id)


def record_link(record: CostRecord) -> SafeString:
    address = reverse("admin:budgets_costrecord_change", args=[record.pk])
    return format_html('<a class="text-link" href="{}">{}</a>', address, instant(record.created_at))


@admin.register(Hold)
class HoldAdmin(TenantAdmin):
    list_display = ("taken_at", "organization", "used_for", "by_model", "amount_euro", "ends_at")
    list_select_related = ("organization",)
    list_filter = (MonthFilter, OrganizationFilter, "purpose")
    search_fields = ("completion_id", "user", "use_case", "model")
    search_help_text = gettext_lazy("Completion, user, use case or model")
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

    @admin.display(description=gettext_lazy("taken"), ordering="created_at")
    def taken_at(self, hold: Hold) -> str:
        return instant(hold.created_at)

    @admin.display(description=gettext_lazy("expires"), ordering="expires_at")
    def ends_at(self, hold: Hold) -> str:
        return instant(hold.expires_at)

    @exported("use_case", "user")
    @admin.display(description=gettext_lazy("use case, user"))
    def used_for(self, hold: Hold) -> SafeString:
        return two_lines(hold.use_case, hold.user)

    @exported("model", "tier")
    @admin.display(description=gettext_lazy("model, tier"))
    def by_model(self, hold: Hold) -> SafeString:
        return two_lines(hold.model, hold.tier)

    @admin.display(description=gettext_lazy("amount"), ordering="amount_eur")
    def amount_euro(self, hold: Hold) -> str:
        return euro_cell(hold.amount_eur)

    @admin.display(description=gettext_lazy("amount"))
    def amount_exact(self, hold: Hold) -> str:
        return euro(hold.amount_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_shown(self, hold: Hold) -> str:
        return json_block(hold.metadata)


class CorrectionForm(forms.Form):
    true_cost = CapField(
        label=gettext_lazy("True cost"),
        help_text=gettext_lazy("What the call costs in truth, in euro; the difference is posted."),
    )
    reason = reason_field()
    fields_of_params: ClassVar[Mapping[str, str]] = {"amount_eur": "true_cost"}


@admin.register(CostRecord)
class CostRecordAdmin(TenantAdmin):
    verbs = ("view", "correct")
    actions_detail = ("ask_to_correct",)
    list_display = (*("at", "organization", "used_for", "by_model", "tokens_count", "cost_euro", "remark"),)
    list_select_related = ("organization", "corrects", "request")
    list_filter = (MonthFilter, OrganizationFilter, TierFilter, "purpose", "estimated", "overrun", "late")
    search_fields = ("completion_id", "user", "use_case", "model")
    search_help_text = gettext_lazy("Completion, user, use case or model")
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
            {
                "fields": (
                    *(("cost_exact", "held_exact"), ("cost_usd", "eur_per_usd")),
                    "corrected_charge",
                    "corrections_shown",
                )
            },
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
        *("corrected_charge", "corrections_shown"),
        *("input_count", "output_count", "cache_read_count", "reasoning_count"),
        *("cache_write_5m_count", "cache_write_1h_count", "metadata_shown"),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """A completion's records are found by its index; anything else is looked for in every record."""
        term = search_term.strip()
        if term.startswith(COMPLETION_PREFIX):
            return queryset.filter(completion_id=term), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=gettext_lazy("month"))
    def month_shown(self, record: CostRecord) -> str:
        return month_text(record.month)

    @admin.display(description=gettext_lazy("completion"))
    def completion(self, record: CostRecord) -> str:
        return completion_link(record.completion_id)

    @exported("created_at")
    @admin.display(description=gettext_lazy("at"))
    def at(self, record: CostRecord) -> str:
        return instant(record.created_at)

    @exported("use_case", "user")
    @admin.display(description=gettext_lazy("use case, user"))
    def used_for(self, record: CostRecord) -> SafeString:
        return two_lines(record.use_case, record.user)

    @exported("model", "tier")
    @admin.display(description=gettext_lazy("model, tier"))
    def by_model(self, record: CostRecord) -> SafeString:
        return two_lines(record.model, record.tier)

    @exported("input_total", "output_total")
    @admin.display(description=gettext_lazy("tokens in / out"))
    def tokens_count(self, record: CostRecord) -> str:
        return f"{count(record.input_total)} / {count(record.output_total)}"

    @exported("cost_eur")
    @admin.display(description=gettext_lazy("cost"))
    def cost_euro(self, record: CostRecord) -> str:
        return euro_cell(record.cost_eur)

    @admin.display(description=gettext_lazy("cost"))
    def cost_exact(self, record: CostRecord) -> str:
        return euro(record.cost_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("was held"))
    def held_exact(self, record: CostRecord) -> str:
        return euro(record.held_eur, places=LEDGER_PLACES)

    def has_correct_permission(self, request: HttpRequest, object_id: Any) -> bool:
        """Charges are corrected, not corrections; and one is asked for at a time."""
        record = self.get_object(request, str(object_id))
        return (
            record is not None
            and record.hold_id is not None
            and self.may(request, "correct", record)
            and not ApprovalRequest.objects.filter(corrects=record, state=RequestState.OPEN).exists()
        )

    @button(title=gettext_lazy("Ask for a correction"), path="ask-to-correct", permission="correct")
    def ask_to_correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        record = self.one(request, object_id, "correct")
        costs_eur = net_cost(record)

        def act(given: Mapping[str, Any]) -> str:
            if given["true_cost"] == costs_eur:
                raise BadRequest(_("That is what it costs already."), param="amount_eur")
            asked = ask(
                organization=record.organization,
                kind=RequestKind.CORRECTION,
                month=record.month,
                amount_eur=given["true_cost"] - costs_eur,
                corrects=record,
                provider=record.provider,
                model=record.model,
                reason=given["reason"],
                acting=person(request),
            )
            for doubt in doubts(asked):
                messages.warning(request, doubt)
            return said_asked(asked)

        return form_page(
            request,
            CorrectionForm,
            title=_("Ask for a correction of this charge"),
            note=_(
                "It costs %(cost)s so far, with its corrections. A second person decides; then the difference"
                " is posted as a record of its own."
            )
            % {"cost": exact_euro_for_people(costs_eur)},
            button=_("Ask for a correction"),
            act=act,
            back=reverse("admin:budgets_costrecord_change", args=[record.pk]),
            opts=self.opts,
        )

    @admin.display(description=gettext_lazy("corrects"))
    def corrected_charge(self, record: CostRecord) -> SafeString | str:
        return NOTHING if record.corrects is None else record_link(record.corrects)

    @admin.display(description=gettext_lazy("corrected by"))
    def corrections_shown(self, record: CostRecord) -> SafeString | str:
        corrections = list(record.corrections.select_related("corrects", "request").order_by("id"))
        if not corrections:
            return NOTHING
        rows = [
            (
                record_link(correction),
                self.remark(correction),
                euro(correction.cost_eur, places=LEDGER_PLACES),
            )
            for correction in corrections
        ]
        costs = euro(net_cost(record), places=LEDGER_PLACES)
        return facts_table(
            (_("Record"), _("Remark"), _("Cost")), [*rows, (_("With its corrections"), "", costs)]
        )

    @admin.display(description=gettext_lazy("remark"))
    def remark(self, record: CostRecord) -> str:
        late = _("late, of %(month)s") % {"month": month_text(record.belongs_to)} if record.late else ""
        marks = (
            (record.late, late),
            *((record.estimated, _("estimated")), (record.overrun, _("over the hold"))),
            *(
                (record.corrects_id, _("correction")),
                (record.reason, REASONS.get(record.reason, record.reason)),
            ),
        )
        return ", ".join(str(text) for holds, text in marks if holds) or NOTHING

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
    list_display = ("valid_from", "rate_euro", "source", "created_at")
    date_hierarchy = "valid_from"
    ordering = ("-valid_from", "-id")
    actions_list = ("upload",)

    def get_fields(self, request: HttpRequest, obj: FxRate | None = None) -> Any:
        if obj is None:
            return ("valid_from", "eur_per_unit", "reason")
        return ("valid_from", "currency", "eur_per_unit", "source", "created_at")

    @admin.display(description=gettext_lazy("euro for one US dollar"), ordering="eur_per_unit")
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
