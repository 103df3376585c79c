/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The one process that starts senders and writers, in all databases.
 *
 * It is connected to no database and does no work of its own: it sleeps until
 * a worker is asked for (shmem.c), one ends, or a minute is over.  Workers end by
 * themselves when they are idle; one that ended with an error is started again, a
 * little later each time.
 *
 * Only a process inside a database can tell whether it has the extension.  So
 * each is looked at once, by a worker that ends when there is nothing to do (a
 * probe), and those that have it again once a minute: see launcher_census.c.
 *
 * The launcher may die at any time.  What it must not forget is in shared memory;
 * a worker that is started twice ends when it finds its entry taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/shmem_layout.h"
#include "base/worker.h"
#include "process/launcher.h"
#include "process/launcher_census.h"

/* After a crash of its own. */
#define LAUNCHER_RESTART_S 5

/* Between two looks at pg_database and at the databases that have the extension. */
#define SWEEP_INTERVAL_MS 60000

/* Also when asked: many may ask at once. */
#define SWEEP_PAUSE_MS 1000

/* Until the next attempt, where no process was free or the last one never came to life. */
#define RETRY_MS 1000

/* One line in the server's log, however often it is tried. */
#define NO_PROCESS_LOG_MS 60000

/* The launcher, a sender and a writer. */
#define NEEDED_PROCESSES 3

typedef struct Child
{
	BackgroundWorkerHandle *handle; /* NULL: none started, or it has ended */
	Oid database;
	uint32 arrivals; /* as it stood when it was started */
} Child;

/* A worker to be started, as it stood when that was found. */
typedef struct Start
{
	int entry;
	LlmWorkerKind kind;
	Oid database;
	LlmWanted wanted;
	uint32 arrivals;
} Start;

/* All of this lives as long as the launcher. */
static Child children[LLM_MAX_DATABASES][LLM_WORKER_KINDS];
static int turn = 0; /* entry that is served first when processes are short */
static TimestampTz no_process_logged_at = 0;

static const char *const worker_names[LLM_WORKER_KINDS] = {"llm_enrich sender", "llm_enrich writer"};
static const char *const worker_functions[LLM_WORKER_KINDS] = {"llm_sender_main", "llm_writer_main"};

void
llm_launcher_init(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	if (max_worker_processes < NEEDED_PROCESSES)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("\"max_worker_processes\" is too low for \"%s\"", LLM_LIBRARY),
				 errdetail("It is %d; one process is needed for the launcher and two for each database that is served.",
						   max_worker_processes),
				 errhint("Raise \"max_worker_processes\" and restart the server.")));

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_S;
	strlcpy(worker.bgw_library_name, LLM_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "llm_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "llm_enrich launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "llm_enrich launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

/* on_shmem_exit */
static void
launcher_exit(int code, Datum arg)
{
	if (!LWLockHeldByMe(llm_shared->lock))
		LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shared->launcher_pid = 0;
	llm_shared->launcher_latch = NULL;
	llm_shared->launcher_since = llm_clock_steady();
	LWLockRelease(llm_shared->lock);
}

static void
enter_launcher(void)
{
	on_shmem_exit(launcher_exit, (Datum) 0);
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shared->launcher_pid = MyProcPid;
	llm_shared->launcher_latch = MyLatch;
	llm_shared->launcher_since = llm_clock_steady();
	LWLockRelease(llm_shared->lock);
}

/*
 * Forget children that have ended.  One that never came to life (no memory for a
 * process, say) is tried again, but not at once.
 */
static void
reap_children(TimestampTz now)
{
	int kind;
	pid_t pid;

	for (int i = 0; i < LLM_MAX_DATABASES; i++)
	{
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			Child *child = &children[i][kind];
			LlmWorkerEntry *worker = &llm_shared->databases[i].workers[kind];

			if (child->handle == NULL || GetBackgroundWorkerPid(child->handle, &pid) != BGWH_STOPPED)
				continue;
			pfree(child->handle);
			child->handle = NULL;
			LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
			if (llm_shared->oids[i] == child->database && worker->arrivals == child->arrivals)
				worker->not_before = TimestampTzPlusMilliseconds(now, RETRY_MS);
			LWLockRelease(llm_shared->lock);
		}
	}
}

/*
 * Nobody may connect there now, or it is gone: nothing is wanted of it.  Should it
 * be servable at the next sweep, it is looked at like a new one.
 */
static void
drop_unservable(int i, Oid database)
{
	LlmDatabase *entry = &llm_shared->databases[i];
	int kind;

	llm_census_look_again(database);

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	if (llm_shared->oids[i] == database)
	{
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
			entry->workers[kind].wanted = LLM_WANTED_NOT;
		if (llm_shmem_is_at_rest(entry))
			llm_shmem_free(entry);
	}
	LWLockRelease(llm_shared->lock);
}

static bool
register_worker(Oid database, LlmWorkerKind kind, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	bool registered;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, LLM_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, worker_functions[kind], sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, worker_names[kind], sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, worker_names[kind], sizeof(worker.bgw_type));
	registered = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old_context);
	return registered;
}

/* Where somebody waits; a probe can. */
static void
log_no_process(const Start *start, const char *database, TimestampTz now)
{
	if (start->wanted != LLM_WANTED_WORK ||
		(no_process_logged_at != 0 && now - no_process_logged_at < NO_PROCESS_LOG_MS * INT64CONST(1000)))
		return;
	no_process_logged_at = now;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no process is free for the %s of database \"%s\"", worker_names[start->kind], database),
			 errhint("Raise \"max_worker_processes\", now %d, and restart the server.", max_worker_processes)));
}

/*
 * Is this worker to be started now?  Fills the rest of *start.  Not yet: *next_at is
 * brought forward to when it is.
 */
static bool
is_due(Start *start, TimestampTz now, TimestampTz *next_at)
{
	const LlmDatabase *entry = &llm_shared->databases[start->entry];
	const LlmWorkerEntry *worker = &entry->workers[start->kind];
	bool due = false;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	start->database = llm_shared->oids[start->entry];
	start->wanted = worker->wanted;
	start->arrivals = worker->arrivals;
	if (OidIsValid(start->database) && worker->wanted != LLM_WANTED_NOT && worker->pid == 0 &&
		entry->blocked == 0 && children[start->entry][start->kind].handle == NULL &&
		(start->kind != LLM_WORKER_SENDER || llm_guc_enabled))
	{
		due = (worker->not_before <= now);
		if (!due)
			*next_at = Min(*next_at, worker->not_before);
	}
	LWLockRelease(llm_shared->lock);
	return due;
}

static void
note_no_process(const Start *start)
{
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	if (llm_shared->oids[start->entry] == start->database)
		llm_shared->databases[start->entry].workers[start->kind].no_process = true;
	LWLockRelease(llm_shared->lock);
}

/* Start it.  False when no process is free. */
static bool
start_worker(const Start *start, TimestampTz now)
{
	Child *child = &children[start->entry][start->kind];
	NameData name;

	if (!llm_census_look_up(start->database, &name))
	{
		drop_unservable(start->entry, start->database);
		return true;
	}
	if (!register_worker(start->database, start->kind, &child->handle))
	{
		child->handle = NULL;
		note_no_process(start);
		log_no_process(start, NameStr(name), now);
		return false;
	}
	child->database = start->database;
	child->arrivals = start->arrivals;
	return true;
}

/*
 * Start what is wanted, one database after the other, its sender first.  When
 * processes run out, that database is the first at the next attempt, and those that have
 * one and need it least are told.  Returns when there may be something to start again.
 */
static TimestampTz
start_workers(TimestampTz now)
{
	TimestampTz next_at = DT_NOEND;
	bool none_free = false;
	bool starving = false;
	int first = turn;
	Start start;
	int step;
	int kind;

	for (step = 0; step < LLM_MAX_DATABASES; step++)
	{
		start.entry = (first + step) % LLM_MAX_DATABASES;
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			start.kind = (LlmWorkerKind) kind;
			if (!is_due(&start, now, &next_at))
				continue;
			if (none_free)
				note_no_process(&start);
			else if (start_worker(&start, now))
				continue;
			else
			{
				none_free = true;
				turn = start.entry;
			}
			starving = starving || start.wanted == LLM_WANTED_WORK;
		}
	}
	llm_shmem_report_starving(starving);
	return none_free ? Min(next_at, TimestampTzPlusMilliseconds(now, RETRY_MS)) : next_at;
}

/* Sleep until then at the latest; woken by our latch: a wish, an end, a signal. */
static void
wait_until(TimestampTz wake_at)
{
	long timeout_ms = TimestampDifferenceMilliseconds(llm_clock_steady(), wake_at);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(timeout_ms, SWEEP_INTERVAL_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* After SIGHUP.  True when sending was switched on. */
static bool
reload_if_asked(void)
{
	bool was_enabled = llm_guc_enabled;

	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return llm_guc_enabled && !was_enabled;
}

static bool
is_sweep_wanted(void)
{
	bool wanted;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	wanted = llm_shared->sweep_wanted;
	LWLockRelease(llm_shared->lock);
	return wanted;
}

void
llm_launcher_main(Datum arg)
{
	TimestampTz swept_at = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, LLM_SIG_IGN); /* pg_cancel_backend: there is no statement to cancel */
	llm_worker_end_quietly();
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	enter_launcher();

	for (;;)
	{
		bool hurry = reload_if_asked() || is_sweep_wanted();
		TimestampTz now = llm_clock_steady();
		TimestampTz sweep_at;
		TimestampTz wake_at;

		sweep_at = TimestampTzPlusMilliseconds(swept_at, hurry ? SWEEP_PAUSE_MS : SWEEP_INTERVAL_MS);
		if (swept_at == 0 || now >= sweep_at)
		{
			llm_census_sweep();
			swept_at = now;
			sweep_at = TimestampTzPlusMilliseconds(now, SWEEP_INTERVAL_MS);
		}
		reap_children(now);
		wake_at = sweep_at;
		if (llm_census_ask_for_probes(now))
			wake_at = Min(wake_at, TimestampTzPlusMilliseconds(now, RETRY_MS));
		wake_at = Min(wake_at, start_workers(now));
		wait_until(wake_at);
	}
}
