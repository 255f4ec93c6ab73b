"""What the euro bought: leads and orders, what each cost, and what they are worth.

Two ways of counting stand apart: all cost by all leads of the period, and the cost of the calls that name a
lead by the leads that they name. No figure mixes them, and each says which it is.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.money import ZERO, euro_for_people
from kpis import definitions, plots
from kpis.figures import Card, Figure, Words, lines_over_time, top_list, trend_over_time
from kpis.named import CostDistribution, Direct, Kind
from kpis.pages.overview import cost_per_lead_card, cost_per_order_card, leads_text, orders_text
from kpis.pages.page import Page, card
from kpis.plots import Series
from kpis.queries import Business
from kpis.readings import Readings
from kpis.tables import Column, write

NO_OUTCOMES = gettext_lazy(
    "No leads or orders with a cost in this period. Report them to /api/v1/outcomes, or import them as CSV"
    " in the admin."
)
NO_NAMES = gettext_lazy(
    "No call of this period names a lead or an order. Send `lead_id` or `order_id` in a request's `metadata`."
)
DIRECT_NOTE = gettext_lazy(
    "Only the calls that name one. A lead or order counts once in each day or month that is shown here."
)


def cards(read: Readings) -> Sequence[Card]:
    brought, direct = read.now.business.outcomes, read.now.direct
    return [
        cost_per_lead_card(read, leads_text(brought.leads)),
        card(
            *(read, "direct_cost_per_lead", "euro", lambda of: of.direct.cost_per_lead_eur),
            good="down",
            note=_("%(leads)s named by calls") % {"leads": leads_text(direct.leads)},
        ),
        cost_per_order_card(read, orders_text(brought.orders)),
        card(
            *(read, "direct_cost_per_order", "euro", lambda of: of.direct.cost_per_order_eur),
            good="down",
            note=_("%(orders)s named by calls") % {"orders": orders_text(direct.orders)},
        ),
        card(
            *(read, "return_on_spend", "factor", lambda of: of.business.return_on_spend),
            good="up",
            note=_("Value: %(value)s") % {"value": euro_for_people(brought.value_eur)},
        ),
    ]


def _all_cost(name: str, title: Any, definition: str, ratio: Callable[[Business], Decimal | None]) -> Any:
    """The figure of all cost by all leads (or orders), with its trend."""

    def figure(read: Readings) -> Figure:
        words = Words(
            name,
            str(title),
            definition,
            str(NO_OUTCOMES),
            _("All cost of the period, divided by all its leads or orders."),
        )
        series = Series(str(title), plots.BLUE, [ratio(each) for each in read.business])
        return trend_over_time(words, read.steps, series, "euro")

    return figure


def _direct(name: str, title: Any, definition: str, ratio: Callable[[Direct], Decimal | None]) -> Any:
    """The figure of what the calls cost that name a lead (or order)."""

    def figure(read: Readings) -> Figure:
        words = Words(name, str(title), definition, str(NO_NAMES), str(DIRECT_NOTE))
        series = Series(str(title), plots.GREEN, [ratio(each) for each in read.named.steps])
        return trend_over_time(words, read.steps, series, "euro")

    return figure


#: The return on spend is drawn from where so much of the period's cost is spent: before, one order throws it.
RETURN_DRAWN_FROM = Decimal("0.1")


def return_over_time(read: Readings) -> Figure:
    """Value of leads and orders by what AI cost, both from the period's beginning: a day's would leap."""
    values, value_eur, cost_eur = [], ZERO, ZERO
    enough_eur = sum((each.cost_eur for each in read.business), ZERO) * RETURN_DRAWN_FROM
    for each in read.business:
        value_eur, cost_eur = value_eur + each.outcomes.value_eur, cost_eur + each.cost_eur
        is_known = value_eur and cost_eur >= enough_eur
        values.append(definitions.return_on_spend(value_eur, cost_eur) if is_known else None)
    words = Words(
        *("return-on-spend", _("Return on spend over time"), "return_on_spend"),
        _("No lead or order of this period has a value. Report `value_eur` with the outcomes."),
        _(
            "Value of leads and orders by all cost, from the beginning of the period up to each day or month;"
            " drawn from where a tenth of that cost is spent."
        ),
    )
    return lines_over_time(words, read.steps, [Series(_("Return on spend"), plots.BLUE, values)], "factor")


def by_use_case(read: Readings) -> Figure:
    words = Words(
        *("direct-cost-by-use-case", _("Direct cost per lead by use case"), "direct_cost_per_lead"),
        *(str(NO_NAMES), _("Only the calls that name a lead.")),
    )
    rows = [
        (name or _("without a use case"), *_direct_cells(direct))
        for (name,), direct in read.named.by_use_case.items()
    ]
    return _direct_list(words, _("Use case"), rows)


def by_model(read: Readings) -> Figure:
    words = Words(
        *("direct-cost-by-model", _("Direct cost per lead by model"), "direct_cost_per_lead"),
        *(str(NO_NAMES), _("Only the calls that name a lead, and of these the calls of that model.")),
    )
    rows = [
        (model or _("without a model"), *_direct_cells(direct))
        for (_provider, model), direct in read.named.by_model.items()
    ]
    return _direct_list(words, _("Model"), rows)


Cells = tuple[Decimal | None, int, Decimal | None, int]


def _direct_cells(direct: Direct) -> Cells:
    return direct.cost_per_lead_eur, direct.leads, direct.cost_per_order_eur, direct.orders


def _direct_list(words: Words, title: str, rows: Sequence[tuple[str, *Cells]]) -> Figure:
    columns = (
        *(Column(title), Column(_("Direct cost per lead"), "euro"), Column(_("Leads named"), "count")),
        *(Column(_("Direct cost per order"), "euro"), Column(_("Orders named"), "count")),
    )
    dearest_first = sorted(rows, key=lambda row: (-(row[1] or Decimal(0)), row[0]))
    return top_list(words, columns, dearest_first, color=plots.GREEN)


def _distribution(name: str, title: Any, definition: str, kind: Kind) -> Any:
    """How unequal leads (or orders) are in what they cost."""

    def figure(read: Readings) -> Figure:
        found = read.named.spread.get(kind, CostDistribution())
        words = Words(name, str(title), definition, str(NO_NAMES), _looked_at(found))
        columns = (Column(_("Cost of one")), Column(_("Cost"), "euro"))
        rows = [
            (_("The cheapest tenth, at most"), found.p10_eur),
            (_("Half of them, at most"), found.median_eur),
            (_("On average"), found.mean_eur),
            (_("Nine tenths, at most"), found.p90_eur),
        ]
        # The dearest of a sample is not the dearest.
        rows += [] if found.is_sample else [(_("The dearest"), found.max_eur)]
        return top_list(words, columns, rows if found.named else [], color=plots.GREEN)

    return figure


def _looked_at(found: CostDistribution) -> str:
    if not found.is_sample:
        return _("Over all that calls name in the period.")
    return _(
        "The average is that of all %(named)s that calls name in the period. The other figures are those of a"
        " sample of %(looked_at)s."
    ) % {"named": write(found.named, "count"), "looked_at": write(found.looked_at, "count")}


PAGE = Page(
    gettext_lazy("Business"),
    cards,
    {
        "cost-per-lead": _all_cost(
            *("cost-per-lead", gettext_lazy("Cost per lead, all cost"), "cost_per_lead"),
            lambda each: each.cost_per_lead_eur,
        ),
        "cost-per-order": _all_cost(
            *("cost-per-order", gettext_lazy("Cost per order, all cost"), "cost_per_order"),
            lambda each: each.cost_per_order_eur,
        ),
        "direct-cost-per-lead": _direct(
            *("direct-cost-per-lead", gettext_lazy("Direct cost per lead"), "direct_cost_per_lead"),
            lambda each: each.cost_per_lead_eur,
        ),
        "direct-cost-per-order": _direct(
            *("direct-cost-per-order", gettext_lazy("Direct cost per order"), "direct_cost_per_order"),
            lambda each: each.cost_per_order_eur,
        ),
        "direct-cost-by-use-case": by_use_case,
        "direct-cost-by-model": by_model,
        "lead-cost-distribution": _distribution(
            *("lead-cost-distribution", gettext_lazy("What one lead costs"), "direct_cost_per_lead", "lead")
        ),
        "order-cost-distribution": _distribution(
            *(
                "order-cost-distribution",
                gettext_lazy("What one order costs"),
                "direct_cost_per_order",
                "order",
            )
        ),
        "return-on-spend": return_over_time,
    },
    wide=frozenset({"return-on-spend"}),
)
