-- A close keeps the time zone that the organization has at that moment: the days of a closed month stay as they are.

CREATE FUNCTION month_close_zone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.time_zone := (SELECT o.time_zone FROM organizations_organization o WHERE o.id = NEW.organization_id);
    RETURN NEW;
END $$;
CREATE TRIGGER month_close_zone BEFORE INSERT ON budget_month_closes
    FOR EACH ROW EXECUTE FUNCTION month_close_zone();

-- Months that are closed already: nothing else was ever known of their zone.
ALTER TABLE budget_month_closes DISABLE TRIGGER USER;
UPDATE budget_month_closes c SET time_zone = o.time_zone
FROM organizations_organization o WHERE o.id = c.organization_id;
ALTER TABLE budget_month_closes ENABLE TRIGGER USER;
