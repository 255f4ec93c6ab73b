-- How often a lead (or order) is named in a period, without counting it twice.
--
-- Each row of `kpi_named_days` knows the row before it of the same lead: its day, or 0001-01-01 if there is none.
-- Of the rows in a period, exactly one of each lead has the one before it before the period. So the leads that
-- calls name from any day to any other are the rows between them with `before` earlier than the first: numbers
-- that add up by month, and over organizations. The same among the rows of one use case, of one model, of both.

-- Tells the rows of the leads that rows came to, or went from, which row is before them.
CREATE FUNCTION kpi_named_days_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH ordered AS (
        SELECT d.id,
               coalesce(lag(d.day) OVER one, '0001-01-01') AS before,
               coalesce(lag(d.day) OVER (PARTITION BY d.organization_id, d.kind, d.external_id, d.use_case
                                         ORDER BY d.day, d.id), '0001-01-01') AS before_in_use_case,
               coalesce(lag(d.day) OVER (PARTITION BY d.organization_id, d.kind, d.external_id, d.provider, d.model
                                         ORDER BY d.day, d.id), '0001-01-01') AS before_by_model,
               coalesce(lag(d.day) OVER (PARTITION BY d.organization_id, d.kind, d.external_id, d.use_case,
                                                      d.provider, d.model
                                         ORDER BY d.day, d.id), '0001-01-01') AS before_in_both
        FROM (SELECT DISTINCT organization_id, kind, external_id FROM changed) c
        JOIN kpi_named_days d USING (organization_id, kind, external_id)
        WINDOW one AS (PARTITION BY d.organization_id, d.kind, d.external_id ORDER BY d.day, d.id)
    )
    UPDATE kpi_named_days d
    SET before = o.before, before_in_use_case = o.before_in_use_case, before_by_model = o.before_by_model,
        before_in_both = o.before_in_both
    FROM ordered o
    WHERE d.id = o.id
      AND (d.before, d.before_in_use_case, d.before_by_model, d.before_in_both)
          IS DISTINCT FROM (o.before, o.before_in_use_case, o.before_by_model, o.before_in_both);
    RETURN NULL;
END $$;
CREATE TRIGGER kpi_named_days_order_insert AFTER INSERT ON kpi_named_days REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION kpi_named_days_order();
CREATE TRIGGER kpi_named_days_order_delete AFTER DELETE ON kpi_named_days REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION kpi_named_days_order();
