--
-- Where a call cannot be deferred: refused with the cause and the way out, never a marker
-- without a task
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA refuse;
SET search_path = refuse, public;
CREATE SERVER refuse_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('refuse_model', server => 'refuse_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'refuse_model';
CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, parts jsonb[], n int, short varchar(60), one "char", nm name, x text);
INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', NULL);

-- not whole in the column
\echo :SQLSTATE
UPDATE t SET label['a'] = llm_classify(body);
UPDATE t SET parts[1] = llm_classify(body);
CREATE TYPE pair AS (a int, label jsonb);
CREATE TABLE comp (id int PRIMARY KEY, p pair);
UPDATE comp SET p.label = llm_classify('x');
INSERT INTO comp (id, p.label) VALUES (1, llm_classify('x'));
UPDATE t SET label = to_jsonb(s) FROM (SELECT llm_classify('x') AS l) s;
UPDATE t SET label = (SELECT jsonb_agg(llm_classify(body)) FROM t);
UPDATE t SET x = ARRAY(SELECT llm_classify(body) FROM t)::text;
UPDATE t SET label = (SELECT first_value(llm_classify(o.body)) OVER () FROM t o LIMIT 1);
INSERT INTO t (id, label) VALUES (3, concat(llm_classify('x'), llm_classify('x'))::jsonb), (4, NULL);
INSERT INTO t (id, label) SELECT 3, max(llm_classify(body)::text)::jsonb FROM t;
INSERT INTO t (id, label) VALUES (1, llm_classify('x')) ON CONFLICT (id) DO UPDATE SET label = excluded.label WHERE t.* IS DISTINCT FROM excluded.*;
INSERT INTO t (id, label) VALUES (1, llm_classify('x')) ON CONFLICT (id) DO UPDATE SET label = to_jsonb(excluded);
-- a call of a call
UPDATE t SET label = llm_classify(llm_summarize(body)::text);
UPDATE t SET label = llm_classify(s.l::text) FROM (SELECT llm_summarize('x') AS l) s;

-- in conditions, RETURNING, sorting, grouping, set operations
UPDATE t SET n = 1 WHERE llm_classify(body) ->> 'label' = 'a';
DELETE FROM t WHERE llm_classify(body) IS NULL;
UPDATE t SET label = s.l FROM (SELECT id, llm_classify(body) AS l FROM t) s WHERE s.id = t.id AND s.l IS NOT NULL;
UPDATE t SET label = llm_classify(body) WHERE EXISTS (SELECT llm_classify('x'));
UPDATE t SET label = CASE WHEN llm_classify(body) IS NULL THEN '{}' ELSE llm_classify(body) END;
UPDATE t SET n = 1 RETURNING llm_classify(body);
WITH u AS (UPDATE t SET n = 1 RETURNING id) SELECT llm_classify(id::text) FROM u;
WITH u AS (UPDATE t SET n = 1 RETURNING id), c AS (SELECT llm_classify('x') AS l) SELECT c.l FROM c, u;
INSERT INTO t (id, label) SELECT id + 10, llm_classify(body) FROM t ORDER BY 2;
INSERT INTO t (id, label) SELECT DISTINCT id + 10, llm_classify(body) FROM t;
INSERT INTO t (label) SELECT llm_classify(body) FROM t GROUP BY 1;
INSERT INTO t (id) SELECT id + 10 FROM t GROUP BY id HAVING llm_classify(min(body)) IS NULL;
INSERT INTO t (id) SELECT row_number() OVER (PARTITION BY llm_classify(body)) + 10 FROM t;
INSERT INTO t (id) SELECT 10 + count(*) OVER (ORDER BY llm_classify(body)) FROM t;
INSERT INTO t (id) SELECT 10 + count(*) FILTER (WHERE llm_classify(body) IS NULL) FROM t;
INSERT INTO t (id, label) SELECT DISTINCT ON (llm_classify(body)) id + 10, label FROM t;
INSERT INTO t (id, label) SELECT 10, s.l FROM (SELECT llm_classify('x') AS l) s JOIN t ON s.l = t.label;
INSERT INTO t (id, label) SELECT 10, l FROM (SELECT llm_classify('x') AS l) a NATURAL JOIN (SELECT '{}'::jsonb AS l) b;
INSERT INTO t (id, label) SELECT 20, llm_classify('x') UNION SELECT 21, NULL;
INSERT INTO t (id, label) SELECT 20, llm_classify('x') LIMIT length(llm_classify('x')::text);
INSERT INTO t (id, label) SELECT 20, f FROM jsonb_array_elements(llm_classify('x')) f;
INSERT INTO t (id, label) SELECT 20, f FROM llm_classify('x') f;
INSERT INTO t (id, body) SELECT 20, body FROM t TABLESAMPLE system (length(llm_classify('x')::text));
INSERT INTO t (id, label) WITH RECURSIVE r(n, l) AS (SELECT 20, llm_classify('x') UNION SELECT n + 1, l FROM r WHERE n < 22) SELECT n, l FROM r;
INSERT INTO t (id, label) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET label = excluded.label RETURNING llm_classify(t.body);
INSERT INTO t (id, label) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET n = 1 WHERE llm_classify('x') IS NULL;
MERGE INTO t USING (VALUES (1)) s(id) ON t.id = s.id WHEN MATCHED AND llm_classify('x') IS NULL THEN DELETE;

-- columns that cannot hold a marker
CREATE TABLE c80 (id int PRIMARY KEY, c char(80));
CREATE TABLE c119 (id int PRIMARY KEY, short varchar(119), long varchar(120));
UPDATE t SET n = llm_classify(body);
CREATE DOMAIN answered AS jsonb CHECK (VALUE ? 'label');
CREATE TABLE checked (id int PRIMARY KEY, a answered, b jsonb CHECK (b ? 'label'));
INSERT INTO checked (id, a) VALUES (1, llm_classify('x'));
\set VERBOSITY terse
INSERT INTO checked (id, b) VALUES (1, llm_classify('x'));
\set VERBOSITY default
CREATE DOMAIN short_domain AS varchar(100);
CREATE TABLE d (id int PRIMARY KEY, c short_domain);

-- relations whose rows could not be found again
CREATE TABLE nokey (id int, label jsonb);
INSERT INTO nokey VALUES (1, llm_classify('x'));
CREATE TABLE halfkey (a int UNIQUE, b int NOT NULL, c int NOT NULL UNIQUE DEFERRABLE, label jsonb);
CREATE UNIQUE INDEX ON halfkey (b) WHERE b > 0;
UPDATE halfkey SET label = llm_classify('x');
CREATE UNIQUE INDEX ON halfkey ((b + 1));
UPDATE halfkey SET label = llm_classify('x');
CREATE TABLE lazykey (id int PRIMARY KEY DEFERRABLE, label jsonb);
UPDATE lazykey SET label = llm_classify('x');
CREATE TEMP TABLE tmp (id int PRIMARY KEY, label jsonb);
INSERT INTO tmp VALUES (1, llm_classify('x'));
CREATE FOREIGN DATA WRAPPER refuse_dummy;
CREATE SERVER refuse_dummy FOREIGN DATA WRAPPER refuse_dummy;
CREATE FOREIGN TABLE ft (id int NOT NULL, label jsonb) SERVER refuse_dummy;
UPDATE ft SET label = llm_classify('x');
CREATE VIEW blind AS SELECT body, label FROM t;
UPDATE blind SET label = llm_classify(body);
CREATE VIEW joined AS SELECT a.id, a.label FROM t a JOIN t b USING (id);
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER instead INSTEAD OF UPDATE ON joined FOR EACH ROW EXECUTE FUNCTION instead();
UPDATE joined SET label = llm_classify('x');
CREATE VIEW grouped AS SELECT id, label FROM t GROUP BY id;
UPDATE grouped SET label = llm_classify('x');
CREATE VIEW computed AS SELECT id, body, label || '{}' AS label FROM t;
UPDATE computed SET label = llm_classify('x');
CREATE VIEW asking AS SELECT id, body, label, llm_classify(body) AS answer FROM t;
DELETE FROM asking WHERE answer IS NULL;
CREATE TABLE parent (id int PRIMARY KEY, label jsonb);
CREATE TABLE child () INHERITS (parent);
UPDATE parent SET label = llm_classify('x');
ALTER TABLE t ALTER label SET DEFAULT llm_complete('x');
CREATE VIEW no_label AS SELECT id, body FROM t;
INSERT INTO no_label VALUES (50, 'x');
ALTER TABLE t ALTER label DROP DEFAULT;
SET allow_system_table_mods = on;
UPDATE pg_description SET description = llm_classify('x') WHERE false;
RESET allow_system_table_mods;

-- rows that their own marker would hide from the write-back: refused before anything is queued
CREATE TABLE h (id int PRIMARY KEY, body text, label jsonb, other text, done boolean DEFAULT false);
INSERT INTO h VALUES (1, 'a'), (2, NULL), (3, 'c');
CREATE VIEW todo AS SELECT * FROM h WHERE label IS NULL;
UPDATE todo SET label = llm_classify(body) WHERE id = 1;
\echo :SQLSTATE
INSERT INTO todo (id, label) VALUES (10, llm_classify('x'));
INSERT INTO todo (id, label) VALUES (1, llm_classify('x')) ON CONFLICT (id) DO UPDATE SET label = excluded.label;
UPDATE todo SET label = CASE WHEN id = 1 THEN llm_classify(body) END;
CREATE VIEW todo_outer WITH (security_barrier) AS SELECT label AS answer, body, id FROM todo WHERE id > 0;
UPDATE todo_outer SET answer = llm_classify(body);
CREATE VIEW flagged AS SELECT id, body, label, label IS NULL AS open FROM h;
CREATE VIEW todo_flagged AS SELECT * FROM flagged WHERE open;
UPDATE todo_flagged SET label = llm_classify(body) WHERE id = 1;
CREATE VIEW todo_text AS SELECT * FROM h WHERE other IS NULL;
-- by another column that the statement assigns
CREATE VIEW undone AS SELECT * FROM h WHERE NOT done;
UPDATE undone SET done = true, label = llm_classify(body) WHERE id = 1;
-- where the condition cannot be evaluated
CREATE VIEW todo_sub AS SELECT * FROM h WHERE label IS NULL OR EXISTS (SELECT FROM t WHERE t.label = h.label);
UPDATE todo_sub SET label = llm_classify(body);
CREATE VIEW todo_row AS SELECT * FROM flagged f WHERE f IS NOT NULL;
UPDATE todo_row SET label = llm_classify(body);
-- row security
CREATE ROLE refuse_hidden;
GRANT USAGE ON SCHEMA refuse TO refuse_hidden;
GRANT USAGE ON FOREIGN SERVER refuse_server TO refuse_hidden;
GRANT ALL ON h, todo TO refuse_hidden;
ALTER TABLE h ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON h FOR SELECT USING (true);
CREATE POLICY filling ON h FOR UPDATE USING (label IS NULL) WITH CHECK (true);
CREATE POLICY adding ON h FOR INSERT WITH CHECK (true);
SET ROLE refuse_hidden;
UPDATE h SET label = llm_classify(body) WHERE id = 1;
\echo :SQLSTATE
INSERT INTO h (id, label) VALUES (11, llm_classify('x'));
MERGE INTO h USING (SELECT 1 AS id) s ON h.id = s.id WHEN MATCHED THEN UPDATE SET label = llm_classify(body);
RESET ROLE;
-- PostgreSQL's own check comes first
ALTER POLICY filling ON h WITH CHECK (label IS NULL);
SET ROLE refuse_hidden;
UPDATE h SET label = llm_classify(body) WHERE id = 1;
RESET ROLE;
ALTER POLICY filling ON h USING (label IS NULL OR EXISTS (SELECT FROM refuse.t WHERE t.label = h.label)) WITH CHECK (true);
SET ROLE refuse_hidden;
UPDATE h SET label = llm_classify(body) WHERE id = 1;
RESET ROLE;
-- nothing of it was queued; what shows pending rows is not refused, nor are values that are no markers
SELECT count(*) FROM llm.queue;
BEGIN;
ALTER POLICY filling ON h USING (label IS NULL OR llm_is_pending(label));
CREATE OR REPLACE VIEW todo AS SELECT * FROM h WHERE label IS NULL OR public.llm_is_pending(label);
UPDATE todo SET label = llm_classify(body);
UPDATE undone SET label = llm_classify(body || '!') WHERE id = 3;
SET LOCAL ROLE refuse_hidden;
UPDATE h SET label = llm_classify('again') WHERE id = 1;
SELECT count(*) FROM llm.queue;
ROLLBACK;
BEGIN;
UPDATE todo SET label = CASE WHEN id > 1 THEN llm_classify(NULL) ELSE '{"label": "a"}' END;
SELECT id, label FROM h ORDER BY id;
ROLLBACK;
-- a view may show columns that every table has
BEGIN;
CREATE VIEW placed AS SELECT tableoid AS of, ctid AS at, * FROM h WHERE tableoid = 'refuse.h'::regclass;
UPDATE placed SET label = llm_classify(body) WHERE id = 1;
SELECT count(*) FROM llm.queue;
ROLLBACK;
DROP TABLE h CASCADE;
-- a cell that shows nothing, of a row that the role may store and not see
CREATE TABLE q (id int PRIMARY KEY, owner name, body text, kind text, label jsonb);
GRANT ALL ON q TO refuse_hidden;
ALTER TABLE q ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON q USING (owner = current_user) WITH CHECK (true);
CREATE VIEW few AS SELECT * FROM q WHERE id < 10;
GRANT ALL ON few TO refuse_hidden;
SET ROLE refuse_hidden;
INSERT INTO q (id, owner, label) VALUES (1, 'another', llm_classify('x'));
INSERT INTO q (id, owner, kind) VALUES (1, 'another', llm_classify('x'));
\echo :SQLSTATE
INSERT INTO few (id, owner, kind) VALUES (11, current_user, llm_classify('x'));
INSERT INTO q (id, owner, kind) VALUES (1, current_user, CASE WHEN true THEN llm_classify('x') END), (2, 'another', NULL);
INSERT INTO q (id, owner, kind) SELECT i, CASE WHEN i = 3 THEN 'another' ELSE current_user END,
	CASE WHEN i <> 3 THEN llm_classify('x')->>'label' ELSE 'given' END FROM generate_series(3, 4) i;
UPDATE q SET owner = 'another', kind = llm_classify('y') WHERE id = 1;
UPDATE few SET kind = llm_classify('y') WHERE id = 1;
INSERT INTO q (id, owner, kind) VALUES (1, 'another', 'a') ON CONFLICT (id) DO UPDATE SET owner = 'another', kind = llm_classify('z');
RESET ROLE;
SELECT id, owner, kind FROM q ORDER BY id;
SELECT key, input FROM llm.queue WHERE state = 'ready' ORDER BY id;
DELETE FROM llm.queue;
DROP TABLE q CASCADE;
DROP OWNED BY refuse_hidden;
DROP ROLE refuse_hidden;

-- evaluated outside INSERT, UPDATE and MERGE
SELECT llm_classify('x');
\echo :SQLSTATE
SELECT llm_summarize(body) FROM t;
SELECT llm_extract('x', '{}'), llm_complete('x');
CREATE TABLE ctas AS SELECT llm_classify('x') AS l;
SELECT llm_classify('x') INTO ctas;
CREATE MATERIALIZED VIEW matview AS SELECT llm_classify('x') AS l;
CREATE MATERIALIZED VIEW matview AS SELECT llm_classify('x') AS l WITH NO DATA;
REFRESH MATERIALIZED VIEW matview;
COPY (SELECT llm_classify('x')) TO STDOUT;
BEGIN;
DECLARE c CURSOR FOR SELECT llm_classify('x');
FETCH c;
ROLLBACK;
CREATE TABLE def (id int PRIMARY KEY, label jsonb DEFAULT llm_complete('x'));
COPY def (id) FROM STDIN;
1
\.
ALTER TABLE t ADD added jsonb DEFAULT llm_complete('x');
INSERT INTO def VALUES (1, '{}');
ALTER TABLE def ALTER label DROP DEFAULT, ALTER label TYPE json USING llm_classify('x');
DO $$
DECLARE
	v jsonb;
BEGIN
	v := llm_classify('x');
END $$;
CREATE FUNCTION wrapper(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT llm_classify($1) $$;
UPDATE t SET label = wrapper(body);
CREATE FUNCTION wrapper2(text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN llm_classify($1); END $$;
UPDATE t SET label = wrapper2(body);
UPDATE t SET label = CASE id WHEN 1 THEN llm_classify(body) ELSE wrapper(body) END;
CREATE FUNCTION set_new() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.label := llm_classify(new.body); RETURN new; END $$;
CREATE TRIGGER set_new BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION set_new();
UPDATE t SET n = 2;
DROP TRIGGER set_new ON t;
VALUES (llm_classify('x'));
-- in conditions of objects; PostgreSQL itself refuses those that must not change
CREATE TABLE generated (id int PRIMARY KEY, label jsonb GENERATED ALWAYS AS (llm_classify('x')) STORED);
\set VERBOSITY sqlstate
CREATE INDEX ON t ((llm_classify(body)));
\set VERBOSITY default
CREATE INDEX ON t (id) WHERE llm_classify(body) IS NULL;
CREATE TABLE ck (id int PRIMARY KEY, body text CHECK (llm_classify(body) IS NOT NULL));
INSERT INTO ck VALUES (1, 'x');
CREATE TABLE ruled (id int PRIMARY KEY, body text, label jsonb);
CREATE TRIGGER on_answer BEFORE INSERT ON ruled FOR EACH ROW WHEN (llm_classify(new.body) IS NOT NULL) EXECUTE FUNCTION set_new();
INSERT INTO ruled VALUES (1, 'x');
DROP TRIGGER on_answer ON ruled;
CREATE ROLE refuse_role;
GRANT USAGE ON SCHEMA refuse TO refuse_role;
GRANT ALL ON ruled TO refuse_role;
ALTER TABLE ruled ENABLE ROW LEVEL SECURITY;
CREATE POLICY asked ON ruled USING (llm_classify(body) IS NULL);
INSERT INTO ruled VALUES (1, 'x');
SET ROLE refuse_role;
SELECT * FROM ruled;
INSERT INTO ruled VALUES (2, 'x');
UPDATE ruled SET body = 'y';
DELETE FROM ruled;
RESET ROLE;
DROP TABLE ruled;
DROP OWNED BY refuse_role;
DROP ROLE refuse_role;
-- through the ways that statements take
PREPARE refused AS UPDATE t SET label = jsonb_build_array(llm_classify(body), llm_classify(x));
EXECUTE refused;
EXPLAIN EXECUTE refused;
DEALLOCATE refused;
PREPARE refused (text) AS SELECT llm_classify($1);
EXECUTE refused ('x');
DEALLOCATE refused;
EXPLAIN UPDATE t SET x = concat(llm_classify(body), llm_classify('x'));
DO $$ BEGIN UPDATE refuse.t SET x = concat(llm_classify(body), llm_classify('x')); END $$;
DO $$ BEGIN EXECUTE 'UPDATE refuse.t SET x = concat($1, llm_classify(body), llm_classify(body))' USING 'x'; END $$;
DO $$ BEGIN PERFORM llm_classify('x'); END $$;
CREATE FUNCTION body_of() RETURNS void LANGUAGE sql AS $$ UPDATE refuse.t SET x = concat(llm_classify(body), llm_classify('x')) $$;
SELECT body_of();
SELECT 1 \; UPDATE t SET x = 'ä'::text || llm_classify(body)::text || llm_classify('x')::text;
CALL llm.wait(llm_classify('x')::text::bigint);
-- not evaluated at all
SELECT llm_classify(body) FROM t WHERE false;

-- forged calls; what PostgreSQL says of its type "internal" depends on the minor version
CREATE FUNCTION is_refused(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN false;
EXCEPTION WHEN undefined_function OR cannot_coerce OR feature_not_supported THEN
	RETURN true;
END $$;
SELECT statement, is_refused(statement) FROM unnest(ARRAY[
	$$SELECT llm.bind(NULL, NULL, 1)$$,
	$$SELECT llm.bind(NULL::internal, ''::bytea, 1)$$,
	$$SELECT llm.bind('1'::internal, ''::bytea, 1)$$,
	$$SELECT llm.bind(internal_in('1'), ''::bytea, 1)$$,
	$$SELECT llm.bind(magic => NULL, spec => '', VARIADIC row_values => '{1}'::int[])$$,
	$$SELECT llm.issue(NULL::internal, ''::bytea, 'x')$$,
	$$SELECT llm.issue(internal_in('7021806553811'), ''::bytea, 'x')$$,
	$$SELECT llm.keep(NULL::internal, ''::bytea, '{}'::jsonb, '{}'::jsonb, 1)$$,
	$$SELECT llm.seen(NULL, 'h', 'c', false, '{}'::jsonb)$$,
	$$SELECT llm.seen(internal_in('7021806553811'), 'h', 'c', false, '{}'::jsonb)$$,
	$$UPDATE t SET label = llm.issue(NULL::internal, ''::bytea, body)$$,
	$$UPDATE t SET label = llm.keep(7021806553811, ''::bytea, label, label, id)$$]) statement;

-- a marker that RETURNING gives has its task where the call is assigned, and none where it is copied to
CREATE TABLE copy (id int PRIMARY KEY, label jsonb, x text);
WITH u AS (UPDATE t SET label = llm_classify(body) RETURNING id, label) INSERT INTO copy (id, label) SELECT id, label FROM u;
\echo :SQLSTATE
\set VERBOSITY terse
WITH u AS (INSERT INTO t (id, label) VALUES (3, llm_classify('x')) RETURNING id, label::text AS l), v AS (SELECT l || '' AS a, COALESCE(l, '') AS b FROM u)
	UPDATE copy SET x = CASE WHEN id > 1 THEN b END FROM v;
WITH u AS (INSERT INTO t (id, body, label) SELECT id, body, l FROM (SELECT 3 AS id, '' AS body, llm_classify('x') AS l) s
	ON CONFLICT (id) DO UPDATE SET label = excluded.label RETURNING *) MERGE INTO copy USING u ON u.id = copy.id WHEN NOT MATCHED THEN INSERT VALUES (u.id, u.label);
WITH u AS (UPDATE t SET label = llm_classify(body) RETURNING id, label), w AS (INSERT INTO copy SELECT id, (SELECT label FROM u u2 WHERE u2.id = u.id) FROM u) SELECT 1;
WITH u AS (UPDATE t SET label = llm_classify(body) RETURNING id, label) INSERT INTO copy (id, label) SELECT id, CASE WHEN id = 1 THEN llm_classify('a') ELSE label END FROM u;
-- what is no copy of it
BEGIN;
WITH u AS (UPDATE t SET label = llm_classify(body), x = body WHERE id = 1 RETURNING id, label, x)
	INSERT INTO copy (id, label, x) SELECT id, llm_classify(x), (label -> 'llm_enrich' ->> 'status') || x FROM u RETURNING id, llm_status(label), x;
WITH u AS (UPDATE t SET label = llm_classify(body) WHERE id = 2 RETURNING id, label) SELECT id, llm_status(label) FROM u;
SELECT relation::regclass, key, input FROM llm.queue ORDER BY id;
ROLLBACK;
\set VERBOSITY default

-- a column that is used twice on each level of a chain is looked at once
SET statement_timeout = '60s';
\set VERBOSITY terse
CREATE FUNCTION chain(first text, last text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT 'WITH c0 AS MATERIALIZED (SELECT 3 AS id, ' || first || ' AS x)' || string_agg(format(
		', c%s AS MATERIALIZED (SELECT id, CASE WHEN id > %1$s THEN x ELSE x END AS x FROM c%s)', n, n - 1), '' ORDER BY n)
		|| ' INSERT INTO t (id, label) SELECT id, ' || last || ' FROM c60' FROM generate_series(1, 60) n);
END $$;
SELECT chain($$'{}'::jsonb$$, $$concat(x, llm_classify('x'), llm_classify('y'))::jsonb$$);
BEGIN;
SELECT chain($$llm_classify('x')$$, $$x || '{}'$$);
ROLLBACK;
BEGIN;
SELECT chain($$llm_classify('x')$$, 'x');
SELECT input FROM llm.queue;
ROLLBACK;
RESET statement_timeout;
\set VERBOSITY default

-- nothing of all that left anything
SELECT count(*) FROM llm.queue;
SELECT id, label FROM t ORDER BY id;

DROP SCHEMA refuse CASCADE;
DROP FOREIGN DATA WRAPPER refuse_dummy CASCADE;
SELECT llm.drop_model('refuse_model');
DROP SERVER refuse_server;
