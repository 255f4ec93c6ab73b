"""The ledger's functions and the triggers that keep its rows, from `budgets/sql/ledger.sql`."""

from pathlib import Path

from django.db import migrations

CREATE = (Path(__file__).parent.parent / "sql" / "ledger.sql").read_text(encoding="utf-8")
DROP = """
DROP TRIGGER fx_rate_notify ON fx_rates;
DROP TRIGGER fx_rate_append_only ON fx_rates;
DROP TRIGGER cost_record_keep ON ai_costs;
DROP FUNCTION cost_record_keep, ledger_expire_one, ledger_void, ledger_correct_late, ledger_settle,
    ledger_reserve, ledger_move, ledger_lock_accounts;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0001_initial"), ("organizations", "0002_change_notices")]
    # As one string for the server: its parts are no placeholders of ours.
    operations = [migrations.RunSQL([(CREATE, None)], [(DROP, None)])]
