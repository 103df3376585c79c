/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  One sender and one writer for a database, whatever shared memory says, and
 *	  nothing written by one that has been replaced (ADR 23).
 *
 *	  enter()    in a transaction at the start; until it is true, nothing else
 *	  check()    in each later transaction, before it changes anything
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FENCE_H
#define LLM_FENCE_H

#include "base/shmem.h"

/*
 * Inside a transaction, with the extension present: become the one of this kind in this
 * database, and take a number that none had before.  False while another process is it.
 * When the transaction is undone, so is this.
 */
extern bool llm_fence_enter(LlmWorkerKind kind);

/*
 * Inside a transaction: does not come back (FATAL) when another process has been the
 * one since enter(), or the extension is not the one that was entered.  True else; false
 * when there is no extension.
 */
extern bool llm_fence_check(void);

#endif /* LLM_FENCE_H */
