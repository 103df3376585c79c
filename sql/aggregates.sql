-- Aggregates whose answer comes while the statement waits: what they refuse, and where they ask nothing.
-- test/t/407_aggregates.pl has what they ask.
\set VERBOSITY terse
CREATE SERVER aggregates FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:1/v1', context_tokens '4000');
SELECT llm.add_model('aggregates', server => 'aggregates', model => 'sim', options => '{"context_tokens": 2000}');
SET llm_enrich.model = 'aggregates';
CREATE TABLE t (id int PRIMARY KEY, g int, body text, gist text);
INSERT INTO t SELECT i, i % 2, 'text ' || i FROM generate_series(1, 4) i;

-- nothing to ask about is NULL
SELECT llm_agg(body, 'What is it about?') FROM t WHERE false;
SELECT llm_summarize_agg(NULL) IS NULL AS none, llm_summarize_agg('  ', 10) IS NULL AS blank FROM t;
SELECT g, llm_agg(body, 'x') FILTER (WHERE false) FROM t GROUP BY g ORDER BY g;
SELECT g, llm_agg(body, 'x') FROM t WHERE false GROUP BY g;

-- arguments
SELECT llm_agg(body, NULL) FROM t;
SELECT llm_agg(body, ' ') FROM t;
SELECT llm_agg(body, 'x' || id) FROM t;
SELECT llm_summarize_agg(body, 0) FROM t;
SELECT llm_summarize_agg(body, id) FROM t;
SELECT llm_agg(body, 'x', 'none') FROM t;
SELECT llm_agg(body, 'x', NULL, '{"colour": 1}') FROM t;
SELECT llm_agg(body) FROM t;
SELECT llm_agg(body, 'x', instruction => 'y') FROM t;

-- memory
SET llm_enrich.max_aggregate_size = '64kB';
SELECT llm_agg(repeat(body, 5000), 'x') FROM t;
RESET llm_enrich.max_aggregate_size;

-- places
\set VERBOSITY default
SELECT llm_agg(body, 'x') OVER (PARTITION BY g) FROM t;
UPDATE t SET gist = (SELECT llm_agg(body, 'x') FROM t);
INSERT INTO t (id, gist) SELECT g + 10, llm_summarize_agg(body) FROM t GROUP BY g;
CREATE TABLE made AS SELECT llm_agg(body, 'x') FROM t;
UPDATE t SET gist = 'y' WHERE body = (SELECT llm_agg(body, 'x') FROM t);
\set VERBOSITY terse
SELECT llm.agg_answer('x');
\set VERBOSITY default

-- what would be sent: the input is an array of the rows' texts, or one of them
SELECT jsonb_pretty(llm.preview('agg', '["one", null, "t\u0077o", " "]', instruction => 'Which?') -> 'messages');
SELECT llm.preview('summarize_agg', '[no array', max_words => 10) -> 'messages' -> 1 ->> 'content';
SELECT llm.preview('summarize_agg', (SELECT jsonb_agg(body ORDER BY id) FROM t)::text) -> 'messages' -> 1 ->> 'content';
SELECT llm.preview('agg', '[null, " "]', instruction => 'x') IS NULL AS nothing, llm.preview('agg', ' ', instruction => 'x') IS NULL AS blank;
-- of more than fits, the first part
SELECT llm.preview('summarize_agg', p) -> 'messages' -> 0 ->> 'content' ~ 'which are one part of a long list' AS is_part,
	length(llm.preview('summarize_agg', p) -> 'messages' -> 1 ->> 'content') BETWEEN 3000 AND 8000 AS fits
FROM (SELECT jsonb_agg(repeat('text ', 20))::text AS p FROM generate_series(1, 1000)) s;
SELECT llm.preview('agg', 'x');
SELECT llm.preview('agg', '["one", 2]', instruction => 'x');
SELECT llm.preview('summarize_agg', 'x', instruction => 'x');

-- what it would cost
CREATE FUNCTION calls(statement text) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(calls::text, ', ') FROM llm.estimate(statement) $$;
SELECT calls('SELECT g, llm_agg(body, $$x$$) FROM t GROUP BY g');
SELECT calls('SELECT g, llm_agg(body, $$x$$) FILTER (WHERE id > 3) FROM t GROUP BY GROUPING SETS ((g), ())');
SELECT calls('SELECT g, llm_agg(body, $$x$$) FROM t GROUP BY g HAVING llm_agg(body, $$y$$) <> $$z$$');
SELECT calls('SELECT (SELECT llm_agg(body, $$x$$) FROM t u WHERE u.id <= t.id) FROM t');
SELECT calls('SELECT llm_agg(a, $$of others$$) FROM (SELECT llm_agg(body, $$x$$) AS a FROM t GROUP BY g) s');
SELECT calls('SELECT llm_translate(llm_agg(body, $$x$$), $$German$$) FROM t');
SELECT calls('SELECT llm_agg(body, $$x$$), random() FROM t') <> '0' AS by_plan;
SELECT calls('SELECT llm_agg(body, $$x$$) OVER () FROM t');
SELECT calls('UPDATE t SET gist = (SELECT llm_agg(body, $$x$$) FROM t)');
DROP FUNCTION calls;
\set VERBOSITY terse

-- plans: a node answers, groups are read ahead, cheap conditions come first
EXPLAIN (COSTS OFF) SELECT llm_agg(body, 'x') FROM t;
EXPLAIN (COSTS OFF) SELECT llm_agg(body, 'x'), llm_summarize_agg(body), count(*) FROM t;
EXPLAIN (COSTS OFF) SELECT g, upper(llm_agg(body, 'x')) FROM t GROUP BY g
	HAVING count(*) > 1 AND llm_agg(body, 'x') <> '' ORDER BY g LIMIT 3;
EXPLAIN (COSTS OFF) SELECT g FROM t GROUP BY g HAVING llm_agg(body, 'x') IS NOT NULL AND count(*) > 1;

-- options
ALTER SERVER aggregates OPTIONS (SET context_tokens '12');
SELECT llm.alter_model('aggregates', options => '{"context_tokens": "many"}');
SELECT llm.alter_model('aggregates', options => '{"context_token": 1}');
SELECT llm.drop_model('aggregates');
DROP SERVER aggregates;
DROP TABLE t;
