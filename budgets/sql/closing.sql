-- Closed months, and corrections. A month is closed by a row of budget_month_closes; each of its accounts then
-- says `closed`. Whoever charges, holds or corrects looks at that under the account's lock, which closing takes
-- too: so a month is closed before such a change or after it, never amid it.
--
-- Replaces from ledger.sql: ledger_reserve, ledger_settle, ledger_correct_late, ledger_void.

-- Whether a month is closed; it stays as it is until the transaction ends.
CREATE FUNCTION ledger_month_is_closed(p_organization bigint, p_month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    is_closed boolean;
BEGIN
    SELECT closed INTO is_closed FROM budget_accounts
    WHERE organization_id = p_organization AND month = p_month AND scope = 'organization' FOR SHARE;
    RETURN COALESCE(is_closed, false);
END $$;

-- The month itself if it is open, else the first open one after it, as they are now.
CREATE FUNCTION ledger_first_open_month(p_organization bigint, p_month date) RETURNS date LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (
        SELECT FROM budget_accounts
        WHERE organization_id = p_organization AND month = p_month AND scope = 'organization' AND closed
    ) LOOP
        p_month := p_month + interval '1 month';
    END LOOP;
    RETURN p_month;
END $$;

-- The first open month with the accounts of a charge, locked. complete: all of them are open already;
-- least_spent: of the one that has spent least.
CREATE FUNCTION ledger_lock_open_month(p_organization bigint, p_month date, p_user text, p_use_case text)
RETURNS TABLE (open_month date, complete boolean, least_spent numeric) LANGUAGE plpgsql AS $$
DECLARE
    accounts integer;
    has_closed boolean;
BEGIN
    LOOP
        open_month := ledger_first_open_month(p_organization, p_month);
        SELECT count(*), bool_or(a.closed), min(a.spent_eur) INTO accounts, has_closed, least_spent
            FROM ledger_lock_accounts(p_organization, open_month, p_user, p_use_case) a;
        EXIT WHEN has_closed IS NOT TRUE;
    END LOOP;
    complete := accounts = 1 + (p_user <> '')::integer + (p_use_case <> '')::integer;
    RETURN NEXT;
END $$;

-- As in ledger.sql, and: a closed month takes no hold (outcome closed).
CREATE OR REPLACE FUNCTION ledger_reserve(
    p_id uuid, p_organization bigint, p_month date, p_user text, p_use_case text, p_amount numeric,
    p_amount_usd numeric, p_lifetime interval, p_completion text, p_attempt integer, p_purpose text, p_provider text, p_model text,
    p_tier text, p_price bigint, p_fx_rate bigint, p_metadata jsonb
) RETURNS TABLE (outcome text, scope text, cap numeric, spent numeric, held numeric) LANGUAGE plpgsql AS $$
DECLARE
    account budget_accounts;
    refusing budget_accounts;
    accounts integer := 0;
BEGIN
    IF p_amount IS NULL OR p_amount <= 0 THEN
        RAISE EXCEPTION 'a hold must have an amount' USING ERRCODE = 'check_violation';
    END IF;
    FOR account IN SELECT * FROM ledger_lock_accounts(p_organization, p_month, p_user, p_use_case) LOOP
        IF account.closed THEN
            RETURN QUERY SELECT 'closed', NULL::text, NULL::numeric, NULL::numeric, NULL::numeric;
            RETURN;
        END IF;
        accounts := accounts + 1;
        -- A refusal for good outweighs one that passes; among equals the narrowest scope answers.
        IF account.spent_eur + account.held_eur + p_amount > account.cap_eur AND (
            refusing.id IS NULL
            OR (refusing.spent_eur + p_amount <= refusing.cap_eur AND account.spent_eur + p_amount > account.cap_eur)
        ) THEN
            refusing := account;
        END IF;
    END LOOP;
    IF accounts < 1 + (p_user <> '')::integer + (p_use_case <> '')::integer THEN
        RETURN QUERY SELECT 'no_account', NULL::text, NULL::numeric, NULL::numeric, NULL::numeric;
    ELSIF refusing.id IS NOT NULL THEN
        RETURN QUERY SELECT
            CASE WHEN refusing.spent_eur + p_amount > refusing.cap_eur THEN 'exhausted' ELSE 'in_flight' END,
            refusing.scope::text, refusing.cap_eur, refusing.spent_eur, refusing.held_eur;
    ELSE
        INSERT INTO budget_holds (
            id, organization_id, month, "user", use_case, amount_eur, amount_usd, completion_id, attempt, purpose,
            provider, model, tier, price_id, fx_rate_id, metadata, created_at, expires_at
        ) VALUES (
            p_id, p_organization, p_month, p_user, p_use_case, p_amount, p_amount_usd, p_completion, p_attempt, p_purpose,
            p_provider, p_model, p_tier, p_price, p_fx_rate, p_metadata, clock_timestamp(),
            clock_timestamp() + p_lifetime
        );
        RETURN QUERY SELECT 'held', o.scope::text, o.cap_eur, o.spent_eur, o.held_eur
            FROM ledger_move(p_organization, p_month, p_user, p_use_case, 0, p_amount) o;
    END IF;
END $$;

-- As in ledger.sql, but for the order: the accounts are locked before the record is written, whose trigger looks
-- at one of them; and a late answer may need accounts (outcome no_account: open them and ask again).
CREATE OR REPLACE FUNCTION ledger_settle(
    p_id uuid, p_cost_eur numeric, p_cost_usd numeric, p_estimated boolean, p_reason text,
    p_service_tier text, p_request text, p_input bigint, p_cache_read bigint, p_cache_write_5m bigint,
    p_cache_write_1h bigint, p_output bigint, p_reasoning bigint, p_raw_usage jsonb, p_price bigint
) RETURNS TABLE (outcome text, cap numeric, spent numeric, held numeric, charged numeric) LANGUAGE plpgsql AS $$
DECLARE
    hold budget_holds;
    charge numeric;
    whole budget_accounts;
BEGIN
    DELETE FROM budget_holds h WHERE h.id = p_id RETURNING * INTO hold;
    IF hold.id IS NULL THEN
        RETURN QUERY SELECT * FROM ledger_correct_late(
            p_id, p_cost_eur, p_cost_usd, p_estimated, p_service_tier, p_request, p_input, p_cache_read,
            p_cache_write_5m, p_cache_write_1h, p_output, p_reasoning, p_raw_usage, p_price);
        RETURN;
    END IF;
    charge := COALESCE(p_cost_eur, hold.amount_eur);
    SELECT * INTO whole
        FROM ledger_move(hold.organization_id, hold.month, hold."user", hold.use_case, charge, -hold.amount_eur);
    INSERT INTO ai_costs (
        organization_id, month, "user", use_case, completion_id, attempt, purpose, provider, model, tier, price_id,
        fx_rate_id, metadata, hold_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd, estimated, overrun,
        reason, service_tier, provider_request_id, input_total, cache_read, cache_write_5m, cache_write_1h,
        output_total, reasoning, raw_usage
    ) VALUES (
        hold.organization_id, hold.month, hold."user", hold.use_case, hold.completion_id, hold.attempt, hold.purpose,
        hold.provider, hold.model, hold.tier, COALESCE(p_price, hold.price_id), hold.fx_rate_id, hold.metadata,
        hold.id, clock_timestamp(), hold.amount_eur, charge,
        COALESCE(p_cost_usd, hold.amount_usd), (SELECT f.eur_per_unit FROM fx_rates f WHERE f.id = hold.fx_rate_id), p_estimated,
        charge > hold.amount_eur, p_reason, p_service_tier, p_request, p_input, p_cache_read, p_cache_write_5m,
        p_cache_write_1h, p_output, p_reasoning, p_raw_usage
    );
    RETURN QUERY SELECT 'settled', whole.cap_eur, whole.spent_eur, whole.held_eur, charge;
END $$;

-- The answer came after its hold had expired and was charged in full: a signed record brings the charge, with all
-- that has corrected it before, to the true cost, once. It goes into the first open month. An answer whose own
-- cost is an estimate changes nothing.
CREATE OR REPLACE FUNCTION ledger_correct_late(
    p_id uuid, p_cost_eur numeric, p_cost_usd numeric, p_estimated boolean, p_service_tier text, p_request text,
    p_input bigint, p_cache_read bigint, p_cache_write_5m bigint, p_cache_write_1h bigint, p_output bigint,
    p_reasoning bigint, p_raw_usage jsonb, p_price bigint
) RETURNS TABLE (outcome text, cap numeric, spent numeric, held numeric, charged numeric) LANGUAGE plpgsql AS $$
DECLARE
    estimate ai_costs;
    posting record;
    correction ai_costs;
BEGIN
    SELECT * INTO estimate FROM ai_costs e WHERE e.hold_id = p_id AND e.reason = 'expired' FOR NO KEY UPDATE;
    IF p_estimated OR estimate.id IS NULL OR EXISTS (
        SELECT FROM ai_costs c WHERE c.corrects_id = estimate.id AND c.reason = 'late_answer'
    ) THEN
        RETURN QUERY SELECT 'already_settled', NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric;
        RETURN;
    END IF;
    SELECT * INTO posting FROM ledger_lock_open_month(
        estimate.organization_id, estimate.month, estimate."user", estimate.use_case);
    IF NOT posting.complete THEN
        RETURN QUERY SELECT 'no_account', NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric;
        RETURN;
    END IF;
    INSERT INTO ai_costs (
        organization_id, month, late, "user", use_case, completion_id, attempt, purpose, provider, model, tier,
        price_id, fx_rate_id, metadata, corrects_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd, estimated,
        overrun, reason, service_tier, provider_request_id, input_total, cache_read, cache_write_5m, cache_write_1h,
        output_total, reasoning, raw_usage
    )
    SELECT
        estimate.organization_id, posting.open_month, posting.open_month > estimate.month, estimate."user",
        estimate.use_case, estimate.completion_id, estimate.attempt, estimate.purpose, estimate.provider,
        estimate.model, estimate.tier, COALESCE(p_price, estimate.price_id), estimate.fx_rate_id, estimate.metadata,
        estimate.id, clock_timestamp(), 0, p_cost_eur - sum(c.cost_eur), p_cost_usd - sum(c.cost_usd),
        estimate.eur_per_usd, false, p_cost_eur > estimate.held_eur, 'late_answer', p_service_tier, p_request, p_input,
        p_cache_read, p_cache_write_5m, p_cache_write_1h, p_output, p_reasoning, p_raw_usage
    FROM ai_costs c WHERE c.id = estimate.id OR c.corrects_id = estimate.id
    RETURNING * INTO correction;
    RETURN QUERY SELECT 'corrected', o.cap_eur, o.spent_eur, o.held_eur, p_cost_eur
        FROM ledger_move(correction.organization_id, correction.month, correction."user", correction.use_case,
                         correction.cost_eur, 0) o;
END $$;

-- As in ledger.sql, and: NULL where taking a late estimate back needs accounts first (open them and ask again).
CREATE OR REPLACE FUNCTION ledger_void(p_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    hold budget_holds;
BEGIN
    DELETE FROM budget_holds h WHERE h.id = p_id RETURNING * INTO hold;
    IF hold.id IS NULL THEN
        -- It may have expired before it was known that nothing was billed.
        RETURN (
            SELECT CASE c.outcome WHEN 'no_account' THEN NULL ELSE false END
            FROM ledger_correct_late(p_id, 0, 0, false, '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) c
        );
    END IF;
    PERFORM ledger_move(hold.organization_id, hold.month, hold."user", hold.use_case, 0, -hold.amount_eur);
    RETURN true;
END $$;

-- A signed record of its own: it corrects a charge (p_corrects), or, without one, what a provider and model cost in
-- a month. It goes into the first open month from p_month on, the month that it belongs to.
-- outcome: corrected (with the record's id); no_account (open those of that month first); charge_below_zero (with
-- what the charge costs with its corrections); account_below_zero (with what the account has spent that has spent
-- least).
CREATE FUNCTION ledger_correct(
    p_organization bigint, p_month date, p_cost_eur numeric, p_cost_usd numeric, p_corrects bigint, p_request bigint,
    p_provider text, p_model text, p_reason text
) RETURNS TABLE (outcome text, open_month date, record bigint, figure numeric) LANGUAGE plpgsql AS $$
DECLARE
    charge ai_costs;
    posting record;
    net numeric;
BEGIN
    IF p_corrects IS NOT NULL THEN
        SELECT * INTO STRICT charge FROM ai_costs c
            WHERE c.id = p_corrects AND c.organization_id = p_organization AND c.month = p_month
              AND c.hold_id IS NOT NULL
            FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO posting FROM ledger_lock_open_month(
        p_organization, p_month, COALESCE(charge."user", ''), COALESCE(charge.use_case, ''));
    SELECT sum(c.cost_eur) INTO net FROM ai_costs c WHERE c.id = p_corrects OR c.corrects_id = p_corrects;
    IF NOT posting.complete THEN
        RETURN QUERY SELECT 'no_account', posting.open_month, NULL::bigint, NULL::numeric;
    ELSIF net + p_cost_eur < 0 THEN
        RETURN QUERY SELECT 'charge_below_zero', posting.open_month, NULL::bigint, net;
    ELSIF p_cost_eur < 0 AND posting.least_spent + p_cost_eur < 0 THEN
        RETURN QUERY SELECT 'account_below_zero', posting.open_month, NULL::bigint, posting.least_spent;
    ELSE
        PERFORM ledger_move(p_organization, posting.open_month, COALESCE(charge."user", ''),
                            COALESCE(charge.use_case, ''), p_cost_eur, 0);
        RETURN QUERY
        INSERT INTO ai_costs (
            organization_id, month, late, "user", use_case, completion_id, attempt, purpose, provider, model, tier,
            price_id, fx_rate_id, metadata, corrects_id, request_id, created_at, held_eur, cost_eur, cost_usd,
            eur_per_usd, estimated, overrun, reason, service_tier, provider_request_id
        ) VALUES (
            p_organization, posting.open_month, posting.open_month > p_month, COALESCE(charge."user", ''),
            COALESCE(charge.use_case, ''), COALESCE(charge.completion_id, ''), COALESCE(charge.attempt, 0),
            COALESCE(charge.purpose, 'answer'), COALESCE(charge.provider, p_provider),
            COALESCE(charge.model, p_model), COALESCE(charge.tier, ''), charge.price_id, charge.fx_rate_id,
            COALESCE(charge.metadata, '{}'), charge.id, p_request, clock_timestamp(), 0, p_cost_eur,
            COALESCE(p_cost_usd, p_cost_eur / charge.eur_per_usd), charge.eur_per_usd, false, false, p_reason, '', ''
        ) RETURNING 'corrected', ai_costs.month, ai_costs.id, NULL::numeric;
    END IF;
END $$;

-- --- What keeps a closed month as it is

CREATE FUNCTION ledger_only_open_months() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ledger_month_is_closed(NEW.organization_id, NEW.month) THEN
        RAISE EXCEPTION '% is closed for organization %: what is late goes into an open month',
            to_char(NEW.month, 'YYYY-MM'), NEW.organization_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cost_record_in_open_month BEFORE INSERT ON ai_costs
    FOR EACH ROW EXECUTE FUNCTION ledger_only_open_months();
CREATE TRIGGER hold_in_open_month BEFORE INSERT OR UPDATE OF organization_id, month ON budget_holds
    FOR EACH ROW EXECUTE FUNCTION ledger_only_open_months();

-- An account that a closed month gets yet (somebody was about to open it) is closed from its beginning.
CREATE FUNCTION budget_account_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.opening_cap_eur := NEW.cap_eur;
    NEW.closed := NEW.scope <> 'organization' AND ledger_month_is_closed(NEW.organization_id, NEW.month);
    IF NEW.closed AND (NEW.spent_eur, NEW.held_eur) <> (0, 0) THEN
        RAISE EXCEPTION 'a closed month takes no money' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER budget_account_begin BEFORE INSERT ON budget_accounts
    FOR EACH ROW EXECUTE FUNCTION budget_account_begin();

CREATE FUNCTION budget_account_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an account keeps its organization, month and scope, and in a closed month its cap and money (%)',
        to_char(OLD.month, 'YYYY-MM') USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER budget_account_keep_place BEFORE UPDATE ON budget_accounts FOR EACH ROW
    WHEN ((NEW.organization_id, NEW.month, NEW.scope) IS DISTINCT FROM (OLD.organization_id, OLD.month, OLD.scope))
    EXECUTE FUNCTION budget_account_refuse();
CREATE TRIGGER budget_account_keep_closed BEFORE UPDATE ON budget_accounts FOR EACH ROW
    WHEN (OLD.closed AND (NEW.cap_eur, NEW.cap_is_of_month, NEW.opening_cap_eur, NEW.spent_eur, NEW.held_eur)
          IS DISTINCT FROM (OLD.cap_eur, OLD.cap_is_of_month, OLD.opening_cap_eur, OLD.spent_eur, OLD.held_eur))
    EXECUTE FUNCTION budget_account_refuse();
CREATE TRIGGER budget_account_keep_closed_row BEFORE DELETE ON budget_accounts FOR EACH ROW
    WHEN (OLD.closed) EXECUTE FUNCTION budget_account_refuse();
CREATE TRIGGER budget_account_keep_all BEFORE TRUNCATE ON budget_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();

-- `closed` says nothing of its own: it follows budget_month_closes.
CREATE FUNCTION budget_account_follow_close() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.closed <> EXISTS (
        SELECT FROM budget_month_closes c
        WHERE c.organization_id = NEW.organization_id AND c.month = NEW.month AND c.reopened_at IS NULL
    ) THEN
        RAISE EXCEPTION 'a month is closed and reopened in budget_month_closes alone'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER budget_account_follow_close BEFORE UPDATE ON budget_accounts FOR EACH ROW
    WHEN (NEW.closed <> OLD.closed) EXECUTE FUNCTION budget_account_follow_close();

-- --- Closing and reopening

-- A month can be closed that is over, that no hold is open of, and whose books balance. The figures are the
-- ledger's own, whatever the statement says.
CREATE FUNCTION month_close_begin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    account budget_accounts;
    spent numeric;
BEGIN
    PERFORM FROM budget_accounts a WHERE a.organization_id = NEW.organization_id AND a.month = NEW.month
        ORDER BY a.scope DESC, a.subject FOR UPDATE;
    SELECT * INTO account FROM budget_accounts a
        WHERE a.organization_id = NEW.organization_id AND a.month = NEW.month AND a.scope = 'organization';
    SELECT count(*), COALESCE(sum(c.cost_eur), 0) INTO NEW.records, spent FROM ai_costs c
        WHERE c.organization_id = NEW.organization_id AND c.month = NEW.month;
    IF account.id IS NULL
        OR clock_timestamp() < (
            SELECT (NEW.month + interval '1 month') AT TIME ZONE o.time_zone
            FROM organizations_organization o WHERE o.id = NEW.organization_id)
        OR EXISTS (
            SELECT FROM budget_holds h WHERE h.organization_id = NEW.organization_id AND h.month = NEW.month)
        OR account.spent_eur <> spent
        OR NEW.reopened_at IS NOT NULL
    THEN
        RAISE EXCEPTION 'a month can be closed that has an account, is over, has no open hold, and balances'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    NEW.opening_cap_eur := account.opening_cap_eur;
    NEW.cap_eur := account.cap_eur;
    NEW.spent_eur := account.spent_eur;
    RETURN NEW;
END $$;
CREATE TRIGGER month_close_begin BEFORE INSERT ON budget_month_closes
    FOR EACH ROW EXECUTE FUNCTION month_close_begin();

-- A close is reopened once, by the request for just that which a second person has approved.
CREATE FUNCTION month_close_reopen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - '{reopened_at,reopened_by,request_id}'::text[]
        <> to_jsonb(OLD) - '{reopened_at,reopened_by,request_id}'::text[]
        OR OLD.reopened_at IS NOT NULL
        OR NOT EXISTS (
            SELECT FROM budget_requests r
            WHERE r.id = NEW.request_id AND r.organization_id = NEW.organization_id AND r.month = NEW.month
              AND r.kind = 'reopening' AND r.state = 'approved')
    THEN
        RAISE EXCEPTION 'a close is only ever reopened, once, by an approved request for that month'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    PERFORM FROM budget_accounts a WHERE a.organization_id = NEW.organization_id AND a.month = NEW.month
        ORDER BY a.scope DESC, a.subject FOR UPDATE;
    RETURN NEW;
END $$;
CREATE TRIGGER month_close_reopen BEFORE UPDATE ON budget_month_closes
    FOR EACH ROW EXECUTE FUNCTION month_close_reopen();
CREATE TRIGGER month_close_keep BEFORE DELETE OR TRUNCATE ON budget_month_closes
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();

CREATE FUNCTION month_close_mark_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE budget_accounts SET closed = NEW.reopened_at IS NULL
    WHERE organization_id = NEW.organization_id AND month = NEW.month;
    RETURN NULL;
END $$;
CREATE TRIGGER month_close_mark_accounts AFTER INSERT OR UPDATE ON budget_month_closes
    FOR EACH ROW EXECUTE FUNCTION month_close_mark_accounts();
