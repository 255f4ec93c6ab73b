"""Retries are paid for by calls, so that they cannot multiply the load of providers that all fail."""

from providers.failover import RetryBudget


def test_the_reserve_is_spent_and_then_earned_call_by_call() -> None:
    budget = RetryBudget(calls_per_retry=4, reserve=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(3):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_no_more_is_saved_up_than_the_reserve() -> None:
    budget = RetryBudget(calls_per_retry=1, reserve=3)
    for _ in range(100):
        budget.earn()
    assert sum(budget.spend() for _ in range(10)) == 3


def test_retries_that_help_cost_nothing() -> None:
    budget = RetryBudget(calls_per_retry=1_000, reserve=5)
    for _ in range(100):
        assert budget.spend()
        budget.give_back(1)


def test_of_a_thousand_failing_calls_a_fifth_and_the_reserve_are_repeated() -> None:
    budget = RetryBudget(calls_per_retry=5, reserve=100)
    retries = 0
    for _ in range(1_000):
        budget.earn()
        retries += budget.spend()
    assert retries == 100 + 200 - 1
