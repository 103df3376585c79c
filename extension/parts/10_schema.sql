\echo Use "CREATE EXTENSION llm_enrich" to load this file. \quit

CREATE SCHEMA llm;
COMMENT ON SCHEMA llm IS 'tasks, jobs, ledger, models and prices of llm_enrich';
GRANT USAGE ON SCHEMA llm TO PUBLIC;

-- Roles belong to the cluster: the first database creates it, the others find it.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'llm_admin') THEN
		CREATE ROLE llm_admin NOLOGIN;
	END IF;
END
$$;

-- Volatile like clock_timestamp(): to be compared with an indexed column as (SELECT llm.clock()).
CREATE FUNCTION llm.clock() RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_clock';
COMMENT ON FUNCTION llm.clock() IS 'internal: clock_timestamp(), which a test can set forward';
