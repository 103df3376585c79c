--
-- The bill: sums of the ledger equal the ledger, whatever is summed yet (P3)
--
\set VERBOSITY default
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
INSERT INTO llm.ledger (at, request, task, attempt, latency_ms, role, server, model, relation, column_name, operation, lane,
	outcome, input_tokens, cached_tokens, output_tokens, cost, estimated)
SELECT '2026-03-01 22:00:00+00'::timestamptz + g * interval '7 minutes', 1000 + g / 2, g, 1, 10, current_user,
	CASE WHEN g % 2 = 0 THEN 'one' ELSE 'two' END, 'm' || g % 3, 'public.t' || g % 4, 'label', 'classify', 'realtime',
	CASE WHEN g % 10 = 0 THEN 'invalid' ELSE 'ok' END, 10, 1, 2, 0.0001 * g, g % 20 = 0
FROM generate_series(1, 100) g;
SELECT day, requests, tasks, rows_done, input_tokens, cached_tokens, output_tokens, cost, wasted FROM llm.bill('{day}');
SELECT server, model, requests, rows_done, cost, cost_per_row FROM llm.bill('{server,model}');
SELECT month, relation, "column", tasks, cost, estimated_cost FROM llm.bill('{month,relation,column}');
SELECT outcome, tasks, cost FROM llm.bill('{outcome}', since => '2026-03-02');
SELECT sum(requests) = (SELECT count(DISTINCT request) FROM llm.ledger) AS requests, sum(cost) = (SELECT sum(cost) FROM llm.ledger) AS cost
	FROM llm.bill('{}');
-- days are those of the session
SET TimeZone = 'America/New_York';
SELECT day, requests, cost FROM llm.bill('{day}');
-- also where clocks are set back across midnight, and a piece of a day comes before the end of the one before
SET TimeZone = 'AAA3BBB,M1.2.0/0,M3.1.1/0:30';
SELECT day, requests, cost FROM llm.bill('{day}');
SELECT (SELECT array_agg(ROW(day, relation, tasks, cost) ORDER BY day, relation) FROM llm.bill('{week,day,relation}'))
	= (SELECT array_agg(v ORDER BY v) FROM (SELECT at::date, relation, count(*), trim_scale(sum(cost)) FROM llm.ledger GROUP BY 1, 2) v) AS days,
	(SELECT sum(cost) FROM llm.bill('{hour,day}')) = (SELECT sum(cost) FROM llm.ledger) AS hours;
RESET TimeZone;
-- what cannot be asked
SELECT * FROM llm.bill('{colour}');
SELECT * FROM llm.bill('{tag:team}');
SELECT * FROM llm.bill(since => '2026-03-02', until => '2026-03-01');
-- nothing is nothing
SELECT requests, cost FROM llm.bill('{}', since => '2030-01-01');
-- a role sees its own
CREATE ROLE bill_other;
SET ROLE bill_other;
SELECT * FROM llm.bill('{server}');
RESET ROLE;
DROP ROLE bill_other;
DELETE FROM llm.ledger;
