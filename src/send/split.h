/*-------------------------------------------------------------------------
 *
 * split.h
 *	  Tasks of requests that were refused as a whole: they go again in parts.
 *
 *	  split()   as the request lands: each of its tasks is of the first or the second half from now on
 *	  part()    as tasks are claimed: those of one part go together, and with no others
 *	  forget()  the task has an end
 *
 * Only the sender's memory knows of parts.  What is forgotten, by a crash or for want of room,
 * goes with others again and may be split once more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPLIT_H
#define LLM_SPLIT_H

#include "base/llm_enrich.h"

#include "send/flight.h"

extern void llm_split(const LlmRequest *request);

/* 0: the task is of no part. */
extern uint64 llm_split_part(int64 task);
extern void llm_split_forget(int64 task);

#endif /* LLM_SPLIT_H */
