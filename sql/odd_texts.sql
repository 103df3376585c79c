-- Texts that show nothing, and those that would show too much.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER odd_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('odd', server => 'odd_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'odd';

-- Blank in Unicode, too; also where it is long and so compressed, and where a letter stands at the end.
CREATE TABLE odd (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO odd VALUES (1, U&'\00A0'), (2, U&' \3000\200B\FEFF '), (3, U&'\2003\2060'), (4, repeat(U&'\3000', 5000)),
	(5, repeat(U&'\200B', 5000) || 'x'), (6, U&'\00A0.'), (7, 'ä'), (8, U&'\+01F600'), (9, U&'\2800'), (10, U&'\202F\00AD\3164');
UPDATE odd SET label = llm_classify(body, '{a,b}');
SELECT id, llm_status(label), label->'llm_enrich'->>'error' AS error FROM odd ORDER BY id;

-- Tags of the session are bounded as those of a call.
SET llm_enrich.tags = '{"team": "support", "n": 1, "ok": true}';
UPDATE odd SET label = llm_classify(body, '{a,c}') WHERE id = 7;
SELECT set_config('llm_enrich.tags', jsonb_build_object('t', repeat('x', 257))::text, false) <> '' AS set;
UPDATE odd SET label = llm_classify(body, '{a,d}') WHERE id = 7;
SELECT set_config('llm_enrich.tags', jsonb_object_agg('t' || i, i)::text, false) <> '' AS set FROM generate_series(1, 33) i;
UPDATE odd SET label = llm_classify(body, '{a,d}') WHERE id = 7;
SET llm_enrich.tags = '{"a": {"b": 1}}';
UPDATE odd SET label = llm_classify(body, '{a,d}') WHERE id = 7;
RESET llm_enrich.tags;

-- Settings to carry are a list of names, when they are set.
SET llm_enrich.carry_settings = ',,';
SET llm_enrich.carry_settings = 'app.tenant,';
SET llm_enrich.carry_settings = 'app.tenant, "App.User"';
RESET llm_enrich.carry_settings;

-- Names stand in messages and in the log.
SELECT llm.add_model(E'od\nd', server => 'odd_server', model => 'm');
SELECT llm.add_model('odd2', server => 'odd_server', model => E'm\x1B[31m');
SELECT llm.alter_model('odd', model => E'm\t');

-- More than one target ever gets is told.
SET client_min_messages = notice;
ALTER SERVER odd_server OPTIONS (ADD max_concurrency '5000');
ALTER SERVER odd_server OPTIONS (SET max_concurrency '768');
SET client_min_messages = warning;
SELECT llm.cancel('odd') > 0 AS cancelled;
DROP TABLE odd;
SELECT llm.drop_model('odd');
DROP SERVER odd_server;
