"""Proves that what accounts say was spent and is held equals the sums of their rows."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from budgets import ledger
from budgets.models import BudgetAccount, CostRecord, Hold


class Command(BaseCommand):
    help = "Proves that held and spent equal the sums of their rows; exits 1 if there is a difference."

    def handle(self, *args: Any, **options: Any) -> None:
        differences = ledger.differences()
        for row in differences:
            self.stdout.write(
                f"{row.organization} {row.month:%Y-%m} {row.scope} {row.subject}".rstrip()
                + f": spent {row.spent_eur} €, cost records {row.cost_records_eur} €;"
                + f" held {row.held_eur} €, open holds {row.open_holds_eur} €"
            )
        self.stdout.write(
            f"{BudgetAccount.objects.count()} accounts, {CostRecord.objects.count()} cost records,"
            f" {Hold.objects.count()} open holds: {len(differences)} differences."
        )
        if differences:
            sys.exit(1)
