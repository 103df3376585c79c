/*-------------------------------------------------------------------------
 *
 * confirm.h
 *	  What a statement has bound is estimated, and waits where it is dear
 *	  (llm_enrich.confirm_above).
 *
 *	  look()      for each set
 *	  estimate()  the statement is over, its last set is not written
 *	  settle()    it is
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CONFIRM_H
#define LLM_CONFIRM_H

#include "base/llm_enrich.h"

#include "bind/enqueue.h"

/* Count those of the tasks that will be asked, and look up which have a kept answer: some of many. */
extern void llm_confirm_look(const LlmNewTask *tasks, int ntasks, List *jobs);

/*
 * Fill in estimated_cost of the jobs, and is_unconfirmed where the statement may cost more than
 * the user wants to spend unasked.
 */
extern void llm_confirm_estimate(List *jobs);

/* Store that, and tell of what waits. */
extern void llm_confirm_settle(List *jobs);

#endif /* LLM_CONFIRM_H */
