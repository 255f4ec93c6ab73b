"""The forms with which people change months' caps: one month's own page, and the list of months.

Both carry the cap that the person saw when the page was made, as a hidden field: whoever saves another one
than is in force by then is told so, rather than overwriting it unseen.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, cast

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseModelFormSet, modelformset_factory
from django.utils.formats import get_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextInputWidget

from aigov.money import cap_text
from aigov.organizations.tenant_admin import REASON_CHARACTERS_MAX, VerbForm, reason_field, show_refusal
from budgets.amounts import CapField, parse_amount
from budgets.caps import CapChange, CapChangedMeanwhile, CapRefused
from budgets.models import BudgetAccount

FIELD = "cap_euro"
PREFIX = "caps"
_ID_NAME = re.compile(rf"{PREFIX}-\d+-id", re.ASCII)


class SeenCapField(CapField):
    """A cap, with the one that the person saw beside it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(show_hidden_initial=True, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether the amount is another one; `1,000` in place of `1000.00` is none."""
        return _amount(initial) != _amount(data)


def _amount(text: Any) -> Decimal | str:
    try:
        return parse_amount(
            text or "", point=get_format("DECIMAL_SEPARATOR"), group=get_format("THOUSAND_SEPARATOR")
        )
    except ValueError:
        return text or ""


def seen_cap(form: forms.BaseForm, name: str) -> Decimal | None:
    """The cap that the person saw.

    Raises:
        ValidationError: the page does not say.
    """
    seen = form.data.get(form[name].html_initial_name)
    amount = None if seen is None else _amount(seen)
    if amount == "":
        return None
    if not isinstance(amount, Decimal):
        raise ValidationError(_("Please load the page again: it does not say which cap you have seen."))
    return amount


def show_present_cap(form: forms.BaseForm, name: str, cap_eur: Decimal | None) -> None:
    """From now on the person has seen `cap_eur`; what they have typed stays."""
    text = "" if cap_eur is None else number_format(cap_text(cap_eur), use_l10n=True)
    form.data = form.data.copy()  # type: ignore[attr-defined]
    form.data[form[name].html_initial_name] = text  # type: ignore[index]


# --- One month


class CapForm(VerbForm):
    cap = SeenCapField(
        help_text=gettext_lazy(
            "In euro, for this month alone; in force from the next call on. Calls in flight run on. "
            "A raise that needs a second person is sent as a request."
        )
    )
    reason = reason_field()
    fields_of_params = {"cap_eur": "cap", "amount_eur": "cap"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("cap", self.instance.cap_eur)
        if isinstance(self.refusal, CapRefused) and isinstance(self.refusal.__cause__, CapChangedMeanwhile):
            show_present_cap(self, "cap", self.instance.cap_eur)

    def change(self) -> CapChange:
        """What is to be changed; a form that does not say what was seen goes by what is in force."""
        known = self["cap"].html_initial_name in self.data
        seen = seen_cap(self, "cap") if known else self.instance.cap_eur
        return CapChange(self.instance, seen, self.cleaned_data["cap"])


class AskedCapForm(forms.Form):
    cap = CapField(help_text=gettext_lazy("In euro, for this month alone."))
    reason = reason_field()
    fields_of_params: ClassVar[Mapping[str, str]] = {"amount_eur": "cap"}


# --- The list of months


class CapInList(forms.ModelForm):  # type: ignore[type-arg]
    cap_euro = SeenCapField()

    class Meta:
        model = BudgetAccount
        fields: ClassVar[list[str]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault(FIELD, self.instance.cap_eur)
        self.fields[FIELD].required = self.instance.cap_eur is not None

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if FIELD in self.fields and self.has_changed():
            self.seen_cap_eur = seen_cap(self, FIELD)
        return cleaned

    def change(self) -> CapChange:
        return CapChange(self.instance, self.seen_cap_eur, self.cleaned_data[FIELD])


class ReasonInList(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=REASON_CHARACTERS_MAX,
        widget=UnfoldAdminTextInputWidget(
            attrs={
                **{"placeholder": gettext_lazy("Why the caps are changed"), "autocomplete": "off"},
                # It stands below the list, outside of its form.
                "form": "changelist-form",
            }
        ),
        error_messages={"required": gettext_lazy("Please give a reason for the change.")},
    )


class CapsInList(BaseModelFormSet):  # type: ignore[type-arg]
    """The caps of a list's rows, and one reason for all that are changed."""

    #: Whether the person may change the cap of that account; the others stand there as text.
    may_change: Callable[[BudgetAccount], bool]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "prefix": PREFIX})
        self.reason_form = ReasonInList(self.data if self.is_bound else None, prefix=PREFIX)

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if index is None:
            return
        if form.instance.pk is None:  # none that the person may see
            raise PermissionDenied
        if self.may_change(form.instance):
            label = _("Cap of %(account)s") % {"account": form.instance}
            form.fields[FIELD].widget.attrs["aria-label"] = label
        else:
            del form.fields[FIELD]

    def is_valid(self) -> bool:
        caps = super().is_valid()
        return caps and (not self.has_changed() or self.reason_form.is_valid())

    def can_change(self) -> bool:
        """Whether there is anything to save."""
        return any(FIELD in form.fields for form in self.forms)

    def changes(self) -> list[CapChange]:
        forms = cast(Iterable[CapInList], self.forms)
        return [form.change() for form in forms if form.has_changed()]

    def refuse(self, refused: CapRefused) -> None:
        """Shows a refusal at its row."""
        if refused.param == "reason":
            show_refusal(self.reason_form, refused)
            return
        form = next(form for form in self.forms if form.instance.pk == refused.account.pk)
        form.add_error(FIELD, refused.message)
        if isinstance(refused.__cause__, CapChangedMeanwhile):
            form.instance.refresh_from_db()
            show_present_cap(form, FIELD, form.instance.cap_eur)

    def refusals(self) -> Iterable[str]:
        """What is wrong, each in a sentence that names the row."""
        yield from map(str, self.non_form_errors())
        for form in self.forms:
            for text in form.errors.get(FIELD, []) + form.non_field_errors():
                yield f"{form.instance}: {text}"
        if self.is_bound and self.has_changed():
            yield from map(str, self.reason_form.errors.get("reason", []))


def posted_ids(data: Mapping[str, Any]) -> list[str]:
    """The ids of the accounts whose rows were sent, as they were sent."""
    return [value for name, value in data.items() if _ID_NAME.fullmatch(name)]


def caps_in_list(
    rows: QuerySet[BudgetAccount], may_change: Callable[[BudgetAccount], bool], data: Any = None
) -> CapsInList:
    """The caps of `rows` to be changed in their list, or with `data` the changed ones."""
    formset = modelformset_factory(BudgetAccount, form=CapInList, formset=CapsInList, extra=0)
    formset.may_change = staticmethod(may_change)  # type: ignore[attr-defined]
    caps: Any = formset(data, queryset=rows)
    return cast(CapsInList, caps)
