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
