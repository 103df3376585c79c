-- Functions that give more than jsonb: their arguments, their words for the model, and which
-- answers are taken.  The pure rooms are reached through functions for tests (src/test_api.c).
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.load(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_load';
CREATE FUNCTION pg_temp.chk(text, jsonb, text) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_check';
-- the error of a call, in one line
CREATE FUNCTION pg_temp.refused(op text, args jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM pg_temp.spec(op, args);
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- filter
SELECT pg_temp.spec('filter', '{"condition": "it is spam"}');
SELECT pg_temp.load('filter', pg_temp.spec('filter', '{"condition": "it is \"spam\"\n", "instructions": "Mail of a shop."}'));
SELECT args, pg_temp.refused('filter', args) FROM jsonb_array_elements('[{}, {"condition": " \n"}, {"condition": "x", "labels": ["a"]},
	{"condition": "x", "criterion": "y"}]') args;
SELECT length(pg_temp.refused('filter', jsonb_build_object('condition', repeat('ä', 10001))));
SELECT answer, pg_temp.chk('filter', '{"condition": "x"}', answer) FROM unnest(ARRAY['{"match": true}', '```json {"match":false}```', '{"match": null}',
	'{"match": "true"}', '{"match": true, "why": "x"}', '{}', 'true', 'yes']) answer;
SELECT pg_temp.spec('filter', '{"condition": "x", "examples": [{"input": "a", "output": true}, {"input": "b", "output": {"match": false}}]}');
SELECT pg_temp.refused('filter', '{"condition": "x", "examples": [{"input": "a", "output": "yes"}]}');

-- score
SELECT pg_temp.spec('score', '{"criterion": "urgency"}');
SELECT pg_temp.load('score', pg_temp.spec('score', '{"criterion": "urgency", "min": -2.5, "max": 1e3}'));
SELECT args, pg_temp.refused('score', args) FROM jsonb_array_elements('[{}, {"criterion": ""}, {"criterion": "x", "min": 1}, {"criterion": "x", "min": 2},
	{"criterion": "x", "max": 0}, {"criterion": "x", "min": -1e300, "max": 1e300}]') args;
SELECT answer, pg_temp.chk('score', '{"criterion": "x", "min": 0, "max": 10}', answer) FROM unnest(ARRAY['{"score": 7}', '{"score": 0}', '{"score": 10.0}',
	'{"score": 0.1234567890123456789}', '{"score": 1e-9}', '{"score": 10.000000000000000000001}', '{"score": -0.1}', '{"score": "7"}', '{"score": null}', '{"score": 7, "n": 1}', '7']) answer;
SELECT pg_temp.chk('score', '{"criterion": "x", "min": 0, "max": 1}', '{"score": 0.' || repeat('0', 350) || '1}');
SELECT pg_temp.refused('score', '{"criterion": "x", "examples": [{"input": "a", "output": 2}]}');
