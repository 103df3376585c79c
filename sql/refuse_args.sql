--
-- Bad arguments of the functions, and calls that the role may not make: each is an error of the
-- statement, and none leaves anything
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA refuse_args;
SET search_path = refuse_args, public;
CREATE SERVER args_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO t VALUES (1, 'a', NULL), (2, NULL, NULL);
-- the error of a call in one line
CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE 'UPDATE refuse_args.t SET label = ' || call;
	RETURN 'accepted: ' || call;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	-- how the server explains that there is no such function differs between its versions
	IF SQLSTATE = '42883' THEN
		detail := '';
		hint := '';
	END IF;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- no model, one that does not exist, none by default
SELECT try($$llm_classify(body)$$);
SELECT try($$llm_classify(body, model => 'nobody')$$);
SELECT llm.add_model('args_model', server => 'args_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SELECT try($$llm_classify(body)$$);
SELECT try($$llm_classify(body, model => 'Args_Model')$$);
SELECT try($$llm_classify(body, model => '')$$);
SET llm_enrich.model = 'nobody_either';
SELECT try($$llm_complete(body)$$);
SET llm_enrich.model = 'args_model';
SELECT try($$llm_classify(body, model => NULL)$$);

-- a server that is gone, or that the role may not use; a function that it may not call
CREATE ROLE args_role;
GRANT USAGE ON SCHEMA refuse_args TO args_role;
GRANT SELECT, UPDATE ON t TO args_role;
SET ROLE args_role;
SELECT try($$llm_classify(body)$$);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER args_server TO args_role;
REVOKE EXECUTE ON FUNCTION llm_extract FROM PUBLIC;
SET ROLE args_role;
SELECT try($$llm_extract(body, '{"type": "object"}')$$);
SELECT try($$llm_classify(body)$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION llm_extract TO PUBLIC;
DROP OWNED BY args_role;
DROP ROLE args_role;
-- as in a script of pg_dump's: the model stays
SET check_function_bodies = off;
DROP SERVER args_server;
RESET check_function_bodies;
SELECT try($$llm_classify(body)$$);
CREATE SERVER args_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');

-- labels
SELECT try(format('llm_classify(body, %s)', labels)) FROM unnest(ARRAY[$$'{}'$$, $$'{NULL}'$$, $$'{a,""}'$$, $$ARRAY['a', E' \t']$$, $$'{a,b,a}'$$, $$'{{a,b},{c,d}}'$$,
	$$ARRAY[repeat('ä', 201)]$$, $$(SELECT array_agg('l' || g) FROM generate_series(1, 1001) g)$$, $$'{a'$$, $$ARRAY[1, 2]$$, $$NULL$$, $$'{a}'$$, $$'[5:6]={a,b}'$$,
	$$ARRAY[repeat('ä', 200)]$$, $$(SELECT array_agg('l' || g) FROM generate_series(1, 1000) g)$$]) labels;
SELECT try($$llm_classify(body, '{a,b}', multi => NULL)$$);
SELECT try($$llm_classify(body, label => '{a}')$$);
SELECT try($$llm_summarize(body, labels => '{a}')$$);
-- words
SELECT try(format('llm_summarize(body, %s)', words)) FROM unnest(ARRAY['0', '-1', '10001', '99999999999', $$'many'$$, 'NULL', '1', '10000']) words;
-- schemas
SELECT try(format('llm_extract(body, %s)', schema)) FROM unnest(ARRAY['NULL', $$'[]'$$, $$'"x"'$$, $$'true'$$, $$'{'$$, $$'{"type": "array"}'$$, $$'{"type": "object", "properties": {"llm_enrich": {}}}'$$,
	$$'{"type": "object", "properties": {"a": {"type": "strin"}}}'$$, $$'{"type": "object", "propertys": {}}'$$, $$'{"type": "object"}'$$]) schema;
SELECT try($$llm_extract(body)$$);
SELECT try($$llm_complete(body, '{"type": "string"}')$$);
SELECT try($$llm_complete(body, NULL)$$);
-- instructions, examples
SELECT try($$llm_complete(body, instructions => E' \n')$$);
SELECT try(format('llm_classify(body, ''{a,b}'', examples => %s)', examples)) FROM unnest(ARRAY[$$'{}'$$, $$'[]'$$, $$'"x"'$$, $$'[1]'$$, $$'[{"input": "x"}]'$$, $$'[{"input": "x", "output": "c"}]'$$,
	$$'[{"input": " ", "output": "a"}]'$$, $$'[{"input": "x", "output": "a", "why": "y"}]'$$, $$'[{"input": "x", "output": "a"}]'$$,
	$$(SELECT jsonb_agg(jsonb_build_object('input', g::text, 'output', 'a')) FROM generate_series(1, 101) g)$$]) examples;
-- options
SELECT try(format('llm_complete(body, options => %s)', options)) FROM unnest(ARRAY[$$'{"extra_body": {"messages": []}}'$$, $$'[]'$$, $$'"x"'$$, $$'7'$$, $$'{"temprature": 1}'$$, $$'{"model": "m"}'$$, $$'{"temperature": "hot"}'$$,
	$$'{"temperature": 2.5}'$$, $$'{"top_p": -1}'$$, $$'{"seed": 1.5}'$$, $$'{"max_tokens": 0}'$$, $$'{"priority": 101}'$$, $$'{"reasoning_effort": "very high"}'$$, $$'{"verbosity": 3}'$$,
	$$'{"service_tier": null}'$$, $$'{"deadline": "soon"}'$$, $$'{"tags": ["a"]}'$$, $$'{"tags": {"a": {}}}'$$, $$'{}'$$, $$'{"priority": -100, "tags": {"a": 1}}'$$]) options;
-- settings that go into each task
SET llm_enrich.tags = '["a"]';
SET llm_enrich.tags = '{"a": ';
SELECT try($$llm_complete(body)$$);
SET llm_enrich.tags = '{"a": 1} {"b": 2}';
SELECT try($$llm_complete(body)$$);
RESET llm_enrich.tags;
-- arguments that vary from row to row are checked for each, and a bad one undoes the statement
SELECT try($$llm_classify('x', CASE id WHEN 1 THEN ARRAY['a'] ELSE ARRAY['a', 'a'] END)$$);
SELECT try($$llm_summarize('x', 3 - id * 3)$$);
SELECT try($$llm_classify('x', model => 'model ' || id)$$);

-- inputs: NULL asks nothing, so its other arguments are not looked at; blank ones fail at once
DELETE FROM llm.queue;
UPDATE t SET label = NULL;
UPDATE t SET label = llm_classify(NULL, '{}', options => '[]');
SELECT id, label FROM t ORDER BY id;
UPDATE t SET label = llm_classify(CASE id WHEN 1 THEN '' ELSE E' \t\r\n\f' END);
SELECT id, label FROM t ORDER BY id;
SELECT count(*) FROM llm.queue;
-- the longest, and one more
SELECT try($$llm_summarize(repeat('x', 67108865))$$);
SELECT try($$llm_summarize(repeat('ä', 33554433))$$);
UPDATE t SET label = llm_summarize(repeat('x', 67108864)) WHERE id = 1;
SELECT length(input) FROM llm.queue ORDER BY id;
-- as it is counted where it is stored
ALTER TABLE t ALTER body SET STORAGE EXTENDED;
UPDATE t SET body = repeat('x', 67108865) WHERE id = 2;
SELECT try($$llm_classify(body)$$);

DROP SCHEMA refuse_args CASCADE;
DELETE FROM llm.queue;
DELETE FROM llm.job;
SELECT llm.drop_model('args_model');
DROP SERVER args_server;
