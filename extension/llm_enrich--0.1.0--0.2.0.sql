\echo Use "ALTER EXTENSION llm_enrich UPDATE" to load this file. \quit

-- Whatever extension/parts has and 0.1.0 had not, in the order of the parts. It grows with each
-- change; what an installation of 0.1.0 becomes is compared with a new one by test 345.

-- Functions that are made again below get their rights from before at the end.
DO $$
BEGIN
	PERFORM pg_catalog.set_config('llm_upgrade.rights', COALESCE((
		SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('schema', p.pronamespace::pg_catalog.regnamespace::pg_catalog.text,
			'name', p.proname, 'oid', p.oid, 'rights', ARRAY(SELECT pg_catalog.jsonb_build_object('role', a.grantee, 'too', a.is_grantable)
				FROM pg_catalog.aclexplode(p.proacl) a)))
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_depend d
			ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid
		JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
			AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
		WHERE e.extname OPERATOR(pg_catalog.=) 'llm_enrich' AND p.proacl IS NOT NULL)::pg_catalog.text, '[]'), true);
END
$$;

-- An attempt that fails on the way or at the provider is an outage; a fault is what is wrong with an answer.
ALTER TABLE llm.queue RENAME COLUMN faults TO outages;
COMMENT ON COLUMN llm.queue.outages IS 'attempts so far that failed on the way or at the provider, limits and pauses apart';

-- Functions that get other arguments are made again.  What users have made of them goes first, and by
-- their own hand.
DO $$
DECLARE
	routine regprocedure;
	users text;
BEGIN
	FOREACH routine IN ARRAY ARRAY[
		'llm.add_model(text, text, text, boolean, numeric, numeric, numeric, numeric, numeric, numeric, int, int, int)',
		'llm.alter_model(text, text, text, boolean, int, int, int)',
		'llm.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, timestamptz)',
		'llm.cancel(bigint, bigint, regclass)',
		'llm.retry(bigint, bigint, regclass)',
		'llm.wait(bigint, interval)',
		'llm.resume(bigint)',
		'llm.preview(text, text, text[], boolean, jsonb, int, text, text, jsonb, jsonb)',
		'llm_classify(text, text[], boolean, text, text, jsonb, jsonb)',
		'llm_extract(text, jsonb, text, text, jsonb, jsonb)',
		'llm_summarize(text, int, text, text, jsonb, jsonb)',
		'llm_complete(text, jsonb, text, text, jsonb, jsonb)'
	]::regprocedure[]
	LOOP
		SELECT pg_catalog.string_agg(DISTINCT i.type OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) i.identity, ', ')
		FROM pg_catalog.pg_depend d
			LEFT JOIN pg_catalog.pg_rewrite r ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
				AND r.oid OPERATOR(pg_catalog.=) d.objid
			CROSS JOIN LATERAL pg_catalog.pg_identify_object(
				CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass END,
				COALESCE(r.ev_class, d.objid), CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END) i
		WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
			AND d.refobjid OPERATOR(pg_catalog.=) routine::pg_catalog.oid
		INTO users;
		IF users IS NOT NULL THEN
			RAISE EXCEPTION 'function % is made again, and is in use by %', routine, users USING
				ERRCODE = 'dependent_objects_still_exist',
				HINT = 'Drop what uses it, run ALTER EXTENSION llm_enrich UPDATE again, and create it after that.';
		END IF;
		EXECUTE pg_catalog.format('DROP ROUTINE %s', routine);
	END LOOP;
END
$$;

-- A column that is renamed is followed by its number; of a job from before, by the name that it has now.
ALTER TABLE llm.job ADD COLUMN column_numbers smallint[], ADD COLUMN refused bigint NOT NULL DEFAULT 0,
	ADD COLUMN shape text, ADD COLUMN shape_put_off text;
COMMENT ON COLUMN llm.job.column_name IS 'column that gets the answers, by its name then';
COMMENT ON COLUMN llm.job.key_columns IS 'columns that find a row again, by their names then';
COMMENT ON COLUMN llm.job.column_numbers IS 'pg_attribute.attnum of these columns, the one for answers first: renamed ones are followed; NULL: by name';
COMMENT ON COLUMN llm.job.refused IS 'answers in a row, up to the last one, that could not be written';
COMMENT ON COLUMN llm.job.shape IS 'hash of what a write ran and obeyed when it was asked; NULL: the owner is a member of the role; empty: not known';
COMMENT ON COLUMN llm.job.shape_put_off IS 'the same when it was found changed; llm.resume lets this one through';
UPDATE llm.job SET shape = '' WHERE state OPERATOR(pg_catalog.<>) 'finished';
UPDATE llm.job j SET column_numbers = n.numbers FROM llm.job o CROSS JOIN LATERAL (
	SELECT pg_catalog.array_agg(a.attnum ORDER BY c.place) AS numbers, pg_catalog.count(*) AS found
	FROM pg_catalog.unnest(ARRAY[o.column_name] OPERATOR(pg_catalog.||) o.key_columns) WITH ORDINALITY AS c(name, place)
	JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) o.relation
		AND a.attname OPERATOR(pg_catalog.=) c.name AND NOT a.attisdropped) n
WHERE j.id OPERATOR(pg_catalog.=) o.id AND n.found OPERATOR(pg_catalog.=) (1 OPERATOR(pg_catalog.+) pg_catalog.cardinality(o.key_columns));

CREATE FUNCTION llm.keep_answers() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_keep_answers';
COMMENT ON FUNCTION llm.keep_answers() IS
	'trigger BEFORE UPDATE FOR EACH ROW: a marker whose task has ended, saved by an ORM, does not replace an answer';

-- Comments in plainer words.
COMMENT ON COLUMN llm.price.valid_until IS 'requests sent from then on no longer pay it';
COMMENT ON COLUMN llm.job.failed IS 'tasks that failed; see llm.dead_letter';
COMMENT ON COLUMN llm.job_cost.retries IS 'invalid answers after which the task is asked again';
COMMENT ON COLUMN llm.queue.tries IS 'tries so far: invalid answers, and requests without an answer, that are charged to the task';
COMMENT ON COLUMN llm.queue.last_answer IS 'last invalid answer';
COMMENT ON COLUMN llm.dead_letter.column_name IS 'column that the answer was for';
COMMENT ON COLUMN llm.dead_letter.tries IS 'tries: invalid answers, and requests without an answer';
COMMENT ON COLUMN llm.dead_letter.last_answer IS 'last invalid answer, as it came';
COMMENT ON COLUMN llm.progress.state IS 'open, paused or finished, as in llm.job: what single rows share is open until its day is over';
COMMENT ON COLUMN llm.progress.why IS 'what they wait for, if not just for their turn';
COMMENT ON COLUMN llm.progress.bar IS 'final tasks as a bar and in percent';

-- Volatile like clock_timestamp(): to be compared with an indexed column as (SELECT llm.clock()).
CREATE FUNCTION llm.clock() RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_clock';
COMMENT ON FUNCTION llm.clock() IS 'internal: clock_timestamp(), which a test can set forward';

ALTER TABLE llm.ledger ALTER COLUMN at SET DEFAULT llm.clock();

-- Quiet cells.
ALTER TABLE llm.job ADD COLUMN cell_kind text NOT NULL DEFAULT 'marker' CHECK (cell_kind IN ('marker', 'quiet')),
	ADD COLUMN cell jsonb;
ALTER TABLE llm.job ADD COLUMN max_concurrency int CHECK (max_concurrency > 0);
ALTER TABLE llm.job ADD COLUMN announced text NOT NULL DEFAULT 'open';
UPDATE llm.job SET announced = state;
CREATE INDEX job_untold ON llm.job (id) WHERE state <> announced AND NOT (state = 'open' AND announced = 'budget')
	OR state = 'open' AND announced <> 'budget' AND pg_catalog.starts_with(reason, 'budget');
COMMENT ON COLUMN llm.job.announced IS 'state that was told last by NOTIFY and in the log; budget: it met one';
ALTER TABLE llm.job ADD COLUMN estimated_cost numeric, ADD COLUMN pace_at timestamptz, ADD COLUMN pace_final bigint,
	ADD COLUMN pace_before_at timestamptz, ADD COLUMN pace_before_final bigint;
COMMENT ON COLUMN llm.job.estimated_cost IS 'US dollars that it was to cost when it was queued; NULL: not estimated, or of another model';
COMMENT ON COLUMN llm.job.pace_at IS 'a moment at most a minute ago, while tasks become final';
COMMENT ON COLUMN llm.job.pace_final IS 'final tasks at that moment';
COMMENT ON COLUMN llm.job.pace_before_at IS 'the moment before that one';
COMMENT ON COLUMN llm.job.pace_before_final IS 'final tasks at that one';
ALTER TABLE llm.job ADD COLUMN hides_key boolean NOT NULL DEFAULT false;
CREATE INDEX job_hides_key ON llm.job (id) WHERE hides_key;
COMMENT ON COLUMN llm.job.hides_key IS 'the role may not read the key of these rows, and does not see it here either';
ALTER TABLE llm.job ADD COLUMN fresh boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN llm.job.fresh IS 'its tasks take no kept answer, since they were asked before (llm.retry)';
ALTER TABLE llm.job ADD COLUMN max_cost numeric;
COMMENT ON COLUMN llm.job.max_cost IS 'US dollars that its requests may cost together, by llm_enrich.max_cost; NULL: no cap';
COMMENT ON COLUMN llm.job.cell_kind IS 'marker: the cell shows it while its task is pending; quiet: it keeps its value';
COMMENT ON COLUMN llm.job.cell IS 'of quiet cells: the expression around the call, where there is one, and what it means';
ALTER TABLE llm.queue ADD COLUMN cell bigint, ADD COLUMN fence bytea, ADD COLUMN leaves jsonb;
CREATE INDEX queue_cell ON llm.queue (cell) WHERE cell IS NOT NULL;
ALTER TABLE llm.queue ALTER COLUMN cell SET STATISTICS 0, ALTER COLUMN fence SET STATISTICS 0,
	ALTER COLUMN leaves SET STATISTICS 0;
COMMENT ON COLUMN llm.queue.cell IS 'number of a quiet cell: a hash of table, column and key';
COMMENT ON COLUMN llm.queue.fence IS 'of a quiet cell: what it held, and which row it was in';
COMMENT ON COLUMN llm.queue.leaves IS 'of a quiet cell: values of the expression around the call that were evaluated with the row';
ALTER TABLE llm.cancellation ADD COLUMN superseded boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN llm.cancellation.superseded IS 'another question was asked about its quiet cell';
ALTER TABLE llm.dead_letter ADD COLUMN cell bigint, ADD COLUMN fence bytea, ADD COLUMN leaves jsonb;
ALTER TABLE llm.dead_letter ADD COLUMN hides_key boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN llm.dead_letter.hides_key IS 'as in llm.job: the role itself does not see the letter';
DROP POLICY own ON llm.queue;
CREATE POLICY own ON llm.queue FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
	AND NOT job OPERATOR(pg_catalog.=) ANY (SELECT j.id FROM llm.job j WHERE j.hides_key));
DROP POLICY own ON llm.dead_letter;
CREATE POLICY own ON llm.dead_letter FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
	AND NOT hides_key);
CREATE INDEX dead_letter_cell ON llm.dead_letter (cell) WHERE cell IS NOT NULL;
COMMENT ON COLUMN llm.dead_letter.cell IS 'number of a quiet cell, which has one dead letter at most';
COMMENT ON COLUMN llm.dead_letter.fence IS 'of a quiet cell: what it held, and which row it was in';
COMMENT ON COLUMN llm.dead_letter.leaves IS 'of a quiet cell: values of the expression around the call';

CREATE OR REPLACE VIEW llm.progress WITH (security_invoker = true) AS
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
COMMENT ON COLUMN llm.progress.eta IS 'time left at that rate; NULL while it waits for money, or until it is resumed';
COMMENT ON COLUMN llm.progress.rows_per_s IS 'final tasks per second lately; of a job that has ended, on the average';
COMMENT ON COLUMN llm.progress.estimated_cost IS 'US dollars that it was to cost when it was queued';
COMMENT ON COLUMN llm.progress.forecast_cost IS 'US dollars in the end, if the rest costs what the tasks so far did';
-- Sums of the ledger, and the bill.
-- What llm.ledger adds up to, for the bill.  The sender sums new rows about once a second, in
-- the order of their numbers, and notes up to which row; what is newer is read from the ledger
-- itself.  So the sums are never behind, and they stay when old rows of the ledger are deleted.
--
-- One table for each grain: the finest has every dimension; the two coarse ones answer the usual
-- questions without reading it, and the totals are counters since the extension came.  A dimension
-- that a grain does not keep is NULL there.
CREATE TABLE llm.ledger_sum (
	grain text NOT NULL CHECK (grain IN ('quarter', 'hour', 'day', 'total')),
	start timestamptz NOT NULL,
	hash uuid NOT NULL,
	role text NOT NULL,
	server text,
	model text,
	relation text,
	column_name text,
	operation text,
	lane text,
	outcome text,
	tags jsonb,
	requests bigint NOT NULL,
	tasks bigint NOT NULL,
	answers bigint NOT NULL,
	input_tokens bigint NOT NULL,
	cached_tokens bigint NOT NULL,
	cache_write_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	reasoning_tokens bigint NOT NULL,
	cost numeric,
	estimated_cost numeric NOT NULL,
	wasted numeric NOT NULL,
	saved numeric NOT NULL,
	unpriced bigint NOT NULL,
	latency_ms bigint NOT NULL,
	PRIMARY KEY (grain, start, hash)
) PARTITION BY LIST (grain);
CREATE TABLE llm.ledger_sum_quarter PARTITION OF llm.ledger_sum FOR VALUES IN ('quarter') WITH (fillfactor = 80);
CREATE TABLE llm.ledger_sum_hour PARTITION OF llm.ledger_sum FOR VALUES IN ('hour') WITH (fillfactor = 80);
CREATE TABLE llm.ledger_sum_day PARTITION OF llm.ledger_sum FOR VALUES IN ('day') WITH (fillfactor = 80);
CREATE TABLE llm.ledger_sum_total PARTITION OF llm.ledger_sum FOR VALUES IN ('total') WITH (fillfactor = 50);
COMMENT ON TABLE llm.ledger_sum IS 'llm.ledger summed by time and dimensions; see llm.bill()';
COMMENT ON COLUMN llm.ledger_sum.grain IS 'quarter (of an hour, every dimension), hour (server, model, lane, outcome), day (relation, column, operation, tags) or total (server, model, outcome)';
COMMENT ON COLUMN llm.ledger_sum.start IS 'start of the quarter-hour, hour or day, by UTC; of a total -infinity';
COMMENT ON COLUMN llm.ledger_sum.hash IS 'MD5 of the dimensions';
COMMENT ON COLUMN llm.ledger_sum.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_sum.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_sum.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_sum.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_sum.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_sum.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_sum.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_sum.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_sum.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_sum.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.ledger_sum.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.ledger_sum.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.ledger_sum.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_sum.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_sum.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_sum.cost IS 'US dollars, estimates included; NULL when no price is known of any';
COMMENT ON COLUMN llm.ledger_sum.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_sum.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_sum.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_sum.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.ledger_sum.latency_ms IS 'milliseconds of all requests together';
COMMENT ON TABLE llm.ledger_sum_quarter IS 'llm.ledger_sum of grain quarter';
COMMENT ON COLUMN llm.ledger_sum_quarter.grain IS 'quarter (of an hour, every dimension), hour (server, model, lane, outcome), day (relation, column, operation, tags) or total (server, model, outcome)';
COMMENT ON COLUMN llm.ledger_sum_quarter.start IS 'start of the quarter-hour, hour or day, by UTC; of a total -infinity';
COMMENT ON COLUMN llm.ledger_sum_quarter.hash IS 'MD5 of the dimensions';
COMMENT ON COLUMN llm.ledger_sum_quarter.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_sum_quarter.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_sum_quarter.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_sum_quarter.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_sum_quarter.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_sum_quarter.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_sum_quarter.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_sum_quarter.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_sum_quarter.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_sum_quarter.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.ledger_sum_quarter.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.ledger_sum_quarter.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.ledger_sum_quarter.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_sum_quarter.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_quarter.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_quarter.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_sum_quarter.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_sum_quarter.cost IS 'US dollars, estimates included; NULL when no price is known of any';
COMMENT ON COLUMN llm.ledger_sum_quarter.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_sum_quarter.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_sum_quarter.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_sum_quarter.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.ledger_sum_quarter.latency_ms IS 'milliseconds of all requests together';
COMMENT ON TABLE llm.ledger_sum_hour IS 'llm.ledger_sum of grain hour';
COMMENT ON COLUMN llm.ledger_sum_hour.grain IS 'quarter (of an hour, every dimension), hour (server, model, lane, outcome), day (relation, column, operation, tags) or total (server, model, outcome)';
COMMENT ON COLUMN llm.ledger_sum_hour.start IS 'start of the quarter-hour, hour or day, by UTC; of a total -infinity';
COMMENT ON COLUMN llm.ledger_sum_hour.hash IS 'MD5 of the dimensions';
COMMENT ON COLUMN llm.ledger_sum_hour.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_sum_hour.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_sum_hour.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_sum_hour.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_sum_hour.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_sum_hour.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_sum_hour.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_sum_hour.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_sum_hour.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_sum_hour.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.ledger_sum_hour.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.ledger_sum_hour.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.ledger_sum_hour.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_sum_hour.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_hour.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_hour.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_sum_hour.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_sum_hour.cost IS 'US dollars, estimates included; NULL when no price is known of any';
COMMENT ON COLUMN llm.ledger_sum_hour.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_sum_hour.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_sum_hour.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_sum_hour.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.ledger_sum_hour.latency_ms IS 'milliseconds of all requests together';
COMMENT ON TABLE llm.ledger_sum_day IS 'llm.ledger_sum of grain day';
COMMENT ON COLUMN llm.ledger_sum_day.grain IS 'quarter (of an hour, every dimension), hour (server, model, lane, outcome), day (relation, column, operation, tags) or total (server, model, outcome)';
COMMENT ON COLUMN llm.ledger_sum_day.start IS 'start of the quarter-hour, hour or day, by UTC; of a total -infinity';
COMMENT ON COLUMN llm.ledger_sum_day.hash IS 'MD5 of the dimensions';
COMMENT ON COLUMN llm.ledger_sum_day.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_sum_day.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_sum_day.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_sum_day.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_sum_day.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_sum_day.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_sum_day.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_sum_day.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_sum_day.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_sum_day.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.ledger_sum_day.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.ledger_sum_day.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.ledger_sum_day.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_sum_day.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_day.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_day.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_sum_day.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_sum_day.cost IS 'US dollars, estimates included; NULL when no price is known of any';
COMMENT ON COLUMN llm.ledger_sum_day.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_sum_day.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_sum_day.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_sum_day.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.ledger_sum_day.latency_ms IS 'milliseconds of all requests together';
COMMENT ON TABLE llm.ledger_sum_total IS 'llm.ledger_sum of grain total';
COMMENT ON COLUMN llm.ledger_sum_total.grain IS 'quarter (of an hour, every dimension), hour (server, model, lane, outcome), day (relation, column, operation, tags) or total (server, model, outcome)';
COMMENT ON COLUMN llm.ledger_sum_total.start IS 'start of the quarter-hour, hour or day, by UTC; of a total -infinity';
COMMENT ON COLUMN llm.ledger_sum_total.hash IS 'MD5 of the dimensions';
COMMENT ON COLUMN llm.ledger_sum_total.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_sum_total.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_sum_total.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_sum_total.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_sum_total.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_sum_total.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_sum_total.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_sum_total.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_sum_total.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_sum_total.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.ledger_sum_total.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.ledger_sum_total.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.ledger_sum_total.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_sum_total.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_total.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_sum_total.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_sum_total.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_sum_total.cost IS 'US dollars, estimates included; NULL when no price is known of any';
COMMENT ON COLUMN llm.ledger_sum_total.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_sum_total.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_sum_total.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_sum_total.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.ledger_sum_total.latency_ms IS 'milliseconds of all requests together';

CREATE TABLE llm.ledger_summed (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	up_to bigint NOT NULL,
	tags text,
	tags_since timestamptz
);
COMMENT ON TABLE llm.ledger_summed IS 'how far the ledger is summed';
COMMENT ON COLUMN llm.ledger_summed.only_row IS 'there is at most one row';
COMMENT ON COLUMN llm.ledger_summed.up_to IS 'llm.ledger.id of the last row in llm.ledger_sum';
COMMENT ON COLUMN llm.ledger_summed.tags IS 'llm_enrich.bill_tags as that row was summed';
COMMENT ON COLUMN llm.ledger_summed.tags_since IS 'rows from then on were summed with those tags; -infinity: all';

-- Those of some tags that llm_enrich.bill_tags names; NULL: none of them.
CREATE FUNCTION llm.billed_tags(tags jsonb) RETURNS jsonb
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_object_agg(btrim(s), tags -> btrim(s))
	FROM string_to_table(current_setting('llm_enrich.bill_tags'), ',') s WHERE tags ? btrim(s)
$$;
COMMENT ON FUNCTION llm.billed_tags(jsonb) IS 'those of the tags that llm_enrich.bill_tags names';

-- The rows of the ledger that are not summed yet, as llm.ledger_sum sees them, one for one.
CREATE VIEW llm.ledger_unsummed WITH (security_invoker = true) AS
SELECT l.id, l.request,
	pg_catalog.date_bin('15 minutes', l.at, '2000-01-01 00:00:00+00') AS start,
	l.role, l.server, l.model, l.relation, l.column_name, l.operation, l.lane, l.outcome,
	CASE WHEN l.tags IS NOT NULL THEN llm.billed_tags(l.tags) END AS tags,
	CASE WHEN l.attempt = 1 OR l.attempt IS NULL THEN 1 ELSE 0 END AS tasks,
	CASE WHEN l.outcome IN ('ok', 'cached') THEN 1 ELSE 0 END AS answers,
	l.input_tokens, l.cached_tokens, l.cache_write_tokens, l.output_tokens, l.reasoning_tokens, l.cost,
	CASE WHEN l.estimated THEN l.cost END AS estimated_cost,
	CASE WHEN l.outcome NOT IN ('ok', 'cached') THEN l.cost END AS wasted,
	CASE WHEN l.outcome = 'cached' THEN (SELECT pg_catalog.max(o.cost) FROM llm.ledger o
			WHERE o.task = l.paid_by AND o.outcome = 'ok' AND NOT EXISTS (
				-- the first use of an answer that could not be written, which counts as wasted
				SELECT FROM llm.dead_letter d WHERE d.task = l.paid_by AND d.answer IS NOT NULL))
		WHEN l.cached_tokens > 0 THEN (SELECT l.cached_tokens::numeric * (p.input_per_mtok - p.cached_input_per_mtok) * 0.000001
			FROM llm.price p WHERE p.server = l.server AND p.model = l.model
			AND p.valid_from <= l.at AND p.valid_until > l.at) END AS saved,
	CASE WHEN l.cost IS NULL THEN 1 ELSE 0 END AS unpriced,
	COALESCE(l.latency_ms, 0) AS latency_ms
FROM llm.ledger l WHERE l.id > COALESCE((SELECT s.up_to FROM llm.ledger_summed s), 0);
COMMENT ON VIEW llm.ledger_unsummed IS 'rows of llm.ledger that are not in llm.ledger_sum yet';
COMMENT ON COLUMN llm.ledger_unsummed.id IS 'llm.ledger.id';
COMMENT ON COLUMN llm.ledger_unsummed.request IS 'number of the HTTP request';
COMMENT ON COLUMN llm.ledger_unsummed.start IS 'start of the quarter-hour, by UTC';
COMMENT ON COLUMN llm.ledger_unsummed.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger_unsummed.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger_unsummed.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger_unsummed.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger_unsummed.column_name IS 'column';
COMMENT ON COLUMN llm.ledger_unsummed.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ledger_unsummed.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger_unsummed.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.ledger_unsummed.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ledger_unsummed.tasks IS '1 for a task''s first row';
COMMENT ON COLUMN llm.ledger_unsummed.answers IS '1 where an answer came';
COMMENT ON COLUMN llm.ledger_unsummed.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger_unsummed.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger_unsummed.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger_unsummed.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger_unsummed.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger_unsummed.cost IS 'US dollars; NULL when no price is known';
COMMENT ON COLUMN llm.ledger_unsummed.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.ledger_unsummed.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.ledger_unsummed.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.ledger_unsummed.unpriced IS '1 where the price is not known';
COMMENT ON COLUMN llm.ledger_unsummed.latency_ms IS 'milliseconds from sending to the whole answer';

-- How tasks ended: what the writer made final, by quarter-hours and jobs.  Names are copied from
-- the job, so that these rows outlive it.
CREATE TABLE llm.ended_sum (
	start timestamptz NOT NULL,
	job bigint NOT NULL,
	role text NOT NULL,
	relation text,
	column_name text,
	operation text,
	tags jsonb,
	done bigint NOT NULL,
	failed bigint NOT NULL,
	superseded bigint NOT NULL,
	cancelled bigint NOT NULL,
	row_gone bigint NOT NULL,
	dropped_cost numeric NOT NULL,
	PRIMARY KEY (start, job)
) WITH (fillfactor = 70);
COMMENT ON TABLE llm.ended_sum IS 'how tasks ended, by quarter-hours and jobs; see llm.bill()';
COMMENT ON COLUMN llm.ended_sum.start IS 'start of the quarter-hour, by UTC';
COMMENT ON COLUMN llm.ended_sum.job IS 'llm.job.id; of immediate calls, which have none, a number below zero for what they share';
COMMENT ON COLUMN llm.ended_sum.role IS 'role that asked';
COMMENT ON COLUMN llm.ended_sum.relation IS 'table or view';
COMMENT ON COLUMN llm.ended_sum.column_name IS 'column';
COMMENT ON COLUMN llm.ended_sum.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.ended_sum.tags IS 'those tags of the call that llm_enrich.bill_tags names';
COMMENT ON COLUMN llm.ended_sum.done IS 'tasks whose answer is in its cell';
COMMENT ON COLUMN llm.ended_sum.failed IS 'tasks that failed';
COMMENT ON COLUMN llm.ended_sum.superseded IS 'tasks whose cell got another value meanwhile';
COMMENT ON COLUMN llm.ended_sum.cancelled IS 'tasks cancelled';
COMMENT ON COLUMN llm.ended_sum.row_gone IS 'tasks whose row was deleted';
COMMENT ON COLUMN llm.ended_sum.dropped_cost IS 'US dollars for answers that did not satisfy checks, or whose tasks are not done, or that no statement waited for any more; less what an answer cost that is written after all';

ALTER TABLE llm.ledger_sum ENABLE ROW LEVEL SECURITY;
-- Who reads all tables reads a partition by its name, too; nobody else does.
ALTER TABLE llm.ledger_sum_quarter ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.ledger_sum_hour ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.ledger_sum_day ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.ledger_sum_total ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.ended_sum ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.ledger_sum FOR SELECT USING (role OPERATOR(pg_catalog.=) current_user::text);
CREATE POLICY own ON llm.ended_sum FOR SELECT USING (role OPERATOR(pg_catalog.=) current_user::text);
CREATE POLICY admin ON llm.ledger_sum FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')
	OR pg_catalog.pg_has_role('pg_monitor', 'usage')));
CREATE POLICY admin ON llm.ended_sum FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')
	OR pg_catalog.pg_has_role('pg_monitor', 'usage')));
GRANT SELECT ON llm.ledger_sum, llm.ledger_summed, llm.ledger_unsummed, llm.ended_sum TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('llm.ledger_sum_quarter', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ledger_sum_hour', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ledger_sum_day', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ledger_sum_total', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ledger_summed', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ended_sum', '');

CREATE INDEX ledger_cell ON llm.ledger (relation, key);

-- What llm.bill() reads: the coarsest grain that has what is asked for, and quarter-hours at both ends of the time.
-- A row of it begins with its time; then come the dimensions in this order, all tags where one is asked for, and figures.
CREATE FUNCTION llm.bill_query(by text[], since timestamptz, until timestamptz)
	RETURNS TABLE (query text, dimensions text[], tags text[])
	LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
	SET search_path = pg_catalog, pg_temp
	SET DateStyle = 'ISO, YMD'
AS $$
#variable_conflict use_column
DECLARE
	v_known CONSTANT text[] := '{hour,day,week,month,server,model,relation,column,role,operation,lane,outcome}';
	v_times CONSTANT text[] := '{hour,day,week,month}';
	v_of_hour CONSTANT text[] := '{hour,day,week,month,server,model,role,lane,outcome}';
	v_of_day CONSTANT text[] := '{day,week,month,relation,column,role,operation}';
	v_of_ended CONSTANT text[] := '{hour,day,week,month,relation,column,role,operation}';
	v_declared CONSTANT text[] := ARRAY(SELECT btrim(s) FROM string_to_table(current_setting('llm_enrich.bill_tags'), ',') s);
	v_utc CONSTANT boolean := current_setting('TimeZone') ~* '^(Etc/)?(UTC|UCT|GMT|Zulu|Universal|Greenwich)$';
	v_first CONSTANT timestamptz := COALESCE($2, '-infinity');
	v_last CONSTANT timestamptz := COALESCE($3, 'infinity');
	v_asked text[] := '{}';
	v_tags text[] := '{}';
	v_dimension text;
	v_grain text := 'quarter';
	v_coarse_first timestamptz;
	v_coarse_last timestamptz;
	v_ended boolean;
	v_twice boolean;
	v_query text;
	v_figures CONSTANT text := 'u.input_tokens, u.cached_tokens, u.cache_write_tokens, u.output_tokens, u.reasoning_tokens, '
		'u.unpriced, u.cost, u.estimated_cost, u.wasted, u.saved';
	v_words text;
	v_done text;
BEGIN
	FOREACH v_dimension IN ARRAY COALESCE(by, '{}') LOOP
		IF v_dimension LIKE 'tag:%' THEN
			IF substr(v_dimension, 5) <> ALL (v_declared) THEN
				RAISE EXCEPTION 'tag "%" is not declared', substr(v_dimension, 5)
					USING ERRCODE = 'invalid_parameter_value',
						HINT = format('Add it to "llm_enrich.bill_tags", which is ''%s'': what is sent from then on is summed by it.',
							current_setting('llm_enrich.bill_tags'));
			END IF;
			IF substr(v_dimension, 5) <> ALL (v_tags) THEN
				v_tags := v_tags || substr(v_dimension, 5);
			END IF;
		ELSIF v_dimension = ANY (v_known) THEN
			v_asked := v_asked || v_dimension;
		ELSE
			RAISE EXCEPTION 'there is no dimension "%"', v_dimension
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Dimensions are %s and tag:NAME.', array_to_string(v_known, ', '));
		END IF;
	END LOOP;
	IF v_first > v_last THEN
		RAISE EXCEPTION '"since" lies after "until"' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'SELECT * FROM llm.bill(''{day}'', since => ''2026-11-01'', until => ''2026-12-01'');';
	END IF;

	-- Where clocks are set back across midnight, the end of a day comes twice, with a piece of the next one in between.
	v_twice := v_asked && v_times AND NOT v_utc AND EXISTS (
		SELECT FROM generate_series(GREATEST(v_first, '2025-01-01'), LEAST(v_last, llm.clock() + interval '1 day'), '24 hours') d,
			LATERAL generate_series(d, d + interval '24 hours', '15 minutes') q
		WHERE date_part('timezone', d + interval '25 hours') < date_part('timezone', d)
			AND (q + interval '15 minutes')::date < q::date);

	-- Hours and days of the sums are those of UTC.  Those hours are the hours of most time zones, too, and make up their days.
	IF v_asked <@ v_of_hour AND v_tags = '{}' AND (v_utc OR NOT v_asked && v_times OR NOT v_twice AND NOT EXISTS (
			SELECT FROM generate_series(GREATEST(v_first, '2025-01-01'), LEAST(v_last, llm.clock() + interval '1 day'), '1 day') d
			WHERE date_part('timezone', d)::int % 3600 <> 0)) THEN
		v_grain := 'hour';
	ELSIF v_asked <@ v_of_day AND (v_utc OR NOT v_asked && v_times) THEN
		v_grain := 'day';
	END IF;
	v_coarse_first := v_first;
	v_coarse_last := v_last;
	IF v_grain <> 'quarter' THEN
		IF isfinite(v_first) THEN
			v_coarse_first := date_trunc(v_grain, v_first + ('1 ' || v_grain)::interval - interval '1 microsecond', 'UTC');
		END IF;
		IF isfinite(v_last) THEN
			v_coarse_last := GREATEST(date_trunc(v_grain, v_last, 'UTC'), v_coarse_first);
		END IF;
	END IF;

	v_words := COALESCE((SELECT string_agg(format('u.%I, ', CASE k WHEN 'column' THEN 'column_name' ELSE k END), '' ORDER BY n)
			FROM unnest(v_known) WITH ORDINALITY v(k, n) WHERE k = ANY (v_asked) AND k <> ALL (v_times)), '')
		|| CASE WHEN v_tags <> '{}' THEN 'u.tags, ' ELSE '' END;
	v_ended := v_asked <@ v_of_ended;
	v_done := CASE WHEN v_ended THEN '0::bigint' ELSE 'u.answers::bigint' END;

	-- the last branch but one is what is not summed yet: a request is counted with the first of its tasks
	v_query := format($q$SELECT u.start, %1$s u.requests, u.tasks, %2$s AS done, %3$s
		FROM llm.ledger_sum u WHERE u.grain = %4$L AND u.start >= %5$L::timestamptz AND u.start < %6$L::timestamptz$q$,
			v_words, v_done, v_figures, v_grain, v_coarse_first, v_coarse_last)
		-- the ends of the time, where the grain is coarser than they are
		|| CASE WHEN v_coarse_first > v_first THEN format($q$
		UNION ALL SELECT u.start, %1$s u.requests, u.tasks, %2$s, %3$s FROM llm.ledger_sum u
		WHERE u.grain = 'quarter' AND u.start >= %4$L::timestamptz AND u.start < %5$L::timestamptz$q$,
			v_words, v_done, v_figures, v_first, LEAST(v_coarse_first, v_last)) ELSE '' END
		|| CASE WHEN v_coarse_last < v_last THEN format($q$
		UNION ALL SELECT u.start, %1$s u.requests, u.tasks, %2$s, %3$s FROM llm.ledger_sum u
		WHERE u.grain = 'quarter' AND u.start >= %4$L::timestamptz AND u.start < %5$L::timestamptz$q$,
			v_words, v_done, v_figures, v_coarse_last, v_last) ELSE '' END
		|| format($q$
		UNION ALL SELECT u.start, %1$s CASE WHEN u.request IS NOT NULL
			AND row_number() OVER (PARTITION BY u.request ORDER BY u.id) = 1 THEN 1::bigint ELSE 0 END, u.tasks::bigint, %2$s,
			u.input_tokens::bigint, u.cached_tokens::bigint, u.cache_write_tokens::bigint, u.output_tokens::bigint,
			u.reasoning_tokens::bigint, u.unpriced::bigint, u.cost, u.estimated_cost, u.wasted, u.saved
		FROM llm.ledger_unsummed u WHERE u.start >= %3$L::timestamptz AND u.start < %4$L::timestamptz$q$,
			v_words, v_done, v_first, v_last)
		|| CASE WHEN v_ended THEN format($q$
		UNION ALL SELECT u.start, %1$s 0, 0, u.done, 0, 0, 0, 0, 0, 0, NULL, 0, u.dropped_cost, 0
		FROM llm.ended_sum u WHERE u.start >= %2$L::timestamptz AND u.start < %3$L::timestamptz$q$,
			v_words, v_first, v_last) ELSE '' END;
	RETURN QUERY SELECT CASE WHEN v_twice AND 'hour' <> ALL (v_asked)
			THEN 'SELECT * FROM (' || v_query || ') u ORDER BY date_trunc(''day'', u.start)'
		WHEN v_asked && v_times THEN v_query || ' ORDER BY 1' ELSE v_query END, v_asked, v_tags;
END
$$;
COMMENT ON FUNCTION llm.bill_query(text[], timestamptz, timestamptz) IS 'what llm.bill() reads';

CREATE FUNCTION llm.bill(by text[] DEFAULT '{day,model}', since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL)
	RETURNS TABLE (hour timestamptz, day date, week date, month date, server text, model text, relation text,
		"column" text, role text, operation text, lane text, outcome text, tags jsonb,
		requests bigint, tasks bigint, rows_done bigint, input_tokens bigint, cached_tokens bigint,
		cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cost numeric,
		cost_per_row numeric, estimated_cost numeric, wasted numeric, saved numeric, unpriced bigint)
	LANGUAGE c STABLE PARALLEL SAFE ROWS 1000
	SET search_path = pg_catalog, pg_temp
	SET jit = off
	SET work_mem = '64MB'
	AS 'MODULE_PATHNAME', 'llm_enrich_bill';
COMMENT ON FUNCTION llm.bill(text[], timestamptz, timestamptz)
	IS 'what was spent, by any of hour, day, week, month, server, model, relation, column, role, operation, lane, outcome and tag:NAME';

INSERT INTO llm.ended_sum (start, job, role, relation, column_name, operation, done, failed, superseded, cancelled, row_gone, dropped_cost)
SELECT pg_catalog.date_bin('15 minutes', COALESCE(j.finished_at, pg_catalog.now()), '2000-01-01 00:00:00+00'), j.id, j.role_name,
	NULLIF(j.relation_name, ''), NULLIF(j.column_name, ''), j.operation, j.done, j.failed, j.superseded, j.cancelled, j.row_gone, 0
FROM llm.job j WHERE GREATEST(j.done, j.failed, j.superseded, j.cancelled, j.row_gone) OPERATOR(pg_catalog.>) 0::bigint;
-- What users have made of these views stays.
CREATE OR REPLACE VIEW llm.cost_by_day WITH (security_invoker = true) AS
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
CREATE OR REPLACE VIEW llm.cost_by_model WITH (security_invoker = true) AS
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
CREATE OR REPLACE VIEW llm.cost_by_table WITH (security_invoker = true) AS
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
CREATE OR REPLACE VIEW llm.cost_by_role WITH (security_invoker = true) AS
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
CREATE OR REPLACE VIEW llm.cost_by_tag WITH (security_invoker = true) AS
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
-- Options of a model, and providers that are known by name.
ALTER TABLE llm.model ADD COLUMN options jsonb CHECK (pg_catalog.jsonb_typeof(options) OPERATOR(pg_catalog.=) 'object');
COMMENT ON COLUMN llm.model.options IS 'options of the server that are others for this model: answer_form, connect_timeout, context_tokens, extra_body, max_tokens_field, system_role, timeout';
ALTER TABLE llm.model ADD COLUMN fallback text CHECK (fallback OPERATOR(pg_catalog.<>) alias);
COMMENT ON COLUMN llm.model.fallback IS 'alias of the model that is asked while this one does not answer, refuses everybody or has refused a row; NULL: none';
CREATE FUNCTION llm.add_model(
	alias text,
	server text,
	model text,
	is_default boolean DEFAULT false,
	input_per_mtok numeric DEFAULT NULL,
	cached_input_per_mtok numeric DEFAULT NULL,
	cache_write_per_mtok numeric DEFAULT NULL,
	output_per_mtok numeric DEFAULT NULL,
	batch_input_per_mtok numeric DEFAULT NULL,
	batch_output_per_mtok numeric DEFAULT NULL,
	requests_per_minute int DEFAULT NULL,
	tokens_per_minute int DEFAULT NULL,
	max_concurrency int DEFAULT NULL,
	options jsonb DEFAULT NULL,
	fallback text DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_add_model';
COMMENT ON FUNCTION llm.add_model(text, text, text, boolean, numeric, numeric, numeric, numeric, numeric, numeric, int, int, int, jsonb, text)
	IS 'let calls use a model of a server by an alias; prices not given are looked up in llm.price_list';

CREATE FUNCTION llm.alter_model(
	alias text,
	server text DEFAULT NULL,
	model text DEFAULT NULL,
	is_default boolean DEFAULT NULL,
	requests_per_minute int DEFAULT NULL,
	tokens_per_minute int DEFAULT NULL,
	max_concurrency int DEFAULT NULL,
	options jsonb DEFAULT NULL,
	fallback text DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_alter_model';
COMMENT ON FUNCTION llm.alter_model(text, text, text, boolean, int, int, int, jsonb, text)
	IS 'change what is given of a model; a limit of 0 takes it away, as do options of {} and an empty fallback';

-- Providers that are known by name; a dialect that this build does not have has none.
CREATE FUNCTION llm.read_providers(
	OUT provider text, OUT dialect text, OUT base_url text, OUT answer_form text, OUT max_tokens_field text,
	OUT max_concurrency text, OUT note text)
RETURNS SETOF record
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'llm_enrich_read_providers';
COMMENT ON FUNCTION llm.read_providers() IS 'rows of llm.provider_list';

CREATE VIEW llm.provider_list WITH (security_invoker = true) AS
SELECT provider, dialect, base_url, answer_form, max_tokens_field, max_concurrency, note FROM llm.read_providers();
COMMENT ON VIEW llm.provider_list IS 'providers that are known by name, and the options that the option provider fills in';
COMMENT ON COLUMN llm.provider_list.provider IS 'value of the option provider';
COMMENT ON COLUMN llm.provider_list.dialect IS 'form of its requests and answers';
COMMENT ON COLUMN llm.provider_list.base_url IS 'its address; NULL: give yours';
COMMENT ON COLUMN llm.provider_list.answer_form IS 'how the form of an answer is asked for; NULL: as the dialect does';
COMMENT ON COLUMN llm.provider_list.max_tokens_field IS 'what caps output tokens; NULL: as the dialect has it';
COMMENT ON COLUMN llm.provider_list.max_concurrency IS 'simultaneous requests; NULL: as for others';
COMMENT ON COLUMN llm.provider_list.note IS 'what else to give';
GRANT SELECT ON llm.provider_list TO PUBLIC;

-- What hosts were found not to take.
CREATE TABLE llm.habit (
	server text NOT NULL,
	model text NOT NULL,
	name text NOT NULL,
	value text NOT NULL,
	since timestamptz NOT NULL DEFAULT pg_catalog.now(),
	why text NOT NULL,
	PRIMARY KEY (server, model, name)
);
COMMENT ON TABLE llm.habit IS 'what hosts were found not to take, and the simpler way that they are asked since; a row that is deleted is found out again';
COMMENT ON COLUMN llm.habit.server IS 'foreign server';
COMMENT ON COLUMN llm.habit.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.habit.name IS 'option that it stands for: answer_form, max_tokens_field or system_role';
COMMENT ON COLUMN llm.habit.value IS 'value that is used instead';
COMMENT ON COLUMN llm.habit.since IS 'when it was found out';
COMMENT ON COLUMN llm.habit.why IS 'the provider''s sentence';
-- The sentence may quote what was asked: labels, a schema, words of an instruction.
ALTER TABLE llm.habit ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.habit FOR SELECT USING (EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
	WHERE s.srvname::text OPERATOR(pg_catalog.=) server AND pg_catalog.pg_has_role(s.srvowner, 'usage')));
CREATE POLICY admin ON llm.habit FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.habit TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('llm.habit', '');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.habit
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.habit IS 'tell all processes that habits have changed';
ALTER TABLE llm.habit ENABLE ALWAYS TRIGGER changed;

-- The first example names the provider, and habits show.
CREATE OR REPLACE VIEW llm.health WITH (security_invoker = true) AS
SELECT kind, subject, state, problem, hint, since, pid, slots_used, slots
FROM llm.read_health()
UNION ALL
SELECT 'server', NULL, 'none', 'there is no server to ask',
	'CREATE SERVER openai FOREIGN DATA WRAPPER llm_enrich OPTIONS (provider ''openai'', api_key_file ''/etc/postgresql/openai.key'');',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (
	SELECT FROM pg_catalog.pg_foreign_server s
	JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
	WHERE w.fdwname OPERATOR(pg_catalog.=) 'llm_enrich')
UNION ALL
SELECT 'model', NULL, 'none', 'there is no model to ask',
	'SELECT llm.add_model(''fast'', server => ''openai'', model => ''gpt-5-mini'', is_default => true);',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (SELECT FROM llm.model)
UNION ALL
SELECT 'habit', pg_catalog.concat('model "', h.model, '" at server "', h.server, '"'),
	pg_catalog.concat(h.name, ' is ', h.value), NULL,
	pg_catalog.concat('Learned from the host: ', h.why), h.since, NULL, NULL, NULL
FROM llm.habit h;
COMMENT ON COLUMN llm.health.kind IS 'launcher, sender, writer, setting, server, model, problem, target or habit';
-- Requests of calls that are answered while a statement waits: a row from before the request
-- leaves until its bill is stored, so that a crash leaves what has to be booked.
CREATE TABLE llm.letter (
	request bigint NOT NULL,
	task bigint NOT NULL,
	attempt int NOT NULL,
	sent_at timestamptz NOT NULL DEFAULT llm.clock(),
	role oid NOT NULL,
	role_name text NOT NULL,
	application_name text,
	server text NOT NULL,
	model text NOT NULL,
	price bigint,
	operation text NOT NULL,
	input_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	tags jsonb,
	reserved numeric,
	PRIMARY KEY (request, task)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE llm.letter IS 'calls that a statement waits for, whose requests are under way';
COMMENT ON COLUMN llm.letter.request IS 'number of the HTTP request, which may carry several calls';
COMMENT ON COLUMN llm.letter.task IS 'number of the call, as on the ledger';
COMMENT ON COLUMN llm.letter.attempt IS 'the call''s requests are numbered from 1';
COMMENT ON COLUMN llm.letter.sent_at IS 'when it was about to leave';
COMMENT ON COLUMN llm.letter.role IS 'role that asked';
COMMENT ON COLUMN llm.letter.role_name IS 'name of that role when it asked';
COMMENT ON COLUMN llm.letter.application_name IS 'application_name of the session that asked';
COMMENT ON COLUMN llm.letter.server IS 'foreign server';
COMMENT ON COLUMN llm.letter.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.letter.price IS 'llm.price.id in force; NULL: none is known';
COMMENT ON COLUMN llm.letter.operation IS 'classify, extract, summarize, complete, check and so on';
COMMENT ON COLUMN llm.letter.input_tokens IS 'estimate, for the bill should nobody ever know better';
COMMENT ON COLUMN llm.letter.output_tokens IS 'the same of the answer';
COMMENT ON COLUMN llm.letter.tags IS 'tags of the call';
COMMENT ON COLUMN llm.letter.reserved IS 'US dollars that the request may cost at most, where a budget or a cap bounds it';

ALTER TABLE llm.letter ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.letter FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.letter FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.letter TO PUBLIC;


-- A check of a model is an immediate call now: no job, and no row of the queue. What was under
-- way when the sender was stopped for this update is booked as unknown.
INSERT INTO llm.ledger (request, task, attempt, role, application_name, model, operation, lane, outcome, error,
	input_tokens, output_tokens, estimated)
SELECT q.request, q.id, q.attempts, j.role_name, j.application_name, j.model, 'check', 'immediate', 'unknown',
	'the sender ended before the answer came', 300, 50, true
FROM llm.queue q JOIN llm.job j ON j.id OPERATOR(pg_catalog.=) q.job
WHERE j.operation OPERATOR(pg_catalog.=) 'check' AND q.state OPERATOR(pg_catalog.=) 'claimed';
DELETE FROM llm.queue q USING llm.job j
WHERE j.id OPERATOR(pg_catalog.=) q.job AND j.operation OPERATOR(pg_catalog.=) 'check';
UPDATE llm.job j SET state = 'finished', finished_at = pg_catalog.now()
WHERE j.operation OPERATOR(pg_catalog.=) 'check' AND j.state OPERATOR(pg_catalog.<>) 'finished';

-- Prices of long prompts, and lists from elsewhere.
ALTER TABLE llm.price ADD COLUMN tiers jsonb;
ALTER TABLE llm.price_list ADD COLUMN tiers jsonb, ADD COLUMN as_of date,
	ADD COLUMN kind text CHECK (kind IN ('chat', 'embed'));
COMMENT ON COLUMN llm.price.tiers IS 'prices of long prompts: [{"above_tokens": …, "input_per_mtok": …}, …]; the highest tier that the input is above holds for the whole request; and of service tiers: [{"service_tier": "flex", …}]';
COMMENT ON COLUMN llm.price_list.tiers IS 'prices of long prompts and of service tiers, as in llm.price';
COMMENT ON COLUMN llm.price_list.as_of IS 'day of the list that the row is from';
COMMENT ON COLUMN llm.price_list.kind IS 'chat: it answers with text; embed: with vectors; NULL: not known';
UPDATE llm.price_list SET as_of = '2026-08-01';
UPDATE llm.price_list SET kind = CASE WHEN model LIKE '%embed%' THEN 'embed' WHEN output_per_mtok > 0::numeric THEN 'chat' END;
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 6, "cached_input_per_mtok": 0.6, "cache_write_per_mtok": 7.5, "output_per_mtok": 22.5}]'
	WHERE (provider, model) = ('anthropic', 'claude-sonnet-4-5');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 4, "output_per_mtok": 18}]'
	WHERE (provider, model) = ('gemini', 'gemini-3.1-pro-preview');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 200000, "input_per_mtok": 2.5, "output_per_mtok": 15}]'
	WHERE (provider, model) = ('gemini', 'gemini-2.5-pro');
UPDATE llm.price_list SET tiers = '[{"above_tokens": 272000, "input_per_mtok": 10, "output_per_mtok": 45}]'
	WHERE (provider, model) = ('openai', 'gpt-5.6-sol');

-- Dollars per token, as a JSON number, in dollars per million; NULL where it is none, or negative.
CREATE FUNCTION llm.listed_price(per_token jsonb) RETURNS numeric
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN jsonb_typeof(per_token) = 'number' THEN CASE WHEN per_token::numeric >= 0
		THEN trim_scale(per_token::numeric * 1000000) END END
$$;
COMMENT ON FUNCTION llm.listed_price(jsonb) IS 'US dollars per million tokens of a price per token';
REVOKE ALL ON FUNCTION llm.listed_price(jsonb) FROM PUBLIC;

-- Prices as LiteLLM publishes them: one object, a member for each model, US dollars per token.
CREATE FUNCTION llm.import_prices(prices jsonb, as_of date DEFAULT pg_catalog.date(pg_catalog.now())) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	v_as_of CONSTANT date := as_of;
	v_rows bigint;
BEGIN
	IF prices IS NULL OR jsonb_typeof(prices) <> 'object' THEN
		RAISE EXCEPTION 'prices must be a JSON object with a member for each model'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'For instance: {"gpt-5-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}}.';
	END IF;
	WITH entry AS (
		SELECT e.key, e.value AS v, CASE e.value ->> 'litellm_provider' WHEN 'together_ai' THEN 'together'
			WHEN 'fireworks_ai' THEN 'fireworks' WHEN 'bedrock_converse' THEN 'bedrock'
			ELSE e.value ->> 'litellm_provider' END AS provider
		FROM jsonb_each(prices) e
		WHERE e.key <> 'sample_spec' AND jsonb_typeof(e.value) = 'object' AND e.value ->> 'litellm_provider' <> ''
			AND e.value ->> 'mode' IN ('chat', 'completion', 'responses', 'embedding', 'moderation')
			AND jsonb_typeof(e.value -> 'input_cost_per_token') = 'number'
	), priced AS (
		SELECT DISTINCT ON (e.provider, m.model) e.provider, m.model,
			llm.listed_price(e.v -> 'input_cost_per_token') AS input,
			CASE e.v ->> 'mode' WHEN 'embedding' THEN 'embed' WHEN 'moderation' THEN NULL ELSE 'chat' END AS kind,
			COALESCE(llm.listed_price(e.v -> 'cache_read_input_token_cost'), llm.listed_price(e.v -> 'input_cost_per_token_cache_hit')) AS cached,
			llm.listed_price(e.v -> 'cache_creation_input_token_cost') AS written,
			COALESCE(llm.listed_price(e.v -> 'output_cost_per_token'), CASE WHEN e.v ->> 'mode' = 'embedding' THEN 0 END) AS output,
			llm.listed_price(e.v -> 'input_cost_per_token_batches') AS batch_input,
			llm.listed_price(e.v -> 'output_cost_per_token_batches') AS batch_output,
			CASE WHEN jsonb_typeof(e.v -> 'max_input_tokens') = 'number' THEN LEAST((e.v -> 'max_input_tokens')::numeric, 2147483647)::int END AS context,
			CASE WHEN jsonb_typeof(e.v -> 'max_output_tokens') = 'number' THEN LEAST((e.v -> 'max_output_tokens')::numeric, 2147483647)::int END AS longest,
			-- prices of long prompts and of service tiers have a name of their own at the end
			(SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('service_tier', t.s, 'above_tokens', t.k * 1000,
				'input_per_mtok', llm.listed_price(e.v -> ('input_cost_per_token' || t.x)),
				'cached_input_per_mtok', llm.listed_price(e.v -> ('cache_read_input_token_cost' || t.x)),
				'cache_write_per_mtok', llm.listed_price(e.v -> ('cache_creation_input_token_cost' || t.x)),
				'output_per_mtok', llm.listed_price(e.v -> ('output_cost_per_token' || t.x)))) ORDER BY t.s NULLS FIRST, t.k NULLS FIRST)
			FROM (SELECT DISTINCT r.m[1] AS x, r.m[2]::int AS k, r.m[3] AS s FROM jsonb_object_keys(e.v) n CROSS JOIN LATERAL regexp_match(n,
				'^(?:in|out)put_cost_per_token((?:_above_([0-9]{1,6})k_tokens)?(?:_(flex|priority))?)$') AS r(m) WHERE r.m[1] <> '') t
			WHERE t.s IS NULL OR jsonb_typeof(e.v -> ('input_cost_per_token' || t.x)) = 'number' AND (e.v ->> 'mode' = 'embedding'
				OR jsonb_typeof(e.v -> ('output_cost_per_token' || t.x)) = 'number')) AS tiers
		-- a model is listed as "provider/model" where its own name is not enough
		FROM entry e CROSS JOIN LATERAL (SELECT CASE WHEN starts_with(e.key, (e.v ->> 'litellm_provider') || '/')
			THEN substr(e.key, length(e.v ->> 'litellm_provider') + 2) ELSE e.key END AS model) m
		ORDER BY e.provider, m.model, e.key
	), stored AS (
		INSERT INTO llm.price_list AS l (provider, model, input_per_mtok, cached_input_per_mtok, cache_write_per_mtok,
			output_per_mtok, batch_input_per_mtok, batch_output_per_mtok, context_tokens, max_output_tokens, tiers, as_of,
			kind)
		SELECT p.provider, p.model, p.input, p.cached, p.written, p.output, p.batch_input, p.batch_output, p.context,
			p.longest, p.tiers, v_as_of, p.kind FROM priced p WHERE p.model <> '' AND p.input IS NOT NULL
		ON CONFLICT (provider, model) DO UPDATE SET input_per_mtok = excluded.input_per_mtok,
			cached_input_per_mtok = excluded.cached_input_per_mtok, cache_write_per_mtok = excluded.cache_write_per_mtok,
			output_per_mtok = excluded.output_per_mtok, batch_input_per_mtok = excluded.batch_input_per_mtok,
			batch_output_per_mtok = excluded.batch_output_per_mtok, context_tokens = excluded.context_tokens,
			max_output_tokens = excluded.max_output_tokens, tiers = excluded.tiers, as_of = excluded.as_of,
			kind = excluded.kind
		RETURNING 1
	)
	SELECT count(*) FROM stored INTO v_rows;
	RETURN v_rows;
END
$$;
COMMENT ON FUNCTION llm.import_prices(jsonb, date)
	IS 'put prices in LiteLLM''s form on llm.price_list and return their number; prices in force stay until llm.set_price()';
REVOKE ALL ON FUNCTION llm.import_prices(jsonb, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.import_prices(jsonb, date) TO llm_admin;
CREATE FUNCTION llm.set_price(
	alias text,
	input_per_mtok numeric,
	output_per_mtok numeric,
	cached_input_per_mtok numeric DEFAULT NULL,
	cache_write_per_mtok numeric DEFAULT NULL,
	batch_input_per_mtok numeric DEFAULT NULL,
	batch_output_per_mtok numeric DEFAULT NULL,
	valid_from timestamptz DEFAULT pg_catalog.now(),
	tiers jsonb DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_set_price';
COMMENT ON FUNCTION llm.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, timestamptz, jsonb)
	IS 'set what a model costs from now or a later time on; what was paid before stays';
-- Functions of quiet cells.
CREATE FUNCTION llm.cell_stands(fence bytea, cell anyelement, row_xmin xid, VARIADIC reads "any") RETURNS boolean
	LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_cell_stands';
COMMENT ON FUNCTION llm.cell_stands(bytea, anyelement, xid, "any")
	IS 'whether a cell has the value that it had when it was asked about, and its row is the one that was';

CREATE FUNCTION llm.cell_value(cell anyelement, number int) RETURNS anyelement
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_cell_value';
COMMENT ON FUNCTION llm.cell_value(anyelement, int) IS 'the value that the write-back under way has for a cell';

CREATE FUNCTION llm.keep_quiet(magic internal, spec bytea, VARIADIC carrier_and_leaves "any") RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_keep_quiet';
COMMENT ON FUNCTION llm.keep_quiet(internal, bytea, "any")
	IS 'whether there is a question for the cell of a row, which then keeps its value until the answer is there';

CREATE FUNCTION llm.carried(magic internal, spec bytea) RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_carried';
COMMENT ON FUNCTION llm.carried(internal, bytea) IS 'the value that keep_quiet was given where that was no question';

CREATE FUNCTION llm.bind_quiet(magic internal, spec bytea, VARIADIC row_values "any") RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_bind_quiet';
COMMENT ON FUNCTION llm.bind_quiet(internal, bytea, "any") IS 'queue the task of a quiet cell of a stored row; true';

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

-- What somebody has put on our tables is told.
CREATE OR REPLACE VIEW llm.health WITH (security_invoker = true) AS
SELECT kind, subject, state, problem, hint, since, pid, slots_used, slots
FROM llm.read_health()
UNION ALL
SELECT 'server', NULL, 'none', 'there is no server to ask',
	'CREATE SERVER openai FOREIGN DATA WRAPPER llm_enrich OPTIONS (provider ''openai'', api_key_file ''/etc/postgresql/openai.key'');',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (
	SELECT FROM pg_catalog.pg_foreign_server s
	JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
	WHERE w.fdwname OPERATOR(pg_catalog.=) 'llm_enrich')
UNION ALL
SELECT 'model', NULL, 'none', 'there is no model to ask',
	'SELECT llm.add_model(''fast'', server => ''openai'', model => ''gpt-5-mini'', is_default => true);',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (SELECT FROM llm.model)
UNION ALL
SELECT 'habit', pg_catalog.concat('model "', h.model, '" at server "', h.server, '"'),
	pg_catalog.concat(h.name, ' is ', h.value), NULL,
	pg_catalog.concat('Learned from the host: ', h.why), h.since, NULL, NULL, NULL
FROM llm.habit h
UNION ALL
SELECT 'table', pg_catalog.format('llm.%s', c.relname) COLLATE pg_catalog."default", 'changed',
	pg_catalog.format('%s "%s" is not run when the extension writes the table', o.kind, o.name)
		COLLATE pg_catalog."default",
	pg_catalog.format('DROP %s %I ON llm.%I;', pg_catalog.upper(o.kind), o.name, c.relname)
		COLLATE pg_catalog."default", NULL, NULL, NULL, NULL
FROM pg_catalog.pg_class c CROSS JOIN LATERAL (
	SELECT 'trigger' AS kind, t.tgname AS name FROM pg_catalog.pg_trigger t
	JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
	WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal
	AND p.pronamespace OPERATOR(pg_catalog.<>) c.relnamespace
	UNION ALL
	SELECT 'rule', r.rulename FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid) o
WHERE c.relnamespace OPERATOR(pg_catalog.=) 'llm'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r';

-- Nobody but the extension writes its tables.
-- Replicated changes that cannot be dropped are refused: of the queue's rows, for which a trigger
-- before the change would lock each row of ours once more, and of whole tables.
CREATE FUNCTION llm.refuse_replicated() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_refuse_replicated';
COMMENT ON FUNCTION llm.refuse_replicated() IS 'refuse what logical replication brings for a table of the extension';
REVOKE ALL ON FUNCTION llm.refuse_replicated() FROM PUBLIC;

CREATE TRIGGER refuse_replicated AFTER UPDATE OR DELETE ON llm.queue
	FOR EACH ROW EXECUTE FUNCTION llm.refuse_replicated();
ALTER TABLE llm.queue ENABLE REPLICA TRIGGER refuse_replicated;
COMMENT ON TRIGGER refuse_replicated ON llm.queue IS 'refuse what logical replication brings';

-- What the planner puts in the place of setval() where a role may write any sequence.
CREATE FUNCTION llm.setval(sequence regclass, value bigint) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_setval';
COMMENT ON FUNCTION llm.setval(regclass, bigint) IS 'setval(), but not of a sequence of the extension';
CREATE FUNCTION llm.setval(sequence regclass, value bigint, is_called boolean) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_setval';
COMMENT ON FUNCTION llm.setval(regclass, bigint, boolean) IS 'setval(), but not of a sequence of the extension';

-- Retention: nobody else deletes rows of the extension's tables.
CREATE PROCEDURE llm.prune(before timestamptz)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_prune';
COMMENT ON PROCEDURE llm.prune(timestamptz) IS
	'delete, in steps, what is older: rows of the ledger, dead letters, finished jobs, kept answers, and recipes that nothing refers to';
-- What steers tasks names the table first.

CREATE FUNCTION llm.cancel(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_cancel';
COMMENT ON FUNCTION llm.cancel(regclass, name, bigint, bigint) IS
	'cancel the caller''s tasks of a table, a column, a job, or one task, and return how many; their cells get back what they held';

CREATE FUNCTION llm.retry(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, reason text[] DEFAULT NULL, model text DEFAULT NULL, instructions text DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_retry';
COMMENT ON FUNCTION llm.retry(regclass, name, bigint, bigint, text[], text, text) IS
	'queue the caller''s dead letters again, as a new job, and return how many; paid answers are used, cells that moved on are left';

CREATE PROCEDURE llm.wait(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, timeout interval DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_wait';
COMMENT ON PROCEDURE llm.wait(regclass, name, bigint, bigint, interval) IS
	'return when these tasks, or all that the session has queued since it last waited, are final; an error when that takes longer than the timeout';

CREATE FUNCTION llm.resume(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, server text DEFAULT NULL, model text DEFAULT NULL, everything boolean DEFAULT false)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_resume';
COMMENT ON FUNCTION llm.resume(regclass, name, bigint, bigint, text, text, boolean) IS
	'let go on what is paused, and return how many jobs, servers or models';

CREATE FUNCTION llm.discard(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, reason text[] DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_discard';
COMMENT ON FUNCTION llm.discard(regclass, name, bigint, bigint, text[]) IS
	'drop the caller''s dead letters and return how many; their cells get back what they held; reason none: answers that were NULL';

CREATE FUNCTION llm.pause(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, server text DEFAULT NULL, model text DEFAULT NULL, everything boolean DEFAULT false)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_pause';
COMMENT ON FUNCTION llm.pause(regclass, name, bigint, bigint, text, text, boolean) IS
	'send nothing more of jobs, to a server or a model, or at all, until llm.resume(); how many are paused by this';

CREATE FUNCTION llm.alter_job(job bigint, priority int DEFAULT NULL, max_concurrency int DEFAULT NULL,
	model text DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_alter_job';
COMMENT ON FUNCTION llm.alter_job(bigint, int, int, text) IS
	'change a job''s priority, how many of its requests may be in flight (0: any number), or its model; NULL: as it is';

COMMENT ON COLUMN llm.job.max_concurrency IS 'requests of the job in flight at a time, at most; NULL: as many as its target takes';
COMMENT ON COLUMN llm.job.state IS 'open, paused (by llm.pause, or since too many failed; see llm.resume) or finished';

-- What is not asked for now, whatever is queued: a server, a model, or everything of a role or of
-- the database.  A job's own pause is in llm.job.
CREATE TABLE llm.pause (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	server text,
	model text,
	role regrole,
	paused_by text NOT NULL,
	paused_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE llm.pause IS 'servers and models that are paused, also for later jobs; see llm.pause() and llm.resume()';
COMMENT ON COLUMN llm.pause.id IS 'number of the pause';
COMMENT ON COLUMN llm.pause.server IS 'foreign server that is not asked; NULL: any';
COMMENT ON COLUMN llm.pause.model IS 'model alias that is not asked; NULL: any';
COMMENT ON COLUMN llm.pause.role IS 'role whose tasks are not sent; NULL: any';
COMMENT ON COLUMN llm.pause.paused_by IS 'role that paused it';
COMMENT ON COLUMN llm.pause.paused_at IS 'start of the transaction that paused it';
COMMENT ON SEQUENCE llm.pause_id_seq IS 'numbers of pauses';
-- Whose tasks wait for it may see a pause.
ALTER TABLE llm.pause ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.pause FOR SELECT USING (role IS NULL OR pg_catalog.pg_has_role(role::oid, 'member'));
CREATE POLICY admin ON llm.pause FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.pause TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('llm.pause', '');
SELECT pg_catalog.pg_extension_config_dump('llm.pause_id_seq', '');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.pause
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.pause IS 'tell all processes that something was paused, or goes on';
ALTER TABLE llm.pause ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION llm.forget_habits(server text DEFAULT NULL, model text DEFAULT NULL) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
	WITH gone AS (
		DELETE FROM llm.habit h WHERE ($1 IS NULL OR h.server = $1) AND ($2 IS NULL OR h.model = $2) RETURNING 1
	)
	SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION llm.forget_habits(text, text) IS
	'forget what hosts were found not to take (NULL: of all servers, all models), so that it is found out again; how many rows';
REVOKE ALL ON FUNCTION llm.forget_habits(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.forget_habits(text, text) TO llm_admin;

-- Fallbacks.
ALTER TABLE llm.queue ADD COLUMN fallback boolean NOT NULL DEFAULT false;
ALTER TABLE llm.queue ALTER COLUMN fallback SET STATISTICS 0;
COMMENT ON COLUMN llm.queue.fallback IS 'its model''s target has refused it: only the model''s fallback is asked from then on';
-- What monitoring scrapes: counters that only grow, and what waits now.  Both are read from a few
-- rows, however long the ledger and the queue are.  Operators have operands of one type here.
CREATE VIEW llm.stat WITH (security_invoker = true) AS
SELECT s.server, s.model, s.outcome,
	pg_catalog.sum(s.requests)::bigint AS requests, pg_catalog.sum(s.tasks)::bigint AS tasks,
	pg_catalog.sum(s.answers)::bigint AS answers, pg_catalog.sum(s.input_tokens)::bigint AS input_tokens,
	pg_catalog.sum(s.cached_tokens)::bigint AS cached_tokens,
	pg_catalog.sum(s.cache_write_tokens)::bigint AS cache_write_tokens,
	pg_catalog.sum(s.output_tokens)::bigint AS output_tokens,
	pg_catalog.sum(s.reasoning_tokens)::bigint AS reasoning_tokens,
	pg_catalog.trim_scale(COALESCE(pg_catalog.sum(s.cost), 0::numeric)) AS cost,
	pg_catalog.trim_scale(COALESCE(pg_catalog.sum(s.estimated_cost), 0::numeric)) AS estimated_cost,
	pg_catalog.trim_scale(COALESCE(pg_catalog.sum(s.wasted), 0::numeric)) AS wasted,
	pg_catalog.trim_scale(COALESCE(pg_catalog.sum(s.saved), 0::numeric)) AS saved,
	pg_catalog.sum(s.unpriced)::bigint AS unpriced, pg_catalog.sum(s.latency_ms)::bigint AS latency_ms
FROM (
	SELECT t.server, t.model, t.outcome, t.requests, t.tasks, t.answers, t.input_tokens, t.cached_tokens,
		t.cache_write_tokens, t.output_tokens, t.reasoning_tokens, t.cost, t.estimated_cost, t.wasted, t.saved,
		t.unpriced, t.latency_ms
	FROM llm.ledger_sum t WHERE t.grain = 'total'
	UNION ALL
	SELECT u.server, u.model, u.outcome, CASE WHEN u.request IS NOT NULL
		AND pg_catalog.row_number() OVER (PARTITION BY u.request ORDER BY u.id) = 1::bigint THEN 1 ELSE 0 END,
		u.tasks, u.answers, u.input_tokens, u.cached_tokens, u.cache_write_tokens, u.output_tokens, u.reasoning_tokens,
		u.cost, u.estimated_cost, u.wasted, u.saved, u.unpriced, u.latency_ms
	FROM llm.ledger_unsummed u) s
GROUP BY s.server, s.model, s.outcome;
COMMENT ON VIEW llm.stat IS 'counters since CREATE EXTENSION by server, model and outcome, quick to read; for pg_monitor about a second behind';
COMMENT ON COLUMN llm.stat.server IS 'foreign server';
COMMENT ON COLUMN llm.stat.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.stat.outcome IS 'outcome of the requests, as in llm.ledger';
COMMENT ON COLUMN llm.stat.requests IS 'HTTP requests';
COMMENT ON COLUMN llm.stat.tasks IS 'tasks whose first row on the ledger is among these';
COMMENT ON COLUMN llm.stat.answers IS 'tasks that got an answer, kept or shared ones included';
COMMENT ON COLUMN llm.stat.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.stat.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.stat.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.stat.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.stat.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.stat.cost IS 'US dollars, estimates included';
COMMENT ON COLUMN llm.stat.estimated_cost IS 'the part of cost that is estimated';
COMMENT ON COLUMN llm.stat.wasted IS 'the part of cost that brought no answer';
COMMENT ON COLUMN llm.stat.saved IS 'US dollars that cached tokens and shared or kept answers would have cost';
COMMENT ON COLUMN llm.stat.unpriced IS 'rows of the ledger whose price is not known';
COMMENT ON COLUMN llm.stat.latency_ms IS 'milliseconds of all requests together';
GRANT SELECT ON llm.stat TO PUBLIC;

-- Jobs of all roles as figures: monitoring may know how much waits, and not whose.  Of a job that
-- single rows share no number of tasks is kept: they are counted up to 10,000.
CREATE FUNCTION llm.stat_jobs()
	RETURNS TABLE (state text, jobs bigint, waiting bigint, oldest timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 2
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT s.state, count(j.id), COALESCE(sum(CASE
			WHEN j.total IS NOT NULL THEN j.total - j.done - j.failed - j.superseded - j.cancelled - j.row_gone
			ELSE (SELECT count(*) FROM (SELECT FROM llm.queue q WHERE q.job = j.id AND q.state = 'ready' LIMIT 10000) r)
				+ (SELECT count(*) FROM (SELECT FROM llm.queue q WHERE q.job = j.id AND q.state = 'waiting' LIMIT 10000) w)
			END), 0)::bigint,
		min(j.created_at)
	FROM (VALUES ('open'), ('paused')) s(state) LEFT JOIN llm.job j ON j.state = s.state AND j.state <> 'finished'
	GROUP BY s.state
$$;
COMMENT ON FUNCTION llm.stat_jobs() IS 'open and paused jobs of all roles: how many, their tasks that are not final, the oldest; for pg_monitor and llm_admin';
REVOKE ALL ON FUNCTION llm.stat_jobs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.stat_jobs() TO pg_monitor, llm_admin;

-- The invoice beside the ledger.  Days are those of UTC, as providers count.  What a day's doubtful
-- requests can account for is told day by day; the gap itself where the invoice has days, too.
CREATE FUNCTION llm.reconcile(server text, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	billed numeric DEFAULT NULL, billed_by_day jsonb DEFAULT NULL)
	RETURNS TABLE (day date, requests bigint, cost numeric, estimated_cost numeric, unknown bigint, unpriced bigint,
		invoice numeric, gap numeric, explained numeric, why text)
	LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 40
	SET search_path = pg_catalog, pg_temp
	SET TimeZone = 'UTC'
	AS $$
#variable_conflict use_column
DECLARE
	v_since CONSTANT timestamptz := COALESCE($2, date_trunc('month', llm.clock()));
	v_until CONSTANT timestamptz := COALESCE($3, llm.clock());
	v_total record;
	v_gap numeric;
	v_days jsonb;
	v_twice text;
	v_billed numeric := $4;
BEGIN
	IF $1 IS NULL THEN
		RAISE EXCEPTION 'llm.reconcile() needs a server' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT * FROM llm.reconcile(''openai'', since => ''2026-11-01'', until => ''2026-12-01'', billed => 123.45);';
	END IF;
	IF v_since > v_until THEN
		RAISE EXCEPTION '"since" lies after "until"' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'What is not given of "since" is the start of this month, of "until" now; days are those of UTC.';
	END IF;
	IF jsonb_typeof($5) <> 'object' THEN
		RAISE EXCEPTION '"billed_by_day" is no JSON object' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Days with what was billed for each: billed_by_day => ''{"2026-11-01": 4.12, "2026-11-02": 3.80}''.';
	END IF;
	IF $4 IN ('NaN', 'Infinity', '-Infinity') THEN
		RAISE EXCEPTION '"billed" is no amount: %', $4 USING ERRCODE = 'invalid_parameter_value',
			HINT = 'US dollars, as the invoice has them: billed => 123.45';
	END IF;
	FOR v_total IN SELECT e.key, e.value FROM jsonb_each_text($5) e
		WHERE e.value !~ '^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$' ORDER BY e.key LIMIT 1
	LOOP
		RAISE EXCEPTION '"billed_by_day" has no amount for %: %', v_total.key, v_total.value
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Days with what was billed for each: billed_by_day => ''{"2026-11-01": 4.12, "2026-11-02": 3.80}''.';
	END LOOP;
	-- the days that lie in the time, by names of one form
	IF $5 IS NOT NULL THEN
		SELECT string_agg(format('"%s"', e.key), ', ') INTO v_twice FROM jsonb_object_keys($5) e(key)
		GROUP BY e.key::date HAVING count(*) > 1 LIMIT 1;
		IF v_twice IS NOT NULL THEN
			RAISE EXCEPTION '"billed_by_day" has a day twice: %', v_twice USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Each day once: billed_by_day => ''{"2026-11-01": 4.12, "2026-11-02": 3.80}''.';
		END IF;
		SELECT jsonb_object_agg(to_char(e.key::date, 'YYYY-MM-DD'), e.value::numeric), COALESCE($4, sum(e.value::numeric))
		INTO v_days, v_billed FROM jsonb_each_text($5) e
		WHERE e.key::date::timestamptz > v_since - interval '1 day' AND e.key::date::timestamptz < v_until;
	END IF;

	FOR v_total IN
		WITH part AS (
			-- what has no price is worked out at the last price that is known by now
			SELECT b.day, b.requests, COALESCE(b.cost, 0) AS cost, b.estimated_cost, b.unpriced,
				CASE WHEN b.outcome IN ('timeout', 'unknown', 'cancelled') THEN b.requests ELSE 0 END AS unknown,
				CASE WHEN b.cost IS NULL AND b.unpriced > 0 THEN (
					SELECT (b.input_tokens * p.input_per_mtok
						+ b.cached_tokens * COALESCE(p.cached_input_per_mtok, p.input_per_mtok)
						+ b.cache_write_tokens * COALESCE(p.cache_write_per_mtok, p.input_per_mtok)
						+ b.output_tokens * p.output_per_mtok) * 0.000001
					FROM llm.price p WHERE p.server = b.server AND p.model = b.model
					ORDER BY p.valid_from DESC LIMIT 1) END AS missing
			FROM llm.bill('{day,server,model,outcome}', v_since, v_until) b WHERE b.server = $1
			UNION ALL SELECT k.day::date, 0, 0, 0, 0, 0, NULL FROM jsonb_object_keys(v_days) k(day)
		)
		SELECT p.day, GROUPING(p.day) = 1 AS whole, sum(p.requests)::bigint AS requests, sum(p.cost) AS cost,
			sum(p.estimated_cost) AS estimated_cost, sum(p.unknown)::bigint AS unknown, sum(p.unpriced)::bigint AS unpriced,
			COALESCE(sum(p.missing), 0) AS missing
		FROM part p GROUP BY GROUPING SETS ((p.day), ()) ORDER BY GROUPING(p.day) DESC, p.day
	LOOP
		-- the whole comes first and says which way the gap goes
		IF v_total.whole THEN
			v_gap := v_billed - COALESCE(v_total.cost, 0);
		END IF;
		day := v_total.day;
		requests := COALESCE(v_total.requests, 0);
		cost := trim_scale(COALESCE(v_total.cost, 0));
		estimated_cost := trim_scale(COALESCE(v_total.estimated_cost, 0));
		unknown := COALESCE(v_total.unknown, 0);
		unpriced := COALESCE(v_total.unpriced, 0);
		invoice := CASE WHEN v_total.whole THEN v_billed ELSE (v_days ->> to_char(v_total.day, 'YYYY-MM-DD'))::numeric END;
		gap := trim_scale(invoice - cost);
		explained := trim_scale(CASE WHEN COALESCE(gap, v_gap) < 0 THEN - estimated_cost
			WHEN COALESCE(gap, v_gap) > 0 THEN round(v_total.missing, 12) END);
		why := concat_ws('; ',
			CASE WHEN unknown > 0 THEN format('%s %s no whole answer, booked by an estimate', unknown,
				CASE unknown WHEN 1 THEN 'request brought' ELSE 'requests brought' END) END,
			CASE WHEN estimated_cost > 0 AND unknown = 0 THEN 'some answers are estimated: no usage was told, or a service tier that has no price' END,
			CASE WHEN unpriced > 0 THEN format('%s without a price, booked as nothing: llm.set_price()', unpriced) END);
		IF v_total.whole OR gap IS NOT NULL THEN
			why := concat_ws('; ', CASE
				WHEN requests = 0 AND unpriced = 0 THEN format('the ledger has nothing of server "%s" at that time', $1)
				WHEN abs(gap) < 0.01 THEN 'they agree to the cent'
				WHEN gap < 0 AND - gap <= estimated_cost THEN 'the invoice is lower by no more than what is estimated'
				WHEN gap < 0 AND cost > 0 THEN format('the invoice is lower by %s%%: a discount, or a price in llm.price that is too high',
					round(-100 * gap / cost, 1))
				WHEN gap < 0 THEN 'the invoice is lower: a credit that is no request''s'
				WHEN gap > 0 AND gap <= explained THEN 'the invoice is higher by no more than what has no price'
				WHEN gap > 0 AND unpriced > 0 AND explained = 0 THEN 'the invoice is higher: what has no price is on it'
				WHEN gap > 0 AND cost > 0 THEN format('the invoice is higher by %s%%: the key is used elsewhere, too, '
					'or a price in llm.price is too low', round(100 * gap / cost, 1))
				WHEN gap > 0 THEN 'the invoice is higher: the key is used elsewhere, too, or no price is known' END, NULLIF(why, ''));
		END IF;
		why := NULLIF(why, '');
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION llm.reconcile(text, timestamptz, timestamptz, numeric, jsonb) IS
	'a provider''s invoice beside the ledger, from the start of this month until now where no time is given: a row for the whole time, with the gap, and one for each day (UTC), with the gap where the invoice has days, and likely causes';
-- Functions that return more than jsonb.
CREATE FUNCTION llm_filter(input text, condition text,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_filter(text, text, text, text, jsonb, jsonb, text[])
	IS 'ask whether a condition holds for a text';

CREATE FUNCTION llm_score(input text, criterion text, min float8 DEFAULT 0, max float8 DEFAULT 1,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS float8
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_score(text, text, float8, float8, text, text, jsonb, jsonb, text[])
	IS 'ask how far a text meets a criterion, as a number from min to max';

CREATE FUNCTION llm_translate(input text, to_language text, from_language text DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_translate(text, text, text, text, text, jsonb, jsonb, text[])
	IS 'ask for a text in another language';

CREATE FUNCTION llm_redact(input text, kinds text[] DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_redact(text, text[], text, text, jsonb, jsonb, text[])
	IS 'ask for a text with placeholders for names, addresses and the like; the text goes to the provider';

CREATE FUNCTION llm_sentiment(input text, aspects text[] DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_sentiment(text, text[], text, text, jsonb, jsonb, text[])
	IS 'ask how the writer of a text feels, {"sentiment": ".."}, and about which aspects, {"aspects": {..}}';
CREATE FUNCTION llm_embed(input text, dimensions int DEFAULT NULL,
	model text DEFAULT NULL, options jsonb DEFAULT NULL)
	RETURNS real[]
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_embed(text, int, text, jsonb)
	IS 'ask for the vector of a text, of so many dimensions, or as many as the model gives';

-- A schema from a composite type.
CREATE FUNCTION llm.schema_of_type(type oid, nullable boolean, description text) RETURNS jsonb
	LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	t pg_type;
	words text := description;
	result jsonb;
BEGIN
	SELECT * INTO STRICT t FROM pg_type p WHERE p.oid = $1;
	IF words IS NULL AND t.typnamespace <> 'pg_catalog'::regnamespace AND t.typcategory <> 'A' THEN
		words := coalesce(obj_description(t.oid, 'pg_type'), obj_description(nullif(t.typrelid, 0), 'pg_class'));
	END IF;
	IF t.typtype = 'd' THEN
		RETURN llm.schema_of_type(t.typbasetype, nullable AND NOT t.typnotnull, words);
	ELSIF t.typtype = 'c' THEN
		SELECT jsonb_build_object('type', 'object', 'additionalProperties', false,
			'required', jsonb_agg(a.attname ORDER BY a.attnum),
			'properties', jsonb_object_agg(a.attname,
				llm.schema_of_type(a.atttypid, NOT a.attnotnull, col_description(a.attrelid, a.attnum))))
		INTO result FROM pg_attribute a
		WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
	ELSIF t.typtype = 'e' THEN
		SELECT jsonb_build_object('type', 'string', 'enum', jsonb_agg(e.enumlabel ORDER BY e.enumsortorder))
		INTO result FROM pg_enum e WHERE e.enumtypid = t.oid;
	ELSIF t.typcategory = 'A' THEN
		result := jsonb_build_object('type', 'array', 'items', llm.schema_of_type(t.typelem, false, NULL));
	ELSE
		result := CASE t.oid
			WHEN 'boolean'::regtype THEN '{"type": "boolean"}'
			WHEN 'smallint'::regtype THEN '{"type": "integer"}'
			WHEN 'integer'::regtype THEN '{"type": "integer"}'
			WHEN 'bigint'::regtype THEN '{"type": "integer"}'
			WHEN 'real'::regtype THEN '{"type": "number"}'
			WHEN 'double precision'::regtype THEN '{"type": "number"}'
			WHEN 'numeric'::regtype THEN '{"type": "number"}'
			WHEN 'date'::regtype THEN '{"type": "string", "format": "date"}'
			WHEN 'timestamptz'::regtype THEN '{"type": "string", "format": "date-time"}'
			WHEN 'uuid'::regtype THEN '{"type": "string", "format": "uuid"}'
			WHEN 'json'::regtype THEN '{}'
			WHEN 'jsonb'::regtype THEN '{}'
			ELSE '{"type": "string"}'
		END;
	END IF;
	IF nullable AND result ? 'type' THEN
		result := jsonb_set(result, '{type}', jsonb_build_array(result->'type', 'null'));
	END IF;
	IF nullable AND result ? 'enum' THEN
		result := jsonb_set(result, '{enum}', (result->'enum') || 'null'::jsonb);
	END IF;
	RETURN CASE WHEN words IS NULL THEN result ELSE result || jsonb_build_object('description', words) END;
END
$$;
COMMENT ON FUNCTION llm.schema_of_type(oid, boolean, text) IS 'what llm.schema_of gives for one type';

CREATE FUNCTION llm.schema_of(type anyelement) RETURNS jsonb
	LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF (SELECT typtype FROM pg_type t WHERE t.oid = pg_typeof($1)) <> 'c' THEN
		RAISE EXCEPTION 'type % is not composite', pg_typeof($1) USING
			ERRCODE = 'wrong_object_type', HINT = 'Give a row of a composite type or a table, llm.schema_of(NULL::invoice).';
	END IF;
	RETURN llm.schema_of_type(pg_typeof($1), false, NULL);
END
$$;
COMMENT ON FUNCTION llm.schema_of(anyelement) IS 'the schema of a composite type for llm_extract, its comments being the descriptions';

-- The labels of an answer, for a column that is a list.
CREATE FUNCTION llm.labels(answer jsonb) RETURNS text[]
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN jsonb_typeof(answer -> 'labels') = 'array'
		THEN ARRAY(SELECT l.label FROM jsonb_array_elements_text(answer -> 'labels') WITH ORDINALITY l(label, n) ORDER BY l.n)
		WHEN answer ->> 'label' IS NOT NULL THEN ARRAY[answer ->> 'label'] END
$$;
COMMENT ON FUNCTION llm.labels(jsonb) IS 'the labels that llm_classify gave, as an array: llm.labels(llm_classify(body, labels, multi => true))';

CREATE FUNCTION llm.preview(operation text, input text, labels text[] DEFAULT NULL, multi boolean DEFAULT false,
	schema jsonb DEFAULT NULL, max_words int DEFAULT NULL, model text DEFAULT NULL, instructions text DEFAULT NULL,
	examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL, condition text DEFAULT NULL, criterion text DEFAULT NULL,
	min float8 DEFAULT NULL, max float8 DEFAULT NULL, to_language text DEFAULT NULL, from_language text DEFAULT NULL,
	kinds text[] DEFAULT NULL, aspects text[] DEFAULT NULL, dimensions int DEFAULT NULL, descriptions jsonb DEFAULT NULL,
	allow_none boolean DEFAULT false, instruction text DEFAULT NULL, checks text[] DEFAULT NULL)
RETURNS jsonb LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_preview';
COMMENT ON FUNCTION llm.preview(text, text, text[], boolean, jsonb, int, text, text, jsonb, jsonb, text, text, float8, float8,
	text, text, text[], text[], int, jsonb, boolean, text, text[])
	IS 'return the request body of a call (operation: classify, extract, filter ..) and send nothing';
-- What estimates learn from: sums over the requests of a recipe to a model, and no word of theirs.
CREATE TABLE llm.recipe_stat (
	recipe bigint NOT NULL,
	server text NOT NULL,
	model text NOT NULL,
	requests bigint NOT NULL,
	body_bytes bigint NOT NULL,
	input_tokens bigint NOT NULL,
	cached_tokens bigint NOT NULL,
	cache_write_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	output_tokens_max bigint NOT NULL,
	tokens_per_byte_max float8 NOT NULL,
	bytes_squared float8 NOT NULL,
	bytes_input float8 NOT NULL,
	input_squared float8 NOT NULL,
	output_squared float8 NOT NULL,
	again_requests bigint NOT NULL,
	again_input_tokens bigint NOT NULL,
	again_output_tokens bigint NOT NULL,
	latency_ms bigint NOT NULL,
	PRIMARY KEY (recipe, server, model)
) WITH (fillfactor = 50);
COMMENT ON TABLE llm.recipe_stat IS 'what requests of a recipe to a model have taken so far, for estimates';
COMMENT ON COLUMN llm.recipe_stat.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.recipe_stat.server IS 'foreign server';
COMMENT ON COLUMN llm.recipe_stat.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.recipe_stat.requests IS 'requests that asked for the first time and whose usage was told';
COMMENT ON COLUMN llm.recipe_stat.body_bytes IS 'bytes of their bodies';
COMMENT ON COLUMN llm.recipe_stat.input_tokens IS 'their input tokens, of all classes';
COMMENT ON COLUMN llm.recipe_stat.cached_tokens IS 'of these, tokens read from the provider''s cache';
COMMENT ON COLUMN llm.recipe_stat.cache_write_tokens IS 'of these, tokens written to the provider''s cache';
COMMENT ON COLUMN llm.recipe_stat.output_tokens IS 'their output tokens, reasoning included';
COMMENT ON COLUMN llm.recipe_stat.output_tokens_max IS 'most output tokens of any request';
COMMENT ON COLUMN llm.recipe_stat.tokens_per_byte_max IS 'most input tokens of a byte of any request''s body';
COMMENT ON COLUMN llm.recipe_stat.bytes_squared IS 'sum of squares of body_bytes';
COMMENT ON COLUMN llm.recipe_stat.bytes_input IS 'sum of body_bytes times input_tokens';
COMMENT ON COLUMN llm.recipe_stat.input_squared IS 'sum of squares of input_tokens';
COMMENT ON COLUMN llm.recipe_stat.output_squared IS 'sum of squares of output_tokens';
COMMENT ON COLUMN llm.recipe_stat.again_requests IS 'requests that asked again after a charged failure';
COMMENT ON COLUMN llm.recipe_stat.again_input_tokens IS 'their input tokens';
COMMENT ON COLUMN llm.recipe_stat.again_output_tokens IS 'their output tokens';
COMMENT ON COLUMN llm.recipe_stat.latency_ms IS 'milliseconds of the requests that asked for the first time';

-- Figures only: for the roles that see the recipe, and for pg_monitor.
ALTER TABLE llm.recipe_stat ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.recipe_stat FOR SELECT USING (
	EXISTS (SELECT FROM llm.job j WHERE j.recipe OPERATOR(pg_catalog.=) recipe_stat.recipe));
CREATE POLICY admin ON llm.recipe_stat FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')
	OR pg_catalog.pg_has_role('pg_monitor', 'usage')));
GRANT SELECT ON llm.recipe_stat TO PUBLIC;

-- llm.report(): one page for people who pay.  It is text from end to end, so everything that comes
-- from a table goes through llm.html_text(), which leaves printable ASCII without markup: whatever the
-- client's encoding is, and whatever a name contains, the page is what was meant.  No script, font or
-- picture is loaded; the page forbids it to itself.
CREATE FUNCTION llm.html_text(value text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT COALESCE(string_agg(CASE
			WHEN c.letter IN ('<', '>', '&', '"', '''', '`') THEN format('&#%s;', ascii(c.letter))
			WHEN ascii(c.letter) BETWEEN 32 AND 126 THEN c.letter
			WHEN ascii(c.letter) < 160 OR ascii(c.letter) BETWEEN 8234 AND 8238 OR ascii(c.letter) BETWEEN 8294 AND 8297
				OR ascii(c.letter) IN (1564, 8206, 8207) THEN '&#65533;'
			ELSE format('&#%s;', ascii(c.letter)) END, '' ORDER BY c.place), '')
		|| CASE WHEN length($1) > 240 THEN '&#8230;' ELSE '' END
	FROM string_to_table(left($1, 240), NULL) WITH ORDINALITY c(letter, place)
$$;
COMMENT ON FUNCTION llm.html_text(text) IS
	'internal: a text as HTML without markup, in ASCII, control characters replaced; 240 characters at most';

-- A name may be broken after a dot, an underscore or a slash, and its direction stays its own.
CREATE FUNCTION llm.html_name(value text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT format('<bdi>%s</bdi>', regexp_replace(llm.html_text(
		CASE WHEN length($1) > 96 THEN left($1, 47) || U&'\2026' || right($1, 48) ELSE $1 END), '([._/])', '\1<wbr>', 'g'))
$$;
COMMENT ON FUNCTION llm.html_name(text) IS 'internal: a name as HTML that can be broken';

-- With so many places as the greatest of a column needs; what is too small for them is said to be smaller.
CREATE FUNCTION llm.html_money(amount numeric, greatest_amount numeric) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN $1 IS NULL THEN '&#8211;'
		WHEN $1 = 0 THEN '$0'
		WHEN round(abs($1), v.places) = 0 THEN '&lt;$' || to_char(power(10::numeric, - v.places), 'FM0' || CASE WHEN v.places > 0 THEN rpad('.', v.places + 1, '0') ELSE '' END)
		ELSE CASE WHEN $1 < 0 THEN '&#8722;' ELSE '' END || '$'
			|| to_char(round(abs($1), v.places), 'FM999,999,999,999,999,990' || CASE WHEN v.places > 0 THEN rpad('.', v.places + 1, '0') ELSE '' END) END
	FROM (SELECT CASE WHEN abs(m.top) >= 100000 THEN 0 WHEN abs(m.top) >= 1 OR m.top = 0 THEN 2
			ELSE LEAST(12, 2 - floor(log(abs(m.top)))::int) END AS places
		FROM (SELECT COALESCE($2, $1, 0) AS top) m) v
$$;
COMMENT ON FUNCTION llm.html_money(numeric, numeric) IS
	'internal: US dollars as HTML, with as many places as the greatest amount beside it needs';

CREATE FUNCTION llm.html_count(number numeric) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN $1 IS NULL THEN '&#8211;'
		WHEN $1 >= 1e12 THEN to_char($1 / 1e12, 'FM999,990.0') || '&#8201;T'
		WHEN $1 >= 1e9 THEN to_char($1 / 1e9, 'FM990.0') || '&#8201;B'
		WHEN $1 >= 1e7 THEN to_char($1 / 1e6, 'FM990.0') || '&#8201;M'
		ELSE to_char(round($1), 'FM999,999,990') END
$$;
COMMENT ON FUNCTION llm.html_count(numeric) IS 'internal: a number of things as HTML';

-- Spend over time: bars in a picture that stretches, and words beside it that do not.
CREATE FUNCTION llm.report_bars(unit text, since timestamptz, until timestamptz) RETURNS text
	LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	v_top numeric;
	v_bars text;
	v_number int;
	v_zeros CONSTANT text := '(\.[0-9]*[1-9])0+$|\.0+$';
	v_form CONSTANT text := CASE $1 WHEN 'month' THEN 'Mon YYYY' ELSE 'FMDD Mon' END;
	v_first date;
	v_middle date;
	v_last date;
BEGIN
	WITH spent AS (
		SELECT CASE $1 WHEN 'day' THEN b.day WHEN 'week' THEN b.week ELSE b.month END AS start,
			COALESCE(b.cost, 0) AS cost, LEAST(b.wasted, COALESCE(b.cost, 0)) AS wasted, b.rows_done
		FROM llm.bill(ARRAY[$1], $2, $3) b
	), bar AS (
		SELECT s.start::date AS start, row_number() OVER (ORDER BY s.start) - 1 AS place, COALESCE(p.cost, 0) AS cost,
			COALESCE(p.wasted, 0) AS wasted, COALESCE(p.rows_done, 0) AS rows_done
		FROM generate_series(date_trunc($1, $2::timestamp), $3::timestamp, ('1 ' || $1)::interval) s(start)
		LEFT JOIN spent p ON p.start = s.start::date
	), top AS (
		-- the axis ends at a round number
		SELECT CASE WHEN m.cost = 0 THEN 1 ELSE (SELECT min(n * m.power) FROM unnest('{1,1.5,2,3,4,5,6,8,10}'::numeric[]) n
			WHERE n * m.power >= m.cost) END AS value
		FROM (SELECT x.cost, CASE WHEN x.cost > 0 THEN power(10::numeric, floor(log(x.cost))) END AS power
			FROM (SELECT max(b.cost) AS cost FROM bar b) x) m
	)
	SELECT max(t.value), count(*), min(b.start), max(b.start) FILTER (WHERE b.place = (SELECT count(*) / 2 FROM bar)), max(b.start),
		string_agg(format('<g><title>%s: %s%s, %s rows done</title><rect class="z" x="%s" y="0" width="1" height="100"/>',
				to_char(b.start, CASE $1 WHEN 'month' THEN 'FMMonth YYYY' WHEN 'week' THEN '"week of" FMDD Mon YYYY' ELSE 'Dy FMDD Mon YYYY' END),
				llm.html_money(b.cost, NULL),
				CASE WHEN b.wasted > 0 THEN format(', of it wasted %s', llm.html_money(b.wasted, NULL)) ELSE '' END,
				llm.html_count(b.rows_done), b.place)
			|| CASE WHEN b.cost > 0 THEN format('<rect class="u" x="%s" y="%s" width=".76" height="%s"/>', b.place + 0.12,
				round(100 - 100 * b.cost / t.value, 2), round(100 * b.cost / t.value, 2)) ELSE '' END
			|| CASE WHEN b.wasted > 0 THEN format('<rect class="w" x="%s" y="%s" width=".76" height="%s"/>', b.place + 0.12,
				round(100 - 100 * b.cost / t.value, 2), round(100 * b.wasted / t.value, 2)) ELSE '' END
			|| '</g>', '' ORDER BY b.place)
	INTO v_top, v_number, v_first, v_middle, v_last, v_bars
	FROM bar b, top t;

	RETURN format('<div class="chart"><div class="y"><span>%1$s</span><span>%2$s</span><span>$0</span></div>'
		'<svg viewBox="0 0 %3$s 100" preserveAspectRatio="none" role="img" aria-label="Spend by %4$s, at most %1$s">'
		'<path class="g" d="M0 0H%3$sM0 50H%3$sM0 100H%3$s"/>%5$s</svg>'
		'<div class="x"><span>%6$s</span><span>%7$s</span><span>%8$s</span></div></div>',
		regexp_replace(llm.html_money(v_top, v_top / 2), v_zeros, '\1'), regexp_replace(llm.html_money(v_top / 2, v_top / 2), v_zeros, '\1'),
		v_number, $1, v_bars,
		to_char(v_first, v_form), CASE WHEN v_number > 2 THEN to_char(v_middle, v_form) ELSE '' END,
		CASE WHEN v_number > 1 THEN to_char(v_last, v_form) ELSE '' END);
END
$$;
COMMENT ON FUNCTION llm.report_bars(text, timestamptz, timestamptz) IS 'internal: bars of llm.report()';

-- Spend by some dimensions: the ten dearest, and the others as one line.
CREATE FUNCTION llm.report_split(title text, heading text, nothing text, done text, by text[], since timestamptz, until timestamptz)
	RETURNS text
	LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	v_rows text;
	v_top numeric;
BEGIN
	WITH part AS (
		SELECT COALESCE(CASE
				WHEN $5[1] = 'relation' THEN NULLIF(concat_ws('.', b.relation, b."column"), '')
				WHEN $5[1] = 'server' THEN NULLIF(concat_ws(' / ', b.server, b.model), '')
				WHEN $5[1] = 'role' THEN b.role
				ELSE b.tags ->> substr($5[1], 5) END, $3) AS name,
			sum(b.cost) AS cost, sum(b.requests) AS requests, sum(b.rows_done) AS rows_done, sum(b.wasted) AS wasted
		FROM llm.bill($5, $6, $7) b WHERE b.cost > 0 OR b.rows_done > 0 OR b.unpriced > 0 GROUP BY 1
	), placed AS (
		SELECT p.*, row_number() OVER (ORDER BY p.cost DESC NULLS LAST, p.requests DESC, p.name COLLATE "C") AS place,
			count(*) OVER () AS number FROM part p
	), line AS (
		SELECT min(p.place) AS place, CASE WHEN min(p.place) > 10 AND max(p.number) > 11
				THEN format('%s others', llm.html_count(count(*))) ELSE llm.html_name(min(p.name)) END AS name,
			sum(p.cost) AS cost, sum(p.requests) AS requests, sum(p.rows_done) AS rows_done, sum(p.wasted) AS wasted
		FROM placed p GROUP BY CASE WHEN p.number > 11 THEN LEAST(p.place, 11) ELSE p.place END
	), total AS (
		SELECT NULLIF(sum(l.cost), 0) AS cost, NULLIF(max(l.cost), 0) AS top,
			max(1000 * l.cost / NULLIF(l.rows_done, 0)) AS per_row FROM line l
	)
	SELECT string_agg(format('<tr><td class="n">%s</td><td class="r">%s</td><td class="b"><i style="width:%s%%"></i></td>'
		'<td class="r h">%s</td><td class="r h">%s</td><td class="r h">%s</td><td class="r">%s</td></tr>',
			l.name, llm.html_money(l.cost, t.cost),
			COALESCE(round(100 * GREATEST(l.cost, 0) / t.top, 1), 0),
			CASE WHEN l.cost > 0 THEN round(100 * l.cost / t.cost, 1) || '%' ELSE '&#8211;' END,
			llm.html_count(l.rows_done), llm.html_money(NULLIF(l.wasted, 0), t.cost),
			llm.html_money(CASE WHEN l.rows_done > 0 THEN 1000 * l.cost / l.rows_done END, t.per_row)), '' ORDER BY l.place)
	INTO v_rows FROM line l, total t;

	RETURN CASE WHEN v_rows IS NULL THEN '' ELSE format('<h2>%s</h2><table><thead><tr><th>%s</th><th class="r">Spend</th><th class="b"></th>'
		'<th class="r h">Share</th><th class="r h">%s</th><th class="r h">Wasted</th><th class="r">Per 1,000</th></tr></thead>'
		'<tbody>%s</tbody></table>', llm.html_text($1), llm.html_text($2), llm.html_text($4), v_rows) END;
END
$$;
COMMENT ON FUNCTION llm.report_split(text, text, text, text, text[], timestamptz, timestamptz) IS 'internal: a table of llm.report()';

-- What is going on at this moment: jobs with their forecast, budgets, and targets that are slow or paused.
CREATE FUNCTION llm.report_now() RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	v_jobs text;
	v_more text;
	v_targets text;
	v_health text;
	v_budgets text;
BEGIN
	WITH job AS (
		SELECT p.*, p.done + p.failed + p.dropped AS final,
			row_number() OVER (ORDER BY p.cost DESC NULLS LAST, p.waiting DESC, p.job) AS place
		FROM llm.progress p WHERE p.state <> 'finished' AND p.waiting > 0
	)
	SELECT string_agg(format('<tr class="q"><td class="n">%1$s</td><td class="b h"><span class="t"><i style="width:%5$s%%"></i></span></td>'
			'<td class="r p">%6$s<wbr>&#8201;/&#8201;%7$s</td><td class="r">%8$s</td><td class="r">%9$s</td><td class="r h">%10$s</td></tr>'
			'<tr><td colspan="6"><small>job %2$s, %3$s%4$s</small></td></tr>',
			llm.html_name(COALESCE(NULLIF(concat_ws('.', NULLIF(j.relation, ''), NULLIF(j.column_name, '')), ''), j.operation)),
			j.job, llm.html_name(j.role),
			CASE WHEN j.state = 'paused' OR j.why IS NOT NULL THEN format(': %s',
				llm.html_text(concat_ws(', ', NULLIF(j.state, 'open'), NULLIF(j.why, j.state)))) ELSE '' END,
			round(100.0 * j.final / GREATEST(j.total, 1), 1), llm.html_count(j.final), llm.html_count(j.total),
			llm.html_money(j.cost, NULL), llm.html_money(j.forecast_cost, NULL),
			COALESCE(date_trunc('second', j.eta)::text, '&#8211;')), '' ORDER BY j.place) FILTER (WHERE j.place <= 10),
		CASE WHEN count(*) > 10 THEN format('<p>And %s more.</p>', count(*) - 10) ELSE '' END
	INTO v_jobs, v_more FROM job j;

	SELECT string_agg(format('<tr><td class="n">%s<small>%s</small></td><td class="b h"><span class="t"><i%s style="width:%s%%"></i></span></td>'
			'<td class="r p">%s<wbr>&#8201;/&#8201;%s</td><td class="r h">%s</td><td class="r">%s</td></tr>',
			CASE WHEN b.scope = '' THEN 'the database' ELSE llm.html_name(b.scope) END,
			concat(CASE b.per WHEN 'total' THEN 'in all' ELSE 'per ' || b.per END, to_char(b.resets_at, '", until "FMDD Mon HH24:MI'),
				', budget ', b.id, CASE WHEN b.waiting > 0 THEN format(': %s %s for it', llm.html_count(b.waiting),
					CASE b.waiting WHEN 1 THEN 'job waits' ELSE 'jobs wait' END) END),
			CASE WHEN b.part >= 0.9 OR b.waiting > 0 THEN ' class="o"' ELSE '' END, round(100 * LEAST(b.part, 1), 1),
			llm.html_money(b.spent, b.amount), llm.html_money(b.amount, b.amount), llm.html_money(NULLIF(b.reserved, 0), b.amount),
			llm.html_money(GREATEST(b."left", 0), b.amount)), '' ORDER BY b.part DESC, b.id)
	INTO v_budgets FROM (
		SELECT u.*, COALESCE((u.spent + u.reserved) / NULLIF(u.amount, 0), 1) AS part,
			concat_ws(', ', 'role ' || u.role, u.relation, 'model ' || u.model, 'server ' || u.server,
				u.tag || COALESCE(' = ' || u.value, '')) AS scope
		FROM llm.budget u ORDER BY COALESCE((u.spent + u.reserved) / NULLIF(u.amount, 0), 1) DESC, u.id LIMIT 20) b;

	-- slow: today twice as slow as before; the sums by hours have what each target took
	WITH target AS (
		SELECT s.server, s.model, sum(s.requests) FILTER (WHERE s.start >= now() - interval '1 day') AS requests,
			sum(s.latency_ms) FILTER (WHERE s.start >= now() - interval '1 day') AS ms,
			sum(s.requests) FILTER (WHERE s.start >= now() - interval '1 day' AND s.outcome NOT IN ('ok', 'cached')) AS bad,
			sum(s.requests) FILTER (WHERE s.start < now() - interval '1 day') AS requests_before,
			sum(s.latency_ms) FILTER (WHERE s.start < now() - interval '1 day') AS ms_before
		FROM llm.ledger_sum s WHERE s.grain = 'hour' AND s.start >= now() - interval '30 days' AND s.requests > 0
		GROUP BY s.server, s.model
	), figure AS (
		SELECT t.*, t.ms / t.requests / 1000.0 AS seconds, t.ms_before / NULLIF(t.requests_before, 0) / 1000.0 AS seconds_before,
			COALESCE(t.bad, 0) / t.requests AS bad_part,
			row_number() OVER (ORDER BY t.requests DESC, t.server, t.model) AS place
		FROM target t WHERE t.requests > 0
	)
	SELECT string_agg(format('<tr><td class="n">%s</td><td class="r h">%s</td><td class="r">%s</td><td class="r h">%s</td>'
			'<td class="r">%s</td><td>%s</td></tr>', llm.html_name(concat_ws(' / ', f.server, f.model)), llm.html_count(f.requests),
			to_char(f.seconds, CASE WHEN f.seconds < 1 THEN 'FM0.00' ELSE 'FM999,990.0' END) || '&#8201;s',
			COALESCE(to_char(f.seconds_before, CASE WHEN f.seconds_before < 1 THEN 'FM0.00' ELSE 'FM999,990.0' END) || '&#8201;s', '&#8211;'),
			CASE WHEN f.bad_part > 0 THEN to_char(100 * f.bad_part, 'FM990.0') || '%' ELSE '&#8211;' END,
			CASE WHEN f.bad_part > 0.2 THEN '<b class="bad">failing</b>'
				WHEN f.seconds > 2 * f.seconds_before AND f.seconds > 1 THEN '<b class="bad">slow</b>' ELSE 'ok' END),
			'' ORDER BY f.place) FILTER (WHERE f.place <= 10)
	INTO v_targets FROM figure f;

	SELECT string_agg(format('<li><b><bdi>%s</bdi></b> %s<small>%s</small></li>',
			llm.html_text(COALESCE(h.subject, h.kind)), llm.html_text(COALESCE(h.problem, h.state)), llm.html_text(COALESCE(h.hint, ''))),
			'' ORDER BY h.kind, h.subject)
	INTO v_health FROM llm.health h WHERE h.problem IS NOT NULL OR h.kind = 'target';

	RETURN concat(
		'<h2>Jobs now</h2>', CASE WHEN v_jobs IS NULL THEN '<p>No job is under way.</p>' ELSE format('<table><thead><tr><th>Cells</th><th class="b h"></th><th class="r">Rows</th>'
			'<th class="r">So far</th><th class="r">Forecast</th><th class="r h">Time left</th></tr></thead><tbody>%s</tbody></table>%s',
			v_jobs, v_more) END,
		CASE WHEN v_budgets IS NOT NULL THEN format('<h2>Budgets</h2><table><thead><tr><th>For</th><th class="b h"></th>'
			'<th class="r">Spent</th><th class="r h">Reserved</th><th class="r">Left</th></tr></thead><tbody>%s</tbody></table>',
			v_budgets) END,
		CASE WHEN v_targets IS NOT NULL THEN format('<h2>Providers, last 24 hours</h2><table><thead><tr><th>Server / model</th><th class="r h">Requests</th>'
			'<th class="r">Mean time</th><th class="r h">Before</th><th class="r">Not ok</th><th></th></tr></thead>'
			'<tbody>%s</tbody></table>', v_targets) END,
		CASE WHEN v_health IS NOT NULL THEN format('<h2>Paused, or in need of attention</h2><ul>%s</ul>', v_health) END);
END
$$;
COMMENT ON FUNCTION llm.report_now() IS 'internal: what llm.report() says of this moment';

-- The look of the page, light and dark; on a narrow screen columns of class h are left out.
CREATE FUNCTION llm.report_style() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT $css$
:root { color-scheme: light dark; --page: #fff; --ink: #18202c; --dim: #5b6678; --line: #e2e6ec; --card: #f6f7f9;
  --bar: #2b6cb0; --bad: #c2620c }
@media (prefers-color-scheme: dark) { :root { --page: #14181f; --ink: #e6eaf0; --dim: #9aa5b5; --line: #2c3440; --card: #1c222c;
  --bar: #63a4e8; --bad: #f0a04b } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 1000px; margin: 0 auto; padding: 32px 24px 48px }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere }
h2 { font-size: 17px; margin: 40px 0 10px }
p { margin: 0 0 8px } p.dim, footer, small { color: var(--dim) }
small { display: block; font-size: 13px; font-weight: 400; overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; margin: 24px 0 0; padding: 0 }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px }
.tiles b { display: block; font-size: 22px; line-height: 1.3; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.tiles span { color: var(--dim); font-size: 13px }
.note { border-left: 3px solid var(--bad); padding: 2px 0 2px 12px; margin: 20px 0 0 }
.chart { display: grid; grid-template-columns: auto 1fr; gap: 4px 8px; font-size: 12px; color: var(--dim);
  font-variant-numeric: tabular-nums }
.chart svg { width: 100%; height: 200px; display: block; overflow: visible }
.chart .y { display: flex; flex-direction: column; justify-content: space-between; text-align: right; margin: -9px 0 }
.chart .x { grid-column: 2; display: flex; justify-content: space-between }
.g { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; fill: none }
.u { fill: var(--bar) } .w { fill: var(--bad) } .z { fill: transparent }
g:hover .z { fill: var(--line); fill-opacity: .5 }
.key { font-size: 13px; color: var(--dim); margin: 8px 0 0 } .key i { display: inline-block; width: 10px; height: 10px;
  border-radius: 2px; background: var(--bar); margin: 0 4px 0 12px } .key i.w { background: var(--bad) }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th { color: var(--dim); font-weight: 500; font-size: 13px; text-align: left; white-space: nowrap }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top }
td:last-child, th:last-child { padding-right: 0 } .q td { border: 0; padding-bottom: 0 } .q + tr td { padding-top: 0 }
td.n { overflow-wrap: anywhere; min-width: 110px } .r { text-align: right; white-space: nowrap; width: 92px }
.b { width: 22% } td.b { padding-top: 12px } td.b i { display: block; height: 10px; border-radius: 2px; background: var(--bar) }
td.b i.o { background: var(--bad) }
.t { display: block; background: var(--line); border-radius: 2px }
.bad { color: var(--bad) } ul { list-style: none; margin: 0; padding: 0 }
li { padding: 8px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
footer { margin-top: 40px; font-size: 13px }
@media (max-width: 640px) { main { padding: 20px 16px 32px } h1 { font-size: 22px } .h { display: none } .r { width: auto } .p { white-space: normal } .b { width: 15% }
  .tiles { grid-template-columns: 1fr 1fr } .tiles .s { grid-column: span 2 } .tiles b { font-size: 18px } th, td { padding-right: 8px } .chart svg { height: 150px } }
@media print { main { max-width: none; padding: 0 } tr, .tiles div { break-inside: avoid } h2 { break-after: avoid } }
$css$ $$;
COMMENT ON FUNCTION llm.report_style() IS 'internal: style sheet of llm.report()';

CREATE FUNCTION llm.report(since timestamptz DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	v_now CONSTANT timestamptz := llm.clock();
	v_since timestamptz := COALESCE($1, date_trunc('day', v_now) - interval '29 days');
	v_unit text;
	v_all record;
	v_ends record;
	v_waste text;
	v_tags text;
	v_notes text;
	v_whose text;
BEGIN
	-- from the beginning, where the beginning is not told
	IF v_since < '1970-01-02' THEN
		v_since := COALESCE((SELECT min(s.start) FROM llm.ledger_sum s WHERE s.grain = 'day'), date_trunc('day', v_now));
	END IF;
	IF v_since > v_now THEN
		RAISE EXCEPTION '"since" lies in the future' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'SELECT llm.report(since => now() - interval ''90 days'');';
	END IF;
	v_unit := CASE WHEN v_now - v_since < interval '93 days' THEN 'day' WHEN v_now - v_since < interval '750 days' THEN 'week' ELSE 'month' END;

	SELECT COALESCE(sum(b.cost), 0) AS cost, COALESCE(sum(b.requests), 0) AS requests, COALESCE(sum(b.rows_done), 0) AS rows_done,
		COALESCE(sum(b.wasted), 0) AS wasted, COALESCE(sum(b.saved), 0) AS saved, COALESCE(sum(b.estimated_cost), 0) AS estimated_cost,
		COALESCE(sum(b.unpriced), 0) AS unpriced,
		COALESCE(sum(b.input_tokens + b.cached_tokens + b.cache_write_tokens), 0) AS input, COALESCE(sum(b.output_tokens), 0) AS output
	INTO v_all FROM llm.bill('{}', v_since, v_now) b;

	-- what was paid in vain, and what was not paid
	WITH part AS (
		SELECT b.outcome, sum(b.requests) AS requests, sum(b.tasks) AS tasks, COALESCE(sum(b.wasted), 0) AS wasted,
			COALESCE(sum(b.saved), 0) AS saved
		FROM llm.bill('{outcome}', v_since, v_now) b GROUP BY b.outcome
	), line AS (
		SELECT 1 AS part, w.place, w.words, p.requests AS number, p.wasted AS amount
		FROM part p JOIN (VALUES
			(1, 'invalid', 'Answers that were not what was asked for'), (2, 'truncated', 'Answers that were cut off'),
			(3, 'refused', 'Refusals'), (4, 'timeout', 'No answer in time, by estimate'),
			(5, 'unknown', 'Unknown after a crash or a broken connection, by estimate'),
			(6, 'cancelled', 'Cancelled after sending, by estimate')) w(place, outcome, words) ON w.outcome = p.outcome
		WHERE p.requests > 0 OR p.wasted > 0
		UNION ALL
		SELECT 1, 7, 'Answers that no cell took: a check did not hold, the row had changed or was gone, it could not be written, or the task was cancelled', NULL,
			v_all.wasted - (SELECT COALESCE(sum(p.wasted), 0) FROM part p)
		WHERE v_all.wasted - (SELECT COALESCE(sum(p.wasted), 0) FROM part p) > 0
		UNION ALL
		SELECT 2, 8, 'One answer for equal questions, or one that was kept', sum(p.tasks), sum(p.saved) FROM part p
		WHERE p.outcome = 'cached' HAVING sum(p.tasks) > 0 OR sum(p.saved) > 0
		UNION ALL
		SELECT 2, 9, 'Tokens that the provider read from its cache', NULL, sum(p.saved) FROM part p
		WHERE p.outcome <> 'cached' HAVING sum(p.saved) > 0
	)
	SELECT string_agg(format('<tr><td class="n">%s</td><td class="r h">%s</td><td class="r">%s</td><td class="r">%s</td></tr>', l.words,
			llm.html_count(l.number), CASE WHEN l.part = 1 THEN llm.html_money(l.amount, t.top) ELSE '' END,
			CASE WHEN l.part = 2 THEN llm.html_money(l.amount, t.top) ELSE '' END), '' ORDER BY l.place)
	INTO v_waste FROM line l, (SELECT NULLIF(max(m.amount), 0) AS top FROM line m) t;

	SELECT string_agg(llm.report_split(format('By tag %s', btrim(s)), btrim(s), 'without this tag', 'Rows done', ARRAY['tag:' || btrim(s)], v_since, v_now), '')
	INTO v_tags FROM string_to_table(current_setting('llm_enrich.bill_tags'), ',') s WHERE btrim(s) <> '';

	v_notes := concat(
		CASE WHEN v_all.unpriced > 0 THEN format('<p class="note">%s requests have no price and count as nothing here. <code>SELECT llm.set_price(&#8230;)</code> sets one for those to come.</p>',
			llm.html_count(v_all.unpriced)) END,
		CASE WHEN v_all.estimated_cost > 0 AND v_all.estimated_cost >= 0.01 * v_all.cost THEN format('<p class="note">%s of the spend (%s%%) is estimated: for these requests the provider told no usage, or answered in a service tier that has no price.</p>',
			llm.html_money(v_all.estimated_cost, v_all.cost), round(100 * v_all.estimated_cost / v_all.cost)) END);
	v_whose := CASE WHEN pg_has_role('llm_admin', 'usage') OR pg_has_role('pg_monitor', 'usage') THEN 'all roles'
		ELSE format('role <bdi>%s</bdi> only', llm.html_text(current_user::text)) END;

	RETURN concat('<!DOCTYPE html>', E'\n',
		'<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">', E'\n',
		'<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''; img-src data:">', E'\n',
		'<link rel="icon" href="data:,"><title>LLM spend: ', llm.html_text(current_database()::text), '</title><style>', llm.report_style(),
		'</style></head><body><main>', E'\n',
		'<h1>LLM spend in <bdi>', llm.html_text(current_database()::text), '</bdi></h1><p class="dim">', to_char(v_since, 'FMDD FMMonth YYYY'),
		' to ', to_char(v_now, 'FMDD FMMonth YYYY, HH24:MI'), ' (', llm.html_text(current_setting('TimeZone')), '), ', v_whose, ', US dollars</p>', E'\n',
		'<div class="tiles"><div class="s"><span>Spent</span><b>', llm.html_money(v_all.cost, LEAST(v_all.cost, 1000)), '</b></div>',
		'<div><span>Rows done</span><b>', llm.html_count(v_all.rows_done), '</b></div>',
		'<div><span>Per 1,000 rows done</span><b>', llm.html_money(1000 * v_all.cost / NULLIF(v_all.rows_done, 0), NULL), '</b></div>',
		'<div><span>Wasted</span><b>', llm.html_money(v_all.wasted, NULLIF(v_all.cost, 0)),
		CASE WHEN v_all.cost > 0 AND v_all.wasted > 0 THEN format(' <small>%s%% of spend</small>', round(100 * v_all.wasted / v_all.cost, 1)) END, '</b></div>',
		'<div><span>Saved</span><b>', llm.html_money(v_all.saved, NULLIF(v_all.cost, 0)), '</b></div>',
		'<div class="s"><span>Requests</span><b>', llm.html_count(v_all.requests), ' <small>', llm.html_count(v_all.input), ' tokens in, ',
		llm.html_count(v_all.output), ' out</small></b></div></div>', v_notes, E'\n',
		'<h2>Spend by ', v_unit, '</h2>', CASE WHEN v_all.cost > 0 THEN llm.report_bars(v_unit, v_since, v_now)
			|| '<p class="key"><i style="margin-left:0"></i>spend<i class="w"></i>of it wasted</p>'
			ELSE '<p>Nothing was spent.</p>' END, E'\n',
		llm.report_split('By table', 'Column', 'no table (a SELECT, a check)', 'Rows done', '{relation,column}', v_since, v_now), E'\n',
		llm.report_split('By model', 'Server / model', 'not asked', 'Answers', '{server,model}', v_since, v_now), E'\n',
		llm.report_split('By role', 'Role', 'nobody', 'Rows done', '{role}', v_since, v_now), E'\n', v_tags, E'\n',
		CASE WHEN v_waste IS NOT NULL THEN format('<h2>Waste and savings</h2><table><thead><tr><th></th><th class="r h">Requests</th><th class="r">Wasted</th>'
			'<th class="r">Saved</th></tr></thead><tbody>%s</tbody></table>', v_waste) END, E'\n',
		llm.report_now(), E'\n',
		'<footer>Made by llm_enrich. Spend is what the ledger has: exact but for what is said to be estimated. Wasted: paid for no answer, '
		'for one that did not satisfy the checks of its call, or for one that no cell has taken so far. Saved: what cached tokens, and answers that were '
		'used once more, would have cost; the first use of an answer saves nothing.</footer></main></body></html>');
END
$$;
COMMENT ON FUNCTION llm.report(timestamptz) IS
	'spend since then (NULL: of the last 30 days) as one HTML page that loads nothing: psql -XAtc "SELECT llm.report()" > report.html';
-- What a statement will cost. Nothing is run, and nothing stays behind.
CREATE FUNCTION llm.estimate(statement text, OUT tasks bigint, OUT calls bigint, OUT input_tokens bigint,
	OUT output_tokens bigint, OUT cost_low numeric, OUT cost_high numeric, OUT seconds float8)
RETURNS SETOF record LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000 ROWS 2
AS 'MODULE_PATHNAME', 'llm_enrich_estimate';
COMMENT ON FUNCTION llm.estimate(text) IS
	'what a statement would ask and cost, in US dollars from .. to: a row per call, in their order; it is not run';
-- Conditions of the user's own on an answer.
CREATE FUNCTION llm_classify(input text, labels text[] DEFAULT NULL, multi boolean DEFAULT false,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	descriptions jsonb DEFAULT NULL, allow_none boolean DEFAULT false, checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_classify(text, text[], boolean, text, text, jsonb, jsonb, jsonb, boolean, text[])
	IS 'ask for the label that fits a text, {"label": ".."}, or for all of them, {"labels": [..]}';

CREATE FUNCTION llm_extract(input text, schema jsonb,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_extract(text, jsonb, text, text, jsonb, jsonb, text[])
	IS 'ask for what a text says, as an object that satisfies a JSON schema';

CREATE FUNCTION llm_summarize(input text, max_words int DEFAULT 50,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_summarize(text, int, text, text, jsonb, jsonb, text[])
	IS 'ask for a summary of a text, {"summary": ".."}';

CREATE FUNCTION llm_complete(prompt text, schema jsonb DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_complete(text, jsonb, text, text, jsonb, jsonb, text[])
	IS 'ask anything: {"text": ".."}, or an object that satisfies a JSON schema';

COMMENT ON COLUMN llm.dead_letter.reason IS 'invalid_output, refused, truncated, too_long, rejected, forbidden, not_visible, not_writable, check_failed, retry_share and so on';
-- Checked answers, for the same question of the same role.  Written and deleted by the sender, in
-- the order of the numbers, which is that of the times.  Found by a key that is not unique: two
-- may ask the same at once (ADR 9).
CREATE TABLE llm.answer (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL,
	key bytea NOT NULL,
	role oid NOT NULL,
	operation text NOT NULL,
	recipe bigint NOT NULL,
	server text NOT NULL,
	model text NOT NULL,
	task bigint NOT NULL,
	bytes_so_far bigint NOT NULL,
	answer jsonb NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX answer_key ON llm.answer (key);
COMMENT ON TABLE llm.answer IS 'checked answers, given again to the same question for a while; see llm_enrich.keep_answers';
COMMENT ON COLUMN llm.answer.id IS 'number of the row';
COMMENT ON COLUMN llm.answer.at IS 'when the answer came';
COMMENT ON COLUMN llm.answer.key IS 'SHA-256 of role, server, and the request as it would be sent, with its input';
COMMENT ON COLUMN llm.answer.role IS 'role that asked, and the only one that is given it';
COMMENT ON COLUMN llm.answer.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.answer.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.answer.server IS 'foreign server';
COMMENT ON COLUMN llm.answer.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.answer.task IS 'task, or call, that paid, as on the ledger';
COMMENT ON COLUMN llm.answer.bytes_so_far IS 'bytes of all answers that were ever kept, up to this one';
COMMENT ON COLUMN llm.answer.answer IS 'the checked answer';
COMMENT ON SEQUENCE llm.answer_id_seq IS 'numbers of kept answers';

ALTER TABLE llm.answer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.answer FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.answer FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.answer TO PUBLIC;
ALTER TABLE llm.queue ADD COLUMN reserved numeric;
ALTER TABLE llm.queue ALTER COLUMN reserved SET STATISTICS 0;
COMMENT ON COLUMN llm.queue.reserved IS 'US dollars that the request under way may cost at most, where a budget or a cap bounds it';
ALTER TABLE llm.queue ADD COLUMN asked text;
ALTER TABLE llm.queue ALTER COLUMN asked SET STATISTICS 0;
COMMENT ON COLUMN llm.queue.asked IS 'alias of the fallback that the request under way has gone to; NULL: it has gone to the job''s model';

-- which names a role or table had, for budgets of them
CREATE INDEX job_role ON llm.job (role, role_name);
CREATE INDEX job_relation ON llm.job (relation, relation_name);

-- What may be spent.  Users write the rules, by llm.set_budget(); the sender alone writes what was
-- spent and is reserved of each in a period, in the transactions that claim tasks and store their
-- bills.  So neither ever waits for the other, and a crash changes nothing.
-- Where clocks are set back to midnight it comes twice, and the second one is the start: what lies in between is of
-- the period before.
CREATE FUNCTION llm.budget_start(per text, time_zone text, at timestamptz) RETURNS timestamptz
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN per = 'total' THEN '-infinity'::timestamptz WHEN t.start <= at THEN t.start
		ELSE (date_trunc(per, at AT TIME ZONE time_zone) - ('1 ' || per)::interval) AT TIME ZONE time_zone END
	FROM (SELECT CASE WHEN per <> 'total' THEN date_trunc(per, at, time_zone) END AS start) t
$$;
COMMENT ON FUNCTION llm.budget_start(text, text, timestamptz) IS 'start of the period of a budget that a time lies in';
CREATE FUNCTION llm.budget_end(per text, time_zone text, at timestamptz) RETURNS timestamptz
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN per = 'total' THEN 'infinity'::timestamptz WHEN t.start > at THEN t.start
		ELSE (date_trunc(per, at AT TIME ZONE time_zone) + ('1 ' || per)::interval) AT TIME ZONE time_zone END
	FROM (SELECT CASE WHEN per <> 'total' THEN date_trunc(per, at, time_zone) END AS start) t
$$;
COMMENT ON FUNCTION llm.budget_end(text, text, timestamptz) IS 'end of the period of a budget that a time lies in';

CREATE TABLE llm.budget_rule (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	amount numeric NOT NULL CHECK (amount >= 0::numeric AND amount < 1000000000::numeric),
	per text NOT NULL CHECK (per IN ('day', 'week', 'month', 'total')),
	role regrole,
	relation regclass,
	model text,
	server text,
	tag text,
	value text,
	time_zone text NOT NULL,
	set_by text NOT NULL,
	set_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	role_name text,
	relation_name text,
	CHECK ((tag IS NULL) = (value IS NULL)),
	UNIQUE NULLS NOT DISTINCT (per, role, relation, model, server, tag, value)
);
COMMENT ON TABLE llm.budget_rule IS 'budgets as llm.set_budget() sets them; see llm.budget';
COMMENT ON COLUMN llm.budget_rule.id IS 'number of the budget';
COMMENT ON COLUMN llm.budget_rule.amount IS 'US dollars that may be spent in a period';
COMMENT ON COLUMN llm.budget_rule.per IS 'day, week, month or total';
COMMENT ON COLUMN llm.budget_rule.role IS 'role whose calls it holds for, those of its members included; NULL: any';
COMMENT ON COLUMN llm.budget_rule.relation IS 'table or view that the statements name; NULL: any';
COMMENT ON COLUMN llm.budget_rule.model IS 'model alias; NULL: any';
COMMENT ON COLUMN llm.budget_rule.server IS 'foreign server; NULL: any';
COMMENT ON COLUMN llm.budget_rule.tag IS 'name of a tag of the calls; NULL: any';
COMMENT ON COLUMN llm.budget_rule.value IS 'its value';
COMMENT ON COLUMN llm.budget_rule.time_zone IS 'time zone of its days, weeks and months';
COMMENT ON COLUMN llm.budget_rule.set_by IS 'role that set it last';
COMMENT ON COLUMN llm.budget_rule.set_at IS 'when that was';
COMMENT ON COLUMN llm.budget_rule.role_name IS 'name of the role then, to be told by when it was dropped';
COMMENT ON COLUMN llm.budget_rule.relation_name IS 'name of the table or view then';
COMMENT ON SEQUENCE llm.budget_rule_id_seq IS 'numbers of budgets';

CREATE TABLE llm.budget_period (
	budget bigint NOT NULL,
	starts_at timestamptz NOT NULL,
	spent numeric NOT NULL DEFAULT 0,
	reserved numeric NOT NULL DEFAULT 0,
	needed numeric,
	waiting int NOT NULL DEFAULT 0,
	PRIMARY KEY (budget, starts_at)
) WITH (fillfactor = 50);
COMMENT ON TABLE llm.budget_period IS 'what is spent and reserved of a budget in a period; see llm.budget';
COMMENT ON COLUMN llm.budget_period.budget IS 'llm.budget_rule.id';
COMMENT ON COLUMN llm.budget_period.starts_at IS 'start of the period';
COMMENT ON COLUMN llm.budget_period.spent IS 'US dollars for requests that were sent in it';
COMMENT ON COLUMN llm.budget_period.reserved IS 'US dollars that those under way may cost at most';
COMMENT ON COLUMN llm.budget_period.needed IS 'US dollars that the next request may cost; NULL: nothing waits';
COMMENT ON COLUMN llm.budget_period.waiting IS 'jobs that wait for it';

-- Whose calls it bounds may see a role's budget; who owns a server, its budgets.
ALTER TABLE llm.budget_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.budget_period ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.budget_rule FOR SELECT USING (pg_catalog.pg_has_role(role::oid, 'member')
	OR EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
		WHERE s.srvname::text OPERATOR(pg_catalog.=) COALESCE(server,
			(SELECT m.server FROM llm.model m WHERE m.alias OPERATOR(pg_catalog.=) budget_rule.model))
		AND pg_catalog.pg_has_role(s.srvowner, 'usage')));
CREATE POLICY admin ON llm.budget_rule FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')
	OR pg_catalog.pg_has_role('pg_monitor', 'usage')));
CREATE POLICY own ON llm.budget_period FOR SELECT USING (
	EXISTS (SELECT FROM llm.budget_rule b WHERE b.id OPERATOR(pg_catalog.=) budget_period.budget));
GRANT SELECT ON llm.budget_rule, llm.budget_period TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('llm.budget_rule', '');
SELECT pg_catalog.pg_extension_config_dump('llm.budget_rule_id_seq', '');

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.budget_rule
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.budget_rule IS 'tell all processes that budgets have changed';
ALTER TABLE llm.budget_rule ENABLE ALWAYS TRIGGER changed;

-- The sender adds up what a period has spent before a budget was set, a moment after the commit.  Until then
-- the reader adds it up.
CREATE FUNCTION llm.spent_before(budget bigint, since timestamptz) RETURNS numeric
	LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 10000
	AS 'MODULE_PATHNAME', 'llm_enrich_spent_before';
COMMENT ON FUNCTION llm.spent_before(bigint, timestamptz) IS
	'internal: what the ledger has since then of what a budget bounds, for who may see the budget';

CREATE VIEW llm.budget WITH (security_invoker = true) AS
SELECT b.id, b.amount, b.per,
	COALESCE((SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid = b.role::oid), b.role_name || ' (dropped)') AS role,
	COALESCE((SELECT b.relation::text FROM pg_catalog.pg_class c WHERE c.oid = b.relation::oid), b.relation_name || ' (dropped)')
		AS relation,
	CASE WHEN EXISTS (SELECT FROM llm.model m WHERE m.alias = b.model) THEN b.model ELSE b.model || ' (dropped)' END AS model,
	CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_foreign_server f WHERE f.srvname = b.server) THEN b.server
		ELSE b.server || ' (dropped)' END AS server,
	b.tag, b.value, b.time_zone,
	pg_catalog.trim_scale(s.spent) AS spent,
	COALESCE(pg_catalog.trim_scale(p.reserved), 0) AS reserved,
	pg_catalog.trim_scale(b.amount - s.spent - COALESCE(p.reserved, 0)) AS "left",
	pg_catalog.trim_scale(p.needed) AS needed,
	NULLIF(llm.budget_end(b.per, b.time_zone, llm.clock()), 'infinity') AS resets_at,
	COALESCE(p.waiting, 0) AS waiting
FROM llm.budget_rule b
	CROSS JOIN LATERAL (SELECT llm.budget_start(b.per, b.time_zone, llm.clock()) AS starts_at OFFSET 0) w
	LEFT JOIN llm.budget_period p ON p.budget = b.id AND p.starts_at = w.starts_at
	CROSS JOIN LATERAL (SELECT CASE WHEN p.budget IS NOT NULL THEN p.spent
		WHEN b.set_at >= w.starts_at THEN llm.spent_before(b.id, w.starts_at) ELSE 0 END AS spent OFFSET 0) s
ORDER BY b.id;
COMMENT ON VIEW llm.budget IS 'budgets, and how they stand in the period that runs';
COMMENT ON COLUMN llm.budget.id IS 'number of the budget, for llm.drop_budget()';
COMMENT ON COLUMN llm.budget.amount IS 'US dollars that may be spent in a period';
COMMENT ON COLUMN llm.budget.per IS 'day, week, month or total';
COMMENT ON COLUMN llm.budget.role IS 'role whose calls it holds for, those of its members included, or that it was dropped; NULL: any';
COMMENT ON COLUMN llm.budget.relation IS 'table or view that the statements name, or that it was dropped; NULL: any';
COMMENT ON COLUMN llm.budget.model IS 'model alias, or that it was dropped; NULL: any';
COMMENT ON COLUMN llm.budget.server IS 'foreign server, or that it was dropped; NULL: any';
COMMENT ON COLUMN llm.budget.tag IS 'name of a tag of the calls; NULL: any';
COMMENT ON COLUMN llm.budget.value IS 'its value';
COMMENT ON COLUMN llm.budget.time_zone IS 'time zone of its days, weeks and months';
COMMENT ON COLUMN llm.budget.spent IS 'US dollars spent in the period';
COMMENT ON COLUMN llm.budget.reserved IS 'US dollars that requests under way may cost at most';
COMMENT ON COLUMN llm.budget."left" IS 'US dollars that may still be reserved';
COMMENT ON COLUMN llm.budget.needed IS 'US dollars that the next request may cost; NULL: nothing waits for the budget';
COMMENT ON COLUMN llm.budget.resets_at IS 'when the next period begins; NULL: never';
COMMENT ON COLUMN llm.budget.waiting IS 'jobs that wait for the budget';
GRANT SELECT ON llm.budget TO PUBLIC;

CREATE FUNCTION llm.set_budget(amount numeric, per text DEFAULT 'total', role name DEFAULT NULL,
	relation regclass DEFAULT NULL, model text DEFAULT NULL, server text DEFAULT NULL, tag text DEFAULT NULL,
	value text DEFAULT NULL, time_zone text DEFAULT NULL)
	RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_set_budget';
COMMENT ON FUNCTION llm.set_budget(numeric, text, name, regclass, text, text, text, text, text)
	IS 'let no more than so many US dollars be spent per day, week, month or in total, by what all given scopes match; its number';

CREATE FUNCTION llm.drop_budget(id bigint) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_drop_budget';
COMMENT ON FUNCTION llm.drop_budget(bigint) IS 'drop a budget';

-- What waits for money that does not come by itself needs somebody.
CREATE OR REPLACE VIEW llm.health WITH (security_invoker = true) AS
SELECT kind, subject, state, problem, hint, since, pid, slots_used, slots
FROM llm.read_health()
UNION ALL
SELECT 'server', NULL, 'none', 'there is no server to ask',
	'CREATE SERVER openai FOREIGN DATA WRAPPER llm_enrich OPTIONS (provider ''openai'', api_key_file ''/etc/postgresql/openai.key'');',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (
	SELECT FROM pg_catalog.pg_foreign_server s
	JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
	WHERE w.fdwname OPERATOR(pg_catalog.=) 'llm_enrich')
UNION ALL
SELECT 'model', NULL, 'none', 'there is no model to ask',
	'SELECT llm.add_model(''fast'', server => ''openai'', model => ''gpt-5-mini'', is_default => true);',
	NULL, NULL, NULL, NULL
WHERE NOT EXISTS (SELECT FROM llm.model)
UNION ALL
SELECT 'habit', pg_catalog.concat('model "', h.model, '" at server "', h.server, '"'),
	pg_catalog.concat(h.name, ' is ', h.value), NULL,
	pg_catalog.concat('Learned from the host: ', h.why), h.since, NULL, NULL, NULL
FROM llm.habit h
UNION ALL
SELECT 'table', pg_catalog.format('llm.%s', c.relname) COLLATE pg_catalog."default", 'changed',
	pg_catalog.format('%s "%s" is not run when the extension writes the table', o.kind, o.name)
		COLLATE pg_catalog."default",
	pg_catalog.format('DROP %s %I ON llm.%I;', pg_catalog.upper(o.kind), o.name, c.relname)
		COLLATE pg_catalog."default", NULL, NULL, NULL, NULL
FROM pg_catalog.pg_class c CROSS JOIN LATERAL (
	SELECT 'trigger' AS kind, t.tgname AS name FROM pg_catalog.pg_trigger t
	JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
	WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal
	AND p.pronamespace OPERATOR(pg_catalog.<>) c.relnamespace
	UNION ALL
	SELECT 'rule', r.rulename FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid) o
WHERE c.relnamespace OPERATOR(pg_catalog.=) 'llm'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r'
UNION ALL
-- A budget that resets goes on by itself; one that does not, or can pay nothing, waits for somebody.
SELECT 'budget', pg_catalog.concat('budget ', b.id), CASE WHEN p.needed > b.amount THEN 'too small' ELSE 'spent' END,
	pg_catalog.format('%s for it: of %s dollars %s are left, and the next request may cost %s',
		CASE p.waiting WHEN 1 THEN '1 job waits' ELSE pg_catalog.concat(p.waiting, ' jobs wait') END,
		pg_catalog.trim_scale(b.amount), pg_catalog.trim_scale(b.amount - p.spent), pg_catalog.trim_scale(p.needed)),
	pg_catalog.format('SELECT llm.set_budget(..., %s); or SELECT llm.drop_budget(%s);',
		pg_catalog.concat_ws(', ', 'per => ' || pg_catalog.quote_literal(b.per),
			'role => ' || pg_catalog.quote_literal(pg_catalog.pg_get_userbyid(b.role::oid)), 'relation => ' || pg_catalog.quote_literal(b.relation::text),
			'model => ' || pg_catalog.quote_literal(b.model), 'server => ' || pg_catalog.quote_literal(b.server),
			'tag => ' || pg_catalog.quote_literal(b.tag), 'value => ' || pg_catalog.quote_literal(b.value),
			CASE WHEN b.per <> 'total' THEN 'time_zone => ' || pg_catalog.quote_literal(b.time_zone) END), b.id)
		COLLATE pg_catalog."default",
	NULL, NULL, NULL, NULL
FROM llm.budget_rule b JOIN llm.budget_period p ON p.budget = b.id AND p.starts_at = llm.budget_start(b.per, b.time_zone, llm.clock())
WHERE p.waiting > 0 AND p.reserved = 0::numeric AND (b.per = 'total' OR p.needed > b.amount)
UNION ALL
SELECT 'job', pg_catalog.concat('job ', j.id), j.state, j.reason,
	CASE WHEN j.reason LIKE 'budget: max_cost%' THEN pg_catalog.format(
		'SELECT llm.cancel(job => %s); what is left can be queued again under another llm_enrich.max_cost', j.id)
		ELSE pg_catalog.format('It goes on when that is done. To give it up: SELECT llm.cancel(job => %s);', j.id) END,
	NULL, NULL, NULL, NULL
FROM llm.job j WHERE j.state <> 'finished' AND j.max_cost IS NOT NULL AND j.reason LIKE 'budget: %';
COMMENT ON COLUMN llm.health.kind IS 'launcher, sender, writer, setting, server, model, budget, job, table, problem, target or habit';


-- Aggregates whose answer comes while the statement waits.  An aggregate takes neither defaults nor
-- named arguments, hence one for each number of arguments.
CREATE FUNCTION llm.agg_answer(collected internal) RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_agg_answer';
COMMENT ON FUNCTION llm.agg_answer(internal) IS 'the answer about what llm_agg or llm_summarize_agg has collected';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text, model text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, instruction text, model text, options jsonb) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, text, text, jsonb)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int, model text) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int, text)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE FUNCTION llm.agg_collect(state internal, input text, max_words int, model text, options jsonb) RETURNS internal
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10 AS 'MODULE_PATHNAME', 'llm_enrich_agg_collect';
COMMENT ON FUNCTION llm.agg_collect(internal, text, int, text, jsonb)
	IS 'one more text for llm_agg or llm_summarize_agg';

CREATE AGGREGATE llm_agg(input text, instruction text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text) IS 'the answer to an instruction about the texts of all rows together';

CREATE AGGREGATE llm_agg(input text, instruction text, model text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text, text) IS 'the same of a model';

CREATE AGGREGATE llm_agg(input text, instruction text, model text, options jsonb) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_agg(text, text, text, jsonb) IS 'the same with options';

CREATE AGGREGATE llm_summarize_agg(input text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text) IS 'a summary of the texts of all rows together, in at most 50 words';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int) IS 'the same in at most so many words';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int, model text) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int, text) IS 'the same of a model';

CREATE AGGREGATE llm_summarize_agg(input text, max_words int, model text, options jsonb) (
	SFUNC = llm.agg_collect, STYPE = internal, SSPACE = 16384, FINALFUNC = llm.agg_answer, PARALLEL = UNSAFE);
COMMENT ON AGGREGATE llm_summarize_agg(text, int, text, jsonb) IS 'the same with options';

-- A quiet cell that was answered with NULL looks as it did before: what was asked is remembered,
-- so that a statement for all cells that are NULL does not pay for the same answer each night.
CREATE TABLE llm.none_answer (
	task bigint PRIMARY KEY,
	at timestamptz NOT NULL,
	cell bigint NOT NULL,
	question bytea NOT NULL,
	role oid NOT NULL,
	job bigint NOT NULL,
	relation oid NOT NULL,
	column_name text NOT NULL
);
CREATE INDEX none_answer_cell ON llm.none_answer (cell);
COMMENT ON TABLE llm.none_answer IS 'quiet cells whose answer was NULL, which are not asked the same again';
COMMENT ON COLUMN llm.none_answer.task IS 'number of the task';
COMMENT ON COLUMN llm.none_answer.at IS 'when it was answered';
COMMENT ON COLUMN llm.none_answer.cell IS 'number of the cell';
COMMENT ON COLUMN llm.none_answer.question IS 'SHA-256 of what was asked, by whom and for which row';
COMMENT ON COLUMN llm.none_answer.role IS 'role that asked';
COMMENT ON COLUMN llm.none_answer.job IS 'llm.job.id, which may be gone';
COMMENT ON COLUMN llm.none_answer.relation IS 'table that held the row';
COMMENT ON COLUMN llm.none_answer.column_name IS 'column that the answer was for';
ALTER TABLE llm.none_answer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.none_answer FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.none_answer FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.none_answer TO PUBLIC;
-- Rights on functions that were made again.  They are the users', not the extension's, and so are dumped as theirs.
DO $$
DECLARE
	func record;
	entry record;
BEGIN
	FOR func IN SELECT p.oid, p.oid::pg_catalog.regprocedure AS signature, f.value OPERATOR(pg_catalog.->) 'rights' AS rights
		FROM pg_catalog.jsonb_array_elements(pg_catalog.current_setting('llm_upgrade.rights')::pg_catalog.jsonb) f
		JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) (f.value OPERATOR(pg_catalog.->>) 'name')::pg_catalog.name
			AND p.pronamespace::pg_catalog.regnamespace::pg_catalog.text OPERATOR(pg_catalog.=) (f.value OPERATOR(pg_catalog.->>) 'schema')
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc o
			WHERE o.oid OPERATOR(pg_catalog.=) (f.value OPERATOR(pg_catalog.->>) 'oid')::pg_catalog.oid)
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', func.signature);
		FOR entry IN SELECT (r.value OPERATOR(pg_catalog.->>) 'role')::pg_catalog.oid AS role,
				(r.value OPERATOR(pg_catalog.->>) 'too')::pg_catalog.bool AS too
			FROM pg_catalog.jsonb_array_elements(func.rights) r
			-- a role that is gone may have left its number
			WHERE (r.value OPERATOR(pg_catalog.->>) 'role') OPERATOR(pg_catalog.=) '0' OR EXISTS (SELECT FROM pg_catalog.pg_roles o
				WHERE o.oid OPERATOR(pg_catalog.=) (r.value OPERATOR(pg_catalog.->>) 'role')::pg_catalog.oid)
		LOOP
			EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s%s', func.signature,
				CASE WHEN entry.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE entry.role::pg_catalog.regrole::pg_catalog.text END,
				CASE WHEN entry.too THEN ' WITH GRANT OPTION' ELSE '' END);
		END LOOP;
		DELETE FROM pg_catalog.pg_init_privs i WHERE i.objoid OPERATOR(pg_catalog.=) func.oid
			AND i.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass;
		DELETE FROM pg_catalog.pg_shdepend d WHERE d.objid OPERATOR(pg_catalog.=) func.oid
			AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'i'::"char"
			AND d.dbid OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database b
				WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database());
	END LOOP;
END
$$;
-- Every role that may run a statement runs what the planner puts into it, what writes its answers, what
-- the views read and what our own functions are made of: also where new functions are open to nobody
-- (ALTER DEFAULT PRIVILEGES).  Those that people call have the privileges that functions have there.
GRANT EXECUTE ON FUNCTION llm.issue(internal, bytea, "any"), llm.keep(internal, bytea, anyelement, anyelement, "any"),
	llm.bind(internal, bytea, "any"), llm.seen(internal, text, text, boolean, anyelement),
	llm.keep_quiet(internal, bytea, "any"), llm.carried(internal, bytea), llm.bind_quiet(internal, bytea, "any"),
	llm.setval(regclass, bigint), llm.setval(regclass, bigint, boolean),
	llm.marker_task(anyelement), llm.resolve(anyelement, text, bigint, jsonb, text, text),
	llm.cell_stands(bytea, anyelement, xid, "any"), llm.cell_value(anyelement, int), llm.is_queued(bigint),
	llm.clock(), llm.read_health(), llm.read_providers(), llm.billed_tags(jsonb), llm.bill(text[], timestamptz, timestamptz),
	llm.bill_query(text[], timestamptz, timestamptz),
	llm.budget_start(text, text, timestamptz), llm.budget_end(text, text, timestamptz),
	llm.spent_before(bigint, timestamptz), llm.schema_of_type(oid, boolean, text), llm.labels(jsonb),
	llm.html_text(text), llm.html_name(text), llm.html_money(numeric, numeric), llm.html_count(numeric),
	llm.report_bars(text, timestamptz, timestamptz), llm.report_now(), llm.report_style(),
	llm.report_split(text, text, text, text, text[], timestamptz, timestamptz) TO PUBLIC;

-- This stays last: all tables that are there by now refuse what replication brings.
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'llm'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r'
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t
			WHERE t.tgrelid OPERATOR(pg_catalog.=) pg_catalog.format('llm.%I', name)::pg_catalog.regclass
			AND t.tgname OPERATOR(pg_catalog.=) 'ignore_replicated')
		THEN
			EXECUTE pg_catalog.format('CREATE TRIGGER ignore_replicated BEFORE INSERT OR UPDATE OR DELETE ON llm.%I'
				' FOR EACH ROW EXECUTE FUNCTION llm.ignore_replicated()', name);
			EXECUTE pg_catalog.format('ALTER TABLE llm.%I ENABLE REPLICA TRIGGER ignore_replicated', name);
			EXECUTE pg_catalog.format('COMMENT ON TRIGGER ignore_replicated ON llm.%I IS %L', name,
				'drop what logical replication brings');
		END IF;
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON llm.%I'
			' FOR EACH STATEMENT EXECUTE FUNCTION llm.refuse_replicated()', name);
		EXECUTE pg_catalog.format('ALTER TABLE llm.%I ENABLE REPLICA TRIGGER refuse_truncate', name);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER refuse_truncate ON llm.%I IS %L', name,
			'refuse what logical replication brings');
	END LOOP;
END
$$;

-- This stays last, too: what this script made belongs to the owner of the schema, no matter who ran it, as our
-- functions write the tables as that role.  A grant that gives nothing new notes the privileges as installed.
DO $$
DECLARE
	v_owner text := (SELECT n.nspowner::pg_catalog.regrole::text FROM pg_catalog.pg_namespace n
		WHERE n.nspname OPERATOR(pg_catalog.=) 'llm');
	object record;
BEGIN
	FOR object IN
		SELECT m.kind, m.name, EXISTS (SELECT FROM pg_catalog.pg_init_privs i WHERE i.objoid OPERATOR(pg_catalog.=) m.oid
			AND i.classoid OPERATOR(pg_catalog.=) m.class AND i.objsubid OPERATOR(pg_catalog.=) 0) AS has_rights
		FROM (
			SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass AS class, p.oid, 'ROUTINE' AS kind,
				p.oid::pg_catalog.regprocedure::text AS name, p.proowner AS owner
			FROM pg_catalog.pg_proc p
			UNION ALL
			SELECT 'pg_catalog.pg_class', c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
				c.oid::pg_catalog.regclass::text, c.relowner
			FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'S')
				-- a column's sequence goes with its table
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend a
					WHERE a.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
					AND a.objid OPERATOR(pg_catalog.=) c.oid AND a.deptype IN ('a', 'i') AND c.relkind OPERATOR(pg_catalog.=) 'S')
		) m
			JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) m.class AND d.objid OPERATOR(pg_catalog.=) m.oid
				AND d.deptype OPERATOR(pg_catalog.=) 'e'
			JOIN pg_catalog.pg_extension e ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
				AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND e.extname OPERATOR(pg_catalog.=) 'llm_enrich'
		WHERE m.owner::pg_catalog.regrole::text OPERATOR(pg_catalog.<>) v_owner
	LOOP
		EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %s', object.kind, object.name, v_owner);
		IF object.has_rights THEN
			EXECUTE pg_catalog.format('GRANT ALL ON %s %s TO %s',
				CASE object.kind WHEN 'VIEW' THEN 'TABLE' ELSE object.kind END, object.name, v_owner);
		END IF;
	END LOOP;
END
$$;
