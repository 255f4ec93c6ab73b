"""Calls and requests of the past, for the demo's organization alone: everywhere else the ledger alone writes
costs, at the time that they arise.

The ledger's own functions cannot write it: they take the time from the database's clock, so that nobody dates
a charge back, and a month that is over takes none. The books balance after it as after any charge: the
accounts are moved by what the records say, in the ledger's order of locks, in the transaction that writes the
records.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

from django.db import connection, transaction

from aigov.money import ZERO
from aigov.organizations.models import Organization
from budgets import roll_ups
from budgets.daily import COSTS
from budgets.models import CostRecord
from kpis.facts import NAMES
from routing.models import Decision

BATCH_ROWS = 1_000
LOCK_ORDER = ("user", "use_case", "organization")


@transaction.atomic
def write_past(
    *, organization: Organization, records: Sequence[CostRecord], decisions: Sequence[Decision]
) -> None:
    """Writes what has not been saved yet: cost records with holds of their own, and decisions."""
    CostRecord.objects.bulk_create(records, batch_size=BATCH_ROWS)
    Decision.objects.bulk_create(decisions, batch_size=BATCH_ROWS)
    with connection.cursor() as cursor:
        cursor.executemany(
            _MOVE,
            [
                (organization.pk, month, scope, subject, scope, spent_eur)
                for (month, scope, subject), spent_eur in _moves(records)
            ],
        )
    # They are older than the watermark, which passes nothing twice.
    for source in (COSTS, NAMES):
        roll_ups.roll_up_anew(source, organization_id=organization.pk)


def _moves(records: Sequence[CostRecord]) -> Iterator[tuple[tuple[date, str, str], Decimal]]:
    """(month, scope, subject) of each account with its sum; users, use cases, the organization last."""
    moves: dict[tuple[date, str, str], Decimal] = defaultdict(lambda: ZERO)
    for record in records:
        for scope, subject in zip(LOCK_ORDER, (record.user, record.use_case, ""), strict=True):
            if subject or scope == "organization":
                moves[record.month, scope, subject] += record.cost_eur
    yield from sorted(moves.items(), key=lambda move: LOCK_ORDER.index(move[0][1]))


# A month that is over had the cap that it needed; one that is open keeps the cap that it has.
_MOVE = """
INSERT INTO budget_accounts
    (organization_id, month, scope, subject, cap_eur, cap_is_of_month, spent_eur, held_eur)
VALUES (%s, %s, %s, %s, CASE WHEN %s = 'organization' THEN 1000 END, false, %s, 0)
ON CONFLICT (organization_id, month, scope, subject)
DO UPDATE SET spent_eur = budget_accounts.spent_eur + excluded.spent_eur
"""
