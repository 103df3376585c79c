-- Questions to a model.  Calls that INSERT, UPDATE and MERGE store are deferred by the planner
-- hook; the functions themselves ask while the statement waits.  Their cost is that of a round
-- trip, so that cheap conditions and joins go before them.
CREATE FUNCTION llm_classify(input text, labels text[] DEFAULT NULL, multi boolean DEFAULT false,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	descriptions jsonb DEFAULT NULL, allow_none boolean DEFAULT false, checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_classify(text, text[], boolean, text, text, jsonb, jsonb, jsonb, boolean, text[])
	IS 'ask for the label that fits a text, {"label": ".."}, or for all of them, {"labels": [..]}';

CREATE FUNCTION llm_extract(input text, schema jsonb,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_extract(text, jsonb, text, text, jsonb, jsonb, text[])
	IS 'ask for what a text says, as an object that satisfies a JSON schema';

CREATE FUNCTION llm_summarize(input text, max_words int DEFAULT 50,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_summarize(text, int, text, text, jsonb, jsonb, text[])
	IS 'ask for a summary of a text, {"summary": ".."}';

CREATE FUNCTION llm_complete(prompt text, schema jsonb DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_complete(text, jsonb, text, text, jsonb, jsonb, text[])
	IS 'ask anything: {"text": ".."}, or an object that satisfies a JSON schema';

CREATE FUNCTION llm_filter(input text, condition text,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_filter(text, text, text, text, jsonb, jsonb, text[])
	IS 'ask whether a condition holds for a text';

CREATE FUNCTION llm_score(input text, criterion text, min float8 DEFAULT 0, max float8 DEFAULT 1,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS float8
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_score(text, text, float8, float8, text, text, jsonb, jsonb, text[])
	IS 'ask how far a text meets a criterion, as a number from min to max';

CREATE FUNCTION llm_translate(input text, to_language text, from_language text DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_translate(text, text, text, text, text, jsonb, jsonb, text[])
	IS 'ask for a text in another language';

CREATE FUNCTION llm_redact(input text, kinds text[] DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_redact(text, text[], text, text, jsonb, jsonb, text[])
	IS 'ask for a text with placeholders for names, addresses and the like; the text goes to the provider';

CREATE FUNCTION llm_sentiment(input text, aspects text[] DEFAULT NULL,
	model text DEFAULT NULL, instructions text DEFAULT NULL, examples jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
	checks text[] DEFAULT NULL)
	RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_sentiment(text, text[], text, text, jsonb, jsonb, text[])
	IS 'ask how the writer of a text feels, {"sentiment": ".."}, and about which aspects, {"aspects": {..}}';

CREATE FUNCTION llm_embed(input text, dimensions int DEFAULT NULL,
	model text DEFAULT NULL, options jsonb DEFAULT NULL)
	RETURNS real[]
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'llm_enrich_call';
COMMENT ON FUNCTION llm_embed(text, int, text, jsonb)
	IS 'ask for the vector of a text, of so many dimensions, or as many as the model gives';

-- A schema from a composite type.
CREATE FUNCTION llm.schema_of_type(type oid, nullable boolean, description text) RETURNS jsonb
	LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	t pg_type;
	words text := description;
	result jsonb;
BEGIN
	SELECT * INTO STRICT t FROM pg_type p WHERE p.oid = $1;
	IF words IS NULL AND t.typnamespace <> 'pg_catalog'::regnamespace AND t.typcategory <> 'A' THEN
		words := coalesce(obj_description(t.oid, 'pg_type'), obj_description(nullif(t.typrelid, 0), 'pg_class'));
	END IF;
	IF t.typtype = 'd' THEN
		RETURN llm.schema_of_type(t.typbasetype, nullable AND NOT t.typnotnull, words);
	ELSIF t.typtype = 'c' THEN
		SELECT jsonb_build_object('type', 'object', 'additionalProperties', false,
			'required', jsonb_agg(a.attname ORDER BY a.attnum),
			'properties', jsonb_object_agg(a.attname,
				llm.schema_of_type(a.atttypid, NOT a.attnotnull, col_description(a.attrelid, a.attnum))))
		INTO result FROM pg_attribute a
		WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
	ELSIF t.typtype = 'e' THEN
		SELECT jsonb_build_object('type', 'string', 'enum', jsonb_agg(e.enumlabel ORDER BY e.enumsortorder))
		INTO result FROM pg_enum e WHERE e.enumtypid = t.oid;
	ELSIF t.typcategory = 'A' THEN
		result := jsonb_build_object('type', 'array', 'items', llm.schema_of_type(t.typelem, false, NULL));
	ELSE
		result := CASE t.oid
			WHEN 'boolean'::regtype THEN '{"type": "boolean"}'
			WHEN 'smallint'::regtype THEN '{"type": "integer"}'
			WHEN 'integer'::regtype THEN '{"type": "integer"}'
			WHEN 'bigint'::regtype THEN '{"type": "integer"}'
			WHEN 'real'::regtype THEN '{"type": "number"}'
			WHEN 'double precision'::regtype THEN '{"type": "number"}'
			WHEN 'numeric'::regtype THEN '{"type": "number"}'
			WHEN 'date'::regtype THEN '{"type": "string", "format": "date"}'
			WHEN 'timestamptz'::regtype THEN '{"type": "string", "format": "date-time"}'
			WHEN 'uuid'::regtype THEN '{"type": "string", "format": "uuid"}'
			WHEN 'json'::regtype THEN '{}'
			WHEN 'jsonb'::regtype THEN '{}'
			ELSE '{"type": "string"}'
		END;
	END IF;
	IF nullable AND result ? 'type' THEN
		result := jsonb_set(result, '{type}', jsonb_build_array(result->'type', 'null'));
	END IF;
	IF nullable AND result ? 'enum' THEN
		result := jsonb_set(result, '{enum}', (result->'enum') || 'null'::jsonb);
	END IF;
	RETURN CASE WHEN words IS NULL THEN result ELSE result || jsonb_build_object('description', words) END;
END
$$;
COMMENT ON FUNCTION llm.schema_of_type(oid, boolean, text) IS 'what llm.schema_of gives for one type';

CREATE FUNCTION llm.schema_of(type anyelement) RETURNS jsonb
	LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF (SELECT typtype FROM pg_type t WHERE t.oid = pg_typeof($1)) <> 'c' THEN
		RAISE EXCEPTION 'type % is not composite', pg_typeof($1) USING
			ERRCODE = 'wrong_object_type', HINT = 'Give a row of a composite type or a table, llm.schema_of(NULL::invoice).';
	END IF;
	RETURN llm.schema_of_type(pg_typeof($1), false, NULL);
END
$$;
COMMENT ON FUNCTION llm.schema_of(anyelement) IS 'the schema of a composite type for llm_extract, its comments being the descriptions';

-- The labels of an answer, for a column that is a list.
CREATE FUNCTION llm.labels(answer jsonb) RETURNS text[]
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN jsonb_typeof(answer -> 'labels') = 'array'
		THEN ARRAY(SELECT l.label FROM jsonb_array_elements_text(answer -> 'labels') WITH ORDINALITY l(label, n) ORDER BY l.n)
		WHEN answer ->> 'label' IS NOT NULL THEN ARRAY[answer ->> 'label'] END
$$;
COMMENT ON FUNCTION llm.labels(jsonb) IS 'the labels that llm_classify gave, as an array: llm.labels(llm_classify(body, labels, multi => true))';

-- The planner hook puts these into statements with such calls.  They are open to PUBLIC, since
-- every role that may run the statement runs them; the first argument keeps SQL from calling them.
CREATE FUNCTION llm.issue(magic internal, spec bytea, VARIADIC args "any") RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_issue';
COMMENT ON FUNCTION llm.issue(internal, bytea, "any") IS 'a deferred call: the marker that stands in its place';

CREATE FUNCTION llm.keep(magic internal, spec bytea, old anyelement, new anyelement, VARIADIC key "any")
	RETURNS anyelement
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_keep';
COMMENT ON FUNCTION llm.keep(internal, bytea, anyelement, anyelement, "any")
	IS 'the value of a cell that gets a marker: the marker laid over what the cell held';

CREATE FUNCTION llm.bind(magic internal, spec bytea, VARIADIC row_values "any") RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_bind';
COMMENT ON FUNCTION llm.bind(internal, bytea, "any") IS 'queue the tasks whose markers a stored row holds; true';

CREATE FUNCTION llm.seen(magic internal, hider text, column_name text, visible boolean, cell anyelement) RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_seen';
COMMENT ON FUNCTION llm.seen(internal, text, text, boolean, anyelement)
	IS 'an error when a stored row with a pending cell is hidden by a view or by row security; true';

-- The same for cells that show nothing of a pending task.
CREATE FUNCTION llm.keep_quiet(magic internal, spec bytea, VARIADIC carrier_and_leaves "any") RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_keep_quiet';
COMMENT ON FUNCTION llm.keep_quiet(internal, bytea, "any")
	IS 'whether there is a question for the cell of a row, which then keeps its value until the answer is there';

CREATE FUNCTION llm.carried(magic internal, spec bytea) RETURNS jsonb
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_carried';
COMMENT ON FUNCTION llm.carried(internal, bytea) IS 'the value that keep_quiet was given where that was no question';

CREATE FUNCTION llm.bind_quiet(magic internal, spec bytea, VARIADIC row_values "any") RETURNS boolean
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'llm_enrich_bind_quiet';
COMMENT ON FUNCTION llm.bind_quiet(internal, bytea, "any") IS 'queue the task of a quiet cell of a stored row; true';
