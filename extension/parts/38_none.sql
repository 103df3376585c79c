-- A quiet cell that was answered with NULL looks as it did before: what was asked is remembered,
-- so that a statement for all cells that are NULL does not pay for the same answer each night.
CREATE TABLE llm.none_answer (
	task bigint PRIMARY KEY,
	at timestamptz NOT NULL,
	cell bigint NOT NULL,
	question bytea NOT NULL,
	role oid NOT NULL,
	job bigint NOT NULL,
	relation oid NOT NULL,
	column_name text NOT NULL
);
CREATE INDEX none_answer_cell ON llm.none_answer (cell);
COMMENT ON TABLE llm.none_answer IS 'quiet cells whose answer was NULL, which are not asked the same again';
COMMENT ON COLUMN llm.none_answer.task IS 'number of the task';
COMMENT ON COLUMN llm.none_answer.at IS 'when it was answered';
COMMENT ON COLUMN llm.none_answer.cell IS 'number of the cell';
COMMENT ON COLUMN llm.none_answer.question IS 'SHA-256 of what was asked, by whom and for which row';
COMMENT ON COLUMN llm.none_answer.role IS 'role that asked';
COMMENT ON COLUMN llm.none_answer.job IS 'llm.job.id, which may be gone';
COMMENT ON COLUMN llm.none_answer.relation IS 'table that held the row';
COMMENT ON COLUMN llm.none_answer.column_name IS 'column that the answer was for';
ALTER TABLE llm.none_answer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.none_answer FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.none_answer FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.none_answer TO PUBLIC;
