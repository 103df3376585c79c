-- Checked answers, for the same question of the same role.  Written and deleted by the sender, in
-- the order of the numbers, which is that of the times.  Found by a key that is not unique: two
-- may ask the same at once (ADR 9).
CREATE TABLE llm.answer (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL,
	key bytea NOT NULL,
	role oid NOT NULL,
	operation text NOT NULL,
	recipe bigint NOT NULL,
	server text NOT NULL,
	model text NOT NULL,
	task bigint NOT NULL,
	bytes_so_far bigint NOT NULL,
	answer jsonb NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX answer_key ON llm.answer (key);
COMMENT ON TABLE llm.answer IS 'checked answers, given again to the same question for a while; see llm_enrich.keep_answers';
COMMENT ON COLUMN llm.answer.id IS 'number of the row';
COMMENT ON COLUMN llm.answer.at IS 'when the answer came';
COMMENT ON COLUMN llm.answer.key IS 'SHA-256 of role, server, and the request as it would be sent, with its input';
COMMENT ON COLUMN llm.answer.role IS 'role that asked, and the only one that is given it';
COMMENT ON COLUMN llm.answer.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.answer.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.answer.server IS 'foreign server';
COMMENT ON COLUMN llm.answer.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.answer.task IS 'task, or call, that paid, as on the ledger';
COMMENT ON COLUMN llm.answer.bytes_so_far IS 'bytes of all answers that were ever kept, up to this one';
COMMENT ON COLUMN llm.answer.answer IS 'the checked answer';
COMMENT ON SEQUENCE llm.answer_id_seq IS 'numbers of kept answers';

ALTER TABLE llm.answer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.answer FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.answer FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.answer TO PUBLIC;
