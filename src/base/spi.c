/*-------------------------------------------------------------------------
 *
 * spi.c
 *	  Transactions of the workers and statements of ours.
 *
 * A worker's transaction is begin() ... commit(); in a user's backend our SQL
 * runs between own_begin() and own_end() as the owner of our tables, since
 * no other role may write them.  In both, search_path is pinned, for the time of
 * the bracket only.
 *
 * An ERROR needs no clean-up here: aborting a transaction or subtransaction
 * puts user, security context and settings back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/guard.h"
#include "base/spi.h"
#include "base/spi_plan.h"

#define PINNED_SEARCH_PATH "pg_catalog, pg_temp"

static void
pin_search_path(GucAction action)
{
	(void) set_config_option("search_path", PINNED_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 action, true, 0, false);
}

void
llm_spi_commit_to_disk(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
}

/*
 * Open a worker's transaction: SPI connected, a snapshot active, search_path pinned
 * until its end.  "activity" is shown in pg_stat_activity.  It is a read-write one at
 * READ COMMITTED whatever default_transaction_* say, since SKIP LOCKED and "what is
 * in force now" need a snapshot per statement.
 */
void
llm_spi_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pin_search_path(GUC_ACTION_LOCAL);
	llm_spi_commit_to_disk();
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
llm_spi_limit_lock_waits(int ms)
{
	char value[16];

	snprintf(value, sizeof(value), "%d", ms);
	(void) set_config_option("lock_timeout", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Commit what begin() opened, and no more: a caller that takes an error for a rollback must
 * not meet one that comes after the commit.
 */
void
llm_spi_commit_silently(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * After a commit.  Statistics are flushed at once and not once a second: a worker that
 * goes idle next would keep the rest from autovacuum.
 */
void
llm_spi_report_commit(void)
{
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
llm_spi_commit(void)
{
	llm_spi_commit_silently();
	llm_spi_report_commit();
}

/*
 * Become the owner of our tables until own_end().  Nothing that a user wrote may run
 * in between.  Raises 55000 where the extension is not installed.
 */
void
llm_spi_own_begin(LlmOwnScope *scope)
{
	(void) llm_spi_schema();
	GetUserIdAndSecContext(&scope->saved_user, &scope->saved_context);
	scope->guc_nest = NewGUCNestLevel();
	SetUserIdAndSecContext(llm_spi_owner(), scope->saved_context | SECURITY_LOCAL_USERID_CHANGE);
	pin_search_path(GUC_ACTION_SAVE);
}

void
llm_spi_own_end(LlmOwnScope *scope)
{
	AtEOXact_GUC(false, scope->guc_nest);
	SetUserIdAndSecContext(scope->saved_user, scope->saved_context);
}

/*
 * Prepare it and keep the plan.  Names and operators are looked up now, by a path that only a
 * superuser writes to; the plan remembers that path.
 */
static void
prepare(LlmStatement *statement)
{
	static const int options[] = {
		[LLM_BY_INDEX] = CURSOR_OPT_GENERIC_PLAN | LLM_PLAN_OURS,
		[LLM_WHOLE] = CURSOR_OPT_CUSTOM_PLAN | LLM_PLAN_WHOLE,
		[LLM_BY_STATISTICS] = 0};
	int nest = NewGUCNestLevel();
	SPIPlanPtr plan;

	pin_search_path(GUC_ACTION_SAVE);
	plan = SPI_prepare_cursor(statement->sql, statement->nargs, statement->args,
							  options[statement->planning]);
	AtEOXact_GUC(false, nest);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep the plan of \"%s\"", statement->sql);
	statement->plan = plan;
}

/* Run a statement of ours.  Its plan finds the new tables after DROP and CREATE EXTENSION. */
uint64
llm_spi_execute(LlmStatement *statement, Datum *values, const char *nulls, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	bool before;
	volatile int rc = 0;

	Assert(statement->nargs <= (int) lengthof(statement->args));
	if (statement->plan == NULL)
		prepare(statement);
	before = llm_guard_enter();
	PG_TRY();
	{
		if (statement->fresh && IsolationUsesXactSnapshot())
			rc = SPI_execute_snapshot(statement->plan, values, nulls, GetLatestSnapshot(), InvalidSnapshot,
									  read_only, true, 0);
		else
			rc = SPI_execute_plan(statement->plan, values, nulls, read_only, 0);
	}
	PG_FINALLY();
	{
		llm_guard_leave(before);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller); /* SPI leaves us in its own */
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql, SPI_result_code_string(rc));
	return SPI_processed;
}

/* Planned as the caller's own statement would be, and without our right to write. */
void
llm_spi_read(const char *sql, DestReceiver *dest)
{
	MemoryContext caller = CurrentMemoryContext;
	SPIExecuteOptions options = {.read_only = true, .dest = dest};
	int rc = SPI_execute_extended(sql, &options);

	MemoryContextSwitchTo(caller);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(rc));
}

int64
llm_spi_transaction(void)
{
	return (int64) U64FromFullTransactionId(GetTopFullTransactionId());
}

/*
 * One-dimensional array of n elements, palloc'ed in the current context; an empty
 * array for n = 0.  nulls may be NULL.
 */
Datum
llm_spi_array(Oid type, Datum *values, bool *nulls, int n)
{
	int16 typlen;
	bool typbyval;
	char typalign;
	int dims[1] = {n};
	int bounds[1] = {1};

	if (n == 0)
		return PointerGetDatum(construct_empty_array(type));
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds, type,
											  typlen, typbyval, typalign));
}
