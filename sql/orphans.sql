-- Cells of a restored dump: their tasks stayed behind (P2).
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE TABLE orphan (id int PRIMARY KEY, a jsonb, b json, c text, d varchar(200));
INSERT INTO orphan VALUES
	(1, '{"llm_enrich": {"task": 9000001, "status": "pending"}}',
		'{"label": "old", "llm_enrich": {"task": 9000002, "status": "pending"}}',
		'{"llm_enrich": {"task": 9000003, "status": "pending", "previous": "plain text"}}',
		'{"llm_enrich": {"task": 9000004, "status": "pending"}}'),
	(2, '{"llm_enrich": {"task": 9000005, "status": "failed", "error": "refused"}}', '{"label": "x"}',
		'no JSON at all', NULL),
	(3, '{"label": "y"}', NULL, '{"half', '{"llm_enrich": 7}');

-- This one is on its way: it stays.
CREATE SERVER orphan_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
SELECT llm.add_model('orphan_model', server => 'orphan_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
INSERT INTO orphan (id, a) VALUES (4, NULL);
UPDATE orphan SET a = llm_complete('x', model => 'orphan_model') WHERE id = 4;

SELECT llm.reset_orphans('orphan', 'a');
SELECT llm.reset_orphans('orphan', 'b');
SELECT llm.reset_orphans('orphan', 'c');
SELECT llm.reset_orphans('orphan', 'd');
SELECT id, CASE WHEN id = 4 THEN to_jsonb(llm_status(a)) ELSE a END AS a, b, c, d FROM orphan ORDER BY id;
SELECT llm.reset_orphans('orphan', 'a');

SELECT llm.reset_orphans('orphan', 'nothing');
SELECT llm.reset_orphans('nothing', 'a');

-- Rights: it is an UPDATE of the caller.
CREATE ROLE orphan_role;
SET ROLE orphan_role;
SELECT llm.reset_orphans('orphan', 'a');
RESET ROLE;
DROP ROLE orphan_role;

DELETE FROM llm.queue;
DROP TABLE orphan;
SELECT llm.drop_model('orphan_model');
DROP SERVER orphan_server;
