"""The sums of all organizations together, and histograms by day, beside what there was.

The way back leaves them, as that of `budgets.0017_sums_of_all`.
"""

from django.db import migrations

BEGIN = """
SELECT roll_up_sums_begin('kpi_request_days', 'kpi_request_sums',
                          'requests, judged, escalated, rescued, cost_eur, saved_eur, all_large_eur',
                          'day|day|route, error_code|both', 'month|month|route, error_code|both',
                          'use_cases|month|use_case, route, error_code|both');
SELECT roll_up_sums_begin('kpi_histogram_days', 'kpi_histogram_sums', 'requests',
                          'day|day|kind, label, bin|all', 'month|month|kind, label, bin|both');
SELECT roll_up_sums_begin('kpi_attempt_days', 'kpi_attempt_sums', 'attempts',
                          'month|month|provider, model, tier, outcome, error|both',
                          'day|day|provider, model, tier, outcome, error|all');
"""


class Migration(migrations.Migration):
    dependencies = [("kpis", "0005_failovers"), ("budgets", "0017_sums_of_all")]

    operations = [
        migrations.RunSQL(BEGIN, migrations.RunSQL.noop),
    ]
