/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Memory that all databases and processes share, and its main part: which
 *	  workers serve which database, and which are asked for.
 *
 * Asking for service is a flag and a latch: the worker's own when it runs, else
 * the launcher's, which then starts it.  The flag stays until a worker of that
 * kind starts (it will look at the queue) and comes back when one ends with an
 * error, so there is no moment at which a commit can be missed:
 *
 *	  commit     wake()   flag, latch
 *	  worker     enter()  takes the flag, ..., leave() refuses while the flag stands
 *	  launcher   starts what is flagged and has no process
 *
 * Problems live in the same memory, see shmem_problem.c.  Whatever else has memory of its
 * own is a part: a size and an init function, which init.c lists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/shmem_layout.h"

LlmShared *llm_shared = NULL;

/* Hooks that were there before ours; set once, at preload. */
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* Announcements of progress that this process has seen. */
static uint64 seen_progress = 0;

/* Added by init.c at preload; constants of their modules. */
#define MAX_PARTS 8
static const LlmShmemPart *parts[MAX_PARTS];
static int nparts = 0;

void
llm_shmem_add(const LlmShmemPart *part)
{
	Assert(nparts < MAX_PARTS);
	parts[nparts++] = part;
}

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LlmShared)));
	RequestNamedLWLockTranche(LLM_LIBRARY, 1);
	for (int i = 0; i < nparts; i++)
	{
		RequestAddinShmemSpace(parts[i]->size());
		if (parts[i]->locks > 0)
			RequestNamedLWLockTranche(parts[i]->name, parts[i]->locks);
	}
}

/* Runs again after a crash of any backend: then all starts from nothing. */
static void
create_memory(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
	{
		void *memory = ShmemInitStruct(parts[i]->name, parts[i]->size(), &found);

		parts[i]->init(found, memory);
	}
	llm_shared = ShmemInitStruct(LLM_LIBRARY, sizeof(LlmShared), &found);
	if (!found)
	{
		memset(llm_shared, 0, sizeof(LlmShared));
		llm_shared->lock = &GetNamedLWLockTranche(LLM_LIBRARY)->lock;
		pg_atomic_init_u64(&llm_shared->clock_ahead, 0);
		for (int i = 0; i < LLM_MAX_DATABASES; i++)
		{
			ConditionVariableInit(&llm_shared->databases[i].progressed);
			ConditionVariableInit(&llm_shared->databases[i].worker_left);
		}
	}
	LWLockRelease(AddinShmemInitLock);
	llm_clock_share(&llm_shared->clock_ahead);
}

void
llm_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = create_memory;
}

bool
llm_shmem_is_preloaded(void)
{
	return llm_shared != NULL;
}

void
llm_shmem_require_preload(void)
{
	if (llm_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" was not loaded at server start", LLM_LIBRARY),
				 errhint("Add \"%s\" to \"shared_preload_libraries\" and restart the server.", LLM_LIBRARY)));
}

bool
llm_shmem_is_at_rest(const LlmDatabase *entry)
{
	int kind;

	if (entry->blocked > 0)
		return false;
	for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
	{
		if (entry->workers[kind].pid != 0 || entry->workers[kind].wanted != LLM_WANTED_NOT)
			return false;
	}
	return true;
}

LlmDatabase *
llm_shmem_find(Oid database)
{
	for (int i = 0; i < LLM_MAX_DATABASES; i++)
	{
		if (llm_shared->oids[i] == database)
			return &llm_shared->databases[i];
	}
	return NULL;
}

void
llm_shmem_free(LlmDatabase *entry)
{
	llm_shared->oids[entry - llm_shared->databases] = InvalidOid;
	entry->database = InvalidOid;
}

/* A free entry, or the one at rest for the longest time; NULL when all are busy. */
static LlmDatabase *
make_room(void)
{
	LlmDatabase *entry = llm_shmem_find(InvalidOid);

	if (entry != NULL)
		return entry;
	llm_shared->crowded = true;
	for (int i = 0; i < LLM_MAX_DATABASES; i++)
	{
		LlmDatabase *other = &llm_shared->databases[i];

		if (llm_shmem_is_at_rest(other) && (entry == NULL || other->used_at < entry->used_at))
			entry = other;
	}
	return entry;
}

LlmDatabase *
llm_shmem_ensure(Oid database)
{
	LlmDatabase *entry = llm_shmem_find(database);
	TimestampTz now = llm_clock_steady();
	int kind;

	if (entry == NULL)
	{
		entry = make_room();
		if (entry == NULL)
		{
			llm_shared->sweep_wanted = true;
			return NULL;
		}
		llm_shared->oids[entry - llm_shared->databases] = database;
		entry->database = database;
		entry->blocked = 0;
		entry->extension = LLM_EXTENSION_UNKNOWN;
		entry->progress++; /* processes that waited for the former database look again */
		memset(entry->workers, 0, sizeof(entry->workers));
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
			entry->workers[kind].since = now;
	}
	entry->used_at = now;
	return entry;
}

void
llm_shmem_wake_launcher(void)
{
	if (llm_shared->launcher_latch != NULL)
		SetLatch(llm_shared->launcher_latch);
}

/* Not counted in "asked": more of what the worker does anyway. */
static void
remind(LlmDatabase *entry, LlmWorkerKind kind, LlmWanted wanted)
{
	LlmWorkerEntry *worker = (entry == NULL) ? NULL : &entry->workers[kind];

	if (worker != NULL)
	{
		worker->wanted = Max(worker->wanted, wanted);
		worker->woken++;
	}
	if (worker != NULL && worker->latch != NULL)
		SetLatch(worker->latch);
	else
		llm_shmem_wake_launcher();
}

void
llm_shmem_ask_for(LlmDatabase *entry, LlmWorkerKind kind, LlmWanted wanted)
{
	if (entry != NULL)
		entry->workers[kind].asked++;
	remind(entry, kind, wanted);
}

/* As above, for work.  A sender with work will have answers soon, so its writer comes along. */
static void
ask_for_work(LlmDatabase *entry, LlmWorkerKind kind)
{
	llm_shmem_ask_for(entry, kind, LLM_WANTED_WORK);
	if (entry != NULL && kind == LLM_WORKER_SENDER && entry->workers[LLM_WORKER_WRITER].pid == 0)
		llm_shmem_ask_for(entry, LLM_WORKER_WRITER, LLM_WANTED_WORK);
}

void
llm_shmem_wake(Oid database, LlmWorkerKind kind)
{
	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	ask_for_work(llm_shmem_ensure(database), kind);
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_wake_writer(int64 job)
{
	LlmDatabase *entry;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_ensure(MyDatabaseId);
	if (entry != NULL && job != 0 && entry->workers[LLM_WORKER_WRITER].serving == job)
		remind(entry, LLM_WORKER_WRITER, LLM_WANTED_WORK);
	else
		ask_for_work(entry, LLM_WORKER_WRITER);
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_wake_known(Oid database, LlmWorkerKind kind)
{
	LlmDatabase *entry;

	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_find(database);
	if (entry != NULL && entry->extension == LLM_EXTENSION_PRESENT)
		ask_for_work(entry, kind);
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_probe(Oid database)
{
	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shmem_ask_for(llm_shmem_ensure(database), llm_guc_enabled ? LLM_WORKER_SENDER : LLM_WORKER_WRITER,
					  LLM_WANTED_PROBE);
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_request_sweep(void)
{
	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shared->sweep_wanted = true;
	llm_shmem_wake_launcher();
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_block(Oid database)
{
	LlmDatabase *entry;
	int kind;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_ensure(database);
	if (entry != NULL)
	{
		entry->blocked++;
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			/* the lock keeps it from exiting meanwhile, so the pid is still its own */
			if (entry->workers[kind].pid == 0)
				continue;
			entry->workers[kind].stopped = true;
			kill(entry->workers[kind].pid, SIGTERM);
		}
	}
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_unblock(Oid database)
{
	LlmDatabase *entry;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_find(database);
	if (entry != NULL && entry->blocked > 0)
		entry->blocked--;
	llm_shmem_wake_launcher();
	LWLockRelease(llm_shared->lock);
}

/* Has the database no worker process? */
static bool
is_stopped(Oid database, LlmDatabase **entry)
{
	bool stopped = true;
	int kind;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	*entry = llm_shmem_find(database);
	for (kind = 0; *entry != NULL && kind < LLM_WORKER_KINDS; kind++)
	{
		if ((*entry)->workers[kind].pid != 0)
			stopped = false;
	}
	LWLockRelease(llm_shared->lock);
	return stopped;
}

bool
llm_shmem_wait_stopped(Oid database, long timeout_ms)
{
	TimestampTz give_up_at = TimestampTzPlusMilliseconds(llm_clock_steady(), timeout_ms);
	LlmDatabase *entry;

	while (!is_stopped(database, &entry))
	{
		timeout_ms = TimestampDifferenceMilliseconds(llm_clock_steady(), give_up_at);
		if (timeout_ms <= 0)
			break;
		ConditionVariableTimedSleep(&entry->worker_left, timeout_ms, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return is_stopped(database, &entry);
}

void
llm_shmem_forget(Oid database)
{
	LlmDatabase *entry;

	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_find(database);
	if (entry != NULL)
		llm_shmem_free(entry);
	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		if (llm_shared->problems[i].database == database)
			llm_shared->problems[i].database = InvalidOid;
	}
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_announce_progress(void)
{
	LlmDatabase *entry;

	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_ensure(MyDatabaseId);
	if (entry != NULL)
		entry->progress++;
	LWLockRelease(llm_shared->lock);
	if (entry != NULL)
		ConditionVariableBroadcast(&entry->progressed);
}

/* Was progress announced since we last asked?  The entry to sleep on, NULL when there is no room. */
static bool
has_progressed(LlmDatabase **entry)
{
	bool progressed = false;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	*entry = llm_shmem_ensure(MyDatabaseId);
	if (*entry != NULL)
	{
		progressed = ((*entry)->progress != seen_progress);
		seen_progress = (*entry)->progress;
	}
	LWLockRelease(llm_shared->lock);
	return progressed;
}

bool
llm_shmem_wait_progress(long timeout_ms)
{
	TimestampTz give_up_at = TimestampTzPlusMilliseconds(llm_clock_steady(), timeout_ms);
	LlmDatabase *entry;
	bool progressed;

	llm_shmem_require_preload();
	for (;;)
	{
		progressed = has_progressed(&entry);
		timeout_ms = TimestampDifferenceMilliseconds(llm_clock_steady(), give_up_at);
		if (progressed || timeout_ms <= 0)
			break;
		if (entry == NULL)
		{
			/* more databases are busy than there are entries: look from time to time */
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 Min(timeout_ms, 100), PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			return true;
		}
		ConditionVariableTimedSleep(&entry->progressed, timeout_ms, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return progressed;
}
