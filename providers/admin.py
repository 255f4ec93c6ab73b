"""The price book in the admin: looked at by all whom costs concern, appended to by operators."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.lists import exported
from aigov.organizations.tenant_admin import (
    TenantAdmin,
    VerbForm,
    facts_table,
    person,
    reason_field,
    two_lines,
)
from providers.models import RATES, Price

# A form begins with it; that input and output cost something has to be said.
EMPTY_BAND = {"from_tokens": 0, **dict.fromkeys(RATES, "0.00")}


@transaction.atomic
def append_price(*, price: Price, acting: Acting, reason: str) -> None:
    """Adds a row to the price book, in force from its instant on; raises `ValidationError` for a bad one."""
    price.full_clean()
    price.save(force_insert=True)
    write_audit_entry(
        organization=None,
        acting=acting,
        action="price.append",
        target=str(price),
        after={"valid_from": price.valid_from.isoformat(), "bands": price.bands, "source": price.source},
        reason=reason,
    )


class PriceForm(VerbForm):
    reason = reason_field()


@admin.register(Price)
class PriceAdmin(TenantAdmin):
    organization_lookup = None
    verbs = ("view", "add")
    form = PriceForm
    list_display = ("model_shown", "service_tier", "valid_from", "input_rate", "output_rate", "source")
    list_filter = ("provider", "service_tier", "source")
    search_fields = ("model", "provider")
    search_help_text = gettext_lazy("Model or provider")
    ordering = ("provider", "model", "service_tier", "-valid_from", "-id")
    sortable_by = ()
    readonly_fields = ("currency", "created_at", "rates")

    def get_fields(self, request: HttpRequest, obj: Price | None = None) -> Any:
        row = ("provider", "model", "service_tier", "valid_from")
        if obj is None:
            return (*row, "bands", "source", "source_version", "reason")
        return (*row, "currency", "rates", "source", "source_version", "created_at")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"bands": [EMPTY_BAND], **super().get_changeform_initial_data(request)}

    @exported("model", "provider")
    @admin.display(description=gettext_lazy("model"))
    def model_shown(self, price: Price) -> str:
        return two_lines(price.model, price.get_provider_display())

    @exported((gettext_lazy("input"), lambda price: Decimal(price.bands[0]["input"])))
    @admin.display(description=gettext_lazy("input, USD per million"))
    def input_rate(self, price: Price) -> str:
        return _rate(price, "input")

    @exported((gettext_lazy("output"), lambda price: Decimal(price.bands[0]["output"])))
    @admin.display(description=gettext_lazy("output, USD per million"))
    def output_rate(self, price: Price) -> str:
        return _rate(price, "output")

    @admin.display(description=gettext_lazy("rates, US dollars per million tokens"))
    def rates(self, price: Price) -> str:
        names = ("from_tokens", *RATES)
        titles = (
            *(_("from tokens"), _("input"), _("read from cache"), _("written to cache, 5 min")),
            *(_("written to cache, 1 h"), _("output")),
        )
        return facts_table(titles, ([band[name] for name in names] for band in price.bands))

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        append_price(price=obj, acting=person(request), reason=form.cleaned_data["reason"])


def _rate(price: Price, name: str) -> str:
    """The rate of an ordinary request, and a mark where longer ones have others."""
    first, *others = price.bands
    return f"{first[name]} …" if others else str(first[name])
