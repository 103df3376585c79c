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
UPDATE t SET label = jsonb_build_object('a', llm_classify(body));
\echo :SQLSTATE
UPDATE t SET x = llm_classify(body) ->> 'label';
UPDATE t SET x = 'answer: ' || llm_classify(body)::text;
UPDATE t SET label = llm_classify(body) || '{"a": 1}';
UPDATE t SET label = NULLIF(llm_classify(body), '{}');
UPDATE t SET x = GREATEST(llm_classify(body)::text, 'x');
UPDATE t SET x = llm_classify(body)::varchar(20);
UPDATE t SET label['a'] = llm_classify(body);
UPDATE t SET parts[1] = llm_classify(body);
UPDATE t SET parts = ARRAY[llm_classify(body)];
UPDATE t SET label = to_jsonb(s) FROM (SELECT llm_classify('x') AS l) s;
UPDATE t SET label = s.l -> 'a' FROM (SELECT llm_classify('x') AS l) s;
UPDATE t SET label = (SELECT jsonb_agg(llm_classify(body)) FROM t);
UPDATE t SET x = ARRAY(SELECT llm_classify(body) FROM t)::text;
UPDATE t SET label = (SELECT first_value(llm_classify(o.body)) OVER () FROM t o LIMIT 1);
INSERT INTO t (id, label) VALUES (3, jsonb_strip_nulls(llm_classify('x'))), (4, NULL);
INSERT INTO t (id, label) SELECT 3, max(llm_classify(body)::text)::jsonb FROM t;
INSERT INTO t (id, label) VALUES (1, llm_classify('x')) ON CONFLICT (id) DO UPDATE SET label = t.label || excluded.label;
MERGE INTO t USING (SELECT 1 AS id, llm_classify('x') AS l) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET label = s.l -> 'a';
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
INSERT INTO t (id, label) SELECT 20, llm_classify('x') UNION SELECT 21, NULL;
INSERT INTO t (id, label) SELECT 20, llm_classify('x') LIMIT length(llm_classify('x')::text);
INSERT INTO t (id, label) SELECT 20, f FROM jsonb_array_elements(llm_classify('x')) f;
INSERT INTO t (id, label) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET n = 1 WHERE llm_classify('x') IS NULL;
MERGE INTO t USING (VALUES (1)) s(id) ON t.id = s.id WHEN MATCHED AND llm_classify('x') IS NULL THEN DELETE;

-- columns that cannot hold a marker
UPDATE t SET short = llm_classify(body);
UPDATE t SET one = llm_classify(body)::text::"char";
UPDATE t SET nm = llm_classify(body);
UPDATE t SET n = (llm_classify(body) ->> 'n')::int;
CREATE TABLE c80 (id int PRIMARY KEY, c char(80));
INSERT INTO c80 VALUES (1, llm_classify('x'));
CREATE DOMAIN short_domain AS varchar(100);
CREATE TABLE d (id int PRIMARY KEY, c short_domain);
INSERT INTO d VALUES (1, llm_classify('x'));

-- relations whose rows could not be found again
CREATE TABLE nokey (id int, label jsonb);
INSERT INTO nokey VALUES (1, llm_classify('x'));
CREATE TABLE halfkey (a int UNIQUE, b int NOT NULL, c int NOT NULL UNIQUE DEFERRABLE, label jsonb);
CREATE UNIQUE INDEX ON halfkey (b) WHERE b > 0;
UPDATE halfkey SET label = llm_classify('x');
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

-- evaluated outside INSERT, UPDATE and MERGE
SELECT llm_classify('x');
\echo :SQLSTATE
SELECT llm_summarize(body) FROM t;
SELECT llm_extract('x', '{}'), llm_complete('x');
CREATE TABLE ctas AS SELECT llm_classify('x') AS l;
SELECT llm_classify('x') INTO ctas;
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
CALL llm.wait(llm_classify('x')::text::bigint);
-- not evaluated at all
SELECT llm_classify(body) FROM t WHERE false;

-- forged calls
SELECT llm.bind(NULL, NULL, 1);
SELECT llm.bind(NULL::internal, ''::bytea, 1);
SELECT llm.bind('1'::internal, ''::bytea, 1);
SELECT llm.issue(NULL::internal, ''::bytea, 'x');
SELECT llm.keep(NULL::internal, ''::bytea, '{}'::jsonb, '{}'::jsonb, 1);
UPDATE t SET label = llm.keep(7021806553811, ''::bytea, label, label, id);

-- nothing of all that left anything
SELECT count(*) FROM llm.queue;
SELECT id, label FROM t ORDER BY id;

DROP SCHEMA refuse CASCADE;
DROP FOREIGN DATA WRAPPER refuse_dummy CASCADE;
SELECT llm.drop_model('refuse_model');
DROP SERVER refuse_server;
