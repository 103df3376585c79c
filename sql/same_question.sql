--
-- The same question is asked once: rows of a statement whose input an earlier row had,
-- at the same call site, wait for the answer of that one (P1, P3, P5).
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA same_question;
SET search_path = same_question, public;
SET default_toast_compression = pglz; -- the default of 19 is another one
SET enable_nestloop = off; -- statistics of llm.queue are of any moment
CREATE SERVER same_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('same_model', server => 'same_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'same_model';

-- each task by its key, and the key of the task that it follows; what must never be, as "broken"
CREATE VIEW asked AS SELECT j.column_name, q.key ->> 'id' AS id, q.state, q.reason, q.not_before, q.outcome,
	l.key ->> 'id' AS same_as, q.input
	FROM llm.queue q JOIN llm.job j ON j.id = q.job LEFT JOIN llm.queue l ON l.id = q.same_as
	ORDER BY j.column_name, q.key, q.id;
CREATE VIEW broken AS SELECT q.id FROM llm.queue q LEFT JOIN llm.queue l ON l.id = q.same_as
	WHERE q.same_as IS NOT NULL AND (l.id IS NULL OR l.same_as IS NOT NULL OR l.state <> 'ready' OR q.state <> 'waiting'
		OR (q.job, q.role, q.recipe, q.input) IS DISTINCT FROM (l.job, l.role, l.recipe, l.input));
CREATE VIEW tally AS SELECT count(*) FILTER (WHERE state = 'ready') AS leaders,
	count(*) FILTER (WHERE state = 'waiting') AS followers, (SELECT count(*) FROM broken) AS broken FROM llm.queue;
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job;'
:forget

-- P3: one leader for each text, its followers wait, every cell has a marker of its own
CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb, second jsonb);
INSERT INTO note (id, body) VALUES (1, 'a'), (2, 'b'), (3, 'a'), (4, 'a '), (5, 'b'), (6, 'a'), (7, NULL), (8, ' '), (9, 'A');
UPDATE note SET label = llm_classify(body, '{x,y}');
SELECT * FROM asked;
SELECT count(DISTINCT llm.marker_task(label)) AS markers, count(*) FILTER (WHERE llm_is_pending(label)) AS pending FROM note;
SELECT * FROM tally;
SELECT total FROM llm.job;

-- what is asked again of a cell that waits for the same answer is not queued again
UPDATE note SET label = llm_classify(body, '{x,y}');
SELECT * FROM tally;
:forget

-- two columns of one UPDATE are two call sites, and two statements are two
UPDATE note SET label = llm_classify(body, '{x,y}'), second = llm_classify(body, '{x,y}') WHERE id IN (1, 3);
SELECT column_name, id, state, same_as FROM asked;
:forget
UPDATE note SET label = NULL, second = NULL;
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (1, 3);
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (6, 9);
SELECT column_name, id, state, same_as FROM asked;
:forget

-- arguments that differ make another question
UPDATE note SET label = NULL;
UPDATE note SET label = llm_classify(body, CASE WHEN id < 4 THEN '{x,y}'::text[] ELSE '{p,q}' END) WHERE body IN ('a', 'b');
SELECT id, state, same_as, input FROM asked;
:forget

-- a call with a temperature wants as many answers as rows; 0 is none
UPDATE note SET label = NULL;
UPDATE note SET label = llm_classify(body, '{x,y}', options => '{"temperature": 0.7}') WHERE body = 'a';
SELECT id, state, same_as FROM asked;
:forget
UPDATE note SET label = llm_classify(body, '{x,y}', options => '{"temperature": 0}') WHERE body = 'a';
SELECT id, state, same_as FROM asked;
:forget

-- P1: what a savepoint took back is followed by nobody, within the statement nor after it
UPDATE note SET label = NULL;
BEGIN;
SAVEPOINT s;
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (1, 3);
ROLLBACK TO s;
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (3, 6);
COMMIT;
SELECT id, state, same_as FROM asked;
:forget
CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		UPDATE same_question.note SET second = llm_classify(body, '{x,y}') WHERE id IN (1, 3);
		RAISE EXCEPTION 'undone';
	EXCEPTION WHEN raise_exception THEN
		UPDATE same_question.note SET second = llm_classify(body, '{x,y}') WHERE id IN (3, 6);
	END;
	RETURN NEW;
END $$;
CREATE TABLE cause (id int PRIMARY KEY, body text, label jsonb);
CREATE TRIGGER undo BEFORE INSERT ON cause FOR EACH ROW EXECUTE FUNCTION undo();
INSERT INTO cause SELECT i, 'a', llm_classify('a', '{x,y}') FROM generate_series(1, 1) i;
SELECT column_name, id, state, same_as FROM asked;
:forget
UPDATE note SET second = NULL;

-- P1: a row that was not stored is followed by nobody: suppressed, in conflict, cut off by LIMIT
DROP TRIGGER undo ON cause;
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.id = 11 THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER suppress BEFORE INSERT ON cause FOR EACH ROW EXECUTE FUNCTION suppress();
INSERT INTO cause SELECT i, 'a', llm_classify('a', '{x,y}') FROM unnest('{11,1,12,13}'::int[]) i ON CONFLICT DO NOTHING;
SELECT id, state, same_as FROM asked;
:forget
INSERT INTO cause SELECT * FROM (SELECT i, 't', llm_classify('t', '{x,y}') FROM generate_series(20, 29) i ORDER BY i DESC LIMIT 3) s;
SELECT id, state, same_as FROM asked;
:forget

-- one marker for many rows: each has its task, one is asked
INSERT INTO cause SELECT i, 't', (SELECT llm_classify('t', '{x,y}')) FROM generate_series(30, 33) i;
SELECT id, state, same_as FROM asked;
:forget

-- each role asks for itself
CREATE ROLE same_role;
GRANT USAGE ON SCHEMA same_question TO same_role;
GRANT ALL ON note TO same_role;
GRANT USAGE ON FOREIGN SERVER same_server TO same_role;
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (1, 3);
SET ROLE same_role;
UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id IN (6);
RESET ROLE;
SELECT id, state, same_as FROM asked;
:forget

-- partitions, and a text that one table keeps compressed, the other not
CREATE TABLE part (id int, body text, label jsonb, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (20);
ALTER TABLE part2 ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO part SELECT i, repeat('long text ', 400) FROM unnest('{1,2,11,12}'::int[]) i;
SELECT id, pg_column_compression(body) IS NOT NULL AS compressed FROM part ORDER BY id;
UPDATE part SET label = llm_classify(body, '{x,y}');
SELECT a.id, a.state, a.same_as, md5(a.input) = md5(p.body) AS input FROM asked a JOIN part p ON p.id = a.id::int;
SELECT * FROM tally;
:forget

-- the same of long texts, more than are written at a time: who is first, and who comes near or is the same later
CREATE TABLE long (id int, body text, label jsonb, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE long0 PARTITION OF long FOR VALUES FROM (-10) TO (0);
CREATE TABLE long1 PARTITION OF long FOR VALUES FROM (0) TO (10000);
CREATE TABLE long2 PARTITION OF long FOR VALUES FROM (10000) TO (20000);
CREATE TABLE long3 PARTITION OF long FOR VALUES FROM (20000) TO (30000);
ALTER TABLE long0 ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE long2 ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE FUNCTION long_text(i int, tail text DEFAULT 'end') RETURNS text LANGUAGE sql RETURN lpad(i::text, 6) || repeat(' words', 400) || tail;
INSERT INTO long SELECT i, long_text(i) FROM generate_series(-9, 5999) i;
INSERT INTO long SELECT 10000 + i, long_text(n) FROM unnest('{3, 4, 5200, 70001, 70001}'::int[]) WITH ORDINALITY AS u(n, i);
INSERT INTO long SELECT 20000 + i, long_text(n, tail) FROM unnest('{-9, -8, 3, 5, 5, 6, 6, 7, 8, 70001, 70002, 70002}'::int[],
	'{end, END, end, end, end, END, end, END, "end ", end, end, end}'::text[]) WITH ORDINALITY AS u(n, tail, i);
INSERT INTO long VALUES (29998, repeat(' ', 3000)), (29999, repeat(' ', 3000) || 'word');
SELECT tableoid::regclass AS relation, pg_column_compression(body) AS compression, count(*) FROM long GROUP BY 1, 2 ORDER BY 1;
UPDATE long SET label = llm_classify(body, '{x,y}');
SELECT count(*) - count(DISTINCT body) AS repeats, count(DISTINCT body) AS texts FROM long WHERE id <> 29998;
SELECT * FROM tally;
SELECT bool_and(f.input = l.input) AS same, bool_and((f.key->>'id')::int > (l.key->>'id')::int) AS later
	FROM llm.queue f JOIN llm.queue l ON l.id = f.same_as;
SELECT (key->>'id')::int AS id FROM llm.queue WHERE same_as IS NOT NULL ORDER BY 1;
SELECT id, label #>> '{llm_enrich,error}' AS error FROM long WHERE id >= 29998 ORDER BY 1;
:forget
UPDATE long SET label = NULL;
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
UPDATE long SET label = llm_classify(body, '{x,y}');
SELECT bool_and(f.input = l.input) AS same, count(*) FROM llm.queue f JOIN llm.queue l ON l.id = f.same_as;
RESET work_mem;
RESET hash_mem_multiplier;
:forget

-- one beginning of many lengths
CREATE TABLE alike (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO alike SELECT i, repeat('as all others are ', 120 + i % 2000) FROM generate_series(1, 6000) i;
UPDATE alike SET label = llm_classify(body, '{x,y}');
SELECT * FROM tally;
:forget

-- what a superuser adds to the queue holds, or is refused by name; a trigger is not run
UPDATE note SET label = NULL;
\set ask 'UPDATE note SET label = llm_classify(body, ''{x,y}'') WHERE id = 1'
\set VERBOSITY terse
BEGIN;
SAVEPOINT start;
ALTER TABLE llm.queue ADD CONSTRAINT brief CHECK (length(input) > 1000);
:ask;
ROLLBACK TO start;
ALTER TABLE llm.queue ADD CONSTRAINT here CHECK (tableoid = 'llm.queue'::regclass);
:ask;
SELECT count(*) FROM llm.queue;
ROLLBACK TO start;
ALTER TABLE llm.queue ADD tenant int NOT NULL;
:ask;
ROLLBACK TO start;
CREATE DOMAIN llm.more AS int DEFAULT 7 CHECK (VALUE > 6);
ALTER TABLE llm.queue ADD more llm.more;
:ask;
ROLLBACK TO start;
ALTER TABLE llm.queue ADD number bigint GENERATED ALWAYS AS IDENTITY;
:ask;
SELECT number FROM llm.queue;
ROLLBACK TO start;
ALTER TABLE llm.queue ADD twice bigint GENERATED ALWAYS AS (job * 2) STORED;
:ask;
ROLLBACK TO start;
DROP VIEW asked, broken, tally;
ALTER TABLE llm.queue ALTER input TYPE varchar;
:ask;
ROLLBACK;
\set VERBOSITY default

-- P10: memory does not grow with the rows of a statement, and what is remembered of their
-- texts not beyond what a hash table may have; beyond it they are asked one by one
CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb, memory bigint);
INSERT INTO many SELECT i, 'text number ' || i % 45000 FROM generate_series(1, 90000) i;
CREATE FUNCTION memory(id int) RETURNS bigint LANGUAGE sql VOLATILE RETURN CASE WHEN id IN (37500, 87500)
	THEN (SELECT sum(used_bytes) FROM pg_catalog.pg_backend_memory_contexts) END;
SET work_mem = '256kB';
SET hash_mem_multiplier = 1;
UPDATE many SET label = llm_classify(body, '{x,y}'), memory = memory(id);
SELECT max(memory) FILTER (WHERE id = 87500) < max(memory) FILTER (WHERE id = 37500) + 500000 AS bounded FROM many;
SELECT * FROM tally;
RESET work_mem;
RESET hash_mem_multiplier;
:forget
UPDATE many SET label = NULL;
UPDATE many SET label = llm_classify(body, '{x,y}');
SELECT * FROM tally;
:forget

DROP OWNED BY same_role;
DROP ROLE same_role;
DROP SCHEMA same_question CASCADE;
SELECT llm.drop_model('same_model');
DROP SERVER same_server;
