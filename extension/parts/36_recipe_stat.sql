-- What estimates learn from: sums over the requests of a recipe to a model, and no word of theirs.
CREATE TABLE llm.recipe_stat (
	recipe bigint NOT NULL,
	server text NOT NULL,
	model text NOT NULL,
	requests bigint NOT NULL,
	body_bytes bigint NOT NULL,
	input_tokens bigint NOT NULL,
	cached_tokens bigint NOT NULL,
	cache_write_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	output_tokens_max bigint NOT NULL,
	tokens_per_byte_max float8 NOT NULL,
	bytes_squared float8 NOT NULL,
	bytes_input float8 NOT NULL,
	input_squared float8 NOT NULL,
	output_squared float8 NOT NULL,
	again_requests bigint NOT NULL,
	again_input_tokens bigint NOT NULL,
	again_output_tokens bigint NOT NULL,
	latency_ms bigint NOT NULL,
	PRIMARY KEY (recipe, server, model)
) WITH (fillfactor = 50);
COMMENT ON TABLE llm.recipe_stat IS 'what requests of a recipe to a model have taken so far, for estimates';
COMMENT ON COLUMN llm.recipe_stat.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.recipe_stat.server IS 'foreign server';
COMMENT ON COLUMN llm.recipe_stat.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.recipe_stat.requests IS 'requests that asked for the first time and whose usage was told';
COMMENT ON COLUMN llm.recipe_stat.body_bytes IS 'bytes of their bodies';
COMMENT ON COLUMN llm.recipe_stat.input_tokens IS 'their input tokens, of all classes';
COMMENT ON COLUMN llm.recipe_stat.cached_tokens IS 'of these, tokens read from the provider''s cache';
COMMENT ON COLUMN llm.recipe_stat.cache_write_tokens IS 'of these, tokens written to the provider''s cache';
COMMENT ON COLUMN llm.recipe_stat.output_tokens IS 'their output tokens, reasoning included';
COMMENT ON COLUMN llm.recipe_stat.output_tokens_max IS 'most output tokens of any request';
COMMENT ON COLUMN llm.recipe_stat.tokens_per_byte_max IS 'most input tokens of a byte of any request''s body';
COMMENT ON COLUMN llm.recipe_stat.bytes_squared IS 'sum of squares of body_bytes';
COMMENT ON COLUMN llm.recipe_stat.bytes_input IS 'sum of body_bytes times input_tokens';
COMMENT ON COLUMN llm.recipe_stat.input_squared IS 'sum of squares of input_tokens';
COMMENT ON COLUMN llm.recipe_stat.output_squared IS 'sum of squares of output_tokens';
COMMENT ON COLUMN llm.recipe_stat.again_requests IS 'requests that asked again after a charged failure';
COMMENT ON COLUMN llm.recipe_stat.again_input_tokens IS 'their input tokens';
COMMENT ON COLUMN llm.recipe_stat.again_output_tokens IS 'their output tokens';
COMMENT ON COLUMN llm.recipe_stat.latency_ms IS 'milliseconds of the requests that asked for the first time';

-- Figures only: for the roles that see the recipe, and for pg_monitor.
ALTER TABLE llm.recipe_stat ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.recipe_stat FOR SELECT USING (
	EXISTS (SELECT FROM llm.job j WHERE j.recipe OPERATOR(pg_catalog.=) recipe_stat.recipe));
CREATE POLICY admin ON llm.recipe_stat FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')
	OR pg_catalog.pg_has_role('pg_monitor', 'usage')));
GRANT SELECT ON llm.recipe_stat TO PUBLIC;
