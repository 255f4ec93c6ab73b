"""A rate to begin with, until finance imports the European Central Bank's; dear rather than cheap."""

from datetime import date
from decimal import Decimal

from django.db import migrations

SOURCE = "built in; import the ECB's rates"


def add(apps, schema_editor):
    apps.get_model("budgets", "FxRate").objects.create(
        currency="USD", valid_from=date(2020, 1, 1), eur_per_unit=Decimal("0.92"), source=SOURCE
    )


class Migration(migrations.Migration):
    dependencies = [("budgets", "0002_ledger_functions")]
    # Rates are never deleted; taking the tables away takes this one, too.
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
