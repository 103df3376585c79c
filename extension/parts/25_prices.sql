-- List prices as of 2026-08-01, US dollars per million tokens.
-- NULL: not known.
INSERT INTO llm.price_list (provider, model, input_per_mtok, cached_input_per_mtok, cache_write_per_mtok,
	output_per_mtok, batch_input_per_mtok, batch_output_per_mtok, context_tokens, max_output_tokens) VALUES
	('openai', 'gpt-5.6-sol', 5, 0.5, 6.25, 30, 2.5, 15, 1050000, 128000),
	('openai', 'gpt-5.6-terra', 2, 0.2, 2.5, 12, 1, 6, 1050000, 128000),
	('openai', 'gpt-5.6-luna', 0.2, 0.02, 0.25, 1.2, 0.1, 0.6, 1050000, 128000),
	('openai', 'gpt-5.5', 5, 0.5, NULL, 30, 2.5, 15, 1050000, 128000),
	('openai', 'gpt-5.4', 2.5, 0.25, NULL, 15, 1.25, 7.5, 1050000, 128000),
	('openai', 'gpt-5.4-mini', 0.75, 0.075, NULL, 4.5, 0.375, 2.25, 272000, 128000),
	('openai', 'gpt-5.4-nano', 0.2, 0.02, NULL, 1.25, 0.1, 0.625, 272000, 128000),
	('openai', 'gpt-5.2', 1.75, 0.175, NULL, 14, NULL, NULL, 272000, 128000),
	('openai', 'gpt-5', 1.25, 0.125, NULL, 10, NULL, NULL, 272000, 128000),
	('openai', 'gpt-5-mini', 0.25, 0.025, NULL, 2, NULL, NULL, 272000, 128000),
	('openai', 'gpt-5-nano', 0.05, 0.005, NULL, 0.4, NULL, NULL, 272000, 128000),
	('openai', 'gpt-4.1', 2, 0.5, NULL, 8, 1, 4, 1047576, 32768),
	('openai', 'gpt-4.1-mini', 0.4, 0.1, NULL, 1.6, 0.2, 0.8, 1047576, 32768),
	('openai', 'gpt-4.1-nano', 0.1, 0.025, NULL, 0.4, 0.05, 0.2, 1047576, 32768),
	('openai', 'gpt-4o', 2.5, 1.25, NULL, 10, 1.25, 5, 128000, 16384),
	('openai', 'gpt-4o-mini', 0.15, 0.075, NULL, 0.6, 0.075, 0.3, 128000, 16384),
	('openai', 'o4-mini', 1.1, 0.275, NULL, 4.4, NULL, NULL, 200000, 100000),
	('openai', 'text-embedding-3-small', 0.02, NULL, NULL, 0, 0.01, 0, 8191, NULL),
	('openai', 'text-embedding-3-large', 0.13, NULL, NULL, 0, 0.065, 0, 8191, NULL),
	('anthropic', 'claude-fable-5', 10, 1, 12.5, 50, NULL, NULL, 1000000, 128000),
	('anthropic', 'claude-opus-5', 5, 0.5, 6.25, 25, NULL, NULL, 1000000, 128000),
	('anthropic', 'claude-opus-4-8', 5, 0.5, 6.25, 25, NULL, NULL, 1000000, 128000),
	('anthropic', 'claude-sonnet-5', 2, 0.2, 2.5, 10, NULL, NULL, 1000000, 128000),
	('anthropic', 'claude-sonnet-4-6', 3, 0.3, 3.75, 15, NULL, NULL, 1000000, 64000),
	('anthropic', 'claude-sonnet-4-5', 3, 0.3, 3.75, 15, NULL, NULL, 200000, 64000),
	('anthropic', 'claude-haiku-4-5', 1, 0.1, 1.25, 5, NULL, NULL, 200000, 64000),
	('gemini', 'gemini-3.6-flash', 1.5, 0.15, NULL, 7.5, 0.75, 3.75, 1048576, 65536),
	('gemini', 'gemini-3.5-flash', 1.5, 0.15, NULL, 9, NULL, NULL, 1048576, 65535),
	('gemini', 'gemini-3.5-flash-lite', 0.3, 0.03, NULL, 2.5, 0.15, 1.25, 1048576, 65536),
	('gemini', 'gemini-3.1-flash-lite', 0.25, 0.025, NULL, 1.5, 0.125, 0.75, 1048576, 65536),
	('gemini', 'gemini-3.1-pro-preview', 2, 0.2, NULL, 12, 1, 6, 1048576, 65536),
	('gemini', 'gemini-2.5-pro', 1.25, 0.125, NULL, 10, NULL, NULL, 1048576, 65535),
	('gemini', 'gemini-2.5-flash', 0.3, 0.03, NULL, 2.5, NULL, NULL, 1048576, 65535),
	('gemini', 'gemini-2.5-flash-lite', 0.1, 0.01, NULL, 0.4, NULL, NULL, 1048576, 65535),
	('gemini', 'gemini-embedding-001', 0.15, NULL, NULL, 0, NULL, NULL, 2048, NULL),
	('mistral', 'mistral-large-3', 0.5, NULL, NULL, 1.5, NULL, NULL, 262144, 262144),
	('mistral', 'mistral-medium-3-5', 1.5, NULL, NULL, 7.5, NULL, NULL, 262144, 262144),
	('mistral', 'mistral-small-latest', 0.06, NULL, NULL, 0.18, NULL, NULL, 131072, 131072),
	('mistral', 'mistral-embed', 0.1, NULL, NULL, NULL, NULL, NULL, 8192, NULL),
	('deepseek', 'deepseek-v4-flash', 0.14, 0.0028, 0, 0.28, NULL, NULL, 1000000, 8192),
	('deepseek', 'deepseek-v4-pro', 0.435, 0.003625, 0, 0.87, NULL, NULL, 1000000, 8192),
	('groq', 'llama-3.3-70b-versatile', 0.59, NULL, NULL, 0.79, NULL, NULL, 128000, 32768),
	('groq', 'llama-3.1-8b-instant', 0.05, NULL, NULL, 0.08, NULL, NULL, 128000, 8192),
	('groq', 'openai/gpt-oss-120b', 0.15, 0.075, NULL, 0.6, NULL, NULL, 131072, 32766),
	('groq', 'openai/gpt-oss-20b', 0.075, 0.0375, NULL, 0.3, NULL, NULL, 131072, 32768);
UPDATE llm.price_list SET as_of = '2026-08-01';
UPDATE llm.price_list SET kind = CASE WHEN model LIKE '%embed%' THEN 'embed' WHEN output_per_mtok > 0::numeric THEN 'chat' END;
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 6, "cached_input_per_mtok": 0.6, "cache_write_per_mtok": 7.5, "output_per_mtok": 22.5}]'
	WHERE (provider, model) = ('anthropic', 'claude-sonnet-4-5');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 4, "output_per_mtok": 18}]'
	WHERE (provider, model) = ('gemini', 'gemini-3.1-pro-preview');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 2.5, "output_per_mtok": 15}]'
	WHERE (provider, model) = ('gemini', 'gemini-2.5-pro');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 272000, "input_per_mtok": 10, "output_per_mtok": 45}]'
	WHERE (provider, model) = ('openai', 'gpt-5.6-sol');

-- Dollars per token, as a JSON number, in dollars per million; NULL where it is none, or negative.
CREATE FUNCTION llm.listed_price(per_token jsonb) RETURNS numeric
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN jsonb_typeof(per_token) = 'number' THEN CASE WHEN per_token::numeric >= 0
		THEN trim_scale(per_token::numeric * 1000000) END END
$$;
COMMENT ON FUNCTION llm.listed_price(jsonb) IS 'US dollars per million tokens of a price per token';
REVOKE ALL ON FUNCTION llm.listed_price(jsonb) FROM PUBLIC;

-- Prices as LiteLLM publishes them: one object, a member for each model, US dollars per token.
CREATE FUNCTION llm.import_prices(prices jsonb, as_of date DEFAULT pg_catalog.date(pg_catalog.now())) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	v_as_of CONSTANT date := as_of;
	v_rows bigint;
BEGIN
	IF prices IS NULL OR jsonb_typeof(prices) <> 'object' THEN
		RAISE EXCEPTION 'prices must be a JSON object with a member for each model'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'For instance: {"gpt-5-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}}.';
	END IF;
	WITH entry AS (
		SELECT e.key, e.value AS v, CASE e.value ->> 'litellm_provider' WHEN 'together_ai' THEN 'together'
			WHEN 'fireworks_ai' THEN 'fireworks' WHEN 'bedrock_converse' THEN 'bedrock'
			ELSE e.value ->> 'litellm_provider' END AS provider
		FROM jsonb_each(prices) e
		WHERE e.key <> 'sample_spec' AND jsonb_typeof(e.value) = 'object' AND e.value ->> 'litellm_provider' <> ''
			AND e.value ->> 'mode' IN ('chat', 'completion', 'responses', 'embedding', 'moderation')
			AND jsonb_typeof(e.value -> 'input_cost_per_token') = 'number'
	), priced AS (
		SELECT DISTINCT ON (e.provider, m.model) e.provider, m.model,
			llm.listed_price(e.v -> 'input_cost_per_token') AS input,
			CASE e.v ->> 'mode' WHEN 'embedding' THEN 'embed' WHEN 'moderation' THEN NULL ELSE 'chat' END AS kind,
			COALESCE(llm.listed_price(e.v -> 'cache_read_input_token_cost'), llm.listed_price(e.v -> 'input_cost_per_token_cache_hit')) AS cached,
			llm.listed_price(e.v -> 'cache_creation_input_token_cost') AS written,
			COALESCE(llm.listed_price(e.v -> 'output_cost_per_token'), CASE WHEN e.v ->> 'mode' = 'embedding' THEN 0 END) AS output,
			llm.listed_price(e.v -> 'input_cost_per_token_batches') AS batch_input,
			llm.listed_price(e.v -> 'output_cost_per_token_batches') AS batch_output,
			CASE WHEN jsonb_typeof(e.v -> 'max_input_tokens') = 'number' THEN LEAST((e.v -> 'max_input_tokens')::numeric, 2147483647)::int END AS context,
			CASE WHEN jsonb_typeof(e.v -> 'max_output_tokens') = 'number' THEN LEAST((e.v -> 'max_output_tokens')::numeric, 2147483647)::int END AS longest,
			-- prices of long prompts and of service tiers have a name of their own at the end
			(SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('service_tier', t.s, 'above_tokens', t.k * 1000,
				'input_per_mtok', llm.listed_price(e.v -> ('input_cost_per_token' || t.x)),
				'cached_input_per_mtok', llm.listed_price(e.v -> ('cache_read_input_token_cost' || t.x)),
				'cache_write_per_mtok', llm.listed_price(e.v -> ('cache_creation_input_token_cost' || t.x)),
				'output_per_mtok', llm.listed_price(e.v -> ('output_cost_per_token' || t.x)))) ORDER BY t.s NULLS FIRST, t.k NULLS FIRST)
			FROM (SELECT DISTINCT r.m[1] AS x, r.m[2]::int AS k, r.m[3] AS s FROM jsonb_object_keys(e.v) n CROSS JOIN LATERAL regexp_match(n,
				'^(?:in|out)put_cost_per_token((?:_above_([0-9]{1,6})k_tokens)?(?:_(flex|priority))?)$') AS r(m) WHERE r.m[1] <> '') t
			WHERE t.s IS NULL OR jsonb_typeof(e.v -> ('input_cost_per_token' || t.x)) = 'number' AND (e.v ->> 'mode' = 'embedding'
				OR jsonb_typeof(e.v -> ('output_cost_per_token' || t.x)) = 'number')) AS tiers
		-- a model is listed as "provider/model" where its own name is not enough
		FROM entry e CROSS JOIN LATERAL (SELECT CASE WHEN starts_with(e.key, (e.v ->> 'litellm_provider') || '/')
			THEN substr(e.key, length(e.v ->> 'litellm_provider') + 2) ELSE e.key END AS model) m
		ORDER BY e.provider, m.model, e.key
	), stored AS (
		INSERT INTO llm.price_list AS l (provider, model, input_per_mtok, cached_input_per_mtok, cache_write_per_mtok,
			output_per_mtok, batch_input_per_mtok, batch_output_per_mtok, context_tokens, max_output_tokens, tiers, as_of,
			kind)
		SELECT p.provider, p.model, p.input, p.cached, p.written, p.output, p.batch_input, p.batch_output, p.context,
			p.longest, p.tiers, v_as_of, p.kind FROM priced p WHERE p.model <> '' AND p.input IS NOT NULL
		ON CONFLICT (provider, model) DO UPDATE SET input_per_mtok = excluded.input_per_mtok,
			cached_input_per_mtok = excluded.cached_input_per_mtok, cache_write_per_mtok = excluded.cache_write_per_mtok,
			output_per_mtok = excluded.output_per_mtok, batch_input_per_mtok = excluded.batch_input_per_mtok,
			batch_output_per_mtok = excluded.batch_output_per_mtok, context_tokens = excluded.context_tokens,
			max_output_tokens = excluded.max_output_tokens, tiers = excluded.tiers, as_of = excluded.as_of,
			kind = excluded.kind
		RETURNING 1
	)
	SELECT count(*) FROM stored INTO v_rows;
	RETURN v_rows;
END
$$;
COMMENT ON FUNCTION llm.import_prices(jsonb, date)
	IS 'put prices in LiteLLM''s form on llm.price_list and return their number; prices in force stay until llm.set_price()';
REVOKE ALL ON FUNCTION llm.import_prices(jsonb, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.import_prices(jsonb, date) TO llm_admin;
