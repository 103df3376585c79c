/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  What senders and writers share: how they start, reload and end.
 *
 * A worker belongs to one database and runs as the bootstrap superuser, so what
 * ALTER DATABASE and ALTER ROLE set for ordinary sessions must not reach it: a
 * database's owner could stop it with a timeout, or lead its SQL astray.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/fence.h"
#include "base/guc.h"
#include "base/spi.h"
#include "base/worker.h"

/* Subject of what llm.health says when library and SQL differ. */
#define VERSION_SUBJECT "extension " LLM_LIBRARY

/* Subject of what llm.health says while the predecessor of a worker lives. */
static const char *const worker_subjects[LLM_WORKER_KINDS] = {"sender", "writer"};

/* Set for good by a process that is one. */
static bool is_here = false;

/* Between two looks whether another worker of this kind has ended: ms. */
#define PREDECESSOR_RETRY_MS 1000

/*
 * What could stop a worker or change the meaning of its SQL; all else is left as the
 * database has it, since users' triggers run in the writer.
 */
static const struct
{
	const char *name;
	const char *value;
} safe_settings[] = {
	{"default_transaction_deferrable", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"exit_on_error", "off"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"jit", "off"},
	{"lock_timeout", "0"},
	{"max_parallel_workers_per_gather", "0"}, /* would take processes that other workers need */
	{"row_security", "on"},
	{"search_path", "pg_catalog, pg_temp"},
	{"session_replication_role", "origin"},
	{"standard_conforming_strings", "on"},
	{"statement_timeout", "0"},
	LLM_TRANSACTION_TIMEOUT_SETTING};

/*
 * As defaults of this session, so that RESET comes back to them.  The user first: it
 * may have been set as well, and what follows needs a superuser.
 */
static void
apply_safe_settings(LlmWorkerKind kind, const char *name)
{
	char *superuser_name = GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false);

	SetConfigOption("session_authorization", superuser_name, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < lengthof(safe_settings); i++)
		SetConfigOption(safe_settings[i].name, safe_settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	if (kind == LLM_WORKER_SENDER) /* the writer runs users' triggers, too */
		SetConfigOption("plan_cache_mode", "auto", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_OVERRIDE);
}

/* The launcher starts none there; the database may have changed since. */
static bool
is_template(void)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool template = true;

	if (HeapTupleIsValid(tuple))
	{
		template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return template;
}

/* Version of the extension in this database, palloc'ed; NULL when it is not here. */
static char *
read_extension_version(void)
{
	Relation relation = table_open(ExtensionRelationId, AccessShareLock);
	char *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(LLM_LIBRARY));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool is_null;
		Datum value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &is_null);

		version = is_null ? pstrdup("") : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

/*
 * Is the SQL of this database of our version?  Functions are bound to the library
 * that was loaded at the server's start, so a worker of another version could do
 * anything but the right thing.
 */
static bool
check_version(const char *version)
{
	char *problem;
	char *hint;

	if (strcmp(version, LLM_ENRICH_VERSION) == 0)
	{
		llm_shmem_report_lasting_problem(VERSION_SUBJECT, NULL, NULL);
		return true;
	}
	problem = psprintf("restart needed: the library in memory is version %s, the extension is version %s",
					   LLM_ENRICH_VERSION, version);
	hint = psprintf("Restart the server if its library is of version %s now; otherwise run ALTER EXTENSION %s UPDATE.",
					version, LLM_LIBRARY);
	llm_shmem_report_lasting_problem(VERSION_SUBJECT, problem, hint);
	return false;
}

/* Inside a transaction: is there an extension of our version that may be served here? */
static bool
check_database(void)
{
	char *version;

	if (RecoveryInProgress() || is_template())
		return false;
	version = read_extension_version();
	llm_shmem_report_extension(version != NULL);
	return version != NULL && check_version(version);
}

/* Say that another one lives, and sleep until it is worth looking again. */
static void
wait_for_predecessor(LlmWorkerKind kind)
{
	char *hint = psprintf("Unless it ends by itself: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
						  " current_database() AND backend_type = '%s' AND pid <> %d;",
						  MyBgworkerEntry->bgw_type, MyProcPid);

	llm_shmem_report_problem(worker_subjects[kind], "another one of this database has not ended yet", hint);
	pfree(hint);
	(void) llm_shmem_report_worker(kind, "waiting for another to end", 0, 0);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PREDECESSOR_RETRY_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Become the worker of this kind in this database; waits, with no transaction open,
 * while another lives.  False when there is nothing to serve.
 */
static bool
become_worker(LlmWorkerKind kind)
{
	bool waited = false;

	for (;;)
	{
		bool serve;
		bool entered;

		llm_spi_begin("looking for the extension");
		serve = check_database();
		entered = serve && llm_fence_enter(kind);
		llm_spi_commit();
		if (!serve || entered)
		{
			if (waited)
				llm_shmem_report_problem(worker_subjects[kind], NULL, NULL);
			return serve;
		}
		wait_for_predecessor(kind);
		waited = true;
	}
}

/*
 * SIGINT: there is no statement of anybody's to cancel, so that only the server's own timer
 * for locks is heard.  The writer lets users' code be cancelled.
 */
static void
cancel_lock_wait(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false))
		llm_cancel_statement(postgres_signal_arg);
}

/* The hook that was there before ours; set once in a process of ours. */
static emit_log_hook_type previous_emit_log = NULL;

/* emit_log_hook: that the server, or a command, ends a process of ours is no failure of anything it was doing. */
static void
tell_end_quietly(ErrorData *error)
{
	if (error->elevel == FATAL && error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
	{
		error->elevel = LOG;
		error->hide_ctx = true;
	}
	if (previous_emit_log != NULL)
		previous_emit_log(error);
}

void
llm_worker_end_quietly(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = tell_end_quietly;
}

bool
llm_worker_is_here(void)
{
	return is_here;
}

bool
llm_worker_start(LlmWorkerKind kind, Datum arg)
{
	Oid database = DatumGetObjectId(arg);

	is_here = true;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, cancel_lock_wait);
	llm_worker_end_quietly();
	if (!llm_shmem_enter(database, kind))
		return false;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	llm_spi_begin("looking for the extension");
	apply_safe_settings(kind, MyBgworkerEntry->bgw_name);
	llm_spi_commit();
	return become_worker(kind);
}

bool
llm_worker_may_leave(LlmWorkerKind kind, bool worked, TimestampTz idle_since)
{
	if (kind == LLM_WORKER_SENDER && !llm_guc_enabled)
		return true; /* tasks that come meanwhile are found when sending is switched on */
	if ((worked || !llm_shmem_is_probe(kind)) && !llm_shmem_is_starving() &&
		llm_clock_steady() < TimestampTzPlusMilliseconds(idle_since, llm_guc_idle_timeout_ms))
		return false;
	return llm_shmem_leave(kind);
}

bool
llm_worker_was_woken(uint32 heard)
{
	return llm_shmem_woken() != heard || ConfigReloadPending;
}

bool
llm_worker_reload_settings_if_asked(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}
