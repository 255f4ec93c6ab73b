"""Requests in the admin: what waits for a second person, what became of the others, and asking for a cap.

Whoever asked sees why they cannot decide; whoever can decide sees the cap, what is spent, and the reason.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import Case, Model, OuterRef, QuerySet, Subquery, Value, When
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from aigov import clock
from aigov.money import euro_for_people
from aigov.organizations.lists import exported
from aigov.organizations.models import Organization, User
from aigov.organizations.tenant_admin import (
    NOTHING,
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    Why,
    button,
    euro_cell,
    instant,
    long_text,
    person,
    reason_field,
    two_lines,
    when_and_who,
)
from aigov.spreadsheets import Kind
from budgets import approvals
from budgets.admin_months import MonthFilter, month_text
from budgets.amounts import CapField
from budgets.approvals import ask, deciders, is_open, may_decide, months_ahead, said_asked, waiting_for
from budgets.daily import day_costs
from budgets.doubts import doubts
from budgets.forecast import WEEKS_MAX, forecast
from budgets.models import ApprovalRequest, BudgetAccount, RequestKind, RequestState, Scope
from budgets.request_words import change_words, title

STANDING = "standing"
NAMES_SHOWN = 5
OPEN_FIRST = Case(When(state=RequestState.OPEN, then=Value(0)), default=Value(1))


def waiting_count(request: HttpRequest) -> int:
    """How many requests wait for the person who asks; looked up once for a page."""
    known: int | None = getattr(request, "requests_waiting", None)
    if known is None:
        known = waiting_for(person(request)).count()
        request.requests_waiting = known  # type: ignore[attr-defined]
    return known


class StateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in RequestState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() else queryset


def _months() -> list[tuple[str, Any]]:
    months = months_ahead(clock.month_of(clock.now(), "UTC"))
    every = (STANDING, _("every month: the standing cap"))
    return [*((month.isoformat(), month_text(month)) for month in months), every]


class AskForm(VerbForm):
    when = forms.ChoiceField(label=gettext_lazy("For"), choices=_months, widget=UnfoldAdminSelectWidget)
    cap = CapField(help_text=gettext_lazy("In euro, a month."))
    reason = reason_field()
    fields_of_params: ClassVar[Mapping[str, str]] = {"month": "when", "amount_eur": "cap"}


class OptionalReasonForm(forms.Form):
    reason = reason_field(required=False)


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(TenantAdmin):
    """A request is made and decided; it is neither changed nor deleted."""

    verbs = ("view", "add", "change")
    form = AskForm
    list_display = ("what", "spent_euro", "reason_short", "asked", "state_label", "decided")
    list_select_related = ("organization", "decided_by")
    list_filter = (StateFilter, MonthFilter, OrganizationFilter, "kind")
    search_fields = ("organization__name", "subject", "reason", "asked_by")
    search_help_text = gettext_lazy("Organization, who asked or why")
    ordering = (OPEN_FIRST, "-asked_at", "-pk")
    sortable_by = ()
    actions_detail = ("approve", "reject", "withdraw")
    readonly_fields = (
        *(
            "what_now",
            "doubts_shown",
            "what_exact",
            "change_asked",
            "figures",
            "reason_shown",
            "asked_by",
            "asked_exact",
        ),
        *("expires_exact", "state_shown", "decided", "decision_reason"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: ApprovalRequest | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ("organization", "when", "cap", "reason")})]
        asked = (("asked_by", "asked_exact"), "expires_exact")
        doubted = ("doubts_shown",) if is_open(obj) and doubts(obj) else ()
        decision = (("state_shown", "decided"), "decision_reason")
        return [
            (
                None,
                {"fields": ("what_now", *doubted, "what_exact", "change_asked", "figures", "reason_shown")},
            ),
            (_("Asked"), {"fields": asked}),
            *([] if is_open(obj) else [(_("Decision"), {"fields": decision})]),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the cap and what is spent of the budget that each is about."""
        same = ("organization", "month", "scope", "subject")
        accounts = BudgetAccount.objects.filter(**{name: OuterRef(name) for name in same})
        rows: QuerySet[Any] = super().get_queryset(request)
        cap, spent = Subquery(accounts.values("cap_eur")), Subquery(accounts.values("spent_eur"))
        rows = rows.annotate(cap_now_eur=cap, spent_now_eur=spent)
        return rows

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- What it shows

    @exported("organization", "kind", "month", "scope", "subject", "before_eur", "amount_eur")
    @admin.display(description=gettext_lazy("request"))
    def what(self, asked: ApprovalRequest) -> SafeString:
        return two_lines(title(asked), change_words(asked))

    @admin.display(description=gettext_lazy("request"))
    def what_exact(self, asked: ApprovalRequest) -> str:
        return title(asked)

    @admin.display(description=gettext_lazy("amount"))
    def change_asked(self, asked: ApprovalRequest) -> str:
        return change_words(asked) or NOTHING

    @exported((gettext_lazy("spent"), lambda asked: asked.spent_now_eur, Kind.EURO))
    @admin.display(description=gettext_lazy("spent"))
    def spent_euro(self, asked: Any) -> str:
        return euro_cell(asked.spent_now_eur)

    @admin.display(description=gettext_lazy("as it is now"))
    def figures(self, asked: Any) -> str:
        return _figures(asked) or NOTHING

    @exported("reason")
    @admin.display(description=gettext_lazy("reason"))
    def reason_short(self, asked: ApprovalRequest) -> str:
        return long_text(asked.reason)

    @admin.display(description=gettext_lazy("warning"))
    def doubts_shown(self, asked: ApprovalRequest) -> str:
        return " ".join(doubts(asked))

    @admin.display(description=gettext_lazy("reason"))
    def reason_shown(self, asked: ApprovalRequest) -> str:
        return asked.reason

    @exported("asked_at", "asked_by")
    @admin.display(description=gettext_lazy("asked"))
    def asked(self, asked: ApprovalRequest) -> str:
        return when_and_who(asked.asked_at, asked.asked_by)

    @admin.display(description=gettext_lazy("asked"))
    def asked_exact(self, asked: ApprovalRequest) -> str:
        return instant(asked.asked_at)

    @admin.display(description=gettext_lazy("expires"))
    def expires_exact(self, asked: ApprovalRequest) -> str:
        return instant(asked.expires_at)

    @exported("state")
    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        label={"open": "warning", "approved": "success", "rejected": "danger"},
    )
    def state_label(self, asked: ApprovalRequest) -> tuple[str, str]:
        return asked.state, asked.get_state_display()

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, asked: ApprovalRequest) -> str:
        return asked.get_state_display()

    @exported("decided_at", "decided_by", "decision_reason")
    @admin.display(description=gettext_lazy("decided"))
    def decided(self, asked: ApprovalRequest) -> str:
        if asked.decided_at is None:
            return NOTHING
        return when_and_who(asked.decided_at, str(asked.decided_by or ""))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Knows who looks at it."""
        asked = super().get_object(request, object_id, from_field)
        if asked is not None:
            asked.looked_at_by = person(request)
        return asked

    @admin.display(description=gettext_lazy("what now"))
    def what_now(self, asked: Any) -> str:
        return _what_now(asked, asked.looked_at_by)

    # --- To ask

    def save_model(self, request: HttpRequest, obj: ApprovalRequest, form: Any, change: bool) -> None:
        given = form.cleaned_data
        organization: Organization = given["organization"]
        standing = given["when"] == STANDING
        present = clock.month_of(clock.now(), organization.time_zone)
        asked = ask(
            organization=organization,
            kind=RequestKind.STANDING_CAP if standing else RequestKind.CAP,
            month=present if standing else date.fromisoformat(given["when"]),
            amount_eur=given["cap"],
            reason=given["reason"],
            acting=person(request),
        )
        obj.__dict__.update(asked.__dict__)

    def said(self, obj: ApprovalRequest) -> str:
        return said_asked(obj)

    # --- To decide

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Without buttons where there is nothing to decide; who pressed one too late is told so."""
        asked = self.get_object(request, str(object_id))
        if asked is None or not is_open(asked):
            return []
        return super().get_actions_detail(request, object_id)  # type: ignore[misc]

    def has_approve_permission(self, request: HttpRequest, object_id: str) -> bool:
        asked = self.get_object(request, object_id)
        return asked is not None and may_decide(asked, person(request))

    has_reject_permission = has_approve_permission

    def has_withdraw_permission(self, request: HttpRequest, object_id: str) -> bool:
        asked = self.get_object(request, object_id)
        return asked is not None and asked.asked_by_user_id == person(request).pk

    @button(title=gettext_lazy("Approve"), path="approve", permission="approve")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self.one(request, object_id, "change")

        def act(given: Mapping[str, Any]) -> str:
            done = approvals.approve(request_id=asked.pk, acting=person(request), reason=given["reason"])
            return _("Approved: %(request)s, %(change)s.") % _in_words(done)

        return self.form_page(
            request,
            OptionalReasonForm,
            title=_("Approve: %(request)s") % _in_words(asked),
            note=_note(asked),
            button=_("Approve"),
            act=act,
        )

    @button(title=gettext_lazy("Reject"), path="reject", permission="reject", danger=True)
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(asked: ApprovalRequest, why: Why) -> str:
            return _("Rejected: %(request)s.") % _in_words(approvals.reject(request_id=asked.pk, **why))

        asked = self.one(request, object_id, "change")
        return self.reason_page(
            request,
            object_id,
            "change",
            act,
            title=_("Reject: %(request)s") % _in_words(asked),
            note=_note(asked),
            button=_("Reject"),
            danger=True,
        )

    @button(title=gettext_lazy("Withdraw"), path="withdraw", permission="withdraw")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        asked = self.one(request, object_id, "view")

        def act(given: Mapping[str, Any]) -> str:
            done = approvals.withdraw(request_id=asked.pk, acting=person(request), reason=given["reason"])
            return _("Withdrawn: %(request)s.") % _in_words(done)

        return self.form_page(
            request,
            OptionalReasonForm,
            title=_("Withdraw: %(request)s") % _in_words(asked),
            note=_note(asked),
            button=_("Withdraw"),
            act=act,
        )


# --- In words


def _in_words(asked: ApprovalRequest) -> dict[str, str]:
    return {"request": title(asked), "change": change_words(asked)}


def _note(asked: Any) -> str:
    """What one should know to decide."""
    said = _("%(who)s asks: %(reason)s") % {"who": asked.asked_by, "reason": asked.reason}
    return " · ".join(filter(None, (*doubts(asked), change_words(asked), _figures(asked), said)))


def _figures(asked: Any) -> str:
    """The cap that is in force now, and what is spent of it; empty where no budget is open."""
    if asked.spent_now_eur is None:
        return ""
    cap = NOTHING if asked.cap_now_eur is None else euro_for_people(asked.cap_now_eur)
    spent = euro_for_people(asked.spent_now_eur)
    figures = _("cap now %(cap)s, spent so far %(spent)s") % {"cap": cap, "spent": spent}
    return ", ".join(filter(None, (figures, _forecast(asked))))


def _forecast(asked: ApprovalRequest) -> str:
    """What the present month will have cost; empty for another one, or where nothing is known."""
    today = clock.now().astimezone(ZoneInfo(asked.organization.time_zone)).date()
    if asked.scope != Scope.ORGANIZATION or asked.month != today.replace(day=1):
        return ""
    costs = day_costs([asked.organization_id], today - timedelta(weeks=WEEKS_MAX), today)
    found = forecast([(cost.day, cost.cost_eur) for cost in costs], month=asked.month, today=today)
    if found is None:
        return ""
    names = {"expected": found.expected_eur, "low": found.low_eur, "high": found.high_eur}
    amounts = {name: euro_for_people(amount) for name, amount in names.items()}
    return _("forecast %(expected)s (%(low)s to %(high)s)") % amounts


def _what_now(asked: ApprovalRequest, user: User) -> str:
    """Who has to do what, from the point of view of whoever looks."""
    if not is_open(asked):
        return _("Nothing: it is not open any more.")
    if may_decide(asked, user):
        return _("Please approve or reject it.")
    if asked.asked_by_user_id == user.pk:
        return _(
            "You asked for this yourself, or by a key that you made, so that somebody else decides: %(who)s."
        ) % {"who": _names(deciders(asked))}
    return _("It waits for a second person: %(who)s.") % {"who": _names(deciders(asked))}


def _names(users: list[User]) -> str:
    names = [str(user) for user in users[:NAMES_SHOWN]]
    return ", ".join([*names, *(["…"] if len(users) > NAMES_SHOWN else [])]) or _("nobody yet")
