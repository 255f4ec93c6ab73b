"""The costs' sums of all organizations together; the functions know of them from now on.

The way back leaves them: code that does not know of them reads those of single organizations.
"""

from pathlib import Path

from django.db import migrations

FUNCTIONS = (Path(__file__).parent.parent / "sql" / "sums.sql").read_text(encoding="utf-8")
BEGIN = """
SELECT roll_up_sums_begin('cost_days', 'cost_sums', 'cost_eur, cost_usd, calls, input_total, output_total',
                          'day|day|tier|both', 'month|month|tier|both',
                          'kinds|month|use_case, provider, model, tier|both',
                          'kind_days|day|use_case, provider, model, tier|all');
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0016_sums_follow"), ("organizations", "0008_numbers_positive")]

    operations = [
        migrations.RunSQL(FUNCTIONS, migrations.RunSQL.noop),
        migrations.RunSQL(BEGIN, migrations.RunSQL.noop),
    ]
