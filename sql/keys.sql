--
-- Options of servers and user mappings: who may set which, and how (P9)
--
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE ROLE keys_owner;
CREATE ROLE keys_user;
GRANT USAGE ON FOREIGN DATA WRAPPER llm_enrich TO keys_owner;

-- what is missing, and what does not exist
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich;
\echo :SQLSTATE
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai');
\echo :SQLSTATE
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich OPTIONS (base_url 'https://api.example.com/v1');
\echo :SQLSTATE
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1', colour 'blue');
\echo :SQLSTATE
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1', api_key 'sk-secret-1');
\echo :SQLSTATE
CREATE SERVER keys_bad FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1',
		api_key_file '/etc/postgresql/a.key', api_key_env 'A_KEY');
\echo :SQLSTATE
ALTER FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai');
\echo :SQLSTATE
\set VERBOSITY sqlstate

-- values, one wrong each; the SQLSTATE is always the same
CREATE FUNCTION pg_temp.try(option text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	options text := format('dialect %L, base_url %L',
		CASE WHEN option = 'dialect' THEN value ELSE 'openai' END,
		CASE WHEN option = 'base_url' THEN value ELSE 'https://api.example.com/v1' END);
	detail text;
BEGIN
	IF option NOT IN ('dialect', 'base_url') THEN
		options := options || format(', %I %L', option, value);
	END IF;
	EXECUTE 'CREATE SERVER keys_try FOREIGN DATA WRAPPER llm_enrich OPTIONS (' || options || ')';
	DROP SERVER keys_try;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || concat_ws(' - ', sqlerrm, nullif(detail, ''));
END
$$;
SELECT value, pg_temp.try('base_url', value) FROM unnest(ARRAY[
	'https://api.example.com/v1', 'https://api.example.com/v1/', 'HTTPS://api.example.com', 'https://[::1]:8443/v1',
	'http://127.0.0.1:8080/v1', 'api.example.com', 'ftp://api.example.com', '', 'https://', 'https:///v1', 'https://:443/v1',
	'https://me:word@api.example.com/v1', 'https://api.example.com@evil.example.com/v1', 'https://api.example.com/v1?key=abc',
	'https://api.example.com/v1#top', 'https://api.example.com/a b', E'https://api.example.com/\r\nX: y',
	'https://api.example.com\@evil.example.com']) AS value;
SELECT option, value, pg_temp.try(option, value) FROM (VALUES
	('dialect', 'openai'), ('dialect', 'klingon'), ('dialect', 'OpenAI'), ('dialect', ''),
	('api_key_file', '/etc/postgresql/a.key'), ('api_key_file', 'a.key'), ('api_key_file', ''),
	('api_key_env', 'OPENAI_API_KEY'), ('api_key_env', 'sk-proj-abc'), ('api_key_env', '1A'), ('api_key_env', ''),
	('requests_per_minute', '500'), ('requests_per_minute', '0'), ('requests_per_minute', '-1'), ('requests_per_minute', 'many'),
	('requests_per_minute', '99999999999'), ('tokens_per_minute', '2000000'), ('tokens_per_minute', '1.5e'),
	('max_concurrency', '64'), ('max_concurrency', ''),
	('timeout', '60s'), ('timeout', '1500ms'), ('timeout', '1500'), ('timeout', '2min'), ('timeout', '0'), ('timeout', '2h'), ('timeout', '5 parsec'),
	('connect_timeout', '3s'), ('connect_timeout', '-3s')) AS t(option, value);
\set VERBOSITY default

-- a user mapping takes a key and nothing else, and no message repeats it
CREATE SERVER keys_mapped FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1');
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (password 'sk-secret-2');
\echo :SQLSTATE
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (base_url 'https://evil.example.com');
\echo :SQLSTATE
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (api_key '');
\echo :SQLSTATE
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (api_key E'sk-secret-3\nX-Header: x');
\echo :SQLSTATE
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (api_key 'sk-secret-4é');
\echo :SQLSTATE
CREATE USER MAPPING FOR keys_user SERVER keys_mapped OPTIONS (api_key 'sk-secret-5');
CREATE USER MAPPING FOR PUBLIC SERVER keys_mapped OPTIONS (api_key 'sk-secret-6');
-- PostgreSQL shows it to the mapped role with USAGE, and to who may change the server
GRANT USAGE ON FOREIGN SERVER keys_mapped TO keys_user;
SET ROLE keys_user;
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname = 'keys_mapped' ORDER BY 1;
RESET ROLE;
SET ROLE keys_owner;
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname = 'keys_mapped' ORDER BY 1;
RESET ROLE;

-- without superuser rights: https and a user mapping is all one needs
SET ROLE keys_owner;
CREATE SERVER keys_own FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1');
CREATE USER MAPPING FOR keys_owner SERVER keys_own OPTIONS (api_key 'sk-secret-7');
ALTER SERVER keys_own OPTIONS (ADD requests_per_minute '60', SET base_url 'https://api.example.org/v1');
-- but neither a file of the server's, nor its environment, nor http
ALTER SERVER keys_own OPTIONS (ADD api_key_file '/etc/passwd');
\echo :SQLSTATE
ALTER SERVER keys_own OPTIONS (ADD api_key_env 'PATH');
\echo :SQLSTATE
ALTER SERVER keys_own OPTIONS (SET base_url 'http://api.example.org/v1');
\echo :SQLSTATE
ALTER SERVER keys_own OPTIONS (SET base_url 'http://127.0.0.1:8080/v1');
\echo :SQLSTATE
CREATE SERVER keys_own2 FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'HTTP://127.0.0.1:8080/v1');
\echo :SQLSTATE
RESET ROLE;
-- once a superuser gave it a file, the owner may change nothing: the key would go where he points
ALTER SERVER keys_own OPTIONS (ADD api_key_file '/etc/postgresql/a.key');
SET ROLE keys_owner;
ALTER SERVER keys_own OPTIONS (SET base_url 'https://evil.example.com/v1');
\echo :SQLSTATE
ALTER SERVER keys_own OPTIONS (SET requests_per_minute '1');
\echo :SQLSTATE
ALTER SERVER keys_own OPTIONS (SET api_key_file '/etc/postgresql/b.key');
\echo :SQLSTATE
-- taking the file away and pointing elsewhere leaves no key to send
ALTER SERVER keys_own OPTIONS (DROP api_key_file, SET base_url 'https://elsewhere.example.com/v1');
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'keys_own';
RESET ROLE;
ALTER SERVER keys_own OPTIONS (ADD api_key_env 'A_KEY');
SET ROLE keys_owner;
ALTER SERVER keys_own OPTIONS (SET base_url 'https://evil.example.com/v1');
\echo :SQLSTATE
RESET ROLE;
-- the same for http, which a superuser may have
ALTER SERVER keys_own OPTIONS (DROP api_key_env, SET base_url 'http://127.0.0.1:8080/v1');
SET ROLE keys_owner;
ALTER SERVER keys_own OPTIONS (SET requests_per_minute '2');
\echo :SQLSTATE
RESET ROLE;

-- who may not use the wrapper, creates nothing; nobody calls the validator by hand
SET ROLE keys_user;
\set VERBOSITY sqlstate
CREATE SERVER keys_none FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1');
SELECT llm.fdw_validator('{}', 'pg_foreign_server'::regclass);
\set VERBOSITY default
RESET ROLE;

DROP SERVER keys_mapped, keys_own CASCADE;
REVOKE USAGE ON FOREIGN DATA WRAPPER llm_enrich FROM keys_owner;
DROP ROLE keys_owner, keys_user;
