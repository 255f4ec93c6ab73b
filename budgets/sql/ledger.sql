-- The ledger's own functions: each is one event of a charge's life, one statement for the caller, one
-- transaction. Locks are taken in one order everywhere: the hold, then the accounts of the use case and the
-- user, the organization's (the one that everybody shares) last.

-- The accounts that a charge touches, locked in that order.
CREATE FUNCTION ledger_lock_accounts(p_organization bigint, p_month date, p_user text, p_use_case text)
RETURNS SETOF budget_accounts LANGUAGE sql AS $$
    SELECT * FROM budget_accounts
    WHERE organization_id = p_organization AND month = p_month
      AND (scope, subject) IN (('organization', ''), ('user', p_user), ('use_case', p_use_case))
    ORDER BY scope DESC
    FOR UPDATE
$$;

-- Moves the accounts of a charge by the given amounts.
CREATE FUNCTION ledger_move(
    p_organization bigint, p_month date, p_user text, p_use_case text, p_spent numeric, p_held numeric
) RETURNS SETOF budget_accounts LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_lock_accounts(p_organization, p_month, p_user, p_use_case);
    UPDATE budget_accounts SET spent_eur = spent_eur + p_spent, held_eur = held_eur + p_held
    WHERE organization_id = p_organization AND month = p_month
      AND (scope, subject) IN (('user', p_user), ('use_case', p_use_case));
    RETURN QUERY
        UPDATE budget_accounts SET spent_eur = spent_eur + p_spent, held_eur = held_eur + p_held
        WHERE organization_id = p_organization AND month = p_month AND scope = 'organization'
        RETURNING *;
END $$;

-- Takes a hold if spent + held + amount <= cap in every account that applies; all or nothing.
-- outcome: held (with the organization's figures after it), no_account (open the accounts first),
-- exhausted, in_flight (with the refusing account's figures).
CREATE FUNCTION ledger_reserve(
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

-- Turns a hold into a charge and its cost record, and releases the rest. Without a cost (NULL) the hold's whole
-- amount is charged. outcome: settled; corrected (the hold had expired before: see ledger_correct_late);
-- already_settled (nothing is done twice).
CREATE FUNCTION ledger_settle(
    p_id uuid, p_cost_eur numeric, p_cost_usd numeric, p_estimated boolean, p_reason text,
    p_service_tier text, p_request text, p_input bigint, p_cache_read bigint, p_cache_write_5m bigint,
    p_cache_write_1h bigint, p_output bigint, p_reasoning bigint, p_raw_usage jsonb, p_price bigint
) RETURNS TABLE (outcome text, cap numeric, spent numeric, held numeric, charged numeric) LANGUAGE plpgsql AS $$
DECLARE
    hold budget_holds;
    charge numeric;
BEGIN
    DELETE FROM budget_holds h WHERE h.id = p_id RETURNING * INTO hold;
    IF hold.id IS NULL THEN
        RETURN QUERY SELECT * FROM ledger_correct_late(
            p_id, p_cost_eur, p_cost_usd, p_estimated, p_service_tier, p_request, p_input, p_cache_read,
            p_cache_write_5m, p_cache_write_1h, p_output, p_reasoning, p_raw_usage, p_price);
        RETURN;
    END IF;
    charge := COALESCE(p_cost_eur, hold.amount_eur);
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
    RETURN QUERY SELECT 'settled', o.cap_eur, o.spent_eur, o.held_eur, charge
        FROM ledger_move(hold.organization_id, hold.month, hold."user", hold.use_case, charge, -hold.amount_eur) o;
END $$;

-- The answer came after its hold had expired and was charged in full: a signed record puts the estimate right,
-- once. An answer whose own cost is an estimate changes nothing.
CREATE FUNCTION ledger_correct_late(
    p_id uuid, p_cost_eur numeric, p_cost_usd numeric, p_estimated boolean, p_service_tier text, p_request text,
    p_input bigint, p_cache_read bigint, p_cache_write_5m bigint, p_cache_write_1h bigint, p_output bigint,
    p_reasoning bigint, p_raw_usage jsonb, p_price bigint
) RETURNS TABLE (outcome text, cap numeric, spent numeric, held numeric, charged numeric) LANGUAGE plpgsql AS $$
DECLARE
    correction ai_costs;
BEGIN
    INSERT INTO ai_costs (
        organization_id, month, "user", use_case, completion_id, attempt, purpose, provider, model, tier, price_id,
        fx_rate_id, metadata, corrects_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd, estimated, overrun,
        reason, service_tier, provider_request_id, input_total, cache_read, cache_write_5m, cache_write_1h,
        output_total, reasoning, raw_usage
    )
    SELECT
        e.organization_id, e.month, e."user", e.use_case, e.completion_id, e.attempt, e.purpose, e.provider, e.model,
        e.tier, COALESCE(p_price, e.price_id), e.fx_rate_id, e.metadata, e.id, clock_timestamp(), 0,
        p_cost_eur - e.cost_eur, p_cost_usd - e.cost_usd, e.eur_per_usd, false, p_cost_eur > e.held_eur,
        'late_answer', p_service_tier,
        p_request, p_input, p_cache_read, p_cache_write_5m, p_cache_write_1h, p_output, p_reasoning, p_raw_usage
    FROM ai_costs e
    WHERE e.hold_id = p_id AND e.reason = 'expired' AND NOT p_estimated
    ON CONFLICT (corrects_id) WHERE reason = 'late_answer' DO NOTHING
    RETURNING * INTO correction;
    IF correction.id IS NULL THEN
        RETURN QUERY SELECT 'already_settled', NULL::numeric, NULL::numeric, NULL::numeric, NULL::numeric;
        RETURN;
    END IF;
    RETURN QUERY SELECT 'corrected', o.cap_eur, o.spent_eur, o.held_eur, p_cost_eur
        FROM ledger_move(correction.organization_id, correction.month, correction."user", correction.use_case,
                         correction.cost_eur, 0) o;
END $$;

-- Gives a hold back: nothing was sent, or the provider answered with an error. False: there was no such hold.
CREATE FUNCTION ledger_void(p_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    hold budget_holds;
BEGIN
    DELETE FROM budget_holds h WHERE h.id = p_id RETURNING * INTO hold;
    IF hold.id IS NULL THEN
        -- It may have expired before it was known that nothing was billed.
        PERFORM ledger_correct_late(p_id, 0, 0, false, '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        RETURN false;
    END IF;
    PERFORM ledger_move(hold.organization_id, hold.month, hold."user", hold.use_case, 0, -hold.amount_eur);
    RETURN true;
END $$;

-- Charges one hold whose lifetime is over in full, as estimated; NULL: there is none. One at a time, so that a
-- sweep never holds the accounts of two organizations at once.
CREATE FUNCTION ledger_expire_one() RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    hold budget_holds;
BEGIN
    SELECT * INTO hold FROM budget_holds WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF hold.id IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM ledger_settle(
        hold.id, NULL, NULL, true, 'expired', '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    );
    RETURN hold.id;
END $$;

-- A cost record is what it is. Only a user's id may be replaced by a pseudonym: no sum depends on it.
CREATE FUNCTION cost_record_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'user' = to_jsonb(OLD) - 'user' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'cost records are never changed or deleted; correct one by a further record'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER cost_record_keep BEFORE UPDATE OR DELETE ON ai_costs
    FOR EACH ROW EXECUTE FUNCTION cost_record_keep();

CREATE TRIGGER cost_record_keep_all BEFORE TRUNCATE ON ai_costs
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();

CREATE TRIGGER fx_rate_keep_all BEFORE TRUNCATE ON fx_rates
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();
CREATE TRIGGER fx_rate_append_only BEFORE UPDATE OR DELETE ON fx_rates
    FOR EACH ROW EXECUTE FUNCTION aigov_append_only();
CREATE TRIGGER fx_rate_notify AFTER INSERT ON fx_rates
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('fx_rates');
