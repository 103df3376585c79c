/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  What all databases and processes share: which workers serve which database,
 *	  and which are asked for.
 *
 * One LWLock guards all of it; it is held for no longer than a few loads and
 * stores.  A database has an entry from the first time somebody asks for
 * service until it is dropped or has no extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SHMEM_H
#define LLM_SHMEM_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "storage/latch.h"

typedef enum LlmWorkerKind
{
	LLM_WORKER_SENDER = 0,
	LLM_WORKER_WRITER
} LlmWorkerKind;

#define LLM_WORKER_KINDS (LLM_WORKER_WRITER + 1)

/*
 * Shared memory of another module: its bytes, its LWLocks (a named tranche of the same name),
 * and what prepares it.  init() runs when the memory is made, with found false, and in every
 * process that finds it.
 */
typedef struct LlmShmemPart
{
	const char *name;
	int locks;
	Size (*size)(void);
	void (*init)(bool found, void *memory);
} LlmShmemPart;

/* Both by init.c while the library is preloaded: parts first. */
extern void llm_shmem_add(const LlmShmemPart *part);
extern void llm_shmem_init(void);

/* Raise 55000 with the hint how to preload, unless the library was preloaded. */
extern void llm_shmem_require_preload(void);
extern bool llm_shmem_is_preloaded(void);

/*
 * Somebody committed work in this database: wake its worker, or the launcher
 * when it has none.  Async-safe in commit callbacks: takes no heavy lock, cannot fail.
 */
extern void llm_shmem_wake(Oid database, LlmWorkerKind kind);

/* The same, by the sender of this database: answers of one job have come, or of several (0). */
extern void llm_shmem_wake_writer(int64 job);

/* The same, but only when the database is known to have the extension; else nothing. */
extern void llm_shmem_wake_known(Oid database, LlmWorkerKind kind);

/*
 * The extension may have come to this database: let a worker look.  It ends at
 * once when it finds nothing to do.
 */
extern void llm_shmem_probe(Oid database);

/* Databases may have come: let the launcher look at pg_database now. */
extern void llm_shmem_request_sweep(void);

/*
 * A worker enters, before it connects: exactly one of a kind per database.
 * False when there is one already or the database is blocked: end quietly.  Left
 * by itself when the process exits, after it has left the list of backends.
 */
extern bool llm_shmem_enter(Oid database, LlmWorkerKind kind);

/*
 * How often this worker was asked for, apart from answers of the job that it serves (the
 * writer's last slow one): when that changes, others may have work.  asked() takes no
 * lock and may be called in a signal handler; 0 without an entry.
 */
extern uint32 llm_shmem_asked(void);
extern void llm_shmem_report_serving(int64 job);

/* How often this worker was woken, for whatever; as asked() otherwise. */
extern uint32 llm_shmem_woken(void);

/* The worker has looked: is the extension here? */
extern void llm_shmem_report_extension(bool present);

/*
 * Was this worker started only to look, and was it not asked for since?
 * Such a worker ends as soon as it finds nothing.
 */
extern bool llm_shmem_is_probe(LlmWorkerKind kind);

/*
 * Has a database with work no process?  Then a process that has nothing to do leaves at once, and a sender that
 * has had its share lets others go first: come_again() before it ends, and the launcher starts it in
 * its turn.
 */
extern bool llm_shmem_is_starving(void);
extern void llm_shmem_come_again(LlmWorkerKind kind);

/*
 * An idle worker wants to end.  False when somebody asked for it since the last
 * call (or its start): its latch is set then, so that it looks once more.  After
 * true it must end: from then on the launcher is asked.
 */
extern bool llm_shmem_leave(LlmWorkerKind kind);

/*
 * Stop the workers of a database and let none start until unblock() (counted).
 * wait_stopped() waits until they have left the list of backends; false when that
 * took longer than timeout_ms; interruptible.  Both are of the transaction that
 * needs the database for itself (utility.c), whatever becomes of it.
 */
extern void llm_shmem_block(Oid database);
extern bool llm_shmem_wait_stopped(Oid database, long timeout_ms);
extern void llm_shmem_unblock(Oid database);

/* The database is gone. */
extern void llm_shmem_forget(Oid database);

/*
 * A backend that waits for progress in this database (CALL llm.wait) sleeps here.  The
 * wait ends at once when progress was announced since this process last asked,
 * so look, wait, look again loses nothing.
 */
extern void llm_shmem_announce_progress(void); /* writer, after commit */
extern bool llm_shmem_wait_progress(long timeout_ms); /* backend; false on timeout; interruptible */

/*
 * What llm.health shows of this worker: short texts, cut to fit.  False when its entry
 * has been given away: store what has come, begin nothing more, and end.
 */
extern bool llm_shmem_report_worker(LlmWorkerKind kind, const char *state, int slots_used, int slots);

/*
 * A problem that needs somebody's attention, by subject ("server openai", "model fast"); NULL clears.  It goes with
 * the worker that reports it.
 */
extern void llm_shmem_report_problem(const char *subject, const char *problem, const char *hint);

/* The same for work of one role: what a provider said about it may be that role's input. */
extern void llm_shmem_report_problem_of(Oid role, const char *subject, const char *problem, const char *hint);

/* One that outlives who reports it: the next worker reports it, or clears it, as soon as it starts. */
extern void llm_shmem_report_lasting_problem(const char *subject, const char *problem, const char *hint);
extern void llm_shmem_clear_problems(void); /* of this database */

#endif /* LLM_SHMEM_H */
