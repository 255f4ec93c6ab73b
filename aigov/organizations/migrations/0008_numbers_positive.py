"""No organization has the number 0, under which the sums of all of them are kept."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("organizations", "0007_makers_of_keys_stay")]

    operations = [
        migrations.AddConstraint(
            "Organization",
            models.CheckConstraint(condition=models.Q(id__gt=0), name="organization_number_positive"),
        ),
    ]
