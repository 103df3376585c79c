/*-------------------------------------------------------------------------
 *
 * shmem_layout.h
 *	  What the shared memory looks like, for the files that keep and show it:
 *	  shmem.c, shmem_worker.c, shmem_problem.c, launcher.c,
 *	  launcher_census.c and health.c.
 *	  All others call shmem.h.
 *
 * All fields are guarded by the one lock, except for "asked" and "woken", which their own process
 * reads without it, and the condition variables, which guard themselves and are never initialised
 * again while the server runs: a process that still sleeps on one when its entry goes to another
 * database wakes up, and no harm is done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SHMEM_LAYOUT_H
#define LLM_SHMEM_LAYOUT_H

#include "base/shmem.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/*
 * Databases being served or looked at.  An idle entry makes room for another,
 * so this bounds how many can be served at a time; each needs two processes.
 */
#define LLM_MAX_DATABASES 256

/*
 * Problems that need somebody's attention, in the whole cluster, and of those of one role in one
 * database: however many models and jobs of it are not well, others' are shown.
 */
#define LLM_MAX_PROBLEMS 128
#define LLM_MAX_PROBLEMS_OF_ROLE 8

/* When a worker lived for this long, the failures of its predecessors are forgotten. */
#define LLM_FAILURES_FORGOTTEN_MS 60000

/* In order of urgency. */
typedef enum LlmWanted
{
	LLM_WANTED_NOT = 0,
	LLM_WANTED_PROBE, /* to look, and to end when there is nothing */
	LLM_WANTED_WORK /* somebody committed work */
} LlmWanted;

typedef enum LlmExtensionState
{
	LLM_EXTENSION_UNKNOWN = 0,
	LLM_EXTENSION_ABSENT,
	LLM_EXTENSION_PRESENT
} LlmExtensionState;

/*
 * One worker of a database.  Its start takes wanted away, an end with an error
 * puts it back, so that a request for service is never lost between two of them.
 */
typedef struct LlmWorkerEntry
{
	LlmWanted wanted;
	int pid; /* 0: not running */
	Latch *latch; /* NULL: not running, or about to end */
	bool probe; /* the running one was started to look */
	bool stopped; /* the running one was told to end by block() */
	bool no_process; /* max_worker_processes are in use */
	volatile uint32 asked; /* how often; read without the lock by its own process */
	volatile uint32 woken; /* how often its latch was set, for whatever; read likewise */
	int64 serving; /* the writer's slow job: for this one alone it need not be asked; 0: none */
	uint32 arrivals; /* processes that came to life for it, also those that were refused */
	int failures; /* ends with an error in a row */
	TimestampTz not_before; /* back-off after them */
	TimestampTz since; /* start, or end of the last one */
	int slots_used;
	int slots;
	char state[64];
} LlmWorkerEntry;

typedef struct LlmDatabase
{
	Oid database; /* as in LlmShared.oids */
	int blocked; /* transactions that need the database for themselves */
	LlmExtensionState extension;
	TimestampTz used_at; /* last time that anybody asked for it */
	uint64 progress; /* announcements so far */
	ConditionVariable progressed;
	ConditionVariable worker_left;
	LlmWorkerEntry workers[LLM_WORKER_KINDS];
} LlmDatabase;

typedef struct LlmProblemEntry
{
	Oid database; /* InvalidOid: free */
	Oid role; /* the role whose work waits, and that may read what a provider said; InvalidOid: every role */
	int pid; /* of the process that says so, and with which it goes; 0: it stays */
	TimestampTz since;
	char subject[128];
	char problem[256];
	char hint[256]; /* empty: none */
} LlmProblemEntry;

typedef struct LlmShared
{
	LWLock *lock;
	int launcher_pid;
	Latch *launcher_latch;
	TimestampTz launcher_since;
	pg_atomic_uint64 clock_ahead; /* us; a test's, see clock.c */
	bool sweep_wanted; /* the launcher is to look at pg_database now */
	bool starving; /* a database with work has no process: a process without work is to leave */
	bool crowded; /* an entry had to make room: knowledge of it was lost */
	Oid oids[LLM_MAX_DATABASES]; /* dense, for the search; InvalidOid: free */
	LlmDatabase databases[LLM_MAX_DATABASES];
	LlmProblemEntry problems[LLM_MAX_PROBLEMS];
} LlmShared;

/* NULL unless preloaded. */
extern LlmShared *llm_shared;

/* Entry of a database, NULL when it has none.  Lock held. */
extern LlmDatabase *llm_shmem_find(Oid database);

/*
 * The same, made when there is none; NULL when every entry is busy (the launcher
 * is told to look at all databases then).  Lock held exclusively.
 */
extern LlmDatabase *llm_shmem_ensure(Oid database);

/* Nothing is going on in it that would be lost with it.  Lock held. */
extern bool llm_shmem_is_at_rest(const LlmDatabase *entry);

/* Give an entry back.  Lock held exclusively. */
extern void llm_shmem_free(LlmDatabase *entry);

/* Lock held. */
extern void llm_shmem_wake_launcher(void);

/* By the launcher: some database with work has no process, or all have one. */
extern void llm_shmem_report_starving(bool starving);

/*
 * Flag a worker as wanted and set its latch, or the launcher's when it does not run.
 * Entry NULL: there is no room, the launcher has been told to look everywhere.  Lock
 * held exclusively.
 */
extern void llm_shmem_ask_for(LlmDatabase *entry, LlmWorkerKind kind, LlmWanted wanted);

/* What a process has reported goes with it.  Lock held exclusively. */
extern void llm_shmem_drop_problems_of(int pid);

#endif /* LLM_SHMEM_LAYOUT_H */
