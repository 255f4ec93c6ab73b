"""The first prices, from the public list as it is shipped with us; `import_prices` brings newer ones."""

import json
from datetime import datetime
from pathlib import Path

from django.db import migrations

SEED = Path(__file__).resolve().parent.parent / "data" / "prices.json"


def seed(apps, schema_editor):
    Price = apps.get_model("providers", "Price")
    if Price.objects.exists():
        return
    data = json.loads(SEED.read_text(encoding="utf-8"))
    Price.objects.bulk_create(
        Price(
            **{**row, "valid_from": datetime.fromisoformat(row["valid_from"])},
            currency=data["currency"],
            source=data["source"],
            source_version=data["source_version"],
        )
        for row in data["rows"]
    )


class Migration(migrations.Migration):
    dependencies = [("providers", "0002_price_rules")]
    # Going back leaves the rows: none may be deleted, and the table goes with the first migration.
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
