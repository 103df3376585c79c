/*-------------------------------------------------------------------------
 *
 * committing.h
 *	  Transactions that others see as committed before they have heard all of it.
 *
 *	  backend:  begin() before the commit, end() when its locks are released
 *	  sender:   await() after it has read rows, before it acts on them
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_COMMITTING_H
#define LLM_COMMITTING_H

#include "base/shmem.h"

extern const LlmShmemPart llm_committing_memory;

/* The transaction of this process is about to commit; nothing where it wrote nothing. */
extern void llm_committing_begin(void);

/* This process is about to commit what was prepared by that name; nothing where nothing was. */
extern void llm_committing_begin_prepared(const char *gid);

/* Its end, however it ended; harmless without begin(). */
extern void llm_committing_end(void);

/*
 * After this, and AcceptInvalidationMessages(), catalogs are known as they were left by every
 * transaction of this database that called begin() and of which a statement before has shown a
 * row.  Inside a transaction; waits for what another process has still to do of a commit.
 */
extern void llm_committing_await(void);

#endif /* LLM_COMMITTING_H */
