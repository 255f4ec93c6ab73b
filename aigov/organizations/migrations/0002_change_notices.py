"""Triggers call `aigov_notify('<kind>')`, so that every process loads that kind's snapshot anew."""

from django.db import migrations

CREATE = """
CREATE FUNCTION aigov_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('aigov_changed', TG_ARGV[0]);
    RETURN NULL;
END $$;

CREATE FUNCTION aigov_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted; add a new one', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON organizations_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();
"""
DROP = """
DROP TRIGGER audit_entry_append_only ON organizations_auditentry;
DROP FUNCTION aigov_append_only();
DROP FUNCTION aigov_notify();
"""


class Migration(migrations.Migration):
    dependencies = [("organizations", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
