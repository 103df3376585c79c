-- Operators have operands of one type here, and exactly those that pg_catalog has: others might be
-- found in the schema that CREATE EXTENSION was given, where somebody may have put them before.

-- Cells that wait for an answer, or got none, of both kinds.
CREATE VIEW llm.cell WITH (security_invoker = true) AS
SELECT j.relation_name AS relation, q.key, j.column_name, q.id AS task, 'pending' AS status, q.queued_at AS since,
	COALESCE(q.reason, j.reason, q.state) AS why
FROM llm.queue q JOIN llm.job j ON j.id = q.job WHERE q.state IN ('ready', 'claimed', 'waiting', 'answered')
UNION ALL
SELECT d.relation_name, d.key, d.column_name, d.task, 'failed', d.failed_at, COALESCE(d.reason || ': ' || d.message, d.reason)
FROM llm.dead_letter d;
COMMENT ON VIEW llm.cell IS 'cells that wait for an answer, or whose question has failed';
COMMENT ON COLUMN llm.cell.relation IS 'table or view that the statement named';
COMMENT ON COLUMN llm.cell.key IS 'key of the row';
COMMENT ON COLUMN llm.cell.column_name IS 'column that the answer is for';
COMMENT ON COLUMN llm.cell.task IS 'number of the task';
COMMENT ON COLUMN llm.cell.status IS 'pending or failed';
COMMENT ON COLUMN llm.cell.since IS 'when it was asked about, or failed';
COMMENT ON COLUMN llm.cell.why IS 'what it waits for, or why it failed';
GRANT SELECT ON llm.cell TO PUBLIC;

CREATE FUNCTION llm.cell_status(relation regclass, column_name name, key jsonb) RETURNS text
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT s.status FROM (SELECT q.id, 'pending' AS status FROM llm.queue q JOIN llm.job j ON j.id = q.job
		WHERE $1::oid IN (j.relation, q.relation) AND q.key = $3 AND q.state IN ('ready', 'claimed', 'waiting', 'answered')
		AND COALESCE((SELECT a.attname FROM pg_attribute a
			WHERE a.attrelid = j.relation AND a.attnum = j.column_numbers[1] AND NOT a.attisdropped), j.column_name::name) = $2
		UNION ALL SELECT 0, 'failed' FROM llm.dead_letter d LEFT JOIN llm.job j ON j.id = d.job
		WHERE $1::oid IN (j.relation, d.relation) AND d.key = $3
		AND COALESCE((SELECT a.attname FROM pg_attribute a
			WHERE a.attrelid = j.relation AND a.attnum = j.column_numbers[1] AND NOT a.attisdropped), d.column_name::name) = $2) s ORDER BY s.id DESC LIMIT 1 $$;
COMMENT ON FUNCTION llm.cell_status(regclass, name, jsonb) IS
	'pending or failed; NULL for a cell about which nothing is asked, or that has its answer';

-- Made for \watch: one row per job that is open or ended within the hour.
CREATE VIEW llm.progress WITH (security_invoker = true) AS
WITH busy AS (
	-- Each branch reads a partial index: what is under way is never more than a small part of the queue.
	SELECT q.job, q.reason, false AS landed FROM llm.queue q WHERE q.state = 'claimed'
	UNION ALL
	SELECT q.job, q.reason, false FROM llm.queue q WHERE q.state = 'waiting' AND q.not_before IS NOT NULL AND q.outcome IS NULL
	UNION ALL
	SELECT q.job, q.reason, true FROM llm.queue q WHERE q.state = 'waiting' AND q.not_before IS NOT NULL AND q.outcome IS NOT NULL
	UNION ALL
	SELECT q.job, q.reason, true FROM llm.queue q WHERE q.state IN ('answered', 'failed', 'cancelled', 'superseded')
), under_way AS (
	SELECT b.job, pg_catalog.count(*) AS tasks, pg_catalog.count(*) FILTER (WHERE b.landed) AS landed,
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
	SELECT j.*, u.reason AS task_reason, COALESCE(u.tasks, 0) AS under_way, COALESCE(u.landed, 0) AS landed,
		j.done + j.failed + j.superseded + j.cancelled + j.row_gone AS final,
		CASE WHEN j.total IS NOT NULL THEN j.total
			ELSE j.done + j.failed + j.superseded + j.cancelled + j.row_gone + COALESCE(u.tasks, 0)
				+ (SELECT pg_catalog.count(*) FROM llm.queue q WHERE q.job = j.id AND q.state = 'ready')
				+ (SELECT pg_catalog.count(*) FROM llm.queue q WHERE q.job = j.id AND q.state = 'waiting' AND q.not_before IS NULL)
		END AS all_tasks,
		pg_catalog.date_part('epoch', COALESCE(j.finished_at, t.now) - j.created_at) AS seconds,
		pg_catalog.date_part('epoch', t.now - j.pace_at) AS pace_age,
		pg_catalog.date_part('epoch', t.now - j.pace_before_at) AS before_age
	FROM (SELECT llm.clock() AS now) t CROSS JOIN llm.job j LEFT JOIN under_way u ON u.job = j.id
	WHERE j.state <> 'finished' OR j.finished_at > (SELECT llm.clock() - interval '1 hour')
), paced AS (
	-- What moves now: since a moment that the writer notes each half minute. A job that has ended, or is
	-- younger than that, has its average.
	SELECT c.*, CASE WHEN c.state = 'paused' THEN 0
		WHEN c.state <> 'finished' AND c.before_age BETWEEN 1::float8 AND 120::float8 THEN (c.final - c.pace_before_final)::float8 / c.before_age
		WHEN c.state <> 'finished' AND c.pace_age BETWEEN 5::float8 AND 120::float8 AND c.seconds > 120::float8
			THEN (c.final - c.pace_final)::float8 / c.pace_age
		WHEN c.state = 'finished' OR c.seconds <= 120::float8 THEN c.final::float8 / NULLIF(c.seconds, 0::float8)
		WHEN c.pace_age < 5::float8 THEN NULL ELSE 0 END AS rate
	FROM counted c
)
SELECT c.id AS job, c.relation_name AS relation, c.column_name, c.role_name AS role, c.operation, c.model,
	c.state,
	c.all_tasks AS total, c.done, c.failed,
	c.superseded + c.cancelled + c.row_gone AS dropped,
	c.all_tasks - c.final AS waiting,
	CASE WHEN c.final < c.all_tasks THEN COALESCE(
		CASE WHEN c.final + c.under_way < c.all_tasks THEN COALESCE(h.setting, h.version, h.sender) END,
		c.reason, c.task_reason, CASE WHEN c.under_way > 0 THEN h.writer END) END AS why,
	c.rate::numeric(12, 1) AS rows_per_s,
	CASE WHEN c.rate > 0::float8 AND c.final < c.all_tasks
		-- what waits for somebody, or for money, is not done sooner because of what it did before
		AND h.setting IS NULL AND (c.reason ~ '^budget|is paused by "') IS NOT TRUE
		THEN pg_catalog.make_interval(secs => pg_catalog.round((c.all_tasks - c.final)::float8 / c.rate)) END AS eta,
	k.requests, pg_catalog.trim_scale(k.cost) AS cost,
	pg_catalog.rpad(pg_catalog.repeat('#', (20 * c.final / GREATEST(c.all_tasks, 1))::int), 20, '.')
		|| pg_catalog.lpad((100 * c.final / GREATEST(c.all_tasks, 1))::text, 4) || '%' AS bar,
	pg_catalog.trim_scale(pg_catalog.round(c.estimated_cost, 6)) AS estimated_cost,
	CASE WHEN c.final >= c.all_tasks THEN pg_catalog.trim_scale(k.cost)
		WHEN c.final + c.landed > 0 AND k.cost IS NOT NULL THEN pg_catalog.trim_scale(pg_catalog.round(
			k.cost + k.cost * GREATEST(c.all_tasks - c.final - c.landed, 0)::numeric / (c.final + c.landed)::numeric, 6))
		ELSE pg_catalog.trim_scale(pg_catalog.round(c.estimated_cost, 6)) END AS forecast_cost
FROM paced c CROSS JOIN hindrance h LEFT JOIN llm.job_cost k ON k.job = c.id
ORDER BY c.id;
COMMENT ON VIEW llm.progress IS 'jobs that are open or ended within the hour; made for \watch';
COMMENT ON COLUMN llm.progress.job IS 'llm.job.id';
COMMENT ON COLUMN llm.progress.relation IS 'table or view that the statement named';
COMMENT ON COLUMN llm.progress.column_name IS 'column that gets the answers';
COMMENT ON COLUMN llm.progress.role IS 'role that asked';
COMMENT ON COLUMN llm.progress.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.progress.model IS 'model alias asked for; NULL: the default';
COMMENT ON COLUMN llm.progress.state IS 'open, paused or finished, as in llm.job: what single rows share is open until its day is over';
COMMENT ON COLUMN llm.progress.total IS 'tasks queued';
COMMENT ON COLUMN llm.progress.done IS 'answers in their cells';
COMMENT ON COLUMN llm.progress.failed IS 'tasks that failed, see llm.dead_letter';
COMMENT ON COLUMN llm.progress.dropped IS 'tasks superseded, cancelled or without a row';
COMMENT ON COLUMN llm.progress.waiting IS 'tasks not final yet';
COMMENT ON COLUMN llm.progress.why IS 'what they wait for, if not just for their turn';
COMMENT ON COLUMN llm.progress.rows_per_s IS 'final tasks per second lately; of a job that has ended, on the average';
COMMENT ON COLUMN llm.progress.eta IS 'time left at that rate; NULL while it waits for money, or until it is resumed';
COMMENT ON COLUMN llm.progress.requests IS 'HTTP requests so far';
COMMENT ON COLUMN llm.progress.cost IS 'US dollars so far; NULL when no price is known';
COMMENT ON COLUMN llm.progress.bar IS 'final tasks as a bar and in percent';
COMMENT ON COLUMN llm.progress.estimated_cost IS 'US dollars that it was to cost when it was queued';
COMMENT ON COLUMN llm.progress.forecast_cost IS 'US dollars in the end, if the rest costs what the tasks so far did';
GRANT SELECT ON llm.progress TO PUBLIC;

-- The bill by one dimension each.  The types of the columns are those of 0.1.0, so that views of users stay.
CREATE VIEW llm.cost_by_day WITH (security_invoker = true) AS
SELECT b.day, b.requests, b.tasks, b.input_tokens::numeric, b.cached_tokens::numeric,
	b.cache_write_tokens::numeric, b.output_tokens::numeric, b.cost, b.estimated_cost, b.unpriced
FROM llm.bill('{day}') b WHERE b.requests > 0 OR b.tasks > 0 OR b.cost IS NOT NULL;
COMMENT ON VIEW llm.cost_by_day IS 'llm.bill() by days in the session''s time zone';
COMMENT ON COLUMN llm.cost_by_day.day IS 'day, in the session''s time zone';
COMMENT ON COLUMN llm.cost_by_day.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.cost_by_day.tasks IS 'tasks that they carried';
COMMENT ON COLUMN llm.cost_by_day.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.cost_by_day.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.cost_by_day.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.cost_by_day.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.cost_by_day.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.cost_by_day.estimated_cost IS 'the part of it that is estimated';
COMMENT ON COLUMN llm.cost_by_day.unpriced IS 'rows of the ledger whose price is not known';
GRANT SELECT ON llm.cost_by_day TO PUBLIC;

CREATE VIEW llm.cost_by_model WITH (security_invoker = true) AS
SELECT b.server, b.model, b.requests, b.tasks, b.input_tokens::numeric, b.cached_tokens::numeric,
	b.cache_write_tokens::numeric, b.output_tokens::numeric, b.cost, b.estimated_cost, b.unpriced
FROM llm.bill('{server,model}') b WHERE b.requests > 0 OR b.tasks > 0 OR b.cost IS NOT NULL;
COMMENT ON VIEW llm.cost_by_model IS 'llm.ledger summed by models';
COMMENT ON COLUMN llm.cost_by_model.server IS 'foreign server';
COMMENT ON COLUMN llm.cost_by_model.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.cost_by_model.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.cost_by_model.tasks IS 'tasks that they carried';
COMMENT ON COLUMN llm.cost_by_model.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.cost_by_model.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.cost_by_model.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.cost_by_model.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.cost_by_model.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.cost_by_model.estimated_cost IS 'the part of it that is estimated';
COMMENT ON COLUMN llm.cost_by_model.unpriced IS 'rows of the ledger whose price is not known';
GRANT SELECT ON llm.cost_by_model TO PUBLIC;

CREATE VIEW llm.cost_by_table WITH (security_invoker = true) AS
SELECT b.relation, b."column" AS column_name, b.requests, b.tasks, b.input_tokens::numeric, b.cached_tokens::numeric,
	b.cache_write_tokens::numeric, b.output_tokens::numeric, b.cost, b.estimated_cost, b.unpriced
FROM llm.bill('{relation,column}') b WHERE b.requests > 0 OR b.tasks > 0 OR b.cost IS NOT NULL;
COMMENT ON VIEW llm.cost_by_table IS 'llm.ledger summed by tables and columns';
COMMENT ON COLUMN llm.cost_by_table.relation IS 'table or view';
COMMENT ON COLUMN llm.cost_by_table.column_name IS 'column';
COMMENT ON COLUMN llm.cost_by_table.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.cost_by_table.tasks IS 'tasks that they carried';
COMMENT ON COLUMN llm.cost_by_table.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.cost_by_table.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.cost_by_table.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.cost_by_table.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.cost_by_table.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.cost_by_table.estimated_cost IS 'the part of it that is estimated';
COMMENT ON COLUMN llm.cost_by_table.unpriced IS 'rows of the ledger whose price is not known';
GRANT SELECT ON llm.cost_by_table TO PUBLIC;

CREATE VIEW llm.cost_by_role WITH (security_invoker = true) AS
SELECT b.role, b.requests, b.tasks, b.input_tokens::numeric, b.cached_tokens::numeric,
	b.cache_write_tokens::numeric, b.output_tokens::numeric, b.cost, b.estimated_cost, b.unpriced
FROM llm.bill('{role}') b WHERE b.requests > 0 OR b.tasks > 0 OR b.cost IS NOT NULL;
COMMENT ON VIEW llm.cost_by_role IS 'llm.ledger summed by roles';
COMMENT ON COLUMN llm.cost_by_role.role IS 'role that asked';
COMMENT ON COLUMN llm.cost_by_role.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.cost_by_role.tasks IS 'tasks that they carried';
COMMENT ON COLUMN llm.cost_by_role.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.cost_by_role.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.cost_by_role.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.cost_by_role.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.cost_by_role.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.cost_by_role.estimated_cost IS 'the part of it that is estimated';
COMMENT ON COLUMN llm.cost_by_role.unpriced IS 'rows of the ledger whose price is not known';
GRANT SELECT ON llm.cost_by_role TO PUBLIC;

-- A request with several tags counts for each of them.  Only tags that llm_enrich.bill_tags names have sums.
CREATE VIEW llm.cost_by_tag WITH (security_invoker = true) AS
WITH declared AS (
	SELECT DISTINCT pg_catalog.btrim(s.name) AS tag
	FROM pg_catalog.string_to_table(pg_catalog.current_setting('llm_enrich.bill_tags'), ',') AS s(name)
	WHERE pg_catalog.btrim(s.name) <> ''
)
SELECT d.tag, b.tags ->> d.tag AS value, b.requests, b.tasks, b.input_tokens::numeric, b.cached_tokens::numeric,
	b.cache_write_tokens::numeric, b.output_tokens::numeric, b.cost, b.estimated_cost, b.unpriced
FROM declared d CROSS JOIN LATERAL llm.bill(ARRAY['tag:' || d.tag]) b
WHERE b.tags ->> d.tag IS NOT NULL AND (b.requests > 0 OR b.tasks > 0 OR b.cost IS NOT NULL)
UNION ALL
SELECT t.key, t.value,
	pg_catalog.count(DISTINCT l.request) AS requests,
	pg_catalog.count(DISTINCT l.task) AS tasks,
	pg_catalog.sum(l.input_tokens) AS input_tokens,
	pg_catalog.sum(l.cached_tokens) AS cached_tokens,
	pg_catalog.sum(l.cache_write_tokens) AS cache_write_tokens,
	pg_catalog.sum(l.output_tokens) AS output_tokens,
	pg_catalog.sum(l.cost) AS cost,
	pg_catalog.sum(l.cost) FILTER (WHERE l.estimated) AS estimated_cost,
	pg_catalog.count(*) FILTER (WHERE l.cost IS NULL) AS unpriced
FROM llm.ledger l CROSS JOIN LATERAL pg_catalog.jsonb_each_text(l.tags) AS t
WHERE t.key NOT IN (SELECT d.tag FROM declared d)
GROUP BY t.key, t.value ORDER BY 1, 2;
COMMENT ON VIEW llm.cost_by_tag IS
	'llm.bill() by each tag that llm_enrich.bill_tags names, of what was sent since it does; other tags as rows of llm.ledger have them, which llm.prune deletes and which take time to read';
COMMENT ON COLUMN llm.cost_by_tag.tag IS 'name of the tag';
COMMENT ON COLUMN llm.cost_by_tag.value IS 'its value';
COMMENT ON COLUMN llm.cost_by_tag.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.cost_by_tag.tasks IS 'tasks that they carried';
COMMENT ON COLUMN llm.cost_by_tag.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.cost_by_tag.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.cost_by_tag.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.cost_by_tag.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.cost_by_tag.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.cost_by_tag.estimated_cost IS 'the part of it that is estimated';
COMMENT ON COLUMN llm.cost_by_tag.unpriced IS 'rows of the ledger whose price is not known';
GRANT SELECT ON llm.cost_by_tag TO PUBLIC;
