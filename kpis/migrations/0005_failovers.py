"""How often a provider answered for another one; what is rolled up already is counted once more for it."""

import django.db.models.deletion
from django.db import migrations, models

#: Up to the watermark, under its lock: from there on the roll-up counts them itself.
PAST = """
SELECT upto FROM roll_ups WHERE name = 'decisions' FOR UPDATE;
INSERT INTO kpi_failover_days (organization_id, day, use_case, failed_provider, provider, requests)
SELECT s.organization_id, (s.created_at AT TIME ZONE o.time_zone)::date, s.use_case, failed.provider,
       s.provider, count(*)
FROM ai_decisions s JOIN organizations_organization o ON o.id = s.organization_id
CROSS JOIN LATERAL (
    SELECT DISTINCT left(attempt ->> 'provider', 32) AS provider
    FROM jsonb_path_query(s.attempts, '$[*] ? (@.outcome == "skipped_circuit_open"
        || (@.outcome == "failed" && !(@.error == "broken_off")))') attempt
) failed
WHERE s.route <> '' AND failed.provider NOT IN ('', s.provider)
  AND s.recorded_at < (SELECT upto FROM roll_ups WHERE name = 'decisions')
GROUP BY 1, 2, 3, 4, 5;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("kpis", "0004_sums_follow"),
        ("organizations", "0005_language_of_mails"),
        ("routing", "0007_decision_roll_up"),
    ]

    operations = [
        migrations.CreateModel(
            name="FailoverDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("use_case", models.CharField(blank=True, max_length=200)),
                ("failed_provider", models.CharField(max_length=32)),
                ("provider", models.CharField(max_length=32)),
                ("requests", models.BigIntegerField()),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
            options={
                "db_table": "kpi_failover_days",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "day", "use_case", "failed_provider", "provider"),
                        name="failover_day_once",
                    )
                ],
            },
        ),
        migrations.RunSQL(PAST, migrations.RunSQL.noop),
    ]
