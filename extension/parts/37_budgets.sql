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
