-- Budgets: who may set them, and what is refused.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'Europe/Berlin';
CREATE SERVER budget_server FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
CREATE USER MAPPING FOR PUBLIC SERVER budget_server OPTIONS (api_key 'k');
SELECT llm.add_model('budgeted', server => 'budget_server', model => 'm', input_per_mtok => 1, output_per_mtok => 1);
CREATE TABLE budgeted (id int PRIMARY KEY, body text, label jsonb);
CREATE FOREIGN DATA WRAPPER budget_other;
CREATE SERVER budget_files FOREIGN DATA WRAPPER budget_other;
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
SELECT llm.set_budget(1, relation => 'budget_nothing');
SELECT llm.set_budget(1, relation => 0);
SELECT llm.set_budget(1, relation => 4000000000);
SELECT llm.set_budget(1, relation => 'pg_class');
SELECT llm.set_budget(1, relation => 'llm.ledger');
SELECT llm.set_budget(1, relation => 'budgeted_pkey');
SELECT llm.set_budget(1, model => 'no_such_model');
SELECT llm.set_budget(1, server => 'no_such_server');
SELECT llm.set_budget(1, server => 'budget_files');
SELECT llm.set_budget(1, tag => 'team');
SELECT llm.set_budget(1, tag => '', value => 'a');
SELECT llm.set_budget(1, per => NULL);
SELECT llm.set_budget(1, time_zone => 'Nowhere/City');
SELECT llm.set_budget(1, time_zone => '');
SELECT llm.set_budget(1, time_zone => '+02');
SELECT llm.set_budget(1, time_zone => 'UTC+2');
SELECT llm.drop_budget(-1);
SELECT llm.drop_budget(NULL);

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

-- So small that nothing can be paid of it.
SELECT llm.set_budget(0.00001, per => 'day', model => 'budgeted') AS small \gset
SELECT llm.set_budget(0, per => 'day', model => 'budgeted') = :small AS nothing_at_all;
SELECT llm.drop_budget(:small);

\set VERBOSITY terse
SET llm_enrich.max_cost = 0.0001;
INSERT INTO budgeted VALUES (1, 'x', llm_classify('x', '{a,b}', model => 'budgeted'));
INSERT INTO budgeted VALUES (2, 'x', llm_classify('x', '{a,b}', model => 'budgeted', options => '{"max_tokens": 1}'));
SET llm_enrich.max_cost = 0.01;
INSERT INTO budgeted VALUES (3, 'x', llm_classify('x', '{a,b}', model => 'budgeted'));
RESET llm_enrich.max_cost;
\set VERBOSITY default
SELECT llm.cancel('budgeted');

-- What the period had spent counts at once, for who may see the budget.
SELECT llm.spent_before(:first, '-infinity') AS seen, llm.spent_before(-1, '-infinity') AS none;
SET ROLE budget_stranger;
SELECT llm.spent_before(:first, '-infinity') AS not_to_be_seen;
RESET ROLE;

-- Whose role or table is gone.
CREATE ROLE budget_leaver;
CREATE TABLE "Budget left" (id int PRIMARY KEY, label jsonb);
SELECT llm.set_budget(1, role => 'budget_leaver', relation => '"Budget left"') AS left \gset
SELECT role, relation FROM llm.budget WHERE id = :left;
ALTER ROLE budget_leaver RENAME TO budget_gone;
DROP TABLE "Budget left";
SELECT role, relation FROM llm.budget WHERE id = :left;
DROP ROLE budget_gone;
SELECT role, relation FROM llm.budget WHERE id = :left;
SELECT llm.drop_budget(:left);

-- Where nothing can be written, the function says so.
BEGIN READ ONLY;
SELECT llm.set_budget(1);
ROLLBACK;
BEGIN READ ONLY;
SELECT llm.set_price('budgeted', 1, 1);
ROLLBACK;

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

-- A server that gets another name takes along what names it.
SELECT llm.set_price('budgeted', 2, 3, valid_from => '2099-01-01');
SELECT llm.set_budget(0.25, server => 'budget_server') AS renamed \gset
SELECT llm.pause(server => 'budget_server');
BEGIN;
ALTER SERVER budget_server RENAME TO budget_files;
ROLLBACK;
ALTER SERVER budget_server RENAME TO budget_moved;
SELECT alias, server FROM llm.model WHERE alias = 'budgeted';
SELECT server, input_per_mtok, valid_from < now() + interval '1 min' AS begun, valid_until = 'infinity' AS open,
	valid_until < now() + interval '1 min' AS ended FROM llm.price WHERE model = 'm' ORDER BY server, valid_from;
SELECT server FROM llm.budget;
SELECT server FROM llm.pause;
ALTER SERVER budget_moved RENAME TO budget_server;
SELECT server, input_per_mtok, valid_until > now() + interval '1 min' AS holds FROM llm.price WHERE model = 'm' ORDER BY valid_from, server;
SELECT llm.resume(server => 'budget_server');
-- but not into a budget that another server has left
CREATE SERVER budget_old FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
SELECT llm.set_budget(0.125, server => 'budget_old') AS old \gset
DROP SERVER budget_old;
SELECT server FROM llm.budget WHERE id = :old;
SELECT llm.add_model('budget_brief', server => 'budget_server', model => 'm');
SELECT llm.set_budget(0.125, model => 'budget_brief') AS brief \gset
SELECT llm.drop_model('budget_brief');
SELECT model FROM llm.budget WHERE id = :brief;
\set VERBOSITY terse
ALTER SERVER budget_server RENAME TO budget_old;
\set VERBOSITY default
SELECT llm.drop_budget(id) FROM llm.budget;
DROP OWNED BY budget_owner, budget_member;
DROP TABLE budgeted;
SELECT llm.drop_model('budgeted');
DELETE FROM llm.price WHERE server IN ('budget_server', 'budget_moved');
DROP SERVER budget_server CASCADE;
DROP FOREIGN DATA WRAPPER budget_other CASCADE;
DROP ROLE budget_member, budget_analyst, budget_stranger, budget_owner, budget_watcher;
-- a period begins before the times that lie in it, also where clocks are set back to midnight, which comes twice then
SELECT v.zone, to_char(v.at AT TIME ZONE 'UTC', 'MM-DD HH24:MI') AS at, p.per,
	to_char(llm.budget_start(p.per, v.zone, v.at) AT TIME ZONE 'UTC', 'MM-DD HH24:MI') AS starts,
	to_char(llm.budget_end(p.per, v.zone, v.at) AT TIME ZONE 'UTC', 'MM-DD HH24:MI') AS ends
FROM (VALUES ('America/Havana', '2020-11-01 03:59+00'::timestamptz), ('America/Havana', '2020-11-01 04:30+00'),
	('America/Havana', '2020-11-01 05:30+00'), ('AAA3BBB,M1.2.0/0,M3.1.1/0:30', '2026-03-02 02:15+00')) v(zone, at),
	(VALUES ('day'), ('month')) p(per)
ORDER BY 1, 2, 3;
