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
