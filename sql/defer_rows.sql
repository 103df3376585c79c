--
-- Deferred calls: the row that a marker is bound to, whatever the table is and whatever
-- happens to the row on its way there (P1, P5).
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA defer_rows;
SET search_path = defer_rows, public;
CREATE SERVER rows_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('rows_model', server => 'rows_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
SET llm_enrich.model = 'rows_model';

-- the rows of a table, and the task that each cell's marker names
CREATE FUNCTION cells(rel regclass, col name DEFAULT 'label')
	RETURNS TABLE (stored_in regclass, id jsonb, cell text, task_in regclass, key jsonb, input text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT t.tableoid::regclass, to_jsonb(t) -> ''id'', regexp_replace(t.%1$I::text, ''"task": \d+'', ''"task": N''),'
		' q.relation::regclass, q.key, q.input FROM %2$s t LEFT JOIN llm.queue q ON q.id = llm.marker_task(t.%1$I) AND q.state IN (''ready'', ''waiting'')'
		' ORDER BY 2, 1', col, rel);
END $$;
CREATE VIEW jobs AS SELECT relation_name, column_name, key_columns, total, day IS NOT NULL AS shared,
	(SELECT count(*) FROM llm.queue q WHERE q.job = j.id AND q.state IN ('ready', 'waiting')) AS tasks FROM llm.job j ORDER BY id;
\set forget 'DELETE FROM llm.queue; DELETE FROM llm.job;'
DELETE FROM llm.job;

-- keys of every kind, under settings that change how values look
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE DOMAIN code AS varchar(10);
SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = -5; SET bytea_output = 'escape'; SET TimeZone = 'Asia/Tokyo';
CREATE FUNCTION key_of(type text, value text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	EXECUTE format('CREATE TABLE k (id %s PRIMARY KEY, label jsonb)', type);
	EXECUTE format('INSERT INTO k VALUES (%s::%s, llm_classify(%L))', value, type, type);
	EXECUTE 'UPDATE k SET label = llm_summarize(''again'')';
	SELECT q.key INTO STRICT result FROM llm.queue q JOIN k ON llm.marker_task(k.label) = q.id;
	DROP TABLE k;
	RETURN result;
END $$;
SELECT type, key_of(type, value) -> 'id' AS key FROM (VALUES
	('int2', '-7'), ('int4', '2147483647'), ('int8', '9223372036854775807'), ('int8', '''-9223372036854775808'''),
	('numeric', '1.50'), ('numeric', '-0.000000000000000000000000123456789'), ('numeric', '12345678901234567890123456789012345678901234567890'),
	('numeric', '''NaN'''), ('numeric', '''Infinity'''), ('numeric(10,3)', '2'), ('text', '''a "quoted" key \ ä 😀'''), ('text', ''''''), ('varchar(5)', '''abc'''), ('char(5)', '''ab'''),
	('name', '''n'''), ('uuid', '''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'''), ('date', '''2024-02-29'''), ('date', '''infinity'''), ('timestamptz', '''2024-02-29 12:34:56.789+00'''),
	('timestamp', '''2024-02-29 12:34:56.789'''), ('time', '''12:34:56.7'''), ('float8', '0.1'), ('float8', '1e300'), ('float4', '0.1'), ('bytea', '''\x00ff5c'''), ('interval', '''1 year 2 days 3 hours'''),
	('boolean', 'true'), ('mood', '''ok'''), ('posint', '5'), ('code', '''c'''), ('inet', '''10.0.0.1/8'''), ('money', '1234.5'), ('oid', '4294967295'), ('int4range', '''[1,5)'''), ('int[]', '''{1,2}'''), ('"char"', '''x''')) v(type, value);
RESET DateStyle; RESET IntervalStyle; RESET extra_float_digits; RESET bytea_output; RESET TimeZone;
:forget

-- composite keys, odd names, a unique index instead of a primary key
CREATE TABLE "odd ""Table" ("The ""Id" int, "sp ace" text, "É" date, body text, "La bel" jsonb, PRIMARY KEY ("sp ace", "The ""Id", "É"));
INSERT INTO "odd ""Table" VALUES (1, 'x', '2024-01-02', 'b', NULL);
UPDATE "odd ""Table" SET "La bel" = llm_classify(body);
SELECT key, input FROM llm.queue;
SELECT * FROM jobs;
:forget
CREATE TABLE uq (a int NOT NULL, b int, c int NOT NULL, id int NOT NULL, label jsonb);
CREATE UNIQUE INDEX ON uq (b);
CREATE UNIQUE INDEX ON uq (id) WHERE id > 0;
CREATE UNIQUE INDEX ON uq ((a + 1));
CREATE UNIQUE INDEX ON uq (c, a) INCLUDE (id);
INSERT INTO uq VALUES (1, 2, 3, 4, llm_classify('uq'));
SELECT key FROM llm.queue;
:forget
-- a deferrable primary key is none
CREATE TABLE dk (id int PRIMARY KEY DEFERRABLE, other int NOT NULL UNIQUE, label jsonb);
INSERT INTO dk VALUES (1, 10, llm_classify('dk'));
SELECT key FROM llm.queue;
:forget

-- identity, serial and generated columns
CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb,
	state text GENERATED ALWAYS AS (label -> 'llm_enrich' ->> 'status') STORED, copy jsonb GENERATED ALWAYS AS (label) STORED);
INSERT INTO ident (body, label) SELECT 'b' || g, llm_classify('ident ' || g) FROM generate_series(1, 2) g;
SELECT * FROM cells('ident');
SELECT id, state, llm_is_pending(copy) FROM ident ORDER BY id;
SELECT * FROM jobs;
:forget

-- partitions: routing, different column numbers, rows that move
CREATE TABLE part (id int, region text, body text, label jsonb, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b (label jsonb, gone int, body text, also_gone text, region text NOT NULL, id int NOT NULL);
ALTER TABLE part_b DROP gone, DROP also_gone;
ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
CREATE TABLE part_c PARTITION OF part FOR VALUES IN ('c', 'd') PARTITION BY LIST (region);
CREATE TABLE part_cc PARTITION OF part_c FOR VALUES IN ('c');
INSERT INTO part SELECT g, chr(96 + g), 'body ' || g, llm_classify('insert ' || g) FROM generate_series(1, 3) g;
SELECT * FROM cells('part');
SELECT * FROM jobs;
:forget
UPDATE part SET label = llm_classify('update ' || body) WHERE id < 3;
UPDATE part SET region = CASE region WHEN 'a' THEN 'b' WHEN 'b' THEN 'c' ELSE 'a' END, label = llm_summarize('move ' || body);
SELECT * FROM cells('part');
:forget
UPDATE part_b SET label = llm_classify('named directly');
SELECT * FROM cells('part_b');
SELECT * FROM jobs;
:forget
INSERT INTO part VALUES (1, 'b', 'conflict', llm_classify('excluded')) ON CONFLICT (id, region) DO UPDATE SET label = excluded.label;
MERGE INTO part USING (VALUES (1, 'b'), (9, 'c')) s(id, region) ON s.id = part.id AND s.region = part.region
	WHEN MATCHED THEN UPDATE SET label = llm_classify('merged') WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.region, 'm', llm_classify('merge insert'));
SELECT * FROM cells('part');
:forget

-- inheritance: children have keys of their own
CREATE TABLE parent (id int PRIMARY KEY, body text, label jsonb);
CREATE TABLE child (extra int, PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p');
INSERT INTO child VALUES (1, 'c');
UPDATE parent SET label = llm_classify(body);
SELECT * FROM cells('parent');
SELECT * FROM jobs;
:forget
CREATE TABLE keyless () INHERITS (parent);
UPDATE parent SET label = llm_classify(body);
UPDATE ONLY parent SET label = llm_classify('only ' || body);
SELECT * FROM cells('parent');
:forget

-- columns dropped before and after
CREATE TABLE dropped (a int, id int PRIMARY KEY, b text, label jsonb, body text);
ALTER TABLE dropped DROP a, DROP b;
ALTER TABLE dropped ADD more text;
INSERT INTO dropped VALUES (1, llm_classify('after drop'), 'body');
SELECT * FROM cells('dropped');
:forget

-- views: the relation that the statement named is the one that is remembered, with its names
CREATE TABLE base (secret int, id int PRIMARY KEY, body text, label jsonb, hidden jsonb DEFAULT '{}');
CREATE VIEW v1 AS SELECT body AS words, id AS nr, label AS answer FROM base WHERE id < 100;
CREATE VIEW v2 AS SELECT answer, words, nr AS id FROM v1 WHERE nr > 0 WITH CASCADED CHECK OPTION;
ALTER VIEW v2 RENAME COLUMN answer TO label;
INSERT INTO v1 VALUES ('one', 1, llm_classify('v1 insert'));
INSERT INTO v2 VALUES (llm_classify('v2 insert'), 'two', 2), (llm_classify('v2 insert 3'), 'three', 3);
SELECT * FROM cells('base');
SELECT * FROM jobs;
\set VERBOSITY terse
INSERT INTO v2 VALUES (llm_classify('outside the view'), 'two', 200);
\set VERBOSITY default
SELECT count(*) FROM llm.queue;
:forget
UPDATE v2 SET label = llm_classify('v2 ' || words) WHERE id = 2;
INSERT INTO v2 VALUES (llm_classify('conflict'), 'three', 3) ON CONFLICT (id) DO UPDATE SET label = excluded.label, words = 'up';
SELECT q.relation::regclass, q.key, q.input, j.relation_name, j.column_name, j.key_columns FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state IN ('ready', 'waiting') ORDER BY q.key;
:forget
-- a view with a security barrier, owned by somebody else
CREATE ROLE rows_owner;
CREATE ROLE rows_user;
GRANT USAGE ON SCHEMA defer_rows TO rows_owner, rows_user;
GRANT USAGE ON FOREIGN SERVER rows_server TO rows_owner, rows_user;
ALTER TABLE base OWNER TO rows_owner;
CREATE VIEW v3 WITH (security_barrier) AS SELECT id, body, label FROM base WHERE id > 1;
ALTER VIEW v3 OWNER TO rows_owner;
GRANT UPDATE (label), SELECT (id, body) ON v3 TO rows_user;
SET ROLE rows_user;
UPDATE v3 SET label = llm_classify(body);
UPDATE base SET label = llm_classify('x');
RESET ROLE;
SELECT q.key, q.input, q.role::regrole, j.relation_name, j.role_name FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state IN ('ready', 'waiting') ORDER BY q.key;
:forget

-- UPDATE without the right to SELECT stays legal
CREATE TABLE blind (id int PRIMARY KEY, body text, label jsonb);
INSERT INTO blind VALUES (1, 'b', '{"label": "x"}');
GRANT UPDATE (label), INSERT ON blind TO rows_user;
SET ROLE rows_user;
UPDATE blind SET label = llm_classify('blind');
INSERT INTO blind VALUES (2, 'b', llm_classify('blind insert'));
SELECT key, input FROM llm.queue ORDER BY id;
SELECT relation_name, column_name FROM llm.job ORDER BY id;
RESET ROLE;
SELECT * FROM cells('blind');
:forget
-- the right to call the function, and to use the server
REVOKE EXECUTE ON FUNCTION llm_classify FROM PUBLIC;
SET ROLE rows_user;
UPDATE blind SET label = llm_classify('blind');
UPDATE blind SET label = llm_summarize('blind');
RESET ROLE;
GRANT EXECUTE ON FUNCTION llm_classify TO PUBLIC;
REVOKE USAGE ON FOREIGN SERVER rows_server FROM rows_user;
SET ROLE rows_user;
\set VERBOSITY terse
UPDATE blind SET label = llm_classify('blind');
\set VERBOSITY default
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER rows_server TO rows_user;
:forget
-- SECURITY DEFINER: the task is the definer's
CREATE FUNCTION as_owner() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = defer_rows, public AS $$ BEGIN UPDATE base SET label = llm_classify('definer') WHERE id = 1; END $$;
ALTER FUNCTION as_owner() OWNER TO rows_owner;
SET ROLE rows_user;
SELECT as_owner();
SELECT count(*) FROM llm.queue;
RESET ROLE;
SELECT key, role::regrole FROM llm.queue WHERE state IN ('ready', 'waiting');
:forget
-- row security: rows that the policy hides are not asked about, checks come first
ALTER TABLE blind ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON blind TO rows_user;
CREATE POLICY p ON blind TO rows_user USING (id = 1) WITH CHECK (body <> 'no');
SET ROLE rows_user;
UPDATE blind SET label = llm_classify('policy ' || body);
INSERT INTO blind VALUES (3, 'no', llm_classify('refused'));
SELECT key, input FROM llm.queue WHERE state IN ('ready', 'waiting') ORDER BY id;
RESET ROLE;
:forget

-- rules
CREATE TABLE log (id int PRIMARY KEY, label jsonb, note text);
CREATE TABLE ruled (id int PRIMARY KEY, body text, label jsonb);
CREATE RULE also AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES (new.id, new.label, 'rule');
INSERT INTO ruled VALUES (1, 'b', llm_classify('also'));
SELECT * FROM cells('ruled');
SELECT * FROM cells('log');
:forget
CREATE VIEW instead AS SELECT id, body, label, 1 AS one FROM ruled;
CREATE RULE instead_insert AS ON INSERT TO instead DO INSTEAD INSERT INTO log VALUES (new.id + 100, new.label, new.body);
CREATE RULE instead_update AS ON UPDATE TO instead DO INSTEAD UPDATE ruled SET label = new.label WHERE id = old.id;
INSERT INTO instead (id, body, label) VALUES (5, 'b', llm_classify('instead'));
UPDATE instead SET label = llm_classify('instead update ' || body);
SELECT * FROM cells('log');
SELECT * FROM cells('ruled');
SELECT * FROM jobs;
:forget

-- triggers: a row that is suppressed, a value that is changed, moved, copied or taken away
CREATE TABLE trig (id int PRIMARY KEY, body text, label jsonb, other jsonb, kind text);
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE new.kind
		WHEN 'suppress' THEN RETURN NULL;
		WHEN 'replace' THEN new.label := '{"by": "trigger"}';
		WHEN 'null' THEN new.label := NULL;
		WHEN 'move' THEN new.other := new.label; new.label := NULL;
		WHEN 'copy' THEN new.other := new.label;
		WHEN 'key' THEN new.id := new.id + 1000;
		WHEN 'beside' THEN new.label := new.label || '{"added": 1}';
		WHEN 'nest' THEN new.other := jsonb_build_object('a', new.label);
		WHEN 'text' THEN new.body := 'was ' || new.label::text;
		WHEN 'assign' THEN new.label := llm_classify('in a trigger');
		ELSE NULL;
	END CASE;
	RETURN new;
END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON trig FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO trig (id, kind, label) SELECT g, k, llm_classify(k) FROM unnest('{suppress,plain,replace,null,move,copy,key,beside}'::text[]) WITH ORDINALITY u(k, g);
SELECT * FROM cells('trig');
SELECT * FROM cells('trig', 'other');
SELECT count(*) FROM llm.queue;
SELECT * FROM jobs;
:forget
INSERT INTO trig (id, kind, label) VALUES (50, 'nest', llm_classify('nest'));
INSERT INTO trig (id, kind, label) VALUES (50, 'text', llm_classify('text'));
INSERT INTO trig (id, kind, label) VALUES (50, 'assign', '{}');
-- text about markers is no marker
INSERT INTO trig (id, body, label) VALUES (51, 'what does {"llm_enrich": {"task": 1, "status": "pending"}} mean?', llm_classify('doc'));
INSERT INTO trig (id, other, label) VALUES (52, '{"a": {"llm_enrich": {"task": 1, "status": "pending"}}}', llm_classify('doc 2'));
SELECT key, input FROM llm.queue ORDER BY id;
:forget
-- AFTER triggers that fail, and that store calls of their own
CREATE FUNCTION store_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log VALUES (new.id + 500, llm_classify('after ' || new.id), 'trigger');
	IF new.id = 63 THEN RAISE 'not this one'; END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER store_more AFTER INSERT ON trig FOR EACH ROW EXECUTE FUNCTION store_more();
INSERT INTO trig (id, label) VALUES (61, llm_classify('row 61')), (62, llm_classify('row 62'));
INSERT INTO trig (id, label) VALUES (63, llm_classify('row 63'));
SELECT relation::regclass, key, input FROM llm.queue ORDER BY key;
:forget
-- a marker copied from an older row binds nothing
CREATE TABLE copied (id int PRIMARY KEY, label jsonb, own jsonb);
INSERT INTO copied SELECT id, label, llm_classify('own ' || id) FROM trig WHERE id IN (61, 62);
SELECT key, input FROM llm.queue ORDER BY key;
:forget

-- a table with more columns that could hold a marker than a function takes arguments
DO $$
BEGIN
	EXECUTE 'CREATE TABLE wide (id int PRIMARY KEY, ' || (SELECT string_agg('c' || g || ' jsonb', ', ') FROM generate_series(1, 150) g) || ')';
END $$;
INSERT INTO wide (id, c1, c149) VALUES (1, llm_classify('c1'), llm_classify('c149'));
UPDATE wide SET c150 = llm_classify('c150'), c60 = llm_classify('c60');
SELECT j.column_name, q.key, q.input FROM llm.queue q JOIN llm.job j ON j.id = q.job ORDER BY q.id;
:forget

-- large values are not taken apart
CREATE TABLE large (id int PRIMARY KEY, body text, label jsonb);
ALTER TABLE large ALTER body SET STORAGE EXTERNAL;
INSERT INTO large VALUES (1, repeat('large ', 100000), NULL), (2, NULL, jsonb_build_object('old', repeat('o', 100000)));
UPDATE large SET label = llm_classify(COALESCE(body, 'x'));
SELECT q.key, length(q.input), length(l.label::text) > 100000 AS kept FROM llm.queue q JOIN large l ON q.id = llm.marker_task(l.label) ORDER BY q.key;
:forget

-- unlogged tables
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, label jsonb);
INSERT INTO unlogged VALUES (1, llm_classify('unlogged'));
SELECT key FROM llm.queue;
:forget

DROP SCHEMA defer_rows CASCADE;
SELECT llm.drop_model('rows_model');
DROP SERVER rows_server;
DROP ROLE rows_user;
DROP ROLE rows_owner;
