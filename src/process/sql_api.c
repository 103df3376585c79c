/*-------------------------------------------------------------------------
 *
 * sql_api.c
 *	  SQL-callable functions over jobs and tasks: arguments, then one call down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "ask/ask.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "bind/control.h"
#include "bind/enqueue.h"
#include "catalog/catalog_target.h"

PG_FUNCTION_INFO_V1(llm_enrich_cancel);
PG_FUNCTION_INFO_V1(llm_enrich_check);
PG_FUNCTION_INFO_V1(llm_enrich_clock);
PG_FUNCTION_INFO_V1(llm_enrich_last_job);
PG_FUNCTION_INFO_V1(llm_enrich_resume);
PG_FUNCTION_INFO_V1(llm_enrich_retry);
PG_FUNCTION_INFO_V1(llm_enrich_wait);

/* The writer announces each commit; look again by ourselves as often, should one be missed. */
#define WAIT_RECHECK_MS 1000

/* Where all places are taken, one that becomes free within that time is the check's. */
#define CHECK_PATIENCE_MS 200

/*
 * What a check asks: a classification into one label, the smallest call that needs everything
 * a real one needs, structured output included.
 */
#define CHECK_INPUT "Everything is ok."
#define CHECK_SPEC "{\"labels\": [\"ok\"]}"

/* SQL: llm.clock() -> clock_timestamp(), or where a test has set it; works without preload */
Datum
llm_enrich_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(llm_clock_now());
}

/* Arguments (job, task, relation) of cancel() and retry(): at least one is given. */
static LlmSelection
read_selection(FunctionCallInfo fcinfo, const char *function)
{
	LlmSelection selection = {0};

	llm_shmem_require_preload();
	if (PG_ARGISNULL(0) && PG_ARGISNULL(1) && PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s needs a job, a task or a relation", function),
				 errhint("For instance: SELECT %s(job => llm.last_job());", function)));
	selection.job = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	selection.task = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	selection.relation = PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2);
	return selection;
}

/* SQL: llm.cancel(job, task, relation) -> number of tasks that will not be asked (again) */
Datum
llm_enrich_cancel(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.cancel");

	PG_RETURN_INT64(llm_control_cancel(&selection));
}

/* SQL: llm.retry(job, task, relation) -> number of dead letters queued again */
Datum
llm_enrich_retry(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.retry");

	PG_RETURN_INT64(llm_control_retry(&selection));
}

/* SQL: llm.resume(job) -> nothing; an error when the job is not paused */
Datum
llm_enrich_resume(PG_FUNCTION_ARGS)
{
	int64 job = PG_GETARG_INT64(0);

	llm_shmem_require_preload();
	if (!llm_control_resume(job))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is not a paused job of yours", job),
				 errhint("See llm.progress for jobs that are paused.")));
	PG_RETURN_VOID();
}

/* SQL: llm.last_job() -> the job that this session queued last, or NULL */
Datum
llm_enrich_last_job(PG_FUNCTION_ARGS)
{
	int64 job = llm_enqueue_last_job();

	llm_shmem_require_preload();
	if (job == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(job);
}

/* SQL: llm.check(model) -> what one real call to the model brought */
Datum
llm_enrich_check(PG_FUNCTION_ARGS)
{
	char *model = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	LlmLetterQuestion question = {0};
	LlmLetterReply reply;
	LlmPosted *posted;
	StringInfoData bytes;
	char *answer;

	llm_shmem_require_preload();
	if (model == NULL && llm_guc_model != NULL && llm_guc_model[0] != '\0')
		model = llm_guc_model;
	llm_catalog_check_call(model, GetUserId());
	if (!llm_guc_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sending is turned off"),
				 errhint("Set \"llm_enrich.enabled\" to on and reload the configuration.")));
	question.role = GetUserId();
	question.patience_ms = CHECK_PATIENCE_MS;
	question.model = model;
	question.operation = LLM_LETTER_TRIAL;
	question.spec = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(CHECK_SPEC)));
	question.application = "llm.check";
	question.input = CHECK_INPUT;
	question.input_len = strlen(CHECK_INPUT);
	llm_letter_write_question(&question, &bytes);
	posted = llm_ask_wait(&bytes, CHECK_PATIENCE_MS, &reply);
	answer = llm_ask_trial_text(&reply);
	llm_mailbox_drop(posted);
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/*
 * Waiting makes sense only for what is committed, and only where a new snapshot
 * can show it.
 */
static void
check_can_wait(bool atomic)
{
	if (!atomic)
		return;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("llm.wait() cannot run in a transaction that has written"),
				 errdetail("Nothing is sent before the transaction commits."),
				 errhint("COMMIT first, then CALL llm.wait().")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("llm.wait() cannot run in a transaction of isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Its snapshot never shows the job finished."),
				 errhint("CALL llm.wait() outside of a transaction block.")));
}

static void
raise_wait_timeout(int64 job, const LlmJobStand *stand, Interval *timeout)
{
	char *shown = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(timeout)));

	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("job " INT64_FORMAT " is not finished after %s", job, shown),
			 stand->total >= 0 ? errdetail(INT64_FORMAT " of " INT64_FORMAT " tasks are final%s%s.",
										   stand->final, stand->total,
										   stand->reason != NULL ? "; the others wait: " : "",
										   stand->reason != NULL ? stand->reason : "")
							   : 0,
			 errhint("See llm.progress and llm.health.")));
}

/* One look at the job; ERROR when there is none.  No snapshot is held afterwards unless "atomic". */
static bool
is_finished(int64 job, bool atomic, LlmJobStand *stand)
{
	llm_control_job_stand(job, !atomic, stand);
	if (!stand->found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job " INT64_FORMAT " does not exist", job),
				 errhint("See llm.job.")));
	if (stand->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s", job, stand->reason != NULL ? stand->reason : "paused")));
	return stand->finished;
}

/* SQL: CALL llm.wait(job, timeout): return when the job is finished */
Datum
llm_enrich_wait(PG_FUNCTION_ARGS)
{
	bool atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
					!castNode(CallContext, fcinfo->context)->atomic);
	int64 job = PG_ARGISNULL(0) ? llm_enqueue_last_job() : PG_GETARG_INT64(0);
	Interval *timeout = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	TimestampTz deadline = DT_NOEND;
	LlmJobStand stand;

	llm_shmem_require_preload();
	if (job == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no job to wait for"),
				 errdetail("This session has queued nothing yet."),
				 errhint("Give the number of a job, see llm.progress.")));
	check_can_wait(atomic);
	if (timeout != NULL)
		deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														   TimestampTzGetDatum(llm_clock_steady()),
														   IntervalPGetDatum(timeout)));
	while (!is_finished(job, atomic, &stand))
	{
		long left = TimestampDifferenceMilliseconds(llm_clock_steady(), deadline);

		if (left <= 0)
			raise_wait_timeout(job, &stand, timeout);
		llm_shmem_wait_progress(Min(left, WAIT_RECHECK_MS));
	}
	PG_RETURN_VOID();
}
