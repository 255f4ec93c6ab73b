"""Tables for sums of the decisions' roll-ups, by fewer columns and by month."""

import django.db.models.deletion
from django.db import migrations, models

import budgets.models.books


class Migration(migrations.Migration):
    dependencies = [
        ("kpis", "0002_webhooks_and_digests"),
        ("organizations", "0005_language_of_mails"),
    ]

    operations = [
        migrations.CreateModel(
            name="AttemptSum",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level", models.CharField(max_length=16)),
                ("day", models.DateField()),
                ("provider", models.CharField(blank=True, max_length=32)),
                ("model", models.CharField(blank=True, max_length=100)),
                ("tier", models.CharField(blank=True, max_length=8)),
                ("outcome", models.CharField(max_length=24)),
                ("error", models.CharField(blank=True, max_length=64)),
                ("parts", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
            options={
                "db_table": "kpi_attempt_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "organization",
                            "level",
                            "day",
                            "provider",
                            "model",
                            "tier",
                            "outcome",
                            "error",
                        ),
                        name="kpi_attempt_sums_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HistogramSum",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level", models.CharField(max_length=16)),
                ("day", models.DateField()),
                ("kind", models.CharField(max_length=16)),
                ("label", models.CharField(max_length=16)),
                ("bin", models.SmallIntegerField()),
                ("parts", models.BigIntegerField()),
                ("requests", models.BigIntegerField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
            options={
                "db_table": "kpi_histogram_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "level", "kind", "day", "label", "bin"),
                        name="kpi_histogram_sums_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RequestSum",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level", models.CharField(max_length=16)),
                ("day", models.DateField()),
                ("use_case", models.CharField(blank=True, db_default="", max_length=200)),
                ("route", models.CharField(blank=True, max_length=8)),
                ("error_code", models.CharField(blank=True, max_length=64)),
                ("parts", models.BigIntegerField()),
                ("requests", models.BigIntegerField()),
                ("judged", models.BigIntegerField()),
                ("escalated", models.BigIntegerField()),
                ("rescued", models.BigIntegerField()),
                ("cost_eur", budgets.models.books.EuroField()),
                ("saved_eur", budgets.models.books.EuroField()),
                ("all_large_eur", budgets.models.books.EuroField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
            options={
                "db_table": "kpi_request_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "level", "day", "use_case", "route", "error_code"),
                        name="kpi_request_sums_once",
                    )
                ],
            },
        ),
    ]
