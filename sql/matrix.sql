--
-- Each function, into columns of each kind, by each way of storing (P1): either exactly the tasks
-- of its rows are queued, with their inputs, or the statement is refused in these words.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA matrix;
SET search_path = matrix, public;
CREATE SERVER matrix_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('matrix_model', server => 'matrix_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'matrix_model';
DELETE FROM llm.queue;
DELETE FROM llm.job;

CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN some_jsonb AS jsonb;
CREATE DOMAIN some_text AS text CHECK (VALUE <> '');
CREATE DOMAIN some_bool AS boolean;
CREATE DOMAIN some_float AS double precision;
CREATE DOMAIN some_reals AS real[];
CREATE TABLE src (id int PRIMARY KEY, body text);
INSERT INTO src VALUES (1, 'one'), (2, 'two');

-- ~ is the input, @ the call
CREATE TABLE call (n serial, function text, call text);
INSERT INTO call (function, call) VALUES ('classify', 'llm_classify(~, ''{good,bad}'')'), ('extract', 'llm_extract(~, ''{"a": "text"}'')'),
	('summarize', 'llm_summarize(~, 10)'), ('complete', 'llm_complete(~)'), ('filter', 'llm_filter(~, ''is it good?'')'),
	('score', 'llm_score(~, ''good'')'), ('sentiment', 'llm_sentiment(~)'), ('translate', 'llm_translate(~, ''French'')'),
	('redact', 'llm_redact(~)'), ('embed', 'llm_embed(~)');
CREATE TABLE form (n serial, function text, type text, around text DEFAULT '@');
INSERT INTO form (function, type) SELECT function, type FROM call, unnest('{jsonb,text}'::text[]) type;
INSERT INTO form (function, type) SELECT function, 'some_jsonb' FROM call WHERE function IN ('classify', 'extract', 'summarize', 'complete', 'sentiment');
INSERT INTO form (function, type) VALUES ('filter', 'boolean'), ('filter', 'some_bool'), ('score', 'float8'), ('score', 'some_float'),
	('translate', 'some_text'), ('redact', 'varchar(9)'), ('redact', 'some_text'), ('embed', 'real[]'), ('embed', 'some_reals'), ('classify', 'some_text'),
	('score', 'numeric(4,2)'), ('embed', 'float8[]'), ('filter', 'mood'), ('classify', 'mood');
INSERT INTO form (function, type, around) VALUES ('classify', 'text', '@->>''label'''), ('classify', 'mood', '(@->>''label'')::mood'),
	('classify', 'text[]', 'ARRAY[@->>''label'']'), ('classify', 'text[]', 'llm.labels(@)'), ('classify', 'some_text', 'concat(''is '', @->>''label'')'), ('classify', 'jsonb', '@->''label'''),
	('extract', 'text', '@->>''a'''), ('extract', 'date', '(@->>''a'')::date'), ('summarize', 'text', 'upper(@->>''summary'')'),
	('filter', 'boolean', 'NOT @'), ('filter', 'int', '@::int'), ('filter', 'text', 'CASE WHEN @ THEN ''yes'' END'), ('score', 'int', 'round(@ * 100)'),
	('score', 'boolean', '@ > 0.5'), ('sentiment', 'mood', '(@->>''sentiment'')::mood'), ('translate', 'text', 'left(@, 3)'), ('translate', 'jsonb', 'to_jsonb(@)'),
	('redact', 'text', '@ || ''!'''), ('embed', 'real', '(@)[1]'), ('embed', 'text', '@::text');

-- the ways, with the tasks that each queues: key and input
CREATE TABLE way (n serial, way text, statements text[], tasks text);
INSERT INTO way (way, statements, tasks) VALUES
	('update', ARRAY['UPDATE m SET c = {body}'], '1 one, 2 two'),
	('insert', ARRAY['INSERT INTO m VALUES (3, ''three'', {''three''})'], '3 three'),
	('upsert', ARRAY['INSERT INTO m VALUES (1, ''uno'', {''uno''}), (3, ''three'', {''three''}) ON CONFLICT (id) DO UPDATE SET body = excluded.body, c = excluded.c'], '1 uno, 3 three'),
	('merge', ARRAY['MERGE INTO m USING (VALUES (1, ''uno''), (3, ''three'')) s(id, body) ON s.id = m.id WHEN MATCHED THEN UPDATE SET c = {s.body} WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.body, {s.body})'], '1 uno, 3 three'),
	('prepared', ARRAY['PREPARE p(int, text) AS UPDATE m SET c = {$2} WHERE id = $1', 'EXECUTE p(1, ''uno'')', 'EXECUTE p(2, ''due'')', 'DEALLOCATE p'], '1 uno, 2 due'),
	('plpgsql', ARRAY['DO $do$ DECLARE r record; BEGIN FOR r IN SELECT id, body FROM src LOOP UPDATE m SET c = {r.body} WHERE id = r.id; END LOOP; END $do$'], '1 one, 2 two'),
	('join', ARRAY['INSERT INTO m SELECT a.id + 10, a.body, {a.body} FROM src a JOIN src b ON b.id = a.id'], '11 one, 12 two'),
	('values', ARRAY['INSERT INTO m SELECT v.* FROM (VALUES (3, ''three'', {''three''}), (4, ''four'', {''four''})) v'], '3 three, 4 four'),
	('rows', ARRAY['INSERT INTO m VALUES (3, ''three'', {''three''}), (4, ''four'', NULL), (5, ''five'', CASE WHEN true THEN {''five''} END)'], '3 three, 5 five'),
	('from', ARRAY['UPDATE m SET c = s.c FROM (SELECT id, {body} AS c FROM src) s WHERE s.id = m.id'], '1 one, 2 two'),
	('with', ARRAY['WITH s AS (SELECT id, {body} AS c FROM src) INSERT INTO m SELECT id + 10, ''x'', c FROM s'], '11 one, 12 two'),
	('subselect', ARRAY['UPDATE m SET c = (SELECT {''once''})'], '1 once, 2 once');

-- ok, or the words; nothing of it stays
CREATE FUNCTION try(way way, expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	statement text;
	found text;
	detail text;
BEGIN
	FOREACH statement IN ARRAY way.statements LOOP
		EXECUTE regexp_replace(statement, '{([^}]*)}', replace(expression, '~', '\1'), 'g');
	END LOOP;
	SELECT string_agg((key->>'id') || ' ' || input, ', ' ORDER BY (key->>'id')::int) INTO found FROM llm.queue;
	RAISE SQLSTATE 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
	RETURN CASE WHEN found = way.tasks THEN 'ok' ELSE 'queued: ' || coalesce(found, 'nothing') END;
WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	IF EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'p') THEN
		DEALLOCATE p;
	END IF;
	RETURN SQLERRM || CASE WHEN detail <> '' THEN ' - ' || detail ELSE '' END;
END $$;
CREATE FUNCTION try(form form, call text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	way way;
BEGIN
	EXECUTE format('CREATE TABLE m (id int PRIMARY KEY, body text, c %s)', form.type);
	INSERT INTO m (id, body) SELECT id, body FROM src;
	FOR way IN SELECT * FROM way ORDER BY n LOOP
		RETURN NEXT try(way, replace(form.around, '@', call));
	END LOOP;
	DROP TABLE m;
END $$;

CREATE TABLE result AS
	SELECT f.n, f.function, f.type, f.around, w.way, t.result
	FROM form f JOIN call c USING (function), try(f, c.call) WITH ORDINALITY t(result, n) JOIN way w USING (n);
CREATE TABLE words AS
	SELECT chr(96 + row_number() OVER (ORDER BY min(n), result)::int) AS mark, result FROM result WHERE result <> 'ok' GROUP BY result;

\pset linestyle old-ascii
SELECT function, type, around,
	max(mark) FILTER (WHERE way = 'update') AS "update", max(mark) FILTER (WHERE way = 'insert') AS "insert", max(mark) FILTER (WHERE way = 'upsert') AS upsert,
	max(mark) FILTER (WHERE way = 'merge') AS merge, max(mark) FILTER (WHERE way = 'prepared') AS prepared, max(mark) FILTER (WHERE way = 'plpgsql') AS plpgsql,
	max(mark) FILTER (WHERE way = 'join') AS "join", max(mark) FILTER (WHERE way = 'values') AS "values", max(mark) FILTER (WHERE way = 'rows') AS "rows", max(mark) FILTER (WHERE way = 'from') AS "from",
	max(mark) FILTER (WHERE way = 'with') AS "with", max(mark) FILTER (WHERE way = 'subselect') AS subselect
FROM (SELECT r.*, coalesce(w.mark, 'ok') AS mark FROM result r LEFT JOIN words w USING (result)) r
JOIN call c USING (function) GROUP BY c.n, function, r.n, type, around ORDER BY c.n, r.n;
-- what the letters say
SELECT mark || ': ' || result AS words FROM words ORDER BY mark;
SELECT count(*) FROM llm.queue;

-- rows with different expressions, and some without a call: each keeps its own
CREATE FUNCTION tasks() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT (q.key->>'id') || ' ' || q.input || ': ' || r.operation || ' ' || coalesce(j.cell->>'expression', '$1')
		FROM llm.queue q JOIN llm.job j ON j.id = q.job JOIN llm.recipe r ON r.id = j.recipe ORDER BY (q.key->>'id')::int;
	DELETE FROM llm.queue;
	DELETE FROM llm.job;
END $$;
CREATE TABLE m (id int PRIMARY KEY, body text, c text, j jsonb, f float8);
INSERT INTO m (id, body, c) VALUES (1, 'one', llm_classify('one', '{good,bad}')->>'label'),
	(2, 'two', upper(llm_classify('two', '{good,bad}')->>'label')), (3, 'three', llm_translate('three', 'French')), (4, 'four', NULL),
	(5, 'five', 'x'), (6, 'six', CASE WHEN 1 > 2 THEN llm_translate('six', 'French') ELSE 'y' END);
SELECT tasks();
INSERT INTO m (id, j, f) VALUES (11, llm_classify('one', '{good,bad}'), llm_score('one', 'good')), (12, NULL, 2 * llm_score('two', 'good')),
	(13, '{"x": 1}', 0), (14, llm_classify('four', '{good,bad}')->'label', llm_score('four', 'good') + 1);
SELECT tasks();
INSERT INTO m (id, c) SELECT 21, llm_translate('one', 'French') UNION ALL SELECT 22, llm_translate('two', 'French') || '!' UNION ALL SELECT 23, 'z';
SELECT tasks();
WITH s(id, c) AS (VALUES (21, llm_translate('uno', 'French')), (24, 'is ' || llm_translate('due', 'French')))
MERGE INTO m USING s ON s.id = m.id WHEN MATCHED THEN UPDATE SET c = s.c WHEN NOT MATCHED THEN INSERT (id, c) VALUES (s.id, s.c);
SELECT tasks();
SELECT id, c, j, f FROM m ORDER BY id;
-- but not two questions in one value
INSERT INTO m (id, c) VALUES (31, llm_translate('one', 'French')), (32, llm_translate('two', 'French') || llm_translate('three', 'French'));

DROP SCHEMA matrix CASCADE;
SELECT llm.drop_model('matrix_model');
DROP SERVER matrix_server CASCADE;
