"""What every page of the admin has in common: whose rows it shows, and how it writes.

A person sees the rows of those organizations in which one of their roles may see that kind of row, and
operators see all (`TenantAdmin.get_queryset`); choices and filters offer no others. A list can be narrowed
by its own filters alone, so that nothing can be guessed from what it does not show.

Nothing is written by Django's forms. A form collects what one of the rooms' verbs needs; what the verb
refuses stands at the form's field. The audit trail, which the verbs write, is the only history; so
Django's own log of the admin is kept empty.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import DateFieldListFilter, ShowFacets, SimpleListFilter
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import ForeignKey, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget

from aigov.errors import GatewayError
from aigov.money import euro_for_people, exact_euro_for_people
from aigov.organizations.list_files import ListFiles
from aigov.organizations.lists import NOTHING as NOTHING
from aigov.organizations.lists import Rows
from aigov.organizations.models import Organization, User
from aigov.organizations.permissions import organizations_where, roles_with

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as _ModelAdmin
    from django.contrib.admin.views.main import ChangeList

    ModelAdmin = _ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

ROWS_PER_PAGE = 50
FILTER_CHOICES_MAX = 200
REASON_CHARACTERS_MAX = 1_000
CELL_CHARACTERS_MAX = 120

Refusal = GatewayError | ValidationError


class Why(TypedDict):
    """Who does something, and why: what each verb that is audited needs to know."""

    acting: User
    reason: str


def person(request: HttpRequest) -> User:
    """Who has logged in."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def euro(amount: Decimal | None, *, places: int = 2) -> str:
    """`amount` for people, in the language's way of writing it; a dash where there is none."""
    if amount is None:
        return NOTHING
    rounded = amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    return (
        f"{number_format(rounded, decimal_pos=places, use_l10n=True, force_grouping=True)}\N{NO-BREAK SPACE}€"
    )


def euro_cell(amount: Decimal | None) -> SafeString | str:
    """`amount` in as many digits as readers need, all of them in its tooltip; a dash where there is none."""
    if amount is None:
        return NOTHING
    return format_html('<span title="{}">{}</span>', exact_euro_for_people(amount), euro_for_people(amount))


def count(number: int | None) -> str:
    """A count of tokens or rows for people."""
    return NOTHING if number is None else number_format(number, use_l10n=True, force_grouping=True)


def instant(at: datetime | None) -> str:
    """An instant for people, to the second, in the time zone of the pages."""
    return date_format(localtime(at), gettext("j M Y, H:i:s")) if at else NOTHING


def two_lines(first: Any, second: Any) -> SafeString:
    """A cell of a list: what it is, and beneath it, smaller, what belongs to it."""
    return format_html(
        '<span class="two-lines"><span class="anywhere block">{}</span>'
        '<span class="anywhere block text-subtle text-xs">{}</span></span>',
        first,
        second or "",
    )


def when_and_who(at: datetime, who: str) -> SafeString:
    """A cell of a list: an instant, and beneath it who did something then."""
    day_and_time = date_format(localtime(at), "DATETIME_FORMAT")
    return two_lines(format_html('<span class="nowrap">{}</span>', day_and_time), who)


def long_text(text: str) -> SafeString:
    """A text of any length in a cell of a list; the row's own page has the whole of it."""
    return format_html('<span class="anywhere block">{}</span>', Truncator(text).chars(CELL_CHARACTERS_MAX))


def json_block(value: Any) -> SafeString | str:
    """A JSON value for people, over as many lines as it needs."""
    if value is None or value == {}:
        return NOTHING
    return format_html('<pre class="json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def facts_table(titles: Iterable[Any], rows: Iterable[Iterable[Any]]) -> SafeString:
    """A small table on a row's own page."""
    head = format_html_join("", "<th>{}</th>", ((title,) for title in titles))
    lines = ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    body = format_html_join("", "<tr>{}</tr>", lines)
    return format_html('<table class="facts"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)


def button(*, title: Any, path: str, permission: str, danger: bool = False) -> Callable[[View], View]:
    """Makes a method the page behind a button, for those of whom `has_…_permission` says so."""
    variant = ActionVariant.DANGER if danger else ActionVariant.DEFAULT

    def decorate(view: View) -> View:
        decorated: View = action(description=title, url_path=path, permissions=[permission], variant=variant)(
            view
        )
        return decorated

    return decorate


class TenantAdmin(ListFiles, ModelAdmin):
    """The admin of rows that belong to organizations.

    A class says which `verbs` exist for its rows at all (of view, add, change); which of them a person has is
    for `aigov.organizations.permissions` to say. Nothing is deleted in Django's way.
    """

    #: The look-up from a row to its organization; None where the rows belong to no organization.
    organization_lookup: ClassVar[str | None] = "organization"
    verbs: ClassVar[tuple[str, ...]] = ("view",)
    actions = None
    list_per_page = ROWS_PER_PAGE
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_filter_sheet = False
    view_on_site = False
    compressed_fields = True
    empty_value_display = NOTHING

    # --- Whose rows

    def organizations(self, request: HttpRequest, verb: str = "view") -> QuerySet[Organization]:
        """Those in which a role of the person who asks may do `verb` with this kind of row."""
        return organizations_where(person(request), roles_with(verb, self.opts.label_lower))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if self.organization_lookup is None or person(request).is_superuser:
            return rows
        return rows.filter(**{f"{self.organization_lookup}__in": self.organizations(request)})

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.related_model is Organization:
            kwargs["queryset"] = self.organizations(request, "add").order_by("name")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Without Django's buttons to add or change the other row from here."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        filters: Iterable[Any] = self.get_list_filter(request)
        named = {filter_[0] if isinstance(filter_, tuple) else filter_ for filter_ in filters}
        fields = {name for name in named if isinstance(name, str)} | {self.date_hierarchy}
        own = {filter_.parameter_name for filter_ in named if not isinstance(filter_, str)}
        return lookup in own or lookup.partition("__")[0] in fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> "type[ChangeList]":
        return Rows

    # --- Who may do what

    def may(self, request: HttpRequest, verb: str, obj: Model | None = None) -> bool:
        """Whether the person who asks may do `verb` with `obj`, or with any row."""
        if verb not in self.verbs:
            return False
        name = f"{self.opts.app_label}.{get_permission_codename(verb, self.opts)}"
        return person(request).has_perm(name, obj if self.organization_lookup else None)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return isinstance(request.user, User) and self.may(request, "view", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "add")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- How it writes

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Shows the page again, with the refusal at its field, where the verb has refused."""
        context = {"show_save_and_continue": False, "show_save_and_add_another": False}
        context.update(extra_context or {})
        try:
            return super().changeform_view(request, object_id, form_url, context)
        except (GatewayError, ValidationError) as refusal:
            request.refusal = refusal  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        shown = flatten_fieldsets(self.get_fieldsets(request, obj))
        # A field that the page does not show is taken out; otherwise it would be asked for.
        attributes = dict.fromkeys(name for name in form.declared_fields if name not in shown)
        return type(form.__name__, (form,), {**attributes, "refusal": getattr(request, "refusal", None)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Calls the room's verb; what it refuses is raised."""
        raise PermissionDenied

    def said(self, obj: Any) -> str:
        """What has been done, in a sentence for the person who did it."""
        return str(_("Saved: %(thing)s.") % {"thing": obj})

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:
        self.message_user(request, self.said(obj), messages.SUCCESS)
        return self.response_post_save_add(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> Any:
        self.message_user(request, self.said(obj), messages.SUCCESS)
        return self.response_post_save_change(request, obj)

    def form_page(
        self,
        request: HttpRequest,
        form_class: type[forms.Form],
        *,
        title: str,
        note: str,
        button: str,
        act: Callable[[Mapping[str, Any]], str],
        danger: bool = False,
        done: str = "",
    ) -> HttpResponse:
        """A page with a form whose button calls `act` with what was filled in; it returns what it did."""
        return form_page(
            request,
            form_class,
            title=title,
            note=note,
            button=button,
            act=act,
            danger=danger,
            back=self.list_address(),
            done=done,
            opts=self.opts,
        )

    def reason_page(
        self,
        request: HttpRequest,
        object_id: str,
        verb: str,
        act: Callable[[Any, "Why"], str],
        *,
        title: str,
        note: str,
        button: str,
        danger: bool = False,
    ) -> HttpResponse:
        """A page that asks why, and then calls `act` with the row and that; it returns what it did.

        Args:
            verb: what the person who asks must be allowed to do with the row.
            title: names the row as `%(row)s`.

        Raises:
            PermissionDenied: they may not, or there is no such row.
        """
        row = self.one(request, object_id, verb)
        return self.form_page(
            request,
            ReasonForm,
            title=title % {"row": row},
            note=note,
            button=button,
            act=lambda given: act(row, {"acting": person(request), "reason": given["reason"]}),
            danger=danger,
        )

    def has_remove_permission(self, request: HttpRequest, object_id: str) -> bool:
        """For the button of those who have one."""
        row = self.get_object(request, object_id)
        return row is not None and self.may(request, "delete", row)

    def one(self, request: HttpRequest, object_id: str, verb: str) -> Any:
        """The row of that id, with which the person who asks may do `verb`; raises `PermissionDenied`."""
        obj = self.get_object(request, object_id)
        if obj is None or not self.may(request, verb, obj):
            raise PermissionDenied
        return obj

    # --- No second history beside the audit trail

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None


def form_page(
    request: HttpRequest,
    form_class: type[forms.Form],
    *,
    title: str,
    note: str,
    button: str,
    act: Callable[[Mapping[str, Any]], str],
    back: str,
    done: str = "",
    danger: bool = False,
    opts: Any = None,
    place: str = "",
) -> HttpResponse:
    """A page with a form whose button calls `act` with what was filled in; it returns what it did.

    Args:
        back: the address to go to without doing it, and, if there is no other (`done`), when it is done.
        opts: of the model that the page belongs to; if to none, `place` is where people are.
    """
    form = form_class(request.POST, request.FILES) if request.method == "POST" else form_class()
    if form.is_valid():
        try:
            said = act(form.cleaned_data)
        except (GatewayError, ValidationError) as refusal:
            show_refusal(form, refusal)
        else:
            messages.success(request, said)
            return redirect(done or back)
    context = {
        **admin.site.each_context(request),
        **{"title": title, "content_title": place, "note": note, "button": button, "opts": opts},
        **{"page_form": form, "button_variant": "danger" if danger else "primary", "back": back},
    }
    return TemplateResponse(request, "admin/form_page.html", context)


def show_refusal(form: forms.BaseForm, refusal: Refusal) -> None:
    """Puts what a verb refused at the field that it names, or above the form."""
    if isinstance(refusal, GatewayError):
        _show_at(form, refusal.param or "", refusal.message)
    elif hasattr(refusal, "error_dict"):
        for field, texts in refusal.message_dict.items():
            _show_at(form, field, " ".join(texts))
    else:
        form.add_error(None, refusal)


def _show_at(form: forms.BaseForm, param: str, message: str) -> None:
    """`param` is the name of a field, or the path in its value, which then stands in the message."""
    name = param.partition(".")[0].partition("[")[0]
    field = getattr(form, "fields_of_params", {}).get(name, name)
    if param != name and not message.startswith(param):
        message = f"{param}: {message}"
    form.add_error(field if field in form.fields else None, message)


def reason_field(*, required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=_("Reason") if required else _("Reason (optional)"),
        required=required,
        max_length=REASON_CHARACTERS_MAX,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Stands in the audit trail."),
        error_messages={"required": _("Please give a reason for the change.")},
    )


class VerbForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose saving is a verb's affair; shows what the verb refused."""

    refusal: ClassVar[Refusal | None] = None
    #: The form's name of a verb's argument, where it is another one.
    fields_of_params: ClassVar[Mapping[str, str]] = {}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.refusal is not None:
            show_refusal(self, self.refusal)
        return cleaned


class ReasonForm(forms.Form):
    reason = reason_field()


class DateFilter(DateFieldListFilter):
    """Today, the last week, this month, this year: without a query, which `date_hierarchy` takes long for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("date")


class OrganizationFilter(SimpleListFilter):
    """Offers the organizations that the person who asks may see there."""

    title = _("organization")
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = model_admin.organizations(request).order_by("name").values_list("pk", "name")
        return [(str(pk), name) for pk, name in found[:FILTER_CHOICES_MAX]]

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return queryset.filter(organization=int(chosen)) if is_id(chosen) else queryset.none()


def is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
