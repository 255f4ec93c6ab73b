"""Closed months in the database: the functions and triggers of `budgets/sql/closing.sql`.

Going back brings the functions of `ledger.sql` again that it replaces.
"""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent.parent / "sql"
CREATE = (SQL / "closing.sql").read_text(encoding="utf-8")
LEDGER = (SQL / "ledger.sql").read_text(encoding="utf-8")
BEFORE = LEDGER.partition("CREATE TRIGGER")[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
DROP = """
DROP FUNCTION month_close_begin, month_close_reopen, month_close_mark_accounts, budget_account_begin,
    budget_account_refuse, budget_account_follow_close, ledger_only_open_months CASCADE;
DROP TRIGGER month_close_keep ON budget_month_closes;
DROP TRIGGER budget_account_keep_all ON budget_accounts;
DROP FUNCTION ledger_correct, ledger_lock_open_month, ledger_first_open_month, ledger_month_is_closed;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0009_month_close"), ("organizations", "0002_change_notices")]
    operations = [
        migrations.RunSQL(
            "UPDATE budget_accounts SET opening_cap_eur = cap_eur", migrations.RunSQL.noop, elidable=True
        ),
        # As one string for the server: its parts are no placeholders of ours.
        migrations.RunSQL([(CREATE, None)], [(DROP, None), (BEFORE, None)]),
    ]
