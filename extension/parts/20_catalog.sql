-- Providers are foreign servers, credentials server options or user mappings.
CREATE FUNCTION llm.fdw_validator(options text[], catalog oid) RETURNS void
	LANGUAGE C STABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_fdw_validator';
COMMENT ON FUNCTION llm.fdw_validator(text[], oid) IS 'check the options of servers and user mappings of llm_enrich';
REVOKE ALL ON FUNCTION llm.fdw_validator(text[], oid) FROM PUBLIC;

CREATE FOREIGN DATA WRAPPER llm_enrich NO HANDLER VALIDATOR llm.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER llm_enrich IS 'providers of language models';

-- A server is named, not pointed to, so that a dump restores in any order; the sender says
-- so when there is none of that name.
CREATE TABLE llm.model (
	alias text PRIMARY KEY CHECK (alias OPERATOR(pg_catalog.<>) ''),
	server text NOT NULL,
	model text NOT NULL CHECK (model OPERATOR(pg_catalog.<>) ''),
	is_default boolean NOT NULL DEFAULT false,
	requests_per_minute int CHECK (requests_per_minute OPERATOR(pg_catalog.>) 0),
	tokens_per_minute int CHECK (tokens_per_minute OPERATOR(pg_catalog.>) 0),
	max_concurrency int CHECK (max_concurrency OPERATOR(pg_catalog.>) 0),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	options jsonb CHECK (pg_catalog.jsonb_typeof(options) OPERATOR(pg_catalog.=) 'object'),
	fallback text CHECK (fallback OPERATOR(pg_catalog.<>) alias)
);
CREATE UNIQUE INDEX model_default ON llm.model (is_default) WHERE is_default;
COMMENT ON TABLE llm.model IS 'models that calls may name; see llm.add_model()';
COMMENT ON COLUMN llm.model.alias IS 'name that calls use';
COMMENT ON COLUMN llm.model.server IS 'foreign server of wrapper llm_enrich';
COMMENT ON COLUMN llm.model.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.model.is_default IS 'true for the model of calls that name none; at most one';
COMMENT ON COLUMN llm.model.requests_per_minute IS 'limit besides the server''s; the tighter one holds';
COMMENT ON COLUMN llm.model.tokens_per_minute IS 'limit besides the server''s; the tighter one holds';
COMMENT ON COLUMN llm.model.max_concurrency IS 'limit of simultaneous requests besides the server''s; the tighter one holds';
COMMENT ON COLUMN llm.model.created_at IS 'start of the transaction that added it';
COMMENT ON COLUMN llm.model.options IS 'options of the server that are others for this model: answer_form, connect_timeout, context_tokens, extra_body, max_tokens_field, system_role, timeout';
COMMENT ON COLUMN llm.model.fallback IS 'alias of the model that is asked while this one does not answer, refuses everybody or has refused a row; NULL: none';

CREATE TABLE llm.price (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	server text NOT NULL,
	model text NOT NULL,
	valid_from timestamptz NOT NULL,
	valid_until timestamptz NOT NULL DEFAULT 'infinity',
	input_per_mtok numeric NOT NULL
		CHECK (input_per_mtok OPERATOR(pg_catalog.>=) 0 AND input_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	cached_input_per_mtok numeric
		CHECK (cached_input_per_mtok OPERATOR(pg_catalog.>=) 0 AND cached_input_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	cache_write_per_mtok numeric
		CHECK (cache_write_per_mtok OPERATOR(pg_catalog.>=) 0 AND cache_write_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	output_per_mtok numeric NOT NULL
		CHECK (output_per_mtok OPERATOR(pg_catalog.>=) 0 AND output_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	batch_input_per_mtok numeric
		CHECK (batch_input_per_mtok OPERATOR(pg_catalog.>=) 0 AND batch_input_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	batch_output_per_mtok numeric
		CHECK (batch_output_per_mtok OPERATOR(pg_catalog.>=) 0 AND batch_output_per_mtok OPERATOR(pg_catalog.<) 'Infinity'),
	tiers jsonb,
	UNIQUE (server, model, valid_from),
	CHECK (valid_from OPERATOR(pg_catalog.<) valid_until)
);
CREATE UNIQUE INDEX price_open ON llm.price (server, model) WHERE valid_until OPERATOR(pg_catalog.=) 'infinity';
COMMENT ON TABLE llm.price IS 'US dollars per million tokens, by server and model and time; see llm.set_price()';
COMMENT ON SEQUENCE llm.price_id_seq IS 'numbers of prices';
COMMENT ON COLUMN llm.price.id IS 'number of the price';
COMMENT ON COLUMN llm.price.server IS 'foreign server';
COMMENT ON COLUMN llm.price.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.price.valid_from IS 'requests sent from then on pay it';
COMMENT ON COLUMN llm.price.valid_until IS 'requests sent from then on no longer pay it';
COMMENT ON COLUMN llm.price.input_per_mtok IS 'uncached input';
COMMENT ON COLUMN llm.price.cached_input_per_mtok IS 'input read from the provider''s cache; NULL: as uncached input';
COMMENT ON COLUMN llm.price.cache_write_per_mtok IS 'input written to the provider''s cache; NULL: as uncached input';
COMMENT ON COLUMN llm.price.output_per_mtok IS 'output, reasoning included';
COMMENT ON COLUMN llm.price.batch_input_per_mtok IS 'input of the provider''s batches; NULL: not known';
COMMENT ON COLUMN llm.price.batch_output_per_mtok IS 'output of the provider''s batches; NULL: not known';
COMMENT ON COLUMN llm.price.tiers IS 'prices of long prompts: [{"above_tokens": …, "input_per_mtok": …}, …]; the highest tier that the input is above holds for the whole request; and of service tiers: [{"service_tier": "flex", …}]';

CREATE TABLE llm.price_list (
	provider text NOT NULL,
	model text NOT NULL,
	input_per_mtok numeric,
	cached_input_per_mtok numeric,
	cache_write_per_mtok numeric,
	output_per_mtok numeric,
	batch_input_per_mtok numeric,
	batch_output_per_mtok numeric,
	context_tokens int,
	max_output_tokens int,
	tiers jsonb,
	as_of date,
	kind text CHECK (kind IN ('chat', 'embed')),
	PRIMARY KEY (provider, model)
);
COMMENT ON TABLE llm.price_list IS 'list prices as this version of the extension knows them; llm.add_model() looks here';
COMMENT ON COLUMN llm.price_list.provider IS 'short name of the provider';
COMMENT ON COLUMN llm.price_list.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.price_list.input_per_mtok IS 'uncached input, US dollars per million tokens; NULL in any price: not known';
COMMENT ON COLUMN llm.price_list.cached_input_per_mtok IS 'input read from the provider''s cache';
COMMENT ON COLUMN llm.price_list.cache_write_per_mtok IS 'input written to the provider''s cache';
COMMENT ON COLUMN llm.price_list.output_per_mtok IS 'output, reasoning included';
COMMENT ON COLUMN llm.price_list.batch_input_per_mtok IS 'input of the provider''s batches';
COMMENT ON COLUMN llm.price_list.batch_output_per_mtok IS 'output of the provider''s batches';
COMMENT ON COLUMN llm.price_list.context_tokens IS 'input that fits the model';
COMMENT ON COLUMN llm.price_list.max_output_tokens IS 'longest answer of the model';
COMMENT ON COLUMN llm.price_list.tiers IS 'prices of long prompts and of service tiers, as in llm.price';
COMMENT ON COLUMN llm.price_list.as_of IS 'day of the list that the row is from';
COMMENT ON COLUMN llm.price_list.kind IS 'chat: it answers with text; embed: with vectors; NULL: not known';

GRANT SELECT ON llm.model, llm.price, llm.price_list TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('llm.model', '');
SELECT pg_catalog.pg_extension_config_dump('llm.price', '');
SELECT pg_catalog.pg_extension_config_dump('llm.price_id_seq', '');

-- A price is never rewritten, only ended; and at any time at most one is in force.  Moving
-- it to another server's name is allowed, for ALTER SERVER ... RENAME.
CREATE FUNCTION llm.price_check() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE'
		AND (pg_catalog.to_jsonb(NEW) OPERATOR(pg_catalog.-) ARRAY['server', 'valid_until'])
			OPERATOR(pg_catalog.<>) (pg_catalog.to_jsonb(OLD) OPERATOR(pg_catalog.-) ARRAY['server', 'valid_until'])
	THEN
		RAISE EXCEPTION 'a price is never rewritten'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Use llm.set_price(), which ends this one and begins another.';
	END IF;
	IF EXISTS (
		SELECT FROM llm.price p
		WHERE p.server OPERATOR(pg_catalog.=) NEW.server
			AND p.model OPERATOR(pg_catalog.=) NEW.model
			AND p.id OPERATOR(pg_catalog.<>) NEW.id
			AND p.valid_from OPERATOR(pg_catalog.<) NEW.valid_until
			AND NEW.valid_from OPERATOR(pg_catalog.<) p.valid_until)
	THEN
		RAISE EXCEPTION 'two prices of model "%" of server "%" overlap', NEW.model, NEW.server
			USING ERRCODE = 'exclusion_violation',
				HINT = 'Use llm.set_price(), which ends the former one.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION llm.price_check() IS 'refuse prices that overlap or are rewritten';
REVOKE ALL ON FUNCTION llm.price_check() FROM PUBLIC;
CREATE TRIGGER price_check BEFORE INSERT OR UPDATE ON llm.price
	FOR EACH ROW EXECUTE FUNCTION llm.price_check();
COMMENT ON TRIGGER price_check ON llm.price IS 'refuse prices that overlap or are rewritten';

CREATE FUNCTION llm.catalog_changed() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_catalog_changed';
COMMENT ON FUNCTION llm.catalog_changed() IS 'tell all processes that models or prices have changed';
REVOKE ALL ON FUNCTION llm.catalog_changed() FROM PUBLIC;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.model
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.price
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.price_list
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.model IS 'tell all processes that models have changed';
COMMENT ON TRIGGER changed ON llm.price IS 'tell all processes that prices have changed';
COMMENT ON TRIGGER changed ON llm.price_list IS 'tell all processes that the price list has changed';
-- also for a subscriber that applies changes of these tables
ALTER TABLE llm.model ENABLE ALWAYS TRIGGER changed;
ALTER TABLE llm.price ENABLE ALWAYS TRIGGER changed;
ALTER TABLE llm.price_list ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION llm.add_model(
	alias text,
	server text,
	model text,
	is_default boolean DEFAULT false,
	input_per_mtok numeric DEFAULT NULL,
	cached_input_per_mtok numeric DEFAULT NULL,
	cache_write_per_mtok numeric DEFAULT NULL,
	output_per_mtok numeric DEFAULT NULL,
	batch_input_per_mtok numeric DEFAULT NULL,
	batch_output_per_mtok numeric DEFAULT NULL,
	requests_per_minute int DEFAULT NULL,
	tokens_per_minute int DEFAULT NULL,
	max_concurrency int DEFAULT NULL,
	options jsonb DEFAULT NULL,
	fallback text DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_add_model';
COMMENT ON FUNCTION llm.add_model(text, text, text, boolean, numeric, numeric, numeric, numeric, numeric, numeric, int, int, int, jsonb, text)
	IS 'let calls use a model of a server by an alias; prices not given are looked up in llm.price_list';

CREATE FUNCTION llm.alter_model(
	alias text,
	server text DEFAULT NULL,
	model text DEFAULT NULL,
	is_default boolean DEFAULT NULL,
	requests_per_minute int DEFAULT NULL,
	tokens_per_minute int DEFAULT NULL,
	max_concurrency int DEFAULT NULL,
	options jsonb DEFAULT NULL,
	fallback text DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_alter_model';
COMMENT ON FUNCTION llm.alter_model(text, text, text, boolean, int, int, int, jsonb, text)
	IS 'change what is given of a model; a limit of 0 takes it away, as do options of {} and an empty fallback';

CREATE FUNCTION llm.drop_model(alias text) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_drop_model';
COMMENT ON FUNCTION llm.drop_model(text) IS 'forget an alias; its prices and its rows of the ledger stay';

CREATE FUNCTION llm.set_price(
	alias text,
	input_per_mtok numeric,
	output_per_mtok numeric,
	cached_input_per_mtok numeric DEFAULT NULL,
	cache_write_per_mtok numeric DEFAULT NULL,
	batch_input_per_mtok numeric DEFAULT NULL,
	batch_output_per_mtok numeric DEFAULT NULL,
	valid_from timestamptz DEFAULT pg_catalog.now(),
	tiers jsonb DEFAULT NULL
) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_set_price';
COMMENT ON FUNCTION llm.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, timestamptz, jsonb)
	IS 'set what a model costs from now or a later time on; what was paid before stays';

-- Providers that are known by name; a dialect that this build does not have has none.
CREATE FUNCTION llm.read_providers(
	OUT provider text, OUT dialect text, OUT base_url text, OUT answer_form text, OUT max_tokens_field text,
	OUT max_concurrency text, OUT note text)
RETURNS SETOF record
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'llm_enrich_read_providers';
COMMENT ON FUNCTION llm.read_providers() IS 'rows of llm.provider_list';

CREATE VIEW llm.provider_list WITH (security_invoker = true) AS
SELECT provider, dialect, base_url, answer_form, max_tokens_field, max_concurrency, note FROM llm.read_providers();
COMMENT ON VIEW llm.provider_list IS 'providers that are known by name, and the options that the option provider fills in';
COMMENT ON COLUMN llm.provider_list.provider IS 'value of the option provider';
COMMENT ON COLUMN llm.provider_list.dialect IS 'form of its requests and answers';
COMMENT ON COLUMN llm.provider_list.base_url IS 'its address; NULL: give yours';
COMMENT ON COLUMN llm.provider_list.answer_form IS 'how the form of an answer is asked for; NULL: as the dialect does';
COMMENT ON COLUMN llm.provider_list.max_tokens_field IS 'what caps output tokens; NULL: as the dialect has it';
COMMENT ON COLUMN llm.provider_list.max_concurrency IS 'simultaneous requests; NULL: as for others';
COMMENT ON COLUMN llm.provider_list.note IS 'what else to give';
GRANT SELECT ON llm.provider_list TO PUBLIC;

CREATE TABLE llm.habit (
	server text NOT NULL,
	model text NOT NULL,
	name text NOT NULL,
	value text NOT NULL,
	since timestamptz NOT NULL DEFAULT pg_catalog.now(),
	why text NOT NULL,
	PRIMARY KEY (server, model, name)
);
COMMENT ON TABLE llm.habit IS 'what hosts were found not to take, and the simpler way that they are asked since; a row that is deleted is found out again';
COMMENT ON COLUMN llm.habit.server IS 'foreign server';
COMMENT ON COLUMN llm.habit.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.habit.name IS 'option that it stands for: answer_form, max_tokens_field or system_role';
COMMENT ON COLUMN llm.habit.value IS 'value that is used instead';
COMMENT ON COLUMN llm.habit.since IS 'when it was found out';
COMMENT ON COLUMN llm.habit.why IS 'the provider''s sentence';
-- The sentence may quote what was asked: labels, a schema, words of an instruction.
ALTER TABLE llm.habit ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.habit FOR SELECT USING (EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
	WHERE s.srvname::text OPERATOR(pg_catalog.=) server AND pg_catalog.pg_has_role(s.srvowner, 'usage')));
CREATE POLICY admin ON llm.habit FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.habit TO PUBLIC;

CREATE FUNCTION llm.forget_habits(server text DEFAULT NULL, model text DEFAULT NULL) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
	WITH gone AS (
		DELETE FROM llm.habit h WHERE ($1 IS NULL OR h.server = $1) AND ($2 IS NULL OR h.model = $2) RETURNING 1
	)
	SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION llm.forget_habits(text, text) IS
	'forget what hosts were found not to take (NULL: of all servers, all models), so that it is found out again; how many rows';
REVOKE ALL ON FUNCTION llm.forget_habits(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION llm.forget_habits(text, text) TO llm_admin;
SELECT pg_catalog.pg_extension_config_dump('llm.habit', '');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.habit
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.habit IS 'tell all processes that habits have changed';
ALTER TABLE llm.habit ENABLE ALWAYS TRIGGER changed;

-- What is not asked for now, whatever is queued: a server, a model, or everything of a role or of
-- the database.  A job's own pause is in llm.job.
CREATE TABLE llm.pause (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	server text,
	model text,
	role regrole,
	paused_by text NOT NULL,
	paused_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE llm.pause IS 'servers and models that are paused, also for later jobs; see llm.pause() and llm.resume()';
COMMENT ON COLUMN llm.pause.id IS 'number of the pause';
COMMENT ON COLUMN llm.pause.server IS 'foreign server that is not asked; NULL: any';
COMMENT ON COLUMN llm.pause.model IS 'model alias that is not asked; NULL: any';
COMMENT ON COLUMN llm.pause.role IS 'role whose tasks are not sent; NULL: any';
COMMENT ON COLUMN llm.pause.paused_by IS 'role that paused it';
COMMENT ON COLUMN llm.pause.paused_at IS 'start of the transaction that paused it';
COMMENT ON SEQUENCE llm.pause_id_seq IS 'numbers of pauses';
-- Whose tasks wait for it may see a pause.
ALTER TABLE llm.pause ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.pause FOR SELECT USING (role IS NULL OR pg_catalog.pg_has_role(role::oid, 'member'));
CREATE POLICY admin ON llm.pause FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.pause TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('llm.pause', '');
SELECT pg_catalog.pg_extension_config_dump('llm.pause_id_seq', '');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON llm.pause
	FOR EACH STATEMENT EXECUTE FUNCTION llm.catalog_changed();
COMMENT ON TRIGGER changed ON llm.pause IS 'tell all processes that something was paused, or goes on';
ALTER TABLE llm.pause ENABLE ALWAYS TRIGGER changed;
