"""Alerts in the admin: what is open and who has seen to it, whom alerts go to, and what did not arrive."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.db.models import Case, Count, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from aigov.organizations.tenant_admin import (
    NOTHING,
    REASON_CHARACTERS_MAX,
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    Why,
    button,
    facts_table,
    instant,
    long_text,
    person,
    reason_field,
    two_lines,
    when_and_who,
)
from budgets.alerts import deliveries, destinations, raising, words
from budgets.models import Alert, AlertDelivery, AlertDestination, AlertKind, Channel, DeliveryState, Severity

SEVERITY_COLORS = {Severity.NOTICE: "info", Severity.WARNING: "warning", Severity.CRITICAL: "danger"}
STATE_COLORS = {DeliveryState.PENDING: "info", DeliveryState.SENT: "success", DeliveryState.DEAD: "danger"}
OPEN = Q(resolved_at__isnull=True, acknowledged_at__isnull=True)
#: For sorting: the most severe first.
RANK = Case(*(When(severity=one, then=at) for at, one in enumerate(reversed(Severity))))
SHOWN_AT_HOME = 5
WHOLE_PLATFORM = gettext_lazy("the whole platform")


# --- Alerts


class OpenFilter(SimpleListFilter):
    """Open ones, unless another choice is made."""

    title = gettext_lazy("state")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("seen", _("acknowledged")), ("over", _("over")), ("all", _("all"))]

    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):
            if choice["query_string"] == changelist.get_query_string(remove=[self.parameter_name]):
                choice["display"] = _("open")
            yield choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        seen = Q(acknowledged_at__isnull=False)
        rows_of = {"seen": seen, "over": Q(resolved_at__isnull=False), "all": Q()}
        return queryset.filter(rows_of.get(self.value() or "", OPEN))


class AcknowledgeForm(forms.Form):
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=REASON_CHARACTERS_MAX,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("What was done about it, for the others. Stands in the audit trail."),
    )


@admin.register(Alert)
class AlertAdmin(TenantAdmin):
    verbs = ("view", "acknowledge")
    list_display = ("severity_shown", "what", "whose", "raised", "standing", "way")
    list_select_related = ("organization", "acknowledged_by")
    list_filter = (OpenFilter, "kind", OrganizationFilter)
    ordering = ("-raised_at", "-id")
    sortable_by = ("raised", "severity_shown")
    list_display_links = ("severity_shown", "what")
    fields = (
        *("severity", "what_in_full", "whose", "act", "raised_exact", "standing_in_full"),
        *("note_shown", "ways"),
    )
    readonly_fields = fields
    actions_detail = ("acknowledge",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        of_state = {
            f"number_{state}": Count("deliveries", filter=Q(deliveries__state=state))
            for state in DeliveryState.values
        }
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**of_state)
        return rows

    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("severity"), ordering=RANK, label=SEVERITY_COLORS
    )
    def severity_shown(self, alert: Alert) -> tuple[str, str]:
        return alert.severity, alert.get_severity_display()

    @admin.display(description=gettext_lazy("what"))
    def what(self, alert: Alert) -> SafeString:
        return two_lines(words.title(alert), words.text(alert))

    @admin.display(description=gettext_lazy("what"))
    def what_in_full(self, alert: Alert) -> SafeString:
        return format_html("<strong>{}</strong><br>{}", words.title(alert), words.text(alert))

    @admin.display(description=gettext_lazy("organization"))
    def whose(self, alert: Alert) -> str:
        return str(alert.organization or WHOLE_PLATFORM)

    @admin.display(description=gettext_lazy("where to act"))
    def act(self, alert: Alert) -> SafeString | str:
        address = words.address(alert)
        if address == words.page(alert):
            return NOTHING
        return format_html('<a class="text-link" href="{}">{}</a>', address, _("Go there"))

    @admin.display(description=gettext_lazy("raised"), ordering="raised_at")
    def raised(self, alert: Alert) -> SafeString:
        return when_and_who(alert.raised_at, "")

    @admin.display(description=gettext_lazy("raised"))
    def raised_exact(self, alert: Alert) -> str:
        return instant(alert.raised_at)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, alert: Alert) -> SafeString | str:
        if alert.acknowledged_at is not None:
            return two_lines(_("acknowledged"), alert.acknowledged_by)
        return _("over") if alert.resolved_at is not None else _("open")

    @admin.display(description=gettext_lazy("state"))
    def standing_in_full(self, alert: Alert) -> str:
        facts = []
        if alert.acknowledged_at is not None:
            said = _("Acknowledged by %(who)s on %(at)s.")
            facts.append(said % {"who": alert.acknowledged_by, "at": instant(alert.acknowledged_at)})
        if alert.resolved_at is not None:
            facts.append(_("Over since %(at)s.") % {"at": instant(alert.resolved_at)})
        return " ".join(facts) or _("open")

    @admin.display(description=gettext_lazy("note"))
    def note_shown(self, alert: Alert) -> str:
        return alert.note or NOTHING

    @admin.display(description=gettext_lazy("delivered"))
    def way(self, alert: Any) -> SafeString | str:
        sent, pending, dead = alert.number_sent, alert.number_pending, alert.number_dead
        if dead:
            said = ngettext("%(number)d given up", "%(number)d given up", dead) % {"number": dead}
            return format_html('<span class="alert-dead">{}</span>', said)
        if not sent + pending:
            return NOTHING
        return _("%(sent)d of %(all)d") % {"sent": sent, "all": sent + pending}

    @admin.display(description=gettext_lazy("deliveries"))
    def ways(self, alert: Alert) -> SafeString | str:
        rows = [
            (delivery.get_channel_display(), delivery.address, _state_words(delivery))
            for delivery in alert.deliveries.order_by("pk")
        ]
        return facts_table((_("by"), _("to"), _("state")), rows) if rows else NOTHING

    def has_acknowledge_permission(self, request: HttpRequest, object_id: str) -> bool:
        alert = self.get_object(request, object_id)
        return alert is not None and alert.acknowledged_at is None and self.may(request, "acknowledge", alert)

    @button(title=gettext_lazy("Acknowledge"), path="acknowledge", permission="acknowledge")
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = self.one(request, object_id, "acknowledge")

        def act(given: Mapping[str, Any]) -> str:
            raising.acknowledge(alert=alert, acting=person(request), note=given["note"])
            return _("Acknowledged: %(alert)s.") % {"alert": words.title(alert)}

        return self.form_page(
            request,
            AcknowledgeForm,
            title=words.title(alert),
            note=_("You have seen to it; it leaves the list of open alerts."),
            button=_("Acknowledge"),
            act=act,
        )


def open_alerts(request: HttpRequest) -> dict[str, Any]:
    """For the home page: the open alerts that the person may see, most severe first; two queries at most."""
    page: Any = admin.site.get_model_admin(Alert)
    if not page.has_view_permission(request):
        return {"alerts": []}
    found = page.get_queryset(request).filter(OPEN).select_related("organization")
    shown = [
        {
            **{"severity": alert.get_severity_display(), "color": SEVERITY_COLORS[Severity(alert.severity)]},
            **{"title": words.title(alert), "text": words.text(alert), "raised": alert.raised_at},
            "address": words.page(alert),
        }
        for alert in found.order_by(RANK, "-raised_at")[:SHOWN_AT_HOME]
    ]
    return {
        "alerts": shown,
        "alerts_count": found.count() if len(shown) == SHOWN_AT_HOME else len(shown),
        "alerts_address": reverse("admin:budgets_alert_changelist"),
    }


# --- Destinations


class DestinationForm(VerbForm):
    address = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy(
            "An e-mail address; for a webhook or Slack, a URL that begins with https://, kept encrypted."
        ),
    )
    kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Kinds of alerts"),
        required=False,
        choices=[(kind.value, kind.label) for kind in AlertKind if kind != AlertKind.TEST],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=gettext_lazy("None chosen: all of them."),
    )
    reason = reason_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "organization" in self.fields:
            self.fields["organization"].required = not self.of_platform
            self.fields["organization"].empty_label = WHOLE_PLATFORM if self.of_platform else None  # type: ignore[attr-defined]

    #: Whether the person may choose the whole platform.
    of_platform = False


@admin.register(AlertDestination)
class AlertDestinationAdmin(TenantAdmin):
    verbs = ("view", "add", "change", "delete")
    form = DestinationForm
    list_display = ("name_and_address", "whose", "channel", "wanted", "active")
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter, "channel", "active")
    search_fields = ("name", "address")
    search_help_text = gettext_lazy("Name or address")
    ordering = ("organization__name", "name")
    actions_detail = ("send_test", "remove")

    def get_fields(self, request: HttpRequest, obj: AlertDestination | None = None) -> Any:
        if obj is None:
            return ("organization", "channel", "name", "address", "kinds", "reason")
        if self.has_change_permission(request, obj):
            return ("whose", "channel", "name", "address", "kinds", "active", "reason")
        return ("whose", "channel", "name", "address", "wanted", "active")

    def get_readonly_fields(self, request: HttpRequest, obj: AlertDestination | None = None) -> Any:
        return () if obj is None else ("whose", "channel", "wanted")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"of_platform": person(request).is_superuser})

    @admin.display(description=gettext_lazy("name"), ordering="name")
    def name_and_address(self, destination: AlertDestination) -> SafeString:
        return two_lines(destination.name, destination.address)

    @admin.display(description=gettext_lazy("organization"), ordering="organization__name")
    def whose(self, destination: AlertDestination) -> str:
        return str(destination.organization or WHOLE_PLATFORM)

    @admin.display(description=gettext_lazy("kinds of alerts"))
    def wanted(self, destination: AlertDestination) -> SafeString:
        return long_text(", ".join(str(AlertKind(kind).label) for kind in destination.kinds) or _("all"))

    def save_model(self, request: HttpRequest, obj: AlertDestination, form: Any, change: bool) -> None:
        given = form.cleaned_data
        common = {name: given[name] for name in ("name", "address", "kinds", "reason")}
        if change:
            destinations.change_destination(
                destination=obj, active=given["active"], acting=person(request), **common
            )
            return
        made, secret = destinations.add_destination(
            organization=given["organization"], channel=given["channel"], acting=person(request), **common
        )
        obj.pk = made.pk
        if secret is not None:
            text = _(
                "The secret that signs what goes there: %(secret)s — keep it now, it is not shown again."
            )
            self.message_user(request, text % {"secret": secret}, messages.WARNING)

    def has_send_test_permission(self, request: HttpRequest, object_id: str) -> bool:
        destination = self.get_object(request, object_id)
        return destination is not None and self.may(request, "change", destination)

    @button(title=gettext_lazy("Send a test alert"), path="test", permission="send_test")
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        destination = self.one(request, object_id, "change")

        def act(given: Mapping[str, Any]) -> str:
            destinations.send_test(destination=destination, acting=person(request))
            return _(
                "A test alert is on its way to %(name)s; the list of deliveries says when it arrived."
            ) % {"name": destination.name}

        return self.form_page(
            request,
            forms.Form,
            title=_("Send a test alert to %(name)s") % {"name": destination.name},
            note=_("It goes to %(address)s within a few seconds.") % {"address": destination.address},
            button=_("Send"),
            act=act,
        )

    @button(title=gettext_lazy("Remove"), path="remove", permission="remove", danger=True)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(destination: AlertDestination, why: Why) -> str:
            destinations.remove_destination(destination=destination, **why)
            return _("Removed: %(name)s.") % {"name": destination.name}

        return self.reason_page(
            request,
            object_id,
            "delete",
            act,
            title=_("Remove %(row)s"),
            note=_(
                "Without any active destination, alerts go by mail to the finance staff of the organization."
            ),
            button=_("Remove"),
            danger=True,
        )


# --- Deliveries


def _state_words(delivery: AlertDelivery) -> str:
    """How far a delivery is, and what hinders it."""
    if delivery.state == DeliveryState.SENT:
        return _("delivered on %(at)s") % {"at": instant(delivery.sent_at)}
    if delivery.state == DeliveryState.DEAD:
        return _("given up: %(why)s") % {"why": delivery.last_error}
    if delivery.tries == 0:
        return _("on its way")
    return _("next try on %(at)s: %(why)s") % {
        "at": instant(delivery.next_try_at),
        "why": delivery.last_error,
    }


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(TenantAdmin):
    verbs = ("view", "resend")
    list_display = ("state_shown", "what", "to", "tries_number", "progress")
    list_select_related = ("alert__organization", "organization")
    list_filter = ("state", "channel", OrganizationFilter)
    search_fields = ("address",)
    search_help_text = gettext_lazy("Address")
    ordering = ("-id",)
    sortable_by = ()
    list_display_links = ("state_shown", "what")
    fields = ("state", "alert_link", "channel", "address", "tries", "progress", "created_at")
    readonly_fields = ("alert_link", "progress")
    actions_detail = ("send_again",)

    @display(description=gettext_lazy("state"), label=STATE_COLORS)  # type: ignore[untyped-decorator]
    def state_shown(self, delivery: AlertDelivery) -> tuple[str, str]:
        return delivery.state, delivery.get_state_display()

    @admin.display(description=gettext_lazy("alert"))
    def what(self, delivery: AlertDelivery) -> SafeString:
        return two_lines(words.title(delivery.alert), instant(delivery.created_at))

    @admin.display(description=gettext_lazy("alert"))
    def alert_link(self, delivery: AlertDelivery) -> SafeString:
        alert = delivery.alert
        return format_html('<a class="text-link" href="{}">{}</a>', words.page(alert), words.title(alert))

    @admin.display(description=gettext_lazy("to"))
    def to(self, delivery: AlertDelivery) -> SafeString:
        return two_lines(delivery.address, delivery.get_channel_display())

    @admin.display(description=gettext_lazy("tries"))
    def tries_number(self, delivery: AlertDelivery) -> int:
        return delivery.tries

    @admin.display(description=gettext_lazy("how far it is"))
    def progress(self, delivery: AlertDelivery) -> SafeString:
        return long_text(_state_words(delivery))

    def has_send_again_permission(self, request: HttpRequest, object_id: str) -> bool:
        delivery = self.get_object(request, object_id)
        if delivery is None or delivery.state != DeliveryState.DEAD:
            return False
        is_left = delivery.channel == Channel.MAIL or delivery.destination_id is not None
        return is_left and self.may(request, "resend", delivery)

    @button(title=gettext_lazy("Send again"), path="send-again", permission="send_again")
    def send_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        delivery = self.one(request, object_id, "resend")

        def act(given: Mapping[str, Any]) -> str:
            deliveries.send_again(delivery=delivery, acting=person(request))
            return _("It is on its way again.")

        return self.form_page(
            request,
            forms.Form,
            title=_("Send again to %(address)s") % {"address": delivery.address},
            note=_("It was given up: %(why)s") % {"why": delivery.last_error},
            button=_("Send again"),
            act=act,
        )
