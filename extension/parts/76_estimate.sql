-- What a statement will cost. Nothing is run, and nothing stays behind.
CREATE FUNCTION llm.estimate(statement text, OUT tasks bigint, OUT calls bigint, OUT input_tokens bigint,
	OUT output_tokens bigint, OUT cost_low numeric, OUT cost_high numeric, OUT seconds float8)
RETURNS SETOF record LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000 ROWS 2
AS 'MODULE_PATHNAME', 'llm_enrich_estimate';
COMMENT ON FUNCTION llm.estimate(text) IS
	'what a statement would ask and cost, in US dollars from .. to: a row per call, in their order; it is not run';
