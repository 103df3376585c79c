/*-------------------------------------------------------------------------
 *
 * shmem_worker.c
 *	  A worker's entry in shared memory, from its start to its exit.
 *
 * It takes the entry before it connects to its database, and gives it up after it
 * has left the list of backends, whatever ends it (except for a crash, which makes
 * all memory new).  So a process that sees the entry empty meets no worker in the
 * database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/shmem_layout.h"

/* Back-off of a worker that fails again and again: 1 s, doubled up to 64 s. */
#define FIRST_BACKOFF_MS 1000
#define MAX_BACKOFF_DOUBLINGS 6

/* This process as a worker, set by enter() for its life; NULL in all others. */
static LlmDatabase *my_entry = NULL;
static LlmWorkerKind my_kind;
static Oid my_database;

/*
 * This process's entry as a worker; NULL when that has gone to another database, or another
 * worker was let in, since (the database was dropped while this one could not hear of
 * it).  Lock held.
 */
static LlmWorkerEntry *
my_worker(LlmWorkerKind kind)
{
	LlmWorkerEntry *worker;

	if (my_entry == NULL || my_entry->database != my_database)
		return NULL;
	worker = &my_entry->workers[kind];
	return worker->pid == MyProcPid ? worker : NULL;
}

/* An end with an error: the next start waits a little longer each time. */
static void
count_failure(LlmWorkerEntry *worker, TimestampTz now)
{
	int doublings;

	if (now - worker->since > LLM_FAILURES_FORGOTTEN_MS * INT64CONST(1000))
		worker->failures = 0;
	doublings = Min(worker->failures, MAX_BACKOFF_DOUBLINGS);
	worker->failures++;
	worker->not_before = TimestampTzPlusMilliseconds(now, FIRST_BACKOFF_MS << doublings);
	if (worker->wanted == LLM_WANTED_NOT)
		worker->wanted = LLM_WANTED_WORK;
}

/*
 * on_shmem_exit.  Registered before the connection to the database is made, so
 * it runs after this process has left the list of backends: a command that needs
 * the database for itself does not find it there.
 */
static void
worker_exit(int code, Datum arg)
{
	LlmWorkerEntry *worker;
	LlmDatabase *entry = my_entry;
	TimestampTz now = llm_clock_steady();

	if (entry == NULL)
		return;
	if (!LWLockHeldByMe(llm_shared->lock))
		LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shmem_drop_problems_of(MyProcPid);
	worker = my_worker(my_kind);
	my_entry = NULL;
	if (worker == NULL)
	{
		LWLockRelease(llm_shared->lock);
		return;
	}
	if (code == 0)
	{
		worker->failures = 0;
		worker->not_before = 0;
	}
	else if (worker->stopped)
		worker->wanted = LLM_WANTED_WORK; /* not its fault */
	else
		count_failure(worker, now);
	worker->pid = 0;
	worker->latch = NULL;
	worker->since = now;
	worker->slots = worker->slots_used = 0;
	worker->state[0] = '\0';
	llm_shmem_wake_launcher();
	LWLockRelease(llm_shared->lock);
	ConditionVariableBroadcast(&entry->worker_left);
}

bool
llm_shmem_enter(Oid database, LlmWorkerKind kind)
{
	LlmDatabase *entry;
	LlmWorkerEntry *worker;

	Assert(my_entry == NULL);
	llm_shmem_require_preload();
	on_shmem_exit(worker_exit, (Datum) 0);

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = llm_shmem_ensure(database);
	if (entry == NULL)
	{
		LWLockRelease(llm_shared->lock);
		return false;
	}
	worker = &entry->workers[kind];
	worker->arrivals++;
	if (worker->pid == 0 && entry->blocked == 0)
	{
		worker->pid = MyProcPid;
		worker->latch = MyLatch;
		worker->probe = (worker->wanted == LLM_WANTED_PROBE);
		worker->wanted = LLM_WANTED_NOT;
		worker->stopped = false;
		worker->no_process = false;
		worker->serving = 0;
		worker->since = llm_clock_steady();
		strlcpy(worker->state, "starting", sizeof(worker->state));
		my_kind = kind;
		my_database = database;
		my_entry = entry;
	}
	LWLockRelease(llm_shared->lock);
	return my_entry != NULL;
}

/*
 * A sender that finds the extension lets the writer look too: answers may have
 * been left by the last run of the server.
 */
void
llm_shmem_report_extension(bool present)
{
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	if (my_worker(my_kind) == NULL)
	{
		LWLockRelease(llm_shared->lock);
		return;
	}
	my_entry->extension = present ? LLM_EXTENSION_PRESENT : LLM_EXTENSION_ABSENT;
	if (present && my_kind == LLM_WORKER_SENDER && my_entry->workers[LLM_WORKER_WRITER].pid == 0)
		llm_shmem_ask_for(my_entry, LLM_WORKER_WRITER, LLM_WANTED_PROBE);
	LWLockRelease(llm_shared->lock);
	if (!present)
		llm_shmem_clear_problems();
}

bool
llm_shmem_is_probe(LlmWorkerKind kind)
{
	const LlmWorkerEntry *worker;
	bool probe;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	worker = my_worker(kind);
	probe = worker != NULL && worker->probe && worker->wanted != LLM_WANTED_WORK;
	LWLockRelease(llm_shared->lock);
	return probe;
}

void
llm_shmem_report_starving(bool starving)
{
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shared->starving = starving;
	for (int i = 0; starving && i < LLM_MAX_DATABASES; i++)
	{
		for (int kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			if (llm_shared->databases[i].workers[kind].latch != NULL)
				SetLatch(llm_shared->databases[i].workers[kind].latch);
		}
	}
	LWLockRelease(llm_shared->lock);
}

bool
llm_shmem_is_starving(void)
{
	bool starving;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	starving = llm_shared->starving;
	LWLockRelease(llm_shared->lock);
	return starving;
}

void
llm_shmem_come_again(LlmWorkerKind kind)
{
	LlmWorkerEntry *worker;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	worker = my_worker(kind);
	if (worker != NULL)
		worker->wanted = LLM_WANTED_WORK;
	LWLockRelease(llm_shared->lock);
}

bool
llm_shmem_leave(LlmWorkerKind kind)
{
	LlmWorkerEntry *worker;
	bool leave;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	worker = my_worker(kind);
	leave = (worker == NULL || worker->wanted == LLM_WANTED_NOT);
	if (worker != NULL && leave)
	{
		worker->latch = NULL;
		strlcpy(worker->state, "ending", sizeof(worker->state));
	}
	else if (!leave)
	{
		worker->wanted = LLM_WANTED_NOT;
		SetLatch(MyLatch);
	}
	LWLockRelease(llm_shared->lock);
	return leave;
}

/* Its entry may have gone to another database meanwhile: then it sees another count, and looks in vain. */
uint32
llm_shmem_asked(void)
{
	return my_entry == NULL ? 0 : my_entry->workers[my_kind].asked;
}

uint32
llm_shmem_woken(void)
{
	return my_entry == NULL ? 0 : my_entry->workers[my_kind].woken;
}

void
llm_shmem_report_serving(int64 job)
{
	LlmWorkerEntry *worker;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	worker = my_worker(my_kind);
	if (worker != NULL)
		worker->serving = job;
	LWLockRelease(llm_shared->lock);
}

bool
llm_shmem_report_worker(LlmWorkerKind kind, const char *state, int slots_used, int slots)
{
	LlmWorkerEntry *worker;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	worker = my_worker(kind);
	if (worker != NULL)
	{
		strlcpy(worker->state, state, sizeof(worker->state));
		worker->slots_used = slots_used;
		worker->slots = slots;
	}
	LWLockRelease(llm_shared->lock);
	return worker != NULL;
}
