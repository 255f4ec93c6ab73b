"""What a page reads: each question asked once, when a card or a figure first needs the answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, partial
from itertools import dropwhile
from typing import TypeVar

from django.db.models import Sum
from django.utils.formats import date_format
from django.utils.timezone import localtime, make_aware
from django.utils.translation import gettext as _

from aigov import clock
from aigov.money import ZERO
from aigov.registry.snapshot import load_settings_sync
from budgets import daily
from budgets.forecast import WEEK, WEEKS_MAX, Forecast, forecast
from budgets.models import BudgetAccount, Scope
from kpis import definitions, queries
from kpis.buckets import Buckets, buckets
from kpis.filters import Selection
from kpis.named import Direct, Named, direct
from kpis.named import named as named_by_calls
from kpis.periods import Period
from kpis.queries import Business, Outcomes, Requests
from providers.circuit import ALL_MODELS, Key
from providers.circuit_history import Rest, rests
from routing.keys import THRESHOLD

T = TypeVar("T")


class Totals:
    """The key figures of a period, each read when it is first needed.

    Args:
        requests, business, direct: how to come by them where they are read already, by step.
    """

    def __init__(
        self,
        ids: Sequence[int],
        period: Period,
        use_case: str | None,
        *,
        requests: Callable[[], Requests] | None = None,
        business: Callable[[], Business] | None = None,
        direct: Callable[[], Direct] | None = None,
    ) -> None:
        self._chosen = ids, period, use_case
        self._requests, self._business, self._direct = requests, business, direct

    @cached_property
    def requests(self) -> Requests:
        return self._requests() if self._requests else queries.requests(*self._chosen)

    @cached_property
    def business(self) -> Business:
        """Without the calls that name a lead or an order."""
        return self._business() if self._business else queries.spending(*self._chosen)

    @cached_property
    def direct(self) -> Direct:
        return self._direct() if self._direct else direct(*self._chosen)

    @property
    def savings_factor(self) -> float | None:
        return definitions.savings_factor(self.requests.all_large_eur, self.business.cost_eur)

    @property
    def saved_eur(self) -> Decimal:
        return definitions.saved_eur(self.requests.all_large_eur, self.business.cost_eur)


class Readings:
    """The answers for one selection."""

    def __init__(self, chosen: Selection) -> None:
        self.chosen = chosen
        self.ids = chosen.organization_ids
        self.use_case = chosen.use_case or None
        self.period = chosen.picked.period
        self.at = clock.now()

    # --- Totals

    @cached_property
    def now(self) -> Totals:
        return Totals(
            *(self.ids, self.period, self.use_case),
            requests=lambda: _all_requests(self.requests),
            business=lambda: _all_business(list(self._business.values())),
            direct=lambda: self.named.total,
        )

    @cached_property
    def before(self) -> Totals | None:
        """The figures of the period before; None where no comparison is wanted."""
        compared = self.chosen.compared
        return Totals(self.ids, compared.period, self.use_case) if compared else None

    @cached_property
    def today_eur(self) -> Decimal:
        return queries.today_eur(self.ids, self.use_case)

    @cached_property
    def cap_eur(self) -> Decimal | None:
        """The caps of the month together; None where there is none to hold the cost against."""
        if self.chosen.picked.kind != "month" or self.use_case:
            return None
        accounts = BudgetAccount.objects.filter(
            organization__in=self.ids, month=self.period.first, scope=Scope.ORGANIZATION
        )
        total: Decimal | None = accounts.aggregate(total=Sum("cap_eur"))["total"]
        return total

    @cached_property
    def threshold(self) -> float | None:
        """The confidence that is asked for; None where the organizations do not all ask for the same."""
        settings = load_settings_sync()
        found = {settings.value(THRESHOLD.name, organization_id=pk) for pk in self.ids}
        return float(found.pop()) if len(found) == 1 else None

    @cached_property
    def forecast(self) -> Forecast | None:
        """Where this month's cost may end; None of any other period, or where nothing is known yet."""
        # Where it is tomorrow already, the day still runs elsewhere: what it costs there is today's.
        today, picked = self.chosen.today_everywhere, self.chosen.picked
        if picked.kind != "month" or self.use_case or not picked.first <= today <= picked.last:
            return None
        span = Period(today - timedelta(days=WEEK * WEEKS_MAX), min(self.chosen.today, picked.last))
        costs: dict[date, Decimal] = {}
        for day, cost_eur in queries.cost_by_day(self.ids, span).items():
            costs[min(day, today)] = costs.get(min(day, today), ZERO) + cost_eur
        # What was before the first call is not known to cost nothing.
        days = list(dropwhile(lambda day: not day[1], costs.items()))
        return forecast(days, month=picked.first, today=today)

    # --- Over time

    @cached_property
    def steps(self) -> Buckets:
        """The steps of the period, up to today where it runs."""
        last = self.period.last
        return buckets(self.period.first, max(min(last, self.chosen.today), self.period.first))

    @cached_property
    def business(self) -> Sequence[Business]:
        """What each step cost and brought, without the calls that name a lead or an order."""
        return self._by_step(self._business, _all_business)

    @cached_property
    def _business(self) -> Mapping[date, Business]:
        """The same with what is dated ahead: a lead may be told of a day before it comes."""
        return queries.business_by_day(self.ids, self.period, self.use_case, step=self.steps.kind)

    @cached_property
    def named(self) -> Named:
        """What the calls cost that name a lead or an order: in all, of each step, and by group."""
        steps = self.steps.steps
        return named_by_calls([step.first for step in steps], self.ids, self.period, self.use_case)

    @cached_property
    def requests(self) -> Sequence[Requests]:
        """How the requests of each step ended."""
        return self._gathered(partial(queries.requests_by_day, step=self.steps.kind), _all_requests)

    @cached_property
    def tier_costs(self) -> Sequence[Mapping[str, Decimal]]:
        """What each step's calls of each tier cost."""
        return self._gathered(partial(queries.tier_cost_by_day, step=self.steps.kind), _all_costs)

    def _gathered(
        self, read: Callable[..., Mapping[date, T]], add_up: Callable[[Sequence[T]], T]
    ) -> Sequence[T]:
        return self._by_step(read(self.ids, self.period, self.use_case), add_up)

    def _by_step(self, days: Mapping[date, T], add_up: Callable[[Sequence[T]], T]) -> Sequence[T]:
        gathered = self.steps.gathered(days.items(), lambda row: row[0])
        return [add_up([value for _day, value in rows]) for rows in gathered]

    # --- By group

    @cached_property
    def by_use_case(self) -> Sequence[daily.Costs]:
        return queries.dearest_by("use_case", self.ids, self.period, self.use_case)

    @cached_property
    def by_model(self) -> Sequence[daily.Costs]:
        return queries.dearest_by("model", self.ids, self.period, self.use_case)

    @cached_property
    def users(self) -> Sequence[daily.UserCost]:
        return queries.top_users(self.ids, self.period, limit=50)

    @cached_property
    def attempts(self) -> Sequence[queries.Attempts]:
        return queries.attempts(self.ids, self.period, self.use_case)

    @cached_property
    def latencies(self) -> Mapping[str, queries.Latencies]:
        return queries.latencies(self.ids, self.period, self.use_case)

    @cached_property
    def confidences(self) -> Sequence[queries.ConfidenceBin]:
        return queries.confidence_histogram(self.ids, self.period, self.use_case)

    @cached_property
    def call_costs(self) -> Mapping[str, Decimal | None]:
        """What a call of each tier costs on average."""
        period = self.period
        found = daily.costs_by(
            "tier",
            organization_ids=self.ids,
            first=period.first,
            last=period.last,
            use_case=self.use_case,
        )
        return {each.group[0]: each.cost_eur / each.calls for each in found if each.calls}

    @cached_property
    def latencies_before(self) -> queries.Latencies | None:
        """Of all answers of the period before; None where no comparison is wanted."""
        compared = self.chosen.compared
        return queries.latencies(self.ids, compared.period, self.use_case)[""] if compared else None

    @cached_property
    def latency_steps(self) -> Sequence[queries.Latencies]:
        """Of all answers of each step."""
        found = queries.latencies_by_step(self.ids, self.period, self.use_case, step=self.steps.kind)
        return [found.get(step.first, queries.NO_ANSWERS) for step in self.steps.steps]

    @cached_property
    def failovers(self) -> Sequence[Mapping[queries.ProviderPair, int]]:
        """How many requests of each step one provider answered for another."""
        return self._gathered(queries.failovers_by_day, _all_failovers)

    @cached_property
    def called(self) -> Sequence[Key]:
        """The models that the period's requests were sent to, or would have been."""
        return sorted({(each.provider, each.model) for each in self.attempts if each.model})

    @cached_property
    def rests(self) -> Sequence[Rest]:
        """When these models were not asked, in this period up to now."""
        all_models = {(provider, ALL_MODELS) for provider, _model in self.called}
        return rests([*self.called, *all_models], *self.span)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The period up to now, in the pages' time zone."""
        begin = make_aware(datetime.combine(self.period.first, time.min))
        end = make_aware(datetime.combine(self.period.last + timedelta(days=1), time.min))
        return begin, max(min(end, localtime(self.at)), begin)

    @cached_property
    def costs_before(self) -> Mapping[str, Mapping[tuple[str, ...], Decimal]]:
        """What each use case and each model cost in the period before; nothing where it is not wanted."""
        compared = self.chosen.compared
        if compared is None:
            return {}
        columns = {"use_case": ("use_case",), "model": ("provider", "model")}
        return {
            name: queries.costs_of(self.ids, compared.period, self.use_case, *group)
            for name, group in columns.items()
        }

    @cached_property
    def use_case_names(self) -> Sequence[str]:
        """What the use case can be narrowed to; the chosen one is among them."""
        found = {name for name in queries.use_cases(self.ids, self.period) if name}
        return sorted(found | {self.chosen.use_case} - {""}, key=str.casefold)

    @property
    def as_of_text(self) -> str:
        at = date_format(localtime(self.at), "DATETIME_FORMAT")
        return _("As of %(at)s; today is live. Days are the organizations' local days.") % {"at": at}


def _all_costs(rows: Sequence[Mapping[str, Decimal]]) -> Mapping[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        for tier, cost_eur in row.items():
            found[tier] = found.get(tier, Decimal(0)) + cost_eur
    return found


def _all_failovers(rows: Sequence[Mapping[queries.ProviderPair, int]]) -> Mapping[queries.ProviderPair, int]:
    return sum((Counter(row) for row in rows), Counter())


def _all_business(rows: Sequence[Business]) -> Business:
    total, brought = Business(), Outcomes()
    for row in rows:
        brought.leads += row.outcomes.leads
        brought.orders += row.outcomes.orders
        brought.value_eur += row.outcomes.value_eur
    cost_eur = sum((row.cost_eur for row in rows), total.cost_eur)
    return Business(cost_eur, sum(row.calls for row in rows), brought)


_SUMMED = (
    *("small", "large", "degraded", "cache", "failed", "refused", "judged", "escalated", "rescued"),
    *("cost_eur", "saved_eur", "all_large_eur"),
)


def _all_requests(rows: Sequence[Requests]) -> Requests:
    total = Requests()
    for row in rows:
        for name in _SUMMED:
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return total
