-- Arguments of the functions: what becomes of them, and what is refused.
-- The pure rooms are reached through functions for tests (src/test_api.c).
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.load(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_load';
CREATE FUNCTION pg_temp.job(jsonb) RETURNS text LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_job';
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

-- classify: content of a recipe
SELECT pg_temp.spec('classify', '{}');
SELECT pg_temp.spec('classify', '{"labels": ["billing", "bug"]}');
SELECT pg_temp.spec('classify', '{"labels": ["bug", "billing", "ärger \"x\""], "multi": true, "instructions": "Be strict."}');
-- an argument that was not given has no key; the same call gives the same bytes
SELECT pg_temp.spec('classify', '{"labels": ["a"], "multi": false, "options": {}}') = pg_temp.spec('classify', '{"labels": ["a"]}');
-- classify: what is refused
SELECT pg_temp.refused('classify', '{"labels": []}');
SELECT pg_temp.refused('classify', '{"labels": ["a", null]}');
SELECT pg_temp.refused('classify', '{"labels": ["a", " \n"]}');
SELECT pg_temp.refused('classify', '{"labels": ["a", "b", "a"]}');
SELECT pg_temp.refused('classify', jsonb_build_object('labels', ARRAY[repeat('ä', 200)]));
SELECT pg_temp.refused('classify', jsonb_build_object('labels', ARRAY[repeat('ä', 201)]));
SELECT pg_temp.refused('classify', jsonb_build_object('labels', (SELECT jsonb_agg('l' || i) FROM generate_series(1, 1000) i)));
SELECT pg_temp.refused('classify', jsonb_build_object('labels', (SELECT jsonb_agg('l' || i) FROM generate_series(1, 1001) i)));
SELECT pg_temp.refused('classify', '{"schema": {"type": "object"}}');
SELECT pg_temp.refused('classify', '{"max_words": 5}');
SELECT pg_temp.refused('classify', '{"instructions": " \t\n "}');

-- summarize
SELECT pg_temp.spec('summarize', '{}');
SELECT pg_temp.spec('summarize', '{"max_words": 10000}');
SELECT pg_temp.refused('summarize', '{"max_words": -1}');
SELECT pg_temp.refused('summarize', '{"max_words": 10001}');
SELECT pg_temp.refused('summarize', '{"labels": ["a"]}');
SELECT pg_temp.refused('summarize', '{"multi": true}');

-- extract and complete
SELECT pg_temp.spec('extract', '{"schema": {"type": "object", "properties": {"name": {"type": "string"}}}}');
SELECT pg_temp.refused('extract', '{}');
SELECT pg_temp.refused('extract', '{"schema": {"type": "array", "items": {"type": "string"}}}');
SELECT pg_temp.refused('extract', '{"schema": {"type": ["object", "null"]}}');
SELECT pg_temp.refused('extract', '{"schema": {"type": "object", "properties": {"llm_enrich": {"type": "string"}}}}');
SELECT pg_temp.refused('extract', '{"schema": {"type": "object", "required": ["llm_enrich"]}}');
SELECT pg_temp.spec('complete', '{}');
SELECT pg_temp.spec('complete', '{"schema": {"type": "object"}}');
SELECT pg_temp.refused('complete', '{"schema": {"type": "object", "pattern": "x"}}');

-- options: those that change the question are in the recipe
SELECT pg_temp.spec('complete', '{"options": {"temperature": 0.2, "top_p": 1, "seed": 7.0, "max_tokens": 200,
	"reasoning_effort": "low", "verbosity": "high", "service_tier": "flex", "priority": 5, "tags": {"a": 1}, "deadline": "1 hour"}}');
SELECT pg_temp.job('{"priority": -100, "tags": {"team": "support", "n": 1, "new": true}, "deadline": "2 hours", "seed": 1}');
SELECT pg_temp.job('{}');
SELECT value, pg_temp.refused('complete', jsonb_build_object('options', value)) FROM jsonb_array_elements('[
	[], "x", {"temprature": 1},
	{"temperature": "hot"}, {"temperature": 2.1}, {"temperature": -0.1}, {"temperature": 2}, {"top_p": 1.5}, {"top_p": null},
	{"seed": 1.5}, {"seed": 9223372036854775807}, {"seed": 9223372036854775808},
	{"max_tokens": 0}, {"max_tokens": "200"}, {"max_tokens": 1e9},
	{"reasoning_effort": 3}, {"reasoning_effort": ""}, {"reasoning_effort": "Low!"}, {"reasoning_effort": "minimal"},
	{"verbosity": "low\""}, {"service_tier": false},
	{"priority": 101}, {"priority": -101}, {"priority": 1.5}, {"priority": "high"},
	{"deadline": 5}, {"deadline": "soon"}, {"deadline": "-1 hour"}, {"deadline": "0"}, {"deadline": ""}, {"deadline": "P1DT2H"}, {"deadline": "90 min"},
	{"deadline": "2030-01-31 18:00+01"}, {"deadline": "2030-01-31T18:00:00Z"}, {"deadline": "2030-13-31"}, {"deadline": "1 hour; drop"},
	{"tags": ["a"]}, {"tags": {"a": null}}, {"tags": {"a": {"b": 1}}}, {"tags": {"": 1}},
	{"extra_body": 1}, {"extra_body": [{"top_k": 40}]}, {"extra_body": {"Messages": []}}, {"extra_body": {"temperature": 1}}, {"extra_body": {"models": ["dearer"]}},
	{"extra_body": {"generationConfig": {"maxOutputTokens": 1}}}, {"extra_body": {"options": {"seed": 1}}}, {"extra_body": {"options": {"num_ctx": 8192}, "metadata": {"priority": "x"}}},
	{"extra_body": {"mcp_servers": []}}, {"extra_body": {"mcpServers": []}}, {"extra_body": {"data_sources": []}}, {"extra_body": {"speed": "fast"}},
	{"extra_body": {"provider": {"order": ["dear"]}}}, {"extra_body": {"performanceConfig": {"latency": "optimized"}}}, {"extra_body": {"system_Instruction": {}}},
	{"extra_body": {"api_base": "http://elsewhere"}}, {"extra_body": {"a": {"maxTokens": 1}}}, {"extra_body": {"cached_content": "cachedContents/1"}}
]');
SELECT pg_temp.spec('complete', '{"options": {"extra_body": {"top_k": 40, "a": {"b": [1, null]}}}}');
SELECT pg_temp.spec('complete', '{"options": {"extra_body": {}}}');
SELECT pg_temp.refused('complete', jsonb_build_object('options', jsonb_build_object('deadline', repeat('1 hour ', 30))));
SELECT pg_temp.refused('complete', jsonb_build_object('options', jsonb_build_object('tags', jsonb_build_object('a', repeat('ä', 256)))));
SELECT pg_temp.refused('complete', jsonb_build_object('options', jsonb_build_object('tags', jsonb_build_object('a', repeat('ä', 257)))));
SELECT pg_temp.refused('complete', jsonb_build_object('options', jsonb_build_object('tags', jsonb_build_object(repeat('a', 65), 1))));
SELECT pg_temp.refused('complete', jsonb_build_object('options', jsonb_build_object('tags',
	(SELECT jsonb_object_agg('t' || i, i) FROM generate_series(1, 33) i))));

-- examples: outputs must be acceptable answers; a bare value stands for the whole
SELECT pg_temp.spec('classify', '{"labels": ["a", "b"], "examples": [{"input": "x", "output": "a"}, {"input": "y", "output": {"label": "b"}}]}');
SELECT pg_temp.spec('classify', '{"labels": ["a", "b"], "multi": true, "examples": [{"input": "x", "output": ["b", "a"]}, {"input": "y", "output": []}]}');
SELECT pg_temp.spec('summarize', '{"examples": [{"input": "x", "output": "short"}]}');
SELECT pg_temp.spec('complete', '{"examples": [{"input": "x", "output": "plain words"}]}');
SELECT pg_temp.spec('extract', '{"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}, "examples": [{"input": "x", "output": {"n": 3}}]}');
SELECT pg_temp.refused('classify', '{"labels": ["a", "b"], "examples": [{"input": "x", "output": "a"}, {"input": "y", "output": "c"}]}');
SELECT pg_temp.refused('classify', '{"labels": ["a", "b"], "multi": true, "examples": [{"input": "x", "output": "a"}]}');
SELECT pg_temp.refused('extract', '{"schema": {"type": "object", "required": ["n"]}, "examples": [{"input": "x", "output": {}}]}');
SELECT pg_temp.refused('extract', '{"schema": {"type": "object"}, "examples": [{"input": "x", "output": "y"}]}');
SELECT pg_temp.refused('complete', '{"examples": [{"input": "x", "output": {"text": "y"}}]}');
SELECT value, pg_temp.refused('summarize', jsonb_build_object('examples', value)) FROM jsonb_array_elements('[
	{}, [], "x", [1], [{}], [{"input": "x"}], [{"input": "x", "output": "y", "note": 1}], [{"input": " ", "output": "y"}],
	[{"input": 1, "output": "y"}], [{"input": "x", "output": ""}], [{"input": "x", "output": null}]]');
SELECT pg_temp.refused('summarize', jsonb_build_object('examples',
	(SELECT jsonb_agg('{"input": "x", "output": "y"}'::jsonb) FROM generate_series(1, 101))));

-- the words for the model, and the schema of its answer
SELECT op, pg_temp.load(op, pg_temp.spec(op, args)) ->> 'system', pg_temp.load(op, pg_temp.spec(op, args)) -> 'schema'
FROM (VALUES ('classify', '{}'::jsonb), ('classify', '{"labels": ["bug", "billing"]}'),
	('classify', '{"labels": ["bug", "billing"], "multi": true, "instructions": "Tickets of a shop.", "examples": [{"input": "say \"bug\"\nand obey", "output": ["bug"]}]}'),
	('classify', '{"multi": true}'),
	('summarize', '{"max_words": 20}'),
	('extract', '{"schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}}'),
	('complete', '{}'), ('complete', '{"instructions": "Answer in French."}'), ('complete', '{"schema": {"type": "object"}}')) v (op, args);

-- answers
SELECT answer, pg_temp.chk('classify', '{"labels": ["bug", "billing"]}', answer) FROM unnest(ARRAY[
	'{"label": "bug"}', E' \n\t{"label":"bug"}\r\n', E'```json\n{"label": "bug"}\n```', E'```\n{"label": "bug"}\n```', E'```JSON {"label": "bug"}```',
	'{"label": "\u0062ug"}',
	'{"label": "Bug"}', '{"label": "bug "}', '{"label": "foo"}', '{"label": ["bug"]}', '{"label": null}', '{"label": "bug", "why": "x"}', '{}', '[]', '"bug"', 'bug', '',
	'   ', 'The label is {"label": "bug"}.', E'Sure!\n```json\n{"label": "bug"}\n```', '{"label": "bug"} {"label": "bug"}', '{"label": "bug", "label": "billing"}',
	'{"label": "bug",}', '{"label": NaN}', '{"label": 01}', '{"label": "bu\u0000g"}', '{"label": "\ud800"}', '{"llm_enrich": {"status": "done"}, "label": "bug"}',
	'{"label": "bug", "llm_enrich": 1}', '{"label": "bug"', '``````', '```json', '{label: "bug"}', '{''label'': ''bug''}', repeat('[', 100), repeat('{"a":', 65)]) answer;
SELECT answer, pg_temp.chk('classify', '{"labels": ["bug", "billing"], "multi": true}', answer) FROM unnest(ARRAY[
	'{"labels": ["bug"]}', '{"labels": ["billing", "bug"]}', '{"labels": []}', '{"labels": ["bug", "bug"]}', '{"labels": ["bug", "billing", "bug"]}', '{"labels": ["x"]}',
	'{"labels": "bug"}', '{"labels": [1]}', '{"label": "bug"}']) answer;
SELECT answer, pg_temp.chk('classify', '{}', answer) FROM unnest(ARRAY[
	'{"label": "late delivery"}', '{"label": ""}', '{"label": "  "}', '{"label": 5}', '{"label": "' || repeat('ä', 60) || '"}', '{"label": "' || repeat('ä', 61) || '"}']) answer;
-- what the model writes cannot break a line of the log
SELECT pg_temp.chk('classify', spec, answer) ->> 'fault' FROM (VALUES
	('{"labels": ["a\tb"]}'::jsonb, '{"label": "x\nLOG:  \"y\"\u001b[2J"}'),
	('{"multi": true}', '{"labels": ["x\ny", "x\ny"]}')) v(spec, answer);
-- a fault stays short, however long the labels
SELECT length(pg_temp.chk('classify', jsonb_build_object('labels', (SELECT jsonb_agg(repeat('ä', 190) || i) FROM generate_series(1, 50) i)),
	'{"label": "' || repeat('ö', 5000) || '"}') ->> 'fault');
SELECT answer, pg_temp.chk('summarize', '{"max_words": 4}', answer) FROM unnest(ARRAY[
	'{"summary": "All is well."}', '{"summary": "' || repeat('w ', 16) || '"}', '{"summary": "' || repeat('w ', 17) || '"}', '{"summary": " "}', '{"summary": 5}', '{"summary": "a", "n": 1}']) answer;
SELECT pg_temp.chk('complete', '{}', answer) FROM unnest(ARRAY['Bonjour', E' two\nlines ', '', E' \n', '{"a": 1}']) answer;
-- bytes that are no text
CREATE FUNCTION pg_temp.chk_bytes(text, jsonb, bytea) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_check';
SELECT pg_temp.chk_bytes('complete', '{}', answer) FROM unnest(ARRAY['\x61ff62', '\x610062', '\xc3', '\xeda080', '\xf4908080']::bytea[]) answer;
SELECT pg_temp.chk_bytes('classify', '{"labels": ["a"]}', answer) FROM unnest(ARRAY['\x7b226c6162656c223a2261ff227d', '\x7b226c6162656c223a2261227d00', '\x00']::bytea[]) answer;

-- estimates
CREATE FUNCTION pg_temp.tokens(text) RETURNS bigint LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_tokens';
SELECT pg_temp.tokens(''), pg_temp.tokens(repeat('a', 360)), pg_temp.tokens(repeat('ä', 100)), pg_temp.tokens(repeat('日', 100));
