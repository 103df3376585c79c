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
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "ask/ask.h"
#include "ask/ask_frame.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "bind/control.h"
#include "bind/session.h"
#include "catalog/catalog_target.h"
#include "operation/operation.h"

PG_FUNCTION_INFO_V1(llm_enrich_alter_job);
PG_FUNCTION_INFO_V1(llm_enrich_cancel);
PG_FUNCTION_INFO_V1(llm_enrich_check);
PG_FUNCTION_INFO_V1(llm_enrich_clock);
PG_FUNCTION_INFO_V1(llm_enrich_discard);
PG_FUNCTION_INFO_V1(llm_enrich_last_job);
PG_FUNCTION_INFO_V1(llm_enrich_pause);
PG_FUNCTION_INFO_V1(llm_enrich_resume);
PG_FUNCTION_INFO_V1(llm_enrich_retry);
PG_FUNCTION_INFO_V1(llm_enrich_wait);

/* The writer announces each commit; look again by ourselves as often, should one be missed. */
#define WAIT_RECHECK_MS 1000

/* A sign of life is given after so long, and then again. */
#define WAIT_TELL_FIRST_MS 5000
#define WAIT_TELL_MS 30000

#define MORE_TO_PAUSE ", a server, a model, or everything => true"

/* Where all places are taken, one that becomes free within that time is the check's. */
#define CHECK_PATIENCE_MS 200

/*
 * What a check asks: a classification into one label, the smallest call that needs everything
 * a real one needs, structured output included; and of a model that gives vectors one.
 */
#define CHECK_INPUT "Everything is ok."
#define CHECK_SPEC "{\"labels\": [\"ok\"]}"
#define CHECK_VECTOR_SPEC "{}"

/* SQL: llm.clock() -> clock_timestamp(), or where a test has set it; works without preload */
Datum
llm_enrich_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(llm_clock_now());
}

/* A number that is given is one of a job or a task; 0 never means all. */
static int64
read_number(FunctionCallInfo fcinfo, int argument, const char *what)
{
	int64 number;

	if (PG_ARGISNULL(argument))
		return 0;
	number = PG_GETARG_INT64(argument);
	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no %s " INT64_FORMAT, what, number),
				 errhint("Leave it out to mean any.")));
	return number;
}

static void
check_relation(Oid relation, const char *column_name, const char *function)
{
	char *name = get_rel_name(relation);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no relation %u", relation),
				 errhint("If it is the number of a job, say so: %s(job => %u).", function, relation)));
	if (column_name != NULL && get_attnum(relation, column_name) == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", column_name, name)));
}

/* Arguments (relation, column_name, job, task) that all of these functions begin with. */
static LlmSelection
read_selection(FunctionCallInfo fcinfo, const char *function)
{
	LlmSelection selection = {0};

	llm_shmem_require_preload();
	if (!PG_ARGISNULL(1))
		selection.column_name = NameStr(*PG_GETARG_NAME(1));
	if (!PG_ARGISNULL(0))
	{
		selection.relation = PG_GETARG_OID(0);
		check_relation(selection.relation, selection.column_name, function);
	}
	selection.job = read_number(fcinfo, 2, "job");
	selection.task = read_number(fcinfo, 3, "task");
	return selection;
}

static bool
is_all_null(FunctionCallInfo fcinfo, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!PG_ARGISNULL(i))
			return false;
	}
	return true;
}

/* What writes our tables says so itself; otherwise the error would be one of the SELECT that our statement is. */
static void
require_writable(const char *function)
{
	PreventCommandIfReadOnly(psprintf("%s()", function));
}

/* One of the first n arguments is given, and our tables can be written, or it raises; "more": what there is besides the first four. */
static void
require_any(FunctionCallInfo fcinfo, int n, const char *function, const char *more)
{
	require_writable(function);
	if (is_all_null(fcinfo, n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s() needs a table, a column, a job or a task%s", function, more),
				 errhint("For instance: SELECT %s('tickets'), or SELECT %s(job => llm.last_job()).", function, function)));
}

/* SQL: llm.cancel(relation, column_name, job, task) -> number of tasks that will not be asked (again) */
Datum
llm_enrich_cancel(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.cancel");
	int64 count;

	require_any(fcinfo, 4, "llm.cancel", "");
	count = llm_control_cancel(&selection);
	if (count == 0)
		llm_control_tell_nothing(&selection);
	PG_RETURN_INT64(count);
}

/* SQL: llm.retry(relation, column_name, job, task, reason, model, instructions) -> how many were queued again */
Datum
llm_enrich_retry(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.retry");
	LlmRetryChange change = {0};
	int64 count;

	require_any(fcinfo, 5, "llm.retry", ", or a reason");
	selection.reasons = PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4);
	change.model = LLM_GETARG_CSTRING(5);
	if (change.model != NULL)
		llm_catalog_check_call(change.model, GetUserId());
	change.instructions = PG_ARGISNULL(6) ? NULL : PG_GETARG_TEXT_PP(6);
	count = llm_control_retry(&selection, &change);
	if (count == 0)
		llm_control_tell_nothing(&selection);
	PG_RETURN_INT64(count);
}

/* Is the reason that is none of a dead letter among those that are given? */
static bool
names_none(Datum reasons)
{
	Datum *names;
	bool *nulls;
	bool found = false;
	int n;

	if (reasons == (Datum) 0)
		return false;
	deconstruct_array(DatumGetArrayTypeP(reasons), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	for (int i = 0; i < n; i++)
		found = found || (!nulls[i] && strcmp(TextDatumGetCString(names[i]), "none") == 0);
	return found;
}

/* SQL: llm.discard(relation, column_name, job, task, reason) -> number of dead letters, and of NULLs, dropped */
Datum
llm_enrich_discard(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.discard");
	LlmRetryChange change = {.discard = true};
	int64 count = 0;

	require_any(fcinfo, 5, "llm.discard", ", or a reason");
	selection.reasons = PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4);
	if (names_none(selection.reasons))
		count = llm_control_forget_none(&selection);
	count += llm_control_retry(&selection, &change);
	if (count == 0 && !names_none(selection.reasons))
		llm_control_tell_nothing(&selection);
	PG_RETURN_INT64(count);
}

/* A server, or an error that says what to look at. */
static ForeignServer *
find_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("Servers are in pg_foreign_server; \\des lists them.")));
	return server;
}

/* The roles that may pause a server or one of its models: llm_admin, and the server's owner. */
static void
check_may_pause(const char *server, const char *model)
{
	ForeignServer *found;

	if (model != NULL)
		llm_catalog_check_call(model, GetUserId());
	if (llm_control_is_admin())
	{
		if (server != NULL)
			(void) find_server(server);
		return;
	}
	if (server == NULL)
		server = llm_catalog_target(model, GetUserId())->server;
	found = server == NULL ? NULL : find_server(server);
	if (found == NULL || !llm_owns_server(found->serverid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of llm_admin or the owner of the server"),
				 errhint("Your own work can be paused: by its table, by a job, or with everything => true.")));
}

/* What a pause is of, as (server, model, everything) say it, after checks. */
static LlmPauseOf
read_pause(FunctionCallInfo fcinfo, const char *function)
{
	LlmPauseOf of = {0};

	llm_shmem_require_preload();
	require_writable(function);
	of.server = LLM_GETARG_CSTRING(4);
	of.model = LLM_GETARG_CSTRING(5);
	if (of.server == NULL && of.model == NULL)
		of.role = llm_control_is_admin() ? InvalidOid : GetUserId();
	else
		check_may_pause(of.server, of.model);
	return of;
}

/* Is a server, a model or everything meant, for later jobs, too?  Not everything and something besides. */
static bool
is_of_target(FunctionCallInfo fcinfo, const char *function)
{
	bool everything = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);

	if (everything && !is_all_null(fcinfo, 6))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s() takes everything => true alone", function),
				 errhint("Leave it out: all that is given must hold.")));
	return is_all_null(fcinfo, 4) && (everything || !PG_ARGISNULL(4) || !PG_ARGISNULL(5));
}

/* Jobs, as (relation, column_name, job, task) and where they go say it. */
static LlmSelection
read_jobs(FunctionCallInfo fcinfo, const char *function)
{
	LlmSelection selection = read_selection(fcinfo, function);

	require_any(fcinfo, 4, function, MORE_TO_PAUSE);
	selection.server = LLM_GETARG_CSTRING(4);
	selection.model = LLM_GETARG_CSTRING(5);
	if (selection.server != NULL)
		(void) find_server(selection.server);
	return selection;
}

/* SQL: llm.pause(relation, column_name, job, task, server, model, everything) -> how many jobs or targets it paused */
Datum
llm_enrich_pause(PG_FUNCTION_ARGS)
{
	LlmSelection selection;
	int64 paused;

	if (is_of_target(fcinfo, "llm.pause"))
	{
		LlmPauseOf of = read_pause(fcinfo, "llm.pause");

		PG_RETURN_INT64(llm_control_pause_target(&of));
	}
	selection = read_jobs(fcinfo, "llm.pause");
	paused = llm_control_pause(&selection);
	if (paused == 0)
		llm_control_tell_nothing(&selection);
	PG_RETURN_INT64(paused);
}

/* SQL: llm.resume(as llm.pause) -> how many go on; an error when a job is named that is not paused */
Datum
llm_enrich_resume(PG_FUNCTION_ARGS)
{
	LlmSelection selection;
	int64 resumed;

	if (is_of_target(fcinfo, "llm.resume"))
	{
		LlmPauseOf of = read_pause(fcinfo, "llm.resume");

		PG_RETURN_INT64(llm_control_resume_target(&of));
	}
	selection = read_jobs(fcinfo, "llm.resume");
	resumed = llm_control_resume(&selection);
	if (resumed == 0 && selection.job != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is not a paused job of yours", selection.job),
				 errhint("See llm.progress for jobs that are paused.")));
	PG_RETURN_INT64(resumed);
}

/* SQL: llm.alter_job(job, priority, max_concurrency, model) -> nothing */
Datum
llm_enrich_alter_job(PG_FUNCTION_ARGS)
{
	LlmJobChange change = {0};
	int priority = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	int concurrency = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
	int64 job = read_number(fcinfo, 0, "job");

	llm_shmem_require_preload();
	require_writable("llm.alter_job");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("llm.alter_job() needs the number of a job"),
				 errhint("For instance: SELECT llm.alter_job(llm.last_job(), priority => 10).")));
	change.priority = PG_ARGISNULL(1) ? NULL : &priority;
	change.max_concurrency = PG_ARGISNULL(2) ? NULL : &concurrency;
	change.model = LLM_GETARG_CSTRING(3);
	if (priority < LLM_LEAST_PRIORITY || priority > LLM_MOST_PRIORITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("priority must be from %d to %d", LLM_LEAST_PRIORITY, LLM_MOST_PRIORITY),
				 errhint("Jobs of higher priority go first: SELECT llm.alter_job(" INT64_FORMAT ", priority => 10).", job)));
	if (concurrency < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_concurrency must not be negative"),
				 errhint("0 takes the job's bound away.")));
	if (change.model != NULL)
		llm_catalog_check_call(change.model, GetUserId());
	if (!llm_control_alter_job(job, &change))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job " INT64_FORMAT " is not an open job of yours", job),
				 errhint("See llm.progress.")));
	PG_RETURN_VOID();
}

/* SQL: llm.last_job() -> the job that this session queued last, or NULL */
Datum
llm_enrich_last_job(PG_FUNCTION_ARGS)
{
	int64 job = llm_session_last_job();

	llm_shmem_require_preload();
	if (job == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(job);
}

static LlmPosted *
try_model(const char *model, bool vector, LlmLetterReply *reply)
{
	LlmLetterQuestion question = {.role = GetUserId(), .patience_ms = CHECK_PATIENCE_MS};
	const char *spec = vector ? CHECK_VECTOR_SPEC : CHECK_SPEC;
	StringInfoData bytes;

	question.model = model;
	question.operation = LLM_LETTER_TRIAL;
	question.trial = vector ? "embed" : "classify";
	question.spec = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(spec)));
	question.application = "llm.check";
	question.input = CHECK_INPUT;
	question.input_len = strlen(CHECK_INPUT);
	llm_letter_set_command(&question);
	llm_letter_write_question(&question, &bytes);
	return llm_ask_wait(&bytes, CHECK_PATIENCE_MS, NULL, reply);
}

static bool
is_reason(const LlmLetterReply *reply, LlmErrorClass class)
{
	return reply->reason != NULL && strcmp(reply->reason, llm_error_name(class)) == 0;
}

/* SQL: llm.check(model) -> what one real call to the model brought */
Datum
llm_enrich_check(PG_FUNCTION_ARGS)
{
	const char *model = llm_guc_model_or(LLM_GETARG_CSTRING(0));
	LlmLetterReply reply;
	LlmPosted *posted;
	bool vector;
	char *answer;

	llm_shmem_require_preload();
	llm_ask_frame_require_primary("llm.check");
	vector = llm_catalog_call_gives_vectors(model, GetUserId());
	if (!llm_guc_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sending is turned off"),
				 errhint("Set \"llm_enrich.enabled\" to on and reload the configuration.")));
	posted = try_model(model, vector, &reply);
	if (is_reason(&reply, LLM_ERR_WRONG_KIND))
	{
		/* its kind was not known, or not this one */
		llm_mailbox_drop(posted);
		posted = try_model(model, !vector, &reply);
	}
	answer = llm_ask_trial_text(&reply);
	if (is_reason(&reply, LLM_ERR_UNKNOWN_MODEL))
		answer = psprintf("%s%s", answer, llm_catalog_known_models(reply.server));
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

/* What llm.wait() waits for, and since when. */
typedef struct Waiting
{
	bool atomic; /* in a transaction block */
	bool own; /* all that the session has queued */
	LlmAwaited *list; /* otherwise these */
	int n;
	int done; /* of them */
	TimestampTz deadline; /* DT_NOEND: none */
	TimestampTz tell_at; /* the next sign of life */
	LlmJobStand stand; /* of the one that is waited for */
} Waiting;

/* What there is to wait for next; NULL: nothing more. */
static const LlmAwaited *
next_awaited(const Waiting *waiting)
{
	if (waiting->own)
		return llm_session_first();
	return waiting->done < waiting->n ? &waiting->list[waiting->done] : NULL;
}

static void
drop_awaited(Waiting *waiting)
{
	if (waiting->own)
		llm_session_drop_first();
	else
		waiting->done++;
}

/* How far it has come, in words; NULL where nothing is known. */
static char *
describe_stand(const Waiting *waiting, const LlmAwaited *awaited)
{
	const LlmJobStand *stand = &waiting->stand;

	if (awaited->first != 0 || stand->total < 0)
		return stand->reason == NULL ? NULL : psprintf("It waits: %s.", stand->reason);
	return psprintf(INT64_FORMAT " of " INT64_FORMAT " tasks are final%s%s.", stand->final, stand->total,
					stand->reason != NULL ? "; the others wait: " : "", stand->reason != NULL ? stand->reason : "");
}

static void
raise_wait_timeout(const Waiting *waiting, const LlmAwaited *awaited, Interval *timeout)
{
	char *shown = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(timeout)));
	char *detail = describe_stand(waiting, awaited);

	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("%sjob " INT64_FORMAT " %s not finished after %s", awaited->first != 0 ? "tasks of " : "",
					awaited->job, awaited->first != 0 ? "are" : "is", shown),
			 detail != NULL ? errdetail_internal("%s", detail) : 0,
			 /* a provider's words may quote the row, which is not for the log */
			 detail != NULL ? errdetail_log("What it waits for is told to the client alone.") : 0,
			 errhint("See llm.progress and llm.health.")));
}

/* A sign of life, after a while and then from time to time. */
static void
tell_stand(Waiting *waiting, const LlmAwaited *awaited, TimestampTz now)
{
	char *detail;

	if (now < waiting->tell_at)
		return;
	detail = describe_stand(waiting, awaited);
	waiting->tell_at = TimestampTzPlusMilliseconds(now, WAIT_TELL_MS);
	ereport(NOTICE,
			(errmsg("waiting for %sjob " INT64_FORMAT, awaited->first != 0 ? "tasks of " : "", awaited->job),
			 detail != NULL ? errdetail_internal("%s", detail) : 0));
}

/* One look; is it final?  No snapshot is held afterwards unless in a transaction block. */
static bool
is_over(Waiting *waiting, const LlmAwaited *awaited)
{
	LlmJobStand *stand = &waiting->stand;

	llm_control_stand(awaited, true, !waiting->atomic, stand);
	if (stand->found && !stand->finished && stand->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s", awaited->job, stand->reason != NULL ? stand->reason : "paused"),
				 errhint("SELECT llm.resume(job => " INT64_FORMAT ");", awaited->job)));
	return !stand->found || stand->finished;
}

static void
wait_for_all(Waiting *waiting, Interval *timeout)
{
	const LlmAwaited *awaited;

	while ((awaited = next_awaited(waiting)) != NULL)
	{
		TimestampTz now;
		long left;

		if (is_over(waiting, awaited))
		{
			drop_awaited(waiting);
			continue;
		}
		now = llm_clock_steady();
		left = TimestampDifferenceMilliseconds(now, waiting->deadline);
		if (left <= 0)
			raise_wait_timeout(waiting, awaited, timeout);
		tell_stand(waiting, awaited, now);
		llm_shmem_wait_progress(Min(left, WAIT_RECHECK_MS));
	}
}

/* SQL: CALL llm.wait(relation, column_name, job, task, timeout): return when these tasks are final */
Datum
llm_enrich_wait(PG_FUNCTION_ARGS)
{
	LlmSelection selection = read_selection(fcinfo, "llm.wait");
	Interval *timeout = PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4);
	Waiting waiting = {.own = is_all_null(fcinfo, 4), .deadline = DT_NOEND};

	waiting.atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
					   !castNode(CallContext, fcinfo->context)->atomic);
	check_can_wait(waiting.atomic);
	if (timeout != NULL)
		waiting.deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																   TimestampTzGetDatum(llm_clock_steady()),
																   IntervalPGetDatum(timeout)));
	waiting.tell_at = TimestampTzPlusMilliseconds(llm_clock_steady(), WAIT_TELL_FIRST_MS);
	if (!waiting.own)
		waiting.list = llm_control_await(&selection, !waiting.atomic, &waiting.n);
	else if (llm_session_first() == NULL)
		ereport(NOTICE,
				(errmsg("there is nothing to wait for"),
				 errdetail("This session has queued nothing since it last waited."),
				 errhint("To wait for what other sessions queued, name the table or the job.")));
	wait_for_all(&waiting, timeout);
	PG_RETURN_VOID();
}
