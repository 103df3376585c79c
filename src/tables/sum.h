/*-------------------------------------------------------------------------
 *
 * sum.h
 *	  The ledger, summed by time and dimensions, for llm.bill().
 *
 *	  sender:  llm_sum_ledger()   in a transaction of its pass, from time to time
 *	           llm_sum_wasted()   in one of its pass
 *	  writer:  llm_sum_ended()    in the transaction that makes tasks final
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SUM_H
#define LLM_SUM_H

#include "tables/job_count.h"
#include "tables/queue.h"

/*
 * Sum at most "limit" rows of the ledger that are not summed yet, and say how many: less than that, too, where the
 * last request may have more.  Are there more?
 */
extern bool llm_sum_ledger(int64 limit, int64 *summed);

/*
 * Add tasks of a job that have become final: how many ended how, and what was paid for good
 * answers of those that are not done.  "tasks" is an array of int8, "fates" one of text beside
 * it: done, failed, superseded, cancelled or row_gone.
 */
extern void llm_sum_ended(int64 job, const LlmJobCounts *counts, Datum tasks, Datum fates);

/* An immediate call got an answer at this cost, a number of US dollars, of which nobody has any use. */
extern void llm_sum_wasted(const LlmLetterFacts *letter, const char *cost);

#endif /* LLM_SUM_H */
