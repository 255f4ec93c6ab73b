"""Month close: what is late goes into the next open month, and nothing changes a closed one."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, transaction

from aigov import background, clock, database, snapshots
from aigov.errors import BadRequest, BudgetUnavailable
from aigov.organizations.models import AuditEntry, Organization
from budgets import accounts, ledger
from budgets.closing import checklist, close_month, first_open_month, is_closed, reopen_month
from budgets.corrections import net_cost, post_correction
from budgets.models import LATE_ANSWER, ApprovalRequest, BudgetAccount, CostRecord, Hold, MonthClose
from tests.ledger_world import (
    approved,
    charge_of,
    figures,
    last_month,
    records,
    reserve,
    settle,
    this_month,
)

Make = Callable[..., Organization]
in_thread = sync_to_async


@pytest.fixture(autouse=True)
async def opened() -> AsyncIterator[None]:
    async with database.pool_opened(), snapshots.kept_fresh():
        yield
        await background.drained(wait_s=8)


async def spend(organization: Organization, cost: str, **more: Any) -> CostRecord:
    """A charge of the month that is over, settled at `cost` euro."""
    charge = await in_thread(charge_of)(organization, **{"month": last_month(organization), **more})
    hold_id = await reserve(charge, "0.5")
    await settle(hold_id, cost)
    return await in_thread(CostRecord.objects.get)(hold_id=hold_id)


async def close(organization: Organization, month: date | None = None) -> MonthClose:
    return await in_thread(close_month)(
        organization=organization, month=month or last_month(organization), acting="finance", reason="done"
    )


async def reopen(organization: Organization) -> MonthClose:
    month = last_month(organization)
    request = await in_thread(approved)(organization, "reopening", month)
    return await in_thread(reopen_month)(
        organization=organization, month=month, request=request, acting=request.decided_by
    )


async def correct(record: CostRecord, amount: str, **more: Any) -> CostRecord:
    """A correction that a second person has approved."""
    organization = await in_thread(Organization.objects.get)(pk=record.organization_id)
    request = await in_thread(approved)(
        organization, "correction", record.month, amount_eur=Decimal(amount), corrects=record
    )
    given: dict[str, Any] = {
        **{"organization": organization, "month": record.month, "amount_eur": Decimal(amount)},
        **{"corrects": record, "request": request, "reason": "a wrong price", "acting": request.decided_by},
    }
    return await in_thread(post_correction)(**{**given, **more})


async def unmet(organization: Organization, month: date) -> list[str]:
    """Of the organization itself: the bills are all organizations'."""
    points = await in_thread(checklist)(organization, month)
    return [point.name for point in points if not point.is_met and point.name != "bills"]


# --- Closing


async def test_a_month_is_closed_with_its_figures_and_an_audit_entry(organization: Organization) -> None:
    await spend(organization, "0.1", user="u-1")
    await spend(organization, "0.2")
    month = last_month(organization)
    account = await in_thread(accounts.open_month)(organization=organization, month=month)
    await in_thread(accounts.set_month_cap)(
        account=account, cap_eur=Decimal(700), acting="finance", reason="a test"
    )
    closed = await close(organization)
    assert (closed.opening_cap_eur, closed.cap_eur) == (1000, 700)
    assert (closed.spent_eur, closed.records, closed.closed_by) == (Decimal("0.3"), 2, "finance")
    assert await in_thread(is_closed)(organization.pk, month)
    assert not await in_thread(is_closed)(organization.pk, this_month(organization))
    entry = await in_thread(AuditEntry.objects.get)(organization=organization, action="budget.month_closed")
    assert (entry.actor, entry.reason) == ("finance", "done")
    assert (entry.after["spent_eur"], entry.after["cost_records"]) == ("0.300000000", 2)


async def test_a_month_that_goes_on_cannot_be_closed(organization: Organization) -> None:
    month = this_month(organization)
    await in_thread(accounts.open_month)(organization=organization, month=month)
    with pytest.raises(BadRequest) as refused:
        await close(organization, month)
    assert refused.value.metadata == {"unmet": ["over"]}
    assert "cannot be closed yet" in refused.value.message


async def test_a_month_ends_at_local_midnight(
    make_organization: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = await in_thread(make_organization)(time_zone="Pacific/Auckland")
    month = last_month(organization)
    ended = clock.month_start(clock.next_month(month), "Pacific/Auckland")
    monkeypatch.setattr(clock, "now", lambda: ended - timedelta(seconds=1))
    assert await unmet(organization, month) == ["over"]
    monkeypatch.setattr(clock, "now", lambda: ended)
    assert await unmet(organization, month) == []


async def test_an_open_hold_keeps_its_month_open(organization: Organization) -> None:
    charge = await in_thread(charge_of)(organization, month=last_month(organization))
    hold_id = await reserve(charge, "0.5")
    with pytest.raises(BadRequest, match="1 call is still in flight") as refused:
        await close(organization)
    assert refused.value.metadata == {"unmet": ["holds"]}
    await ledger.void(hold_id=hold_id)
    await close(organization)


async def test_an_open_request_keeps_its_month_open(organization: Organization) -> None:
    record = await spend(organization, "0.1")
    request = await in_thread(ApprovalRequest.objects.create)(
        **{"organization": organization, "kind": "correction", "month": record.month, "reason": "x"},
        **{"amount_eur": 1, "asked_by": "x", "asked_at": clock.now(), "expires_at": clock.now()},
    )
    with pytest.raises(BadRequest, match="1 request is open"):
        await close(organization)
    await in_thread(ApprovalRequest.objects.filter(pk=request.pk).update)(
        state="withdrawn", decided_at=clock.now()
    )
    await close(organization)


async def test_books_that_do_not_balance_keep_the_month_open(organization: Organization) -> None:
    await spend(organization, "0.1", user="u-1")
    of_user = BudgetAccount.objects.filter(organization=organization, scope="user")
    await in_thread(of_user.update)(spent_eur=Decimal("0.2"))
    assert await unmet(organization, last_month(organization)) == ["books"]
    await in_thread(of_user.update)(spent_eur=Decimal("0.1"))
    assert await unmet(organization, last_month(organization)) == []


async def test_a_month_is_closed_once_and_only_where_there_is_one(organization: Organization) -> None:
    with pytest.raises(BadRequest, match="no budget for this month"):
        await close(organization)
    await spend(organization, "0.1")
    await close(organization)
    with pytest.raises(BadRequest, match="closed already") as refused:
        await close(organization)
    assert (refused.value.param, refused.value.code) == ("month", "month_closed")


# --- What is late


async def test_a_hold_for_a_closed_month_is_taken_in_the_next_open_one(organization: Organization) -> None:
    await spend(organization, "0.1")
    await close(organization)
    charge = await in_thread(charge_of)(organization, month=last_month(organization), user="u-1")
    hold_id, amount = uuid4(), Decimal("0.5")
    taken = await ledger.reserve(hold_id=hold_id, charge=charge, amount_eur=amount, amount_usd=amount)
    hold = await in_thread(Hold.objects.get)(pk=hold_id)
    assert hold.month == this_month(organization)
    end = clock.month_start(clock.next_month(hold.month), organization.time_zone)
    assert (taken.resets_at, taken.balance.held_eur) == (end, amount)
    await settle(hold_id, "0.2")
    assert await in_thread(figures)(organization) == (Decimal("0.2"), 0)
    assert await in_thread(figures)(organization, scope="user", subject="u-1") == (Decimal("0.2"), 0)
    assert (await in_thread(records)(organization))[-1].late is False, "it was held when it was open"


async def expired(organization: Organization, **more: Any) -> Any:
    """The id of a hold of 0.5 euro of the month that is over, whose process died, and its month's close."""
    charge = await in_thread(charge_of)(organization, month=last_month(organization), **more)
    hold_id = await reserve(charge, "0.5", lifetime_s=0)
    await in_thread(ledger.expire_holds)()
    await close(organization)
    return hold_id


async def test_a_late_answer_corrects_a_closed_month_in_the_next_open_one(organization: Organization) -> None:
    hold_id = await expired(organization, user="u-1", use_case="leads")
    balance = await settle(hold_id, "0.2")
    assert balance is not None and balance.spent_eur == Decimal("-0.3"), "a credit, in the open month"
    assert await settle(hold_id, "0.2") is None
    estimate, correction = await in_thread(records)(organization)
    assert (correction.month, correction.late, correction.corrects_id) == (
        *(this_month(organization), True),
        estimate.pk,
    )
    assert await in_thread(lambda: correction.belongs_to)() == last_month(organization)
    for scope, subject in (("organization", ""), ("user", "u-1"), ("use_case", "leads")):
        whose = {"scope": scope, "subject": subject}
        assert await in_thread(figures)(organization, **whose) == (Decimal("-0.3"), 0)
        before = await in_thread(figures)(organization, **whose, month=last_month(organization))
        assert before == (Decimal("0.5"), 0)


async def test_an_error_answer_takes_an_estimate_of_a_closed_month_back(organization: Organization) -> None:
    hold_id = await expired(organization, user="u-1")
    await ledger.void(hold_id=hold_id)
    await ledger.void(hold_id=hold_id)
    estimate, correction = await in_thread(records)(organization)
    assert (correction.cost_eur, correction.late) == (Decimal("-0.5"), True)
    assert await in_thread(net_cost)(estimate) == 0


async def test_a_late_answer_waits_where_accounts_cannot_be_opened(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(**_: Any) -> None:
        return None

    hold_id = await expired(organization)
    with monkeypatch.context() as broken:
        broken.setattr(accounts, "open_accounts", never)
        assert await settle(hold_id, "0.2") is None
        with pytest.raises(BudgetUnavailable):
            await ledger._void(hold_id)
    await background.drained(wait_s=8)
    assert await in_thread(figures)(organization) == (Decimal("-0.3"), 0)


async def test_a_late_answer_after_a_correction_brings_the_charge_to_its_true_cost(
    organization: Organization,
) -> None:
    charge = await in_thread(charge_of)(organization)
    hold_id = await reserve(charge, "0.5", lifetime_s=0)
    await in_thread(ledger.expire_holds)()
    (estimate,) = await in_thread(records)(organization)
    await correct(estimate, "-0.4")
    await settle(hold_id, "0.2")
    assert await in_thread(net_cost)(estimate) == Decimal("0.2")
    assert await in_thread(figures)(organization) == (Decimal("0.2"), 0)


async def test_the_first_open_month_skips_closed_ones(organization: Organization) -> None:
    record = await spend(organization, "0.1")
    month = last_month(organization)
    earlier = (month - timedelta(days=1)).replace(day=1)
    first = await spend(organization, "0.1", month=earlier)
    await close(organization)
    assert await in_thread(first_open_month)(organization.pk, month) == this_month(organization)
    assert await in_thread(first_open_month)(organization.pk, earlier) == earlier
    assert (await correct(first, "0.01")).month == earlier
    await close(organization, earlier)
    assert (await correct(first, "0.02")).month == this_month(organization)
    assert (await correct(record, "0.03")).month == this_month(organization)


# --- Corrections


async def test_a_correction_is_a_record_of_its_own(organization: Organization) -> None:
    record = await spend(organization, "0.2", user="u-1", use_case="leads")
    correction = await correct(record, "-0.05")
    assert (correction.cost_eur, correction.corrects_id, correction.hold_id) == (
        *(Decimal("-0.05"), record.pk),
        None,
    )
    assert (correction.month, correction.late, correction.reason) == (record.month, False, "a wrong price")
    assert (correction.model, correction.user, correction.price_id) == (
        record.model,
        "u-1",
        record.price_id,
    )
    assert correction.cost_usd == (Decimal("-0.05") / Decimal("0.92")).quantize(Decimal("1e-12"))
    month = record.month
    for scope, subject in (("organization", ""), ("user", "u-1"), ("use_case", "leads")):
        assert await in_thread(figures)(organization, scope=scope, subject=subject, month=month) == (
            *(Decimal("0.15"),),
            0,
        )
    entry = await in_thread(AuditEntry.objects.get)(organization=organization, action="budget.cost_corrected")
    assert (entry.before, entry.after["cost_eur"]) == ({"cost_eur": "0.200000000"}, "0.150000000")
    assert await in_thread(record.corrections.count)() == 1


async def test_what_a_bill_shows_more_is_posted_by_request_without_a_charge(
    organization: Organization,
) -> None:
    await spend(organization, "0.2")
    await close(organization)
    month = last_month(organization)
    request = await in_thread(approved)(organization, "correction", month, amount_eur=Decimal("1.5"))
    given: dict[str, Any] = {
        **{"organization": organization, "month": month, "amount_eur": Decimal("1.5"), "corrects": None},
        **{"request": request, "provider": "openai", "model": "gpt-4o-mini", "amount_usd": Decimal("1.6")},
        **{"reason": "the bill of October", "acting": request.decided_by},
    }
    record = await in_thread(post_correction)(**given)
    assert (record.provider, record.model, record.cost_usd) == ("openai", "gpt-4o-mini", Decimal("1.6"))
    assert (record.month, record.late) == (this_month(organization), True)
    assert await in_thread(lambda: record.belongs_to)() == month
    with pytest.raises(BadRequest, match="posted already"):
        await in_thread(post_correction)(**given)
    assert await in_thread(figures)(organization) == (Decimal("1.5"), 0)


async def test_a_charge_never_costs_less_than_nothing(organization: Organization) -> None:
    record = await spend(organization, "0.2")
    await spend(organization, "0.2")
    await correct(record, "-0.15")
    with pytest.raises(BadRequest, match="costs 0.05\N{NO-BREAK SPACE}€ with its corrections") as refused:
        await correct(record, "-0.050000001")
    assert refused.value.param == "amount_eur"
    await correct(record, "-0.05")
    assert await in_thread(net_cost)(record) == 0


async def test_a_month_never_has_spent_less_than_nothing_by_a_correction(organization: Organization) -> None:
    record = await spend(organization, "0.3", user="u-1")
    await close(organization)
    now = await in_thread(charge_of)(organization)
    await settle(await reserve(now, "0.5"), "0.2")
    with pytest.raises(BadRequest, match="is closed, so this would go into") as refused:
        await correct(record, "-0.1")  # the organization has spent 0.2 since, but its user nothing
    assert refused.value.param == "amount_eur"
    assert await in_thread(figures)(organization) == (Decimal("0.2"), 0)
    await settle(await reserve(replace(now, user="u-1"), "0.5"), "0.1")
    await correct(record, "-0.1")
    assert await in_thread(figures)(organization, scope="user", subject="u-1") == (0, 0)


async def test_a_correction_may_pass_the_cap(make_organization: Make) -> None:
    organization = await in_thread(make_organization)(cap_eur="1")
    charge = await in_thread(charge_of)(organization)
    hold_id = await reserve(charge, "1")
    await settle(hold_id, "1")
    (record,) = await in_thread(records)(organization)
    await correct(record, "0.5")
    assert await in_thread(figures)(organization) == (Decimal("1.5"), 0)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"amount_eur": Decimal(0)}, "amount_eur"),
        ({"amount_eur": Decimal("NaN")}, "amount_eur"),
        ({"amount_eur": Decimal("1e-10")}, "amount_eur"),
        ({"amount_eur": Decimal("-0.02")}, "request"),  # not what was approved
        ({"reason": " "}, "reason"),
        ({"reason": LATE_ANSWER}, "reason"),
        ({"month": date(2020, 1, 1)}, "corrects"),
        ({"request": None}, "request"),
        ({"corrects": None}, "request"),
    ],
)
async def test_a_correction_that_is_not_allowed_is_refused(
    organization: Organization, more: dict[str, Any], param: str
) -> None:
    record = await spend(organization, "0.2")
    with pytest.raises(BadRequest) as refused:
        await correct(record, "-0.01", **more)
    assert refused.value.param == param
    assert await in_thread(records)(organization) == [record]


async def test_a_correction_is_not_corrected_itself(organization: Organization) -> None:
    correction = await correct(await spend(organization, "0.2"), "-0.1")
    with pytest.raises(BadRequest, match="a correction itself"):
        await correct(correction, "-0.01")


# --- Reopening


async def test_a_reopened_month_takes_charges_again_and_can_be_closed_again(
    organization: Organization,
) -> None:
    record = await spend(organization, "0.2")
    first = await close(organization)
    await reopen(organization)
    await in_thread(first.refresh_from_db)()
    assert first.reopened_at is not None and "@" in first.reopened_by
    assert (await correct(record, "0.1")).month == record.month
    await spend(organization, "0.1")
    second = await close(organization)
    assert (first.spent_eur, second.spent_eur) == (Decimal("0.2"), Decimal("0.4"))
    assert (
        await in_thread(
            AuditEntry.objects.filter(action="budget.month_reopened", organization=organization).count
        )()
        == 1
    )


async def test_a_month_is_reopened_by_an_approved_request_for_it_once(organization: Organization) -> None:
    await spend(organization, "0.2")
    month = last_month(organization)
    request = await in_thread(approved)(organization, "reopening", month)
    given: dict[str, Any] = {"organization": organization, "month": month, "acting": "x"}
    with pytest.raises(BadRequest, match="not closed"):
        await in_thread(reopen_month)(**given, request=request)
    await close(organization)
    waiting = await in_thread(approved)(organization, "reopening", month)
    await in_thread(ApprovalRequest.objects.filter(pk=waiting.pk).update)(state="open", decided_at=None)
    of_another_month = await in_thread(approved)(organization, "reopening", this_month(organization))
    for wrong in (waiting, of_another_month):
        with pytest.raises(BadRequest, match="second person"):
            await in_thread(reopen_month)(**given, request=wrong)
    await in_thread(reopen_month)(**given, request=request)
    await in_thread(ApprovalRequest.objects.filter(pk=waiting.pk).update)(
        state="withdrawn", decided_at=clock.now()
    )
    await close(organization)
    with pytest.raises(BadRequest, match="second person"):
        await in_thread(reopen_month)(**given, request=request)


# --- The database keeps it


async def attempt(statement: str, values: dict[str, Any]) -> None:
    def run() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, values)

    await in_thread(run)()


FORGED = """
INSERT INTO ai_costs (organization_id, month, "user", use_case, completion_id, attempt, purpose, provider,
    model, tier, metadata, hold_id, created_at, held_eur, cost_eur, estimated, overrun, reason, service_tier,
    provider_request_id)
VALUES (%(organization)s, %(month)s, '', '', '', 0, 'answer', 'openai', 'x', 'small', '{}', gen_random_uuid(),
    now(), 1, 1, false, false, '', '', '')
"""
FORGED_HOLD = """
INSERT INTO budget_holds (id, organization_id, month, "user", use_case, amount_eur, amount_usd, completion_id,
    attempt, purpose, provider, model, tier, metadata, created_at, expires_at)
VALUES (gen_random_uuid(), %(organization)s, %(month)s, '', '', 1, 1, '', 0, 'answer', 'openai', 'x', 'small',
    '{}', now(), now())
"""
REFUSALS = "is closed for|an account keeps|takes no money|budget_month_closes alone|only ever|never changed"


@pytest.mark.parametrize(
    "statement",
    [
        FORGED,
        FORGED_HOLD,
        "UPDATE budget_accounts SET spent_eur = spent_eur + 1 WHERE id = %(account)s",
        "UPDATE budget_accounts SET held_eur = 1 WHERE id = %(account)s",
        "UPDATE budget_accounts SET cap_eur = 5 WHERE id = %(account)s",
        "UPDATE budget_accounts SET cap_is_of_month = NOT cap_is_of_month WHERE id = %(account)s",
        "UPDATE budget_accounts SET opening_cap_eur = 1 WHERE id = %(account)s",
        "UPDATE budget_accounts SET closed = false WHERE id = %(account)s",
        "UPDATE budget_accounts SET closed = false, spent_eur = 7 WHERE id = %(account)s",
        "UPDATE budget_accounts SET month = month - interval '1 year' WHERE id = %(account)s",
        "DELETE FROM budget_accounts WHERE id = %(account)s",
        "TRUNCATE budget_accounts",
        "INSERT INTO budget_accounts (organization_id, month, scope, subject, spent_eur, held_eur,"
        " cap_is_of_month) VALUES (%(organization)s, %(month)s, 'user', 'u-9', 1, 0, false)",
        "UPDATE budget_month_closes SET reopened_at = now(), reopened_by = 'me' WHERE id = %(close)s",
        "UPDATE budget_month_closes SET reopened_at = now(), request_id = %(waiting)s WHERE id = %(close)s",
        "UPDATE budget_month_closes SET spent_eur = 0 WHERE id = %(close)s",
        "DELETE FROM budget_month_closes WHERE id = %(close)s",
        "TRUNCATE budget_month_closes",
    ],
)
async def test_nothing_changes_a_closed_month(organization: Organization, statement: str) -> None:
    await spend(organization, "0.2", user="u-1")
    closed = await close(organization)
    waiting = await in_thread(approved)(organization, "reopening", closed.month)
    await in_thread(ApprovalRequest.objects.filter(pk=waiting.pk).update)(state="open", decided_at=None)
    account = await in_thread(BudgetAccount.objects.get)(
        organization=organization, month=closed.month, scope="user"
    )
    ids = {"account": account.pk, "organization": organization.pk, "close": closed.pk, "waiting": waiting.pk}
    values = {**ids, "month": closed.month}
    with pytest.raises(IntegrityError, match=REFUSALS):
        await attempt(statement, values)


@pytest.mark.parametrize("offset", [0, 40])
async def test_the_database_closes_no_month_that_goes_on_or_has_not_begun(
    organization: Organization, offset: int
) -> None:
    month = (this_month(organization) + timedelta(days=offset)).replace(day=1)
    await in_thread(accounts.open_month)(organization=organization, month=month)
    with pytest.raises(IntegrityError, match="is over"):
        await attempt(CLOSE, {"organization": organization.pk, "month": month})


CLOSE = """
INSERT INTO budget_month_closes (organization_id, month, closed_at, closed_by, reason, spent_eur, records,
    reopened_by)
VALUES (%(organization)s, %(month)s, now(), 'me', '', 0, 0, '')
"""


async def test_the_database_closes_no_month_with_a_hold(organization: Organization) -> None:
    values = {"organization": organization.pk, "month": last_month(organization)}
    with pytest.raises(IntegrityError, match="has an account"):
        await attempt(CLOSE, values)
    charge = await in_thread(charge_of)(organization, month=values["month"])
    hold_id = await reserve(charge, "0.5")
    with pytest.raises(IntegrityError, match="no open hold"):
        await attempt(CLOSE, values)
    await ledger.void(hold_id=hold_id)
    await attempt(CLOSE, values)
    assert await in_thread(is_closed)(organization.pk, values["month"])


async def test_a_closed_months_user_can_still_be_pseudonymised(organization: Organization) -> None:
    record = await spend(organization, "0.2", user="u-1")
    await close(organization)

    def pseudonymise() -> None:
        CostRecord.objects.filter(pk=record.pk).update(user="p-1")
        BudgetAccount.objects.filter(organization=organization, subject="u-1").update(subject="p-1")

    await in_thread(pseudonymise)()
    assert await in_thread(lambda: ledger.differences(organization_id=organization.pk))() == []


async def test_an_account_that_a_closed_month_gets_yet_is_closed(organization: Organization) -> None:
    await spend(organization, "0.2")
    await close(organization)
    month = last_month(organization)
    await accounts.open_accounts(organization_id=organization.pk, month=month, user="u-7", use_case="")
    late = await in_thread(BudgetAccount.objects.get)(organization=organization, month=month, subject="u-7")
    assert late.closed


async def test_caps_of_a_closed_month_stay(organization: Organization) -> None:
    await spend(organization, "0.2")
    await close(organization)
    account = await in_thread(accounts.open_month)(organization=organization, month=last_month(organization))
    with pytest.raises(BadRequest, match="is closed: its caps stay as they are") as refused:
        await in_thread(accounts.set_month_cap)(
            account=account, cap_eur=Decimal(1), acting="finance", reason="a test"
        )
    assert (refused.value.param, refused.value.code) == ("cap_eur", "month_closed")
