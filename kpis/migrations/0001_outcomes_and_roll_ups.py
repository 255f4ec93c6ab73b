"""Leads and orders, and the roll-ups of decisions and of named leads and orders."""

from decimal import Decimal

import django.db.models.deletion
from django.db import migrations, models

import budgets.models.books

WATERMARKS = "INSERT INTO roll_ups (name, upto) VALUES ('decisions', 'epoch'), ('names', 'epoch')"
UNDO = "DELETE FROM roll_ups WHERE name IN ('decisions', 'names')"


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("budgets", "0006_cost_roll_ups"),
        ("routing", "0007_decision_roll_up"),
        ("organizations", "0003_key_notices"),
    ]

    operations = [
        migrations.CreateModel(
            name="AttemptDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("use_case", models.CharField(blank=True, max_length=200)),
                ("provider", models.CharField(blank=True, max_length=32)),
                ("model", models.CharField(blank=True, max_length=100)),
                ("tier", models.CharField(blank=True, max_length=8)),
                ("outcome", models.CharField(max_length=24)),
                ("error", models.CharField(blank=True, max_length=64)),
                ("attempts", models.BigIntegerField()),
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
                "db_table": "kpi_attempt_days",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "organization",
                            "day",
                            "use_case",
                            "provider",
                            "model",
                            "tier",
                            "outcome",
                            "error",
                        ),
                        name="attempt_day_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HistogramDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("use_case", models.CharField(blank=True, max_length=200)),
                ("kind", models.CharField(max_length=16)),
                ("label", models.CharField(max_length=16)),
                ("bin", models.SmallIntegerField()),
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
                "db_table": "kpi_histogram_days",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "day", "use_case", "kind", "label", "bin"),
                        name="histogram_day_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Named",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("kind", models.CharField(choices=[("lead", "lead"), ("order", "order")], max_length=8)),
                ("external_id", models.CharField(max_length=200)),
                ("use_case", models.CharField(blank=True, max_length=200)),
                ("provider", models.CharField(blank=True, max_length=32)),
                ("model", models.CharField(blank=True, max_length=100)),
                ("cost_eur", budgets.models.books.EuroField()),
                ("calls", models.BigIntegerField()),
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
                "db_table": "kpi_named_days",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "organization",
                            "day",
                            "kind",
                            "external_id",
                            "use_case",
                            "provider",
                            "model",
                        ),
                        name="named_day_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Outcome",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("lead", "lead"), ("order", "order")], max_length=8, verbose_name="kind"
                    ),
                ),
                ("external_id", models.CharField(max_length=200, verbose_name="id in the CRM")),
                ("occurred_at", models.DateTimeField(verbose_name="at")),
                ("day", models.DateField(editable=False, verbose_name="day")),
                ("value_eur", budgets.models.books.EuroField(default=0, verbose_name="value")),
                ("received_at", models.DateTimeField(verbose_name="received")),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="outcomes",
                        to="organizations.organization",
                        verbose_name="organization",
                    ),
                ),
            ],
            options={
                "verbose_name": "lead or order",
                "verbose_name_plural": "leads and orders",
                "db_table": "kpi_outcomes",
                "ordering": ["-occurred_at", "-id"],
                "indexes": [
                    models.Index(
                        fields=["organization", "day"], include=("kind", "value_eur"), name="outcome_by_day"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "kind", "external_id"), name="outcome_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["lead", "order"])), name="outcome_kind_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("external_id", ""), _negated=True), name="outcome_has_id"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("value_eur__gte", 0), ("value_eur__lte", Decimal("999999999.999999999"))
                        ),
                        name="outcome_value_not_negative",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RequestDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("use_case", models.CharField(blank=True, max_length=200)),
                ("route", models.CharField(blank=True, max_length=8)),
                ("provider", models.CharField(blank=True, max_length=32)),
                ("model", models.CharField(blank=True, max_length=100)),
                ("error_code", models.CharField(blank=True, max_length=64)),
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
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
            options={
                "db_table": "kpi_request_days",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "organization",
                            "day",
                            "use_case",
                            "route",
                            "provider",
                            "model",
                            "error_code",
                        ),
                        name="request_day_once",
                    )
                ],
            },
        ),
        migrations.RunSQL(WATERMARKS, UNDO),
    ]
