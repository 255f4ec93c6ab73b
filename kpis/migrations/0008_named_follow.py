"""Triggers that put the rows of named leads and orders in order, and that keep their sums."""

from pathlib import Path

from django.db import migrations

ORDER = (Path(__file__).parent.parent / "sql" / "named.sql").read_text(encoding="utf-8")
NO_ORDER = """
DROP FUNCTION kpi_named_days_order CASCADE;
DROP FUNCTION kpi_named_days_order_statement;
DROP FUNCTION kpi_named_days_keep_key CASCADE;
"""
#: Under the lock of the roll-up, which writes rows.
PAST = """
SELECT upto FROM roll_ups WHERE name = 'names' FOR UPDATE;
DO $$ BEGIN EXECUTE kpi_named_days_order_statement('kpi_named_days d'); END $$;
"""
BEGIN = """
SELECT roll_up_sums_begin('kpi_named_days', 'kpi_named_sums', 'cost_eur',
                          'days|day|kind, before|both', 'months|month|kind, before|both',
                          'use_cases|month|kind, use_case, before_in_use_case AS before|both',
                          'use_case_days|day|kind, use_case, before_in_use_case AS before|all',
                          'models|month|kind, provider, model, before_by_model AS before|both',
                          'model_days|day|kind, provider, model, before_by_model AS before|all');
"""
END = "".join(
    f"DROP TRIGGER kpi_named_sums_{event} ON kpi_named_days;" for event in ("insert", "update", "delete")
)


class Migration(migrations.Migration):
    dependencies = [("kpis", "0007_named_once")]

    operations = [
        migrations.RunSQL(ORDER, NO_ORDER),
        migrations.RunSQL(PAST, migrations.RunSQL.noop),
        migrations.RunSQL(BEGIN, END),
    ]
