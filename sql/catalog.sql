--
-- Models and prices; what is said when a call's way to its provider is broken
--
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE ROLE catalog_admin;
CREATE ROLE catalog_owner;
CREATE ROLE catalog_user;
GRANT llm_admin TO catalog_admin;
GRANT USAGE ON FOREIGN DATA WRAPPER llm_enrich TO catalog_owner;

-- an empty database: what to type first
SELECT llm.check();
\echo :SQLSTATE
SELECT llm.check('fast');
\echo :SQLSTATE
SELECT llm.add_model('fast', server => 'catalog_openai', model => 'gpt-5-mini');
\echo :SQLSTATE
CREATE SERVER catalog_openai FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://api.openai.com/v1', requests_per_minute '500');
SELECT llm.check();
\echo :SQLSTATE

-- prices known by name
SELECT llm.add_model('fast', server => 'catalog_openai', model => 'gpt-5-mini', is_default => true);
SELECT alias, server, model, is_default, requests_per_minute, tokens_per_minute, max_concurrency FROM llm.model;
SELECT server, model, valid_from <= now() + '1 min' AS now, valid_until, input_per_mtok, cached_input_per_mtok,
	cache_write_per_mtok, output_per_mtok, batch_input_per_mtok, batch_output_per_mtok FROM llm.price;
-- not known: NULL, never 0
SELECT llm.add_model('odd', 'catalog_openai', 'my-tune-7', requests_per_minute => 10, tokens_per_minute => 20000, max_concurrency => 2);
-- the list has a price of input alone, which is no price
SELECT llm.add_model('half', 'catalog_openai', 'mistral-embed');
SELECT model FROM llm.price ORDER BY id;
-- given
SELECT llm.add_model('own', 'catalog_openai', 'my-tune-8', input_per_mtok => 0.25, cached_input_per_mtok => 0.025,
	cache_write_per_mtok => 0.3125, output_per_mtok => 2.00);
SELECT llm.add_model('free', 'catalog_openai', 'local', input_per_mtok => 0, output_per_mtok => 0);
SELECT model, input_per_mtok, cached_input_per_mtok, cache_write_per_mtok, output_per_mtok, batch_input_per_mtok FROM llm.price ORDER BY id;
-- a second alias of the same model has the same price
SELECT llm.add_model('own2', 'catalog_openai', 'my-tune-8');
SELECT count(*) FROM llm.price WHERE model = 'my-tune-8';

-- several providers list a model: the server's host decides, then its dialect, else nobody
BEGIN;
INSERT INTO llm.price_list (provider, model, input_per_mtok, output_per_mtok, max_output_tokens) VALUES
	('nobody', 'shared', 1, 1, 100), ('openai', 'shared', 2, 2, 100), ('groq', 'shared', 3, 3, 100),
	('nobody', 'shared2', 1, 1, 100), ('nothing', 'shared2', 2, 2, 100);
CREATE SERVER catalog_groq FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://api.groq.com/openai/v1');
CREATE SERVER catalog_other FOREIGN DATA WRAPPER llm_enrich
	OPTIONS (dialect 'openai', base_url 'https://example.com/groq.com/v1');
SELECT llm.add_model('a', 'catalog_openai', 'shared');
SELECT llm.add_model('b', 'catalog_groq', 'shared');
SELECT llm.add_model('c', 'catalog_other', 'shared');
SELECT llm.add_model('d', 'catalog_other', 'shared2');
SELECT server, model, input_per_mtok FROM llm.price WHERE model LIKE 'shared%' ORDER BY id;
ROLLBACK;

-- arguments
SELECT llm.add_model(NULL, 'catalog_openai', 'x');
\echo :SQLSTATE
SELECT llm.add_model('', 'catalog_openai', 'x');
\echo :SQLSTATE
SELECT llm.add_model('x', NULL, 'x');
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', '');
\echo :SQLSTATE
SELECT llm.add_model('x', 'nowhere', 'x');
\echo :SQLSTATE
SELECT llm.add_model('fast', 'catalog_openai', 'gpt-5');
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', input_per_mtok => 1);
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', cached_input_per_mtok => 1, output_per_mtok => 1);
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', input_per_mtok => -1, output_per_mtok => 1);
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', input_per_mtok => 1, output_per_mtok => 'NaN');
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', input_per_mtok => 1, output_per_mtok => 'Infinity');
\echo :SQLSTATE
SELECT llm.add_model('x', 'catalog_openai', 'x', max_concurrency => 0);
\echo :SQLSTATE
CREATE FOREIGN DATA WRAPPER catalog_other;
CREATE SERVER catalog_stranger FOREIGN DATA WRAPPER catalog_other;
SELECT llm.add_model('x', 'catalog_stranger', 'x');
\echo :SQLSTATE
SELECT count(*) FROM llm.model WHERE alias = 'x';

-- a new price ends the one in force and rewrites nothing
SELECT llm.set_price('fast', input_per_mtok => 0.30, output_per_mtok => 2.50);
SELECT valid_until < 'infinity' AS ended, input_per_mtok, cached_input_per_mtok, output_per_mtok
	FROM llm.price WHERE model = 'gpt-5-mini' ORDER BY valid_from;
SELECT p.valid_until = q.valid_from AS no_gap
	FROM llm.price p JOIN llm.price q ON q.model = p.model AND q.id > p.id WHERE p.model = 'gpt-5-mini';
-- several times in a transaction, and for later
BEGIN;
SELECT llm.set_price('free', 1, 1);
SELECT llm.set_price('free', 2, 2, valid_from => now());
SELECT llm.set_price('free', 3, 3, valid_from => now() + '1 day');
SELECT input_per_mtok, valid_from <= clock_timestamp() AS begun, valid_until = 'infinity' AS open
	FROM llm.price WHERE model = 'local' ORDER BY valid_from;
-- a price from now on replaces what was planned
SELECT llm.set_price('free', 4, 4);
SELECT input_per_mtok, valid_from <= clock_timestamp() AS begun, valid_until = 'infinity' AS open
	FROM llm.price WHERE model = 'local' ORDER BY valid_from;
COMMIT;
SELECT llm.set_price('fast', 1, 1, valid_from => now() - '1 s'::interval);
\echo :SQLSTATE
SELECT llm.set_price('fast', 1, 1, valid_from => '-infinity');
\echo :SQLSTATE
SELECT llm.set_price('fast', 1, 1, valid_from => 'infinity');
\echo :SQLSTATE
SELECT llm.set_price('fast', 1, NULL);
\echo :SQLSTATE
SELECT llm.set_price('fast', NULL, NULL);
\echo :SQLSTATE
SELECT llm.set_price('nope', 1, 1);
\echo :SQLSTATE
-- nor by hand, by any role
UPDATE llm.price SET input_per_mtok = 0 WHERE model = 'gpt-5-mini';
\echo :SQLSTATE
UPDATE llm.price SET valid_from = valid_from - '1 day'::interval WHERE model = 'gpt-5-mini';
\echo :SQLSTATE
INSERT INTO llm.price (server, model, valid_from, input_per_mtok, output_per_mtok)
	SELECT server, model, valid_from - '1 s'::interval, 1, 1 FROM llm.price WHERE model = 'my-tune-8';
\echo :SQLSTATE
INSERT INTO llm.price (server, model, valid_from, valid_until, input_per_mtok, output_per_mtok)
	VALUES ('s', 'm', '2026-01-01', '2026-02-01', 1, 1), ('s', 'm', '2026-01-15', '2026-01-20', 1, 1);
\echo :SQLSTATE
INSERT INTO llm.price (server, model, valid_from, valid_until, input_per_mtok, output_per_mtok)
	VALUES ('s', 'm', '2026-01-01', '2026-02-01', 1, 1), ('s', 'm', '2026-02-01', '2026-03-01', 1, 1);
\set VERBOSITY sqlstate
INSERT INTO llm.price (server, model, valid_from, valid_until, input_per_mtok, output_per_mtok)
	VALUES ('s', 'm', '2026-03-02', '2026-03-01', 1, 1);
INSERT INTO llm.price (server, model, valid_from, input_per_mtok, output_per_mtok) VALUES ('s', 'n', now(), 'NaN', 1);
INSERT INTO llm.model (alias, server, model, is_default) VALUES ('x', 's', 'm', true), ('y', 's', 'm', true);
\set VERBOSITY default
-- but a price moves along when its server is renamed
UPDATE llm.price SET server = 't' WHERE server = 's';
DELETE FROM llm.price WHERE server = 't';

-- changes
SELECT llm.alter_model('odd', is_default => true);
SELECT alias FROM llm.model WHERE is_default;
SELECT llm.alter_model('odd', requests_per_minute => 5, max_concurrency => 0);
SELECT server, model, is_default, requests_per_minute, tokens_per_minute, max_concurrency FROM llm.model WHERE alias = 'odd';
SELECT llm.alter_model('odd', model => 'my-tune-9');
SELECT llm.alter_model('odd', model => 'gpt-5', is_default => false);
SELECT model, input_per_mtok FROM llm.price WHERE model = 'gpt-5';
SELECT llm.alter_model('odd', tokens_per_minute => -1);
\echo :SQLSTATE
SELECT llm.alter_model('odd', server => 'nowhere');
\echo :SQLSTATE
SELECT llm.alter_model('odd', server => 'catalog_stranger');
\echo :SQLSTATE
SELECT llm.alter_model('nope', is_default => true);
\echo :SQLSTATE
SELECT llm.drop_model('nope');
\echo :SQLSTATE
SELECT llm.drop_model('half');

-- what a call says; sending is turned off here, so that is the word where nothing else is wrong
SELECT llm.check();
\echo :SQLSTATE
SELECT llm.check('fats');
\echo :SQLSTATE
SET ROLE catalog_user;
SELECT llm.check('fast');
\echo :SQLSTATE
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER catalog_openai TO catalog_user;
SET ROLE catalog_user;
SELECT llm.check('fast');
RESET ROLE;
CREATE USER MAPPING FOR PUBLIC SERVER catalog_openai OPTIONS (api_key 'sk-nothing');
SET ROLE catalog_user;
SELECT llm.check('fast');
-- nothing that a user can set makes another model of it
CREATE TEMP TABLE model (alias text, server text, model text);
SET search_path = pg_temp, public;
SELECT llm.check('fast');
RESET search_path;
DROP TABLE pg_temp.model;
RESET ROLE;
-- seen at once: a change, its rollback, a dropped server
BEGIN;
SELECT llm.drop_model('fast');
SAVEPOINT s;
SELECT llm.check('fast');
\echo :SQLSTATE
ROLLBACK TO s;
ROLLBACK;
SELECT llm.check('fast');
ALTER SERVER catalog_openai RENAME TO catalog_renamed;
SELECT llm.check('fast');
\echo :SQLSTATE
-- its model and price came along
SELECT input_per_mtok FROM llm.price WHERE server = 'catalog_renamed' AND model = 'gpt-5-mini';
SELECT llm.check('fast');
UPDATE llm.model SET server = 'catalog_stranger' WHERE alias = 'own2';
SELECT llm.check('own2');
\echo :SQLSTATE
ALTER SERVER catalog_renamed RENAME TO catalog_openai;
UPDATE llm.model SET server = 'catalog_openai';

-- who may: admins, and owners for their servers, but for the default
SET ROLE catalog_user;
SELECT llm.add_model('mine', 'catalog_openai', 'gpt-5');
\echo :SQLSTATE
SELECT llm.alter_model('fast', model => 'gpt-5');
\echo :SQLSTATE
SELECT llm.set_price('fast', 0, 0);
\echo :SQLSTATE
SELECT llm.drop_model('fast');
\echo :SQLSTATE
\set VERBOSITY sqlstate
INSERT INTO llm.model (alias, server, model) VALUES ('mine', 'catalog_openai', 'gpt-5');
UPDATE llm.price SET input_per_mtok = 0;
DELETE FROM llm.price_list;
\set VERBOSITY default
SELECT count(*) > 0 AS visible FROM llm.model, llm.price, llm.price_list;
SET ROLE catalog_owner;
CREATE SERVER catalog_own FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.openai.com/v1');
SELECT llm.add_model('mine', 'catalog_own', 'gpt-5');
SELECT llm.alter_model('mine', model => 'gpt-5-nano', requests_per_minute => 7);
SELECT llm.set_price('mine', 1, 1);
SELECT llm.alter_model('mine', is_default => true);
\echo :SQLSTATE
SELECT llm.add_model('mine2', 'catalog_own', 'gpt-5', is_default => true);
\echo :SQLSTATE
SELECT llm.alter_model('mine', server => 'catalog_openai');
\echo :SQLSTATE
SELECT llm.alter_model('fast', server => 'catalog_own');
\echo :SQLSTATE
SELECT current_user, current_setting('search_path');
SELECT llm.drop_model('mine');
SET ROLE catalog_admin;
SELECT llm.add_model('theirs', 'catalog_own', 'gpt-5', is_default => true);
SELECT llm.drop_model('theirs');
RESET ROLE;

-- the list
SELECT provider, count(*), bool_and(input_per_mtok > 0) AS priced FROM llm.price_list GROUP BY provider ORDER BY provider;
SELECT * FROM llm.price_list WHERE model IN ('gpt-5-mini', 'claude-haiku-4-5', 'deepseek-v4-pro') ORDER BY model;

-- a server that models name
CREATE SERVER catalog_dropped FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:9/v1');
SELECT llm.add_model('dropped_a', 'catalog_dropped', 'x', input_per_mtok => 1, output_per_mtok => 1);
SELECT llm.add_model('stays', 'catalog_own', 'y', input_per_mtok => 1, output_per_mtok => 1, fallback => 'dropped_a');
DROP SERVER IF EXISTS catalog_nowhere, catalog_dropped;
DROP SERVER catalog_dropped CASCADE;
SELECT alias, server, fallback FROM llm.model WHERE alias IN ('dropped_a', 'stays');

DROP USER MAPPING FOR PUBLIC SERVER catalog_openai;
SET client_min_messages = warning;
DROP SERVER catalog_openai, catalog_own, catalog_stranger CASCADE;
RESET client_min_messages;
DROP FOREIGN DATA WRAPPER catalog_other;
TRUNCATE llm.model, llm.price;
REVOKE USAGE ON FOREIGN DATA WRAPPER llm_enrich FROM catalog_owner;
DROP ROLE catalog_admin, catalog_owner, catalog_user;
