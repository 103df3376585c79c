-- Providers by name, habits of a host, needs of a network: what may be said, and what is refused.
\set VERBOSITY default
CREATE ROLE providers_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER llm_enrich TO providers_owner;
\pset format unaligned
\pset tuples_only on

-- a name fills in the rest, and each option can still be given
SELECT provider, dialect, base_url, answer_form, max_tokens_field FROM llm.provider_list
	WHERE provider IN ('openai', 'deepseek', 'groq', 'xai', 'together', 'fireworks', 'openrouter', 'perplexity', 'llamacpp', 'vllm', 'litellm') ORDER BY 1;
CREATE FUNCTION pg_temp.try(options text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
	message text;
BEGIN
	EXECUTE format('CREATE SERVER providers_try FOREIGN DATA WRAPPER llm_enrich OPTIONS (%s)', options);
	DROP SERVER providers_try;
	RETURN 'fine';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', sqlstate || ' ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;
SELECT options, pg_temp.try(options) FROM unnest(ARRAY[
	$$provider 'openai', api_key_file '/etc/postgresql/openai.key'$$, $$provider 'groq', base_url 'https://gateway.example/groq/v1', dialect 'openai'$$,
	$$provider 'vllm', base_url 'http://10.0.0.5:8000/v1'$$, $$provider 'vllm'$$]) options;
SELECT split_part(pg_temp.try(format('provider %L', p)), E'\n', 1) FROM unnest(ARRAY['opensky', 'OpenAI', '']) p;

-- an address that ends in the path which is appended
SELECT pg_temp.try(format('dialect ''openai'', base_url %L', u)) FROM unnest(ARRAY['https://api.openai.com/v1/chat/completions', 'https://api.openai.com/v1/Chat/Completions/',
	'https://api.openai.com/v1/embeddings', 'https://host.example/v1/responses']) u;

-- habits
SELECT options, pg_temp.try($$provider 'openai', $$ || options) FROM unnest(ARRAY[
	$$answer_form 'json_object', max_tokens_field 'max_tokens', system_role 'user'$$, $$answer_form 'xml'$$, $$max_tokens_field 'max tokens'$$, $$system_role 'root'$$,
	$$extra_body '{"top_k": 40, "provider": {"order": ["a"]}}'$$, $$extra_body '[1]'$$, $$extra_body '{"messages": []}'$$, $$extra_body '{"a": 1'$$,
	$$headers '{"OpenAI-Project": "proj_1", "X-Auth": "Bearer %s"}'$$, $$headers '{"a b": "c"}'$$, $$headers '{"Host": "evil.example"}'$$, $$headers '{"X-A": "a\r\nX-B: b"}'$$,
	$$headers '{"X-A": 1}'$$, $$headers '{"X-A": "%s%s"}'$$, $$headers 'X-A: b'$$, $$query 'api-version=2024-10-21&a=b'$$, $$query '?a=b'$$, $$query 'a'$$, $$query ''$$, $$query 'key=%s'$$,
	$$key_header 'api-key: %s'$$, $$key_header 'api-key'$$, $$key_header 'Content-Length: %s'$$]) options;

-- no secret where everybody reads, and none is repeated
SELECT options, pg_temp.try($$provider 'openai', $$ || options) FROM unnest(ARRAY[
	$$headers '{"Authorization": "Bearer hunter2"}'$$, $$headers '{"X-Api-Key": "hunter2"}'$$, $$headers '{"X-Session-Token": "hunter2"}'$$, $$headers '{"X-Note": "sk-hunter2hunter2"}'$$,
	$$query 'api-key=hunter2'$$, $$query 'note=sk-hunter2hunter2'$$, $$key_header 'Authorization: Bearer hunter2'$$, $$extra_body '{"note": "sk-hunter2hunter2"}'$$,
	$$proxy 'http://me:hunter2@proxy.example:3128'$$]) options;

-- the way
SELECT options, pg_temp.try($$provider 'openai', $$ || options) FROM unnest(ARRAY[
	$$ca_file '/etc/ssl/corp.pem', client_cert_file '/etc/pg/c.pem', client_key_file '/etc/pg/c.key'$$, $$ca_file 'corp.pem'$$, $$client_key_file '/etc/pg/c.key'$$,
	$$proxy 'http://me@proxy.example:3128', proxy_password_file '/etc/pg/proxy.password'$$, $$proxy_password_file '/etc/pg/proxy.password'$$, $$proxy 'proxy.example:3128'$$, $$proxy 'http://'$$]) options;

-- what reads a file or changes the way needs a superuser, for every later change, too; the owner has the rest
CREATE SERVER providers_own FOREIGN DATA WRAPPER llm_enrich OPTIONS (provider 'openai');
ALTER SERVER providers_own OWNER TO providers_owner;
SET ROLE providers_owner;
ALTER SERVER providers_own OPTIONS (ADD headers '{"X-A": "b"}', ADD query 'a=b', ADD extra_body '{"top_k": 1}', ADD answer_form 'text');
ALTER SERVER providers_own OPTIONS (ADD ca_file '/etc/ssl/corp.pem');
ALTER SERVER providers_own OPTIONS (ADD proxy 'http://evil.example:3128');
ALTER SERVER providers_own OPTIONS (ADD client_cert_file '/etc/passwd');
ALTER SERVER providers_own OPTIONS (SET provider 'llamacpp');
RESET ROLE;
ALTER SERVER providers_own OPTIONS (ADD proxy 'http://proxy.example:3128');
SET ROLE providers_owner;
ALTER SERVER providers_own OPTIONS (SET headers '{"X-A": "c"}');
ALTER SERVER providers_own OPTIONS (ADD base_url 'https://evil.example/v1');
RESET ROLE;
ALTER SERVER providers_own OPTIONS (DROP proxy);

-- what a call becomes: the server's habits, and those of a model
SELECT llm.add_model('providers_model', 'providers_own', 'm', input_per_mtok => 1, output_per_mtok => 1);
SELECT llm.preview('classify', 'hello', labels => '{a,b}', model => 'providers_model', options => '{"max_tokens": 5}') - 'messages';
SELECT llm.alter_model('providers_model', options => '{"answer_form": "json_object", "max_tokens_field": "max_tokens", "system_role": "user", "extra_body": {"top_k": 2, "temperature": 1}}');
SELECT llm.preview('classify', 'hello', labels => '{a,b}', model => 'providers_model', options => '{"max_tokens": 5, "temperature": 0}') - 'messages';
SELECT llm.preview('classify', 'hello', labels => '{a,b}', model => 'providers_model') -> 'messages' -> 0 ->> 'role';
SELECT options FROM llm.model WHERE alias = 'providers_model';
SELECT llm.alter_model('providers_model', options => '{}');
SELECT options IS NULL FROM llm.model WHERE alias = 'providers_model';
\set ON_ERROR_STOP 0
SELECT llm.alter_model('providers_model', options => '{"proxy": "http://x"}');
SELECT llm.alter_model('providers_model', options => '[]');
SELECT llm.alter_model('providers_model', options => '{"answer_form": "xml"}');
SELECT llm.alter_model('providers_model', options => '{"timeout": "1ms"}');
SELECT llm.drop_model('providers_model');
DELETE FROM llm.price WHERE server = 'providers_own';
DROP SERVER providers_own;
REVOKE ALL ON FOREIGN DATA WRAPPER llm_enrich FROM providers_owner;
DROP ROLE providers_owner;
