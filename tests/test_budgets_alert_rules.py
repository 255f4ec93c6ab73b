"""What deserves an alert, rule by rule."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from budgets.alerts import rules
from budgets.alerts.rules import Account, UnusualDay
from budgets.forecast import Forecast
from budgets.ledger import Balance
from budgets.models import AlertKind, Severity
from providers.breaker import State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MONTH, TODAY = date(2026, 11, 1), date(2026, 11, 23)
THRESHOLDS = [50, 80, 95, 100]
EURO = st.integers(min_value=0, max_value=200_000).map(lambda cents: Decimal(cents) / 100)


def account(cap: str | Decimal | None, spent: str | Decimal, held: str | Decimal = "0") -> Account:
    figures = Balance(None if cap is None else Decimal(cap), Decimal(spent), Decimal(held))
    return Account(7, 1, "organization", "", MONTH, figures)


def crossed(cap: str | None, spent: str, held: str = "0") -> list[tuple[int, bool]]:
    found = rules.thresholds_crossed(account(cap, spent, held), THRESHOLDS)
    return [(finding.figures["percent"], finding.is_news) for finding in found]


# --- Accounts


def test_only_the_highest_threshold_is_news() -> None:
    assert crossed("100", "49.99") == []
    assert crossed("100", "50") == [(50, True)]
    assert crossed("100", "95.5") == [(50, False), (80, False), (95, True)]
    assert crossed("100", "130")[-1] == (100, True)


def test_what_is_only_held_crosses_no_threshold() -> None:
    assert crossed("100", "10", held="90") == []


def test_without_a_cap_or_without_spending_nothing_is_crossed() -> None:
    assert crossed(None, "500") == []
    assert crossed("0", "0") == []
    assert crossed("0", "0.01")[-1] == (100, True)


@given(cap=EURO, spent=EURO)
def test_a_threshold_is_crossed_from_its_part_of_the_cap_on(cap: Decimal, spent: Decimal) -> None:
    found = [
        finding.figures["percent"] for finding in rules.thresholds_crossed(account(cap, spent), THRESHOLDS)
    ]
    assert found == [percent for percent in THRESHOLDS if spent and spent >= cap * percent / 100]


def test_the_severity_is_that_of_the_bars() -> None:
    severities = [rules.severity_of(percent) for percent in (50, 79, 80, 99, 100)]
    assert severities == ["notice", "notice", "warning", "warning", "critical"]


def test_over_the_cap_is_more_than_all_of_it() -> None:
    assert list(rules.over_cap(account("100", "60", held="40"))) == []
    assert list(rules.over_cap(account(None, "60", held="40"))) == []
    [found] = rules.over_cap(account("99.99", "60", held="40"))
    assert (found.kind, found.period, found.severity) == (AlertKind.OVER_CAP, "2026-11", Severity.CRITICAL)


# --- Days


def expecting(euro: str, *, days_known: int = 28) -> Forecast:
    return Forecast(Decimal(euro), Decimal(1), Decimal(999), "", days_known)


def test_a_forecast_over_the_cap() -> None:
    [found] = rules.forecast_over_cap(account("100", "10"), expecting("100.01"))
    assert found.figures["expected_eur"] == "100.010000000"
    assert list(rules.forecast_over_cap(account("100", "10"), expecting("100"))) == []
    assert list(rules.forecast_over_cap(account(None, "10"), expecting("500"))) == []
    assert list(rules.forecast_over_cap(account("100", "10"), None)) == []


def test_a_guess_from_a_few_days_alarms_nobody() -> None:
    assert list(rules.forecast_over_cap(account("100", "10"), expecting("500", days_known=6))) == []


LIMITS = UnusualDay(score_min=Decimal("3.5"), days_min=14, amount_min_eur=Decimal(5))


def is_unusual(cost: str, others: list[int], limits: UnusualDay = LIMITS) -> bool:
    return bool(
        list(rules.unusual_day(1, TODAY, Decimal(cost), [Decimal(other) for other in others], limits))
    )


def test_a_day_is_unusual_by_its_score_and_its_amount() -> None:
    usual = [9, 10, 11] * 5
    # MAD 1, so a score of 3.5 is 10 + 3.5 / 0.6745 = 15.19
    assert is_unusual("15.19", usual) and not is_unusual("15.18", usual)
    assert not is_unusual("100", usual[:13]), "too little is known"
    cheap = [0, 0, 1] * 5
    assert not is_unusual("4.99", cheap), "it is hardly worth a look"
    assert not is_unusual("0", [100] * 20), "a cheap day alarms nobody"


def test_a_day_unlike_all_others_which_are_the_same() -> None:
    assert is_unusual("15", [10] * 20) and not is_unusual("14.99", [10] * 20)
    free = UnusualDay(Decimal("3.5"), 14, Decimal(0))
    assert not is_unusual("10", [10] * 20, free)


def test_the_score_where_half_of_the_days_are_the_same() -> None:
    others = [Decimal(10)] * 8 + [Decimal(20)] * 2
    assert rules.robust_z(Decimal(20), others) == Decimal(10) / (rules.MEAN_DEVIATION_FACTOR * 2)
    assert rules.robust_z(Decimal(10), [Decimal(10)] * 3) == 0
    assert rules.robust_z(Decimal(11), [Decimal(10)] * 3) is None


@given(others=st.lists(EURO, min_size=3, max_size=60), value=EURO, factor=st.integers(1, 50))
def test_a_score_knows_no_currency_and_no_offset(others: list[Decimal], value: Decimal, factor: int) -> None:
    score = rules.robust_z(value, others)
    scaled = rules.robust_z(value * factor + 3, [other * factor + 3 for other in others])
    assert (score is None) == (scaled is None)
    if score is not None and scaled is not None:
        assert abs(score - scaled) < Decimal("1e-9")
        assert (score > 0) == (value > median(others))


# --- Providers


def state(**more: object) -> State:
    usual = {
        **{"state": "open", "switch": "automatic", "successes": 0, "failures": 5, "reason": "timed_out"},
        **{
            "opened_at": NOW,
            "retry_at": NOW + timedelta(seconds=30),
            "down_since": NOW - timedelta(minutes=6),
        },
    }
    return State(**{**usual, **more})  # type: ignore[arg-type]


def down(states: dict[tuple[str, str], State]) -> list[str]:
    found = rules.providers_down(states, now=NOW, after=timedelta(minutes=5))
    return [f"{finding.key} {finding.figures['reason']}" for finding in found]


def test_a_model_is_down_once_it_has_failed_for_a_while() -> None:
    assert down({("openai", "m"): state()}) == ["openai m timed_out"]
    assert down({("openai", "m"): state(down_since=NOW - timedelta(minutes=4))}) == []
    assert down({("openai", "m"): state(state="closed", down_since=None, retry_at=None)}) == []
    assert down({("openai", "m"): state(switch="forced_closed")}) == []


def test_a_model_that_nobody_has_tried_for_long_is_not_known_to_be_down() -> None:
    assert down({("openai", "m"): state(state="half_open", retry_at=NOW - timedelta(minutes=5))}) == []


def test_a_provider_that_is_switched_off_is_told_once_and_not_for_each_model() -> None:
    off = state(switch="forced_open", down_since=None, retry_at=None)
    assert down({("openai", "m"): off, ("openai", "*"): off, ("anthropic", "n"): off}) == [
        "anthropic n switched_off",
        "openai * switched_off",
    ]
