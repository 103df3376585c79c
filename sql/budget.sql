-- Budgets: who may set them, and what is refused.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'Europe/Berlin';
CREATE SERVER budget_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
CREATE USER MAPPING FOR PUBLIC SERVER budget_server OPTIONS (api_key 'k');
SELECT llm.add_model('budgeted', server => 'budget_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
CREATE TABLE budgeted (id int PRIMARY KEY, body text, label jsonb);
CREATE ROLE budget_analyst;
CREATE ROLE budget_member IN ROLE budget_analyst;
CREATE ROLE budget_stranger;
CREATE ROLE budget_owner;
CREATE ROLE budget_watcher IN ROLE pg_monitor;
GRANT USAGE ON FOREIGN SERVER budget_server TO budget_owner;

-- What is no budget.
SELECT llm.set_budget(-1);
SELECT llm.set_budget('NaN');
SELECT llm.set_budget(1000000000);
SELECT llm.set_budget(NULL);
SELECT llm.set_budget(1, per => 'year');
SELECT llm.set_budget(1, role => 'budget_nobody');
SELECT llm.set_budget(1, model => 'no_such_model');
SELECT llm.set_budget(1, server => 'no_such_server');
SELECT llm.set_budget(1, tag => 'team');
SELECT llm.set_budget(1, time_zone => 'Nowhere/City');
SELECT llm.drop_budget(-1);

-- The same scope and period replaces; another period is another budget.
SELECT llm.set_budget(20, per => 'day') AS first \gset
SELECT llm.set_budget(30, per => 'day') = :first AS replaced;
SELECT llm.set_budget(300, per => 'month') = :first AS replaced;
SELECT llm.set_budget(5, per => 'week', role => 'budget_analyst', time_zone => 'UTC') > 0 AS set;
SELECT llm.set_budget(5, per => 'week', role => 'budget_analyst', relation => 'budgeted', tag => 'team', value => 'a') > 0 AS set;
SELECT llm.set_budget(0.5, model => 'budgeted') > 0 AS set;
SELECT llm.set_budget(0.25, server => 'budget_server') > 0 AS set;
SELECT amount, per, role, relation, model, server, tag, value, time_zone, spent, reserved, "left", needed, waiting,
	resets_at IS NULL AS never_reset
FROM llm.budget;
SELECT per, resets_at > now() AS ahead, extract(hour FROM resets_at AT TIME ZONE time_zone) AS hour,
	CASE per WHEN 'month' THEN extract(day FROM resets_at AT TIME ZONE time_zone)
		WHEN 'week' THEN extract(isodow FROM resets_at AT TIME ZONE time_zone) END AS day
FROM llm.budget WHERE per <> 'total';

-- A day in March has 23 hours, one in October 25.
SELECT llm.budget_end('day', 'Europe/Berlin', t) - llm.budget_start('day', 'Europe/Berlin', t) AS long
FROM unnest('{2026-03-29 12:00+02,2026-10-25 12:00+01}'::timestamptz[]) t;

-- Who may set one, and who sees which.
SET ROLE budget_stranger;
SELECT llm.set_budget(1);
SELECT llm.drop_budget(:first);
SELECT amount, per FROM llm.budget;
SET ROLE budget_member;
SELECT amount, per FROM llm.budget;
SET ROLE budget_watcher;
SELECT count(*) FROM llm.budget;
SELECT llm.set_budget(1);
RESET ROLE;
ALTER SERVER budget_server OWNER TO budget_owner;
SET ROLE budget_owner;
SELECT llm.set_budget(1);
-- What an administrator has set for the server stays; another period is a budget of the owner's own.
SELECT llm.set_budget(0.75, server => 'budget_server');
SELECT llm.set_budget(0.5, model => 'budgeted');
SELECT llm.drop_budget(id) FROM llm.budget WHERE server = 'budget_server';
SELECT llm.set_budget(0.75, per => 'day', server => 'budget_server') > 0 AS set;
SELECT llm.set_budget(0.7, per => 'day', server => 'budget_server') > 0 AS set;
SELECT llm.set_budget(0.5, per => 'day', model => 'budgeted') > 0 AS set;
SELECT amount, per, model, server FROM llm.budget;
SELECT llm.drop_budget(id) FROM llm.budget WHERE per = 'day';
SELECT llm.drop_budget(:first);
-- Nobody else writes them.
INSERT INTO llm.budget_rule (amount, per, time_zone, set_by) VALUES (1, 'day', 'UTC', 'me');
RESET ROLE;
GRANT llm_admin TO budget_member;
SET ROLE budget_member;
SELECT llm.drop_budget(:first);
SELECT count(*) FROM llm.budget;
SELECT llm.drop_budget(id) FROM llm.budget;
RESET ROLE;
SELECT count(*) FROM llm.budget;
ALTER SERVER budget_server OWNER TO CURRENT_USER;
DROP OWNED BY budget_owner, budget_member;
DROP TABLE budgeted;
SELECT llm.drop_model('budgeted');
DELETE FROM llm.price WHERE server = 'budget_server';
DROP SERVER budget_server CASCADE;
DROP ROLE budget_member, budget_analyst, budget_stranger, budget_owner, budget_watcher;
