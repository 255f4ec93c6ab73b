from django.db import migrations, models


class Migration(migrations.Migration):
    """One index for the list of decisions and for the month's figures, which are read from it alone."""

    dependencies = [("routing", "0003_demotion_triggers")]

    operations = [
        migrations.AddIndex(
            model_name="decision",
            index=models.Index(
                fields=["organization", "-created_at"],
                include=["route", "saved_eur"],
                name="decision_figures",
            ),
        ),
        migrations.RemoveIndex(model_name="decision", name="decision_by_organization"),
    ]
