/*-------------------------------------------------------------------------
 *
 * writeback_progress.h
 *	  How far the writer came in each job, so that no look begins at its start again.
 *
 *	  progress(), came_to()   for the look at the queue and for the claim
 *	  pass_over()             once the transaction that claimed and settled has committed
 *	  begin_again()            now and then: what was locked by somebody was passed over, too
 *
 * In the writer's memory only; when it is gone, a look is longer once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_PROGRESS_H
#define LLM_WRITEBACK_PROGRESS_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/* How far each job came: an object with jobs' ids as keys, a jsonb in the current context. */
extern Datum llm_writeback_progress(void);

/* How far that one came: nothing of an earlier transaction of the sender is left in it. */
extern int64 llm_writeback_came_to(int64 job);

/* The transaction that claimed and settled has committed: the next claim, if any, starts behind its rows. */
extern void llm_writeback_pass_over(const LlmWriteJob *job);

/* Forget that, of all jobs: what was passed over for a lock is found again. */
extern void llm_writeback_begin_again(void);

#endif /* LLM_WRITEBACK_PROGRESS_H */
