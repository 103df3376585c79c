--
-- Deferred calls on cells that hold something: what was there stays readable, what is asked
-- already is not asked again, and what was asked before and not sent is superseded (P5).
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA defer_rerun;
SET search_path = defer_rerun, public;
CREATE SERVER rerun_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('rerun_model', server => 'rerun_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SELECT llm.add_model('rerun_other', server => 'rerun_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'rerun_model';
CREATE FUNCTION cells(rel regclass, col name DEFAULT 'label') RETURNS TABLE (id jsonb, cell text, key jsonb, input text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT to_jsonb(t) -> ''id'', regexp_replace(t.%1$I::text, ''"task": \d+'', ''"task": N''),'
		' q.key, q.input FROM %2$s t LEFT JOIN llm.queue q ON q.id = llm.marker_task(t.%1$I) AND q.state IN (''ready'', ''waiting'') ORDER BY 1', col, rel);
END $$;
-- the writer takes superseded tasks away and counts them whenever it comes to it
CREATE VIEW tally AS SELECT (SELECT count(*) FROM llm.queue WHERE state IN ('ready', 'waiting')) AS ready,
	(SELECT count(*) FROM llm.queue WHERE state = 'superseded') + (SELECT COALESCE(sum(superseded), 0) FROM llm.job) AS superseded;
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job;'
DELETE FROM llm.job;

-- what was there
CREATE TABLE kept (id int PRIMARY KEY, label jsonb, j json, x text);
INSERT INTO kept VALUES
	(1, NULL, NULL, NULL), (2, '{"label": "bug"}', '{"b": 1, "a": 2}', '{"label": "bug"}'), (3, '7', '7', '7 up'), (4, '[1, 2]', '[1, 2]', ''),
	(5, '"s"', '"s"', '{broken'), (6, '{}', '{}', '{}'), (7, 'null', 'null', 'null'), (8, '{"llm_enrich": {"error": "x", "status": "failed"}, "label": "old"}', NULL, NULL);
UPDATE kept SET label = llm_classify('a'), j = llm_classify('b'), x = llm_classify('c');
SELECT * FROM cells('kept');
SELECT id, cell FROM cells('kept', 'j');
SELECT id, cell FROM cells('kept', 'x');
-- again, over the markers
UPDATE kept SET label = llm_classify('a2'), j = llm_classify('b2'), x = llm_classify('c2');
SELECT * FROM cells('kept');
SELECT id, cell, input FROM cells('kept', 'x');
SELECT * FROM tally;
:forget
DROP TABLE kept;

-- the same question of the same input: the old marker stays, nothing is queued
CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, second jsonb);
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 4) g;
UPDATE t SET label = llm_classify(body, '{a,b}');
CREATE TABLE before AS SELECT id, label FROM t;
UPDATE t SET label = llm_classify(body, labels => ARRAY['a', 'b']);
SELECT count(*) FROM t JOIN before USING (id, label);
SELECT * FROM tally;
SELECT count(*) FROM llm.job;
-- also through a sub-select, MERGE and ON CONFLICT
UPDATE t SET label = (SELECT llm_classify(t.body, '{a,b}'));
MERGE INTO t USING before b ON b.id = t.id WHEN MATCHED THEN UPDATE SET label = llm_classify(t.body, '{a,b}');
INSERT INTO t VALUES (1, 'text 1', llm_classify('text 1', '{a,b}')) ON CONFLICT (id) DO UPDATE SET label = excluded.label;
SELECT count(*) FROM t JOIN before USING (id, label);
SELECT * FROM tally;
-- another input, recipe, model, role or key asks again
UPDATE t SET body = 'other', label = llm_classify('other', '{a,b}') WHERE id = 1;
UPDATE t SET label = llm_classify(body, '{a,b,c}') WHERE id = 2;
UPDATE t SET label = llm_classify(body, '{a,b}', model => 'rerun_other') WHERE id = 3;
UPDATE t SET label = llm_classify(body, '{a,b}'), id = 40 WHERE id = 4;
SELECT * FROM cells('t');
-- a key that moves takes the old task away as well
SELECT ready, superseded FROM tally;
:forget
TRUNCATE t;
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 4) g;
UPDATE t SET label = llm_classify(body);
-- a marker copied to another row is not that row's own
INSERT INTO t SELECT id + 10, body, label FROM t WHERE id = 1;
UPDATE t SET label = llm_classify(body) WHERE id = 11;
SELECT * FROM cells('t');
SELECT * FROM tally;
-- nor is one copied to another column
UPDATE t SET second = label WHERE id = 2;
UPDATE t SET second = llm_classify(body) WHERE id = 2;
SELECT * FROM cells('t', 'second') WHERE id = '2';
SELECT * FROM tally;
:forget

-- a key that is generated from what the statement assigns moves as well, and only then
CREATE TABLE g (a int, id int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY, body text, label jsonb);
INSERT INTO g (a, body) SELECT n, 'text ' || n FROM generate_series(1, 2) n;
UPDATE g SET label = llm_classify(body);
UPDATE g SET label = llm_classify(body), body = body;
SELECT * FROM tally;
UPDATE g SET a = 5, label = llm_classify(body) WHERE a = 1;
INSERT INTO g (a) VALUES (2) ON CONFLICT (id) DO UPDATE SET a = 6, label = llm_classify(g.body);
SELECT * FROM cells('g');
SELECT * FROM tally;
DROP TABLE g;
:forget
-- nor does a trigger that changes the key leave a marker whose task looks for the old one
CREATE TABLE g (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO g SELECT n, 'text ' || n FROM generate_series(1, 3) n;
CREATE FUNCTION rekey() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF old.id = 1 THEN new.id := 10; END IF;
	IF old.id = 2 THEN RETURN NULL; END IF;
	RETURN new;
END $$;
UPDATE g SET label = llm_classify(body);
CREATE TRIGGER rekey BEFORE UPDATE ON g FOR EACH ROW EXECUTE FUNCTION rekey();
UPDATE g SET label = llm_classify(body) WHERE id > 1;
MERGE INTO g USING (VALUES (2), (4)) s(id) ON s.id = g.id WHEN MATCHED THEN UPDATE SET label = llm_classify(body)
	WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'text 4', llm_classify('text 4'));
SELECT * FROM tally;
UPDATE g SET label = llm_classify(body);
\echo :SQLSTATE
UPDATE g SET body = 'new key' WHERE id = 1;
UPDATE g SET label = llm_classify(body) WHERE id = 10;
SELECT * FROM cells('g');
DROP TABLE g;
:forget

-- a call that does not come to pass takes nothing away
TRUNCATE t;
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 6) g;
UPDATE t SET label = llm_classify(body);
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.id = 1 THEN RETURN NULL; END IF;
	IF new.id = 2 THEN new.label := old.label; END IF;
	RETURN new;
END $$;
CREATE TRIGGER suppress BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress();
MERGE INTO t USING (SELECT generate_series(1, 6) AS id) s ON s.id = t.id
	WHEN MATCHED AND t.id = 4 THEN UPDATE SET body = 'no call'
	WHEN MATCHED THEN UPDATE SET label = CASE WHEN t.id = 5 THEN t.label WHEN t.id = 6 THEN NULL ELSE llm_classify('new ' || body) END;
SELECT * FROM cells('t');
SELECT * FROM tally;
DROP TRIGGER suppress ON t;
BEGIN;
UPDATE t SET label = llm_classify('rolled back');
ROLLBACK;
SELECT * FROM cells('t');
SELECT * FROM tally;
-- NULL and blank inputs overwrite a marker as well
UPDATE t SET label = llm_classify(CASE WHEN id > 2 THEN ' ' END) WHERE id IN (1, 3);
SELECT * FROM cells('t');
SELECT * FROM tally;
:forget

-- a task that a worker holds is left alone, and nobody waits for it
TRUNCATE t;
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 2) g;
UPDATE t SET label = llm_classify(body);
UPDATE llm.queue SET state = 'claimed', claimed_at = now() WHERE key = '{"id": 1}';
UPDATE t SET label = llm_classify('another');
SELECT state, key, input FROM llm.queue WHERE state <> 'superseded' ORDER BY id;
-- the same question while it is under way is not asked twice either
UPDATE llm.queue SET state = 'claimed', claimed_at = now() WHERE input = 'another';
UPDATE t SET label = llm_classify('another');
SELECT count(*) FROM llm.queue WHERE input = 'another';
-- unless somebody has cancelled it
INSERT INTO llm.cancellation (task) SELECT id FROM llm.queue WHERE input = 'another' AND key = '{"id": 2}';
UPDATE t SET label = llm_classify('another');
SELECT state, key FROM llm.queue WHERE input = 'another' ORDER BY id;
DELETE FROM llm.cancellation;
:forget

DROP SCHEMA defer_rerun CASCADE;
SELECT llm.drop_model('rerun_model'), llm.drop_model('rerun_other');
DROP SERVER rerun_server;
