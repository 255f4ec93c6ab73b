"""The life of a charge, row by row: what each event does to the hold, the charge and the accounts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from aigov import background, database, snapshots
from aigov.errors import BudgetExceeded, BudgetUnavailable
from aigov.organizations.models import AuditEntry, Organization
from aigov.registry.snapshot import SETTINGS
from aigov.registry.values import remove_value, set_value
from budgets import accounts, ledger, tasks
from budgets.ledger import Balance
from budgets.models import LATE_ANSWER, BudgetAccount, CostRecord, Hold
from tests.conftest import month_account
from tests.ledger_world import charge_of, figures, records, reserve, settle, this_month

Make = Callable[..., Organization]


@pytest.fixture(autouse=True)
async def opened() -> AsyncIterator[None]:
    async with database.pool_opened(), snapshots.kept_fresh():
        yield
        await background.drained(wait_s=8)


@sync_to_async
def cap(organization: Organization, cap_eur: str) -> None:
    """Sets the month's cap, as finance does."""
    accounts.set_month_cap(
        account=month_account(organization), cap_eur=Decimal(cap_eur), acting="finance", reason="a test"
    )


in_thread = sync_to_async


# --- The hold


async def test_a_hold_is_taken_over_every_account_that_applies(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization, user="u-1", use_case="leads")
    await reserve(charge, "0.5")
    for scope, subject in (("organization", ""), ("user", "u-1"), ("use_case", "leads")):
        assert await in_thread(figures)(organization, scope=scope, subject=subject) == (0, Decimal("0.5"))


async def test_a_hold_fixes_what_its_end_goes_by(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization, user="u-1", use_case="leads")
    hold = await in_thread(Hold.objects.get)(pk=await reserve(charge, "0.5", lifetime_s=120))
    assert (hold.month, hold.user, hold.use_case) == (charge.month, "u-1", "leads")
    assert (hold.price_id, hold.fx_rate_id, hold.metadata) == (
        charge.price_id,
        charge.fx_rate_id,
        {"lead_id": "L-1"},
    )
    assert 119 < (hold.expires_at - hold.created_at).total_seconds() < 121


async def test_a_hold_may_use_the_cap_to_the_last_nano_euro_and_not_one_more(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    charge = await in_thread(charge_of)(organization)
    await reserve(charge, "0.999999999")
    with pytest.raises(BudgetExceeded):
        await reserve(charge, "0.000000002")
    await reserve(charge, "0.000000001")
    assert await in_thread(figures)(organization) == (0, 1)


async def test_a_hold_that_does_not_fit_is_refused_and_leaves_no_trace(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    charge = await in_thread(charge_of)(organization, user="u-1")
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "1.5")
    error = caught.value
    assert (error.code, error.in_flight, error.retry_after_s) == ("organization_budget_exceeded", False, None)
    assert error.metadata == {
        "scope": "organization",
        "limit_eur": "1.00",
        "spent_eur": "0.000000000",
        "held_eur": "0.000000000",
        "required_eur": "1.500000000",
        "resets_at": charge.resets_at.isoformat(),
    }
    assert await in_thread(figures)(organization) == (0, 0)
    assert await in_thread(figures)(organization, scope="user", subject="u-1") == (0, 0)


async def test_what_only_calls_in_flight_hold_is_said_to_come_back(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    charge = await in_thread(charge_of)(organization)
    held = await reserve(charge, "0.6")
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "0.6")
    assert (caught.value.code, caught.value.in_flight) == ("in_flight_budget_exhausted", True)
    assert caught.value.retry_after_s == 1
    await ledger.void(hold_id=held)
    await reserve(charge, "0.6")


@pytest.mark.parametrize(("scope", "more"), [("user", {"user": "u-1"}), ("use_case", {"use_case": "leads"})])
async def test_a_narrower_cap_refuses_and_takes_nothing_anywhere(
    organization: Organization, scope: str, more: dict[str, str]
) -> None:
    await in_thread(standing)(organization, scope, "0.4", *more.values())
    await SETTINGS.refresh()
    charge = await in_thread(charge_of)(organization, **more)
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "0.5")
    assert caught.value.code == f"{scope}_budget_exceeded"
    assert caught.value.metadata["limit_eur"] == "0.40"
    assert await in_thread(figures)(organization) == (0, 0)
    await reserve(replace(charge, user="", use_case=""), "0.5")


async def test_of_two_refusals_the_final_one_is_told(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    await in_thread(standing)(organization, "user", "0.5", "u-1")
    await SETTINGS.refresh()
    charge = await in_thread(charge_of)(organization, user="u-1")
    await reserve(charge, "0.4")
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "1.1")
    assert caught.value.code == "user_budget_exceeded"
    await reserve(replace(charge, user=""), "0.6")
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "0.6")
    assert caught.value.code == "user_budget_exceeded", "in flight for the organization, final for the user"


async def test_a_cap_of_zero_admits_nothing(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="0")
    with pytest.raises(BudgetExceeded):
        await reserve(await in_thread(charge_of)(organization), "0.000000001")


@pytest.mark.parametrize("amount", ["-1", "0"])
async def test_a_hold_of_nothing_is_impossible(organization: Organization, amount: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await reserve(await in_thread(charge_of)(organization), amount)


async def test_the_same_hold_cannot_be_taken_twice(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization)
    hold_id = await reserve(charge, "0.5")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await reserve(charge, "0.5", hold_id=hold_id)
    assert await in_thread(figures)(organization) == (0, Decimal("0.5"))


# --- Its ends


async def test_an_answer_is_charged_at_its_true_cost_and_the_rest_released(
    organization: Organization,
) -> None:
    charge = await in_thread(charge_of)(organization, user="u-1", use_case="leads")
    hold_id = await reserve(charge, "0.5")
    balance = await settle(hold_id, "0.123456789", provider_request_id="req_1")
    assert balance == Balance(Decimal(1000), Decimal("0.123456789"), Decimal(0))
    (record,) = await in_thread(records)(organization)
    assert (record.cost_eur, record.held_eur, record.hold_id) == (
        Decimal("0.123456789"),
        Decimal("0.5"),
        hold_id,
    )
    assert (record.estimated, record.overrun, record.reason) == (False, False, "")
    assert (record.input_total, record.cache_read, record.cache_write_5m) == (100, 40, 5)
    assert (record.output_total, record.reasoning, record.provider_request_id) == (10, 3, "req_1")
    assert (record.completion_id, record.metadata) == (charge.completion_id, {"lead_id": "L-1"})
    assert (record.price_id, record.eur_per_usd) == (charge.price_id, Decimal("0.92"))
    for scope, subject in (("organization", ""), ("user", "u-1"), ("use_case", "leads")):
        assert await in_thread(figures)(organization, scope=scope, subject=subject) == (
            Decimal("0.123456789"),
            0,
        )


async def test_settling_twice_charges_once(organization: Organization) -> None:
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.5")
    await settle(hold_id, "0.1")
    assert await settle(hold_id, "0.1") is None
    await ledger.void(hold_id=hold_id)
    assert await in_thread(figures)(organization) == (Decimal("0.1"), 0)


async def test_a_voided_hold_costs_nothing_and_cannot_be_charged_later(organization: Organization) -> None:
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.5")
    await ledger.void(hold_id=hold_id)
    assert await settle(hold_id, "0.1") is None
    assert await in_thread(figures)(organization) == (0, 0)
    assert await in_thread(records)(organization) == []


async def test_what_may_have_been_billed_is_charged_in_full_as_estimated(organization: Organization) -> None:
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.5")
    await ledger.settle_estimated(hold_id=hold_id, reason="timed_out")
    (record,) = await in_thread(records)(organization)
    assert (record.cost_eur, record.estimated, record.reason) == (Decimal("0.5"), True, "timed_out")
    assert record.cost_usd == Decimal("0.5")
    assert await in_thread(figures)(organization) == (Decimal("0.5"), 0)


async def test_a_bill_over_the_hold_is_charged_in_full_and_marked(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.9")
    balance = await settle(hold_id, "1.2")
    assert balance is not None and balance.remaining_eur == 0
    (record,) = await in_thread(records)(organization)
    assert (record.cost_eur, record.overrun) == (Decimal("1.2"), True)


async def test_an_expired_hold_is_charged_in_full(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization)
    expired, alive = await reserve(charge, "0.5", lifetime_s=0), await reserve(charge, "0.25")
    assert await in_thread(tasks.expire_holds)() >= 1
    (record,) = await in_thread(records)(organization)
    assert (record.hold_id, record.cost_eur, record.estimated) == (expired, Decimal("0.5"), True)
    assert (record.reason, record.cost_usd) == ("expired", Decimal("0.5"))
    assert await in_thread(figures)(organization) == (Decimal("0.5"), Decimal("0.25"))
    await ledger.void(hold_id=alive)


async def test_an_answer_after_the_expiry_corrects_the_estimate_once(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization, user="u-1")
    hold_id = await reserve(charge, "0.5", lifetime_s=0)
    await in_thread(ledger.expire_holds)()
    balance = await settle(hold_id, "0.2")
    assert balance is not None and balance.spent_eur == Decimal("0.2")
    assert await settle(hold_id, "0.2") is None
    await ledger.settle_estimated(hold_id=hold_id, reason="timed_out")
    estimate, correction = await in_thread(records)(organization)
    assert (correction.cost_eur, correction.corrects_id) == (Decimal("-0.3"), estimate.pk)
    assert (correction.reason, correction.estimated) == (LATE_ANSWER, False)
    assert await in_thread(figures)(organization, scope="user", subject="u-1") == (Decimal("0.2"), 0)


async def test_an_expired_estimate_stays_where_the_late_end_is_an_estimate(
    organization: Organization,
) -> None:
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.5", lifetime_s=0)
    await in_thread(ledger.expire_holds)()
    assert await ledger.settle_estimated(hold_id=hold_id, reason="timed_out") is None
    assert len(await in_thread(records)(organization)) == 1


async def test_a_sweep_ends_after_its_batch(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await in_thread(charge_of)(organization)
    for _ in range(3):
        await reserve(charge, "0.1", lifetime_s=0)
    monkeypatch.setattr(ledger, "EXPIRE_BATCH_MAX", 2)
    assert await in_thread(ledger.expire_holds)() == 2
    assert await in_thread(ledger.expire_holds)() == 1


# --- Caps


async def test_a_cap_lowered_below_what_is_out_lets_holds_run_on_and_admits_nothing(
    make_organization: Make,
) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    charge = await in_thread(charge_of)(organization)
    hold_id = await reserve(charge, "0.6")
    await cap(organization, "0.1")
    with pytest.raises(BudgetExceeded):
        await reserve(charge, "0.000000001")
    balance = await settle(hold_id, "0.5")
    assert balance == Balance(Decimal("0.1"), Decimal("0.5"), Decimal(0))
    assert balance.remaining_eur == 0
    await cap(organization, "2")
    await reserve(charge, "1.5")


async def test_a_months_cap_is_set_with_a_reason_and_audited(organization: Organization) -> None:
    await cap(organization, "250.5")
    entry = await in_thread(AuditEntry.objects.get)(organization=organization, action="budget.cap_changed")
    assert (entry.actor, entry.before, entry.after) == (
        "finance",
        {"cap_eur": "1000.00"},
        {"cap_eur": "250.50"},
    )


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1e10", "0.0000000001"])
async def test_a_cap_is_an_amount_of_euro(organization: Organization, amount: str) -> None:
    with pytest.raises(Exception, match="amount in euro") as caught:
        await cap(organization, amount)
    assert getattr(caught.value, "param", None) == "cap_eur"


async def test_a_cap_without_a_reason_is_refused(organization: Organization) -> None:
    account = await in_thread(month_account)(organization)
    with pytest.raises(Exception, match="reason") as caught:
        await in_thread(accounts.set_month_cap)(account=account, cap_eur=Decimal(1), acting="x", reason=" ")
    assert getattr(caught.value, "param", None) == "reason"


async def test_a_month_follows_the_standing_cap_until_it_has_its_own(organization: Organization) -> None:
    assert (await in_thread(month_account)(organization)).cap_eur == 1000
    await in_thread(standing)(organization, "organization", "700")
    assert (await in_thread(month_account)(organization)).cap_eur == 700
    await cap(organization, "300")
    await in_thread(standing)(organization, "organization", "800")
    account = await in_thread(month_account)(organization)
    assert (account.cap_eur, account.cap_is_of_month) == (300, True)


async def test_users_and_use_cases_follow_their_standing_caps(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization, user="u-1", use_case="leads")
    await reserve(charge, "0.5")
    await in_thread(standing)(organization, "user", "0.7", "u-1")
    await in_thread(standing)(organization, "use_case", "0.8", "leads")
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(charge, "0.25")
    assert caught.value.metadata["limit_eur"] == "0.70"
    await in_thread(unset_user_cap)(organization, "u-1")
    await reserve(charge, "0.25")


async def test_an_account_is_never_opened_with_a_stale_cap(organization: Organization) -> None:
    stale = await SETTINGS.refresh()
    await in_thread(standing)(organization, "organization", "0.1")
    SETTINGS._value = stale  # as a process that has not heard of the change yet
    with pytest.raises(BudgetExceeded) as caught:
        await reserve(await in_thread(charge_of)(organization), "0.5")
    assert caught.value.metadata["limit_eur"] == "0.10"


async def test_the_months_are_opened_for_everybody(make_organization: Make) -> None:
    organization = await in_thread(make_organization)()
    await in_thread(tasks.open_months)()
    find = BudgetAccount.objects.filter(organization=organization, month=this_month(organization)).count
    assert await in_thread(find)() == 1


# --- The database keeps it


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ai_costs SET cost_eur = 0 WHERE id = %s",
        "UPDATE ai_costs SET month = '2020-01-01' WHERE id = %s",
        "DELETE FROM ai_costs WHERE id = %s",
    ],
)
async def test_a_cost_record_is_never_changed(organization: Organization, change: str) -> None:
    await settle(await reserve(await in_thread(charge_of)(organization), "0.5"), "0.1")
    (record,) = await in_thread(records)(organization)

    def attempt() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change, [record.pk])

    with pytest.raises(IntegrityError, match="never changed"):
        await in_thread(attempt)()


async def test_of_a_cost_record_only_the_users_id_can_be_replaced(organization: Organization) -> None:
    await settle(await reserve(await in_thread(charge_of)(organization, user="u-1"), "0.5"), "0.1")

    def pseudonymise(user: str, pseudonym: str) -> None:
        # A user's account goes by the same name, so the sums stay theirs.
        CostRecord.objects.filter(organization=organization, user=user).update(user=pseudonym)
        BudgetAccount.objects.filter(organization=organization, subject=user).update(subject=pseudonym)

    await in_thread(pseudonymise)("u-1", "p-7f3a")
    (record,) = await in_thread(records)(organization)
    assert record.user == "p-7f3a"
    assert await in_thread(figures)(organization, scope="user", subject="p-7f3a") == (Decimal("0.1"), 0)
    assert await in_thread(ledger.differences)() == []


async def test_an_error_answer_after_the_expiry_takes_the_estimate_back(organization: Organization) -> None:
    hold_id = await reserve(await in_thread(charge_of)(organization), "0.5", lifetime_s=0)
    await in_thread(ledger.expire_holds)()
    await ledger.void(hold_id=hold_id)
    await ledger.void(hold_id=hold_id)
    estimate, correction = await in_thread(records)(organization)
    assert (correction.cost_eur, correction.corrects_id) == (Decimal("-0.5"), estimate.pk)
    assert await in_thread(figures)(organization) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE budget_accounts SET held_eur = -1 WHERE id = %s",
        "UPDATE budget_accounts SET cap_eur = -1 WHERE id = %s",
        "UPDATE budget_accounts SET cap_eur = NULL WHERE id = %s",
        "UPDATE budget_accounts SET month = '2026-11-02' WHERE id = %s",
        "UPDATE budget_accounts SET subject = 'x' WHERE id = %s",
    ],
)
async def test_an_account_cannot_say_what_cannot_be(organization: Organization, change: str) -> None:
    account = await in_thread(month_account)(organization)

    def attempt() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change, [account.pk])

    with pytest.raises(IntegrityError):
        await in_thread(attempt)()


async def test_check_ledger_finds_what_does_not_add_up(organization: Organization) -> None:
    await settle(await reserve(await in_thread(charge_of)(organization, user="u-1"), "0.5"), "0.1")

    def difference_after(delta: str) -> list[ledger.Difference]:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE budget_accounts SET spent_eur = spent_eur + %s"
                " WHERE organization_id = %s AND scope = 'user'",
                [Decimal(delta), organization.pk],
            )
        return ledger.differences()

    (found,) = await in_thread(difference_after)("0.000000001")
    assert (found.scope, found.subject, found.organization) == ("user", "u-1", organization.name)
    assert found.spent_eur - found.cost_records_eur == Decimal("0.000000001")
    said, status = await in_thread(check_ledger)()
    assert status == 1
    assert f"{organization.name} {this_month(organization):%Y-%m} user u-1: spent 0.100000001 €" in said
    assert await in_thread(difference_after)("-0.000000001") == []
    said, status = await in_thread(check_ledger)()
    assert (status, said.endswith(": 0 differences.\n")) == (0, True)


def check_ledger() -> tuple[str, object]:
    """What the command says, and its exit status."""
    said = StringIO()
    try:
        call_command("check_ledger", stdout=said)
    except SystemExit as end:
        return said.getvalue(), end.code
    return said.getvalue(), 0


# --- The database away


async def test_no_hold_without_the_database(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await in_thread(charge_of)(organization)
    hold_id = uuid4()
    with monkeypatch.context() as away, pytest.raises(BudgetUnavailable):
        away.setattr(database, "connection", no_connection)
        await reserve(charge, "0.5", hold_id=hold_id)
    assert not background._tasks or await background.drained(wait_s=8) is None
    assert not await in_thread(Hold.objects.filter(pk=hold_id).exists)()


async def test_a_hold_whose_taking_was_lost_on_the_way_back_is_voided(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await in_thread(charge_of)(organization)
    await in_thread(month_account)(organization)
    connected, hold_id, taken = database.connection, uuid4(), []

    @asynccontextmanager
    async def lost_after_the_statement(**options: Any) -> AsyncIterator[Any]:
        async with connected(**options) as conn:
            yield conn
        taken.append(await in_thread(Hold.objects.filter(pk=hold_id).exists)())
        raise database.unavailable()

    with monkeypatch.context() as broken, pytest.raises(BudgetUnavailable):
        broken.setattr(database, "connection", lost_after_the_statement)
        await reserve(charge, "0.5", hold_id=hold_id)
    assert taken == [True]
    await background.drained(wait_s=8)
    assert await in_thread(figures)(organization) == (0, 0)


async def test_a_database_that_stays_away_leaves_a_lost_hold_to_its_expiry(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def away(**_: Any) -> Any:
        nonlocal tries
        tries += 1
        raise database.unavailable()

    settings.HOLD_LIFETIME_S = 1
    monkeypatch.setattr(database, "connection", away)
    await ledger._void_unknown(uuid4())
    assert tries == 1 / background.REPEAT_EVERY_S


async def test_without_a_connection_there_is_nothing_to_void(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await in_thread(charge_of)(organization)

    def not_connected(**_: Any) -> Any:
        raise database.NotConnected("no connection")

    with monkeypatch.context() as away, pytest.raises(BudgetUnavailable):
        away.setattr(database, "connection", not_connected)
        await reserve(charge, "0.5")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("void")]


async def test_what_ends_a_hold_is_repeated_until_the_database_is_back(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = await in_thread(charge_of)(organization)
    settled, voided = await reserve(charge, "0.5"), await reserve(charge, "0.5")
    with monkeypatch.context() as away:
        away.setattr(database, "connection", no_connection)
        assert await settle(settled, "0.1") is None
        await ledger.void(hold_id=voided)
        await asyncio.sleep(background.REPEAT_EVERY_S * 1.5)
    await background.drained(wait_s=5)
    assert await in_thread(figures)(organization) == (Decimal("0.1"), 0)


async def test_a_cancelled_reservation_leaves_no_hold(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization)
    await in_thread(month_account)(organization)
    hold_id = uuid4()
    task = asyncio.create_task(reserve(charge, "0.5", hold_id=hold_id))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await background.drained(wait_s=5)
    assert not await in_thread(Hold.objects.filter(pk=hold_id).exists)()


async def test_an_account_that_cannot_be_opened_refuses(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(**_: Any) -> None:
        return None

    monkeypatch.setattr(accounts, "open_accounts", never)
    with pytest.raises(BudgetUnavailable):
        await reserve(await in_thread(charge_of)(organization), "0.5")


def no_connection(**_: Any) -> Any:
    raise database.unavailable()


def standing(organization: Organization, scope: str, cap_eur: str, subject: str = "") -> None:
    """Sets a standing cap by way of the settings registry."""
    common: dict[str, Any] = {"organization": organization, "acting": "a test", "reason": "a test"}
    if scope == "user":
        set_value(key=accounts.USER_MONTHLY_CAP, scope="user", user=subject, value=cap_eur, **common)
    elif scope == "use_case":
        caps = {subject: cap_eur}
        set_value(key=accounts.USE_CASE_MONTHLY_CAPS, scope="organization", value=caps, **common)
    else:
        set_value(key=accounts.MONTHLY_CAP, scope="organization", value=cap_eur, **common)


def unset_user_cap(organization: Organization, user: str) -> None:
    remove_value(
        key=accounts.USER_MONTHLY_CAP,
        scope="user",
        organization=organization,
        user=user,
        acting="a test",
        reason="a test",
    )
