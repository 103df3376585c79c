--
-- Counters for monitoring, and the invoice beside the ledger (P3)
--
\set VERBOSITY default
\set SHOW_CONTEXT never
SET TimeZone = 'America/New_York';
INSERT INTO llm.ledger (at, request, task, attempt, latency_ms, role, server, model, relation, column_name, operation, lane,
	outcome, input_tokens, cached_tokens, output_tokens, cost, estimated)
SELECT '2026-03-01 22:00:00+00'::timestamptz + g * interval '11 minutes', 2000 + g, g, 1, 10, current_user,
	CASE WHEN g % 3 = 0 THEN 'other' ELSE 'bank' END, CASE WHEN g % 25 = 1 THEN 'm2' ELSE 'm' || g % 2 END, 'public.t', 'label', 'classify', 'realtime',
	CASE WHEN g % 10 = 0 THEN 'unknown' ELSE 'ok' END, 1000, 100, 20, CASE WHEN g % 25 <> 1 THEN 0.01 * g END,
	g % 10 = 0 AND g % 25 <> 1
FROM generate_series(1, 200) g;
SELECT * FROM llm.stat ORDER BY server, model, outcome;
SELECT sum(requests) = (SELECT count(DISTINCT request) FROM llm.ledger) AS requests,
	sum(cost) = (SELECT sum(cost) FROM llm.ledger) AS cost FROM llm.stat;
SELECT state, jobs, waiting, oldest FROM llm.stat_jobs() ORDER BY state;

-- nothing is known of the invoice; it agrees; it is lower, and much lower
SELECT day, requests, cost, estimated_cost, unknown, unpriced, invoice, gap, explained, why
FROM llm.reconcile('bank', '2026-03-01', '2026-04-01');
SELECT day, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 129.365) WHERE day IS NULL;
SELECT day, cost, invoice, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 120);
SELECT day, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 60) WHERE day IS NULL;
-- by days, one of which the ledger does not know; what lies outside is left out
SELECT day, cost, invoice, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01',
	billed_by_day => '{"2026-03-01": 0.36, "2026-3-2": 60, "2026-03-04": 1.5, "2026-02-28": 9}');
SELECT * FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed_by_day => '[1]');

-- it is higher: no price, a price that came later, more than that
SELECT day, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 129.40) WHERE day IS NULL;
INSERT INTO llm.price (server, model, valid_from, input_per_mtok, cached_input_per_mtok, output_per_mtok)
	VALUES ('bank', 'm2', '2026-05-01', 10, 1, 100);
SELECT day, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 129.40);
SELECT day, gap, explained, why FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 200) WHERE day IS NULL;
SELECT day, gap, explained, why FROM llm.reconcile('nowhere', '2026-03-01', '2026-04-01', billed => 5);
SELECT day, gap, explained, why FROM llm.reconcile('nowhere', '2026-03-01', '2026-04-01', billed => 0);
SELECT * FROM llm.reconcile(NULL, '2026-03-01', '2026-04-01');
-- this month until now
SELECT day, cost, why FROM llm.reconcile('nowhere');
SELECT day IS NULL AS whole, cost, invoice, gap FROM llm.reconcile('bank', since => '2026-03-01', billed => 129.365) LIMIT 1;
SELECT * FROM llm.reconcile('bank', since => '2099-01-01');
SELECT * FROM llm.reconcile('bank', '2026-04-01', '2026-03-01');
SELECT * FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed => 'NaN');
SELECT * FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed_by_day => '{"2026-03-02": 1, "2026-03-03": 1, "2026-3-2": 2}');
SELECT * FROM llm.reconcile('bank', '2026-03-01', '2026-04-01', billed_by_day => '{"2026-03-02": "dear"}');

-- a role sees its own counters, and the figures of jobs not at all
CREATE ROLE stat_other;
CREATE ROLE stat_monitor IN ROLE pg_monitor;
SET ROLE stat_other;
SELECT count(*) FROM llm.stat;
SELECT * FROM llm.stat_jobs();
SET ROLE stat_monitor;
SELECT state, jobs FROM llm.stat_jobs() ORDER BY state;
RESET ROLE;
DROP ROLE stat_other, stat_monitor;
DELETE FROM llm.price WHERE server = 'bank';
DELETE FROM llm.ledger;
