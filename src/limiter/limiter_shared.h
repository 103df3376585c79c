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
 * Targets with requests in flight or limits to remember: in the whole cluster, and those that
 * one role of one database was the first to ask for.
 */
#define LLM_MAX_LIMITERS 1024
#define LLM_MAX_LIMITERS_OF_ROLE 128

typedef struct LlmLimiterSlot
{
	uint64 hash; /* of host, fingerprint and model in full; 0: free */
	Oid database; /* who asked for it first */
	Oid role;
	TimestampTz used_at;
	char host[128]; /* shown; cut to fit */
	char model[128];
	LlmLimiter limiter;
} LlmLimiterSlot;

extern const LlmShmemPart llm_limiter_memory;

/*
 * The limiter of (host, key, model).  lock() returns it with the lock held: plain arithmetic
 * only until unlock().  What a process has in flight when it exits is taken off again.
 *
 * Where there is none it is created for the role, in a free slot; or else in one that has
 * nothing in flight: of the role's own when it has as many as it may, otherwise one that
 * nobody waits for, or one of the role with the most.  NULL, and no lock is held, when no
 * such slot is there or none is to be created.
 */
extern LlmLimiter *llm_limiter_lock(const char *host, uint64 key_fingerprint, const char *model, Oid role, bool create);
extern void llm_limiter_unlock(void);

/*
 * Copies of those that are shut and that somebody asked for within recent_ms before now, in
 * an array palloc'ed in the caller's context; returns their number.
 */
extern int llm_limiter_copy_waiting(TimestampTz now, int64 recent_ms, LlmLimiterSlot **copies);

#endif /* LLM_LIMITER_SHARED_H */
