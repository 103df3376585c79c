/*-------------------------------------------------------------------------
 *
 * job_count.h
 *	  Count a job's tasks that are final, and see whether it ends or pauses with them.
 *
 * Called by the writer, in the transaction in which the tasks leave the queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_JOB_COUNT_H
#define LLM_JOB_COUNT_H

#include "base/llm_enrich.h"

/* Why a task fails whose model is of the other kind: all of its job would. */
#define LLM_WRONG_MODEL_REASON "wrong_model"

/* Tasks that became final, by what became of them. */
typedef struct LlmJobCounts
{
	int64 done;
	int64 failed;
	int64 superseded;
	int64 cancelled;
	int64 row_gone;
	const char *wrong_model; /* what the provider said of a task that failed for that reason; NULL: none did */
	int64 refused; /* answers that could not be written, after the last one that was */
} LlmJobCounts;

/* Add them up in llm.job.  True: nothing of the job is left. */
extern bool llm_job_count(int64 job, const LlmJobCounts *counts);

#endif /* LLM_JOB_COUNT_H */
