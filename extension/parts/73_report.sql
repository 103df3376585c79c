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
