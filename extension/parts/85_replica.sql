-- A subscriber takes nothing for these tables: the publisher's tasks are the publisher's,
-- and its numbers are not ours. The trigger fires for replicated rows only.
CREATE FUNCTION llm.ignore_replicated() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'llm_enrich_ignore_replicated';
COMMENT ON FUNCTION llm.ignore_replicated() IS 'drop what logical replication brings for a table of the extension';
REVOKE ALL ON FUNCTION llm.ignore_replicated() FROM PUBLIC;

-- Not on UPDATE and DELETE of the queue: a trigger before those locks each row once more,
-- enabled or not. None is applied, since no row of the publisher's is there: task numbers
-- begin at the time of CREATE EXTENSION, so that two databases have none in common.
DO $$
DECLARE
	name text;
	events text;
BEGIN
	FOR name IN SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'llm'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r'
	LOOP
		events := CASE name WHEN 'queue' THEN 'INSERT' ELSE 'INSERT OR UPDATE OR DELETE' END;
		EXECUTE pg_catalog.format('CREATE TRIGGER ignore_replicated BEFORE %s ON llm.%I'
			' FOR EACH ROW EXECUTE FUNCTION llm.ignore_replicated()', events, name);
		EXECUTE pg_catalog.format('ALTER TABLE llm.%I ENABLE REPLICA TRIGGER ignore_replicated', name);
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER ignore_replicated ON llm.%I IS %L', name,
			'drop what logical replication brings');
	END LOOP;
END
$$;
