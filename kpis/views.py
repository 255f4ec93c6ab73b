"""The dashboards under /kpis/: who may see them, what they show, and the numbers of their figures as files.

Everybody with a role sees the figures of the organizations that they have it in; operators see all. The
address holds the whole state (`kpis.filters`); what a page is made of, `kpis.pages` says.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html, format_html_join, json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from aigov import clock
from aigov.downloads import download
from aigov.organizations.models import Role
from aigov.organizations.permissions import organizations_where
from aigov.organizations.tenant_admin import person
from kpis.definitions import DEFINITIONS
from kpis.figures import Figure
from kpis.filters import (
    Picked,
    Selection,
    after,
    before,
    month_period,
    months_offered,
    quarters_offered,
    selection,
)
from kpis.pages import PAGES, Page
from kpis.readings import Readings
from kpis.tables import FORMATS, chunks

#: The roles that see their organizations' key figures.
VIEWING = (Role.MANAGER, Role.FINANCE, Role.AUDITOR, Role.ADMIN)

View = Callable[..., HttpResponseBase]


def dashboard(view: View) -> View:
    """A page for people who have logged in, which changes nothing."""
    return require_safe(login_required(view))


@dashboard
def home(request: HttpRequest) -> HttpResponse:
    query = request.META.get("QUERY_STRING", "")
    address = reverse("kpis:page", args=["overview"])
    return redirect(f"{address}?{query}" if query else address)


@dashboard
def page(request: HttpRequest, name: str) -> HttpResponse:
    """One page: its large numbers, its figures, and all numbers behind them."""
    shown = _page(name)
    chosen = _selection(request)
    context = {**_frame(chosen, shown.title, name), **_filters(chosen)}
    if chosen.offered:
        read = Readings(chosen)
        figures = [figure for make in shown.figures.values() if (figure := make(read))]
        context |= {
            "intro": shown.intro,
            "cards": shown.cards(read),
            "figures": [_figure(chosen, name, figure, shown) for figure in figures],
            "has_plots": any(figure.plot for figure in figures),
            "use_cases": read.use_case_names,
            "as_of": read.as_of_text,
        }
    return render(request, "kpis/page.html", context)


@dashboard
def export(request: HttpRequest, name: str, figure: str, kind: str) -> HttpResponseBase:
    """The numbers of one figure as a file: those of its table on the page."""
    make = _page(name).figures.get(figure)
    chosen = _selection(request)
    if make is None or kind not in FORMATS or not chosen.offered:
        raise Http404
    found = make(Readings(chosen))
    if found is None:
        raise Http404
    file = chunks(found.table, kind, title=found.words.title)
    return download(request, file, filename=f"{_file_name(chosen, figure)}.{kind}")


@dashboard
def definitions_page(request: HttpRequest) -> HttpResponse:
    """What every figure counts, in words and as a formula."""
    context = _frame(_selection(request), _("Definitions"), "definitions")
    return render(request, "kpis/definitions.html", {**context, "definitions": list(DEFINITIONS.values())})


def _page(name: str) -> Page:
    try:
        return PAGES[name]
    except KeyError:
        raise Http404 from None


def _selection(request: HttpRequest) -> Selection:
    offered = organizations_where(person(request), VIEWING).order_by("name").distinct()
    return selection(request.GET, list(offered), clock.now())


# --- What the templates need


def _frame(chosen: Selection, title: Any, current: str) -> dict[str, Any]:
    pages = [(name, each.title, reverse("kpis:page", args=[name])) for name, each in PAGES.items()]
    pages.append(("definitions", _("Definitions"), reverse("kpis:definitions")))
    return {
        "title": title,
        "selection": chosen,
        "query": chosen.query,
        "pages": [
            {"title": text, "address": address + chosen.query, "is_current": name == current}
            for name, text, address in pages
        ],
    }


def _filters(chosen: Selection) -> dict[str, Any]:
    period, compared = chosen.picked, chosen.compared
    morrow = after(period)
    return {
        "whose": _whose(chosen),
        "compared": compared and (str(compared)),
        "periods": [
            _options(_("Months"), months_offered(chosen.today), period),
            _options(_("Quarters"), quarters_offered(chosen.today), period),
        ],
        "earlier": chosen.with_period(before(period)).query,
        "later": chosen.with_period(morrow).query if morrow.first <= chosen.today else "",
        "last_shown": min(period.last, max(chosen.today, period.first)),
        "organization_choices": [
            {"pk": each.pk, "name": each.name, "is_chosen": each.pk in chosen.chosen}
            for each in chosen.offered
        ],
        "organizations_chosen": _whose(chosen),
        "default_address": f"?{urlencode({'period': month_period(chosen.today).code})}",
    }


def _options(title: str, offered: list[Picked], chosen: Picked) -> dict[str, Any]:
    """A group of the period's choices; the chosen one is among them, however long ago it is."""
    if chosen.kind == offered[0].kind and chosen not in offered:
        offered = sorted([*offered, chosen], key=lambda each: each.first, reverse=True)
    options = [{"code": each.code, "text": str(each), "is_chosen": each == chosen} for each in offered]
    return {"title": title, "options": options}


def _whose(chosen: Selection) -> str:
    shown = chosen.organizations
    number = {"number": len(shown)}
    if len(shown) == 1:
        return shown[0].name
    if not chosen.chosen:
        return _("all %(number)s organizations") % number
    return ngettext("%(number)s organization", "%(number)s organizations", len(shown)) % number


def _figure(chosen: Selection, name: str, figure: Figure, shown: Page) -> dict[str, Any]:
    words, table = figure.words, figure.table
    plot_id = f"plot-{words.name}" if figure.plot else ""
    file = reverse("kpis:export", args=[name, words.name, "KIND"])
    return {
        **{"name": words.name, "title": words.title, "definition": words.definition},
        **{"note": words.note, "empty": _with_code(words.empty), "open": figure.open},
        "is_wide": words.name in shown.wide,
        "columns": table.columns,
        "rows": list(table.shown()),
        "plot_id": plot_id,
        "plot_json": json_script(figure.plot, plot_id) if figure.plot else "",
        "file": _file_name(chosen, words.name),
        "exports": [
            {"title": kind.upper(), "address": file.replace("KIND", kind) + chosen.query} for kind in FORMATS
        ],
    }


def _with_code(text: str) -> SafeString:
    """What stands in backticks as code, as it is to be sent."""
    parts = enumerate(text.split("`"))
    return format_html_join("", "{}", ((_code(part) if at % 2 else part,) for at, part in parts))


def _code(text: str) -> SafeString:
    return format_html("<code>{}</code>", text)


def _file_name(chosen: Selection, figure: str) -> str:
    period = chosen.picked
    when = f"{period.first}-{period.last}" if period.kind == "range" else period.code
    return f"{figure}-{when}"
