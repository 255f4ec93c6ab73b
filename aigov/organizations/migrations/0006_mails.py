"""The outbox of mails moves here from `budgets`: the table stays as it is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0005_language_of_mails"),
        # It has made the table.
        ("budgets", "0008_mails"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="Mail",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        ("recipient", models.EmailField(max_length=254, verbose_name="to")),
                        ("subject", models.CharField(max_length=300, verbose_name="subject")),
                        ("body", models.TextField(verbose_name="text")),
                        ("queued_at", models.DateTimeField(verbose_name="queued")),
                        ("due_at", models.DateTimeField(verbose_name="due")),
                        ("tries", models.PositiveSmallIntegerField(default=0, verbose_name="tries")),
                        ("sent_at", models.DateTimeField(null=True, verbose_name="sent")),
                    ],
                    options={
                        "verbose_name": "mail",
                        "verbose_name_plural": "mails",
                        "db_table": "mails",
                        "indexes": [
                            models.Index(
                                condition=models.Q(("sent_at__isnull", True)),
                                fields=["due_at"],
                                name="mail_to_send",
                            )
                        ],
                    },
                ),
            ],
        ),
    ]
