"""Month close in the admin: each organization's months, what is left to do before one is closed, and who
closed which, when and why.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    F,
    Func,
    OuterRef,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from aigov import clock
from aigov.money import exact_euro_for_people
from aigov.organizations.tenant_admin import (
    NOTHING,
    OrganizationFilter,
    ReasonForm,
    TenantAdmin,
    button,
    count,
    euro_cell,
    form_page,
    instant,
    person,
    reason_field,
    two_lines,
    when_and_who,
)
from budgets.admin_months import MonthFilter, month_text
from budgets.approvals import ask, said_asked
from budgets.bill_pages import VIEW as VIEW_BILLS
from budgets.bill_pages import address_of as bills_of
from budgets.closing import Check, checklist, close_month, is_over
from budgets.models import (
    AccountingMonth,
    ApprovalRequest,
    BudgetAccount,
    CostRecord,
    MonthClose,
    RequestKind,
    RequestState,
    Scope,
)

RUNNING, TO_CLOSE, CLOSED = "running", "to_close", "closed"
STATES = {
    RUNNING: gettext_lazy("running"),
    TO_CLOSE: gettext_lazy("to be closed"),
    CLOSED: gettext_lazy("closed"),
}
COLOURS = {RUNNING: "info", TO_CLOSE: "warning", CLOSED: "success"}


def state_of_row() -> Case:
    """How a month stands, in SQL: as `budgets.closing.is_over` and `closed` say."""
    local_now = Func(
        F("organization__time_zone"),
        Value(clock.now()),
        function="timezone",
        output_field=DateTimeField(),
    )
    present_month = Func(Value("month"), local_now, function="date_trunc", output_field=DateTimeField())
    return Case(
        When(closed=True, then=Value(CLOSED)),
        When(month__lt=present_month, then=Value(TO_CLOSE)),
        default=Value(RUNNING),
        output_field=CharField(),
    )


class StateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, str(words)) for state, words in STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(state=chosen)


class CloseForm(forms.Form):
    reason = reason_field(required=False)


@admin.register(AccountingMonth)
class AccountingMonthAdmin(TenantAdmin):
    verbs = ("view", "close", "reopen")
    list_display = ("month_shown", "organization", "state_label", "spent_euro", "closed_shown")
    list_select_related = ("organization",)
    list_filter = (StateFilter, MonthFilter, OrganizationFilter)
    search_fields = ("organization__name",)
    search_help_text = gettext_lazy("Organization")
    ordering = ("-month", "organization__name")
    sortable_by = ("month_shown", "organization", "spent_euro")
    actions_detail = ("close", "ask_to_reopen")
    readonly_fields = (
        *("month_shown", "organization", "state_shown", "checklist_shown"),
        *("opening_cap_euro", "cap_euro", "spent_euro", "records_count", "files", "history"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        of_month = MonthClose.objects.filter(
            organization=OuterRef("organization"), month=OuterRef("month"), reopened_at=None
        )
        months = super().get_queryset(request).filter(scope=Scope.ORGANIZATION)
        return months.annotate(  # type: ignore[no-any-return]
            state=state_of_row(),
            closed_at=Subquery(of_month.values("closed_at")),
            closed_by=Subquery(of_month.values("closed_by")),
        )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        todo = (
            []
            if obj is None or obj.closed
            else [(_("Before it is closed"), {"fields": ("checklist_shown",)})]
        )
        figures = (("opening_cap_euro", "cap_euro"), ("spent_euro", "records_count"), "files")
        return [
            (None, {"fields": (("month_shown", "organization"), "state_shown")}),
            *todo,
            (_("Figures"), {"fields": figures}),
            (_("When it was closed"), {"fields": ("history",)}),
        ]

    # --- What it shows

    @admin.display(description=gettext_lazy("month"), ordering="month")
    def month_shown(self, month: AccountingMonth) -> SafeString:
        return format_html('<span class="nowrap">{}</span>', month_text(month.month))

    @display(description=gettext_lazy("state"), label=COLOURS)  # type: ignore[untyped-decorator]
    def state_label(self, month: Any) -> tuple[str, Any]:
        return month.state, STATES[month.state]

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, month: Any) -> str:
        asked = self._asked_to_reopen(month)
        if asked is not None:
            return _("Closed. %(who)s has asked for it to be reopened; a second person decides.") % {
                "who": asked.asked_by
            }
        if month.closed:
            return _(
                "Closed: its records and caps stay as they are. What comes late goes into an open month."
            )
        if is_over(month.organization, month.month):
            return _("Over, and not closed yet: late records still change its figures.")
        return _("It goes on.")

    @admin.display(description=gettext_lazy("spent"), ordering="spent_eur")
    def spent_euro(self, month: AccountingMonth) -> str:
        return euro_cell(month.spent_eur)

    @admin.display(description=gettext_lazy("cap at the beginning"))
    def opening_cap_euro(self, month: AccountingMonth) -> str:
        return euro_cell(month.opening_cap_eur)

    @admin.display(description=gettext_lazy("cap"))
    def cap_euro(self, month: AccountingMonth) -> SafeString:
        address = reverse("admin:budgets_budgetaccount_change", args=[month.pk])
        return format_html('<a class="text-link" href="{}">{}</a>', address, euro_cell(month.cap_eur))

    @admin.display(description=gettext_lazy("cost records"))
    def records_count(self, month: AccountingMonth) -> SafeString:
        number = CostRecord.objects.filter(organization=month.organization_id, month=month.month).count()
        narrowed: dict[str, Any] = {"organization": month.organization_id, "in_month": f"{month.month:%Y-%m}"}
        address = f"{reverse('admin:budgets_costrecord_changelist')}?{urlencode(narrowed)}"
        return format_html('<a class="text-link" href="{}">{}</a>', address, count(number))

    @admin.display(description=gettext_lazy("Statement"))
    def files(self, month: AccountingMonth) -> SafeString:
        """The same as on the page of the month's budget."""
        names = {
            "statement_pdf": _("Statement (PDF)"),
            "statement_xlsx": _("Statement (XLSX)"),
            "focus_file": _("FOCUS file"),
        }
        links = (
            (reverse(f"admin:budgets_budgetaccount_{page}", args=[month.pk]), words)
            for page, words in names.items()
        )
        return format_html_join(" · ", '<a class="text-link" href="{}">{}</a>', links)

    @admin.display(description=gettext_lazy("closed"))
    def closed_shown(self, month: Any) -> str | SafeString:
        return when_and_who(month.closed_at, month.closed_by) if month.closed_at else NOTHING

    @admin.display(description=gettext_lazy("checklist"))
    def checklist_shown(self, month: AccountingMonth) -> SafeString:
        points = checklist(month.organization, month.month)
        met, unmet = _("done"), _("to do")
        return format_html(
            '<ul class="checklist">{}</ul>',
            format_html_join(
                "",
                '<li class="{}"><span class="material-symbols-outlined" role="img" aria-label="{}">{}</span>'
                "<span>{}</span></li>",
                (
                    ("is-met", met, "check_circle", point.text)
                    if point.is_met
                    else ("is-unmet", unmet, "radio_button_unchecked", self._to_do(month, point))
                    for point in points
                ),
            ),
        )

    def _to_do(self, month: Any, point: Check) -> SafeString:
        """What is to be done, with the way there for whoever may go it."""
        if point.name != "bills" or not month.looked_at_by.has_perm(VIEW_BILLS):
            return two_lines(point.text, point.todo)
        link = format_html(
            '{} <a class="text-link" href="{}">{}</a>',
            *(point.todo, bills_of(month.month), _("To the reconciliation")),
        )
        return two_lines(point.text, link)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Knows who looks at it."""
        month = super().get_object(request, object_id, from_field)
        if month is not None:
            month.looked_at_by = person(request)
        return month

    @admin.display(description=gettext_lazy("history"))
    def history(self, month: AccountingMonth) -> SafeString | str:
        closes = MonthClose.objects.filter(
            organization=month.organization_id, month=month.month
        ).select_related("request")
        lines = format_html_join("", "<li>{}</li>", ((self._close_words(close),) for close in closes))
        return (
            format_html('<ul class="closes">{}</ul>', lines) if lines else _("It has not been closed so far.")
        )

    def _close_words(self, close: MonthClose) -> SafeString:
        """One close: when and by whom, why, its figures, and how it was reopened."""
        facts = _("%(spent)s spent, by %(records)s cost records") % {
            "spent": exact_euro_for_people(close.spent_eur),
            "records": count(close.records),
        }
        lines = (close.reason, facts, self._reopened(close))
        parts = format_html_join("", '<span class="anywhere block">{}</span>', ((x,) for x in lines if x))
        return format_html("{}{}", when_and_who(close.closed_at, close.closed_by), parts)

    def _reopened(self, close: MonthClose) -> str:
        if close.reopened_at is None or close.request is None:
            return ""
        return _("Reopened on %(at)s: %(asked)s asked, %(approved)s approved: %(reason)s") % {
            "at": instant(close.reopened_at),
            "asked": close.request.asked_by,
            "approved": close.reopened_by,
            "reason": close.request.reason,
        }

    # --- What it changes

    def _found(self, request: HttpRequest, object_id: Any, verb: str) -> AccountingMonth | None:
        """The month, if the person may do that with it."""
        month = self.get_object(request, str(object_id))
        return month if month is not None and self.may(request, verb, month) else None

    def has_close_permission(self, request: HttpRequest, object_id: Any) -> bool:
        month = self._found(request, object_id, "close")
        return month is not None and not month.closed and is_over(month.organization, month.month)

    def has_reopen_permission(self, request: HttpRequest, object_id: Any) -> bool:
        month = self._found(request, object_id, "reopen")
        return month is not None and month.closed and self._asked_to_reopen(month) is None

    def _asked_to_reopen(self, month: BudgetAccount) -> ApprovalRequest | None:
        return ApprovalRequest.objects.filter(
            organization=month.organization_id,
            month=month.month,
            kind=RequestKind.REOPENING,
            state=RequestState.OPEN,
        ).first()

    @button(title=gettext_lazy("Close the month"), path="close", permission="close")
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        month = self.one(request, object_id, "close")

        def act(given: Any) -> str:
            close_month(
                organization=month.organization,
                month=month.month,
                acting=person(request),
                reason=given["reason"],
            )
            return _("Closed: %(month)s of %(organization)s.") % self._facts(month)

        return form_page(
            request,
            CloseForm,
            title=_("Close %(month)s of %(organization)s") % self._facts(month),
            note=_(
                "From then on nothing changes this month any more: no record, no cap. What comes late goes"
                " into the next open month, marked as late. Reopening takes two people."
            ),
            button=_("Close the month"),
            act=act,
            back=reverse("admin:budgets_accountingmonth_change", args=[month.pk]),
            opts=self.opts,
        )

    @button(title=gettext_lazy("Ask for reopening"), path="ask-to-reopen", permission="reopen")
    def ask_to_reopen(self, request: HttpRequest, object_id: str) -> HttpResponse:
        month = self.one(request, object_id, "reopen")

        def act(given: Any) -> str:
            asked = ask(
                organization=month.organization,
                kind=RequestKind.REOPENING,
                month=month.month,
                reason=given["reason"],
                acting=person(request),
            )
            return said_asked(asked)

        return form_page(
            request,
            ReasonForm,
            title=_("Ask for %(month)s of %(organization)s to be reopened") % self._facts(month),
            note=_("A second person decides. Once approved, records and caps of this month can change."),
            button=_("Ask for reopening"),
            act=act,
            back=reverse("admin:budgets_accountingmonth_change", args=[month.pk]),
            opts=self.opts,
        )

    def _facts(self, month: AccountingMonth) -> dict[str, Any]:
        return {"month": month_text(month.month), "organization": month.organization}
