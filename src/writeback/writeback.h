/*-------------------------------------------------------------------------
 *
 * writeback.h
 *	  Put settled tasks into their cells, with the rights of the roles that asked.
 *
 *	  init()   once, in the writer
 *	  pass()   then, again and again: some sets of rows of some dozens of jobs,
 *	           and one of a slow table
 *
 * pass() opens and ends its own transactions; none of them lasts longer than
 * llm_enrich.writeback_timeout.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_H
#define LLM_WRITEBACK_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

typedef enum LlmPassResult
{
	LLM_PASS_WORKED, /* a round through all jobs is over, and rows moved in it: come again soon */
	LLM_PASS_GO_ON, /* a round is not over: come again at once */
	LLM_PASS_NOTHING, /* nothing can be done before *wake_at */
	LLM_PASS_EMPTY, /* as above, and the queue is empty */
	LLM_PASS_NO_EXTENSION /* the extension is not here any more */
} LlmPassResult;

extern void llm_writeback_init(void);

/*
 * *wake_at is DT_NOEND when only a latch can bring work.  ask_empty: the answer may be
 * EMPTY, which costs a look at the whole queue where it is full of dead rows.
 */
extern LlmPassResult llm_writeback_pass(bool ask_empty, TimestampTz *wake_at);

#endif /* LLM_WRITEBACK_H */
