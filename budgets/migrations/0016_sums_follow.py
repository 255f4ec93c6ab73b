"""The triggers of `budgets/sql/sums.sql`, which keep the sums of the costs' roll-ups; what there is, summed up."""

from pathlib import Path

from django.db import migrations

CREATE = (Path(__file__).parent.parent / "sql" / "sums.sql").read_text(encoding="utf-8")
DROP = """
DROP FUNCTION roll_up_sums_begin;
DROP FUNCTION roll_up_sums_follow CASCADE;
DROP FUNCTION roll_up_sums_statement;
"""
BEGIN = """
SELECT roll_up_sums_begin('cost_days', 'cost_sums', 'cost_eur, cost_usd, calls, input_total, output_total',
                          'day|day|tier', 'month|month|tier', 'kinds|month|use_case, provider, model, tier');
SELECT roll_up_sums_begin('cost_user_days', 'cost_user_sums', 'cost_eur, calls', 'month|month|"user"');
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0015_sums_of_roll_ups")]

    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.RunSQL(BEGIN, migrations.RunSQL.noop),
    ]
