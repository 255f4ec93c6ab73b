"""Every key figure: its formula as a pure function, and in the words that the help page and tooltips show.

What counts as what, in all of them:

- Cost is what the ledger says: answers, failed calls that may be billed, checks, and corrections.
- A request is one completion that was asked for. It is answered (small, large, degraded, from the cache), has
  failed (`FAILURES`), or was refused for a reason of the caller's: its budget, or a mistake in the request.
  Checks and shadow runs are no requests of anybody's; they only cost.
- A figure that would divide by zero has no value: None, never 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from aigov.money import NANO_EURO
from budgets.forecast import forecast
from kpis import bins

#: The error codes of requests that we or the providers have failed; any other is the caller's own.
FAILURES = frozenset(
    {"no_provider_available", "answer_broken", "budget_unavailable", "internal_error", "api_error"}
)

Unit = Literal["euro", "count", "share", "factor", "ms"]


def cost_per(cost_eur: Decimal, count: int) -> Decimal | None:
    """cost ÷ count, in euro, rounded to the nano-euro; None where there is nothing to divide by."""
    return (cost_eur / count).quantize(NANO_EURO, rounding=ROUND_HALF_UP) if count else None


def savings_factor(all_large_eur: Decimal, cost_eur: Decimal) -> float | None:
    """all-large ÷ cost. All-large: for each request what its large calls cost, where a large model answered;
    where another one or the cache did, its tokens at the large model's price at that time
    (`routing.charging.all_large_eur`); where there was no answer, or no such price, what it cost.
    """
    return float(all_large_eur / cost_eur) if cost_eur > 0 else None


def saved_eur(all_large_eur: Decimal, cost_eur: Decimal) -> Decimal:
    """all-large − cost, in euro; below zero where asking the small model first did not pay."""
    return all_large_eur - cost_eur


def return_on_spend(value_eur: Decimal, cost_eur: Decimal) -> float | None:
    """value of the orders and leads ÷ cost."""
    return float(value_eur / cost_eur) if cost_eur > 0 else None


def cache_hit_rate(from_cache: int, answered: int) -> float | None:
    """answers from the cache ÷ all answers."""
    return _share(from_cache, answered)


def escalation_rate(escalated: int, judged: int) -> float | None:
    """escalated ÷ judged: requests whose small answer was not sure enough, so that the large model answered,
    of those that the small model answered first. Where the caller asked for one tier, nothing is judged.
    """
    return _share(escalated, judged)


def availability(answered: int, failed: int) -> float | None:
    """answered ÷ (answered + failed). Requests refused for a reason of the caller's do not count."""
    return _share(answered, answered + failed)


def availability_without_fallback(answered: int, rescued: int, failed: int) -> float | None:
    """(answered − rescued) ÷ (answered + failed). Rescued: answered although a call had failed or a circuit
    was open, by another model, another provider or a repeat.
    """
    return _share(answered - rescued, answered + failed)


def latency_percentile_ms(requests_by_bin: Mapping[int, int], share: float) -> float | None:
    """The time that `share` of the answers did not exceed, interpolated within bins (`kpis.bins`)."""
    return bins.latency_percentile_ms(requests_by_bin, share)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True, slots=True)
class Definition:
    """A key figure as people are told of it; `function` is its formula, None where it is a plain sum."""

    name: str
    title: str | Promise
    formula: str | Promise
    unit: Unit
    function: Callable[..., Any] | None = None


DEFINITIONS: Mapping[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition(
            "cost",
            _("Cost"),
            _(
                "Everything that AI calls cost in the period: answers, failed calls that may be billed,"
                " checks, and corrections. The days of a month add up to what the month has spent."
            ),
            "euro",
        ),
        Definition(
            "cost_per_lead",
            _("Cost per lead"),
            _("All AI cost of the period, divided by the leads of the period."),
            "euro",
            cost_per,
        ),
        Definition(
            "cost_per_order",
            _("Cost per order"),
            _("All AI cost of the period, divided by the orders of the period."),
            "euro",
            cost_per,
        ),
        Definition(
            "direct_cost_per_lead",
            _("Direct cost per lead"),
            _(
                "Cost of the calls that name a lead, divided by the leads that they name. Calls that name"
                " none, and leads that no call names, are left out."
            ),
            "euro",
            cost_per,
        ),
        Definition(
            "direct_cost_per_order",
            _("Direct cost per order"),
            _(
                "Cost of the calls that name an order, divided by the orders that they name. Calls that name"
                " none, and orders that no call names, are left out."
            ),
            "euro",
            cost_per,
        ),
        Definition(
            "return_on_spend",
            _("Return on spend"),
            _("Value of the leads and orders of the period, divided by all AI cost of the period."),
            "factor",
            return_on_spend,
        ),
        Definition(
            "all_large",
            _("Cost with the large model alone"),
            _(
                "What the requests would have cost had each gone to the large model at once: what its large"
                " calls cost, where it answered, else the answer's tokens at the price of the same provider's"
                " large model. Answers from the cache count as if they had been asked for anew, and requests"
                " without an answer at what they cost."
            ),
            "euro",
        ),
        Definition(
            "saved",
            _("Saved"),
            _("Cost with the large model alone, less the cost. Below zero, the small model did not pay."),
            "euro",
            saved_eur,
        ),
        Definition(
            "savings_factor",
            _("Savings factor"),
            _("Cost with the large model alone, divided by the cost: 3 means a third of the price."),
            "factor",
            savings_factor,
        ),
        Definition(
            "saved_by_cache",
            _("Saved by the cache"),
            _("What the answers from the cache had cost when they were first asked for."),
            "euro",
        ),
        Definition(
            "cache_hit_rate",
            _("Answered from the cache"),
            _("Answers from the cache, divided by all answers."),
            "share",
            cache_hit_rate,
        ),
        Definition(
            "confidence",
            _("Confidence"),
            _(
                "How likely the small model's answer is right, by its own signals. An answer at or above the"
                " threshold is accepted; below it, the large model is asked (escalated), or, where that is"
                " not affordable or not available, the small answer is given all the same (degraded)."
            ),
            "share",
        ),
        Definition(
            "reliability",
            _("Reliability of the confidence"),
            _(
                "Of the answers of one confidence, the share that turned out right. Where the two are equal,"
                " the confidence can be trusted."
            ),
            "share",
        ),
        Definition(
            "escalation_rate",
            _("Escalation rate"),
            _(
                "Requests that the large model answered because the small one was not sure enough, divided by"
                " the requests that the small model answered first. Requests for one tier alone do not count."
            ),
            "share",
            escalation_rate,
        ),
        Definition(
            "availability",
            _("Availability"),
            _(
                "Answered requests, divided by answered and failed ones. Requests that were refused because"
                " of the budget or a mistake in the request do not count."
            ),
            "share",
            availability,
        ),
        Definition(
            "availability_without_fallback",
            _("Availability without fallback"),
            _(
                "As availability, but a request that was answered only after a call had failed, or past a"
                " provider that was known to be down, counts as failed."
            ),
            "share",
            availability_without_fallback,
        ),
        Definition(
            "failovers",
            _("Answers by another provider"),
            _(
                "Requests that one provider answered after another one's call had failed, or because its"
                " model rested; each counts once for each provider that it had tried in vain."
            ),
            "count",
        ),
        Definition(
            "circuit",
            _("Resting models"),
            _(
                "A model rests after five failures in a row, or when half of its calls within 30 seconds have"
                " failed, five at least: for 5 seconds, and up to a minute when it goes on. It rests, too,"
                " for as long as its provider asks for, and after refused credentials or a reached spending"
                " limit for five minutes. Then single calls try it, until one is answered. An operator can"
                " keep it off."
            ),
            "count",
        ),
        Definition(
            "calls_small",
            _("Answered by the small model"),
            _("Requests whose answer is the small model's, sure enough or asked for by name."),
            "count",
        ),
        Definition(
            "calls_large",
            _("Answered by the large model"),
            _("Requests whose answer is the large model's, at once or after the small one."),
            "count",
        ),
        Definition(
            "calls_degraded",
            _("Degraded answers"),
            _(
                "Requests whose answer is the small model's although it was not sure enough: the large one"
                " was not affordable or not available."
            ),
            "count",
        ),
        Definition(
            "calls_cache",
            _("Answers from the cache"),
            _("Requests that were answered from the cache, without any call."),
            "count",
        ),
        Definition(
            "forecast",
            _("Month-end forecast"),
            _(
                "What the month has cost so far, and for each day that is left what its weekday usually"
                " costs, by medians of the last weeks and their trend. The month ends within the range four"
                " times out of five."
            ),
            "euro",
            forecast,
        ),
        Definition(
            "latency",
            _("Latency"),
            _(
                "The time from request to answer that a share of the answers did not exceed (50, 95, 99 %),"
                " counted in bins that grow by a fifth, so each is off by less than a fifth of itself."
            ),
            "ms",
            latency_percentile_ms,
        ),
    )
}
