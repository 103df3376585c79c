-- Questions and answers in the form of OpenAI's Chat Completions.
\getenv abs_srcdir PG_ABS_SRCDIR
\set fixtures :abs_srcdir '/test/fixtures/openai/'
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.body(dialect text, op text, spec jsonb, model text, input text, last_answer text DEFAULT NULL, fault text DEFAULT NULL)
	RETURNS text LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_body';
CREATE FUNCTION pg_temp.read(dialect text, status int, body bytea, headers jsonb DEFAULT '{}')
	RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';
CREATE FUNCTION pg_temp.clean(text) RETURNS text LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_clean';

-- the request body: what rows share first, the row's text last
SELECT pg_temp.body('openai', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"]}'), 'gpt-5-mini', 'My card was charged twice');
SELECT pg_temp.body('openai', 'complete', '{}', 'm"x', E'quote " backslash \\ tab \t line\n bell \u0007 del \u007f euro € smile 😀');
SELECT pg_temp.body('openai', 'complete', pg_temp.spec('complete', '{"instructions": "Be brief.", "options": {"temperature": 0.20, "top_p": 0.9, "seed": 7,
	"max_tokens": 100, "reasoning_effort": "low", "verbosity": "low", "service_tier": "flex", "priority": 3, "tags": {"a": 1}, "deadline": "1 hour"}}'), 'm', 'hello');
-- members that the call adds stand before those of the server, and neither replaces what is there
SELECT pg_temp.body(dialect, 'complete', pg_temp.spec('complete', '{"options": {"max_tokens": 9, "extra_body": {"top_k": 40, "options": {"num_ctx": 8192}, "inferenceConfig": {"stopSequences": ["x"]},
	"generationConfig": {"topK": 3, "responseLogprobs": true}}}}'), 'm', 'hello') FROM unnest('{openai,anthropic,gemini,mistral,ollama,bedrock,azure}'::text[]) dialect;
-- the second asking: the answer at fault, cut at 8 kB, and what was wrong
SELECT pg_temp.body('openai', 'complete', '{}', 'm', 'hello', '{"label": "foo"}', 'The label "foo" is not one of: bug.');
SELECT pg_temp.body('openai', 'complete', '{}', 'm', 'hello', NULL, 'The answer is empty.');
SELECT length(pg_temp.body('openai', 'complete', '{}', 'm', 'hello', repeat('ä', 10000), 'x')::jsonb -> 'messages' -> 1 ->> 'content');
-- every character survives
SELECT count(*) FROM generate_series(1, 1114111) c
WHERE c NOT BETWEEN 55296 AND 57343 AND c % 7 < CASE WHEN c < 70000 THEN 7 ELSE 1 END
	AND pg_temp.body('openai', 'complete', '{}', 'm', repeat('x', c % 9) || chr(c) || 'y')::jsonb -> 'messages' -> 0 ->> 'content' <> repeat('x', c % 9) || chr(c) || 'y';
-- strict only when the schema is OpenAI's strict subset as it is
SELECT schema, pg_temp.body('openai', 'extract', jsonb_build_object('schema', schema), 'm', 'x')::jsonb #>> '{response_format,json_schema,strict}' FROM jsonb_array_elements('[
	{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "properties": {"a": {"type": ["string", "null"], "format": "date"}, "b": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}}, "required": ["b", "a"], "additionalProperties": false},
	{"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"], "additionalProperties": false, "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 3}}},
	{"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false},
	{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
	{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"], "additionalProperties": false},
	{"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "properties": {"a": true}, "required": ["a"], "additionalProperties": false},
	{"type": "object", "anyOf": [{"type": "object"}]}, {"type": "object"}]') schema;
SELECT n, pg_temp.body('openai', 'classify', pg_temp.spec('classify', jsonb_build_object('labels', (SELECT jsonb_agg(repeat('x', len) || i) FROM generate_series(1, n) i))), 'm', 'x')::jsonb
	#>> '{response_format,json_schema,strict}' FROM (VALUES (250, 100), (251, 100), (1000, 5)) v (n, len);

-- every fixture, as it is read
SELECT name, (f ->> 'status')::int AS status, pg_temp.read('openai', (f ->> 'status')::int, convert_to(coalesce((f -> 'body')::text, f ->> 'raw'), 'UTF8'), (f -> 'headers')::jsonb)
FROM (SELECT name, convert_from(pg_read_binary_file(:'fixtures' || name), 'UTF8')::json AS f FROM pg_ls_dir(:'fixtures') name WHERE name LIKE '%.json') files
ORDER BY name COLLATE "C";
-- bytes that are no text
SELECT pg_temp.read('openai', status, body) FROM (VALUES (200, '\xff'::bytea), (200, '\x7b2263686f69636573223a5b7b226d657373616765223a7b22636f6e74656e74223a22ff227d7d5d7d'), (500, '\x00'), (200, '\xefbbbf7b7d')) v (status, body);
SELECT pg_temp.read('openai', 200, convert_to('{"choices": [{"message": {"content": "a\u0000b"}}]}', 'UTF8'));
SELECT pg_temp.read('openai', 400, convert_to('{"error": {"message": "a\u0000b", "code": "\ud800"}}', 'UTF8'));
-- times to wait
SELECT headers, message, pg_temp.read('openai', 429, convert_to(jsonb_build_object('error', message)::text, 'UTF8'), headers) -> 'retry_after_ms' FROM (VALUES
	('{"retry-after": "0"}'::jsonb, 'x'), ('{"retry-after": " 2 "}', 'x'), ('{"retry-after": "1.5"}', 'x'), ('{"retry-after": "-1"}', 'x'), ('{"retry-after": "soon"}', 'x'), ('{"retry-after": "1e9"}', 'x'), ('{"retry-after": "nan"}', 'x'),
	('{"retry-after": "0x10"}', 'x'), ('{"retry-after-ms": "120"}', 'x'), ('{"retry-after-ms": "x", "retry-after": "3"}', 'x'), ('{"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}', 'x'),
	('{"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:59 GMT"}', 'x'), ('{"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Thu, 22 Oct 2026 07:27:59 GMT"}', 'x'),
	('{"retry-after": "Sun, 01 Jan 2040 00:00:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}', 'x'), ('{"retry-after": "Wed, 41 Okt 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}', 'x'),
	('{}', 'Please try again in 20s.'), ('{}', 'Please try again in 350ms'), ('{}', 'please try again in 1h2m3s.'), ('{}', 'try again in 7.66s. Visit'), ('{}', 'try again in a while'), ('{}', 'try again in 5'), ('{}', 'retry after 3 s')) v (headers, message);
-- moments, limits that are used up, and what a general type of error is by its status
SELECT status, headers, body, r -> 'class', r -> 'retry_after_ms' FROM (VALUES
	(429, '{"retry-after": "1792567690"}'::jsonb, '{}'), (429, '{"retry-after": "1792567690500"}', '{}'), (429, '{"retry-after": "1792567670"}', '{}'),
	(503, '{"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}', '{}'),
	(429, '{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m12s"}', '{}'), (429, '{"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "350ms"}', '{}'),
	(429, '{"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1h", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7s"}', '{}'),
	(429, '{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1792567690"}', '{}'), (429, '{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1792567690000"}', '{}'),
	(429, '{}', '{"error": {"type": "api_error", "message": "too many"}}'), (503, '{}', '{"error": {"type": "api_error", "message": "busy"}}'),
	(429, '{}', '{"error": {"type": "invalid_request_error", "message": "Slow down"}}'), (503, '{}', '{"error": {"type": "invalid_request_error", "message": "Slow down"}}')) v (status, headers, body),
	pg_temp.read('openai', status, convert_to(body, 'UTF8'), headers || '{"date": "Wed, 21 Oct 2026 07:28:00 GMT"}') r;
SELECT pg_temp.read('openai', 200, '{}', '{"date": "Wed, 21 Oct 2026 07:28:00 GMT", "x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "590", "x-ratelimit-reset-requests": "1792567690"}') -> 'requests';
-- texts fit to be kept
SELECT pg_temp.clean(t) FROM unnest(ARRAY['plain', E'tab\tline\nend', 'key sk-12345678 and sk-1234567', 'gsk_abcdefghijkl', 'model gpt-4o-mini-2024-07-18 at meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo',
	'0123456789abcdef0123456789abcdef', 'abcdefghijklmnopqrstuvwxyzabcdefgh', repeat('ä', 149) || 'xyz', repeat('ä', 151), repeat('sk-123456789 ', 100), '']) t;

-- garbage in, an answer of some class out: every cut and many flips of a good answer
SELECT count(*), bool_and(r ? 'class') FROM (SELECT pg_temp.read('openai', 200, substr(b, 1, n)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f, generate_series(0, length(b)) n) t;
SELECT count(*), bool_and(r ? 'class') FROM (SELECT pg_temp.read('openai', status, set_byte(b, n, v)) r
	FROM (SELECT convert_to((convert_from(pg_read_binary_file(:'fixtures' || 'ok.json'), 'UTF8')::json -> 'body')::text, 'UTF8') b) f,
		generate_series(0, length(b) - 1) n, unnest(ARRAY[0, 34, 44, 58, 92, 91, 93, 123, 125, 255]) v, unnest(ARRAY[200, 429]) status) t;
-- large bodies are no trouble
SELECT length(pg_temp.read('openai', 200, convert_to('{"x": "' || repeat('y', 8000000) || '", "choices": [{"message": {"content": "' || repeat('z\n', 1000000) || '"}}]}', 'UTF8')) ->> 'content');
SELECT pg_temp.read('openai', 200, convert_to(repeat('[', 10000000), 'UTF8')) ->> 'class';
SELECT pg_temp.read('openai', 200, convert_to('{"choices": [' || repeat('{"message": {"content": "a"}},', 100000) || '{}]}', 'UTF8')) ->> 'content';

-- where a request goes: method, URL and headers; "%s" is the key's place
CREATE FUNCTION pg_temp.address(dialect text, kind text, model text, endpoint jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_address';
SELECT pg_temp.address('openai', kind, 'm', endpoint::jsonb) FROM (VALUES ('chat', '{"base_url": "https://api.openai.com/v1"}'), ('embed', '{"base_url": "https://api.openai.com/v1"}'),
	('chat', '{"base_url": "https://gw.example/openai", "query": "api-version=2024-10-21", "key_header": "api-key: %s"}')) v (kind, endpoint);
-- the habits of a host: form of the answer, name of the cap, who gives the instructions, members added
CREATE FUNCTION pg_temp.body(dialect text, op text, spec jsonb, model text, input text, last_answer text, fault text, endpoint jsonb) RETURNS text LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_body';
SELECT pg_temp.body('openai', 'classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"], "options": {"max_tokens": 9}}'), 'm', 'My card was charged twice', NULL, NULL, endpoint::jsonb)
FROM (VALUES ('{"answer_form": "json_object", "max_tokens_field": "max_tokens"}'), ('{"answer_form": "text", "system_role": "user"}'), ('{"answer_form": "text", "system_role": "developer", "extra_body": "\"options\":{\"num_ctx\":8192}"}')) v (endpoint);
-- vectors: n inputs, and results by index
CREATE FUNCTION pg_temp.embed(dialect text, model text, inputs text[], dimensions int, endpoint jsonb DEFAULT '{}') RETURNS text LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_embed';
CREATE FUNCTION pg_temp.vectors(dialect text, status int, body bytea, headers jsonb, n int) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_read';
SELECT pg_temp.embed('openai', 'text-embedding-3-small', ARRAY['first', 'second "text"'], 512);
SELECT pg_temp.embed('openai', 'm', ARRAY['one'], 0, '{"extra_body": "\"user\":\"me\""}');
SELECT pg_temp.vectors('openai', status, convert_to(body, 'UTF8'), '{}', n) FROM (VALUES
	(200, 2, '{"data": [{"index": 1, "embedding": [0.5, -1]}, {"index": 0, "embedding": [1e-3, 2]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}'),
	(200, 2, '{"data": [{"index": 0, "embedding": "AACAPwAAAEA="}, {"index": 1, "embedding": "AACAPwAAAEA="}]}'),
	(200, 2, '{"data": [{"embedding": [1]}, {"embedding": [2]}]}'),
	(200, 2, '{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}, {"index": 1, "embedding": [3]}]}'),
	(200, 2, '{"data": [{"index": 1, "embedding": [1]}]}'), (200, 1, '{"data": [{"index": 0, "embedding": []}]}'), (200, 1, '{"data": [{"index": 0, "embedding": [1, "x"]}]}'),
	(200, 1, '{"data": [{"index": 0, "embedding": [1e99]}]}'), (200, 1, '{"data": [{"index": 0, "embedding": "AACAfw=="}]}'), (200, 1, '{"data": [{"index": 0, "embedding": "AACAP"}]}'),
	(200, 1, '{"data": [{"index": 5, "embedding": [1]}, {"index": 0, "embedding": [7]}]}'), (200, 1, '{"data": 1}'), (200, 1, '{}'), (200, 1, 'x'),
	(400, 1, '{"error": {"message": "This model''s maximum context length is 8192 tokens.", "code": "context_length_exceeded"}}')) v (status, n, body);
-- what the headers tell, whatever the case of their names
SELECT pg_temp.read('openai', 200, convert_to('{"choices": [{"message": {"content": "a"}}]}', 'UTF8'), '{"X-RateLimit-Limit-Requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
	"x-ratelimit-limit-tokens": "many", "x-ratelimit-remaining-tokens": "5", "X-Request-ID": "req_1"}');
