"""Triggers that keep the sums of the decisions' roll-ups, as those of the costs; what there is, summed up."""

from django.db import migrations

BEGIN = """
SELECT roll_up_sums_begin('kpi_request_days', 'kpi_request_sums',
                          'requests, judged, escalated, rescued, cost_eur, saved_eur, all_large_eur',
                          'day|day|route, error_code', 'month|month|route, error_code',
                          'use_cases|month|use_case, route, error_code');
SELECT roll_up_sums_begin('kpi_histogram_days', 'kpi_histogram_sums', 'requests', 'month|month|kind, label, bin');
SELECT roll_up_sums_begin('kpi_attempt_days', 'kpi_attempt_sums', 'attempts',
                          'month|month|provider, model, tier, outcome, error');
"""
END = "".join(
    f"DROP TRIGGER kpi_{name}_sums_{event} ON kpi_{name}_days;"
    for name in ("request", "histogram", "attempt")
    for event in ("insert", "update", "delete")
)


class Migration(migrations.Migration):
    dependencies = [("kpis", "0003_sums_of_roll_ups"), ("budgets", "0016_sums_follow")]

    operations = [
        migrations.RunSQL(BEGIN, END),
    ]
