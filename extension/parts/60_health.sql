-- What runs, what waits, and what needs somebody's attention.
CREATE FUNCTION llm.read_health(
	OUT kind text, OUT subject text, OUT state text, OUT problem text, OUT hint text,
	OUT since timestamptz, OUT pid int, OUT slots_used int, OUT slots int)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'llm_enrich_read_health';
COMMENT ON FUNCTION llm.read_health() IS
	'rows of llm.health that the workers left in shared memory';

CREATE VIEW llm.health WITH (security_invoker = true) AS
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
COMMENT ON VIEW llm.health IS
	'launcher, sender and writer of this database, what waits and why; a row with a problem says what to do';
COMMENT ON COLUMN llm.health.kind IS 'launcher, sender, writer, setting, server, model, budget, job, table, problem, target or habit';
COMMENT ON COLUMN llm.health.subject IS 'what the row is about: a database, a server, a host and model, a setting';
COMMENT ON COLUMN llm.health.state IS 'what it does now';
COMMENT ON COLUMN llm.health.problem IS 'what is wrong; NULL: nothing';
COMMENT ON COLUMN llm.health.hint IS 'what to do about it';
COMMENT ON COLUMN llm.health.since IS 'when it started, ended, or was noticed first';
COMMENT ON COLUMN llm.health.pid IS 'process, as in pg_stat_activity';
COMMENT ON COLUMN llm.health.slots_used IS 'requests in flight';
COMMENT ON COLUMN llm.health.slots IS 'requests that may be in flight; NULL: not narrowed';
GRANT SELECT ON llm.health TO PUBLIC;
