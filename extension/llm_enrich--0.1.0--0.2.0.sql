\echo Use "ALTER EXTENSION llm_enrich UPDATE" to load this file. \quit

-- Whatever extension/parts has and 0.1.0 had not, in the order of the parts. It grows with each
-- change; what an installation of 0.1.0 becomes is compared with a new one by test 345.

-- An attempt that fails on the way or at the provider is an outage; a fault is what is wrong with an answer.
ALTER TABLE llm.queue RENAME COLUMN faults TO outages;
COMMENT ON COLUMN llm.queue.outages IS 'attempts so far that failed on the way or at the provider, limits and pauses apart';

-- Comments in plainer words.
COMMENT ON COLUMN llm.price.valid_until IS 'requests sent from then on no longer pay it';
COMMENT ON COLUMN llm.job.failed IS 'tasks that failed; see llm.dead_letter';
COMMENT ON COLUMN llm.job_cost.retries IS 'invalid answers after which the task is asked again';
COMMENT ON COLUMN llm.queue.tries IS 'tries so far: invalid answers, and requests without an answer, that are charged to the task';
COMMENT ON COLUMN llm.queue.last_answer IS 'last invalid answer';
COMMENT ON COLUMN llm.dead_letter.column_name IS 'column that the answer was for';
COMMENT ON COLUMN llm.dead_letter.tries IS 'tries: invalid answers, and requests without an answer';
COMMENT ON COLUMN llm.dead_letter.last_answer IS 'last invalid answer, as it came';
COMMENT ON COLUMN llm.progress.why IS 'what they wait for, if not just for their turn';
COMMENT ON COLUMN llm.progress.bar IS 'final tasks as a bar and in percent';

-- Volatile like clock_timestamp(): to be compared with an indexed column as (SELECT llm.clock()).
CREATE FUNCTION llm.clock() RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_clock';
COMMENT ON FUNCTION llm.clock() IS 'internal: clock_timestamp(), which a test can set forward';

ALTER TABLE llm.ledger ALTER COLUMN at SET DEFAULT llm.clock();

CREATE OR REPLACE VIEW llm.progress WITH (security_invoker = true) AS
WITH busy AS (
	-- Each branch reads a partial index: what is under way is never more than a small part of the queue.
	SELECT q.job, q.reason FROM llm.queue q WHERE q.state = 'claimed'
	UNION ALL
	SELECT q.job, q.reason FROM llm.queue q WHERE q.state = 'waiting' AND q.not_before IS NOT NULL AND q.outcome IS NULL
	UNION ALL
	SELECT q.job, q.reason FROM llm.queue q WHERE q.state = 'waiting' AND q.not_before IS NOT NULL AND q.outcome IS NOT NULL
	UNION ALL
	SELECT q.job, q.reason FROM llm.queue q WHERE q.state IN ('answered', 'failed', 'cancelled', 'superseded')
), under_way AS (
	SELECT b.job, pg_catalog.count(*) AS tasks,
		pg_catalog.mode() WITHIN GROUP (ORDER BY b.reason) AS reason
	FROM busy b GROUP BY b.job
), hindrance AS (
	-- What keeps all tasks of this database from being sent, and all answers from their cells.
	SELECT pg_catalog.max(h.subject || ' is ' || h.state) FILTER (WHERE h.kind = 'setting') AS setting,
		pg_catalog.max(h.problem) FILTER (WHERE h.kind = 'problem' AND h.subject = 'extension llm_enrich') AS version,
		CASE WHEN pg_catalog.max(h.pid) FILTER (WHERE h.kind = 'sender') IS NULL THEN pg_catalog.max(h.kind || ': ' || h.problem)
			FILTER (WHERE h.kind IN ('launcher', 'sender') AND h.pid IS NULL) END AS sender,
		CASE WHEN pg_catalog.max(h.pid) FILTER (WHERE h.kind = 'writer') IS NULL THEN pg_catalog.max(h.kind || ': ' || h.problem)
			FILTER (WHERE h.kind IN ('launcher', 'writer') AND h.pid IS NULL) END AS writer
	FROM llm.read_health() h
), counted AS (
	SELECT j.*, u.reason AS task_reason, COALESCE(u.tasks, 0) AS under_way,
		j.done + j.failed + j.superseded + j.cancelled + j.row_gone AS final,
		CASE WHEN j.total IS NOT NULL THEN j.total
			ELSE j.done + j.failed + j.superseded + j.cancelled + j.row_gone + COALESCE(u.tasks, 0)
				+ (SELECT pg_catalog.count(*) FROM llm.queue q WHERE q.job = j.id AND q.state = 'ready')
				+ (SELECT pg_catalog.count(*) FROM llm.queue q WHERE q.job = j.id AND q.state = 'waiting' AND q.not_before IS NULL)
		END AS all_tasks,
		pg_catalog.date_part('epoch', COALESCE(j.finished_at, llm.clock()) - j.created_at) AS seconds
	FROM llm.job j LEFT JOIN under_way u ON u.job = j.id
	WHERE j.state <> 'finished' OR j.finished_at > (SELECT llm.clock() - interval '1 hour')
)
SELECT c.id AS job, c.relation_name AS relation, c.column_name, c.role_name AS role, c.operation, c.model,
	CASE WHEN c.final >= c.all_tasks THEN 'finished' ELSE c.state END AS state,
	c.all_tasks AS total, c.done, c.failed,
	c.superseded + c.cancelled + c.row_gone AS dropped,
	c.all_tasks - c.final AS waiting,
	CASE WHEN c.final < c.all_tasks THEN COALESCE(
		CASE WHEN c.final + c.under_way < c.all_tasks THEN COALESCE(h.setting, h.version, h.sender) END,
		c.reason, c.task_reason, CASE WHEN c.under_way > 0 THEN h.writer END) END AS why,
	(c.final::float8 / NULLIF(c.seconds, 0::float8))::numeric(12, 1) AS rows_per_s,
	CASE WHEN c.final > 0 AND c.final < c.all_tasks
		THEN pg_catalog.make_interval(secs => pg_catalog.round((c.all_tasks - c.final)::float8 * c.seconds / c.final::float8)) END AS eta,
	k.requests, k.cost,
	pg_catalog.rpad(pg_catalog.repeat('#', (20 * c.final / GREATEST(c.all_tasks, 1))::int), 20, '.')
		|| pg_catalog.lpad((100 * c.final / GREATEST(c.all_tasks, 1))::text, 4) || '%' AS bar
FROM counted c CROSS JOIN hindrance h LEFT JOIN llm.job_cost k ON k.job = c.id
ORDER BY c.id;
