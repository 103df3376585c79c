/*-------------------------------------------------------------------------
 *
 * control.c
 *	  What users do to tasks that are queued: cancel, retry, resume, wait.
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
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/wake.h"
#include "bind/control.h"
#include "tables/transition.h"

/* Of tasks "q" in a job "j": they are among those that are waited for. */
#define AWAITED "($4 = 0 OR q.id >= $4 AND q.id <= $5) AND ($6 = 0 OR q.relation = $6)"
#define NONE_IS(state) "NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND " state " AND " AWAITED ")"

/*
 * Few tasks are looked up by their ids.  Otherwise each NOT EXISTS reads a partial index, so that
 * a long queue costs nothing here.
 */
/* clang-format off */
static LlmStatement stand_statement = {
	.sql = "SELECT CASE WHEN j.state = 'finished' THEN true"
		   "  WHEN $4 > 0 AND $6 = 0 AND $5 - $4 < 100000"
		   "   THEN NOT EXISTS (SELECT FROM llm.queue q WHERE q.id >= $4 AND q.id <= $5 AND q.job = j.id)"
		   "  WHEN j.total IS NULL OR $4 > 0 OR $6 <> 0"
		   "   THEN " NONE_IS("q.state = 'ready'")
		   "    AND " NONE_IS("q.state = 'claimed'")
		   "    AND " NONE_IS("q.state = 'waiting'")
		   "    AND " NONE_IS("q.state IN ('answered', 'failed', 'cancelled', 'superseded')")
		   "  ELSE false END,"
		   " j.done + j.failed + j.superseded + j.cancelled + j.row_gone,"
		   " COALESCE(j.total, -1), j.reason, j.state = 'paused', j.role = $2"
		   " FROM llm.job j WHERE j.id = $1 AND ($3 OR j.role = $2)",
	.nargs = 6,
	.args = {INT8OID, OIDOID, BOOLOID, INT8OID, INT8OID, OIDOID}};
/* clang-format on */

/*
 * Jobs with tasks of job $1, task $2, relation $3, column $6 (NULL: any), of role $4 unless $5.
 * Others may add to a job that is shared, so of that what there is now.  Is it the statement's
 * relation, or its rows'?
 */
static LlmStatement await_statement = {
	.sql = "SELECT j.id, CASE WHEN j.day IS NULL THEN 0 ELSE COALESCE((SELECT pg_catalog.max(q.id)"
		   "  FROM llm.queue q WHERE q.job = j.id), 0) END, COALESCE(j.relation = $3, true)"
		   " FROM llm.job j WHERE j.state <> 'finished' AND ($1 IS NULL OR j.id = $1) AND ($5 OR j.role = $4)"
		   " AND ($6 IS NULL OR " LLM_JOB_COLUMN " = $6)"
		   " AND ($2 IS NULL OR EXISTS (SELECT FROM llm.queue q WHERE q.id = $2 AND q.job = j.id))"
		   " AND ($3 IS NULL OR j.relation = $3"
		   "  OR EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND q.relation = $3))"
		   " ORDER BY j.id",
	.nargs = 6,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID}};

/* Has the job tasks of others than those in the ranges? */
static LlmStatement others_statement = {
	.sql = "SELECT FROM llm.queue q WHERE q.job = $1 AND q.outcome IS NULL AND NOT EXISTS ("
		   " SELECT FROM unnest($2, $3) AS r(first, last) WHERE q.id >= r.first AND q.id <= r.last) LIMIT 1",
	.nargs = 3,
	.args = {INT8OID, INT8ARRAYOID, INT8ARRAYOID}};

/* Of jobs, and tasks in them from $2 to $3 (0: all), whether something is not final. */
static LlmStatement open_statement = {
	.sql = "SELECT COALESCE((SELECT CASE WHEN j.state = 'finished' THEN false WHEN e.first = 0 THEN true"
		   "  ELSE EXISTS (SELECT FROM llm.queue q WHERE q.id >= e.first AND q.id <= e.last AND q.job = e.job) END"
		   "  FROM llm.job j WHERE j.id = e.job), false)"
		   " FROM unnest($1, $2, $3) WITH ORDINALITY AS e(job, first, last, place) ORDER BY e.place",
	.nargs = 3,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};

/* Of a job "j": its model is $7 at server $8 (NULL: any).  Without an alias it asks the default one. */
#define AT_TARGET                                                                                      \
	"($7 IS NULL AND $8 IS NULL OR EXISTS (SELECT FROM llm.model m WHERE ($7 IS NULL OR m.alias = $7)" \
	"  AND ($8 IS NULL OR m.server = $8) AND CASE WHEN j.model IS NULL THEN m.is_default ELSE m.alias = j.model END))"

/*
 * As for await_statement, of those at a target.  The breaker starts to count from here.  This locks the jobs' rows
 * until the caller commits: their own write-backs wait for that, nobody else's.
 */
static LlmStatement resume_statement = {
	.sql = "UPDATE llm.job j SET state = 'open', reason = NULL, resumed_failed = j.failed,"
		   "  resumed_final = j.done + j.failed + j.superseded"
		   "   + j.cancelled + j.row_gone"
		   " WHERE j.state = 'paused' AND ($1 IS NULL OR j.id = $1) AND ($5 OR j.role = $4)"
		   " AND (j.shape_put_off IS NULL OR pg_has_role($4, j.role, " LLM_CAN_ACT_AS "))"
		   " AND ($6 IS NULL OR " LLM_JOB_COLUMN " = $6)"
		   " AND ($2 IS NULL OR EXISTS (SELECT FROM llm.queue q WHERE q.id = $2 AND q.job = j.id))"
		   " AND ($3 IS NULL OR j.relation = $3"
		   "  OR EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND q.relation = $3)) AND " AT_TARGET,
	.nargs = 8,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID}};

/* As for resume_statement. */
static LlmStatement pause_statement = {
	.sql = "UPDATE llm.job j SET state = 'paused', reason = $9"
		   " WHERE j.state = 'open' AND ($1 IS NULL OR j.id = $1) AND ($5 OR j.role = $4)"
		   " AND ($6 IS NULL OR " LLM_JOB_COLUMN " = $6)"
		   " AND ($2 IS NULL OR EXISTS (SELECT FROM llm.queue q WHERE q.id = $2 AND q.job = j.id))"
		   " AND ($3 IS NULL OR j.relation = $3"
		   "  OR EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND q.relation = $3)) AND " AT_TARGET,
	.nargs = 9,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static LlmStatement alter_statement = {
	.sql = "UPDATE llm.job j SET priority = COALESCE($4, j.priority), model = COALESCE($6, j.model),"
		   "  max_concurrency = CASE WHEN $5 IS NULL THEN j.max_concurrency ELSE NULLIF($5, 0) END,"
		   /* what another model costs is not what was estimated */
		   "  estimated_cost = CASE WHEN $6 IS NULL OR $6 = j.model THEN j.estimated_cost END"
		   " WHERE j.id = $1 AND ($3 OR j.role = $2) AND j.state <> 'finished'",
	.nargs = 6,
	.args = {INT8OID, OIDOID, BOOLOID, INT4OID, INT4OID, TEXTOID}};

/* As for pause_statement: jobs that may not write, since what the table runs has changed. */
static LlmStatement withheld_statement = {
	.sql = "SELECT j.relation_name, " LLM_JOB_COLUMN ","
		   "  pg_catalog.quote_literal(j.relation::pg_catalog.regclass::pg_catalog.text),"
		   "  pg_catalog.quote_literal(" LLM_JOB_COLUMN ") FROM llm.job j"
		   " WHERE j.state = 'paused' AND j.shape_put_off IS NOT NULL AND j.cell_kind <> 'quiet'"
		   " AND ($1 IS NULL OR j.id = $1) AND ($5 OR j.role = $4)"
		   " AND ($6 IS NULL OR " LLM_JOB_COLUMN " = $6)"
		   " AND ($2 IS NULL OR EXISTS (SELECT FROM llm.queue q WHERE q.id = $2 AND q.job = j.id))"
		   " AND ($3 IS NULL OR j.relation = $3"
		   "  OR EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND q.relation = $3)) ORDER BY j.id LIMIT 10",
	.nargs = 6,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID}};

/* May the role act for everybody's tasks? */
static bool
is_admin(Oid role)
{
	Oid admin = get_role_oid("llm_admin", true);

	return superuser_arg(role) || (OidIsValid(admin) && has_privs_of_role(role, admin));
}

void
llm_control_selection_values(const LlmSelection *selection, Datum *values, char *nulls)
{
	Oid role = GetUserId();

	values[0] = Int64GetDatum(selection->job);
	values[1] = Int64GetDatum(selection->task);
	values[2] = ObjectIdGetDatum(selection->relation);
	values[3] = ObjectIdGetDatum(role);
	values[4] = BoolGetDatum(is_admin(role));
	values[5] = selection->column_name == NULL ? (Datum) 0 : CStringGetTextDatum(selection->column_name);
	nulls[0] = selection->job == 0 ? 'n' : ' ';
	nulls[1] = selection->task == 0 ? 'n' : ' ';
	nulls[2] = OidIsValid(selection->relation) ? ' ' : 'n';
	nulls[3] = nulls[4] = ' ';
	nulls[5] = selection->column_name == NULL ? 'n' : ' ';
}

static int64
get_int64(uint64 row, int column)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static bool
get_bool(uint64 row, int column)
{
	bool isnull;

	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static void
wake_workers(void)
{
	llm_wake_at_commit(LLM_WORKER_SENDER);
	llm_wake_at_commit(LLM_WORKER_WRITER);
}

/* Entries of session.h as arrays for a statement. */
static void
range_values(const LlmAwaited *ranges, int n, Datum *first, Datum *last)
{
	Datum *firsts = palloc(sizeof(Datum) * Max(n, 1));
	Datum *lasts = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		firsts[i] = Int64GetDatum(ranges[i].first);
		lasts[i] = Int64GetDatum(ranges[i].last);
	}
	*first = llm_spi_array(INT8OID, firsts, NULL, n);
	*last = llm_spi_array(INT8OID, lasts, NULL, n);
}

/* A job is named, and nothing else, that others have tasks in, too: this session's are meant. */
static bool
means_own_tasks(const LlmSelection *selection)
{
	return selection->job != 0 && selection->task == 0 && !OidIsValid(selection->relation) &&
		   selection->column_name == NULL && llm_session_shares(selection->job);
}

static void
tell_of_others(int64 job, Datum first, Datum last)
{
	Datum values[3];

	values[0] = Int64GetDatum(job);
	values[1] = first;
	values[2] = last;
	if (llm_spi_execute(&others_statement, values, NULL, false) > 0)
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT " has tasks of other sessions, which are not cancelled", job),
				 errhint("Name the table, or a task, to cancel those, too.")));
	SPI_freetuptable(SPI_tuptable);
}

/* Cells that do not get back what they held. */
static void
tell_of_withheld(Datum *values, const char *nulls)
{
	uint64 n = llm_spi_execute(&withheld_statement, values, nulls, false);

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		ereport(NOTICE,
				(errmsg("cells in column \"%s\" of %s stay pending", SPI_getvalue(row, desc, 2), SPI_getvalue(row, desc, 1)),
				 errdetail("Owner, triggers, rules, policies, constraints or the like have changed since it was asked, and nothing is written there before somebody has looked at them."),
				 errhint("Then SELECT llm.reset_orphans(%s, %s); it gives the cells back what they held.",
						 SPI_getvalue(row, desc, 3), SPI_getvalue(row, desc, 4))));
	}
	SPI_freetuptable(SPI_tuptable);
}

int64
llm_control_cancel(const LlmSelection *selection)
{
	Datum values[8] = {0};
	char nulls[8];
	LlmOwnScope scope;
	int64 count;
	bool own = means_own_tasks(selection);

	llm_control_selection_values(selection, values, nulls);
	nulls[6] = nulls[7] = 'n';
	llm_spi_own_begin(&scope);
	SPI_connect();
	if (own)
	{
		int n;
		LlmAwaited *ranges = llm_session_of_job(selection->job, &n);

		range_values(ranges, n, &values[6], &values[7]);
		nulls[6] = nulls[7] = ' ';
	}
	(void) llm_transition(LLM_EVENT_CANCEL, values, nulls);
	count = get_int64(0, 1);
	SPI_freetuptable(SPI_tuptable);
	if (own)
		tell_of_others(selection->job, values[6], values[7]);
	if (count > 0)
		tell_of_withheld(values, nulls);
	SPI_finish();
	llm_spi_own_end(&scope);
	if (count > 0)
		wake_workers();
	return count;
}

int64
llm_control_count(LlmStatement *statement, Datum *values, const char *nulls)
{
	LlmOwnScope scope;
	int64 count;

	llm_spi_own_begin(&scope);
	SPI_connect();
	count = llm_spi_execute(statement, values, nulls, false);
	SPI_finish();
	llm_spi_own_end(&scope);
	return count;
}

/* The sender reads again what it has in mind: the message that llm.pause has changed tells it. */
static void
tell_sender(void)
{
	CacheInvalidateRelcacheByRelid(llm_spi_relation("pause"));
	llm_wake_at_commit(LLM_WORKER_SENDER);
}

/* Arguments of pause and resume that are like those of any selection, and the target: eight. */
static void
target_values(const LlmSelection *selection, Datum *values, char *nulls)
{
	llm_control_selection_values(selection, values, nulls);
	values[6] = selection->model == NULL ? (Datum) 0 : CStringGetTextDatum(selection->model);
	nulls[6] = selection->model == NULL ? 'n' : ' ';
	values[7] = selection->server == NULL ? (Datum) 0 : CStringGetTextDatum(selection->server);
	nulls[7] = selection->server == NULL ? 'n' : ' ';
}

int64
llm_control_pause(const LlmSelection *selection)
{
	Datum values[9];
	char nulls[9];
	int64 paused;

	target_values(selection, values, nulls);
	values[8] = CStringGetTextDatum(psprintf("paused by \"%s\"", GetUserNameFromId(GetUserId(), false)));
	nulls[8] = ' ';
	paused = llm_control_count(&pause_statement, values, nulls);
	if (paused > 0)
	{
		tell_sender();
		llm_wake_at_commit(LLM_WORKER_WRITER); /* it announces that */
	}
	return paused;
}

int64
llm_control_resume(const LlmSelection *selection)
{
	Datum values[8];
	char nulls[8];
	int64 resumed;

	target_values(selection, values, nulls);
	resumed = llm_control_count(&resume_statement, values, nulls);
	if (resumed > 0)
	{
		tell_sender();
		llm_wake_at_commit(LLM_WORKER_WRITER); /* it may have been put off */
	}
	return resumed;
}

bool
llm_control_alter_job(int64 job, const LlmJobChange *change)
{
	Datum values[6];
	char nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = Int64GetDatum(job);
	values[1] = ObjectIdGetDatum(GetUserId());
	values[2] = BoolGetDatum(llm_control_is_admin());
	values[3] = Int32GetDatum(change->priority == NULL ? 0 : *change->priority);
	nulls[3] = change->priority == NULL ? 'n' : ' ';
	values[4] = Int32GetDatum(change->max_concurrency == NULL ? 0 : *change->max_concurrency);
	nulls[4] = change->max_concurrency == NULL ? 'n' : ' ';
	values[5] = change->model == NULL ? (Datum) 0 : CStringGetTextDatum(change->model);
	nulls[5] = change->model == NULL ? 'n' : ' ';
	if (llm_control_count(&alter_statement, values, nulls) == 0)
		return false;
	tell_sender();
	return true;
}

bool
llm_control_is_admin(void)
{
	return is_admin(GetUserId());
}

/* A look at our tables in a snapshot of its own; end_look() ends the transaction, if "chain" was given. */
static void
begin_look(bool chain, LlmOwnScope *scope)
{
	SPI_connect_ext(chain ? SPI_OPT_NONATOMIC : 0);
	PushActiveSnapshot(GetTransactionSnapshot());
	llm_spi_own_begin(scope);
}

static void
end_look(bool chain, LlmOwnScope *scope)
{
	SPI_freetuptable(SPI_tuptable);
	llm_spi_own_end(scope);
	PopActiveSnapshot();
	if (chain)
		SPI_commit();
	SPI_finish();
}

void
llm_control_stand(const LlmAwaited *awaited, bool own, bool chain, LlmJobStand *stand)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[6];
	LlmOwnScope scope;
	bool admin = is_admin(GetUserId());
	bool isnull;
	Datum reason;

	memset(stand, 0, sizeof(LlmJobStand));
	values[0] = Int64GetDatum(awaited->job);
	values[1] = ObjectIdGetDatum(GetUserId());
	values[2] = BoolGetDatum(own || admin);
	values[3] = Int64GetDatum(awaited->first);
	values[4] = Int64GetDatum(awaited->last);
	values[5] = ObjectIdGetDatum(awaited->relation);
	begin_look(chain, &scope);
	if (llm_spi_execute(&stand_statement, values, NULL, false) > 0)
	{
		stand->found = true;
		stand->finished = get_bool(0, 1);
		stand->final = get_int64(0, 2);
		stand->total = get_int64(0, 3);
		stand->paused = get_bool(0, 5);
		reason = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull);
		/* a provider's words may quote the row */
		if (!get_bool(0, 6) && !admin && !llm_session_shares(awaited->job))
			stand->total = -1;
		else if (!isnull)
			stand->reason = MemoryContextStrdup(caller, TextDatumGetCString(reason));
	}
	end_look(chain, &scope);
}

/* Raise when the job that is given is none that the caller may see. */
static void
check_job(int64 job, bool chain)
{
	LlmAwaited awaited = {.job = job};
	LlmJobStand stand;

	llm_control_stand(&awaited, llm_session_shares(job), chain, &stand);
	if (!stand.found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no job " INT64_FORMAT, job),
				 errhint("See llm.progress.")));
}

LlmAwaited *
llm_control_await(const LlmSelection *selection, bool chain, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	LlmAwaited *found;
	Datum values[6];
	char nulls[6];
	LlmOwnScope scope;

	if (selection->job != 0)
		check_job(selection->job, chain);
	if (means_own_tasks(selection))
		return llm_session_of_job(selection->job, n);
	begin_look(chain, &scope);
	llm_control_selection_values(selection, values, nulls);
	*n = (int) llm_spi_execute(&await_statement, values, nulls, false);
	found = MemoryContextAllocZero(caller, sizeof(LlmAwaited) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		int64 newest = get_int64(i, 2);

		found[i].job = get_int64(i, 1);
		found[i].first = selection->task != 0 ? selection->task : (newest != 0 ? 1 : 0);
		found[i].last = selection->task != 0 ? selection->task : newest;
		found[i].relation = get_bool(i, 3) ? InvalidOid : selection->relation;
	}
	end_look(chain, &scope);
	return found;
}

void
llm_control_tidy_session(void)
{
	int n;
	const LlmAwaited *noted = llm_session_all(&n);
	Datum *jobs = palloc(sizeof(Datum) * Max(n, 1));
	bool *keep = palloc(sizeof(bool) * Max(n, 1));
	Datum values[3];

	for (int i = 0; i < n; i++)
		jobs[i] = Int64GetDatum(noted[i].job);
	values[0] = llm_spi_array(INT8OID, jobs, NULL, n);
	range_values(noted, n, &values[1], &values[2]);
	(void) llm_spi_execute(&open_statement, values, NULL, false);
	for (int i = 0; i < n; i++)
		keep[i] = get_bool(i, 1);
	SPI_freetuptable(SPI_tuptable);
	llm_session_keep(keep);
}
