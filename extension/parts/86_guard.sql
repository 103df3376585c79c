-- Replicated changes that cannot be dropped are refused: of the queue's rows, for which a trigger
-- before the change would lock each row of ours once more, and of whole tables.
CREATE FUNCTION llm.refuse_replicated() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_refuse_replicated';
COMMENT ON FUNCTION llm.refuse_replicated() IS 'refuse what logical replication brings for a table of the extension';
REVOKE ALL ON FUNCTION llm.refuse_replicated() FROM PUBLIC;

CREATE TRIGGER refuse_replicated AFTER UPDATE OR DELETE ON llm.queue
	FOR EACH ROW EXECUTE FUNCTION llm.refuse_replicated();
ALTER TABLE llm.queue ENABLE REPLICA TRIGGER refuse_replicated;
COMMENT ON TRIGGER refuse_replicated ON llm.queue IS 'refuse what logical replication brings';

DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'llm'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r'
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON llm.%I'
			' FOR EACH STATEMENT EXECUTE FUNCTION llm.refuse_replicated()', name);
		EXECUTE pg_catalog.format('ALTER TABLE llm.%I ENABLE REPLICA TRIGGER refuse_truncate', name);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER refuse_truncate ON llm.%I IS %L', name,
			'refuse what logical replication brings');
	END LOOP;
END
$$;

-- What the planner puts in the place of setval() where a role may write any sequence.
CREATE FUNCTION llm.setval(sequence regclass, value bigint) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_setval';
COMMENT ON FUNCTION llm.setval(regclass, bigint) IS 'setval(), but not of a sequence of the extension';
CREATE FUNCTION llm.setval(sequence regclass, value bigint, is_called boolean) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_setval';
COMMENT ON FUNCTION llm.setval(regclass, bigint, boolean) IS 'setval(), but not of a sequence of the extension';
