"""Organizations, people, API keys and the audit trail in the admin."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import Model, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminSelectWidget,
)

from aigov import clock
from aigov.organizations import changes
from aigov.organizations.audit_words import action_words, difference, facts_changed, value_words
from aigov.organizations.create import create_organization
from aigov.organizations.keys import create_api_key, revoke_api_key
from aigov.organizations.lists import exported
from aigov.organizations.models import ApiKey, AuditEntry, Member, Organization, Scope, Tenant, User
from aigov.organizations.passwords import said_sent, send_password_link
from aigov.organizations.tenant_admin import (
    DateFilter,
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

# Roles say what people may do (`aigov.organizations.permissions`); Django's groups mean nothing here.
admin.site.unregister(Group)
admin.site.index_title = gettext_lazy("Overview")


# --- Tenants and organizations


@admin.register(Tenant)
class TenantsAdmin(TenantAdmin):
    organization_lookup = None
    verbs = ("view", "add")
    form = VerbForm
    fields = ("name",)
    list_display = ("name", "created_at")
    search_fields = ("name",)
    ordering = ("name",)

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        obj.pk = changes.create_tenant(name=form.cleaned_data["name"], acting=person(request)).pk


class OrganizationForm(VerbForm):
    tenant = forms.ModelChoiceField(
        Tenant.objects.order_by("name"),
        label=gettext_lazy("Tenant"),
        required=False,
        widget=UnfoldAdminSelectWidget,
        empty_label=gettext_lazy("a new one of the same name"),
        help_text=gettext_lazy("Organizations of one tenant share its settings."),
    )
    reason = reason_field(required=False)


@admin.register(Organization)
class OrganizationAdmin(TenantAdmin):
    organization_lookup = "pk"
    verbs = ("view", "add", "change")
    form = OrganizationForm
    list_display = ("name", "tenant", "time_zone", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__name")
    search_help_text = gettext_lazy("Organization or tenant")
    ordering = ("name",)

    def get_fields(self, request: HttpRequest, obj: Organization | None = None) -> Any:
        if obj is None:
            return ("name", "tenant", "time_zone")
        shown = ("name", "tenant", "time_zone", "currency", "created_at")
        return (*shown, "reason") if self.has_change_permission(request, obj) else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Organization | None = None) -> Any:
        return () if obj is None else ("tenant", "currency", "created_at")

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        given = form.cleaned_data
        if change:
            changes.change_organization(
                organization=obj,
                name=given["name"],
                time_zone=given["time_zone"],
                acting=person(request),
                reason=given["reason"],
            )
            return
        obj.pk = create_organization(
            name=given["name"],
            tenant=given["tenant"] and given["tenant"].name,
            time_zone=given["time_zone"],
            acting=person(request),
        ).pk


# --- People

SEND_LINK = gettext_lazy("Send a link for a password")


def link_page(
    page: TenantAdmin, request: HttpRequest, object_id: str, act: Callable[[Any, Why], str]
) -> HttpResponse:
    return page.reason_page(
        request,
        object_id,
        "change",
        act,
        title=_("Send %(row)s a link for a password"),
        note=_(
            "The person gets an e-mail with a link, by which they set their own password; nobody else sees"
            " it. Until then, the present password holds."
        ),
        button=_("Send the link"),
    )


class MemberForm(VerbForm):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        widget=UnfoldAdminEmailInputWidget,
        help_text=gettext_lazy("Who is new gets a link by e-mail to set their own password."),
    )
    reason = reason_field()


@admin.register(Member)
class MemberAdmin(TenantAdmin):
    verbs = ("view", "add", "change", "delete")
    form = MemberForm
    list_display = ("who", "organization", "role")
    list_select_related = ("user", "organization")
    list_filter = (OrganizationFilter, "role")
    search_fields = ("user__email", "user__name", "organization__name")
    search_help_text = gettext_lazy("Name, e-mail or organization")
    ordering = ("organization__name", "user__email")
    actions_detail = ("send_link", "remove")

    @exported("user__name", "user__email")
    @admin.display(description=gettext_lazy("person"), ordering="user__email")
    def who(self, member: Member) -> str:
        return two_lines(member.user, member.user.email if member.user.name else "")

    def get_fields(self, request: HttpRequest, obj: Member | None = None) -> Any:
        if obj is None:
            return ("organization", "email", "role")
        shown = ("user", "organization", "role")
        return (*shown, "reason") if self.has_change_permission(request, obj) else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Member | None = None) -> Any:
        return () if obj is None else ("user", "organization")

    def save_model(self, request: HttpRequest, obj: Member, form: Any, change: bool) -> None:
        role = form.cleaned_data["role"]
        if change:
            reason = form.cleaned_data["reason"]
            changes.change_role(member=obj, role=role, acting=person(request), reason=reason)
            return
        email, organization = form.cleaned_data["email"], form.cleaned_data["organization"]
        member = changes.add_member(organization=organization, email=email, role=role, acting=person(request))
        obj.pk, obj.user = member.pk, member.user
        if not member.user.has_usable_password():
            self.message_user(request, said_sent(member.user), messages.INFO)

    def has_send_link_permission(self, request: HttpRequest, object_id: str) -> bool:
        row = self.get_object(request, object_id)
        return row is not None and self.has_change_permission(request, row)

    @button(title=SEND_LINK, path="send-link", permission="send_link")
    def send_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(member: Member, why: Why) -> str:
            send_password_link(user=member.user, organization=member.organization, **why)
            return said_sent(member.user)

        return link_page(self, request, object_id, act)

    @button(title=gettext_lazy("Remove"), path="remove", permission="remove", danger=True)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(member: Member, why: Why) -> str:
            changes.remove_member(member=member, **why)
            return _("Removed: %(member)s.") % {"member": member}

        return self.reason_page(
            request,
            object_id,
            "delete",
            act,
            title=_("Remove %(row)s"),
            note=_("The person remains, but has no role in this organization any more."),
            button=_("Remove"),
            danger=True,
        )


class UserForm(VerbForm):
    reason = reason_field()


@admin.register(User)
class UserAdmin(TenantAdmin):
    """People come into being as members; operators by `manage.py create_user`."""

    organization_lookup = None
    verbs = ("view", "change")
    form = UserForm
    list_display = ("email", "name", "roles", "is_active", "last_login")
    list_filter = ("is_active",)
    search_fields = ("email", "name")
    search_help_text = gettext_lazy("Name or e-mail")
    ordering = ("email",)
    readonly_fields = ("email", "roles", "last_login", "date_joined")
    actions_detail = ("send_link",)

    def get_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        shown = ("email", "name", "language", "roles", "is_active", "last_login", "date_joined")
        return (*shown, "reason") if self.has_change_permission(request, obj) else shown

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        visible = Member.objects.filter(organization__in=self.organizations(request))
        people = super().get_queryset(request)
        if not person(request).is_superuser:
            people = people.filter(pk__in=visible.values("user"))
        memberships = visible.select_related("organization").order_by("organization__name")
        return people.prefetch_related(Prefetch("memberships", memberships, to_attr="visible_memberships"))

    @admin.display(description=gettext_lazy("roles"))
    def roles(self, user: Any) -> str:
        if user.is_superuser:
            return _("operator")
        return ", ".join(
            f"{member.organization}: {member.get_role_display()}" for member in user.visible_memberships
        )

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        changes.change_user(
            user=obj,
            name=form.cleaned_data["name"],
            is_active=form.cleaned_data["is_active"],
            language=form.cleaned_data["language"],
            acting=person(request),
            reason=form.cleaned_data["reason"],
        )

    def has_send_link_permission(self, request: HttpRequest, object_id: str) -> bool:
        return self.has_change_permission(request)

    @button(title=SEND_LINK, path="send-link", permission="send_link")
    def send_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(user: User, why: Why) -> str:
            send_password_link(user=user, **why)
            return said_sent(user)

        return link_page(self, request, object_id, act)


# --- API keys

KEY_STATES = {
    "in force": gettext_lazy("in force"),
    "expired": gettext_lazy("expired"),
    "revoked": gettext_lazy("revoked"),
}


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= clock.now() else "in force"


class KeyStateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, str(words)) for state, words in KEY_STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        expired = Q(expires_at__isnull=False, expires_at__lte=clock.now())
        revoked = Q(revoked_at__isnull=False)
        rows_of = {"in force": ~revoked & ~expired, "expired": ~revoked & expired, "revoked": revoked}
        return queryset.filter(rows_of.get(self.value() or "", Q()))


class ApiKeyForm(VerbForm):
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Opens"), choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )


@admin.register(ApiKey)
class ApiKeyAdmin(TenantAdmin):
    """A key is made and revoked; it is neither changed nor deleted."""

    verbs = ("view", "add", "change")
    form = ApiKeyForm
    list_display = ("name_and_key", "organization", "state", "created_at", "expires_at")
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter, KeyStateFilter)
    search_fields = ("name", "key_id", "organization__name")
    search_help_text = gettext_lazy("Name, key or organization")
    ordering = ("-created_at",)
    add_fieldsets = ((None, {"fields": ("organization", "name", "scopes", "expires_at")}),)
    fields = (
        *("name", "public_part", "organization", "state_shown", "opened"),
        *("created_at", "created_by", "expires_at", "revoked_at"),
    )
    readonly_fields = ("public_part", "state_shown", "opened", "created_at", "created_by", "revoked_at")
    actions_detail = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("secret_hmac")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @exported("name", (gettext_lazy("key"), lambda key: f"aig_{key.key_id}…"))
    @admin.display(description=gettext_lazy("name"), ordering="name")
    def name_and_key(self, key: ApiKey) -> str:
        return two_lines(key.name, self.public_part(key))

    @admin.display(description=gettext_lazy("key"))
    def public_part(self, key: ApiKey) -> str:
        return f"aig_{key.key_id}…"

    @exported((gettext_lazy("state"), lambda key: str(KEY_STATES[_state(key)])))
    @display(  # type: ignore[untyped-decorator]
        description=gettext_lazy("state"),
        label={"in force": "success", "expired": "warning", "revoked": "danger"},
    )
    def state(self, key: ApiKey) -> tuple[str, str]:
        state = _state(key)
        return state, str(KEY_STATES[state])

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, key: ApiKey) -> str:
        return str(KEY_STATES[_state(key)])

    @admin.display(description=gettext_lazy("opens"))
    def opened(self, key: ApiKey) -> str:
        return "\n".join(f"{scope}: {Scope(scope).label}" for scope in key.scopes)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        given = form.cleaned_data
        key, token = create_api_key(
            organization=given["organization"],
            name=given["name"],
            scopes=given["scopes"],
            expires_at=given["expires_at"],
            acting=person(request),
        )
        obj.pk, obj.key_id = key.pk, key.key_id
        text = _("The new key: %(token)s — keep it now, it is not shown again.") % {"token": token}
        self.message_user(request, text, messages.WARNING)

    def has_revoke_permission(self, request: HttpRequest, object_id: str) -> bool:
        key = self.get_object(request, object_id)
        return key is not None and key.revoked_at is None and self.may(request, "change", key)

    @button(title=gettext_lazy("Revoke"), path="revoke", permission="revoke", danger=True)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(key: ApiKey, why: Why) -> str:
            revoke_api_key(api_key=key, **why)
            return _("Revoked: %(key)s.") % {"key": key}

        return self.reason_page(
            request,
            object_id,
            "change",
            act,
            title=_("Revoke %(row)s"),
            note=_("Whoever uses this key is refused within seconds. This cannot be undone."),
            button=_("Revoke"),
            danger=True,
        )


# --- The audit trail


class SubjectFilter(admin.SimpleListFilter):
    """By what was changed: the first word of the action."""

    title = gettext_lazy("subject")
    parameter_name = "subject"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            *(("budget", _("budgets")), ("setting", _("settings")), ("api_key", _("API keys"))),
            *(("member", _("members")), ("user", _("people")), ("organization", _("organizations"))),
            *(("tenant", _("tenants")), ("price", _("prices")), ("fx_rate", _("exchange rates"))),
            ("provider", _("providers")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(action__startswith=f"{self.value()}.") if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(TenantAdmin):
    list_display = ("who", "what", "before_short", "after_short", "reason_short")
    list_select_related = ("organization",)
    list_filter = (OrganizationFilter, SubjectFilter, ("at", DateFilter))
    search_fields = ("actor", "action", "target", "reason")
    search_help_text = gettext_lazy("Who, what or why")
    ordering = ("-id",)
    sortable_by = ()
    fields = ("at_exact", "actor", "done", "target", "organization", "change_made", "reason")
    readonly_fields = ("at_exact", "done", "change_made")

    @exported("at", "actor")
    @admin.display(description=gettext_lazy("when and who"))
    def who(self, entry: AuditEntry) -> str:
        return when_and_who(entry.at, entry.actor)

    @exported((gettext_lazy("what"), lambda entry: action_words(entry.action)), "target")
    @admin.display(description=gettext_lazy("what"))
    def what(self, entry: AuditEntry) -> str:
        return two_lines(action_words(entry.action), entry.target)

    @exported((gettext_lazy("from"), lambda entry: value_words(difference(entry.before, entry.after))))
    @admin.display(description=gettext_lazy("from"))
    def before_short(self, entry: AuditEntry) -> str:
        return long_text(value_words(difference(entry.before, entry.after)))

    @exported((gettext_lazy("to"), lambda entry: value_words(difference(entry.after, entry.before))))
    @admin.display(description=gettext_lazy("to"))
    def after_short(self, entry: AuditEntry) -> str:
        return long_text(value_words(difference(entry.after, entry.before)))

    @exported("reason")
    @admin.display(description=gettext_lazy("why"))
    def reason_short(self, entry: AuditEntry) -> str:
        return long_text(entry.reason)

    @admin.display(description=gettext_lazy("when"))
    def at_exact(self, entry: AuditEntry) -> str:
        return instant(entry.at)

    @admin.display(description=gettext_lazy("action"))
    def done(self, entry: AuditEntry) -> str:
        return action_words(entry.action)

    @admin.display(description=gettext_lazy("change"))
    def change_made(self, entry: AuditEntry) -> str:
        return facts_table(("", _("from"), _("to")), facts_changed(entry.before, entry.after))
