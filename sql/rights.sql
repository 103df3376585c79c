--
-- The right to store an answer: asked for when its question is queued, so that nobody pays
-- for what cannot be written (P9).
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA rights;
SET search_path = rights, public;
CREATE SERVER rights_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('rights_model', server => 'rights_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'rights_model';
CREATE ROLE rights_owner;
CREATE ROLE "rights user";
GRANT USAGE ON SCHEMA rights TO rights_owner, "rights user";
GRANT USAGE ON FOREIGN SERVER rights_server TO rights_owner, "rights user";
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job;'
DELETE FROM llm.job;

-- INSERT alone does not store an answer
CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, "The Answer" jsonb);
GRANT SELECT, INSERT ON t TO "rights user";
SET ROLE "rights user";
INSERT INTO t VALUES (1, 'b', llm_classify('insert'));
\echo :SQLSTATE
INSERT INTO t VALUES (1, 'b', NULL, llm_classify('insert'));
\set VERBOSITY terse
MERGE INTO t USING (VALUES (1)) s(id) ON s.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'm', llm_classify('merge'));
WITH w AS (INSERT INTO t VALUES (1, 'b', llm_classify('with')) RETURNING id) SELECT id FROM w;
INSERT INTO t SELECT g, 'b', llm_classify('conflict') FROM generate_series(1, 2) g ON CONFLICT (id) DO NOTHING;
-- where nothing is asked, nothing is wrong
INSERT INTO t VALUES (1, 'b', llm_classify(NULL));
INSERT INTO t SELECT 2, 'b', llm_classify('no row') WHERE false;
INSERT INTO t VALUES (1, 'b', llm_classify('conflict')) ON CONFLICT (id) DO NOTHING;
SELECT id, label FROM t;
RESET ROLE;
SELECT count(*) FROM llm.queue;

-- a plan that was made before the right was given, and taken: what counts is now
GRANT UPDATE (label) ON t TO "rights user";
SET ROLE "rights user";
PREPARE p AS INSERT INTO t VALUES ($1, 'b', llm_classify('prepared'));
EXECUTE p(10);
RESET ROLE;
REVOKE UPDATE (label) ON t FROM "rights user";
SET ROLE "rights user";
EXECUTE p(11);
RESET ROLE;
GRANT UPDATE (label) ON t TO "rights user";
SET ROLE "rights user";
EXECUTE p(12);
-- of that column alone
INSERT INTO t VALUES (13, 'b', llm_classify('one'), llm_classify('other'));
MERGE INTO t USING (VALUES (14)) s(id) ON s.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'm', llm_classify('merge'));
RESET ROLE;
SELECT key, input, role::regrole FROM llm.queue ORDER BY id;
:forget
-- a trigger moves the marker to a column that the role may not update
CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new."The Answer" := new.label; new.label := NULL; RETURN new; END $$;
CREATE TRIGGER move BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION move();
SET ROLE "rights user";
INSERT INTO t VALUES (15, 'b', llm_classify('moved'));
RESET ROLE;
DROP TRIGGER move ON t;
-- SECURITY DEFINER: the answer is the definer's, and so is the right
CREATE FUNCTION ask(id int) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = rights, public
	AS $$ INSERT INTO t VALUES (id, 'b', llm_classify('definer')) $$;
ALTER FUNCTION ask(int) OWNER TO rights_owner;
GRANT INSERT ON t TO rights_owner;
SET ROLE "rights user";
SELECT ask(16);
RESET ROLE;
GRANT UPDATE ON t TO rights_owner;
SET ROLE "rights user";
SELECT ask(16);
RESET ROLE;
SELECT key, role::regrole FROM llm.queue;
:forget

-- views: who writes through them, and as whom below
CREATE TABLE base (id int PRIMARY KEY, body text, label jsonb);
CREATE VIEW v AS SELECT label AS answer, id AS nr FROM base WHERE body IS NOT NULL;
ALTER VIEW v OWNER TO rights_owner;
CREATE VIEW mine WITH (security_invoker) AS SELECT answer, nr AS id FROM v;
GRANT INSERT ON v, mine TO "rights user";
GRANT INSERT, SELECT ON base TO rights_owner;
ALTER TABLE base ALTER body SET DEFAULT 'b';
\set VERBOSITY default
SET ROLE "rights user";
INSERT INTO mine VALUES (llm_classify('view'), 1);
RESET ROLE;
GRANT UPDATE (answer) ON mine TO "rights user";
SET ROLE "rights user";
INSERT INTO mine VALUES (llm_classify('view'), 1);
RESET ROLE;
GRANT UPDATE ON v TO "rights user";
SET ROLE "rights user";
INSERT INTO mine VALUES (llm_classify('view'), 1);
RESET ROLE;
GRANT SELECT ON v TO "rights user";
SET ROLE "rights user";
INSERT INTO mine VALUES (llm_classify('view'), 1);
RESET ROLE;
GRANT UPDATE (label) ON base TO rights_owner;
SET ROLE "rights user";
INSERT INTO mine VALUES (llm_classify('view'), 1);
RESET ROLE;
SELECT q.key, q.role::regrole, j.relation_name, j.column_name FROM llm.queue q JOIN llm.job j ON j.id = q.job;
:forget

-- what says whose it is shows others' to nobody, also by the name of a partition
SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'role'
WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity ORDER BY c.relname;

-- what a host has refused may quote what was asked: it is shown to the server's owner and to llm_admin
ALTER SERVER rights_server OWNER TO rights_owner;
INSERT INTO llm.habit (server, model, name, value, why) VALUES ('rights_server', 'm', 'answer_form', 'json_object', 'no label "ill"');
SET ROLE "rights user";
SELECT count(*) FROM llm.habit;
SELECT count(*) FROM llm.health WHERE kind = 'habit';
SET ROLE rights_owner;
SELECT count(*) FROM llm.habit;
RESET ROLE;
DELETE FROM llm.habit;
ALTER SERVER rights_server OWNER TO CURRENT_USER;

-- where no task is, nothing is locked, nor written
SELECT place, llm.lock_task(place) FROM unnest('{"(0,0)","(0,60000)","(4294967294,7)","(4294967295,65535)"}'::tid[]) place;

DROP SCHEMA rights CASCADE;
SELECT llm.drop_model('rights_model');
DROP SERVER rights_server;
DROP ROLE rights_owner, "rights user";
