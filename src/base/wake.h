/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Wake a worker of this database when the current transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WAKE_H
#define LLM_WAKE_H

#include "base/llm_enrich.h"

#include "base/shmem.h"

/*
 * One latch per transaction and kind, however often it is called; nothing at all
 * when the transaction aborts.  PREPARE TRANSACTION carries no wake: COMMIT
 * PREPARED does (utility.c).
 */
extern void llm_wake_at_commit(LlmWorkerKind kind);

/* The same where the extension is known to be in this database, and nothing elsewhere. */
extern void llm_wake_known_at_commit(LlmWorkerKind kind);

#endif /* LLM_WAKE_H */
