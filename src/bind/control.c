/*-------------------------------------------------------------------------
 *
 * control.c
 *	  What users do to tasks that are queued: cancel, retry, wait.
 *
 * No worker must ever wait for a user's transaction.  So cancel() locks tasks
 * that are not under way only (queue_lock.c), passes over what somebody else has
 * locked, and leaves word in llm.cancellation for the rest; and retry() opens a job of its
 * own instead of touching the counts of the old one, which are the writer's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/spi.h"
#include "base/wake.h"
#include "bind/control.h"
#include "bind/enqueue.h"
#include "tables/transition.h"

/* Each NOT EXISTS reads a partial index, so that a long queue costs nothing here. */
static LlmStatement stand_statement = {
	.sql = "SELECT j.state = 'finished' OR (j.total IS NULL"
		   "  AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "   AND q.state = 'ready')"
		   "  AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "   AND q.state = 'claimed')"
		   "  AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "   AND q.state = 'waiting')"
		   "  AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "   AND q.state IN ('answered', 'failed', 'cancelled', 'superseded'))),"
		   " j.done + j.failed + j.superseded"
		   "  + j.cancelled + j.row_gone,"
		   " COALESCE(j.total, -1), j.reason, j.state = 'paused'"
		   " FROM llm.job j WHERE j.id = $1"
		   " AND ($3 OR j.role = $2)",
	.nargs = 3,
	.args = {INT8OID, OIDOID, BOOLOID}};

/*
 * The breaker starts to count from here.  This locks the job's row until the caller
 * commits: the job's own write-backs wait for that, nobody else's.
 */
static LlmStatement resume_statement = {
	.sql = "UPDATE llm.job j SET state = 'open', reason = NULL, resumed_failed = j.failed,"
		   "  resumed_final = j.done + j.failed + j.superseded"
		   "   + j.cancelled + j.row_gone"
		   " WHERE j.id = $1 AND ($3 OR j.role = $2)"
		   " AND j.state = 'paused'"
		   " AND (j.shape_put_off IS NULL OR pg_has_role($2, j.role, 'MEMBER'))",
	.nargs = 3,
	.args = {INT8OID, OIDOID, BOOLOID}};

/* May the role act for everybody's tasks? */
static bool
is_admin(Oid role)
{
	Oid admin = get_role_oid("llm_admin", true);

	return superuser_arg(role) || (OidIsValid(admin) && has_privs_of_role(role, admin));
}

/* What the event's statement gives in the first column of its row, and in the second. */
static int64
run_selection(LlmTaskEvent event, const LlmSelection *selection, int64 *second)
{
	Oid role = GetUserId();
	Datum values[5];
	char nulls[5] = {' ', ' ', ' ', ' ', ' '};
	LlmOwnScope scope;
	bool isnull;
	int64 count;

	values[0] = Int64GetDatum(selection->job);
	values[1] = Int64GetDatum(selection->task);
	values[2] = ObjectIdGetDatum(selection->relation);
	values[3] = ObjectIdGetDatum(role);
	values[4] = BoolGetDatum(is_admin(role));
	nulls[0] = selection->job == 0 ? 'n' : ' ';
	nulls[1] = selection->task == 0 ? 'n' : ' ';
	nulls[2] = OidIsValid(selection->relation) ? ' ' : 'n';

	llm_spi_own_begin(&scope);
	SPI_connect();
	(void) llm_transition(event, values, nulls);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (second != NULL)
		*second = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_finish();
	llm_spi_own_end(&scope);
	if (count > 0)
	{
		llm_wake_at_commit(LLM_WORKER_SENDER);
		llm_wake_at_commit(LLM_WORKER_WRITER);
	}
	return count;
}

int64
llm_control_cancel(const LlmSelection *selection)
{
	return run_selection(LLM_EVENT_CANCEL, selection, NULL);
}

int64
llm_control_retry(const LlmSelection *selection)
{
	int64 job = 0;
	int64 count = run_selection(LLM_EVENT_RETRY, selection, &job);

	if (count > 0)
		llm_enqueue_note_last_job(job);
	return count;
}

bool
llm_control_resume(int64 job)
{
	Oid role = GetUserId();
	Datum values[3];
	LlmOwnScope scope;
	bool resumed;

	values[0] = Int64GetDatum(job);
	values[1] = ObjectIdGetDatum(role);
	values[2] = BoolGetDatum(is_admin(role));
	llm_spi_own_begin(&scope);
	SPI_connect();
	resumed = llm_spi_execute(&resume_statement, values, NULL, false) > 0;
	SPI_finish();
	llm_spi_own_end(&scope);
	if (resumed)
	{
		llm_wake_at_commit(LLM_WORKER_SENDER);
		llm_wake_at_commit(LLM_WORKER_WRITER); /* it may have been put off */
	}
	return resumed;
}

void
llm_control_job_stand(int64 job, bool chain, LlmJobStand *stand)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid role = GetUserId();
	Datum values[3];
	LlmOwnScope scope;
	bool isnull;
	Datum reason;

	memset(stand, 0, sizeof(LlmJobStand));
	values[0] = Int64GetDatum(job);
	values[1] = ObjectIdGetDatum(role);
	values[2] = BoolGetDatum(is_admin(role));
	SPI_connect_ext(chain ? SPI_OPT_NONATOMIC : 0);
	PushActiveSnapshot(GetTransactionSnapshot());
	llm_spi_own_begin(&scope);
	if (llm_spi_execute(&stand_statement, values, NULL, false) > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;

		stand->found = true;
		stand->finished = DatumGetBool(SPI_getbinval(row, desc, 1, &isnull));
		stand->final = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
		stand->total = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		stand->paused = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
		reason = SPI_getbinval(row, desc, 4, &isnull);
		if (!isnull)
			stand->reason = MemoryContextStrdup(caller, TextDatumGetCString(reason));
	}
	SPI_freetuptable(SPI_tuptable);
	llm_spi_own_end(&scope);
	PopActiveSnapshot();
	if (chain)
		SPI_commit();
	SPI_finish();
}
