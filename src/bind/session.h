/*-------------------------------------------------------------------------
 *
 * session.h
 *	  What this session has queued: for llm.last_job(), llm.wait() and llm.cancel().
 *
 *	  note_*()     inside the transaction that queues; gone with the (sub)transaction
 *	  last_job()   at any time
 *	  first()      after COMMIT, in llm.wait(): the oldest that is not known to be over;
 *	               drop_first() when it is
 *	  tidy()       inside a transaction, with SPI at hand, when there is much of it
 *	  forget()     DISCARD ALL
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SESSION_H
#define LLM_SESSION_H

#include "base/llm_enrich.h"

/* Tasks of a job that somebody waits for. */
typedef struct LlmAwaited
{
	int64 job;
	int64 first; /* 0: all tasks of the job */
	int64 last; /* the last task, included */
	Oid relation; /* only tasks of rows in this table; InvalidOid: no matter */
} LlmAwaited;

/* A job of this session alone. */
extern void llm_session_note_job(int64 job);

/*
 * A task in a job that sessions share.  "run" is the first of the ids that this session drew
 * without another session's in between; 0: this task is not known to be near another one.
 */
extern void llm_session_note_task(int64 job, int64 task, int64 run);

/* A task of an earlier statement, that this one would have queued: waited for, but no last job. */
extern void llm_session_note_kept(int64 job, int64 task);

/* The job that was noted last, 0 if none; not one that was rolled back. */
extern int64 llm_session_last_job(void);

/* Has the session ever put a task into this shared job? */
extern bool llm_session_shares(int64 job);

/* What the session has queued and not waited for; NULL: nothing.  Good until the next call. */
extern const LlmAwaited *llm_session_first(void);
extern void llm_session_drop_first(void);

/* The same, of one job: an array in the current context. */
extern LlmAwaited *llm_session_of_job(int64 job, int *n);

/* Is so much noted that what is over is worth dropping?  Then all, and keep() with those that are not over. */
extern bool llm_session_is_full(void);
extern const LlmAwaited *llm_session_all(int *n);
extern void llm_session_keep(const bool *keep);

extern void llm_session_forget(void);

#endif /* LLM_SESSION_H */
