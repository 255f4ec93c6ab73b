from django.db import migrations

TABLES = ("organizations_apikey", "organizations_organization")


def created(table: str) -> str:
    return f"""
    CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('api_keys')
    """


def dropped(table: str) -> str:
    return f"DROP TRIGGER {table}_changed ON {table}"


class Migration(migrations.Migration):
    """Announces every change of a key, and of what a key stands for, to all processes."""

    dependencies = [("organizations", "0002_change_notices")]
    operations = [migrations.RunSQL(created(table), dropped(table)) for table in TABLES]
