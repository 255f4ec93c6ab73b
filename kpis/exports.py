"""The costs of a period as a FOCUS file, read and written charge by charge."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import date, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils.timezone import localtime

from aigov import clock
from aigov.downloads import download
from aigov.errors import BadRequest, NotFound, PermissionDenied
from aigov.organizations.models import Organization
from aigov.organizations.tenant_admin import is_id
from aigov.spreadsheets import ENGLISH, csv_chunks
from aigov.web.errors import lean_view
from budgets.charge_days import in_days
from budgets.models import CostRecord
from kpis.focus import COLUMNS, Account, Charge, focus_rows
from providers.models import Price
from providers.price_book import price_row
from providers.pricing import PriceRow

ROWS_AT_ONCE = 2_000
DAYS_MAX = 5 * 366

_FIELDS = [field.name for field in fields(Charge)]


@login_required
@lean_view(methods=("GET",))
def focus_file(request: HttpRequest) -> HttpResponseBase:
    """`/kpis/export/focus.csv?from=&to=&organization=`: local dates of the organizations, both inclusive.

    Without an organization, all whose costs the person may see; without dates, the present month.
    """
    first, last = _period(request)
    chunks = focus_chunks(_organizations(request), first, last)
    return download(request, chunks, filename=f"focus-{first}-{last}.csv")


def focus_chunks(organizations: Iterable[Organization], first: date, last: date) -> Generator[bytes]:
    """The file: all charges of `organizations` from day `first` to day `last`."""
    prices = _prices()
    rows = (row for organization in organizations for row in _rows(organization, first, last, prices))
    return csv_chunks(COLUMNS, rows, ENGLISH)


def _rows(
    organization: Organization, first: date, last: date, prices: Mapping[int, PriceRow]
) -> Iterator[list[Any]]:
    account = Account(
        organization.tenant_id,
        organization.tenant.name,
        organization.pk,
        organization.name,
        organization.time_zone,
    )
    found = CostRecord.objects.filter(in_days(first, last, organization.time_zone), organization=organization)
    values = found.annotate(corrects_month=F("corrects__month")).order_by("month", "created_at", "id")
    for record in values.values_list(*_FIELDS).iterator(chunk_size=ROWS_AT_ONCE):
        charge = Charge(*record)
        yield from focus_rows(charge, account, prices.get(charge.price_id or 0))


def _prices() -> dict[int, PriceRow]:
    names = ("id", "provider", "model", "service_tier", "valid_from", "bands")
    return {row[0]: price_row(*row) for row in Price.objects.values_list(*names)}


def _organizations(request: HttpRequest) -> QuerySet[Organization]:
    page: Any = admin.site.get_model_admin(CostRecord)
    if not page.has_view_permission(request):
        raise PermissionDenied("You have no role that may see costs.")
    seen: QuerySet[Organization] = page.organizations(request).select_related("tenant").order_by("pk")
    chosen = request.GET.get("organization", "")
    if not chosen:
        return seen
    found = seen.filter(pk=chosen) if is_id(chosen) else seen.none()
    if not found.exists():
        raise NotFound("There is no such organization.", param="organization")
    return found


def _period(request: HttpRequest) -> tuple[date, date]:
    month = localtime(clock.now()).date().replace(day=1)
    first = _day(request, "from", month)
    last = _day(request, "to", clock.next_month(max(first, month)) - timedelta(days=1))
    if not first <= last <= first + timedelta(days=DAYS_MAX):
        raise BadRequest(f"“to” must be a day from “from” on, at most {DAYS_MAX} days later.", param="to")
    return first, last


def _day(request: HttpRequest, name: str, default: date) -> date:
    text = request.GET.get(name, "")
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        raise BadRequest("A day is written as 2026-11-01.", param=name) from None
