"""Tables for sums of the costs' roll-ups, by fewer columns and by month."""

import django.db.models.deletion
from django.db import migrations, models

import budgets.models.books


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0014_zone_of_close"),
        ("organizations", "0005_language_of_mails"),
    ]

    operations = [
        migrations.CreateModel(
            name="CostSum",
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
                ("provider", models.CharField(blank=True, db_default="", max_length=32)),
                ("model", models.CharField(blank=True, db_default="", max_length=100)),
                ("tier", models.CharField(blank=True, db_default="", max_length=8)),
                ("parts", models.BigIntegerField()),
                ("cost_eur", budgets.models.books.EuroField()),
                ("cost_usd", models.DecimalField(decimal_places=12, max_digits=22)),
                ("calls", models.BigIntegerField()),
                ("input_total", models.BigIntegerField()),
                ("output_total", models.BigIntegerField()),
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
                "db_table": "cost_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "level", "day", "use_case", "provider", "model", "tier"),
                        name="cost_sums_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="CostUserSum",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level", models.CharField(max_length=16)),
                ("day", models.DateField()),
                ("user", models.CharField(max_length=200)),
                ("parts", models.BigIntegerField()),
                ("cost_eur", budgets.models.books.EuroField()),
                ("calls", models.BigIntegerField()),
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
                "db_table": "cost_user_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "level", "day", "user"), name="cost_user_sums_once"
                    )
                ],
            },
        ),
    ]
