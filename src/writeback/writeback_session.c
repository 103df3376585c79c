/*-------------------------------------------------------------------------
 *
 * writeback_session.c
 *	  The writer's transactions and its session, in which users' triggers run.
 *
 * What a trigger can leave behind (settings, temporary tables, cursors, prepared
 * statements, advisory locks) is gone before the next transaction; what it can
 * take is bounded by a timer that runs until the commit is over, and that a trigger
 * which catches the cancel does not escape.  The same cancel calls a slow row off when
 * others' answers come: a second timer looks for them, since the latch is not ours to
 * watch while a trigger sleeps.
 *
 * The role is the session's user as well: functions of others (SECURITY DEFINER)
 * and policies ask session_user whom they serve, and must not find the superuser
 * as whom this process runs.
 *
 * Whatever ends this process ends everybody's write-back, and again each time that the
 * row's turn comes: so no trigger may turn its error into the end of the session.
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
#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/jsonb.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "writeback/writeback_session.h"

/* Between two looks whether others' answers came: ms. */
#define WATCH_MS 10

/* From start_timer() to stop_timer(); signal handlers read the first, and write the second. */
static volatile sig_atomic_t timer_started = false;
static volatile sig_atomic_t called_off = false;

static uint32 asked = 0; /* how often the writer had been asked when the watch was set */
static int64 started_us = 0; /* when the timer was, and what it was set to */
static int started_ms = 0;
static TimeoutId watch; /* for the life of the process */
static bool unclean = false; /* temporary objects are left; written by drop_temporary_objects() */

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
	set_local("jit", "off");
	llm_spi_commit_to_disk();
}

/*
 * One setting that the asking session had, for policies and triggers that read it.  It is
 * set with the role's rights: a session can give any value to a setting whose library is
 * not loaded, also to one that only a superuser may set.  A value that the role may not
 * set, or that is not valid any more, is left out: what reads it says what is wrong then.
 */
static void
carry_setting(const char *name, const char *value)
{
	if (pg_strcasecmp(name, "role") == 0 || pg_strcasecmp(name, "session_authorization") == 0)
		return;
	(void) set_config_option(name, value, superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, DEBUG1, false);
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

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
}

void
llm_writeback_commit(void)
{
	MemoryContext context = CurrentMemoryContext;

	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Deferred triggers that were deferred once more run now, and then cursors go, of which
 * one WITH HOLD would run to its end in the commit, and temporary objects.  To drop these
 * may take a lock on a table that depends on them: here the wait for it is bounded, and
 * what fails is undone.
 */
void
llm_writeback_end_users_code(void)
{
	MemoryContext context = CurrentMemoryContext;
	int nest = NewGUCNestLevel();

	AfterTriggerFireDeferred();
	AtEOXact_GUC(false, nest);
	PortalHashTableDeleteAll();
	ResetTempTableNamespace();
	MemoryContextSwitchTo(context);
}

bool
llm_writeback_time_is_over(void)
{
	return timer_started && !get_timeout_active(STATEMENT_TIMEOUT);
}

bool
llm_writeback_was_called_off(void)
{
	return timer_started && called_off;
}

bool
llm_writeback_half_time_is_over(void)
{
	return llm_clock_monotonic_us() - started_us > (int64) started_ms * 500;
}

/*
 * PL/pgSQL can catch the cancel that the timer sends, which ends its subtransaction:
 * then the cancel comes again at once, until no block is left that could catch it.
 */
static void
renew_cancel(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB || !(llm_writeback_time_is_over() || llm_writeback_was_called_off()))
		return;
	QueryCancelPending = true;
	InterruptPending = true;
}

/* In a signal handler: plain loads of shared memory, and what a cancel does. */
static void
look_for_others(void)
{
	if (!timer_started || llm_shmem_asked() == asked)
		return;
	called_off = true;
	llm_cancel_statement(SIGALRM);
}

void
llm_writeback_start_timer(int sure_ms, int most_ms, uint32 asked_before)
{
	asked = asked_before;
	called_off = false;
	started_us = llm_clock_monotonic_us();
	started_ms = most_ms;
	timer_started = true;
	enable_timeout_after(STATEMENT_TIMEOUT, most_ms);
	if (sure_ms < most_ms)
		enable_timeout_every(watch, TimestampTzPlusMilliseconds(llm_clock_of_timers(), Max(sure_ms, WATCH_MS)),
							 WATCH_MS);
}

void
llm_writeback_stop_timer(void)
{
	timer_started = false;
	disable_timeout(watch, false);
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
 * cancelled, and is put off; so can a wait for a lock that took too long.  Anything else
 * would only end this process.
 */
static void
cancel_users_code(SIGNAL_ARGS)
{
	if (timer_started || get_timeout_indicator(LOCK_TIMEOUT, false))
		llm_cancel_statement(postgres_signal_arg);
}

/*
 * Settings by which anybody could end this process: an error that ends the session, a
 * transaction that takes too long (17 and later; ours have a timer).  worker.c has set
 * them as they must be; in this process only a superuser may change them (ADR 27).
 */
static void
disarm_settings(void)
{
	int n;
	struct config_generic **settings = llm_settings(&n);

	for (int i = 0; i < n; i++)
	{
		if (strcmp(settings[i]->name, "exit_on_error") == 0 || strcmp(settings[i]->name, "transaction_timeout") == 0)
			settings[i]->context = PGC_SUSET;
	}
}

void
llm_writeback_session_init(void)
{
	disarm_settings();
	RegisterSubXactCallback(renew_cancel, NULL);
	watch = RegisterTimeout(USER_TIMEOUT, look_for_others);
	pqsignal(SIGINT, cancel_users_code);
}

/*
 * Temporary objects are gone by now.  Should there be any all the same, and somebody hold
 * a table that depends on them, the wait is bounded here, too, and nobody's code runs
 * beside them until it is over.  To end this process would not help: it would wait for the
 * same lock on its way out, where no time-out is heard.
 */
static void
drop_temporary_objects(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		StartTransactionCommand();
		pin_settings(llm_guc_writeback_lock_timeout_ms);
		/* catalogs are written to, which takes a snapshot */
		PushActiveSnapshot(GetTransactionSnapshot());
		ResetTempTableNamespace();
		PopActiveSnapshot();
		CommitTransactionCommand();
		unclean = false;
	}
	PG_CATCH();
	{
		unclean = true;
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

/* Before users' code runs: raises a lock error when something of somebody else's is left. */
void
llm_writeback_require_clean(void)
{
	if (unclean)
		drop_temporary_objects();
	if (unclean)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("temporary objects of another write-back could not be dropped yet")));
}

/*
 * Make the session as new: settings, prepared statements, cursors, advisory locks, LISTEN,
 * cached sequence values and dice that a trigger may have left, and temporary objects.
 */
void
llm_writeback_reset_session(void)
{
	MemoryContext context = CurrentMemoryContext;
	Oid temporary;
	Oid toast;

	StartTransactionCommand();
	PortalHashTableDeleteAll();
	ResetAllOptions();
	DropAllPreparedStatements();
	Async_UnlistenAll();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetSequenceCaches();
	/* dice that a trigger has set would show the next one, another role's, what falls */
	(void) DirectFunctionCall1(setseed, Float8GetDatum(2.0 * pg_prng_double(&pg_global_prng_state) - 1.0));
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	GetTempNamespaceState(&temporary, &toast);
	if (OidIsValid(temporary))
		drop_temporary_objects();
}
