-- Of the extension's own statements, which run as the owner of its tables.
CREATE FUNCTION llm.lock_task(place tid)
RETURNS boolean LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_lock_task';
COMMENT ON FUNCTION llm.lock_task(tid) IS
	'lock the task whose row the statement sees at that place, and return whether it is as seen and free';
REVOKE ALL ON FUNCTION llm.lock_task(tid) FROM PUBLIC;

CREATE FUNCTION llm.cancel(job bigint DEFAULT NULL, task bigint DEFAULT NULL, relation regclass DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_cancel';
COMMENT ON FUNCTION llm.cancel(bigint, bigint, regclass) IS
	'cancel the caller''s tasks of a job, of a table, or one task, and return how many; their cells get back what they held';

CREATE FUNCTION llm.retry(job bigint DEFAULT NULL, task bigint DEFAULT NULL, relation regclass DEFAULT NULL)
RETURNS bigint LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_retry';
COMMENT ON FUNCTION llm.retry(bigint, bigint, regclass) IS
	'queue the caller''s dead letters of a job, of a table, or one task again, as a new job, and return how many; paid answers are used';

CREATE FUNCTION llm.last_job()
RETURNS bigint LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'llm_enrich_last_job';
COMMENT ON FUNCTION llm.last_job() IS 'number of the job that this session queued last, NULL when none';

CREATE FUNCTION llm.check(model text DEFAULT NULL)
RETURNS text LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_check';
COMMENT ON FUNCTION llm.check(text) IS
	'make one real call to a model (NULL: the default) and say what it cost or what is wrong';

CREATE PROCEDURE llm.wait(job bigint DEFAULT NULL, timeout interval DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_wait';
COMMENT ON PROCEDURE llm.wait(bigint, interval) IS
	'return when a job (NULL: the session''s last) is finished; an error when that takes longer than the timeout';

-- Retention: nobody else deletes rows of the extension's tables.
CREATE PROCEDURE llm.prune(before timestamptz)
LANGUAGE C AS 'MODULE_PATHNAME', 'llm_enrich_prune';
COMMENT ON PROCEDURE llm.prune(timestamptz) IS
	'delete, in steps, what is older: rows of the ledger, dead letters, finished jobs, and recipes that nothing refers to';

CREATE FUNCTION llm.resume(job bigint)
RETURNS void LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'llm_enrich_resume';
COMMENT ON FUNCTION llm.resume(bigint) IS
	'let a job go on that was paused because more than half of its tasks failed';
