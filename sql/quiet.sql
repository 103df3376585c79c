--
-- Quiet cells (P1, P5): cells of any type keep their value until the answer is there.  What a
-- statement queues for them, and where a call may stand.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
CREATE SCHEMA quiet;
SET search_path = quiet, public;
CREATE SERVER quiet_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('quiet_model', server => 'quiet_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'quiet_model';
DELETE FROM llm.queue;
DELETE FROM llm.job;

-- the tasks that are on their way, with what is kept of each; what was shown is forgotten
CREATE FUNCTION tasks() RETURNS TABLE (col text, key jsonb, input text, returns text, own boolean, expression text, types text, leaves jsonb)
	LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT j.column_name, q.key, q.input, j.cell->>'returns', (j.cell->>'own')::boolean, j.cell->>'expression',
		(SELECT string_agg(l->>'type', ', ') FROM jsonb_array_elements(j.cell->'leaves') l), q.leaves
		FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE j.cell_kind = 'quiet' AND q.state IN ('ready', 'waiting') ORDER BY q.id;
	DELETE FROM llm.queue;
	DELETE FROM llm.job;
END $$;

CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a int, label text);
CREATE DOMAIN short AS varchar(20) CHECK (VALUE <> '');
CREATE FUNCTION mood_of(text) RETURNS mood IMMUTABLE LANGUAGE sql AS $$ SELECT CASE $1 WHEN 'good' THEN 'good'::quiet.mood ELSE 'bad' END $$;
CREATE TABLE t (id int PRIMARY KEY, body text, note varchar(30), n int DEFAULT 7, d date, m mood, s short, c char(5), p pair,
	tags text[], ok boolean, price numeric, doc jsonb, seen timestamptz DEFAULT '2026-01-01 00:00+00');
INSERT INTO t (id, body, note, tags) VALUES (1, 'one', 'first', '{a}'), (2, 'two', NULL, NULL);

-- bare calls
UPDATE t SET note = llm_classify(body), c = llm_summarize(body), s = llm_complete(body) WHERE id = 1;
SELECT id, note, c, s FROM t ORDER BY id;
SELECT * FROM tasks() ORDER BY col;
-- around a call: operators, casts, functions, constructors
UPDATE t SET note = 'is ' || upper(llm_classify(body)->>'label') WHERE id = 1;
SELECT * FROM tasks();
UPDATE t SET m = (llm_classify(body)->>'label')::mood, n = (llm_complete(body, '{"type": "object"}')->>'n')::int + n, d = (llm_complete(body)->>'text')::date - 1,
	ok = llm_classify(body)->>'label' IN ('yes', note), tags = tags || ARRAY[llm_classify(body)->>'label'],
	p = ROW(n, llm_classify(body)->>'label'), price = round((llm_complete(body)->>'text')::numeric, n), doc = llm_classify(body) || '{"a": 1}',
	s = mood_of(llm_classify(body)->>'label') WHERE id = 1;
SELECT * FROM t WHERE id = 1;
SELECT * FROM tasks() ORDER BY col;
-- constants read the same in a session with other settings
SET datestyle = 'SQL, DMY';
SET extra_float_digits = -3;
UPDATE t SET note = (llm_complete(body)->>'text')::date + '1 day 02:00'::interval + ('03/04/2026'::date - date '01/04/2026') * '1 s'::interval > '03/04/2026' WHERE id = 1;
UPDATE t SET price = (llm_complete(body)->>'text')::float8 * 0.1::float8 WHERE id = 1;
SELECT expression FROM tasks();
RESET extra_float_digits;
SET datestyle = 'ISO, YMD';
-- names are qualified, leaves frozen: columns, parameters, stable functions, sub-selects
PREPARE ask(text) AS UPDATE t SET note = concat($1, llm_classify(body)->>'label', t.note, current_setting('datestyle'), (SELECT max(id) FROM t)) WHERE id = 1;
EXECUTE ask('parameter ');
SELECT expression, types, leaves FROM tasks();
DEALLOCATE ask;

-- CASE and COALESCE decide whether there is a question; what is around them goes into each branch
UPDATE t SET note = upper(CASE WHEN id = 1 THEN llm_classify(body)->>'label' WHEN id = 2 THEN 'none' END);
SELECT id, note FROM t ORDER BY id;
SELECT col, key, expression FROM tasks() ORDER BY col, key;
UPDATE t SET note = CASE id WHEN 1 THEN llm_classify(body)->>'label' ELSE llm_summarize(body)->>'summary' END;
SELECT col, key, expression FROM tasks() ORDER BY col, key;
UPDATE t SET note = NULL WHERE id = 2;
UPDATE t SET note = COALESCE(note, llm_classify(body)->>'label');
SELECT id, note FROM t ORDER BY id;
SELECT col, key, expression FROM tasks() ORDER BY col, key;
UPDATE t SET note = left(COALESCE(note, llm_classify(body)->>'label'), 2);
SELECT id, note FROM t ORDER BY id;
SELECT col, key, expression FROM tasks() ORDER BY col, key;

-- a NULL input asks nothing: the value is what the expression gives for NULL
UPDATE t SET note = concat('<', llm_classify(NULL)->>'label', '>');
SELECT id, note FROM t ORDER BY id;
-- a blank one fails without a request
UPDATE t SET note = llm_classify(E' \n') WHERE id = 1;
SELECT id, note FROM t ORDER BY id;
SELECT state, outcome, error, message, input FROM llm.queue;
SELECT * FROM tasks();

-- the ways that statements store
INSERT INTO t (id, body, note, n) VALUES (3, 'three', llm_classify('three')->>'label', (llm_complete('three')->>'text')::int);
SELECT id, note, n FROM t WHERE id = 3;
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
INSERT INTO t (id, body, note) SELECT id + 10, body, llm_classify(body) FROM t WHERE id < 3;
SELECT col, key, input, own FROM tasks() ORDER BY key;
INSERT INTO t (id, body, note) VALUES (1, 'uno', llm_classify('uno')->>'label') ON CONFLICT (id) DO UPDATE SET body = excluded.body, note = excluded.note;
INSERT INTO t (id, body, note) VALUES (5, 'five', llm_classify('five')->>'label') ON CONFLICT (id) DO UPDATE SET body = excluded.body, note = excluded.note;
INSERT INTO t (id, body, note) VALUES (1, 'drei', llm_classify('drei')->>'label') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
INSERT INTO t (id, body, note) VALUES (1, 'drei', llm_classify('drei')->>'label') ON CONFLICT (id) DO NOTHING;
SELECT id, body, note FROM t WHERE id IN (1, 4, 5) ORDER BY id;
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
-- several rows of VALUES
INSERT INTO t (id, body, note, c) VALUES (1, 'uno', llm_classify('uno'), 'x'), (6, 'six', llm_classify('six'), llm_summarize('six')), (7, NULL, 'given', NULL), (8, 'eight', llm_classify(NULL), 'y')
	ON CONFLICT (id) DO UPDATE SET body = excluded.body, note = excluded.note;
SELECT id, note, c FROM t WHERE id IN (1, 6, 7, 8) ORDER BY id;
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
UPDATE t SET note = (SELECT llm_classify('once'))->>'label' WHERE id < 3;
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
UPDATE t SET note = s.l->>'label' FROM (SELECT id, llm_classify(body) AS l FROM t) s WHERE s.id = t.id AND t.id < 3;
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
MERGE INTO t USING (SELECT 1 AS id, llm_classify('merged') AS l UNION ALL SELECT 20, llm_classify('new')) s ON s.id = t.id
	WHEN MATCHED THEN UPDATE SET note = s.l->>'label' WHEN NOT MATCHED THEN INSERT (id, note) VALUES (s.id, s.l->>'label');
SELECT col, key, input, expression FROM tasks() ORDER BY col, key;
-- other actions of the statement leave no question behind
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.id = 1 THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER skip BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION skip();
UPDATE t SET note = CASE WHEN id = 1 THEN llm_classify(body)->>'label' ELSE 'no question' END WHERE id < 3;
MERGE INTO t USING (VALUES (1), (2)) s(id) ON s.id = t.id
	WHEN MATCHED AND t.id = 1 THEN UPDATE SET note = llm_classify(body)->>'label' WHEN MATCHED THEN UPDATE SET body = 'zwei';
SELECT col, key, input FROM tasks() ORDER BY key;
DROP TRIGGER skip ON t;

-- a trigger sees the value meanwhile, and what it stores counts; RETURNING shows it
CREATE FUNCTION prefer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := coalesce(NEW.note, 'of the trigger'); RETURN NEW; END $$;
CREATE TRIGGER prefer BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION prefer();
UPDATE t SET note = NULL WHERE id = 2;
UPDATE t SET note = llm_classify(body)->>'label' WHERE id = 2 RETURNING note;
DROP TRIGGER prefer ON t;
SELECT col, key FROM tasks();

-- the same question again keeps its task, another one takes its place
UPDATE t SET note = llm_classify(body)->>'label' WHERE id < 3;
BEGIN;
UPDATE t SET note = llm_classify(body)->>'label' WHERE id < 3;
UPDATE t SET note = llm_summarize(body)->>'summary' WHERE id = 1;
SELECT j.operation, q.state, q.key FROM llm.queue q JOIN llm.job j ON j.id = q.job ORDER BY q.key, j.id;
UPDATE t SET note = llm_summarize(body)->>'summary' WHERE id = 2;
UPDATE t SET note = llm_complete(body)->>'text' WHERE id = 2;
SELECT j.operation, q.state, q.key FROM llm.queue q JOIN llm.job j ON j.id = q.job ORDER BY q.key, j.id;
ROLLBACK;
SELECT count(*) FROM tasks();
-- what has failed is not asked again
UPDATE t SET note = llm_classify(body)->>'label' WHERE id < 3;
INSERT INTO llm.dead_letter (task, job, recipe, role, relation, relation_name, column_name, key, reason, tries, attempts, input, cell, fence, leaves)
	SELECT q.id, q.job, q.recipe, q.role, q.relation, 'quiet.t', 'note', q.key, 'invalid_output', 1, 1, q.input, q.cell, q.fence, q.leaves FROM llm.queue q;
DELETE FROM llm.queue;
SET client_min_messages = notice;
\set VERBOSITY terse
UPDATE t SET note = llm_classify(body)->>'label' WHERE id < 4;
\set VERBOSITY default
SET client_min_messages = warning;
SELECT col, key FROM tasks();
DELETE FROM llm.dead_letter;

-- where a call may not stand
UPDATE t SET note = concat(llm_classify(body), llm_classify(body));
UPDATE t SET note = concat(llm_classify(body), random());
UPDATE t SET note = COALESCE(llm_classify(body)->>'label', 'none');
UPDATE t SET note = CASE WHEN llm_classify(body)->>'label' = 'x' THEN 'y' END;
UPDATE t SET note = llm_classify(llm_classify(body)->>'label')->>'label';
UPDATE t SET note = (SELECT s.id || (llm_classify(s.body)->>'label') FROM t s WHERE s.id = t.id);
UPDATE t SET tags[1] = llm_classify(body)->>'label';
UPDATE t SET note = max(llm_classify(body)->>'label');
UPDATE t SET note = llm_classify(body)->>'label' RETURNING llm_classify(body);
UPDATE t SET ok = llm_classify(body);
UPDATE t SET m = llm_classify(body)->>'label';
CREATE FUNCTION pg_temp.mine(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION pg_temp.own(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1; END $$;
UPDATE t SET note = pg_temp.own(llm_classify(body)->>'label');
CREATE TABLE strict (id int PRIMARY KEY, note text NOT NULL, other text NOT NULL DEFAULT '?');
INSERT INTO strict (id, note) VALUES (1, llm_classify('x')->>'label');
INSERT INTO strict VALUES (1, 'x', llm_classify('x')->>'label') RETURNING *;
SELECT col, key FROM tasks();
CREATE DOMAIN always AS text NOT NULL;
CREATE DOMAIN still AS always;
CREATE DOMAIN given AS text NOT NULL DEFAULT '-';
CREATE TABLE domains (id int PRIMARY KEY, note still, other given);
INSERT INTO domains (id, note) VALUES (1, llm_classify('x')->>'label');
INSERT INTO domains VALUES (1, 'x', llm_classify('x')->>'label') RETURNING *;
SELECT col, key FROM tasks();
UPDATE domains SET note = llm_classify('x')->>'label' RETURNING *;
SELECT col, key FROM tasks();
-- a column whose default is a call holds nothing until the answer is there
CREATE TABLE asks (id int PRIMARY KEY, body text, kind text DEFAULT upper(llm_classify('x')->>'label'), size int DEFAULT 7);
INSERT INTO asks (id) VALUES (1);
INSERT INTO asks (id, kind) VALUES (2, llm_classify('y')->>'label');
INSERT INTO asks (id, kind) VALUES (3, DEFAULT);
INSERT INTO asks (id, kind, size) VALUES (4, 'none', (llm_complete('z')->>'text')::int);
INSERT INTO asks (id, body) VALUES (1, 'one') ON CONFLICT (id) DO UPDATE SET kind = DEFAULT;
SELECT * FROM asks ORDER BY id;
SELECT col, key, input, expression FROM tasks() ORDER BY key;
CREATE VIEW narrow AS SELECT id, note FROM t;
UPDATE narrow SET note = llm_classify('x')->>'label' WHERE id = 1;
SELECT col, key FROM tasks();
CREATE VIEW nobody AS SELECT id, note, llm_classify(body) AS answer FROM t;
UPDATE nobody SET note = answer->>'label';
SELECT count(*) FROM llm.queue;

-- partitions: a cell is known by its number in the table at the top
CREATE TABLE part (id int, region text, body text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a (note text, region text NOT NULL, body text, id int NOT NULL);
ALTER TABLE part ATTACH PARTITION part_a FOR VALUES IN ('a');
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
INSERT INTO part VALUES (1, 'a', 'one'), (2, 'b', 'two');
UPDATE part SET note = llm_classify(body)->>'label';
UPDATE part_a SET note = llm_classify(body)->>'label';
SELECT count(DISTINCT cell), count(*) FROM llm.queue WHERE state IN ('ready', 'waiting');
UPDATE part SET region = 'b', note = llm_summarize(body)->>'summary' WHERE id = 1;
SELECT q.relation::regclass, q.key, j.operation FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state = 'ready' ORDER BY q.key, j.operation;
SELECT count(*) FROM tasks();
-- a cell that was asked about is found again, whatever its key: near others, far apart, no integer
CREATE TABLE near (id bigint PRIMARY KEY, body text, note text);
INSERT INTO near SELECT k, 'b' || k FROM generate_series(-5, 5) k;
INSERT INTO near VALUES (65535, 'b'), (65536, 'b'), (-9223372036854775808, 'b'), (9223372036854775807, 'b');
UPDATE near SET note = llm_classify(body)->>'label';
SELECT count(DISTINCT cell), count(*) FROM llm.queue;
SELECT max(cell) - min(cell) FROM llm.queue WHERE (key->>'id')::numeric BETWEEN 0 AND 5;
INSERT INTO near VALUES (6, 'b'), (65537, 'b');
UPDATE near SET note = llm_classify(body)->>'label';
SELECT count(DISTINCT cell), count(*) FROM llm.queue;
INSERT INTO near SELECT k * 100000, 'far' FROM generate_series(1, 50) k;
UPDATE near SET note = llm_classify(body)->>'label';
UPDATE near SET note = llm_classify(body)->>'label' WHERE id > 0;
SELECT count(DISTINCT cell), count(*) FROM llm.queue;
UPDATE near SET note = llm_summarize(body)->>'summary' WHERE id IN (3, 65536, 100000);
SELECT j.operation, q.key FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE (q.key->>'id')::numeric IN (3, 65536, 100000)
	AND q.state IN ('ready', 'waiting') ORDER BY q.key, j.operation;
CREATE TABLE named (id text PRIMARY KEY, body text, note text);
INSERT INTO named SELECT 'n' || k, 'b' FROM generate_series(1, 60) k;
UPDATE named SET note = llm_classify(body)->>'label';
UPDATE named SET note = llm_classify(body)->>'label';
SELECT count(DISTINCT cell), count(*) FROM llm.queue WHERE relation = 'named'::regclass;
SELECT count(*) FROM tasks();
DROP SCHEMA quiet CASCADE;
SELECT llm.drop_model('quiet_model');
DROP SERVER quiet_server CASCADE;
