from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0003_key_notices"),
        ("routing", "0004_decision_figures"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="decision",
            index=models.Index(fields=["-created_at"], name="decision_by_time"),
        ),
    ]
