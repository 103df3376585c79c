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
SELECT llm.agg_answer('x');
SELECT llm.preview('agg', 'x');
\set VERBOSITY terse

-- plans: a node answers, groups are read ahead, cheap conditions come first
EXPLAIN (COSTS OFF) SELECT llm_agg(body, 'x') FROM t;
EXPLAIN (COSTS OFF) SELECT llm_agg(body, 'x'), llm_summarize_agg(body), count(*) FROM t;
EXPLAIN (COSTS OFF) SELECT g, upper(llm_agg(body, 'x')) FROM t GROUP BY g
	HAVING count(*) > 1 AND llm_agg(body, 'x') <> '' ORDER BY g LIMIT 3;

-- options
ALTER SERVER aggregates OPTIONS (SET context_tokens '12');
SELECT llm.alter_model('aggregates', options => '{"context_tokens": "many"}');
SELECT llm.alter_model('aggregates', options => '{"context_token": 1}');
SELECT llm.drop_model('aggregates');
DROP SERVER aggregates;
DROP TABLE t;
