"""Roll-ups of the cost records by day, from `budgets/sql/daily.sql`, and the index for what is newer."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

import budgets.models.books

CREATE = (Path(__file__).parent.parent / "sql" / "daily.sql").read_text(encoding="utf-8")
DROP = """
DROP TRIGGER cost_user_days_follow ON ai_costs;
DROP FUNCTION cost_user_days_follow, cost_day, roll_up_horizon;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0005_alerts"),
        ("organizations", "0003_key_notices"),
        ("providers", "0003_seed_prices"),
    ]

    operations = [
        migrations.CreateModel(
            name="CostDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField(verbose_name="day")),
                ("month", models.DateField(verbose_name="month")),
                ("use_case", models.CharField(blank=True, max_length=200, verbose_name="use case")),
                ("provider", models.CharField(blank=True, max_length=32, verbose_name="provider")),
                ("model", models.CharField(blank=True, max_length=100, verbose_name="model")),
                ("tier", models.CharField(blank=True, max_length=8, verbose_name="tier")),
                (
                    "purpose",
                    models.CharField(
                        choices=[("answer", "answer"), ("check", "check")],
                        max_length=8,
                        verbose_name="purpose",
                    ),
                ),
                ("cost_eur", budgets.models.books.EuroField(verbose_name="cost")),
                (
                    "cost_usd",
                    models.DecimalField(decimal_places=12, max_digits=22, verbose_name="cost in USD"),
                ),
                ("calls", models.PositiveBigIntegerField(verbose_name="calls")),
                ("input_total", models.BigIntegerField(verbose_name="input tokens")),
                ("output_total", models.BigIntegerField(verbose_name="output tokens")),
            ],
            options={
                "verbose_name": "day's cost",
                "verbose_name_plural": "days' costs",
                "db_table": "cost_days",
            },
        ),
        migrations.CreateModel(
            name="CostUserDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField(verbose_name="day")),
                ("user", models.CharField(max_length=200, verbose_name="user")),
                ("cost_eur", budgets.models.books.EuroField(verbose_name="cost")),
                ("calls", models.BigIntegerField(verbose_name="calls")),
            ],
            options={
                "verbose_name": "user's day",
                "verbose_name_plural": "users' days",
                "db_table": "cost_user_days",
            },
        ),
        migrations.CreateModel(
            name="RollUp",
            fields=[
                (
                    "name",
                    models.CharField(
                        max_length=32, primary_key=True, serialize=False, verbose_name="roll-up"
                    ),
                ),
                ("upto", models.DateTimeField(verbose_name="up to")),
            ],
            options={
                "verbose_name": "roll-up",
                "verbose_name_plural": "roll-ups",
                "db_table": "roll_ups",
            },
        ),
        migrations.AddIndex(
            model_name="costrecord",
            index=models.Index(fields=["created_at", "organization"], name="cost_record_by_time"),
        ),
        migrations.AddField(
            model_name="costday",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddField(
            model_name="costuserday",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="organizations.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="costday",
            constraint=models.UniqueConstraint(
                fields=("organization", "day", "month", "use_case", "provider", "model", "tier", "purpose"),
                name="cost_day_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="costuserday",
            constraint=models.UniqueConstraint(
                fields=("organization", "day", "user"), name="cost_user_day_once"
            ),
        ),
        migrations.RunSQL([(CREATE, None)], [(DROP, None)]),
    ]
