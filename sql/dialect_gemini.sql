-- Questions and answers in the form of Google's generateContent.
\getenv abs_srcdir PG_ABS_SRCDIR
\set fixtures :abs_srcdir '/test/fixtures/gemini/'
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.body(dialect text, op text, spec jsonb, model text, input text, last_answer text DEFAULT NULL, fault text DEFAULT NULL, endpoint jsonb DEFAULT '{}')
	RETURNS text LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_body';
CREATE FUNCTION pg_temp.read(dialect text, status int, body bytea, headers jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';
CREATE FUNCTION pg_temp.address(dialect text, kind text, model text, endpoint jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_address';
CREATE FUNCTION pg_temp.embed(dialect text, model text, inputs text[], dimensions int, endpoint jsonb DEFAULT '{}') RETURNS text LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_embed';
CREATE FUNCTION pg_temp.vectors(dialect text, status int, body bytea, headers jsonb, n int) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';

-- the request: where it goes, and its body
SELECT pg_temp.address('gemini', 'chat', 'gemini-3.6-flash', '{"base_url": "https://generativelanguage.googleapis.com/v1beta"}');
SELECT pg_temp.body('gemini', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'gemini-3.6-flash', 'My card was charged twice');
SELECT pg_temp.body('gemini', 'complete', pg_temp.spec('complete', '{"instructions": "Be brief.", "options": {"temperature": 0.20, "top_p": 0.9, "seed": 7,
	"max_tokens": 100, "reasoning_effort": "low", "verbosity": "low", "service_tier": "flex"}}'), 'gemini-3.6-flash', E'quote " and €');
-- the second asking
SELECT pg_temp.body('gemini', 'complete', '{}', 'm', 'hello', '{"label": "foo"}', 'The label "foo" is not one of: bug.');
SELECT pg_temp.body('gemini', 'complete', '{}', 'm', 'hello', NULL, 'The answer is empty.');
-- simpler ways to ask for the form of an answer
SELECT pg_temp.body('gemini', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'm', 'x', NULL, NULL, jsonb_build_object('answer_form', form)) FROM unnest(ARRAY['json_object', 'text']) form;
-- keywords that the provider does not know are left out; a constant is an enum of one
SELECT pg_temp.body('gemini', 'extract', '{"schema": {"type": "object", "properties": {"k": {"const": "a"}, "s": {"type": ["string", "null"], "maxLength": 5}}, "required": ["k"], "additionalProperties": false}}', 'gemini-3.6-flash', 'x')::jsonb #> '{generationConfig,responseJsonSchema}';
-- thinking, by word or by number of tokens
SELECT model, effort, pg_temp.body('gemini', 'complete', pg_temp.spec('complete', jsonb_build_object('options', jsonb_build_object('reasoning_effort', effort))), model, 'x')::jsonb #> '{generationConfig,thinkingConfig}'
FROM unnest(ARRAY['gemini-2.5-flash', 'gemini-3.6-flash']) model, unnest(ARRAY['none', 'low', 'high']) effort;
-- what is said already is not said twice, and a property of the schema is not said
SELECT pg_temp.body('gemini', 'classify', pg_temp.spec('classify', '{"labels": ["a", "b"]}'), 'm', 'x', NULL, NULL,
	'{"extra_body": "\"label\":1,\"temperature\":2,\"generationConfig\":{\"label\":3,\"temperature\":4}"}')::jsonb - 'contents' - 'systemInstruction';
-- members of generationConfig in extra_body join it
SELECT pg_temp.body('gemini', 'complete', pg_temp.spec('complete', '{"options": {"temperature": 0}}'), 'm', 'x', NULL, NULL, '{"extra_body": "\"generationConfig\":{\"topK\":3,\"temperature\":1},\"safetySettings\":[]"}')::jsonb - 'contents';
SELECT pg_temp.address('gemini', 'chat', 'tunedModels/mine', '{"base_url": "https://gw.example/v1beta"}') ->> 'url';
SELECT pg_temp.embed('gemini', 'gemini-embedding-001', ARRAY['first', 'second "text"'], 768);
SELECT pg_temp.embed('gemini', 'gemini-embedding-001', ARRAY['first', 'second "text"'], 768, '{"extra_body": "\"taskType\":\"CLUSTERING\""}');
SELECT pg_temp.vectors('gemini', status, convert_to(body, 'UTF8'), '{}', n) FROM (VALUES
	(200, 2, '{"embeddings": [{"values": [0.5, -1]}, {"values": [1e-3, 2]}], "usageMetadata": {"promptTokenCount": 4}}'), (200, 2, '{"embeddings": [{"values": [1]}]}'),
	(200, 1, '{"embeddings": [{"values": [1]}, {"values": [2]}]}'), (200, 1, '{}'), (429, 1, '{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}')) v (status, n, body);

-- every fixture, as it is read
SELECT name, (f ->> 'status')::int AS status, pg_temp.read('gemini', (f ->> 'status')::int, convert_to(coalesce((f -> 'body')::text, f ->> 'raw'), 'UTF8'), (f -> 'headers')::jsonb)
FROM (SELECT name, convert_from(pg_read_binary_file(:'fixtures' || name), 'UTF8')::json AS f FROM pg_ls_dir(:'fixtures') name WHERE name LIKE '%.json') files
ORDER BY name COLLATE "C";
-- garbage in, an answer of some class out: every cut and many flips of a good answer
SELECT count(*) > 100, bool_and(r ? 'class') FROM (SELECT pg_temp.read('gemini', 200, substr(b, 1, n)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f, generate_series(0, length(b)) n) t;
SELECT count(*) > 1000, bool_and(r ? 'class') FROM (SELECT pg_temp.read('gemini', status, set_byte(b, n, v)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f,
		generate_series(0, length(b) - 1) n, unnest(ARRAY[0, 34, 44, 58, 92, 91, 93, 123, 125, 255]) v, unnest(ARRAY[200, 429]) status) t;
