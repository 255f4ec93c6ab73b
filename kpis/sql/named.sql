-- How many leads (or orders) calls name in a period, without counting one twice.
--
-- Each row of `kpi_named_days` knows the row before it of the same lead: its day, or 0001-01-01 if there is none.
-- Of the rows in a period, exactly one of each lead has the one before it before the period. So the leads that
-- calls name from any day to any other are the rows between them with `before` earlier than the first: numbers
-- that add up by month, and over organizations. The same among the rows of one use case, of one model, of both.

-- The statement that tells these rows, an aliased `d`, which row is before them. All rows of a lead, or none.
CREATE FUNCTION kpi_named_days_order_statement(p_rows text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT format($statement$
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
        FROM %s
        WINDOW one AS (PARTITION BY d.organization_id, d.kind, d.external_id ORDER BY d.day, d.id)
    )
    UPDATE kpi_named_days d
    SET before = o.before, before_in_use_case = o.before_in_use_case, before_by_model = o.before_by_model,
        before_in_both = o.before_in_both
    FROM ordered o
    WHERE d.id = o.id
      AND (d.before, d.before_in_use_case, d.before_by_model, d.before_in_both)
          IS DISTINCT FROM (o.before, o.before_in_use_case, o.before_by_model, o.before_in_both)
$statement$, p_rows)
$$;

-- Puts the rows of the leads in order that rows came to, or went from. Two who write rows of one lead at once
-- would not see each other's: whoever writes waits for the lock that roll-ups take. Planned anew each time, since
-- what changes is now three rows and now fifty thousand.
CREATE FUNCTION kpi_named_days_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM roll_ups WHERE name = 'names' FOR UPDATE;
    EXECUTE kpi_named_days_order_statement(
        '(SELECT DISTINCT organization_id, kind, external_id FROM changed) c'
        ' JOIN kpi_named_days d USING (organization_id, kind, external_id)'
    );
    RETURN NULL;
END $$;
CREATE TRIGGER kpi_named_days_order_insert AFTER INSERT ON kpi_named_days REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION kpi_named_days_order();
CREATE TRIGGER kpi_named_days_order_delete AFTER DELETE ON kpi_named_days REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION kpi_named_days_order();

-- A row stays that of its lead and day: another one is a row that goes and one that comes.
CREATE FUNCTION kpi_named_days_keep_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the key of a row of kpi_named_days does not change' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER kpi_named_days_keep_key
    BEFORE UPDATE OF organization_id, day, kind, external_id, use_case, provider, model ON kpi_named_days
    FOR EACH STATEMENT EXECUTE FUNCTION kpi_named_days_keep_key();
