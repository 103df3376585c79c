-- Aggregates whose answer comes while the statement waits.  An aggregate takes neither defaults nor
-- named arguments, hence one for each number of arguments.
CREATE FUNCTION llm.agg_answer(collected internal) RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_agg_answer';
COMMENT ON FUNCTION llm.agg_answer(internal) IS 'the answer about what llm_agg or llm_summarize_agg has collected';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text, model text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text, model text, options jsonb) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text, text, jsonb)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int, model text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int, model text, options jsonb) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int, text, jsonb)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE AGGREGATE llm_agg(input text, instruction text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text) IS 'the answer to an instruction about the texts of all rows together';

CREATE AGGREGATE llm_agg(input text, instruction text, model text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text, text) IS 'the same of a model';

CREATE AGGREGATE llm_agg(input text, instruction text, model text, options jsonb) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text, text, jsonb) IS 'the same with options';

CREATE AGGREGATE llm_summarize_agg(input text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text) IS 'a summary of the texts of all rows together, in at most 50 words';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int) IS 'the same in at most so many words';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int, model text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int, text) IS 'the same of a model';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int, model text, options jsonb) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int, text, jsonb) IS 'the same with options';
