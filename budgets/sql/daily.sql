-- What the roll-ups of cost records and decisions stand on.

-- The moment before which no row can appear any more whose time is clock_timestamp() at its writing: a
-- transaction writes no such row with a time before its own start, and every transaction that started before
-- this moment has ended, so that a statement begun after this one sees all it wrote. Sessions whose start we
-- may not see (another role's) count while they write. Autovacuum writes no rows of ours.
CREATE FUNCTION roll_up_horizon() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    looked_at timestamptz := clock_timestamp();
BEGIN
    PERFORM pg_stat_clear_snapshot();
    RETURN (
        SELECT least(looked_at, min(coalesce(xact_start, '-infinity'))) - interval '1 second'
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type <> 'autovacuum worker'
          AND (xact_start IS NOT NULL OR backend_xid IS NOT NULL)
    );
END $$;

-- The day that a cost counts to: its local date, kept within its accounting month. A call that was let in
-- before midnight of the month's end and answered after it is a cost of the last day, so that the days of a
-- month always add up to what the ledger says of it.
CREATE FUNCTION cost_day(p_month date, p_at timestamptz, p_time_zone text) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT least(greatest((p_at AT TIME ZONE p_time_zone)::date, p_month),
                 (p_month + interval '1 month - 1 day')::date)
$$;

-- A user's id that is replaced in cost records is replaced in the roll-up, in the same transaction: the days of
-- both ids are added up anew. The lock makes sure that a record is either in the roll-up already, or will get
-- there with the new id.
CREATE FUNCTION cost_user_days_follow() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rolled_up_to timestamptz;
BEGIN
    SELECT upto INTO rolled_up_to FROM roll_ups WHERE name = 'costs' FOR SHARE;
    DELETE FROM cost_user_days d USING (
        SELECT organization_id, "user" FROM before UNION SELECT organization_id, "user" FROM after
    ) changed
    WHERE d.organization_id = changed.organization_id AND d."user" = changed."user";
    INSERT INTO cost_user_days (organization_id, day, "user", cost_eur, calls)
    SELECT c.organization_id, cost_day(c.month, c.created_at, o.time_zone), c."user", sum(c.cost_eur), count(c.hold_id)
    FROM ai_costs c JOIN organizations_organization o ON o.id = c.organization_id
    WHERE c.created_at < rolled_up_to AND c."user" <> '' AND (c.organization_id, c."user") IN (
        SELECT organization_id, "user" FROM before UNION SELECT organization_id, "user" FROM after
    )
    GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;
CREATE TRIGGER cost_user_days_follow AFTER UPDATE ON ai_costs
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION cost_user_days_follow();

INSERT INTO roll_ups (name, upto) VALUES ('costs', 'epoch');
