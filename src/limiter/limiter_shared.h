/*-------------------------------------------------------------------------
 *
 * limiter_shared.h
 *	  The limiters of all databases, in shared memory: one per (host, key, model),
 *	  since that is what a provider counts.
 *
 *	  sender:      lock()  arithmetic of limiter.h  unlock()
 *	  llm.health:  copy_waiting()
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_SHARED_H
#define LLM_LIMITER_SHARED_H

#include "limiter/limiter.h"

#include "base/shmem.h"

/*
 * The most limiters: in the whole cluster, and those that one role of one database created.
 */
#define LLM_MAX_LIMITERS 1024
#define LLM_MAX_LIMITERS_OF_ROLE 128

typedef struct LlmLimiterSlot
{
	uint64 hash; /* of host, fingerprint and model in full; 0: free */
	Oid database; /* the one that asked for it first */
	Oid role;
	TimestampTz used_at;
	char host[128]; /* shown; cut to fit */
	char model[128];
	LlmLimiter limiter;
} LlmLimiterSlot;

extern const LlmShmemPart llm_limiter_memory;

/*
 * The limiter of (host, key, model).  lock() returns it with the lock held; until unlock()
 * only plain arithmetic is allowed.  When a process exits, its requests in flight are
 * subtracted.
 *
 * If there is none and "create" is set, one is created for the role: in a free slot, or else
 * in one with nothing in flight.  A role at its limit reuses a slot of its own; otherwise a
 * slot that no route waits for, or one of the role that has most.  Returns NULL, without the
 * lock, when there is no such slot or "create" is not set.
 */
extern LlmLimiter *llm_limiter_lock(const char *host, uint64 key_fingerprint, const char *model, Oid role, bool create);
extern void llm_limiter_unlock(void);

/*
 * Copies of the limiters that are shut and were asked for within the last recent_ms.  The
 * array is palloc'ed in the caller's context; returns its length.
 */
extern int llm_limiter_copy_waiting(TimestampTz now, int64 recent_ms, LlmLimiterSlot **copies);

/* Ends the name of the model where its limiter is that of vectors. */
#define LLM_LIMITED_VECTORS " (vectors)"

#endif /* LLM_LIMITER_SHARED_H */
