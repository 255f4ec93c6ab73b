"""The ledger: the only writer of money.

A call's worst case is taken as a hold before it is sent (`reserve`), over every account that applies, in one
statement, or not at all. Its end is one of four, each once and for all in one transaction: `settle` at the
true cost, `settle_estimated` at the whole hold when it may have been billed, `void` when it was not, and
`expire_holds` when its process died. So for every account, at every instant,

    held = Σ open holds      spent = Σ cost records      spent + held ≤ cap when a hold is admitted.

The functions in the database (`budgets/sql/ledger.sql`) do the work; here is how they are called, and what
happens when the database is away: no hold is taken (`BudgetUnavailable`), and what ends a hold is repeated
in the background for as long as the hold lives.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol
from uuid import UUID

from django.conf import settings
from django.db import connection as django_connection
from psycopg.types.json import Jsonb

from aigov import background, clock, database
from aigov.errors import BudgetExceeded, BudgetUnavailable
from aigov.money import cap_text, euro_text
from budgets import accounts

EXPIRE_BATCH_MAX = 1_000
#: Accounts are opened at most this often for one hold; more than once only where the caps just changed.
OPEN_TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Charge:
    """What a hold fixes: who pays, in which month, for what, at which price and exchange rate."""

    organization_id: int
    time_zone: str
    month: date
    user: str
    use_case: str
    completion_id: str
    attempt: int
    provider: str
    model: str
    tier: str
    price_id: int
    fx_rate_id: int
    metadata: Mapping[str, Any]
    purpose: Literal["answer", "check"] = "answer"

    @property
    def resets_at(self) -> datetime:
        return clock.month_start(clock.next_month(self.month), self.time_zone)


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's figures at one instant, in euro; a user or use case may have no cap (None)."""

    cap_eur: Decimal | None
    spent_eur: Decimal
    held_eur: Decimal

    @property
    def remaining_eur(self) -> Decimal | None:
        """What a new hold may still take; never below zero, also where a lowered cap has been passed."""
        if self.cap_eur is None:
            return None
        return max(self.cap_eur - self.spent_eur - self.held_eur, Decimal(0))


@dataclass(frozen=True, slots=True)
class Taken:
    """A hold that was taken: the organization's figures with it, and when the month ends that it is of."""

    balance: Balance
    resets_at: datetime


class TokenCounts(Protocol):
    """The tokens that a provider bills, totals inclusive of the parts."""

    @property
    def input_total(self) -> int: ...
    @property
    def output_total(self) -> int: ...
    @property
    def cache_read(self) -> int: ...
    @property
    def cache_write_5m(self) -> int: ...
    @property
    def cache_write_1h(self) -> int: ...
    @property
    def reasoning(self) -> int: ...
    @property
    def service_tier(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TrueCost:
    """What an answered call cost, and by what.

    Args:
        cost_eur: rounded up to the nano-euro.
        price_id: the price row, where the service tier that came back has another one than the hold.
    """

    cost_eur: Decimal
    cost_usd: Decimal
    usage: TokenCounts
    raw_usage: Mapping[str, Any]
    provider_request_id: str = ""
    price_id: int | None = None


async def reserve(
    *, hold_id: UUID, charge: Charge, amount_eur: Decimal, amount_usd: Decimal, lifetime_s: int | None = None
) -> Taken:
    """Takes a hold of `amount_eur`, the worst case, over organization, user and use case, in one round trip.

    Of the month that `charge` names, or, where that was closed in between, of the one after it.

    Raises:
        BudgetExceeded: it does not fit under one of the caps; nothing was taken.
        BudgetUnavailable: the database is away; nothing may be sent.
    """
    lifetime_s = settings.HOLD_LIFETIME_S if lifetime_s is None else lifetime_s
    for _ in range(OPEN_TRIES_MAX):
        outcome, scope, cap, spent, held = await _reserve(hold_id, charge, amount_eur, amount_usd, lifetime_s)
        if outcome == "held":
            return Taken(Balance(cap, spent, held), charge.resets_at)
        if outcome == "closed":  # the statement came after its month's end, and its close
            charge = replace(charge, month=clock.next_month(charge.month))
            continue
        if outcome != "no_account":
            raise refusal(outcome, scope, Balance(cap, spent, held), amount_eur, charge.resets_at)
        await accounts.open_accounts(
            organization_id=charge.organization_id,
            month=charge.month,
            user=charge.user,
            use_case=charge.use_case,
        )
    raise database.unavailable()


async def _reserve(
    hold_id: UUID, charge: Charge, amount_eur: Decimal, amount_usd: Decimal, lifetime_s: int
) -> tuple[str, str, Decimal, Decimal, Decimal]:
    try:
        async with database.connection() as conn:
            cursor = await conn.execute(
                "SELECT * FROM ledger_reserve(%s, %s, %s, %s, %s, %s, %s, make_interval(secs => %s),"
                " %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    *(hold_id, charge.organization_id, charge.month, charge.user, charge.use_case),
                    *(amount_eur, amount_usd, lifetime_s),
                    *(charge.completion_id, charge.attempt, charge.purpose),
                    *(charge.provider, charge.model, charge.tier, charge.price_id, charge.fx_rate_id),
                    Jsonb(dict(charge.metadata)),
                ),
            )
            return await cursor.fetchone()  # type: ignore[return-value]
    except database.NotConnected:
        raise
    except (BudgetUnavailable, asyncio.CancelledError):
        # Whether the hold was taken is unknown, but nothing will be sent under it.
        background.spawn(_void_unknown(hold_id), name=f"void {hold_id}")
        raise


def refusal(
    outcome: str, scope: str, balance: Balance, required_eur: Decimal, resets_at: datetime
) -> BudgetExceeded:
    """The 402 for a hold that does not fit: with the figures of the caller's own scope, and no other's."""
    in_flight = outcome == "in_flight"
    name = scope.replace("_", " ")
    return BudgetExceeded(
        f"The {name}'s budget for this month is held by calls in flight. Please repeat the request shortly."
        if in_flight
        else f"The {name}'s budget for this month does not cover this call.",
        code="in_flight_budget_exhausted" if in_flight else f"{scope}_budget_exceeded",
        metadata={
            "scope": scope,
            "limit_eur": None if balance.cap_eur is None else cap_text(balance.cap_eur),
            "spent_eur": euro_text(balance.spent_eur),
            "held_eur": euro_text(balance.held_eur),
            "required_eur": euro_text(required_eur),
            "resets_at": resets_at.isoformat(),
        },
        retry_after_s=1 if in_flight else None,
    )


async def settle(*, hold_id: UUID, cost: TrueCost) -> Balance | None:
    """Charges the true cost, writes its record and releases the rest of the hold.

    A hold that had expired was charged in full: then a signed record corrects that. Settling twice changes
    nothing.

    Returns:
        The organization's figures after it, or None where they are not known: the database is away (the
        settlement is repeated in the background), or the hold was settled before.
    """
    usage = cost.usage
    return await _end(
        hold_id,
        *(cost.cost_eur, cost.cost_usd, False, "", usage.service_tier, cost.provider_request_id),
        *(usage.input_total, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h),
        *(usage.output_total, usage.reasoning, Jsonb(dict(cost.raw_usage)), cost.price_id),
    )


async def settle_estimated(*, hold_id: UUID, reason: str) -> Balance | None:
    """Charges the whole hold, marked as estimated: the call may have been billed, and nobody knows at what.

    Args:
        reason: the kind of failure, such as `timed_out`; it stands on the record.
    """
    return await _end(hold_id, None, None, True, reason, "", "", *[None] * 8)


async def void(*, hold_id: UUID) -> None:
    """Gives the hold back: nothing was sent, or the provider answered with an error."""
    await background.surely(lambda: _void(hold_id), name=f"void {hold_id}", for_s=settings.HOLD_LIFETIME_S)


async def _end(hold_id: UUID, *values: object) -> Balance | None:
    async def once() -> Balance | None:
        for _ in range(OPEN_TRIES_MAX):
            async with database.connection(wait_s=database.PATIENT_WAIT_S) as conn:
                cursor = await conn.execute(_SETTLE, (hold_id, *values))
                outcome, cap, spent, held, _charged = await cursor.fetchone()  # type: ignore[misc]
            if outcome != "no_account":
                return None if outcome == "already_settled" else Balance(cap, spent, held)
            await _open_for_late_answer(hold_id)
        raise database.unavailable()

    return await background.surely(once, name=f"settle {hold_id}", for_s=settings.HOLD_LIFETIME_S)


_SETTLE = f"SELECT * FROM ledger_settle({', '.join(['%s'] * 15)})"


async def _void(hold_id: UUID) -> bool:
    for _ in range(OPEN_TRIES_MAX):
        async with database.connection(wait_s=database.PATIENT_WAIT_S) as conn:
            cursor = await conn.execute("SELECT ledger_void(%s)", (hold_id,))
            (voided,) = await cursor.fetchone()  # type: ignore[misc]
        if voided is not None:
            return bool(voided)
        await _open_for_late_answer(hold_id)
    raise database.unavailable()


async def _open_for_late_answer(hold_id: UUID) -> None:
    """Opens the accounts of the month into which an expired hold's correction goes, its own being closed."""
    async with database.connection() as conn:
        cursor = await conn.execute(
            'SELECT organization_id, ledger_first_open_month(organization_id, month), "user", use_case'
            " FROM ai_costs WHERE hold_id = %s",
            (hold_id,),
        )
        organization_id, month, user, use_case = await cursor.fetchone()  # type: ignore[misc]
    await accounts.open_accounts(organization_id=organization_id, month=month, user=user, use_case=use_case)


async def _void_unknown(hold_id: UUID) -> None:
    """Voids a hold that may still come: the server may be at a statement whose client has gone.

    How long that takes counts from when the server answers again: it may have hung with the statement unread.
    """
    looks = int((database.STATEMENT_TIMEOUT_MS / 1000 + 1) / background.REPEAT_EVERY_S)
    for _ in range(int(settings.HOLD_LIFETIME_S / background.REPEAT_EVERY_S)):
        with suppress(BudgetUnavailable):
            if await _void(hold_id) or not looks:
                return
            looks -= 1
        await asyncio.sleep(background.REPEAT_EVERY_S)


def expire_holds() -> int:
    """Charges every hold whose lifetime is over in full, as estimated; at most `EXPIRE_BATCH_MAX` a run."""
    with django_connection.cursor() as cursor:
        for expired in range(EXPIRE_BATCH_MAX):
            cursor.execute("SELECT ledger_expire_one()")
            if cursor.fetchone() == (None,):
                return expired
    return EXPIRE_BATCH_MAX


@dataclass(frozen=True, slots=True)
class Difference:
    """An account whose figures are not the sums of its rows."""

    organization: str
    scope: str
    subject: str
    month: date
    spent_eur: Decimal
    cost_records_eur: Decimal
    held_eur: Decimal
    open_holds_eur: Decimal


def differences(*, organization_id: int | None = None, month: date | None = None) -> list[Difference]:
    """Every account that does not equal the sums of its rows; none, as long as the ledger is sound.

    Args:
        organization_id: looks at that organization's accounts alone, and with `month` at those of that month.
    """
    wanted = {"organization_id": organization_id, "month": month}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = "WHERE " + " AND ".join(f"{name} = %({name})s" for name in given) if given else ""
    with django_connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES.format(where=where), given)
        return [Difference(*row) for row in cursor.fetchall()]


# One statement, so one snapshot: beside a running service, too, no difference is only in passing.
_DIFFERENCES = """
WITH moved AS (
    SELECT organization_id, month, "user", use_case, cost_eur AS spent, 0 AS held FROM ai_costs {where}
    UNION ALL
    SELECT organization_id, month, "user", use_case, 0, amount_eur FROM budget_holds {where}
), accounts AS (
    SELECT * FROM budget_accounts {where}
), sums AS (
    SELECT organization_id, month, scope, subject, sum(spent) AS spent, sum(held) AS held
    FROM moved, LATERAL (
        VALUES ('organization', ''), ('user', "user"), ('use_case', use_case)
    ) account (scope, subject)
    WHERE scope = 'organization' OR subject <> ''
    GROUP BY organization_id, month, scope, subject
)
SELECT o.name, scope, subject, month, coalesce(a.spent_eur, 0), coalesce(s.spent, 0),
       coalesce(a.held_eur, 0), coalesce(s.held, 0)
FROM accounts a FULL JOIN sums s USING (organization_id, month, scope, subject)
JOIN organizations_organization o ON o.id = organization_id
WHERE coalesce(a.spent_eur, 0) <> coalesce(s.spent, 0) OR coalesce(a.held_eur, 0) <> coalesce(s.held, 0)
ORDER BY o.name, month, scope, subject
"""
