--
-- Odd statements: whatever is written, each pending cell has its task and each task that will
-- be sent its cell
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA defer_odd;
SET search_path = defer_odd, public;
CREATE SERVER odd_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('odd_model', server => 'odd_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'odd_model';

CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, second jsonb, third jsonb);
CREATE VIEW asked AS SELECT q.relation::regclass AS stored_in, j.column_name AS col, q.key, left(q.input, 40) AS input
	FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state IN ('ready', 'waiting') ORDER BY q.key, j.column_name, q.input;
-- what must never be: no rows
CREATE FUNCTION astray(rel regclass DEFAULT 't', cols name[] DEFAULT '{label,second,third}') RETURNS TABLE (what text, col name, id text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH col IN ARRAY cols LOOP
		RETURN QUERY EXECUTE format('SELECT ''cell without task'', %1$L::name, t.id::text FROM %2$s t WHERE (t.%1$I::jsonb -> ''llm_enrich'' ->> ''status'') = ''pending'''
			' AND NOT EXISTS (SELECT FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.id = llm.marker_task(t.%1$I) AND q.key ->> ''id'' = t.id::text AND j.column_name = %1$L'
			'  AND q.relation = t.tableoid)'
			' UNION ALL SELECT ''task without cell'', %1$L::name, q.key ->> ''id'' FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state IN (''ready'', ''waiting'') AND j.column_name = %1$L AND j.relation = %2$L::regclass'
			'  AND NOT EXISTS (SELECT FROM %2$s t WHERE q.id = llm.marker_task(t.%1$I) AND q.key ->> ''id'' = t.id::text)', col, rel);
	END LOOP;
END $$;
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job; TRUNCATE t; INSERT INTO t SELECT g, ''text '' || g FROM generate_series(1, 4) g;'
:forget

-- INSERT ... SELECT of every shape
INSERT INTO t (id, label) SELECT id + 100, llm_classify(body) FROM t ORDER BY id DESC LIMIT 2;
INSERT INTO t (id, label) (SELECT id + 200, llm_classify(body) FROM t WHERE id < 5 LIMIT 1) UNION ALL (SELECT id + 300, llm_summarize(body) FROM t WHERE id < 5 ORDER BY id DESC LIMIT 2);
INSERT INTO t (id, label) SELECT s.id + 400, llm_classify(s.body) FROM (SELECT DISTINCT ON (id % 2) id, body FROM t WHERE id < 5 ORDER BY id % 2, id) s;
INSERT INTO t (id, label) SELECT DISTINCT ON (id % 2) id + 500, llm_classify(body) FROM t WHERE id < 5 ORDER BY id % 2, id;
INSERT INTO t (id, label) SELECT id + 600, llm_classify(body) FROM t WHERE id < 5 ORDER BY id FETCH FIRST 1 ROW WITH TIES;
INSERT INTO t (id, label) SELECT row_number() OVER (ORDER BY id DESC) + 700, llm_classify(body) FROM t WHERE id < 5 ORDER BY id LIMIT 3;
INSERT INTO t (id, label) SELECT max(id) + 800, llm_classify(string_agg(body, ',' ORDER BY id)) FROM t WHERE id < 5 GROUP BY id % 2 ORDER BY 1;
INSERT INTO t (id, label) SELECT coalesce(id, 0) + 900, llm_classify(grouping(id) || string_agg(body, ',' ORDER BY id)) FROM t WHERE id < 3 GROUP BY ROLLUP (id);
INSERT INTO t (id, label) SELECT generate_series(1001, 1003), llm_classify('srf');
INSERT INTO t (id, label) SELECT 1100 + id, l FROM t, LATERAL (SELECT llm_classify(t.body || g) AS l FROM generate_series(1, 2) g ORDER BY g DESC LIMIT 1) s WHERE id < 3;
INSERT INTO t (id, label) SELECT 1150 + t.id, s.l FROM t LEFT JOIN LATERAL (SELECT llm_classify(t.body) AS l WHERE t.id > 1) s ON true WHERE t.id < 4;
INSERT INTO t (id, label) WITH RECURSIVE r(n, l) AS (SELECT 1, llm_classify('r1') UNION ALL SELECT n + 1, llm_classify('r' || n + 1) FROM r WHERE n < 3) SELECT n + 1200, l FROM r;
INSERT INTO t (id, label) WITH RECURSIVE r(n, l) AS (SELECT 1, llm_classify('one') UNION ALL SELECT n + 1, l FROM r WHERE n < 3) SELECT n + 1300, l FROM r;
INSERT INTO t (id, label) SELECT id + 1400, llm_classify(body) FROM t WHERE id < 3 FOR UPDATE;
INSERT INTO t (id, label) SELECT a.id + 1500, coalesce(b.label, llm_classify(a.body)) FROM t a LEFT JOIN t b ON b.id = a.id + 1500 WHERE a.id < 3;
INSERT INTO t (id, label, second) SELECT id + 1600, l, l FROM (SELECT id, llm_classify(body) AS l FROM t WHERE id < 3) q;
INSERT INTO t (id, label, second) SELECT id + 1700, l, llm_summarize(body) FROM (SELECT id, body, llm_classify(body) AS l FROM t WHERE id < 3 OFFSET 0) q;
INSERT INTO t (id, label) SELECT 1800 + row_number() OVER (), v FROM (VALUES (llm_classify('v1')), (NULL), ('{}'::jsonb)) s(v);
INSERT INTO t (id, label) SELECT 1900, s.l FROM (SELECT 1 AS a, llm_classify('full join') AS l) s FULL JOIN (SELECT 1 AS a) b USING (a);
INSERT INTO t (id, label) SELECT 2000, (VALUES (llm_classify('values')));
INSERT INTO t SELECT (s).* FROM (SELECT 2100 AS id, 'b' AS body, llm_classify('star') AS label) s;
SELECT count(*), count(DISTINCT key) FROM asked;
SELECT col, key -> 'id' AS id, input FROM asked WHERE (key -> 'id')::int > 700;
SELECT * FROM astray();

-- SET of several columns, many matches, one marker in several places
:forget
UPDATE t SET (label, second) = (llm_classify('a'), llm_classify('b')) WHERE id = 1;
UPDATE t SET (label, second) = (SELECT llm_classify('a'), llm_classify('b')) WHERE id = 2;
UPDATE t SET (label, second) = (SELECT l, l FROM (SELECT llm_classify('same') AS l) q) WHERE id = 3;
INSERT INTO t (id) VALUES (4) ON CONFLICT (id) DO UPDATE SET (label, second) = (SELECT llm_classify('mc'), llm_classify('mc2'));
UPDATE t SET third = llm_classify(s.w) FROM (VALUES (1, 'm'), (1, 'm'), (2, 'n'), (2, 'n')) s(id, w) WHERE s.id = t.id;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
-- EXCLUDED has the markers of the row that was in conflict, as often as it is used
:forget
INSERT INTO t (id, label, second) SELECT g, x.l, x.l FROM (SELECT llm_classify('x') AS l OFFSET 0) x, generate_series(3, 5) g
	ON CONFLICT (id) DO UPDATE SET second = excluded.second, third = excluded.second;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
INSERT INTO t (id, label, second) SELECT g, x.l, x.l FROM (SELECT llm_classify('y') AS l OFFSET 0) x, generate_series(3, 5) g
	ON CONFLICT (id) DO UPDATE SET label = excluded.second, second = excluded.label, third = excluded.label;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
INSERT INTO t (id, label) VALUES (1, llm_classify('nothing')) ON CONFLICT DO NOTHING;
INSERT INTO t (id, label) VALUES (1, llm_classify('where')) ON CONFLICT (id) DO UPDATE SET label = excluded.label WHERE t.id > 1;
SELECT count(*) FROM asked WHERE input IN ('nothing', 'where');

-- MERGE with all it has
:forget
MERGE INTO t USING (SELECT g AS id, llm_classify('src ' || g) AS l FROM generate_series(1, 8) g) s ON t.id = s.id
	WHEN MATCHED AND t.id = 1 THEN DELETE
	WHEN MATCHED AND t.id = 2 THEN DO NOTHING
	WHEN MATCHED AND t.id = 3 THEN UPDATE SET label = s.l, second = s.l
	WHEN MATCHED THEN UPDATE SET second = llm_classify(t.body)
	WHEN NOT MATCHED AND s.id < 7 THEN INSERT (id, label) VALUES (s.id, s.l)
	WHEN NOT MATCHED AND s.id = 7 THEN INSERT (id, third) VALUES (s.id, llm_classify('t7'));
SELECT col, key, input FROM asked;
SELECT * FROM astray();
MERGE INTO t USING t s ON t.id = s.id WHEN MATCHED AND t.id < 4 THEN UPDATE SET (body, label) = (SELECT upper(s.body), llm_classify('merged ' || s.id))
	WHEN MATCHED THEN UPDATE SET (label, body) = ROW (llm_classify('row'), 'x');
SELECT col, key, input FROM asked WHERE col = 'label';
SELECT * FROM astray();

-- WITH: several targets, some not read, some not to the end
:forget
WITH a AS (UPDATE t SET label = llm_classify('a') WHERE id < 3 RETURNING id, label), b AS (INSERT INTO t (id, label) VALUES (10, llm_classify('b')) RETURNING *),
	c AS (SELECT llm_summarize('c') AS l) UPDATE t SET label = c.l FROM c WHERE id > 2;
WITH a AS (UPDATE t SET second = llm_classify('second') RETURNING second) SELECT count(*) FROM a LIMIT 0;
WITH a AS (UPDATE t SET third = llm_classify('third') RETURNING third) SELECT 1 WHERE false;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
COPY (UPDATE t SET label = llm_summarize(body) WHERE id = 2 RETURNING id) TO STDOUT;
COPY (WITH a AS (UPDATE t SET second = llm_summarize(body) RETURNING id) SELECT 'some' FROM a LIMIT 1) TO STDOUT;
SELECT count(*) FROM asked;
SELECT * FROM astray();

-- a view over partitions, with other columns in other places; what moves leaves no task behind
CREATE TABLE p (junk int, id int, region text, gone text, body text, label jsonb, more jsonb, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
ALTER TABLE p DROP junk, DROP gone;
CREATE TABLE pa (label jsonb, z1 int, more jsonb, body text, region text NOT NULL, z2 int, id int NOT NULL);
ALTER TABLE pa DROP z1, DROP z2;
ALTER TABLE p ATTACH PARTITION pa FOR VALUES IN ('a');
CREATE TABLE pb PARTITION OF p FOR VALUES IN ('b');
CREATE VIEW pv AS SELECT more, id AS nr, label AS answer, region AS r, body FROM p WHERE id < 100;
CREATE VIEW pv2 AS SELECT r, answer AS a, nr, body, more FROM pv WITH CHECK OPTION;
:forget
INSERT INTO pv2 (nr, r, body, a) SELECT g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'body ' || g, llm_classify('insert ' || g) FROM generate_series(1, 4) g;
SELECT * FROM asked;
UPDATE pv2 SET a = llm_summarize(body), r = CASE r WHEN 'a' THEN 'b' ELSE 'a' END;
SELECT * FROM asked;
SELECT * FROM astray('p', '{label}') WHERE what <> 'cell without task';
DELETE FROM llm.queue;
UPDATE p SET region = CASE region WHEN 'a' THEN 'b' ELSE 'a' END, more = llm_classify(body);
SELECT * FROM astray('p', '{more}');
-- temporary children are of one session; those of others are in nobody's way
CREATE TABLE par (id int PRIMARY KEY, label jsonb);
INSERT INTO par VALUES (1);
CREATE TEMP TABLE tmp_child (PRIMARY KEY (id)) INHERITS (par);
INSERT INTO tmp_child VALUES (2);
UPDATE par SET label = llm_classify('p');
UPDATE ONLY par SET label = llm_classify('p');
SELECT * FROM astray('par', '{label}');
DROP TABLE par, p CASCADE;

-- triggers: AFTER ones that ask about the same cells again, BEFORE ones that store and read the value
:forget
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF pg_trigger_depth() < 2 THEN UPDATE t SET label = llm_classify(CASE new.id WHEN 1 THEN new.body ELSE 'again' END) WHERE id = new.id; END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again();
UPDATE t SET label = llm_classify(body) WHERE id < 3;
INSERT INTO t (id, body, label) VALUES (10, 'ten', llm_classify('ten'));
SELECT col, key, input FROM asked;
SELECT * FROM astray();
DROP TRIGGER again ON t;
:forget
CREATE FUNCTION via_table() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS way (l jsonb);
	INSERT INTO way VALUES (new.label || jsonb_build_object('pad', repeat('p', 10000)));
	DELETE FROM way RETURNING l INTO new.label;
	RETURN new;
END $$;
CREATE TRIGGER via_table BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION via_table();
UPDATE t SET label = llm_classify(body) WHERE id < 3;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
DROP TRIGGER via_table ON t;
:forget
CREATE FUNCTION from_transition() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t (id, label) SELECT id + 100, llm_classify('copy of ' || body) FROM n WHERE id < 100; RETURN NULL; END $$;
CREATE TRIGGER from_transition AFTER UPDATE ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION from_transition();
UPDATE t SET label = llm_classify(body) WHERE id < 3;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
DROP TRIGGER from_transition ON t;
:forget
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t (id, label) VALUES (new.id + 100, llm_classify('at commit')); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit();
UPDATE t SET label = llm_classify(body) WHERE id = 1;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
DROP TRIGGER at_commit ON t;

-- statements of functions inside the statement; loops, exceptions, dynamic SQL; commits in a procedure
:forget
CREATE TABLE inner_t (id int PRIMARY KEY, label jsonb);
CREATE FUNCTION inner_call(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO inner_t VALUES (i, llm_classify('inner ' || i)); RETURN 'result ' || i; END $$;
UPDATE t SET label = llm_classify(inner_call(id));
SELECT * FROM asked;
SELECT * FROM astray('inner_t', '{label}');
:forget
CREATE FUNCTION sql_set() RETURNS SETOF t LANGUAGE sql AS $$ UPDATE t SET second = llm_classify(body) RETURNING * $$;
SELECT id FROM sql_set() LIMIT 1;
CREATE FUNCTION atomic(i int) RETURNS int LANGUAGE sql BEGIN ATOMIC UPDATE t SET label = llm_classify('atomic ' || i) WHERE id = i RETURNING id; END;
SELECT atomic(2) + atomic(3) AS sum;
DO $$
DECLARE
	n int;
	l jsonb;
	r record;
BEGIN
	UPDATE t SET label = llm_classify(body) WHERE id < 3;
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE WARNING 'rows %, found %', n, FOUND;
	UPDATE t SET label = llm_classify(body) WHERE id = 99;
	RAISE WARNING 'found %', FOUND;
	UPDATE t SET label = llm_classify(body) WHERE id = 3 RETURNING label INTO STRICT l;
	RAISE WARNING '%', llm_status(l);
	FOR r IN UPDATE t SET second = llm_classify('second ' || id) RETURNING id LOOP
		BEGIN
			UPDATE t SET third = llm_classify('in loop ' || r.id) WHERE id = r.id;
			IF r.id = 2 THEN RAISE 'not this one'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
	FOR i IN 1..2 LOOP EXECUTE 'INSERT INTO t (id, label) VALUES ($1, llm_classify($2))' USING 50 + i, 'dynamic ' || i; END LOOP;
END $$;
SELECT col, key, input FROM asked;
SELECT * FROM astray();
:forget
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..4 LOOP
		UPDATE t SET label = llm_classify('part ' || i) WHERE id = i;
		IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
	END LOOP;
END $$;
CALL in_parts();
DO $$ DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE; BEGIN FOR r IN c LOOP UPDATE t SET second = llm_classify(r.body), id = id + 10 WHERE CURRENT OF c; END LOOP; END $$;
SELECT col, key, input FROM asked WHERE col = 'second';
SELECT * FROM astray('t', '{second}');

-- prepared: generic and custom plans, while the table changes
:forget
PREPARE u (int, text, text[]) AS UPDATE t SET label = llm_classify($2 || body, $3) WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE u (1, 'a ', '{x,y}');
EXECUTE u (2, 'b ', '{x}');
SET plan_cache_mode = force_custom_plan;
EXECUTE u (3, NULL, NULL);
EXECUTE u (4, 'c ', NULL);
RESET plan_cache_mode;
SELECT col, key, input FROM asked;
ALTER TABLE t ADD extra int;
EXECUTE u (1, 'd ', NULL);
ALTER TABLE t DROP extra, ADD other int NOT NULL DEFAULT 7;
EXECUTE u (1, 'e ', NULL);
ALTER TABLE t DROP CONSTRAINT t_pkey;
EXECUTE u (1, 'f ', NULL);
ALTER TABLE t ADD UNIQUE (other, id), ALTER id SET NOT NULL;
EXECUTE u (1, 'g ', NULL);
ALTER TABLE t ADD PRIMARY KEY (id), DROP other;
EXECUTE u (1, 'h ', NULL);
DROP FUNCTION atomic;
ALTER TABLE t ALTER label TYPE json;
EXECUTE u (1, 'i ', NULL);
ALTER TABLE t ALTER label TYPE jsonb;
SELECT col, key, input FROM asked WHERE input LIKE '_ text 1';
DEALLOCATE u;

-- settings that change how statements are planned, run and shown
:forget
SET jit = on;
SET jit_above_cost = 0;
SET jit_inline_above_cost = 0;
SET jit_optimize_above_cost = 0;
UPDATE t SET label = llm_classify(body, CASE WHEN id < 3 THEN '{a,b}'::text[] END);
INSERT INTO t (id, label) VALUES (1, llm_classify('x')) ON CONFLICT (id) DO UPDATE SET label = excluded.label;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
INSERT INTO t (id, label) SELECT id + 10, llm_classify(body) FROM t;
INSERT INTO t (id, label) SELECT id + 100, s.l FROM (SELECT id, llm_classify(body) AS l FROM t WHERE id > 10) s JOIN (SELECT count(*) AS c FROM t) c ON c.c > 0;
SET session_replication_role = replica;
SET row_security = off;
SET quote_all_identifiers = on;
UPDATE t SET second = llm_classify(body) WHERE id = 1;
RESET quote_all_identifiers;
UPDATE t SET second = llm_classify(body) WHERE id = 2;
RESET session_replication_role;
RESET row_security;
SET search_path = '';
SELECT count(*), count(DISTINCT relation_name) FROM llm.job;
UPDATE defer_odd.t SET second = public.llm_classify(body) WHERE id = 3;
RESET search_path;
SET search_path = defer_odd, public;
RESET jit;
RESET jit_above_cost;
RESET jit_inline_above_cost;
RESET jit_optimize_above_cost;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SELECT count(*) FROM asked;
SELECT * FROM astray();
-- a key that is shown by its path is stored with it
CREATE TABLE by_name (id regclass PRIMARY KEY, label jsonb);
INSERT INTO by_name VALUES ('t', llm_classify('by name'));
SELECT key FROM asked WHERE input = 'by name';
DROP TABLE by_name;

-- the session's last job is one that is there
:forget
UPDATE t SET label = llm_classify(body) WHERE id < 3;
SELECT llm.last_job() = (SELECT max(id) FROM llm.job);
BEGIN;
SAVEPOINT a;
UPDATE t SET second = llm_classify(body) WHERE id < 3;
SAVEPOINT b;
UPDATE t SET third = llm_classify(body) WHERE id < 3;
RELEASE b;
SELECT column_name FROM llm.job WHERE id = llm.last_job();
ROLLBACK TO a;
SELECT column_name FROM llm.job WHERE id = llm.last_job();
SAVEPOINT c;
UPDATE t SET third = llm_classify(body) WHERE id < 3;
RELEASE c;
SELECT column_name FROM llm.job WHERE id = llm.last_job();
COMMIT;
SELECT column_name FROM llm.job WHERE id = llm.last_job();
BEGIN;
UPDATE t SET label = llm_classify('rolled back') WHERE id < 3;
ROLLBACK;
SELECT column_name FROM llm.job WHERE id = llm.last_job();

-- a table from elsewhere holds markers with numbers that are drawn only now
:forget
INSERT INTO t (id, second, third) SELECT g, CASE WHEN g % 3 > 0 THEN m END, CASE WHEN g % 3 > 0 THEN m || '{"old": 1}' END
	FROM (SELECT g, jsonb_build_object('llm_enrich', jsonb_build_object('task', (SELECT last_value - 64 + g FROM llm.task_id), 'status', 'pending')) AS m FROM generate_series(5, 300) g) s;
UPDATE t SET label = llm_classify('label ' || id);
UPDATE t SET second = COALESCE(second, llm_classify('second ' || id)) WHERE id > 4;
SELECT count(*) FROM astray('t', '{label}');
SELECT what, count(*), count(*) FILTER (WHERE id::int % 3 > 0) FROM astray('t', '{second}') GROUP BY what;
SELECT count(*) FROM llm.queue WHERE state IN ('ready', 'waiting') AND split_part(input, ' ', 2) <> key ->> 'id';

DROP SCHEMA defer_odd CASCADE;
DROP TABLE way;
DELETE FROM llm.queue;
DELETE FROM llm.job;
SELECT llm.drop_model('odd_model');
DROP SERVER odd_server;
