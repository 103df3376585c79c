-- A restored dump has cells whose tasks stayed behind: the queue is not dumped.
-- Whether a task is on its way is asked as the owner, since row security shows a
-- role its own tasks only; and VOLATILE, for what is committed by now: an UPDATE that waited for
-- a row finds a marker there whose task its own snapshot does not show.
CREATE FUNCTION llm.is_queued(task bigint) RETURNS boolean
	LANGUAGE sql VOLATILE STRICT SECURITY DEFINER PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT EXISTS (SELECT FROM llm.queue q WHERE q.id OPERATOR(pg_catalog.=) $1) $$;
COMMENT ON FUNCTION llm.is_queued(bigint) IS 'true while a task is in the queue, whoever asked for it';

CREATE FUNCTION llm.reset_orphans(relation regclass, column_name name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	found_rows bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = column_name
			AND a.attnum > 0 AND NOT a.attisdropped) THEN
		RAISE EXCEPTION 'column "%" of relation "%" does not exist', column_name, relation
			USING ERRCODE = 'undefined_column';
	END IF;
	-- CASE, so that text which is no JSON is never cast; no function of ours that lives in a
	-- schema of the user's, which may be renamed
	EXECUTE format($sql$
		UPDATE %1$s t SET %2$I = llm.resolve(t.%2$I, 'cancelled', llm.marker_task(t.%2$I), NULL, NULL, NULL)
		WHERE CASE WHEN llm.marker_task(t.%2$I) IS NULL THEN false
			ELSE t.%2$I::text::jsonb #>> '{llm_enrich,status}' = 'pending' AND NOT llm.is_queued(llm.marker_task(t.%2$I)) END
		$sql$, relation, column_name);
	GET DIAGNOSTICS found_rows = ROW_COUNT;
	RETURN found_rows;
END
$$;
COMMENT ON FUNCTION llm.reset_orphans(regclass, name) IS
	'give pending cells of a column whose task is not in the queue (a restored dump) back what they held, and return how many';

CREATE FUNCTION llm.keep_answers() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_keep_answers';
COMMENT ON FUNCTION llm.keep_answers() IS
	'trigger BEFORE UPDATE FOR EACH ROW: a marker whose task has ended, saved by an ORM, does not replace an answer';
