--
-- What a statement will cost, before it runs: llm.estimate() and llm_enrich.confirm_above
--
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = notice;
CREATE SERVER estimate_sim FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('estimate', server => 'estimate_sim', model => 'sim-1', is_default => true,
	input_per_mtok => 1, output_per_mtok => 2);
SELECT llm.add_model('estimate_priceless', server => 'estimate_sim', model => 'sim-0');
CREATE TABLE estimate (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb, kind text);
INSERT INTO estimate (body) SELECT 'row ' || i FROM generate_series(1, 20) i;
INSERT INTO estimate (body) VALUES (NULL), (' '), ('row 1'), ('row 1');
CREATE TABLE estimate_log (id int);
CREATE FUNCTION estimate_note() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO estimate_log VALUES (new.id); RETURN new; END $$;
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON estimate FOR EACH ROW EXECUTE FUNCTION estimate_note();
-- figures that depend on bytes of a prompt are not shown
CREATE FUNCTION estimated(statement text) RETURNS TABLE (tasks bigint, calls bigint, is_range boolean, takes boolean)
	LANGUAGE sql VOLATILE AS
	$$ SELECT e.tasks, e.calls, e.cost_low < e.cost_high, e.seconds > 0 AND e.input_tokens > 0 FROM llm.estimate(statement) e $$;
-- NULL is no task, what is blank no call, and twins are asked once
SELECT * FROM estimated($$UPDATE estimate SET label = llm_classify(body, '{a,b}')$$);
SELECT * FROM estimated($$UPDATE estimate SET kind = llm_summarize(body, 10), label = llm_classify(body, '{a,b}') WHERE id <= 5$$);
-- the same question for two columns is one call
SELECT * FROM estimated($$UPDATE estimate SET kind = llm_classify(body, '{a,b}'), label = llm_classify(body, '{a,b}') WHERE id <= 5$$);
SELECT * FROM estimated($$UPDATE estimate e SET label = llm_classify(o.body, '{a,b}') FROM estimate o WHERE o.id = e.id AND o.id <= 3$$);
SELECT * FROM estimated($$INSERT INTO estimate (body, label) SELECT body, llm_classify(body, '{a,b}') FROM estimate$$);
SELECT * FROM estimated($$INSERT INTO estimate (body, label) VALUES ('x', llm_classify('x', '{a,b}')), ('y', llm_classify('y', '{a,b}'))$$);
SELECT * FROM estimated($$INSERT INTO estimate (body, label) VALUES ('x', llm_classify('x', '{a,b}'))$$);
SELECT * FROM estimated($$SELECT llm_classify(body, '{a,b}') FROM estimate LIMIT 7$$);
SELECT * FROM estimated($$SELECT count(*), llm_classify(max(body), '{a,b}') FROM estimate GROUP BY id % 4$$);
SELECT * FROM estimated($$SELECT id FROM estimate WHERE llm_classify(body, '{a,b}') ->> 'label' = 'a'$$);
-- a condition may let all pass, or none
SELECT tasks, calls, cost_low = 0 AS may_be_none FROM
	llm.estimate($$SELECT llm_summarize(body) FROM estimate WHERE llm_classify(body, '{a,b}') ->> 'label' = 'a'$$);
SELECT * FROM estimated($$DELETE FROM estimate WHERE llm_classify(body, '{a,b}') ->> 'label' = 'a'$$);
BEGIN READ ONLY;
SELECT * FROM estimated($$UPDATE estimate SET label = llm_classify(body, '{a,b}') WHERE id = 2$$);
COMMIT;
SELECT * FROM estimated($$SELECT CASE WHEN llm_classify(body, '{a,b}') ->> 'label' = 'a' THEN llm_summarize(body) END FROM estimate$$);
-- what cannot be read without doing it
CREATE FUNCTION estimate_write() RETURNS text LANGUAGE sql VOLATILE AS $$ INSERT INTO estimate_log VALUES (0) RETURNING 'x' $$;
SELECT takes FROM estimated($$UPDATE estimate SET label = llm_classify(estimate_write(), '{a,b}')$$);
SELECT takes FROM estimated($$MERGE INTO estimate e USING estimate o ON o.id = e.id
	WHEN MATCHED THEN UPDATE SET label = llm_classify(o.body, '{a,b}')$$);
CREATE FUNCTION estimate_lies() RETURNS boolean LANGUAGE plpgsql STABLE AS
	$$ BEGIN PERFORM nextval('estimate_id_seq'); RETURN true; END $$;
SELECT * FROM estimated($$UPDATE estimate SET label = llm_classify(body, '{a,b}') WHERE estimate_lies()$$);
-- no price, no figure
SELECT tasks, cost_low, cost_high FROM
	llm.estimate($$UPDATE estimate SET label = llm_classify(body, '{a,b}', model => 'estimate_priceless')$$);
-- statements fail as they would themselves
SELECT * FROM llm.estimate($$UPDATE estimate SET nothing = 1$$);
SELECT * FROM llm.estimate($$UPDATE estimate SET label = llm_classify(body, '{}')$$);
SELECT * FROM llm.estimate($$UPDATE estimate SET label = llm_classify(body, '{a,b}', model => 'nosuch')$$);
SELECT * FROM llm.estimate($$SELECT 1; SELECT 2$$);
SELECT * FROM llm.estimate($$CREATE TABLE x AS SELECT 1$$);
SELECT * FROM llm.estimate($$SELECT body INTO x FROM estimate$$);
SELECT * FROM llm.estimate($$SELECT llm_classify(body, '{a,b}') INTO x FROM estimate$$);
SELECT * FROM llm.estimate($$VACUUM$$);
SELECT * FROM llm.estimate($$SELECT 1$$);
-- with the rights of who asks
CREATE ROLE estimate_other;
GRANT USAGE ON FOREIGN SERVER estimate_sim TO estimate_other;
GRANT SELECT ON estimate TO estimate_other;
SET ROLE estimate_other;
SELECT * FROM llm.estimate($$UPDATE public.estimate SET label = llm_classify(body, '{a,b}')$$);
SELECT tasks FROM llm.estimate($$SELECT llm_classify(body, '{a,b}') FROM public.estimate$$);
RESET ROLE;
REVOKE ALL ON estimate FROM estimate_other;
-- P9: by plan alone, too: statistics are of those who may read the table
SET ROLE estimate_other;
SELECT tasks FROM llm.estimate($$SELECT llm_classify('x', '{a,b}') FROM public.estimate WHERE id = 3 AND random() >= 0$$);
SELECT tasks FROM llm.estimate($$DELETE FROM public.estimate WHERE llm_filter(body, 'old') AND random() >= 0$$);
RESET ROLE;
GRANT SELECT, UPDATE ON estimate TO estimate_other;
ALTER TABLE estimate ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON estimate USING (id <= 4);
SET ROLE estimate_other;
SELECT tasks FROM llm.estimate($$UPDATE public.estimate SET label = llm_classify(body, '{a,b}')$$);
RESET ROLE;
-- rows that a view or row security hides by an answer are not read
CREATE TABLE estimate_hidden (id int, note text);
INSERT INTO estimate_hidden VALUES (1, '7'), (2, 'secret');
CREATE VIEW estimate_plain AS SELECT * FROM estimate_hidden WHERE llm_filter(note, 'public');
CREATE VIEW estimate_barrier WITH (security_barrier) AS SELECT * FROM estimate_hidden WHERE coalesce(llm_filter(note, 'public'), true);
CREATE VIEW estimate_above AS SELECT note FROM (SELECT p.* FROM estimate_plain p) s;
CREATE VIEW estimate_having AS SELECT note FROM estimate_hidden GROUP BY note HAVING llm_filter(note, 'public');
CREATE VIEW estimate_shown AS SELECT id, note, llm_summarize(note) AS gist FROM estimate_hidden WHERE id = 1;
GRANT SELECT, UPDATE ON estimate_plain, estimate_barrier, estimate_above, estimate_having, estimate_shown TO estimate_other;
SET ROLE estimate_other;
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT note::int FROM public.estimate_plain$$);
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT llm_classify((note::int)::text, '{a,b}') FROM public.estimate_barrier$$);
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT note::int FROM public.estimate_above$$);
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT note::int FROM public.estimate_having$$);
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT 1 WHERE EXISTS (SELECT FROM public.estimate_plain WHERE note::int > 0)$$);
SELECT tasks > 0 AS guessed FROM llm.estimate($$UPDATE public.estimate_plain SET id = note::int$$);
SELECT tasks FROM llm.estimate($$SELECT gist, note::int FROM public.estimate_shown$$);
RESET ROLE;
GRANT SELECT, UPDATE ON estimate_hidden TO estimate_other;
ALTER TABLE estimate_hidden ENABLE ROW LEVEL SECURITY;
CREATE POLICY public ON estimate_hidden USING (llm_filter(note, 'public'));
SET ROLE estimate_other;
SELECT tasks > 0 AS guessed FROM llm.estimate($$SELECT note::int FROM public.estimate_hidden$$);
RESET ROLE;
-- nothing is left: no row, number, trigger's effect, lock
BEGIN;
SELECT * FROM estimated($$UPDATE estimate SET label = llm_classify(body, '{a,b}') WHERE id = 1$$);
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('estimate'::regclass, 'llm.recipe_stat'::regclass);
SELECT * FROM llm.estimate($$UPDATE estimate SET nothing = 1$$);
ROLLBACK;
DO $$ BEGIN
	PERFORM * FROM llm.estimate('UPDATE estimate SET nothing = 1');
EXCEPTION WHEN undefined_column THEN
	RAISE NOTICE 'caught, and % rows are there', (SELECT count(*) FROM estimate);
END $$;
SELECT count(*), (SELECT count(*) FROM estimate_log) AS noted, (SELECT last_value FROM estimate_id_seq) AS last,
	(SELECT count(*) FROM llm.queue q WHERE q.relation = 'estimate'::regclass) AS queued FROM estimate;
\set VERBOSITY terse
-- dear statements are queued paused, and so is what has no price
SET llm_enrich.confirm_above = 100;
UPDATE estimate SET label = llm_classify(body, '{a,b}') WHERE id <= 5;
SET llm_enrich.confirm_above = 0.000001;
UPDATE estimate SET label = llm_classify(body, '{a,c}', model => 'estimate_priceless') WHERE id BETWEEN 6 AND 10;
UPDATE estimate SET label = llm_classify(body, '{a,d}', model => 'estimate_priceless') WHERE id = 11;
SET llm_enrich.confirm_above = -1;
SELECT operation, total, state, reason IS NOT NULL AS says_why, estimated_cost FROM llm.job
	WHERE relation_name = 'public.estimate' ORDER BY id;
SELECT llm.resume(job => max(id)) FROM llm.job;
SELECT state, reason FROM llm.job ORDER BY id DESC LIMIT 1;
SELECT llm.cancel('estimate');
SET llm_enrich.confirm_above = -2;
DROP VIEW estimate_plain, estimate_barrier, estimate_above, estimate_having, estimate_shown;
DROP TABLE estimate_hidden;
DROP TABLE estimate, estimate_log;
DROP FUNCTION estimated, estimate_note, estimate_write, estimate_lies;
SELECT llm.drop_model('estimate'), llm.drop_model('estimate_priceless');
DROP SERVER estimate_sim CASCADE;
DROP ROLE estimate_other;
