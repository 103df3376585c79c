-- Of the extension's own statements, which run as the owner of its tables.
CREATE FUNCTION llm.lock_task(place tid)
RETURNS boolean LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_lock_task';
COMMENT ON FUNCTION llm.lock_task(tid) IS
	'lock the task whose row the statement sees at that place, and return whether it is as seen and free';
REVOKE ALL ON FUNCTION llm.lock_task(tid) FROM PUBLIC;

-- All of them say which tasks by the same arguments, and all that is given must hold.
CREATE FUNCTION llm.cancel(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_cancel';
COMMENT ON FUNCTION llm.cancel(regclass, name, bigint, bigint) IS
	'cancel the caller''s tasks of a table, a column, a job, or one task, and return how many; their cells get back what they held';

CREATE FUNCTION llm.retry(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, reason text[] DEFAULT NULL, model text DEFAULT NULL, instructions text DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_retry';
COMMENT ON FUNCTION llm.retry(regclass, name, bigint, bigint, text[], text, text) IS
	'queue the caller''s dead letters again, as a new job, and return how many; paid answers are used, cells that moved on are left';

CREATE FUNCTION llm.last_job()
RETURNS bigint LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'llm_enrich_last_job';
COMMENT ON FUNCTION llm.last_job() IS 'number of the job that this session queued last, NULL when none';

CREATE FUNCTION llm.check(model text DEFAULT NULL)
RETURNS text LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_check';
COMMENT ON FUNCTION llm.check(text) IS
	'make one real call to a model (NULL: the default) and say what it cost or what is wrong';

CREATE PROCEDURE llm.wait(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, timeout interval DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_wait';
COMMENT ON PROCEDURE llm.wait(regclass, name, bigint, bigint, interval) IS
	'return when these tasks, or all that the session has queued since it last waited, are final; an error when that takes longer than the timeout';

-- Retention: nobody else deletes rows of the extension's tables.
CREATE PROCEDURE llm.prune(before timestamptz)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_prune';
COMMENT ON PROCEDURE llm.prune(timestamptz) IS
	'delete, in steps, what is older: rows of the ledger, dead letters, finished jobs, kept answers, and recipes that nothing refers to';

CREATE FUNCTION llm.discard(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, reason text[] DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_discard';
COMMENT ON FUNCTION llm.discard(regclass, name, bigint, bigint, text[]) IS
	'drop the caller''s dead letters and return how many; their cells get back what they held; reason none: answers that were NULL';

CREATE FUNCTION llm.pause(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, server text DEFAULT NULL, model text DEFAULT NULL, everything boolean DEFAULT false)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_pause';
COMMENT ON FUNCTION llm.pause(regclass, name, bigint, bigint, text, text, boolean) IS
	'send nothing more of jobs, to a server or a model, or at all, until llm.resume(); how many are paused by this';

CREATE FUNCTION llm.resume(relation regclass DEFAULT NULL, column_name name DEFAULT NULL, job bigint DEFAULT NULL,
	task bigint DEFAULT NULL, server text DEFAULT NULL, model text DEFAULT NULL, everything boolean DEFAULT false)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_resume';
COMMENT ON FUNCTION llm.resume(regclass, name, bigint, bigint, text, text, boolean) IS
	'let go on what is paused, and return how many jobs, servers or models';

CREATE FUNCTION llm.alter_job(job bigint, priority int DEFAULT NULL, max_concurrency int DEFAULT NULL,
	model text DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_alter_job';
COMMENT ON FUNCTION llm.alter_job(bigint, int, int, text) IS
	'change a job''s priority, how many of its requests may be in flight (0: any number), or its model; NULL: as it is';
