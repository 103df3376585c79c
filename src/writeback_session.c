/*-------------------------------------------------------------------------
 *
 * writeback_session.c
 *	  The writer's transactions and its session, in which users' triggers run.
 *
 * What a trigger can leave behind (settings, temporary tables, cursors, prepared
 * statements, advisory locks) is gone before the next transaction; what it can
 * take is bounded by a timer that runs until the commit is over, and that a trigger
 * which catches the cancel does not escape.
 *
 * The role is the session's user as well: functions of others (SECURITY DEFINER)
 * and policies ask session_user whom they serve, and must not find the superuser
 * as whom this process runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "guc.h"
#include "writeback_session.h"

/* From start_timer() to stop_timer(); a signal handler reads it. */
static volatile sig_atomic_t timer_started = false;

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void
llm_writeback_pin_path(void)
{
	set_local("search_path", "pg_catalog, pg_temp");
}

/*
 * Settings of the transaction.  Whatever the database or its roles have set: key
 * values are read as they were written, a lock is waited for so long and no longer
 * (0: for ever), and a set of rows goes by the index of its key.
 */
static void
pin_settings(int lock_timeout_ms)
{
	char number[16];

	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	snprintf(number, sizeof(number), "%d", lock_timeout_ms);
	set_local("lock_timeout", number);
	set_local("datestyle", "ISO, YMD");
	set_local("intervalstyle", "postgres");
	set_local("extra_float_digits", "1");
	set_local("bytea_output", "hex");
	set_local("lc_monetary", "C");
	set_local("row_security", "on");
	set_local("enable_seqscan", "off");
	set_local("jit", "off");
}

/*
 * One setting that the asking session had, for policies and triggers that read it.  A
 * value that is not valid any more is left out: what reads it says what is wrong then.
 */
static void
carry_setting(const char *name, const char *value)
{
	if (pg_strcasecmp(name, "role") == 0 || pg_strcasecmp(name, "session_authorization") == 0)
		return;
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, DEBUG1, false);
}

void
llm_writeback_begin(const char *activity)
{
	MemoryContext context = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_RUNNING, activity);
	llm_writeback_pin_path();
	pin_settings(0); /* our own tables: a lock on those is worth waiting for, VACUUM FULL say */
}

void
llm_writeback_carry(Jsonb *settings)
{
	JsonbIterator *walk;
	JsonbIteratorToken token;
	JsonbValue value;
	char *name = NULL;

	if (settings != NULL && JB_ROOT_IS_OBJECT(settings))
	{
		walk = JsonbIteratorInit(&settings->root);
		while ((token = JsonbIteratorNext(&walk, &value, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				name = pnstrdup(value.val.string.val, value.val.string.len);
			else if (token == WJB_VALUE && value.type == jbvString && name != NULL)
				carry_setting(name, pnstrdup(value.val.string.val, value.val.string.len));
		}
	}
	/* these win; the path stays that of the asking session */
	pin_settings(llm_guc_writeback_lock_timeout_ms);
	set_local("llm_enrich.writeback", "on");
}

/* SPI's own context ends with the transaction: the caller's stays the current one. */
void
llm_writeback_connect(void)
{
	MemoryContext context = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
}

void
llm_writeback_commit(void)
{
	MemoryContext context = CurrentMemoryContext;

	SPI_finish();
	PopActiveSnapshot();
	/* A cursor WITH HOLD that a trigger left would run to its end in the commit. */
	PortalHashTableDeleteAll();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Has the timer run out since it was started? */
bool
llm_writeback_time_is_over(void)
{
	return timer_started && !get_timeout_active(STATEMENT_TIMEOUT);
}

/*
 * PL/pgSQL can catch the cancel that the timer sends, which ends its subtransaction:
 * then the cancel comes again at once, until nobody is left who could catch it.
 */
static void
renew_cancel(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB || !llm_writeback_time_is_over())
		return;
	QueryCancelPending = true;
	InterruptPending = true;
}

/* Bound what users' code may take, from here to the end of the commit. */
void
llm_writeback_start_timer(void)
{
	enable_timeout_after(STATEMENT_TIMEOUT, llm_guc_writeback_timeout_ms);
	timer_started = true;
}

void
llm_writeback_stop_timer(void)
{
	timer_started = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

/* Order matters: the session's user can be changed only while the current one is not restricted. */
void
llm_writeback_enter_role(Oid role)
{
	SetSessionAuthorization(role, superuser_arg(role));
	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE);
}

void
llm_writeback_leave_role(void)
{
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
}

/*
 * SIGINT, from pg_cancel_backend() or from our own timers.  What users' code does can be
 * cancelled, and is put off; anything else would only end this process.
 */
static void
cancel_users_code(SIGNAL_ARGS)
{
	if (timer_started)
		StatementCancelHandler(postgres_signal_arg);
}

void
llm_writeback_session_init(void)
{
	RegisterSubXactCallback(renew_cancel, NULL);
	pqsignal(SIGINT, cancel_users_code);
}

/*
 * Make the session as new: settings, temporary tables, prepared statements, cursors,
 * advisory locks, LISTEN and cached sequence values that a trigger may have left.
 */
void
llm_writeback_reset_session(void)
{
	MemoryContext context = CurrentMemoryContext;

	StartTransactionCommand();
	PortalHashTableDeleteAll();
	ResetAllOptions();
	DropAllPreparedStatements();
	Async_UnlistenAll();
	LockReleaseAll(USER_LOCKMETHOD, true);
	/* catalogs are written to, which takes a snapshot */
	PushActiveSnapshot(GetTransactionSnapshot());
	ResetTempTableNamespace();
	PopActiveSnapshot();
	ResetSequenceCaches();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}
