/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  One row per HTTP request and task, and the running cost of each job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LEDGER_H
#define LLM_LEDGER_H

#include "llm_enrich.h"

#include "queue.h"

/*
 * Book requests.  Cost is tokens times the price in force when they were sent,
 * in exact numeric dollars; NULL when no price is known and there were tokens.
 */
extern void llm_ledger_record(LlmSettlement **settlements, int n);

/* Cost of a task's last request in dollars as text, or NULL; for llm.check(). */
extern char *llm_ledger_cost(int64 task);

#endif /* LLM_LEDGER_H */
