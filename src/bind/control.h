/*-------------------------------------------------------------------------
 *
 * control.h
 *	  What users do to tasks that are queued: cancel, retry, wait.
 *
 * Runs in the user's transaction as the owner of our tables; whose tasks they
 * are is checked here against the role that called.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CONTROL_H
#define LLM_CONTROL_H

#include "base/llm_enrich.h"

/* Which tasks; zero: no matter. */
typedef struct LlmSelection
{
	int64 job;
	int64 task;
	Oid relation;
} LlmSelection;

/* Both return the number of tasks. */
extern int64 llm_control_cancel(const LlmSelection *selection);
extern int64 llm_control_retry(const LlmSelection *selection);

/* Let a job that was paused go on; false when it is not one of the caller's that is paused. */
extern bool llm_control_resume(int64 job);

typedef struct LlmJobStand
{
	bool found; /* exists, and the caller may see it */
	bool finished;
	bool paused;
	int64 final;
	int64 total; /* -1: not known, a job that single-row statements share */
	char *reason; /* or NULL */
} LlmJobStand;

/*
 * How a job stands in a fresh snapshot.  "chain" ends the transaction and starts
 * the next, so that no snapshot is held afterwards: only in a CALL outside of a
 * transaction block.  The reason is in the current context, which must survive that.
 */
extern void llm_control_job_stand(int64 job, bool chain, LlmJobStand *stand);

#endif /* LLM_CONTROL_H */
