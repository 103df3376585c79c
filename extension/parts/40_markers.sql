-- Where a cell stands.
CREATE FUNCTION llm_is_pending(cell jsonb) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_is_pending';
COMMENT ON FUNCTION llm_is_pending(jsonb) IS 'true while an answer for the cell is still to come';

CREATE FUNCTION llm_status(cell jsonb) RETURNS text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_status';
COMMENT ON FUNCTION llm_status(jsonb) IS 'pending, failed or done; NULL for NULL';

-- The write-back calls these with the rights of the role that asked, hence open to PUBLIC.
-- They read and change nothing.
CREATE FUNCTION llm.marker_task(cell anyelement) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_marker_task';
COMMENT ON FUNCTION llm.marker_task(anyelement) IS 'task that the marker in a cell names, NULL without a marker';

CREATE FUNCTION llm.resolve(cell anyelement, outcome text, task bigint, answer jsonb, error text, message text)
	RETURNS anyelement
	LANGUAGE C IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_resolve';
COMMENT ON FUNCTION llm.resolve(anyelement, text, bigint, jsonb, text, text)
	IS 'what a cell with a marker becomes: the answer, a failed marker over what was there, or what was there';

-- The same for cells that show nothing of a pending task.
CREATE FUNCTION llm.cell_stands(fence bytea, cell anyelement, row_xmin xid, VARIADIC reads "any") RETURNS boolean
	LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_enrich_cell_stands';
COMMENT ON FUNCTION llm.cell_stands(bytea, anyelement, xid, "any")
	IS 'whether a cell has the value that it had when it was asked about, and its row is the one that was';

CREATE FUNCTION llm.cell_value(cell anyelement, number int) RETURNS anyelement
	LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_cell_value';
COMMENT ON FUNCTION llm.cell_value(anyelement, int) IS 'the value that the write-back under way has for a cell';
