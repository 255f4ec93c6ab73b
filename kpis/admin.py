"""Leads and orders in the admin, the ways they come in, and the e-mails that tell what they cost."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget

from aigov.errors import BadRequest
from aigov.organizations.models import Organization
from aigov.organizations.tenant_admin import (
    DateFilter,
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    Why,
    button,
    euro_cell,
    instant,
    person,
    show_refusal,
    two_lines,
)
from kpis.csv_import import Table, decoded, read_table
from kpis.digests import subscribe, unsubscribe
from kpis.hooks import make_hook, revoke_hook
from kpis.models import DigestSubscription, Outcome, OutcomeHook
from kpis.outcomes import Taken, record_table

PREVIEW_ROWS = 10
MISTAKES_SHOWN = 50


class ImportForm(forms.Form):
    """A CSV file, whose text is carried along from the preview to the import."""

    organization = forms.ModelChoiceField(
        Organization.objects.none(), label=gettext_lazy("Organization"), widget=UnfoldAdminSelectWidget
    )
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=UnfoldAdminFileFieldWidget,
        required=False,
        help_text=gettext_lazy(
            "CSV with the columns kind (lead or order), external_id, occurred_at and, if you like, value_eur."
        ),
    )
    text = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, organizations: QuerySet[Organization], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice: Any = self.fields["organization"]
        choice.queryset = organizations
        choice.initial = organizations.first()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            if cleaned["file"] is not None:
                cleaned["text"] = decoded(cleaned["file"].read())
            if not cleaned["text"]:
                raise BadRequest(_("Please choose a file."), param="file")
            cleaned["table"] = read_table(cleaned["text"], time_zone=cleaned["organization"].time_zone)
        except BadRequest as refusal:
            show_refusal(self, refusal)
        return cleaned


@admin.register(Outcome)
class OutcomeAdmin(TenantAdmin):
    """What services, CRMs and files tell us of; nobody changes it by hand."""

    verbs = ("view", "add")
    list_display = ("occurred", "kind", "external_id", "organization", "value_euro", "received")
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter, "kind", ("occurred_at", DateFilter))
    search_fields = ("external_id",)
    search_help_text = gettext_lazy("Id in the CRM")
    ordering = ("-occurred_at", "-id")
    fields = ("kind", "external_id", "organization", "occurred", "day", "value_euro", "received")
    readonly_fields = fields
    actions_list = ("upload",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only by a file."""
        return False

    def has_upload_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "add")

    @admin.display(description=gettext_lazy("at"), ordering="occurred_at")
    def occurred(self, outcome: Outcome) -> str:
        return instant(outcome.occurred_at)

    @admin.display(description=gettext_lazy("value"), ordering="value_eur")
    def value_euro(self, outcome: Outcome) -> str:
        return euro_cell(outcome.value_eur)

    @admin.display(description=gettext_lazy("received"), ordering="received_at")
    def received(self, outcome: Outcome) -> str:
        return instant(outcome.received_at)

    @button(title=gettext_lazy("Import a CSV file"), path="import", permission="upload")
    def upload(self, request: HttpRequest) -> HttpResponse:
        """First shows what was read and what was not, then imports what was."""
        organizations = self.organizations(request, "add").order_by("name")
        given = (request.POST, request.FILES) if request.method == "POST" else ()
        form = ImportForm(*given, organizations=organizations)
        if form.is_bound and form.is_valid():
            organization, table = form.cleaned_data["organization"], form.cleaned_data["table"]
            if "import" in request.POST and form.cleaned_data["file"] is None:
                taken = record_table(
                    organization=organization, outcomes=table.outcomes, acting=person(request)
                )
                self.message_user(request, _taken_words(taken))
                return self.response_post_save_add(request, None)
            return self._import_page(request, form, _preview(form.cleaned_data))
        return self._import_page(request, form, {})

    def _import_page(self, request: HttpRequest, form: ImportForm, preview: dict[str, Any]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            **{"title": _("Import leads and orders"), "opts": self.opts, "page_form": form},
            "back": reverse("admin:kpis_outcome_changelist"),
            **preview,
        }
        return TemplateResponse(request, "admin/kpis/import.html", context)


def _preview(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    table: Table = cleaned["table"]
    count = len(table.outcomes)
    return {
        "organization": cleaned["organization"],
        "text": cleaned["text"],
        "rows": [
            (outcome.kind, outcome.external_id, instant(outcome.occurred_at), euro_cell(outcome.value_eur))
            for outcome in table.outcomes[:PREVIEW_ROWS]
        ],
        "rows_more": max(count - PREVIEW_ROWS, 0),
        "mistakes": table.mistakes[:MISTAKES_SHOWN],
        "mistakes_more": max(len(table.mistakes) - MISTAKES_SHOWN, 0),
        "button": ngettext("Import %(count)d row", "Import %(count)d rows", count) % {"count": count}
        if count
        else "",
    }


def _taken_words(taken: Taken) -> str:
    return _("%(created)d new, %(changed)d changed, %(unchanged)d known already.") % {
        "created": taken.created,
        "changed": taken.changed,
        "unchanged": taken.unchanged,
    }


@admin.register(OutcomeHook)
class OutcomeHookAdmin(TenantAdmin):
    """A webhook is made and revoked; it is neither changed nor deleted."""

    verbs = ("view", "add", "change")
    form = VerbForm
    list_display = ("name_and_address", "organization", "created", "revoked")
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter,)
    add_fieldsets = ((None, {"fields": ("organization", "name")}),)
    fields = ("name", "organization", "address", "created", "revoked")
    readonly_fields = ("address", "created", "revoked")
    actions_detail = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("secret_sealed")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("name"), ordering="name")
    def name_and_address(self, hook: OutcomeHook) -> str:
        return two_lines(hook.name, self.address(hook))

    @admin.display(description=gettext_lazy("address"))
    def address(self, hook: OutcomeHook) -> str:
        return reverse("outcome-hook", args=[hook.pk])

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, hook: OutcomeHook) -> str:
        return instant(hook.created_at)

    @admin.display(description=gettext_lazy("revoked"), ordering="revoked_at")
    def revoked(self, hook: OutcomeHook) -> str:
        return instant(hook.revoked_at)

    def save_model(self, request: HttpRequest, obj: OutcomeHook, form: Any, change: bool) -> None:
        given = form.cleaned_data
        hook, secret = make_hook(
            organization=given["organization"], name=given["name"], acting=person(request)
        )
        obj.pk = hook.pk
        text = _("The new secret: %(secret)s — keep it now, it is not shown again.") % {"secret": secret}
        self.message_user(request, text, "warning")

    def has_revoke_permission(self, request: HttpRequest, object_id: str) -> bool:
        hook = self.get_object(request, object_id)
        return hook is not None and hook.revoked_at is None and self.may(request, "change", hook)

    @button(title=gettext_lazy("Revoke"), path="revoke", permission="revoke", danger=True)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(hook: OutcomeHook, why: Why) -> str:
            revoke_hook(hook=hook, **why)
            return _("Revoked: %(hook)s.") % {"hook": hook}

        return self.reason_page(
            request,
            object_id,
            "change",
            act,
            title=_("Revoke %(row)s"),
            note=_("Messages to this address are refused from now on. This cannot be undone."),
            button=_("Revoke"),
            danger=True,
        )


@admin.register(DigestSubscription)
class DigestSubscriptionAdmin(TenantAdmin):
    """Everybody sees, orders and cancels their own."""

    verbs = ("view", "add", "delete")
    form = VerbForm
    list_display = ("organization", "rhythm", "sent_for")
    list_select_related = ("organization",)
    add_fieldsets = ((None, {"fields": ("organization", "rhythm")}),)
    fields = ("organization", "rhythm", "sent_for")
    readonly_fields = ("sent_for",)
    actions_detail = ("cancel",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(user=person(request))

    def save_model(self, request: HttpRequest, obj: DigestSubscription, form: Any, change: bool) -> None:
        given = form.cleaned_data
        subscription = subscribe(
            organization=given["organization"],
            user=person(request),
            rhythm=given["rhythm"],
            language=get_language() or "en",
        )
        obj.pk = subscription.pk

    @button(title=gettext_lazy("Cancel"), path="cancel", permission="remove", danger=True)
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        subscription = self.one(request, object_id, "delete")

        def act(_given: Mapping[str, Any]) -> str:
            unsubscribe(subscription=subscription)
            return _("Cancelled: %(digest)s.") % {"digest": subscription}

        return self.form_page(
            request,
            forms.Form,
            title=_("Cancel %(digest)s") % {"digest": subscription},
            note=_("No further e-mails of this kind are sent to you."),
            button=_("Cancel the e-mails"),
            act=act,
        )
