-- Questions and answers in the form of Anthropic's Messages.
\getenv abs_srcdir PG_ABS_SRCDIR
\set fixtures :abs_srcdir '/test/fixtures/anthropic/'
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.body(dialect text, op text, spec jsonb, model text, input text, last_answer text DEFAULT NULL, fault text DEFAULT NULL, endpoint jsonb DEFAULT '{}')
	RETURNS text LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_body';
CREATE FUNCTION pg_temp.read(dialect text, status int, body bytea, headers jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';
CREATE FUNCTION pg_temp.address(dialect text, kind text, model text, endpoint jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_address';

-- the request: where it goes, and its body
SELECT pg_temp.address('anthropic', 'chat', 'claude-sonnet-5', '{"base_url": "https://api.anthropic.com/v1"}');
SELECT pg_temp.body('anthropic', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'claude-sonnet-5', 'My card was charged twice');
SELECT pg_temp.body('anthropic', 'complete', pg_temp.spec('complete', '{"instructions": "Be brief.", "options": {"temperature": 0.20, "top_p": 0.9, "seed": 7,
	"max_tokens": 100, "reasoning_effort": "low", "verbosity": "low", "service_tier": "flex"}}'), 'claude-sonnet-5', E'quote " and €');
-- the second asking
SELECT pg_temp.body('anthropic', 'complete', '{}', 'm', 'hello', '{"label": "foo"}', 'The label "foo" is not one of: bug.');
SELECT pg_temp.body('anthropic', 'complete', '{}', 'm', 'hello', NULL, 'The answer is empty.');
-- simpler ways to ask for the form of an answer
SELECT pg_temp.body('anthropic', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'm', 'x', NULL, NULL, jsonb_build_object('answer_form', form)) FROM unnest(ARRAY['json_object', 'text']) form;
-- natively where model and schema allow it: without the keywords that the provider does not take; else by a tool
SELECT n, pg_temp.body('anthropic', 'extract', jsonb_build_object('schema', schema), model, 'x')::jsonb - 'system' - 'messages' - 'model' FROM (VALUES
	(1, 'claude-sonnet-5', '{"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}, "l": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3}}, "required": ["n"]}'::jsonb),
	(2, 'claude-3-haiku-20240307', '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'), (3, 'claude-sonnet-5', '{"type": "object"}'),
	(4, 'claude-sonnet-5', '{"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}'),
	(5, 'claude-sonnet-5', '{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "minItems": 2}}}')) v (n, model, schema);
SELECT n, pg_temp.body('anthropic', 'extract', jsonb_build_object('schema', jsonb_build_object('type', 'object', 'properties',
	(SELECT jsonb_object_agg('p' || i, '{"type": "string"}'::jsonb) FROM generate_series(1, n) i))), 'claude-sonnet-5', 'x')::jsonb ? 'tools' AS by_tool FROM unnest(ARRAY[24, 25]) n;
-- instructions that are long enough carry the mark of the cache
SELECT n, pg_temp.body('anthropic', 'complete', pg_temp.spec('complete', jsonb_build_object('instructions', repeat('word ', n))), 'claude-sonnet-5', 'x')::jsonb #> '{system,0,cache_control}' FROM unnest(ARRAY[100, 1000]) n;
-- thinking that is switched off
SELECT pg_temp.body('anthropic', 'complete', pg_temp.spec('complete', '{"options": {"reasoning_effort": "none"}}'), 'claude-sonnet-5', 'x')::jsonb - 'messages';

-- every fixture, as it is read
SELECT name, (f ->> 'status')::int AS status, pg_temp.read('anthropic', (f ->> 'status')::int, convert_to(coalesce((f -> 'body')::text, f ->> 'raw'), 'UTF8'), (f -> 'headers')::jsonb)
FROM (SELECT name, convert_from(pg_read_binary_file(:'fixtures' || name), 'UTF8')::json AS f FROM pg_ls_dir(:'fixtures') name WHERE name LIKE '%.json') files
ORDER BY name COLLATE "C";
-- garbage in, an answer of some class out: every cut and many flips of a good answer
SELECT count(*) > 100, bool_and(r ? 'class') FROM (SELECT pg_temp.read('anthropic', 200, substr(b, 1, n)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f, generate_series(0, length(b)) n) t;
SELECT count(*) > 1000, bool_and(r ? 'class') FROM (SELECT pg_temp.read('anthropic', status, set_byte(b, n, v)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f,
		generate_series(0, length(b) - 1) n, unnest(ARRAY[0, 34, 44, 58, 92, 91, 93, 123, 125, 255]) v, unnest(ARRAY[200, 429]) status) t;
