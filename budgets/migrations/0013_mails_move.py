"""The outbox of mails has moved to `aigov.organizations`; the table stays as it is."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0012_one_correction_at_a_time"),
        ("organizations", "0006_mails"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="Mail")]),
    ]
