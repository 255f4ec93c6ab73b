"""The settings in the admin: the values that are set, and beneath them all that can be."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from aigov.errors import SecondPersonNeeded
from aigov.organizations.lists import exported
from aigov.organizations.models import Organization
from aigov.organizations.tenant_admin import (
    OrganizationFilter,
    TenantAdmin,
    VerbForm,
    Why,
    button,
    json_block,
    long_text,
    person,
    reason_field,
    two_lines,
    when_and_who,
)
from aigov.registry.json_values import VALUE_BYTES_MAX
from aigov.registry.keys import UnknownKey, all_keys, find
from aigov.registry.models import ScopeChoice, SettingValue
from aigov.registry.values import remove_value, set_value


class JsonTextField(forms.CharField):
    """A JSON value, written as text; `null`, `[]` and `{}` are values, too."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValidationError(
                _("This is not JSON (%(message)s, line %(line)d). Text stands in double quotes.")
                % {"message": error.msg, "line": error.lineno}
            ) from None
        except RecursionError:
            raise ValidationError(_("This is nested too deep.")) from None


def _key_choices() -> list[tuple[str, str]]:
    return [("", "---------"), *((name, name) for name in all_keys())]


class SettingForm(VerbForm):
    key = forms.ChoiceField(
        label=gettext_lazy("Setting"), choices=_key_choices, widget=UnfoldAdminSelectWidget
    )
    # Not the model's own field, to which null, [] and {} would be no values.
    new_value = JsonTextField(
        label=gettext_lazy("Value"),
        max_length=VALUE_BYTES_MAX,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=gettext_lazy('As JSON: 0.8, “PT30M” in straight double quotes, ["a", "b"], {"a": 1}.'),
    )
    reason = reason_field()
    fields_of_params = {"value": "new_value"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.initial["new_value"] = json.dumps(self.instance.value, indent=2, ensure_ascii=False)


@admin.register(SettingValue)
class SettingValueAdmin(TenantAdmin):
    """Operators set values for everybody and for tenants, administrators for their organizations.

    What is set for everybody or for a tenant is seen by all whom it concerns.
    """

    verbs = ("view", "add", "change", "delete")
    form = SettingForm
    list_display = ("key_shown", "value_shown", "holds_for", "updated")
    list_select_related = ("tenant", "organization")
    list_filter = (OrganizationFilter, "scope")
    search_fields = ("key", "user", "organization__name", "tenant__name")
    search_help_text = gettext_lazy("Setting, organization, tenant or user")
    ordering = ("key", "scope", "organization__name", "user")
    list_after_template = "admin/registry/keys.html"
    actions_detail = ("remove",)

    # --- What is shown

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = SettingValue.objects.order_by(*self.ordering)
        if person(request).is_superuser:
            return rows
        mine = self.organizations(request)
        return rows.filter(
            Q(scope=ScopeChoice.GLOBAL) | Q(tenant__in=mine.values("tenant")) | Q(organization__in=mine)
        )

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        shared = isinstance(obj, SettingValue) and obj.organization_id is None
        return super().has_view_permission(request, None if shared else obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        keys = [
            {
                "name": name,
                "description": key.description,
                "default": json.dumps(key.default, ensure_ascii=False),
            }
            for name, key in all_keys().items()
        ]
        return super().changelist_view(request, {**(extra_context or {}), "setting_keys": keys})

    def get_fieldsets(self, request: HttpRequest, obj: SettingValue | None = None) -> Any:
        if obj is None:
            subject = (
                ("tenant", "organization", "user")
                if person(request).is_superuser
                else ("organization", "user")
            )
            return [(None, {"fields": ("key", "scope", *subject, "new_value", "reason")})]
        known = ("key", "description", "default", "scope", "subject", "updated_at", "updated_by")
        if self.has_change_permission(request, obj):
            return [(None, {"fields": known}), (_("Value"), {"fields": ("new_value", "reason")})]
        return [(None, {"fields": (*known, "value_block")})]

    def get_readonly_fields(self, request: HttpRequest, obj: SettingValue | None = None) -> Any:
        known = (
            "key",
            "description",
            "default",
            "scope",
            "subject",
            "updated_at",
            "updated_by",
            "value_block",
        )
        return () if obj is None else known

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"scope": ScopeChoice.ORGANIZATION.value, **super().get_changeform_initial_data(request)}

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "scope" and not person(request).is_superuser:
            kwargs["choices"] = [(s.value, s.label) for s in (ScopeChoice.ORGANIZATION, ScopeChoice.USER)]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    @exported("key", (gettext_lazy("meaning"), lambda setting: str(_of_key(setting, "description") or "")))
    @admin.display(description=gettext_lazy("setting"), ordering="key")
    def key_shown(self, setting: SettingValue) -> str:
        return two_lines(setting.key, self.description(setting))

    @exported("value")
    @admin.display(description=gettext_lazy("value"))
    def value_shown(self, setting: SettingValue) -> str:
        return long_text(json.dumps(setting.value, ensure_ascii=False))

    @exported("scope", "tenant", "organization", "user")
    @admin.display(description=gettext_lazy("holds for"))
    def holds_for(self, setting: SettingValue) -> str:
        of = "" if setting.scope == ScopeChoice.GLOBAL else self.subject(setting)
        return two_lines(setting.get_scope_display(), of)

    @exported("updated_at", "updated_by")
    @admin.display(description=gettext_lazy("changed"), ordering="updated_at")
    def updated(self, setting: SettingValue) -> str:
        return when_and_who(setting.updated_at, setting.updated_by)

    @admin.display(description=gettext_lazy("value"))
    def value_block(self, setting: SettingValue) -> str:
        return json_block(setting.value)

    @admin.display(description=gettext_lazy("of"))
    def subject(self, setting: SettingValue) -> str:
        home = setting.organization or setting.tenant or ""
        return f"{home} · {setting.user}" if setting.user else str(home) or "–"

    @admin.display(description=gettext_lazy("meaning"))
    def description(self, setting: SettingValue) -> str:
        return str(_of_key(setting, "description") or "–")

    @admin.display(description=gettext_lazy("default"))
    def default(self, setting: SettingValue) -> str:
        return json.dumps(_of_key(setting, "default"), ensure_ascii=False)

    # --- What is written

    def save_model(self, request: HttpRequest, obj: SettingValue, form: Any, change: bool) -> None:
        given = form.cleaned_data
        subject = _subject(obj) if change else _given_subject(given)
        if not change:
            self._check_home(request, subject["organization"])
        try:
            set_value(**subject, value=given["new_value"], acting=person(request), reason=given["reason"])
        except SecondPersonNeeded as needed:
            if needed.ask is None:
                raise
            obj.asked = needed.ask()  # type: ignore[attr-defined]
        else:
            obj.pk = SettingValue.objects.get(**subject).pk

    def said(self, obj: SettingValue) -> str:
        """Where it takes a second person: what has been asked for."""
        return getattr(obj, "asked", "") or super().said(obj)

    def _check_home(self, request: HttpRequest, organization: Organization | None) -> None:
        """Tenants and everybody are the operators' affair; the form offers no others' organizations."""
        if organization is None and not person(request).is_superuser:
            raise ValidationError({"organization": _("Please choose an organization.")})

    @button(title=gettext_lazy("Remove"), path="remove", permission="remove", danger=True)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(setting: SettingValue, why: Why) -> str:
            remove_value(**_subject(setting), **why)
            return _("Removed: %(setting)s.") % {"setting": setting}

        return self.reason_page(
            request,
            object_id,
            "delete",
            act,
            title=_("Remove %(row)s"),
            note=_("The value of the next wider scope applies then, or the default."),
            button=_("Remove"),
            danger=True,
        )


def _subject(setting: SettingValue) -> dict[str, Any]:
    return {
        "key": setting.key,
        "scope": setting.scope,
        "tenant": setting.tenant,
        "organization": setting.organization,
        "user": setting.user,
    }


def _given_subject(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": given["key"],
        "scope": given["scope"],
        "tenant": given.get("tenant"),
        "organization": given["organization"],
        "user": given["user"],
    }


def _of_key(setting: SettingValue, attribute: str) -> Any:
    """What the key says of itself; nothing where a release has dropped it."""
    try:
        return getattr(find(setting.key), attribute)
    except UnknownKey:
        return None
