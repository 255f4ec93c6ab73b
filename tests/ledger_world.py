"""What the ledger's tests share: a charge to hold for, and a look at an account's rows."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from psycopg.types.json import Jsonb

from aigov import clock
from aigov.organizations.models import Organization, User
from budgets import ledger
from budgets.ledger import Balance, Charge, TrueCost
from budgets.models import ApprovalRequest, BudgetAccount, CostRecord, FxRate
from providers.models import Price
from providers.types import Usage


def charge_of(organization: Organization, **more: Any) -> Charge:
    """A charge of this month by gpt-4o-mini, but for what is told otherwise."""
    price = Price.objects.filter(provider="openai", model="gpt-4o-mini", service_tier="standard").latest("id")
    fixed: dict[str, Any] = {
        "organization_id": organization.pk,
        "time_zone": organization.time_zone,
        "month": clock.month_of(clock.now(), organization.time_zone),
        "user": "",
        "use_case": "",
        "completion_id": f"cmp_{uuid4().hex}",
        "attempt": 0,
        "provider": "openai",
        "model": "gpt-4o-mini",
        "tier": "small",
        "price_id": price.pk,
        "fx_rate_id": FxRate.objects.earliest("id").pk,
        "metadata": {"lead_id": "L-1"},
    }
    return Charge(**{**fixed, **more})


async def reserve(charge: Charge, amount: str, *, hold_id: UUID | None = None, lifetime_s: int = 60) -> UUID:
    """Holds `amount` euro and gives the hold's id."""
    hold_id = hold_id or uuid4()
    await ledger.reserve(
        hold_id=hold_id,
        charge=charge,
        amount_eur=Decimal(amount),
        amount_usd=Decimal(amount),
        lifetime_s=lifetime_s,
    )
    return hold_id


async def settle(hold_id: UUID, cost: str, **more: Any) -> Balance | None:
    """Settles a hold at `cost` euro."""
    usage = Usage(input_total=100, output_total=10, cache_read=40, cache_write_5m=5, reasoning=3)
    raw: Mapping[str, Any] = {"prompt_tokens": 100}
    true_cost = TrueCost(cost_eur=Decimal(cost), cost_usd=Decimal(cost), usage=usage, raw_usage=raw, **more)
    return await ledger.settle(hold_id=hold_id, cost=true_cost)


def figures(
    organization: Organization, *, scope: str = "organization", subject: str = "", month: date | None = None
) -> tuple[Decimal, Decimal]:
    """(spent, held) of an account of this month, or of another."""
    account = BudgetAccount.objects.get(
        organization=organization, scope=scope, subject=subject, month=month or this_month(organization)
    )
    return account.spent_eur, account.held_eur


def this_month(organization: Organization) -> date:
    return clock.month_of(clock.now(), organization.time_zone)


def last_month(organization: Organization) -> date:
    """The month that is over."""
    return (this_month(organization) - timedelta(days=1)).replace(day=1)


def approved(organization: Organization, kind: str, month: date, **more: Any) -> ApprovalRequest:
    """A request that one person has made and another has approved."""
    asking, deciding = (User.objects.create_user(f"{uuid4().hex[:12]}@example.com") for _ in range(2))
    return ApprovalRequest.objects.create(
        **{
            "organization": organization,
            "kind": kind,
            "month": month,
            "reason": "a test",
            "state": "approved",
        },
        **{"asked_by": asking.email, "asked_by_user": asking, "asked_at": clock.now()},
        **{"expires_at": clock.now(), "decided_at": clock.now(), "decided_by": deciding},
        **more,
    )


def records(organization: Organization) -> list[CostRecord]:
    """The organization's cost records, oldest first."""
    return list(CostRecord.objects.filter(organization=organization).order_by("id"))


def hold_sync(charge: Charge, amount: str = "1", *, lifetime_s: int = 60) -> UUID:
    """Holds `amount` euro by the ledger's own function, without a loop; the accounts are opened uncapped."""
    taken = uuid4()
    with connection.cursor() as cursor:
        for scope, subject in (("organization", ""), ("user", charge.user), ("use_case", charge.use_case)):
            if subject or scope == "organization":
                cursor.execute(_OPEN, (charge.organization_id, charge.month, scope, subject))
        cursor.execute(
            f"SELECT outcome FROM ledger_reserve({', '.join(['%s'] * 17)})",
            (
                *(taken, charge.organization_id, charge.month, charge.user, charge.use_case, amount, amount),
                *(f"{lifetime_s} seconds", charge.completion_id, charge.attempt, charge.purpose),
                *(charge.provider, charge.model, charge.tier, charge.price_id, charge.fx_rate_id),
                Jsonb(dict(charge.metadata)),
            ),
        )
        assert cursor.fetchone() == ("held",)
    return taken


_OPEN = """
INSERT INTO budget_accounts
    (organization_id, month, scope, subject, cap_eur, cap_is_of_month, spent_eur, held_eur)
VALUES (%s, %s, %s, %s, 1000000, true, 0, 0) ON CONFLICT DO NOTHING
"""
SETTLE = "SELECT outcome FROM ledger_settle(%s, %s, %s, false, '', '', '', 100, 40, 5, 0, 10, 3, NULL, NULL)"


def settle_sync(hold_id: UUID, cost: str) -> str:
    """Settles a hold at `cost` euro and dollars; what came of it."""
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, (hold_id, cost, cost))
        return str(cursor.fetchone()[0])


def spend(organization: Organization, *costs: str, **more: Any) -> None:
    """Calls of this month at these costs, from hold to cost record."""
    for cost in costs:
        settle_sync(hold_sync(charge_of(organization, **more)), cost)
