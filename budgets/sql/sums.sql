-- Sums of the roll-ups: by fewer columns than they have, and by month. Triggers keep them in the statement that
-- writes a roll-up's rows, so that at every instant, and whoever wrote them, they are the sums of these rows.
--
-- A level of sums is told as 'name|span|columns|of': what it is called in its table; day or month; which of the
-- roll-up's columns it keeps beside the organization and the day (of a month, its first; a column may have another
-- name, as in 'this AS that'); and whether it has the sums of each organization, of all together, or both. Those
-- of all are as if of organization 0, which there is none of. `parts` says how many rows of the roll-up are in one;
-- one that rows have left may stay, with nothing in it.

-- The statement that adds to a level what came to a roll-up and went from it: `p_changed` is a SELECT of these
-- rows with a `sign` of 1 or -1.
CREATE OR REPLACE FUNCTION roll_up_sums_statement(p_sums text, p_amounts text, p_level text, p_changed text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kept text := nullif(split_part(p_level, '|', 3), '');
    key text := concat_ws(', ', 'organization_id', 'level', 'day', regexp_replace(kept, '\w+ AS (\w+)', '\1', 'g'));
    amounts text[] := string_to_array(p_amounts, ', ');
BEGIN
    RETURN format(
        'INSERT INTO %1$I AS t (%2$s, parts, %3$s)'
        ' SELECT %2$s, sum(sign), %4$s FROM (SELECT %5$s FROM (%6$s) r, unnest(%7$s) organization) r'
        ' GROUP BY %2$s ON CONFLICT ON CONSTRAINT %8$I DO UPDATE SET parts = t.parts + excluded.parts, %9$s',
        p_sums, key, p_amounts,
        (SELECT string_agg(format('sum(sign * %I)', amount), ', ') FROM unnest(amounts) amount),
        concat_ws(', ', 'sign', 'organization AS organization_id', format('%L AS level', split_part(p_level, '|', 1)),
            CASE split_part(p_level, '|', 2)
                WHEN 'month' THEN 'date_trunc(''month'', day::timestamp)::date AS day' ELSE 'day' END,
            kept, p_amounts),
        p_changed,
        CASE split_part(p_level, '|', 4)
            WHEN 'both' THEN 'ARRAY[organization_id, 0]' WHEN 'all' THEN 'ARRAY[0]' ELSE 'ARRAY[organization_id]' END,
        p_sums || '_once',
        (SELECT string_agg(format('%1$I = t.%1$I + excluded.%1$I', amount), ', ') FROM unnest(amounts) amount)
    );
END $$;

-- Its arguments: the table of sums, the amounts that are added up, and the levels.
CREATE OR REPLACE FUNCTION roll_up_sums_follow() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT 1 AS sign, * FROM after'
        WHEN 'DELETE' THEN 'SELECT -1 AS sign, * FROM before'
        ELSE 'SELECT 1 AS sign, * FROM after UNION ALL SELECT -1, * FROM before' END;
BEGIN
    FOR at IN 2 .. TG_NARGS - 1 LOOP
        EXECUTE roll_up_sums_statement(TG_ARGV[0], TG_ARGV[1], TG_ARGV[at], changed);
    END LOOP;
    IF TG_OP = 'DELETE' THEN
        EXECUTE format(
            'DELETE FROM %I WHERE parts = 0 AND organization_id IN (SELECT organization_id FROM before%s)', TG_ARGV[0],
            CASE WHEN array_to_string(TG_ARGV, ' ') ~ '[|](all|both)' THEN ' UNION SELECT 0' END
        );
    END IF;
    RETURN NULL;
END $$;

-- Begins to keep the sums of a roll-up, and makes them of the rows that it has.
CREATE OR REPLACE FUNCTION roll_up_sums_begin(p_roll_up text, p_sums text, p_amounts text, VARIADIC p_levels text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    event text;
    seen text;
    level text;
    arguments text := (
        SELECT string_agg(quote_literal(argument), ', ' ORDER BY at)
        FROM unnest(ARRAY[p_sums, p_amounts] || p_levels) WITH ORDINALITY given (argument, at)
    );
BEGIN
    FOR event, seen IN VALUES
        ('INSERT', 'NEW TABLE AS after'), ('UPDATE', 'OLD TABLE AS before NEW TABLE AS after'),
        ('DELETE', 'OLD TABLE AS before')
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %I REFERENCING %s FOR EACH STATEMENT'
            ' EXECUTE FUNCTION roll_up_sums_follow(%s)',
            p_sums || '_' || lower(event), event, p_roll_up, seen, arguments
        );
    END LOOP;
    EXECUTE format('DELETE FROM %I', p_sums);
    FOREACH level IN ARRAY p_levels LOOP
        EXECUTE roll_up_sums_statement(
            p_sums, p_amounts, level, format('SELECT 1 AS sign, * FROM %I', p_roll_up)
        );
    END LOOP;
END $$;
