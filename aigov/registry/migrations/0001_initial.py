import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("organizations", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="RegistryVersion",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("version", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="registry_version_single_row")
                ],
            },
        ),
        migrations.CreateModel(
            name="SettingValue",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=80, verbose_name="setting")),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("global", "everybody"),
                            ("tenant", "tenant"),
                            ("organization", "organization"),
                            ("user", "user of an organization"),
                        ],
                        max_length=12,
                        verbose_name="holds for",
                    ),
                ),
                ("user", models.CharField(blank=True, default="", max_length=200, verbose_name="user")),
                ("value", models.JSONField(verbose_name="value")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
                ("updated_by", models.CharField(max_length=254, verbose_name="changed by")),
                (
                    "organization",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="organizations.organization",
                        verbose_name="organization",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="organizations.tenant",
                        verbose_name="tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "setting",
                "verbose_name_plural": "settings",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("organization__isnull", True),
                                ("scope", "global"),
                                ("tenant__isnull", True),
                                ("user", ""),
                            ),
                            models.Q(
                                ("organization__isnull", True),
                                ("scope", "tenant"),
                                ("tenant__isnull", False),
                                ("user", ""),
                            ),
                            models.Q(
                                ("organization__isnull", False),
                                ("scope", "organization"),
                                ("tenant__isnull", True),
                                ("user", ""),
                            ),
                            models.Q(
                                ("organization__isnull", False),
                                ("scope", "user"),
                                ("tenant__isnull", True),
                                models.Q(("user", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="setting_scope_fits_subject",
                    ),
                    models.UniqueConstraint(
                        fields=("key", "scope", "tenant", "organization", "user"),
                        name="setting_once_per_subject",
                        nulls_distinct=False,
                    ),
                ],
            },
        ),
    ]
