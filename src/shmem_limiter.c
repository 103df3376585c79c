/*-------------------------------------------------------------------------
 *
 * shmem_limiter.c
 *	  The table of limiters in shared memory.
 *
 * A limiter is found by a hash of host, key fingerprint and model in full; the
 * texts beside it are only shown.  One with requests in flight or a pause is never
 * given away, so a process can take off what it had in flight when it ends,
 * however it ends: it keeps count of what it changed between lock and unlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "clock.h"
#include "shmem_layout.h"

#define LIMITER_SPARE LLM_MAX_LIMITERS

/* What this process has in flight, and whether it has the probe out, by slot. */
static int my_in_flight[LLM_MAX_LIMITERS + 1];
static bool my_probe[LLM_MAX_LIMITERS + 1];

/* Between lock and unlock: the slot, and what it was at lock. */
static int locked_slot;
static int locked_in_flight;
static bool locked_probing;

static uint64
hash_target(const char *host, uint64 key_fingerprint, const char *model)
{
	uint64 hash;

	hash = hash_bytes_extended((const unsigned char *) host, strlen(host), key_fingerprint);
	hash = hash_bytes_extended((const unsigned char *) model, strlen(model), hash);
	return (hash == 0) ? 1 : hash; /* 0 marks a free slot */
}

/* Little would be forgotten with it: its buckets have filled up long ago, and it would be asked as a fresh one. */
static bool
is_idle(const LlmLimiter *limiter, TimestampTz now)
{
	return limiter->in_flight == 0 && limiter->not_before <= now &&
		   (limiter->pause_class == LLM_OK || limiter->paused_until <= now);
}

/* A free slot, else the idle one unused for longest, else the one that is shared. */
static int
choose_slot(TimestampTz now)
{
	int chosen = LIMITER_SPARE;
	int i;

	for (i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		LlmLimiterSlot *slot = &llm_shared->limiters[i];

		if (slot->hash == 0)
			return i;
		if (is_idle(&slot->limiter, now) &&
			(chosen == LIMITER_SPARE || slot->used_at < llm_shared->limiters[chosen].used_at))
			chosen = i;
	}
	return chosen;
}

static int
find_slot(uint64 hash)
{
	int i;

	for (i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		if (llm_shared->limiter_hashes[i] == hash)
			return i;
	}
	return -1;
}

LlmLimiter *
llm_shmem_limiter_lock(const char *host, uint64 key_fingerprint, const char *model)
{
	uint64 hash = hash_target(host, key_fingerprint, model);
	TimestampTz now = llm_clock_steady();
	LlmLimiterSlot *slot;
	int i;

	llm_shmem_require_preload();
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	i = find_slot(hash);
	if (i < 0)
	{
		i = choose_slot(now);
		slot = &llm_shared->limiters[i];
		if (i != LIMITER_SPARE)
		{
			memset(slot, 0, sizeof(*slot));
			slot->hash = hash;
			llm_shared->limiter_hashes[i] = hash;
		}
		strlcpy(slot->host, host, sizeof(slot->host));
		strlcpy(slot->model, model, sizeof(slot->model));
	}
	slot = &llm_shared->limiters[i];
	slot->used_at = now;
	locked_slot = i;
	locked_in_flight = slot->limiter.in_flight;
	locked_probing = slot->limiter.probing;
	return &slot->limiter;
}

void
llm_shmem_limiter_unlock(void)
{
	const LlmLimiter *limiter = &llm_shared->limiters[locked_slot].limiter;

	my_in_flight[locked_slot] += limiter->in_flight - locked_in_flight;
	if (limiter->probing != locked_probing)
		my_probe[locked_slot] = limiter->probing;
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_limiter_abandon(void)
{
	int i;

	for (i = 0; i <= LLM_MAX_LIMITERS; i++)
	{
		LlmLimiter *limiter = &llm_shared->limiters[i].limiter;

		if (my_in_flight[i] != 0)
			limiter->in_flight = Max(limiter->in_flight - my_in_flight[i], 0);
		if (my_probe[i])
			limiter->probing = false;
		my_in_flight[i] = 0;
		my_probe[i] = false;
	}
}
