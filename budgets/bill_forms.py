"""What can be done on the pages of the providers' bills: read, import, post, accept."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldBooleanWidget,
)

from aigov import clock
from aigov.errors import BadRequest, GatewayError
from aigov.money import exact_euro_for_people, usd_for_people
from aigov.organizations.tenant_admin import (
    ReasonForm,
    form_page,
    person,
    reason_field,
    show_refusal,
)
from budgets.admin_months import month_text
from budgets.bill_files import FILE_BYTES_MAX, BillFile
from budgets.bill_pages import CHANGE, address_of, check, month_in, page, usd_cell
from budgets.bills import (
    DayChange,
    changes_of,
    import_file,
    import_from_provider,
    importable_days,
    keep_file,
    waiting_file,
)
from budgets.differences import Share, accept_difference, choices_of, post_difference
from budgets.doubts import doubts
from providers.billing import can_read
from providers.errors import ProviderError
from providers.models import ProviderName

ERRORS_SHOWN = 50
DAYS_SHOWN = 100


# --- Read from the providers


class ProvidersForm(forms.Form):
    providers = forms.MultipleChoiceField(
        label=gettext_lazy("Provider"), widget=UnfoldAdminCheckboxSelectMultipleWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(name, label) for name, label in ProviderName.choices if can_read(name)]
        self.fields["providers"].choices = choices  # type: ignore[attr-defined]
        self.initial["providers"] = [name for name, _label in choices]


def read_page(request: HttpRequest, month: str) -> HttpResponse:
    """Reads the month's bill from the providers whose admin key is set."""
    check(request, CHANGE)
    first = month_in(month)
    days = importable_days(clock.now().date(), first)
    if days is None or not any(map(can_read, ProviderName.values)):
        raise Http404

    def act(given: Mapping[str, Any]) -> str:
        new = 0
        for provider in given["providers"]:
            try:
                new += len(
                    import_from_provider(
                        provider=provider, first=days[0], last=days[1], acting=person(request)
                    )
                )
            except ProviderError as error:
                raise BadRequest(_read_failure(error), param="providers") from error
        return imported_words(new)

    return form_page(
        request,
        ProvidersForm,
        title=_("Read the bill of %(month)s") % {"month": month_text(first)},
        note=_("The days of this month, as the providers bill them now, replace what was known of them."),
        button=_("Read the bill"),
        act=act,
        back=address_of(first),
        place=_("Reconciliation"),
    )


def _read_failure(error: ProviderError) -> str:
    label = ProviderName(error.provider).label
    if error.kind == "bad_credentials":
        return _("%(provider)s refuses our admin key.") % {"provider": label}
    return _("The bill of %(provider)s cannot be had at present: %(why)s.") % {
        "provider": label,
        "why": error.message,
    }


def imported_words(new: int) -> str:
    if not new:
        return _("Nothing is new on the bill.")
    return ngettext("%(count)d day is new or changed.", "%(count)d days are new or changed.", new) % {
        "count": new
    }


# --- From a file


class FileForm(forms.Form):
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy(
            "OpenAI's export of costs, Anthropic's cost export, or a table with the columns provider, day,"
            " model and amount_usd."
        ),
    )


def file_page(request: HttpRequest) -> HttpResponse:
    """Takes a file; what it would change is shown on the next page, before anything is imported."""
    check(request, CHANGE)
    form = FileForm(request.POST, request.FILES) if request.method == "POST" else FileForm()
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            kept = keep_file(name=file.name, content=file.read(FILE_BYTES_MAX + 1), acting=person(request))
        except GatewayError as refusal:
            show_refusal(form, refusal)
        else:
            return redirect("reconciliation-confirm", kept.pk)
    return page(
        request,
        "../../form_page.html",
        _("Import a bill from a file"),
        note=_("Nothing is imported before you have seen what the file would change."),
        page_form=form,
        button=_("Look at it"),
        button_variant="primary",
        back=reverse("reconciliation"),
    )


class ConfirmForm(forms.Form):
    without_errors = forms.BooleanField(
        label=gettext_lazy("Leave out the rows that cannot be read"),
        required=False,
        widget=UnfoldBooleanWidget,
    )
    reason = reason_field(required=False)


def confirm_page(request: HttpRequest, import_id: int) -> HttpResponse:
    """Shows what a file would change, day by day, and which of its rows cannot be read; imports it."""
    check(request, CHANGE)
    found = waiting_file(import_id)
    if found is None:
        raise Http404
    kept, said = found
    form = ConfirmForm(request.POST) if request.method == "POST" else ConfirmForm()
    if not said.errors:
        del form.fields["without_errors"]
    if request.method == "POST" and form.is_valid():
        try:
            new = import_file(
                import_id=import_id,
                without_errors=bool(form.cleaned_data.get("without_errors")),
                acting=person(request),
                reason=form.cleaned_data["reason"],
            )
        except GatewayError as refusal:
            show_refusal(form, refusal)
        else:
            messages.success(request, imported_words(len(new)))
            return redirect(address_of(_last_month(said)))
    changes = changes_of(said.lines)
    return page(
        request,
        "confirm.html",
        _("Import %(file)s") % {"file": kept},
        page_form=form,
        format=said.format,
        days=[_change_row(change) for change in changes[:DAYS_SHOWN]],
        days_count=len(changes),
        sum=usd_for_people(sum((change.after_usd for change in changes), start=changes[0].after_usd * 0))
        if changes
        else "",
        bad_rows=said.errors[:ERRORS_SHOWN],
        bad_rows_count=len(said.errors),
        back=reverse("reconciliation"),
    )


def _last_month(said: BillFile) -> date:
    return max((line.day for line in said.lines), default=clock.now().date()).replace(day=1)


def _change_row(change: DayChange) -> dict[str, Any]:
    known = change.before_usd
    return {
        "day": date_format(change.day, "DATE_FORMAT"),
        "provider": ProviderName(change.provider).label,
        "before": "" if known is None else usd_cell(known),
        "after": usd_cell(change.after_usd),
        "is_changed": known is not None and known != change.after_usd,
    }


# --- A difference


def accept_page(request: HttpRequest, month: str, provider: str) -> HttpResponse:
    check(request, CHANGE)
    first, label = month_in(month), _label(provider)

    def act(given: Mapping[str, Any]) -> str:
        accepted = accept_difference(
            month=first, provider=provider, reason=given["reason"], acting=person(request)
        )
        return _("Accepted: a difference of %(amount)s.") % {"amount": usd_for_people(accepted.amount_usd)}

    return form_page(
        request,
        ReasonForm,
        title=_("Accept the difference of %(provider)s, %(month)s")
        % {"provider": label, "month": month_text(first)},
        note=_(
            "The ledger stays as it is. If the bill changes later, what is beyond this difference is open"
            " again."
        ),
        button=_("Accept as it is"),
        act=act,
        back=address_of(first, provider),
        place=_("Reconciliation"),
    )


class PostForm(forms.Form):
    """Which difference is posted: a model's own, or that of all models in one sum (empty)."""

    model = forms.ChoiceField(
        label=gettext_lazy("Which difference"),
        required=False,
        widget=UnfoldAdminRadioSelectWidget,
        help_text=gettext_lazy(
            "Posted for all models in one sum, the provider's month agrees, but each model goes on differing."
        ),
    )
    reason = reason_field()

    def __init__(self, *args: Any, shares: Mapping[str, Sequence[Share]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = [model for model in shares if model]
        fields: dict[str, Any] = self.fields
        fields["model"].choices = [(model, _posted_words(model)) for model in shares]
        self.initial["model"] = models[0] if len(models) == 1 or "" not in shares else ""


def _posted_words(model: str) -> str:
    return _("%(model)s alone") % {"model": model} if model else _("All models in one sum")


def post_page(request: HttpRequest, month: str, provider: str) -> HttpResponse:
    """Shows what each organization would bear of the difference, and asks for the corrections."""
    check(request, CHANGE)
    first, label = month_in(month), _label(provider)
    try:
        shares = choices_of(first, provider)
        form = PostForm(request.POST if request.method == "POST" else None, shares=shares)
        if request.method == "POST" and form.is_valid():
            asked = post_difference(
                month=first, provider=provider, acting=person(request), **form.cleaned_data
            )
            messages.success(request, _asked_words(len(asked)))
            for doubt in (doubt for one in asked for doubt in doubts(one)):
                messages.warning(request, doubt)
            return redirect(address_of(first, provider))
    except GatewayError as refusal:
        messages.error(request, refusal.message)
        return redirect(address_of(first, provider))
    return page(
        request,
        "post.html",
        _("Post the difference of %(provider)s, %(month)s") % {"provider": label, "month": month_text(first)},
        page_form=form,
        shares=[
            (_posted_words(model), one.organization, exact_euro_for_people(one.amount_eur))
            for model, borne in shares.items()
            for one in borne
        ],
        back=address_of(first, provider),
    )


def _asked_words(number: int) -> str:
    return ngettext(
        "%(count)d correction waits for a second person.",
        "%(count)d corrections wait for a second person.",
        number,
    ) % {"count": number}


def _label(provider: str) -> str:
    if provider not in ProviderName.values:
        raise Http404
    return str(ProviderName(provider).label)
