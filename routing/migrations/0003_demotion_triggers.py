"""Demotions are announced to every process, and a changed cap clears those of its organization."""

from django.db import migrations

CREATE = """
CREATE TRIGGER demotion_notify AFTER INSERT OR UPDATE OR DELETE ON ai_demotions
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('demotions');

CREATE FUNCTION demotion_cleared_by_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM ai_demotions WHERE organization_id = NEW.organization_id;
    RETURN NULL;
END $$;
CREATE TRIGGER demotion_cleared_by_cap AFTER UPDATE OF cap_eur ON budget_accounts
    FOR EACH ROW WHEN (OLD.cap_eur IS DISTINCT FROM NEW.cap_eur)
    EXECUTE FUNCTION demotion_cleared_by_cap();
"""
DROP = """
DROP TRIGGER demotion_cleared_by_cap ON budget_accounts;
DROP FUNCTION demotion_cleared_by_cap();
DROP TRIGGER demotion_notify ON ai_demotions;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("routing", "0002_demotion"),
        ("budgets", "0002_ledger_functions"),
        ("organizations", "0002_change_notices"),
    ]
    operations = [migrations.RunSQL([(CREATE, None)], [(DROP, None)])]
