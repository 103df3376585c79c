-- Questions and answers in the form of Converse of AWS Bedrock.
\getenv abs_srcdir PG_ABS_SRCDIR
\set fixtures :abs_srcdir '/test/fixtures/bedrock/'
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.body(dialect text, op text, spec jsonb, model text, input text, last_answer text DEFAULT NULL, fault text DEFAULT NULL, endpoint jsonb DEFAULT '{}')
	RETURNS text LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_body';
CREATE FUNCTION pg_temp.read(dialect text, status int, body bytea, headers jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';
CREATE FUNCTION pg_temp.address(dialect text, kind text, model text, endpoint jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_address';

-- the request: where it goes, and its body
SELECT pg_temp.address('bedrock', 'chat', 'eu.anthropic.claude-sonnet-5-v1:0', '{"base_url": "https://bedrock-runtime.eu-central-1.amazonaws.com"}');
SELECT pg_temp.body('bedrock', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'eu.anthropic.claude-sonnet-5-v1:0', 'My card was charged twice');
SELECT pg_temp.body('bedrock', 'complete', pg_temp.spec('complete', '{"instructions": "Be brief.", "options": {"temperature": 0.20, "top_p": 0.9, "seed": 7,
	"max_tokens": 100, "reasoning_effort": "low", "verbosity": "low", "service_tier": "flex"}}'), 'eu.anthropic.claude-sonnet-5-v1:0', E'quote " and €');
-- the second asking
SELECT pg_temp.body('bedrock', 'complete', '{}', 'm', 'hello', '{"label": "foo"}', 'The label "foo" is not one of: bug.');
SELECT pg_temp.body('bedrock', 'complete', '{}', 'm', 'hello', NULL, 'The answer is empty.');
-- simpler ways to ask for the form of an answer
SELECT pg_temp.body('bedrock', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'm', 'x', NULL, NULL, jsonb_build_object('answer_form', form)) FROM unnest(ARRAY['json_object', 'text']) form;
-- a model's id is one step of the path
SELECT pg_temp.address('bedrock', 'chat', 'arn:aws:bedrock:eu-central-1:1:inference-profile/x', '{"base_url": "https://host.example"}') ->> 'url';
SELECT pg_temp.body('bedrock', 'complete', '{}', 'm', 'x', NULL, NULL, '{"extra_body": "\"inferenceConfig\":{\"stopSequences\":[\"a\"]},\"requestMetadata\":{\"a\":\"b\"}"}')::jsonb - 'messages';

-- every fixture, as it is read
SELECT name, (f ->> 'status')::int AS status, pg_temp.read('bedrock', (f ->> 'status')::int, convert_to(coalesce((f -> 'body')::text, f ->> 'raw'), 'UTF8'), (f -> 'headers')::jsonb)
FROM (SELECT name, convert_from(pg_read_binary_file(:'fixtures' || name), 'UTF8')::json AS f FROM pg_ls_dir(:'fixtures') name WHERE name LIKE '%.json') files
ORDER BY name COLLATE "C";
-- garbage in, an answer of some class out: every cut and many flips of a good answer
SELECT count(*) > 100, bool_and(r ? 'class') FROM (SELECT pg_temp.read('bedrock', 200, substr(b, 1, n)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f, generate_series(0, length(b)) n) t;
SELECT count(*) > 1000, bool_and(r ? 'class') FROM (SELECT pg_temp.read('bedrock', status, set_byte(b, n, v)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f,
		generate_series(0, length(b) - 1) n, unnest(ARRAY[0, 34, 44, 58, 92, 91, 93, 123, 125, 255]) v, unnest(ARRAY[200, 429]) status) t;
