"""What holds for every price, whoever writes it: rates are no less than 0, and a row is never changed."""

from django.db import migrations

CREATE = r"""
CREATE FUNCTION providers_band_valid(band jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(band) = 'object'
        AND band ?& ARRAY['from_tokens', 'input', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'output']
        AND (band ->> 'from_tokens') ~ '^\d{1,12}$' AND jsonb_typeof(band -> 'from_tokens') = 'number'
        AND (band ->> 'input') ~ '^\d{1,6}(\.\d{1,12})?$' AND jsonb_typeof(band -> 'input') = 'string'
        AND (band ->> 'cache_read') ~ '^\d{1,6}(\.\d{1,12})?$'
        AND jsonb_typeof(band -> 'cache_read') = 'string'
        AND (band ->> 'cache_write_5m') ~ '^\d{1,6}(\.\d{1,12})?$'
        AND jsonb_typeof(band -> 'cache_write_5m') = 'string'
        AND (band ->> 'cache_write_1h') ~ '^\d{1,6}(\.\d{1,12})?$'
        AND jsonb_typeof(band -> 'cache_write_1h') = 'string'
        AND (band ->> 'output') ~ '^\d{1,6}(\.\d{1,12})?$' AND jsonb_typeof(band -> 'output') = 'string'
$$;

CREATE FUNCTION providers_bands_valid(bands jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    band jsonb;
    previous bigint := -1;
BEGIN
    IF jsonb_typeof(bands) <> 'array' OR jsonb_array_length(bands) NOT BETWEEN 1 AND 20 THEN
        RETURN false;
    END IF;
    FOR band IN SELECT value FROM jsonb_array_elements(bands) LOOP
        IF providers_band_valid(band) IS NOT TRUE OR (band ->> 'from_tokens')::bigint <= previous THEN
            RETURN false;
        END IF;
        previous := (band ->> 'from_tokens')::bigint;
    END LOOP;
    RETURN (bands -> 0 ->> 'from_tokens') = '0';
END $$;

ALTER TABLE providers_price ADD CONSTRAINT price_bands_valid CHECK (providers_bands_valid(bands));

CREATE TRIGGER price_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON providers_price
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_append_only();

CREATE TRIGGER price_changed AFTER INSERT ON providers_price
    FOR EACH STATEMENT EXECUTE FUNCTION aigov_notify('prices');
"""
DROP = """
DROP TRIGGER price_changed ON providers_price;
DROP TRIGGER price_append_only ON providers_price;
ALTER TABLE providers_price DROP CONSTRAINT price_bands_valid;
DROP FUNCTION providers_bands_valid(jsonb);
DROP FUNCTION providers_band_valid(jsonb);
"""


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_price_book"), ("organizations", "0002_change_notices")]
    operations = [migrations.RunSQL(CREATE, DROP)]
