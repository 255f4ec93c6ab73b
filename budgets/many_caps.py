"""Many months' caps changed at once: chosen and reckoned on one page, looked at on the next, saved with one
reason. What is saved goes the same way as the caps of a list (`budgets.caps`)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminRadioSelectWidget,
)

from aigov import clock
from aigov.money import EURO_MAX, ZERO, cap_text
from aigov.organizations.models import Organization, User
from aigov.organizations.tenant_admin import euro_cell
from budgets.accounts import open_month
from budgets.amounts import CapField
from budgets.cap_forms import FIELD, PREFIX, CapsInList, caps_in_list
from budgets.four_eyes import approval_limit, is_finance, needs_second_person
from budgets.models import BudgetAccount

ORGANIZATIONS_MAX = 500
PERCENT_MIN, PERCENT_MAX = -100, 1_000
CENT = Decimal("0.01")


class ManyCapsForm(forms.Form):
    """Whose caps, of which month, and how they are to change."""

    month = forms.ChoiceField(label=gettext_lazy("Month"), widget=UnfoldAdminRadioSelectWidget)
    organizations = forms.ModelMultipleChoiceField(
        Organization.objects.none(),
        label=gettext_lazy("Organizations"),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    cap = CapField(
        label=gettext_lazy("New cap"), required=False, help_text=gettext_lazy("The same for each of them.")
    )
    percent = forms.DecimalField(
        label=gettext_lazy("Or by per cent"),
        required=False,
        min_value=PERCENT_MIN,
        max_value=PERCENT_MAX,
        max_digits=7,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
        help_text=gettext_lazy("10 raises each cap by a tenth, -10 lowers it by a tenth; to the cent."),
    )

    def __init__(self, *args: Any, organizations: QuerySet[Organization], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        fields["organizations"].queryset = organizations.order_by("name")
        months = {f"{month:%Y-%m}": date_format(month, "YEAR_MONTH_FORMAT") for month in _months_offered()}
        fields["month"].choices, fields["month"].initial = list(months.items()), next(iter(months))

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or {}
        both = [name for name in ("cap", "percent") if cleaned.get(name) is not None]
        if len(both) != 1 and not self.errors:
            self.add_error("cap", _("Please give either a new cap or a per cent."))
        return cleaned

    def month_chosen(self) -> date:
        return date.fromisoformat(f"{self.cleaned_data['month']}-01")

    def new_cap(self, cap_eur: Decimal) -> Decimal:
        """The new cap of an account whose cap is `cap_eur`."""
        wanted: Decimal | None = self.cleaned_data["cap"]
        return changed_by(cap_eur, self.cleaned_data["percent"]) if wanted is None else wanted


def changed_by(cap_eur: Decimal, percent: Decimal) -> Decimal:
    """`cap_eur` × (100 + `percent`) / 100, to the cent, half a cent up."""
    changed = (cap_eur * (100 + percent) / 100).quantize(CENT, rounding=ROUND_HALF_UP)
    return min(changed, EURO_MAX)


def _months_offered() -> tuple[date, date]:
    """This month and the next, as they are in UTC."""
    present = clock.month_of(clock.now(), "UTC")
    return present, clock.next_month(present)


def accounts_of(organizations: Iterable[Organization], month: date) -> QuerySet[BudgetAccount]:
    """The organizations' own accounts of `month`, opened with their standing caps where there are none."""
    opened = [open_month(organization=organization, month=month).pk for organization in organizations]
    found = BudgetAccount.objects.filter(pk__in=opened, closed=False).select_related("organization")
    return found.order_by("organization__name")


def previewed(
    accounts: QuerySet[BudgetAccount],
    new_cap: Callable[[Decimal], Decimal],
    may_change: Callable[[BudgetAccount], bool],
) -> CapsInList:
    """The caps as they would be, to be looked at and saved."""
    rows = list(accounts)
    data: dict[str, str] = {
        f"{PREFIX}-TOTAL_FORMS": str(len(rows)),
        f"{PREFIX}-INITIAL_FORMS": str(len(rows)),
    }
    for index, account in enumerate(rows):
        data.update(_row(index, account, new_cap(account.cap_eur or ZERO)))
    return caps_in_list(accounts, may_change, _Sent(data))


class _Sent(dict[str, str]):
    """Values as a form sends them."""

    def getlist(self, name: str) -> list[str]:
        return [self[name]] if name in self else []


def _row(index: int, account: BudgetAccount, cap_eur: Decimal) -> Mapping[str, str]:
    def written(amount: Decimal | None) -> str:
        return "" if amount is None else number_format(cap_text(amount), use_l10n=True)

    name = f"{PREFIX}-{index}"
    return {
        f"{name}-id": str(account.pk),
        f"initial-{name}-{FIELD}": written(account.cap_eur),
        f"{name}-{FIELD}": written(cap_eur),
    }


def preview_rows(caps: CapsInList, acting: User) -> list[dict[str, Any]]:
    """What the page shows of each cap: whose it is, the old one, the new one, and what there is to know."""
    return [
        {
            "account": form.instance,
            "id": form["id"],
            "now": euro_cell(form.instance.cap_eur),
            "used": euro_cell(form.instance.spent_eur + form.instance.held_eur),
            "field": form[FIELD] if FIELD in form.fields else None,
            "remark": _remark(form.instance, _typed(form), acting),
        }
        for form in caps.forms
    ]


def _typed(form: Any) -> Decimal | None:
    typed: Decimal | None = form.cleaned_data.get(FIELD) if form.is_valid() else None
    return typed


def _remark(account: BudgetAccount, cap_eur: Decimal | None, acting: User) -> str:
    """What whoever looks at the new cap should know before it is saved; mostly nothing."""
    if cap_eur is None:
        return ""
    limit, finance = approval_limit(account.organization_id), is_finance(acting, account.organization_id)
    before = account.cap_eur
    if needs_second_person(before_eur=before, after_eur=cap_eur, limit_eur=limit, is_finance=finance):
        return _("Needs a second person: a request is sent.")
    if cap_eur < account.spent_eur + account.held_eur:
        return _("Below what is spent and held: no further call is admitted.")
    return ""
