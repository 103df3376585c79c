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
	up_to bigint NOT NULL
);
COMMENT ON TABLE llm.ledger_summed IS 'how far the ledger is summed';
COMMENT ON COLUMN llm.ledger_summed.only_row IS 'there is at most one row';
COMMENT ON COLUMN llm.ledger_summed.up_to IS 'llm.ledger.id of the last row in llm.ledger_sum';

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
COMMENT ON COLUMN llm.ended_sum.job IS 'llm.job.id';
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
COMMENT ON COLUMN llm.ended_sum.dropped_cost IS 'US dollars for answers that did not satisfy checks, or whose tasks are not done; less what an answer cost that is written after all';

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

-- The coarsest grain that has what is asked for, and quarter-hours at both ends of the time.
CREATE FUNCTION llm.bill(by text[] DEFAULT '{day,model}', since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL)
	RETURNS TABLE (hour timestamptz, day date, week date, month date, server text, model text, relation text,
		"column" text, role text, operation text, lane text, outcome text, tags jsonb,
		requests bigint, tasks bigint, rows_done bigint, input_tokens bigint, cached_tokens bigint,
		cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cost numeric,
		cost_per_row numeric, estimated_cost numeric, wasted numeric, saved numeric, unpriced bigint)
	LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1000
	SET search_path = pg_catalog, pg_temp
	SET jit = off
	SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
	v_known CONSTANT text[] := '{hour,day,week,month,server,model,relation,column,role,operation,lane,outcome}';
	v_of_hour CONSTANT text[] := '{hour,day,week,month,server,model,role,lane,outcome}';
	v_of_day CONSTANT text[] := '{day,week,month,relation,column,role,operation}';
	v_of_ended CONSTANT text[] := '{hour,day,week,month,relation,column,role,operation}';
	v_declared CONSTANT text[] := ARRAY(SELECT btrim(s) FROM string_to_table(current_setting('llm_enrich.bill_tags'), ',') s);
	v_utc CONSTANT boolean := current_setting('TimeZone') ~* '^(Etc/)?(UTC|UCT|GMT|Zulu|Universal|Greenwich)$';
	v_first CONSTANT timestamptz := COALESCE(since, '-infinity');
	v_last CONSTANT timestamptz := COALESCE(until, 'infinity');
	v_asked text[] := '{}';
	v_tags text[] := '{}';
	v_dimension text;
	v_grain text := 'quarter';
	v_coarse_first timestamptz;
	v_coarse_last timestamptz;
	v_ended boolean;
	v_inner text := '';
	v_outer text := '';
	v_keys text[] := '{}';
	v_number int;
BEGIN
	FOREACH v_dimension IN ARRAY COALESCE(by, '{}') LOOP
		IF v_dimension LIKE 'tag:%' THEN
			IF substr(v_dimension, 5) <> ALL (v_declared) THEN
				RAISE EXCEPTION 'tag "%" is not declared', substr(v_dimension, 5)
					USING ERRCODE = 'invalid_parameter_value',
						HINT = format('Add it to "llm_enrich.bill_tags", which is ''%s'': what is sent from then on is summed by it.',
							current_setting('llm_enrich.bill_tags'));
			END IF;
			v_tags := v_tags || substr(v_dimension, 5);
		ELSIF v_dimension = ANY (v_known) THEN
			v_asked := v_asked || v_dimension;
		ELSE
			RAISE EXCEPTION 'there is no dimension "%"', v_dimension
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Dimensions are %s and tag:NAME.', array_to_string(v_known, ', '));
		END IF;
	END LOOP;
	IF v_first > v_last THEN
		RAISE EXCEPTION '"since" lies after "until"' USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- Hours and days of the sums are those of UTC.
	IF v_asked <@ v_of_hour AND v_tags = '{}' AND (v_utc OR NOT v_asked && '{hour,day,week,month}') THEN
		v_grain := 'hour';
	ELSIF v_asked <@ v_of_day AND (v_utc OR NOT v_asked && '{day,week,month}') THEN
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

	-- only what is asked for is grouped and sorted by: each dimension more costs as much again
	FOREACH v_dimension IN ARRAY v_known LOOP
		IF v_dimension <> ALL (v_asked) THEN
			v_outer := v_outer || CASE v_dimension WHEN 'hour' THEN 'NULL::timestamptz, ' WHEN 'day' THEN 'NULL::date, '
				WHEN 'week' THEN 'NULL::date, ' WHEN 'month' THEN 'NULL::date, ' ELSE 'NULL::text, ' END;
			CONTINUE;
		END IF;
		v_inner := v_inner || format('%s AS d_%s, ', CASE
			WHEN v_dimension = 'hour' THEN 'date_trunc(''hour'', u.start)'
			WHEN v_dimension IN ('day', 'week', 'month') THEN format('date_trunc(%L, u.start)::date', v_dimension)
			WHEN v_dimension = 'column' THEN 'u.column_name'
			ELSE 'u.' || v_dimension END, v_dimension);
		v_outer := v_outer || format('b.d_%s, ', v_dimension);
		v_keys := v_keys || format('b.d_%s', v_dimension);
	END LOOP;
	FOR v_number IN 1 .. cardinality(v_tags) LOOP
		v_inner := v_inner || format('u.tags -> %L AS t_%s, ', v_tags[v_number], v_number);
		v_keys := v_keys || format('b.t_%s', v_number);
	END LOOP;
	v_outer := v_outer || CASE WHEN v_tags = '{}' THEN 'NULL::jsonb' ELSE format('jsonb_build_object(%s)',
		(SELECT string_agg(format('%L, b.t_%s', t, n), ', ' ORDER BY n) FROM unnest(v_tags) WITH ORDINALITY v(t, n))) END;
	v_ended := v_asked <@ v_of_ended;

	RETURN QUERY EXECUTE format($q$
		WITH unit AS (
			SELECT %1$s u.requests, u.tasks, u.answers, 0::bigint AS done, u.input_tokens, u.cached_tokens,
				u.cache_write_tokens, u.output_tokens, u.reasoning_tokens, u.cost, u.estimated_cost, u.wasted, u.saved, u.unpriced
			FROM llm.ledger_sum u WHERE u.grain = %2$L AND u.start >= $1 AND u.start < $2
			UNION ALL
			-- the ends of the time, where the grain is coarser than they are
			SELECT %1$s u.requests, u.tasks, u.answers, 0, u.input_tokens, u.cached_tokens,
				u.cache_write_tokens, u.output_tokens, u.reasoning_tokens, u.cost, u.estimated_cost, u.wasted, u.saved, u.unpriced
			FROM llm.ledger_sum u WHERE %2$L <> 'quarter' AND u.grain = 'quarter'
				AND (u.start >= $3 AND u.start < LEAST($1, $4) OR u.start >= $2 AND u.start < $4)
			UNION ALL
			-- what is not summed yet: a request is counted with the first of its tasks
			SELECT %1$s CASE WHEN u.request IS NOT NULL
				AND row_number() OVER (PARTITION BY u.request ORDER BY u.id) = 1 THEN 1 ELSE 0 END,
				u.tasks, u.answers, 0, u.input_tokens, u.cached_tokens,
				u.cache_write_tokens, u.output_tokens, u.reasoning_tokens, u.cost, u.estimated_cost, u.wasted, u.saved, u.unpriced
			FROM llm.ledger_unsummed u WHERE u.start >= $3 AND u.start < $4
			%3$s
		), sums AS (
			-- whole numbers are exact as float8 up to nine thousand million millions, and a tenth of the work
			SELECT %6$s sum(b.requests::float8)::bigint AS requests, sum(b.tasks::float8)::bigint AS tasks,
				sum(%5$s::float8)::bigint AS done,
				sum(b.input_tokens::float8)::bigint AS input_tokens, sum(b.cached_tokens::float8)::bigint AS cached_tokens,
				sum(b.cache_write_tokens::float8)::bigint AS cache_write_tokens,
				sum(b.output_tokens::float8)::bigint AS output_tokens,
				sum(b.reasoning_tokens::float8)::bigint AS reasoning_tokens, sum(b.cost) AS cost,
				COALESCE(sum(b.estimated_cost), 0) AS estimated_cost, COALESCE(sum(b.wasted), 0) AS wasted,
				COALESCE(sum(b.saved), 0) AS saved, sum(b.unpriced::float8)::bigint AS unpriced
			FROM unit b GROUP BY %7$s HAVING count(*) > 0
		)
		SELECT %4$s, b.requests, b.tasks, b.done, b.input_tokens, b.cached_tokens, b.cache_write_tokens, b.output_tokens,
			b.reasoning_tokens, trim_scale(b.cost), CASE WHEN b.done > 0 THEN trim_scale(round(b.cost / b.done, 12)) END,
			trim_scale(b.estimated_cost), trim_scale(b.wasted), trim_scale(b.saved), b.unpriced
		FROM sums b %8$s$q$,
		v_inner, v_grain,
		CASE WHEN v_ended THEN format('UNION ALL SELECT %s 0, 0, 0, u.done, 0, 0, 0, 0, 0, NULL, 0, u.dropped_cost, 0, 0'
			' FROM llm.ended_sum u WHERE u.start >= $3 AND u.start < $4', v_inner) ELSE '' END,
		v_outer,
		CASE WHEN v_ended THEN 'b.done' ELSE 'b.answers' END,
		CASE WHEN v_keys <> '{}' THEN array_to_string(v_keys, ', ') || ',' END,
		CASE WHEN v_keys = '{}' THEN '()' ELSE array_to_string(v_keys, ', ') END,
		CASE WHEN v_keys <> '{}' THEN 'ORDER BY ' || array_to_string(v_keys, ', ') END)
		USING v_coarse_first, v_coarse_last, v_first, v_last;
END
$$;
COMMENT ON FUNCTION llm.bill(text[], timestamptz, timestamptz)
	IS 'what was spent, by any of hour, day, week, month, server, model, relation, column, role, operation, lane, outcome and tag:NAME';
