--
-- A call whose arguments vary from row to row: a recipe and a job for each, and no more
-- memory than what they hold (P10).
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA defer_varied;
SET search_path = defer_varied, public;
CREATE SERVER varied_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('varied_model', server => 'varied_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'varied_model';
DELETE FROM llm.job;

CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 1000) g;
-- while the recipes are written: results that SPI still holds
CREATE TABLE seen (what text, n bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO defer_varied.seen SELECT 'results', count(*) FROM pg_backend_memory_contexts WHERE name = 'SPI TupTable';
	RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT ON llm.recipe FOR EACH ROW WHEN (new.spec ->> 'instructions' LIKE '%00') EXECUTE FUNCTION look();
-- when they are, and the statement is not over: what it remembers
CREATE FUNCTION weigh() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen SELECT 'bytes a row', sum(total_bytes) / 1000 FROM pg_backend_memory_contexts WHERE name LIKE 'llm_enrich%';
	RETURN NULL;
END $$;
CREATE TRIGGER weigh AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION weigh();
UPDATE t SET label = llm_extract(body, '{"type": "object", "properties": {"name": {"type": "string"}}}', instructions => 'Customer ' || id,
	model => 'varied_model', options => jsonb_build_object('tags', jsonb_build_object('customer', id)));
SELECT what, count(*), max(n) < CASE what WHEN 'results' THEN 10 ELSE 4000 END AS bounded FROM seen GROUP BY what ORDER BY what;
SELECT count(*), count(DISTINCT recipe), count(DISTINCT tags), min(model), max(model) FROM llm.job;
SELECT count(*) FROM llm.queue q JOIN llm.recipe r ON r.id = q.recipe JOIN llm.job j ON j.id = q.job
	WHERE r.spec ->> 'instructions' = 'Customer ' || (q.key ->> 'id') AND j.tags ->> 'customer' = q.key ->> 'id' AND q.input = 'text ' || (q.key ->> 'id');

DROP TRIGGER look ON llm.recipe;
DELETE FROM llm.queue;
DELETE FROM llm.job;
DROP SCHEMA defer_varied CASCADE;
SELECT llm.drop_model('varied_model');
DROP SERVER varied_server;
