-- What monitoring scrapes: counters that only grow, and what waits now.  Both are read from a few
-- rows, however long the ledger and the queue are.  Operators as in 70_views.sql.
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
