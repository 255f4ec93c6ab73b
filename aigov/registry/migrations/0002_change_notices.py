"""Each change of a setting, or of an organization's tenant, is counted and announced to every process.

The count is one row; counting locks it, so that whoever reads it `FOR SHARE` holds the settings still.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION registry_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry_registryversion SET version = version + 1;
    RETURN NULL;
END $$;

INSERT INTO registry_registryversion (id, version) VALUES (1, 1);

CREATE TRIGGER setting_counted AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON registry_settingvalue
    FOR EACH STATEMENT EXECUTE FUNCTION registry_count_change();
CREATE TRIGGER setting_announced AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON registry_settingvalue
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('settings');

CREATE TRIGGER organization_tenant_counted AFTER UPDATE OF tenant_id ON organizations_organization
    FOR EACH STATEMENT EXECUTE FUNCTION registry_count_change();
CREATE TRIGGER organization_tenant_announced
    AFTER INSERT OR UPDATE OF tenant_id OR DELETE OR TRUNCATE ON organizations_organization
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('settings');
"""
DROP = """
DROP TRIGGER organization_tenant_announced ON organizations_organization;
DROP TRIGGER organization_tenant_counted ON organizations_organization;
DROP TRIGGER setting_announced ON registry_settingvalue;
DROP TRIGGER setting_counted ON registry_settingvalue;
DELETE FROM registry_registryversion;
DROP FUNCTION registry_count_change();
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_initial"), ("organizations", "0002_change_notices")]
    operations = [migrations.RunSQL(CREATE, DROP)]
