"""A close keeps the organization's time zone (`budgets/sql/zone_of_close.sql`)."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent.parent / "sql"
CREATE = (SQL / "zone_of_close.sql").read_text(encoding="utf-8")
DROP = "DROP FUNCTION month_close_zone CASCADE"


class Migration(migrations.Migration):
    dependencies = [("budgets", "0013_mails_move")]
    operations = [
        migrations.AddField(
            model_name="monthclose",
            name="time_zone",
            field=models.CharField(default="", editable=False, max_length=64, verbose_name="time zone"),
        ),
        # As one string for the server: its parts are no placeholders of ours.
        migrations.RunSQL([(CREATE, None)], [(DROP, None)]),
    ]
