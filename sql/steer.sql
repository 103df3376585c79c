-- What steers tasks: which ones are meant, and what is refused.
\set VERBOSITY default
SET client_min_messages = notice;
\set SHOW_CONTEXT never
CREATE SERVER steer_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
CREATE USER MAPPING FOR PUBLIC SERVER steer_server OPTIONS (api_key 'k');
SELECT llm.add_model('steer', server => 'steer_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
CREATE TABLE steer (id int PRIMARY KEY, body text, label jsonb, summary jsonb);
INSERT INTO steer SELECT g, 'body ' || g FROM generate_series(1, 8) g;

-- Nothing is remembered yet.
CALL llm.wait();
SELECT llm.last_job();

-- A number is no table; 0 is never all; one of them must be given.
SELECT llm.cancel(42);
CALL llm.wait(42);
SELECT llm.retry(0);
SELECT llm.cancel(job => 0);
SELECT llm.cancel(task => 0);
SELECT llm.retry(job => -1);
CALL llm.wait(job => 0);
CALL llm.wait(job => 123456789);
SET llm_enrich.notices = on;
SELECT llm.cancel(job => 123456789), llm.retry(job => 123456789), llm.discard(job => 123456789), llm.pause(job => 123456789);
RESET llm_enrich.notices;
SELECT llm.cancel();
SELECT llm.retry();
SELECT llm.resume();
SELECT llm.cancel('steer', 'no_such_column');
SELECT llm.resume(job => 123456789);

-- All that are given must hold; the table is what comes first.
UPDATE steer SET label = llm_classify(body, '{a,b}', model => 'steer'), summary = llm_summarize(body, model => 'steer')
	WHERE id <= 4;
SELECT llm.cancel('steer', 'label', task => llm.marker_task(summary)) FROM steer WHERE id = 1;
SELECT llm.cancel('steer', task => llm.marker_task(summary)) FROM steer WHERE id = 1;
SELECT llm.cancel('steer', 'summary', job => llm.last_job());
SELECT llm.cancel(column_name => 'summary');
SELECT llm.cancel('steer');
SELECT llm.cancel('steer');

-- Single rows of a job that others share are their session's.
CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO note VALUES (1, 'one', llm_classify('one', '{a,b}', model => 'steer'));
SELECT llm.last_job() AS shared \gset
\c -
SET client_min_messages = notice;
INSERT INTO note VALUES (2, 'two', llm_classify('two', '{a,b}', model => 'steer'));
INSERT INTO note VALUES (3, 'three', llm_classify('three', '{a,b}', model => 'steer'));
BEGIN;
SAVEPOINT s;
INSERT INTO note VALUES (4, 'four', llm_classify('four', '{a,b}', model => 'steer'));
ROLLBACK TO s;
COMMIT;
SELECT llm.last_job() = :shared AS is_shared;
\set VERBOSITY sqlstate
DO $$ BEGIN PERFORM llm.cancel(job => llm.last_job()); END $$;
\set VERBOSITY terse
SELECT note.id, COALESCE(q.state, 'cancelled') AS state FROM note LEFT JOIN llm.queue q ON q.id = llm.marker_task(label) ORDER BY note.id;
-- Its own are over: those of others stay.
SET client_min_messages = warning;
SELECT llm.cancel(job => :shared);
CALL llm.wait(timeout => '1 min');
\c -
-- A session that has no part in the job means all of it.
SELECT llm.cancel(job => :shared);

-- DISCARD ALL forgets: the next client of a pooler is another one.
UPDATE note SET label = llm_classify(body, '{a,b}', model => 'steer') WHERE id < 3;
SELECT llm.last_job() IS NULL;
DISCARD ALL;
SET client_min_messages = notice;
SELECT llm.last_job() IS NULL;
CALL llm.wait();

-- A statement that finds its question on the way waits for it, too.
UPDATE note SET label = llm_classify(body, '{a,b}', model => 'steer') WHERE id < 3;
\set VERBOSITY sqlstate
CALL llm.wait(timeout => '1 ms');
CALL llm.wait('note', timeout => '1 ms');
CALL llm.wait('note', 'label', timeout => '1 ms');
CALL llm.wait('note', 'body', timeout => '1 ms');
CALL llm.wait('steer', timeout => '1 ms');
SELECT llm.marker_task(label) AS task FROM note WHERE id = 2 \gset
CALL llm.wait(task => :task, timeout => '1 ms');


-- Pauses of servers, models, everything: whose they are.
\set VERBOSITY default
SELECT llm.pause(server => 'steer_server');
SELECT llm.pause(server => 'steer_server');
SELECT llm.pause(model => 'steer');
SELECT llm.pause(everything => true);
SELECT server, model, role, paused_by = current_user AS mine FROM llm.pause ORDER BY id;
SELECT llm.pause(server => 'nowhere');
SELECT llm.pause(server => 'steer_server', everything => true);
SELECT llm.pause();
SELECT llm.alter_job(NULL, 1);
SELECT llm.alter_job(1, priority => 101);
CREATE ROLE steer_role;
GRANT USAGE ON FOREIGN SERVER steer_server TO steer_role;
SET ROLE steer_role;
SELECT llm.pause(server => 'steer_server');
SELECT llm.resume(model => 'steer');
SELECT llm.resume(everything => true);
SELECT llm.pause(everything => true);
RESET ROLE;
SELECT count(*) FILTER (WHERE role = 'steer_role'::regrole) AS own, count(*) FROM llm.pause;
SELECT llm.resume(everything => true), llm.resume(server => 'steer_server'), llm.resume(model => 'steer');
SET ROLE steer_role;
SELECT llm.resume(everything => true);
RESET ROLE;
SELECT count(*) FROM llm.pause;

-- A job: paused, altered, resumed.
SET llm_enrich.confirm_above = 1000;
UPDATE steer SET label = llm_classify(body, '{a,b}', model => 'steer') WHERE id > 4;
RESET llm_enrich.confirm_above;
SELECT llm.last_job() AS job \gset
SELECT llm.pause('steer', job => :job);
SELECT state, reason ~ '^paused by "' AS why FROM llm.job WHERE id = :job;
SELECT llm.alter_job(:job, priority => 5, max_concurrency => 2);
SELECT priority, max_concurrency, model FROM llm.job WHERE id = :job;
SELECT llm.alter_job(:job, max_concurrency => 0);
SELECT priority, max_concurrency, model FROM llm.job WHERE id = :job;
SELECT llm.add_model('steer_dear', server => 'steer_server', model => 'dear', input_per_mtok => 9, output_per_mtok => 9);
SELECT estimated_cost > 0 AS estimated FROM llm.job WHERE id = :job;
SELECT llm.alter_job(:job, model => 'steer_dear');
SELECT model, estimated_cost FROM llm.job WHERE id = :job;
SELECT llm.alter_job(:job, model => 'steer');
SELECT llm.drop_model('steer_dear');
\set VERBOSITY sqlstate
SELECT llm.alter_job(:job, model => 'nothing');
SELECT llm.alter_job(:job, max_concurrency => -1);
SELECT llm.alter_job(0);
SELECT llm.resume('steer', server => 'nowhere');
SELECT llm.resume('steer', model => 'nothing'), llm.resume('steer', server => 'steer_server', model => 'steer');
SELECT llm.pause('steer', model => 'steer'), llm.pause('steer', server => 'steer_server');
SELECT llm.resume('steer');
SELECT llm.resume('steer');
SET ROLE steer_role;
SELECT llm.pause('steer'), llm.pause(job => :job);
SELECT llm.alter_job(:job, priority => 1);
RESET ROLE;
SELECT llm.cancel('steer'), llm.cancel('note') >= 2 AS notes;
CALL llm.wait('steer', timeout => '1 min');

-- Dead letters: a cell that moved on is passed over, the others become one job with what is said.
UPDATE steer SET label = llm_classify(body, '{a,b}', model => 'steer');
SELECT llm.last_job() AS job \gset
BEGIN;
INSERT INTO llm.dead_letter (task, job, recipe, role, relation, relation_name, column_name, key, reason, tries, attempts, input)
	SELECT q.id, q.job, q.recipe, q.role, q.relation, j.relation_name, j.column_name, q.key, 'refused', 1, 1, q.input
	FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE j.id = :job;
DELETE FROM llm.queue WHERE job = :job;
UPDATE llm.job SET state = 'finished', failed = total WHERE id = :job;
COMMIT;
UPDATE steer SET label = '{"label": "by hand"}' WHERE id = 1;
DELETE FROM steer WHERE id = 2;
\set VERBOSITY default
SET llm_enrich.notices = on;
SELECT llm.retry('steer', 'label', reason => '{too_long}');
RESET llm_enrich.notices;
\set VERBOSITY sqlstate
SELECT llm.retry('steer', 'label', task => llm.marker_task(label), reason => '{refused}', instructions => 'be brief')
	FROM steer WHERE id = 3;
SELECT r.spec FROM llm.job j JOIN llm.recipe r ON r.id = j.recipe WHERE j.id = llm.last_job();
-- its job was deleted meanwhile, and a setting is carried that was not then
DELETE FROM llm.job WHERE id = :job;
SET llm_enrich.carry_settings = 'steer.tenant';
SET steer.tenant = '7';
SELECT llm.retry('steer', model => 'steer');
SELECT total, relation_name, column_name, key_columns, operation, model, settings FROM llm.job WHERE id = llm.last_job();
SELECT key, state FROM llm.queue WHERE job = llm.last_job() ORDER BY id;
SELECT count(*) FROM llm.dead_letter WHERE relation = 'steer'::regclass;
SELECT llm.retry('steer', instructions => ' ');
DROP OWNED BY steer_role;
DROP ROLE steer_role;

DELETE FROM llm.queue;
DROP TABLE steer, note;
SELECT llm.drop_model('steer');
DROP SERVER steer_server CASCADE;
