"""Months' budgets in the admin: how each account stands, and its cap, which finance changes here.

The cap is changed for the month and account that one looks at; the standing cap is a setting. Several can
be changed in the list, with one reason. A raise that takes a second person becomes a request.
"""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.core.exceptions import PermissionDenied
from django.db.models import Case, DecimalField, F, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov import clock
from aigov.downloads import download
from aigov.money import EURO_MAX, euro_for_people, exact_euro_for_people
from aigov.organizations.lists import exported
from aigov.organizations.tenant_admin import (
    NOTHING,
    OrganizationFilter,
    TenantAdmin,
    button,
    euro,
    euro_cell,
    facts_table,
    instant,
    is_id,
    person,
    two_lines,
)
from aigov.spreadsheets import Kind, file_chunks
from budgets.approvals import ADD, said_asked
from budgets.cap_forms import AskedCapForm, CapForm, CapsInList, caps_in_list, posted_ids
from budgets.cap_history import cap_history
from budgets.caps import CapRefused, ask_for_cap, set_month_caps
from budgets.charge_days import last_day
from budgets.many_caps import ManyCapsForm, accounts_of, preview_rows, previewed
from budgets.models import BudgetAccount, Scope
from budgets.months import balance_of
from budgets.progress import progress, progress_bar
from budgets.statement.figures import statement
from budgets.statement.pdf import statement_pdf
from budgets.statement.sections import filename_of
from budgets.statement.xlsx import statement_xlsx

LEDGER_PLACES = 9
MONTHS_OFFERED = 13
#: How full an account is, as `budgets.months.fullness` says, for sorting.
FULLNESS = Case(
    When(cap_eur=0, then=Value(EURO_MAX)),
    When(cap_eur__isnull=True, then=Value(Decimal(0))),
    default=(F("spent_eur") + F("held_eur")) / F("cap_eur"),
    output_field=DecimalField(),
)


class MonthFilter(SimpleListFilter):
    """Offers the present month and those before it, as they are in UTC."""

    title = gettext_lazy("month")
    parameter_name = "in_month"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        present = clock.month_of(clock.now(), "UTC")
        months = [months_before(present, number) for number in range(MONTHS_OFFERED)]
        return [(f"{month:%Y-%m}", month_text(month)) for month in months]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        try:
            return queryset.filter(month=date.fromisoformat(f"{chosen}-01"))
        except ValueError:
            return queryset.none()


def months_before(month: date, number: int) -> date:
    years, index = divmod(month.year * 12 + month.month - 1 - number, 12)
    return date(years, index + 1, 1)


def month_text(month: date) -> str:
    return date_format(month, "YEAR_MONTH_FORMAT")


def used_share(account: BudgetAccount) -> Decimal | None:
    """What the bar says, as a share of the cap; None without a cap."""
    used = progress(balance_of(account))
    return None if used is None else Decimal(used.percent).scaleb(-2)


@admin.register(BudgetAccount)
class BudgetAccountAdmin(TenantAdmin):
    """The caps of a list's rows can be changed there, with one reason for all of them."""

    verbs = ("view", "change")
    form = CapForm
    list_display = (*("month_short", "whose", "cap_euro", "spent_euro", "held_euro", "left_euro", "used_up"),)
    list_select_related = ("organization",)
    list_filter = (MonthFilter, OrganizationFilter, "scope")
    search_fields = ("organization__name", "subject")
    search_help_text = gettext_lazy("Organization, user or use case")
    ordering = ("-month", "organization__name", "scope", "subject")
    sortable_by = ("month_short", "whose", "cap_euro", "spent_euro", "held_euro", "left_euro", "used_up")

    readonly_fields = (
        *("organization", "month_shown", "scope", "subject", "kind_of_cap", "used_up"),
        *("cap_exact", "spent_exact", "held_exact", "left_exact", "history"),
    )

    actions_list = ("many",)
    actions_detail = ("ask", "statement_pdf", "statement_xlsx", "focus_file")

    def get_fieldsets(self, request: HttpRequest, obj: BudgetAccount | None = None) -> Any:
        whose = ("subject",) if obj is not None and obj.subject else ()
        figures = ("used_up", "spent_exact", "held_exact", "left_exact", "kind_of_cap")
        cap = ("cap", "reason") if self.has_change_permission(request, obj) else ("cap_exact",)
        return [
            (None, {"fields": (("month_shown", "organization"), ("scope", *whose))}),
            (gettext_lazy("Cap"), {"fields": cap}),
            (gettext_lazy("Figures"), {"fields": figures}),
            (gettext_lazy("History of the cap"), {"fields": ("history",)}),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A closed month is shown, but not changed."""
        return super().has_change_permission(request, obj) and not (obj is not None and obj.closed)

    # --- What it shows

    @admin.display(description=gettext_lazy("month"), ordering="month")
    def month_shown(self, account: BudgetAccount) -> str:
        month = month_text(account.month)
        return _("%(month)s (closed)") % {"month": month} if account.closed else month

    @admin.display(description=gettext_lazy("month"), ordering="month")
    def month_short(self, account: BudgetAccount) -> SafeString:
        month = format_html('<span class="nowrap">{}</span>', date_format(account.month, "M Y"))
        return two_lines(month, _("closed") if account.closed else "")

    @exported("organization", "scope", "subject")
    @admin.display(description=gettext_lazy("organization"), ordering="organization__name")
    def whose(self, account: BudgetAccount) -> SafeString:
        of_part = f"{account.get_scope_display()} {account.subject}" if account.subject else ""
        return two_lines(account.organization, of_part)

    @admin.display(description=gettext_lazy("cap"), ordering="cap_eur")
    def cap_euro(self, account: BudgetAccount) -> str:
        return euro_cell(account.cap_eur)

    @admin.display(description=gettext_lazy("spent"), ordering="spent_eur")
    def spent_euro(self, account: BudgetAccount) -> str:
        return euro_cell(account.spent_eur)

    @admin.display(description=gettext_lazy("held"), ordering="held_eur")
    def held_euro(self, account: BudgetAccount) -> str:
        return euro_cell(account.held_eur)

    @exported((gettext_lazy("left"), lambda account: balance_of(account).remaining_eur, Kind.EURO))
    @admin.display(description=gettext_lazy("left"), ordering=F("cap_eur") - F("spent_eur") - F("held_eur"))
    def left_euro(self, account: BudgetAccount) -> str:
        return euro_cell(balance_of(account).remaining_eur)

    @exported((gettext_lazy("used up"), used_share, Kind.SHARE))
    @admin.display(description=gettext_lazy("used up"), ordering=FULLNESS)
    def used_up(self, account: BudgetAccount) -> str:
        return progress_bar(balance_of(account))

    @admin.display(description=gettext_lazy("Cap"))
    def cap_exact(self, account: BudgetAccount) -> str:
        return NOTHING if account.cap_eur is None else exact_euro_for_people(account.cap_eur)

    @admin.display(description=gettext_lazy("Spent"))
    def spent_exact(self, account: BudgetAccount) -> str:
        return euro(account.spent_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Held by calls in flight"))
    def held_exact(self, account: BudgetAccount) -> str:
        return euro(account.held_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Left"))
    def left_exact(self, account: BudgetAccount) -> str:
        return euro(balance_of(account).remaining_eur, places=LEDGER_PLACES)

    @admin.display(description=gettext_lazy("Where the cap comes from"))
    def kind_of_cap(self, account: BudgetAccount) -> str:
        if account.closed:
            return _("The month is closed: its cap stays as it is.")
        if account.cap_is_of_month:
            return _("It was set for this month.")
        return _("It follows the standing cap of the settings.")

    @admin.display(description=gettext_lazy("changes"))
    def history(self, account: BudgetAccount) -> SafeString | str:
        changes = [
            (
                *(instant(change.at), change.who, euro_cell(change.before_eur), euro_cell(change.after_eur)),
                change.reason,
            )
            for change in cap_history(account)
        ]
        titles = (_("When"), _("Who"), _("From"), _("To"), _("Reason"))
        return facts_table(titles, changes) if changes else NOTHING

    # --- Its month as a file

    def has_statement_permission(self, request: HttpRequest, object_id: str) -> bool:
        """For the accounts of organizations; users and use cases stand in these statements."""
        account = self.get_object(request, object_id)
        return (
            account is not None and account.scope == Scope.ORGANIZATION and self.may(request, "view", account)
        )

    @button(title=gettext_lazy("Statement (PDF)"), path="statement.pdf", permission="statement")
    def statement_pdf(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        month = statement(self.one(request, object_id, "view"))
        content = (part for part in (statement_pdf(month),))
        return download(request, content, filename=filename_of(month, "pdf"))

    @button(title=gettext_lazy("Statement (XLSX)"), path="statement.xlsx", permission="statement")
    def statement_xlsx(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        month = statement(self.one(request, object_id, "view"))
        return download(request, file_chunks(statement_xlsx(month)), filename=filename_of(month, "xlsx"))

    @button(title=gettext_lazy("FOCUS file"), path="focus.csv", permission="statement")
    def focus_file(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The month's charges one by one, in the FinOps Foundation's format."""
        account = self.one(request, object_id, "view")
        month = {"from": account.month, "to": last_day(account.month)}
        return redirect(
            f"{reverse('kpis:focus')}?{urlencode(month | {'organization': account.organization_id})}"
        )

    # --- What it changes

    def save_model(self, request: HttpRequest, obj: BudgetAccount, form: Any, change: bool) -> None:
        reason = form.cleaned_data["reason"]
        asked = set_month_caps(changes=[form.change()], acting=person(request), reason=reason)
        obj.asked = asked  # type: ignore[attr-defined]

    def has_ask_permission(self, request: HttpRequest, object_id: str) -> bool:
        """Who may change the cap asks by doing so."""
        account = self.get_object(request, object_id)
        may_ask = account is not None and person(request).has_perm(ADD, account)
        return may_ask and not self.has_change_permission(request, account)

    @button(title=gettext_lazy("Ask for another cap"), path="ask", permission="ask")
    def ask(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.one(request, object_id, "view")
        cap = NOTHING if account.cap_eur is None else euro_for_people(account.cap_eur)

        def act(given: Mapping[str, Any]) -> str:
            asking = {"acting": person(request), "reason": given["reason"]}
            return said_asked(ask_for_cap(account=account, cap_eur=given["cap"], **asking))

        return self.form_page(
            request,
            AskedCapForm,
            title=_("Ask for another cap for %(account)s") % {"account": account},
            note=_("The cap is %(cap)s. Finance or an administrator decides; both sides get a mail.")
            % {"cap": cap},
            button=_("Ask"),
            act=act,
        )

    def said(self, obj: BudgetAccount) -> str:
        """What was done, or that it has been asked for."""
        if asked := getattr(obj, "asked", {}).get(obj.pk):
            return said_asked(asked)
        cap = NOTHING if obj.cap_eur is None else euro_for_people(obj.cap_eur)
        return _("Saved: the cap of %(account)s is %(cap)s now.") % {"account": obj, "cap": cap}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        caps = None
        if request.method == "POST":
            caps = self._given_caps(request)
            if self._saved(request, caps):
                return redirect(request.get_full_path())
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and self.has_change_permission(request):
            self._show_caps(request, response, caps)
        return response

    def has_many_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)

    @button(title=gettext_lazy("Change many caps"), path="many", permission="many")
    def many(self, request: HttpRequest) -> HttpResponse:
        """Many caps chosen and reckoned, then looked at, then saved."""
        form, caps = None, None
        if "_save" in request.POST:
            caps = self._given_caps(request)
            if self._saved(request, caps):
                return redirect(reverse("admin:budgets_budgetaccount_changelist"))
        else:
            form = ManyCapsForm(request.POST or None, organizations=self.organizations(request, "change"))
            if form.is_valid():
                accounts = accounts_of(form.cleaned_data["organizations"], form.month_chosen())
                caps = previewed(accounts, form.new_cap, self._may_change_in_list(request))
        context = {
            **self.admin_site.each_context(request),
            **{"title": _("Change many caps"), "opts": self.opts, "page_form": form, "caps": caps},
            "rows": preview_rows(caps, person(request)) if caps else [],
            "back": reverse("admin:budgets_budgetaccount_changelist"),
        }
        return TemplateResponse(request, "admin/budgets/many_caps.html", context)

    def _given_caps(self, request: HttpRequest) -> CapsInList:
        if not self.has_change_permission(request):
            raise PermissionDenied
        ids = [id_ for id_ in posted_ids(request.POST) if is_id(id_)]
        rows = self.get_queryset(request).filter(pk__in=ids).select_related("organization")
        return caps_in_list(rows, self._may_change_in_list(request), request.POST)

    def _may_change_in_list(self, request: HttpRequest) -> Callable[[BudgetAccount], bool]:
        def may_change(account: BudgetAccount) -> bool:
            present = clock.month_of(clock.now(), account.organization.time_zone)
            return account.month >= present and self.has_change_permission(request, account)

        return may_change

    def _saved(self, request: HttpRequest, caps: CapsInList) -> bool:
        if not caps.is_valid():
            return False
        changes = caps.changes()
        try:
            reason = caps.reason_form.cleaned_data["reason"] if changes else ""
            asked = set_month_caps(changes=changes, acting=person(request), reason=reason)
        except CapRefused as refused:
            caps.refuse(refused)
            return False
        for change in changes:
            change.account.asked = asked  # type: ignore[attr-defined]
            self.message_user(request, self.said(change.account), messages.SUCCESS)
        return True

    def _show_caps(self, request: HttpRequest, response: TemplateResponse, caps: CapsInList | None) -> None:
        rows = response.context_data["cl"]  # type: ignore[index]
        if caps is None:
            rows.formset = caps_in_list(rows.result_list, self._may_change_in_list(request))
            return
        rows.formset = caps
        # As they were sent: meanwhile another row may have come to stand where this one stood.
        rows.result_list = [form.instance for form in caps.forms]
