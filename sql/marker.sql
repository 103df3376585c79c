-- Markers: found, laid over what was there, and taken away again.
\pset null (null)

-- Where a cell stands.  Only a whole marker at the top counts.
SELECT cell, llm_status(cell), llm_is_pending(cell), llm.marker_task(cell)
FROM (VALUES
	(1, '{"llm_enrich": {"task": 42, "status": "pending"}}'::jsonb),
	(2, '{"label": "bug"}'),
	(3, '{"label": "bug", "llm_enrich": {"task": 7, "status": "failed", "error": "refused", "message": "no"}}'),
	(4, '{"llm_enrich": {"status": "failed", "error": "empty_input", "message": "blank"}}'),
	(5, '{"llm_enrich": 5}'),
	(6, '{"a": {"llm_enrich": {"task": 42, "status": "pending"}}}'),
	(7, '{"llm_enrich": {"task": 1.5, "status": "pending"}}'),
	(8, '{"llm_enrich": {"task": 99999999999999999999999, "status": "pending"}}'),
	(9, '{"llm_enrich": {"task": -3, "status": "pending"}}'),
	(10, '{"llm_enrich": {"task": 3, "status": "done"}}'),
	(11, '[]'), (12, '7'), (13, 'null'), (14, NULL)) AS v(n, cell)
ORDER BY n;

-- jsonb: a failed marker over what was there, and back to what was there.
SELECT cell, failed, llm.resolve(failed, 'cancelled', 9, NULL, NULL, NULL) AS back
FROM (VALUES
	(1, NULL::jsonb), (2, '{"label": "bug"}'), (3, '7'), (4, '"x"'), (5, '[1, 2]'), (6, '{}'), (7, 'null'),
	(8, '{"llm_enrich": 5, "a": 1}'),
	(9, '{"label": "bug", "llm_enrich": {"task": 7, "status": "pending"}}'),
	(10, '{"llm_enrich": {"task": 7, "status": "pending", "previous": [1]}}'),
	(11, '{"llm_enrich": {"task": 7, "status": "pending"}}')) AS v(n, cell),
	LATERAL llm.resolve(cell, 'failed', 9, NULL, 'refused', 'no') AS failed
ORDER BY n;

-- json: byte for byte.
SELECT cell, failed, llm.resolve(failed, 'cancelled', 9, NULL, NULL, NULL) AS back, llm.marker_task(failed) AS task
FROM (VALUES
	(1, NULL::json), (2, '{"label":  "bug" }'), (3, '7'), (4, '"x"'), (5, '[1, 2]'), (6, '{}'), (7, 'null'),
	(8, '{"llm_enrich": 5, "a": 1}'), (9, '{"a": "\u0000"}'), (10, '{"a": 1e999999}'),
	(11, '{"label":"bug"  , "llm_enrich" : {"task":7,"status":"pending"} }'),
	(12, '{"llm_enrich":{"task":7,"status":"pending"} , "z":1 }'),
	(13, '{"a":1,"llm_enrich":{"task":7,"status":"pending"} , "z":1 }'),
	(14, '{"llm_enrich":{"task":7,"status":"pending","previous": [1 ]}}')) AS v(n, cell),
	LATERAL llm.resolve(cell, 'failed', 9, NULL, 'refused', 'no') AS failed
ORDER BY n;

-- text: what is no JSON object is kept as a string.
SELECT cell, failed, llm.resolve(failed, 'cancelled', 9, NULL, NULL, NULL) IS NOT DISTINCT FROM cell AS same,
	llm.marker_task(failed) AS task
FROM (VALUES
	(1, NULL::text), (2, '{"label":  "bug" }'), (3, '7'), (4, E'plain "x" \\\ttab'), (5, '[1, 2]'), (6, '{}'),
	(7, '{ "a" :'), (8, 'null'), (9, ''), (10, '{"a": 1} x'), (11, '{"a": 01}'), (12, '{"a": tru}'), (13, E'{"a": "\t"}'),
	(14, 'x {"llm_enrich": {"task": 7, "status": "pending"}}'), (15, E' {}\t')) AS v(n, cell),
	LATERAL llm.resolve(cell, 'failed', 9, NULL, 'refused', 'say "no"') AS failed
ORDER BY n;
SELECT llm.resolve('{"llm_enrich": {"task": 7, "status": "pending", "previous": "old"}}'::text, 'cancelled', 7, NULL, NULL, NULL);

-- Two markers in one json object are none.
SELECT llm.marker_task('{"llm_enrich": {"task": 1, "status": "pending"}, "llm_enrich": {"task": 2, "status": "pending"}}'::json);

-- Answers, in each type.
SELECT llm.resolve('x'::text, 'answered', 1, '{"label": "billing"}', NULL, NULL),
	llm.resolve(NULL::varchar, 'answered', 1, '{"label": "billing"}', NULL, NULL),
	llm.resolve('{}'::json, 'answered', 1, '{"label": "billing"}', NULL, NULL),
	llm.resolve('{"label": "old"}'::jsonb, 'answered', 1, '{"label": "billing"}', NULL, NULL);

-- Deep nesting: a string in text, refused in json, no stack overflow anywhere.
SELECT length(llm.resolve(repeat('[', 100000) || repeat(']', 100000), 'failed', 1, NULL, 'refused', 'no'));
SELECT llm.marker_task(repeat('{"llm_enrich":', 100000));
SELECT llm.resolve((repeat('[', 1100) || repeat(']', 1100))::json, 'failed', 1, NULL, 'refused', 'no');

-- A long message is cut.
SELECT octet_length(llm.resolve(NULL::jsonb, 'failed', 1, NULL, 'refused', repeat('x', 1000)) #>> '{llm_enrich,message}');

-- Not for these.
SELECT llm.resolve(1, 'answered', 1, '{}', NULL, NULL);
SELECT llm.resolve('{}'::json, 'done', 1, '{}', NULL, NULL);
SELECT llm.resolve('{}'::json, 'answered', 1, NULL, NULL, NULL);
SELECT llm.marker_task(7);
