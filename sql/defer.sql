--
-- Deferred calls (P1): every kind of statement that stores them.  A cell gets a marker, and
-- the task of that marker has the row's key and the input as it was evaluated.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
CREATE SCHEMA defer;
SET search_path = defer, public;
CREATE SERVER defer_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('defer_model', server => 'defer_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SELECT llm.add_model('defer_other', server => 'defer_server', model => 'o', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'defer_model';

-- the rows of a table, and the task that each cell's marker names
CREATE FUNCTION cells(rel regclass, col name DEFAULT 'label')
	RETURNS TABLE (stored_in regclass, id jsonb, cell text, task_in regclass, key jsonb, input text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT t.tableoid::regclass, to_jsonb(t) -> ''id'', regexp_replace(t.%1$I::text, ''"task": \d+'', ''"task": N''),'
		' q.relation::regclass, q.key, q.input FROM %2$s t LEFT JOIN llm.queue q ON q.id = llm.marker_task(t.%1$I) AND q.state IN (''ready'', ''waiting'')'
		' ORDER BY 2, 1', col, rel);
END $$;
-- and the jobs that they belong to; what was shown is gone
CREATE VIEW jobs AS SELECT operation, relation_name, column_name, key_columns, model, total, day IS NOT NULL AS shared,
	(SELECT count(*) FROM llm.queue q WHERE q.job = j.id AND q.state IN ('ready', 'waiting')) AS tasks FROM llm.job j ORDER BY id;
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job;'
DELETE FROM llm.job;

CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 4) g;

-- UPDATE
UPDATE t SET label = llm_classify(body, '{a,b}') WHERE id < 3;
SELECT * FROM cells('t');
SELECT * FROM jobs;
SELECT r.operation, r.spec FROM llm.recipe r WHERE r.id = (SELECT max(recipe) FROM llm.job);
SELECT count(*) FROM llm.job j WHERE j.id = llm.last_job();
:forget
UPDATE t SET label = NULL;

-- a transaction that does not commit leaves nothing, nor does a savepoint
BEGIN;
UPDATE t SET label = llm_classify(body);
SELECT count(*) FROM llm.queue;
ROLLBACK;
SELECT count(*) FROM llm.queue;
BEGIN;
UPDATE t SET label = llm_classify(body) WHERE id = 1;
SAVEPOINT s;
UPDATE t SET label = llm_classify(body) WHERE id = 2;
ROLLBACK TO s;
UPDATE t SET label = llm_classify(body) WHERE id = 3;
COMMIT;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
DO $$
BEGIN
	UPDATE defer.t SET label = llm_classify(body) WHERE id = 1;
	BEGIN
		UPDATE defer.t SET label = llm_classify(body) WHERE id = 2;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		UPDATE defer.t SET label = llm_classify('after ' || body) WHERE id = 3;
	END;
END $$;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
-- an error in the middle of a statement
UPDATE t SET label = llm_classify(body), body = CASE id WHEN 3 THEN (1 / (id - 3))::text ELSE body END;
SELECT count(*) FROM llm.queue;
PREPARE TRANSACTION 'nothing';

-- UPDATE ... FROM, self-join, sub-selects, WITH, WHERE CURRENT OF
CREATE TABLE source (id int, words text);
INSERT INTO source VALUES (1, 'one'), (2, 'two'), (3, 'three');
UPDATE t SET label = llm_classify(s.words) FROM source s WHERE s.id = t.id AND t.id < 3;
UPDATE t SET label = llm_summarize(o.body, 20) FROM t o WHERE o.id = t.id - 1 AND t.id = 4;
SELECT * FROM cells('t');
SELECT * FROM jobs;
:forget
UPDATE t SET label = NULL;
-- one marker that reaches many rows is as many tasks
UPDATE t SET label = x.l FROM (SELECT llm_classify('for all') AS l) x;
SELECT * FROM cells('t');
SELECT count(DISTINCT llm.marker_task(label)) FROM t;
:forget
UPDATE t SET label = NULL;
UPDATE t SET label = (SELECT llm_classify('scalar')) WHERE id < 3;
UPDATE t SET label = (SELECT llm_classify(s.words) FROM source s WHERE s.id = t.id) WHERE id >= 3;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
WITH x AS (SELECT id, llm_classify(words) AS l FROM source) UPDATE t SET label = x.l FROM x WHERE x.id = t.id;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
UPDATE t SET (label, body) = (SELECT llm_classify(s.words), upper(s.words) FROM source s WHERE s.id = t.id) WHERE id = 2;
UPDATE t SET (body, label) = ROW ('rowed', llm_classify('row')) WHERE id = 3;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL, body = 'text ' || id;
-- only some of what is asked is stored
UPDATE t SET label = x.l FROM (SELECT id, llm_classify(words) AS l FROM source ORDER BY id DESC LIMIT 1) x WHERE x.id = t.id;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM t WHERE id > 1 ORDER BY id FOR UPDATE;
FETCH 2 FROM c;
UPDATE t SET label = llm_classify(body) WHERE CURRENT OF c;
COMMIT;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;

-- CASE, COALESCE and casts let the marker through
UPDATE t SET label = CASE WHEN id = 1 THEN llm_classify('a' || body) WHEN id = 2 THEN llm_summarize(body) WHEN id = 3 THEN '{"own": 1}' END;
SELECT * FROM cells('t');
SELECT * FROM jobs;
UPDATE t SET label = COALESCE(label, llm_classify('coalesced'));
SELECT * FROM cells('t');
:forget
DELETE FROM t;

-- INSERT
INSERT INTO t VALUES (1, 'b', llm_classify('values 1'));
INSERT INTO t VALUES (2, 'b', llm_classify('values 2')), (3, 'b', llm_classify('values 3')), (4, 'b', NULL);
INSERT INTO t SELECT id + 10, words, llm_classify(words) FROM source ORDER BY words;
INSERT INTO t (label, id) SELECT llm_classify(words), id + 20 FROM source WHERE id = 1 UNION ALL SELECT NULL, 30 UNION ALL SELECT llm_complete('union'), 40;
WITH x AS (SELECT llm_classify(words) AS l, id FROM source LIMIT 2) INSERT INTO t (id, label) SELECT id + 50, l FROM x;
SELECT * FROM cells('t');
SELECT * FROM jobs;
:forget
DELETE FROM t;
-- single rows share a job
INSERT INTO t VALUES (1, 'b', llm_classify('one'));
INSERT INTO t VALUES (2, 'b', llm_classify('two'));
UPDATE t SET label = llm_classify('three') WHERE id = 2;
INSERT INTO t VALUES (3, 'b', llm_classify('other recipe', '{x}'));
INSERT INTO t VALUES (4, 'b', llm_classify('other model', model => 'defer_other'));
INSERT INTO t VALUES (5, 'b', llm_classify('other priority', options => '{"priority": 7}'));
INSERT INTO t VALUES (6, 'b', llm_classify('other tags', options => '{"tags": {"team": "a"}}'));
SELECT * FROM jobs;
:forget
DELETE FROM t;
-- default expressions
ALTER TABLE t ALTER label SET DEFAULT llm_complete('from the default');
INSERT INTO t (id) VALUES (1), (2);
INSERT INTO t VALUES (3, 'b', DEFAULT);
INSERT INTO t VALUES (4, 'b', '{}');
UPDATE t SET label = DEFAULT WHERE id = 4;
SELECT * FROM cells('t');
ALTER TABLE t ALTER label DROP DEFAULT;
:forget
DELETE FROM t;

-- ON CONFLICT
INSERT INTO t VALUES (1, 'old', '{"label": "x"}'), (2, 'old', NULL);
INSERT INTO t VALUES (1, 'new', llm_classify('new 1')), (3, 'new', llm_classify('new 3'))
	ON CONFLICT (id) DO UPDATE SET label = excluded.label, body = excluded.body;
INSERT INTO t VALUES (2, 'new', llm_classify('ins')) ON CONFLICT (id) DO UPDATE SET label = llm_classify('set ' || t.body);
INSERT INTO t VALUES (4, 'new', llm_classify('ins 4')) ON CONFLICT (id) DO UPDATE SET label = llm_classify('set ' || t.body);
INSERT INTO t VALUES (4, 'new', llm_classify('nothing 4')), (5, 'new', llm_classify('nothing 5')) ON CONFLICT DO NOTHING;
SELECT * FROM cells('t');
SELECT count(*) FROM llm.queue;
:forget
DELETE FROM t;

-- MERGE
INSERT INTO t VALUES (1, 'one', '{"label": "x"}'), (2, 'two', NULL), (5, 'gone', NULL);
MERGE INTO t USING (SELECT id, words FROM source UNION ALL VALUES (5, 'five'), (6, 'six')) s ON s.id = t.id
	WHEN MATCHED AND t.id = 5 THEN DELETE
	WHEN MATCHED AND t.id = 2 THEN UPDATE SET body = s.words
	WHEN MATCHED THEN UPDATE SET label = llm_classify('update ' || s.words)
	WHEN NOT MATCHED AND s.id = 6 THEN DO NOTHING
	WHEN NOT MATCHED THEN INSERT (id, body, label) VALUES (s.id, s.words, llm_classify('insert ' || s.words));
SELECT * FROM cells('t');
:forget
DELETE FROM t WHERE id = 3;
MERGE INTO t USING (SELECT id, llm_classify(words) AS l FROM source) s ON s.id = t.id
	WHEN MATCHED THEN UPDATE SET label = s.l WHEN NOT MATCHED THEN INSERT (id, label) VALUES (s.id, s.l);
SELECT * FROM cells('t');
:forget
DELETE FROM t;

-- several columns from one sub-select, and rows that a function in the target list makes
INSERT INTO t VALUES (1, 'x', NULL), (2, 'x', NULL);
INSERT INTO t VALUES (1, 'y', NULL) ON CONFLICT (id) DO UPDATE SET (body, label) = (SELECT 'conflict', llm_classify(t.body || 1));
MERGE INTO t USING (VALUES (2)) s(id) ON s.id = t.id WHEN MATCHED AND false THEN DELETE
	WHEN MATCHED THEN UPDATE SET (body, label) = (SELECT 'merge', llm_classify(t.body || 2));
INSERT INTO t SELECT generate_series(3, 5), 'srf', llm_classify('srf');
INSERT INTO t SELECT g, 'lateral', l FROM generate_series(6, 7) g, LATERAL (SELECT llm_classify('lateral ' || g) AS l) x;
INSERT INTO t SELECT id, 'values', l FROM (VALUES (8, llm_classify('list 8')), (9, NULL)) v(id, l);
WITH RECURSIVE r(n, l) AS (SELECT 10, llm_classify('first') UNION ALL SELECT n + 1, l FROM r WHERE n < 12) INSERT INTO t SELECT n, 'recursive', l FROM r;
SELECT * FROM cells('t');
:forget
DELETE FROM t;

-- WITH that stores, RETURNING
CREATE TABLE u (id int PRIMARY KEY, label jsonb, copy jsonb);
WITH i AS (INSERT INTO t VALUES (1, 'b', llm_classify('in with')), (2, 'b', llm_classify('in with 2')) RETURNING id)
	INSERT INTO u SELECT id, llm_classify('outer ' || id) FROM i;
SELECT * FROM cells('t');
SELECT * FROM cells('u');
:forget
WITH i AS (UPDATE t SET label = llm_classify('unread') RETURNING id) SELECT count(*) FROM i;
WITH i AS (UPDATE t SET label = llm_classify('not read at all')) SELECT 1 AS one;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
UPDATE t SET label = llm_classify(body) WHERE id = 1 RETURNING id, llm_is_pending(label), body;
INSERT INTO t VALUES (3, 'b', llm_classify('r')) RETURNING llm_status(label), label - 'llm_enrich' AS rest;
DO $$
DECLARE
	cell jsonb;
BEGIN
	UPDATE defer.t SET label = llm_classify(body) WHERE id = 2 RETURNING label INTO cell;
	RAISE WARNING '%', llm_status(cell);
END $$;
SELECT * FROM cells('t');
:forget
DELETE FROM t; DELETE FROM u;

-- several calls in one statement, several columns
CREATE TABLE many (id int PRIMARY KEY, label jsonb, j json, x text, v varchar(200), c char(150), body text);
INSERT INTO many (id, body) VALUES (1, 'one'), (2, 'two');
UPDATE many SET label = llm_classify(body), j = llm_summarize(body), x = llm_complete(body), v = llm_extract(body, '{"type": "object", "properties": {"a": {"type": "string"}}}'),
	c = llm_classify('char ' || body, '{x,y}');
SELECT * FROM cells('many');
SELECT * FROM cells('many', 'j');
SELECT * FROM cells('many', 'x');
SELECT * FROM cells('many', 'v');
SELECT id, llm.marker_task(c) IS NOT NULL AS marked FROM many ORDER BY id;
SELECT * FROM jobs;
:forget
-- a column of a domain, its CHECK sees what is stored
CREATE DOMAIN answer AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN answer_text AS varchar(300) NOT NULL;
CREATE TABLE dom (id int PRIMARY KEY, label answer, x answer_text DEFAULT '{}');
INSERT INTO dom VALUES (1, llm_classify('d1'), llm_classify('d1 text'));
INSERT INTO dom VALUES (2, '{"a": 1}');
UPDATE dom SET label = llm_classify('d2'), x = llm_classify('d2 text') WHERE id = 2;
SELECT * FROM cells('dom');
SELECT * FROM cells('dom', 'x');
:forget

-- NULL and blank inputs ask nothing
DELETE FROM t;
INSERT INTO t VALUES (1, NULL, '{"label": "x"}'), (2, E' \t\n', '{"label": "x"}'), (3, '', NULL), (4, 'x', NULL);
SET client_min_messages = notice;
SET llm_enrich.notices = on;
UPDATE t SET label = llm_classify(body);
SELECT * FROM cells('t');
UPDATE t SET label = llm_classify(body) WHERE id IN (2, 3);
UPDATE t SET label = llm_classify(body) WHERE id = 2;
RESET llm_enrich.notices;
SET client_min_messages = warning;
SELECT count(*) FROM llm.queue;
:forget
-- bad arguments raise at once
UPDATE t SET label = llm_classify(body, '{}');
UPDATE t SET label = llm_classify(body, options => '{"temprature": 1}');
UPDATE t SET label = llm_summarize(body, -1);
UPDATE t SET label = llm_classify(body, model => 'no such model');
-- arguments that vary: one job for each content
DELETE FROM t;
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 6) g;
UPDATE t SET label = llm_classify(body, CASE WHEN id % 2 = 0 THEN '{a,b}'::text[] ELSE ARRAY['odd', 'c'] END, instructions => 'like ' || id % 3);
SELECT operation, total, tasks, shared FROM jobs;
SELECT r.spec, q.key FROM llm.queue q JOIN llm.recipe r ON r.id = q.recipe ORDER BY q.key;
:forget

-- prepared statements: generic plans, many executions
UPDATE t SET label = NULL;
SET plan_cache_mode = force_generic_plan;
PREPARE p (text, text[], int) AS UPDATE t SET label = llm_classify($1 || body, $2) WHERE id = $3;
EXECUTE p ('p', '{a,b}', 1);
EXECUTE p ('p', '{a,b}', 2);
EXECUTE p ('p', '{a,c}', 3);
EXECUTE p (NULL, '{a,c}', 4);
SELECT * FROM cells('t');
SELECT operation, total, shared, tasks FROM jobs;
RESET plan_cache_mode;
:forget
ALTER TABLE t DROP CONSTRAINT t_pkey;
EXECUTE p ('p', '{a,b}', 1);
ALTER TABLE t ADD PRIMARY KEY (id);
EXECUTE p ('p', '{a,b}', 5);
SELECT key, input FROM llm.queue;
:forget
DEALLOCATE p;

-- functions: PL/pgSQL, SQL, and a row limit of SPI
CREATE FUNCTION label_it(i int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE t SET label = llm_classify('plpgsql ' || body) WHERE id = i;
END $$;
CREATE FUNCTION label_sql(i int) RETURNS void LANGUAGE sql AS $$ UPDATE t SET label = llm_classify('sql ' || body) WHERE id = i $$;
CREATE FUNCTION label_rows() RETURNS SETOF int LANGUAGE sql AS $$ UPDATE t SET label = llm_classify('rows ' || body) WHERE id > 4 RETURNING id $$;
SELECT label_it(g) FROM generate_series(1, 2) g;
SELECT label_sql(3);
SELECT count(*) FROM (SELECT label_rows() LIMIT 1) x;
SELECT * FROM cells('t');
:forget
UPDATE t SET label = NULL;
CREATE FUNCTION loop_it() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN UPDATE t SET label = llm_classify('loop ' || body) RETURNING id LOOP
		n := n + 1;
		EXIT WHEN n = 2;
	END LOOP;
	EXECUTE 'UPDATE t SET label = llm_classify($1) WHERE id = 1' USING 'dynamic';
	RETURN n;
END $$;
SELECT loop_it();
SELECT * FROM cells('t');
:forget

-- EXPLAIN queues nothing, EXPLAIN ANALYZE does
UPDATE t SET label = NULL;
EXPLAIN (COSTS OFF) UPDATE t SET label = llm_classify(body);
SELECT count(*) FROM llm.queue;
DO $do$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) UPDATE defer.t SET label = llm_classify(body)' LOOP
		RAISE WARNING '%', regexp_replace(regexp_replace(line, '\d+', 'N', 'g'), 'N:[A-Z]+', 'N:ROLES', 'g');
	END LOOP;
END $do$;
DO $$ BEGIN EXECUTE 'EXPLAIN (ANALYZE) UPDATE defer.t SET label = llm_classify(body) WHERE id < 3'; END $$;
SELECT count(*) FROM llm.queue;
:forget

-- many rows: written in batches, one job
CREATE TABLE big (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO big SELECT g, 'text ' || g FROM generate_series(1, 12001) g;
UPDATE big SET label = llm_classify(body);
SELECT operation, total, tasks FROM jobs;
SELECT count(*) AS cells, count(DISTINCT q.id) AS tasks, bool_and(q.key = jsonb_build_object('id', b.id) AND q.input = b.body) AS same
	FROM big b JOIN llm.queue q ON q.id = llm.marker_task(b.label);
:forget
INSERT INTO big SELECT id + 20000, body, llm_classify(body) FROM big;
SELECT operation, total, tasks FROM jobs;
SELECT count(*) AS cells, count(DISTINCT q.id) AS tasks, bool_and(q.key = jsonb_build_object('id', b.id) AND q.input = b.body) AS same
	FROM big b JOIN llm.queue q ON q.id = llm.marker_task(b.label);
:forget
UPDATE big SET label = x.l FROM (SELECT id, llm_classify(body) AS l FROM big OFFSET 0) x WHERE x.id = big.id AND big.id % 2 = 0;
SELECT operation, total, tasks FROM jobs;
SELECT count(*) AS cells, count(DISTINCT q.id) AS tasks, bool_and(q.key = jsonb_build_object('id', b.id) AND q.input = b.body) AS same
	FROM big b JOIN llm.queue q ON q.id = llm.marker_task(b.label);
:forget

-- a call costs the planner next to nothing, so that it does not switch JIT on
DO $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) UPDATE defer.big SET label = llm_classify(body)' INTO plan;
	RAISE WARNING 'cheap: %', (plan #>> '{0,Plan,Total Cost}')::float8 < 10000;
END $$;

-- tags and settings that travel with a job
SET llm_enrich.tags = '{"team": "a", "env": "test"}';
SET llm_enrich.carry_settings = 'app.tenant, app.unset, DateStyle';
SET app.tenant = '42';
SET application_name = 'defer test';
UPDATE t SET label = llm_classify(body, options => '{"tags": {"team": "b"}, "priority": 3}') WHERE id < 3;
SELECT role_name = current_user AS own, application_name, priority, tags, settings, total FROM llm.job;
:forget
SET llm_enrich.tags = '{broken';
UPDATE t SET label = llm_classify(body) WHERE id = 3;
RESET llm_enrich.tags;
RESET llm_enrich.carry_settings;

-- the extension goes and comes again in the same session
BEGIN;
DROP EXTENSION llm_enrich CASCADE;
\set VERBOSITY sqlstate
UPDATE t SET label = llm_classify(body) WHERE id = 3;
\set VERBOSITY default
ROLLBACK;
BEGIN;
DROP EXTENSION llm_enrich CASCADE;
CREATE EXTENSION llm_enrich SCHEMA public;
CREATE SERVER defer_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('defer_model', server => 'defer_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
UPDATE t SET label = llm_classify(body) WHERE id < 4;
SELECT q.id - s.last_value AS n FROM llm.queue q, llm.task_id s ORDER BY 1;
ROLLBACK;
UPDATE t SET label = llm_classify('after that') WHERE id = 3;
SELECT key, input FROM llm.queue;
:forget
-- a helper is missing
BEGIN;
ALTER EXTENSION llm_enrich DROP FUNCTION llm.keep(internal, bytea, anyelement, anyelement, "any");
DROP FUNCTION llm.keep(internal, bytea, anyelement, anyelement, "any");
UPDATE t SET label = llm_classify(body) WHERE id = 3;
ROLLBACK;

DROP SCHEMA defer CASCADE;
SELECT llm.drop_model('defer_model'), llm.drop_model('defer_other');
DROP SERVER defer_server;
