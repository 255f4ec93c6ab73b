"""Columns of named leads and orders that know the row before theirs, and a table for their sums."""

from datetime import date

import django.db.models.deletion
from django.db import migrations, models

import budgets.models.books
import kpis.models


def never() -> models.DateField:  # type: ignore[type-arg]
    return models.DateField(db_default=date.min)


class Migration(migrations.Migration):
    dependencies = [
        ("kpis", "0006_sums_of_all"),
        ("organizations", "0008_numbers_positive"),
    ]

    operations = [
        migrations.RenameModel("Named", "NamedDay"),
        migrations.AlterField(
            "NamedDay",
            "organization",
            models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="organizations.organization",
            ),
        ),
        migrations.RemoveConstraint("NamedDay", "named_day_once"),
        migrations.AddConstraint(
            "NamedDay",
            models.UniqueConstraint(
                fields=("organization", "kind", "external_id", "day", "use_case", "provider", "model"),
                name="named_day_once",
            ),
        ),
        migrations.AddField("NamedDay", "before", never()),
        migrations.AddField("NamedDay", "before_in_use_case", never()),
        migrations.AddField("NamedDay", "before_by_model", never()),
        migrations.AddField("NamedDay", "before_in_both", never()),
        migrations.AddField(
            "NamedDay",
            "sample",
            models.GeneratedField(
                db_persist=True,
                expression=kpis.models.SampleOf("external_id"),
                output_field=models.SmallIntegerField(),
            ),
        ),
        migrations.AddIndex("NamedDay", models.Index(fields=["organization", "day"], name="named_by_day")),
        migrations.AddIndex("NamedDay", models.Index(fields=["sample", "day"], name="named_by_sample")),
        migrations.CreateModel(
            name="NamedSum",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level", models.CharField(max_length=16)),
                ("day", models.DateField()),
                ("kind", models.CharField(max_length=8)),
                ("use_case", models.CharField(blank=True, db_default="", max_length=200)),
                ("provider", models.CharField(blank=True, db_default="", max_length=32)),
                ("model", models.CharField(blank=True, db_default="", max_length=100)),
                ("before", models.DateField()),
                ("parts", models.BigIntegerField()),
                ("cost_eur", budgets.models.books.EuroField()),
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
                "db_table": "kpi_named_sums",
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            *("organization", "level", "day", "kind"),
                            *("use_case", "provider", "model", "before"),
                        ),
                        name="kpi_named_sums_once",
                    )
                ],
            },
        ),
    ]
