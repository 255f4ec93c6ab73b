"""What deserves an alert: pure, so that each rule can be tested alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

from aigov.money import NANO_EURO, ZERO, euro_text
from budgets.forecast import Forecast
from budgets.ledger import Balance
from budgets.models.alerts import AlertKind, Severity
from budgets.models.books import Scope
from budgets.progress import FULL_PERCENT, NEAR_PERCENT
from providers.breaker import State
from providers.circuit import ALL_MODELS, Key

#: Makes the median absolute deviation comparable to a standard deviation, and the mean one likewise.
MAD_FACTOR = Decimal("0.6745")
MEAN_DEVIATION_FACTOR = Decimal("1.253314")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that deserves an alert, or did so a moment ago.

    Args:
        organization_id: None for what concerns the whole platform.
        is_news: False for what a further finding has outdated; it is only noted, and nobody is told.
    """

    organization_id: int | None
    kind: AlertKind
    period: str
    key: str
    severity: Severity
    figures: Mapping[str, Any]
    is_news: bool = True

    @property
    def identity(self) -> tuple[int, str, str, str]:
        """What it is raised once by; platform-wide ones come first."""
        return (self.organization_id or 0, self.kind, self.period, self.key)


@dataclass(frozen=True, slots=True)
class Account:
    """A month's account of an organization, a user or a use case."""

    id: int
    organization_id: int
    scope: str
    subject: str
    month: date
    balance: Balance

    @property
    def period(self) -> str:
        return month_period(self.month)

    @property
    def key(self) -> str:
        return account_key(self.scope, self.subject)

    @property
    def figures(self) -> dict[str, Any]:
        return {
            **account_figures(self.scope, self.subject, self.id),
            "cap_eur": euro_text(self.balance.cap_eur or ZERO),
            "spent_eur": euro_text(self.balance.spent_eur),
            "held_eur": euro_text(self.balance.held_eur),
        }


def month_period(month: date) -> str:
    return f"{month:%Y-%m}"


def account_key(scope: str, subject: str) -> str:
    return f"{scope} {subject}".rstrip()


def account_figures(scope: str, subject: str, account_id: int | None) -> dict[str, Any]:
    return {"scope": str(scope), "subject": subject, "account_id": account_id}


# --- Accounts


def thresholds_crossed(account: Account, thresholds: Iterable[int]) -> Iterator[Finding]:
    """Each threshold (per cent of the cap) that what is spent has reached; only the highest is news.

    What calls in flight hold does not count: most of it is given back.
    """
    cap, spent = account.balance.cap_eur, account.balance.spent_eur
    if cap is None or spent <= 0:
        return
    crossed = sorted({percent for percent in thresholds if spent * 100 >= cap * percent})
    for percent in crossed:
        yield Finding(
            organization_id=account.organization_id,
            kind=AlertKind.THRESHOLD,
            period=account.period,
            key=f"{account.key} {percent}",
            severity=severity_of(percent),
            figures={**account.figures, "percent": percent},
            is_news=percent == crossed[-1],
        )


def severity_of(percent: int) -> Severity:
    """As the colours of the bars: amber from 80 %, red from 100 %."""
    if percent >= FULL_PERCENT:
        return Severity.CRITICAL
    return Severity.WARNING if percent >= NEAR_PERCENT else Severity.NOTICE


def over_cap(account: Account) -> Iterator[Finding]:
    """Spent and held are above the cap: it was lowered, a call overran its hold, or a correction came."""
    balance = account.balance
    if balance.cap_eur is not None and balance.spent_eur + balance.held_eur > balance.cap_eur:
        yield Finding(
            organization_id=account.organization_id,
            kind=AlertKind.OVER_CAP,
            period=account.period,
            key=account.key,
            severity=Severity.CRITICAL,
            figures=account.figures,
        )


# --- Days


def forecast_over_cap(account: Account, found: Forecast | None) -> Iterator[Finding]:
    """The month is expected to end above its cap; a guess from a few days says nothing."""
    cap = account.balance.cap_eur
    if found is None or found.is_guess or cap is None or found.expected_eur <= cap:
        return
    yield Finding(
        organization_id=account.organization_id,
        kind=AlertKind.FORECAST,
        period=account.period,
        key=account.key,
        severity=Severity.WARNING,
        figures={
            **account.figures,
            "expected_eur": euro_text(found.expected_eur),
            "low_eur": euro_text(found.low_eur),
            "high_eur": euro_text(found.high_eur),
        },
    )


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """From when on a day is unusual: its score, and by how much more than usual it costs at least.

    Args:
        days_min: with fewer days to compare with, none is unusual.
    """

    score_min: Decimal
    days_min: int
    amount_min_eur: Decimal


def unusual_day(
    organization_id: int, day: date, cost_eur: Decimal, others: Sequence[Decimal], limits: UnusualDay
) -> Iterator[Finding]:
    """Whether `day` costs unusually much, by the costs of `others`, the days before it."""
    if len(others) < limits.days_min:
        return
    usual = median(others)
    score = robust_z(cost_eur, others)
    if cost_eur - usual < limits.amount_min_eur or (score is not None and score < limits.score_min):
        return
    yield Finding(
        organization_id=organization_id,
        kind=AlertKind.UNUSUAL_DAY,
        period=day.isoformat(),
        key="",
        severity=Severity.WARNING,
        figures={
            "cost_eur": euro_text(cost_eur),
            "usual_eur": euro_text(usual.quantize(NANO_EURO)),
            "score": None if score is None else f"{score:.1f}",
        },
    )


def robust_z(value: Decimal, others: Sequence[Decimal]) -> Decimal | None:
    """How far `value` lies from the middle of `others`, in units of how much they vary.

        M = 0.6745 (x − median) / MAD,    MAD = median of |x_i − median|

    the modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993), who call a value
    with |M| > 3.5 an outlier. Where half of the values are the same, MAD is 0, and the mean absolute
    deviation times 1.253314 stands in for MAD / 0.6745. None: all are the same but for `value`, which is then
    infinitely far from them.
    """
    middle = median(others)
    deviations = [abs(other - middle) for other in others]
    if spread := median(deviations):
        return MAD_FACTOR * (value - middle) / spread
    if spread := sum(deviations, ZERO) / len(deviations):
        return (value - middle) / (MEAN_DEVIATION_FACTOR * spread)
    return ZERO if value == middle else None


# --- Providers


def providers_down(states: Mapping[Key, State], *, now: datetime, after: timedelta) -> Iterator[Finding]:
    """Models that have failed for `after`, and those that are switched off.

    One that nobody has tried for as long is not known to fail any more.
    """
    off = {provider for (provider, model), state in states.items() if model == ALL_MODELS and _is_off(state)}
    for (provider, model), state in sorted(states.items()):
        of_all = model == ALL_MODELS
        if _is_off(state):
            if of_all or provider not in off:
                yield _down(provider, model, "switched_off", now, now)
        elif state.down_since is not None and _has_failed_for(state, now, after):
            yield _down(provider, model, state.reason, state.down_since, now)


def _has_failed_for(state: State, now: datetime, after: timedelta) -> bool:
    if state.switch != "automatic" or state.down_since is None or state.retry_at is None:
        return False
    return now - state.down_since >= after and now - state.retry_at < after


def _is_off(state: State) -> bool:
    return state.switch == "forced_open"


def _down(provider: str, model: str, reason: str, since: datetime, now: datetime) -> Finding:
    return Finding(
        organization_id=None,
        kind=AlertKind.PROVIDER_DOWN,
        period=now.date().isoformat(),
        key=f"{provider} {model}",
        severity=Severity.WARNING if reason == "switched_off" else Severity.CRITICAL,
        figures={"provider": provider, "model": model, "reason": reason, "since": since.isoformat()},
    )


# --- Single events


def overrun(
    organization_id: int, day: date, provider: str, model: str, held_eur: Decimal, cost_eur: Decimal
) -> Finding:
    """A call cost more than its hold: a bound was wrong."""
    return Finding(
        organization_id=organization_id,
        kind=AlertKind.OVERRUN,
        period=day.isoformat(),
        key=f"{provider} {model}",
        severity=Severity.CRITICAL,
        figures={
            **{"provider": provider, "model": model},
            **{"held_eur": euro_text(held_eur), "cost_eur": euro_text(cost_eur)},
        },
    )


def budget_refused(organization_id: int, month: date, scope: Scope, subject: str) -> Finding:
    """The first call of a month that an account's cap refused."""
    return Finding(
        organization_id=organization_id,
        kind=AlertKind.BUDGET_REFUSED,
        period=month_period(month),
        key=account_key(scope, subject),
        severity=Severity.CRITICAL if scope == Scope.ORGANIZATION else Severity.WARNING,
        figures=account_figures(scope, subject, None),
    )
