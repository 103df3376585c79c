/*-------------------------------------------------------------------------
 *
 * limiter_shared.c
 *	  The table of limiters in shared memory.
 *
 * A limiter is found by a hash of host, key fingerprint and model in full; the
 * texts beside it are only shown.  One with requests in flight is never given
 * away, so a process can take off what it had in flight when it ends,
 * however it ends: it keeps count of what it changed between lock and unlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"

#include "base/clock.h"
#include "limiter/limiter_shared.h"

/* A sender that waits for a target asks more often than that: ms. */
#define WAITED_FOR_MS 10000

#define MEMORY_NAME LLM_LIBRARY " limiters"

typedef struct SharedLimiters
{
	LWLock *lock; /* of all that follows */
	uint64 hashes[LLM_MAX_LIMITERS]; /* dense, for the search; 0: free */
	LlmLimiterSlot slots[LLM_MAX_LIMITERS];
} SharedLimiters;

static SharedLimiters *shared = NULL;

/* What this process has in flight, and whether it has the probe out, by slot. */
static int my_in_flight[LLM_MAX_LIMITERS];
static bool my_probe[LLM_MAX_LIMITERS];

/* Between lock and unlock: the slot, and what it was at lock. */
static int locked_slot;
static int locked_in_flight;
static bool locked_probing;

static Size
memory_size(void)
{
	return MAXALIGN(sizeof(SharedLimiters));
}

static void
memory_init(bool found, void *memory)
{
	shared = memory;
	if (found)
		return;
	memset(shared, 0, sizeof(SharedLimiters));
	shared->lock = &GetNamedLWLockTranche(MEMORY_NAME)->lock;
}

const LlmShmemPart llm_limiter_memory = {MEMORY_NAME, 1, memory_size, memory_init};

static uint64
hash_target(const char *host, uint64 key_fingerprint, const char *model)
{
	uint64 hash;

	hash = hash_bytes_extended((const unsigned char *) host, strlen(host), key_fingerprint);
	hash = hash_bytes_extended((const unsigned char *) model, strlen(model), hash);
	return (hash == 0) ? 1 : hash; /* 0 marks a free slot */
}

/* Slots by the database that asked for them first. */
static int
count_of(Oid database, Oid role)
{
	int n = 0;

	for (int i = 0; i < LLM_MAX_LIMITERS; i++)
		n += shared->slots[i].hash != 0 && shared->slots[i].database == database && shared->slots[i].role == role;
	return n;
}

/*
 * How little would be lost with it; less than 0: it has requests in flight, and stays.  One that
 * is shut and that nobody waits for goes first; a sender that waits for one that is shut remembers
 * until when (route.c).
 */
static int
dispensability(const LlmLimiterSlot *slot, TimestampTz now)
{
	bool shut = slot->limiter.half_open;
	bool waited_for = now - slot->used_at < WAITED_FOR_MS * INT64CONST(1000);

	if (slot->limiter.in_flight > 0)
		return -1;
	if (!waited_for)
		return shut ? 3 : 2;
	return shut ? 1 : 0;
}

/* May "slot" make room for one of this role, which has so many? */
static bool
may_make_room(const LlmLimiterSlot *slot, Oid role, int own, TimestampTz now)
{
	bool is_own = (slot->database == MyDatabaseId && slot->role == role);

	if (own >= LLM_MAX_LIMITERS_OF_ROLE)
		return is_own;
	return is_own || dispensability(slot, now) >= 2 || count_of(slot->database, slot->role) > own + 1;
}

/* A free slot, or the one to give away, the most dispensable and then the longest unused; -1: none. */
static int
choose_slot(Oid role, TimestampTz now)
{
	int own = count_of(MyDatabaseId, role);
	int chosen = -1;
	int chosen_rank = -1;

	for (int i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		LlmLimiterSlot *slot = &shared->slots[i];
		int rank = slot->hash == 0 ? 0 : dispensability(slot, now);

		if (slot->hash == 0 && own < LLM_MAX_LIMITERS_OF_ROLE)
			return i;
		if (slot->hash == 0 || rank < chosen_rank || rank < 0 ||
			(rank == chosen_rank && slot->used_at >= shared->slots[chosen].used_at) ||
			!may_make_room(slot, role, own, now))
			continue;
		chosen = i;
		chosen_rank = rank;
	}
	return chosen;
}

static int
find_slot(uint64 hash)
{
	for (int i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		if (shared->hashes[i] == hash)
			return i;
	}
	return -1;
}

/* on_shmem_exit: what this process had in flight is taken off. */
static void
abandon(int code, Datum arg)
{
	if (!LWLockHeldByMe(shared->lock))
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		LlmLimiter *limiter = &shared->slots[i].limiter;

		if (my_in_flight[i] != 0)
			limiter->in_flight = Max(limiter->in_flight - my_in_flight[i], 0);
		if (my_probe[i])
			limiter->probing = false;
		my_in_flight[i] = 0;
		my_probe[i] = false;
	}
	LWLockRelease(shared->lock);
}

static void
abandon_at_exit(void)
{
	static bool registered = false;

	if (registered)
		return;
	on_shmem_exit(abandon, (Datum) 0);
	registered = true;
}

LlmLimiter *
llm_limiter_lock(const char *host, uint64 key_fingerprint, const char *model, Oid role, bool create)
{
	uint64 hash = hash_target(host, key_fingerprint, model);
	TimestampTz now = llm_clock_steady();
	LlmLimiterSlot *slot;
	int i;

	llm_shmem_require_preload();
	abandon_at_exit();
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	i = find_slot(hash);
	if (i < 0)
	{
		i = create ? choose_slot(role, now) : -1;
		if (i < 0)
		{
			LWLockRelease(shared->lock);
			return NULL;
		}
		slot = &shared->slots[i];
		memset(slot, 0, sizeof(*slot));
		slot->hash = hash;
		slot->database = MyDatabaseId;
		slot->role = role;
		shared->hashes[i] = hash;
		strlcpy(slot->host, host, sizeof(slot->host));
		strlcpy(slot->model, model, sizeof(slot->model));
	}
	slot = &shared->slots[i];
	slot->used_at = now;
	locked_slot = i;
	locked_in_flight = slot->limiter.in_flight;
	locked_probing = slot->limiter.probing;
	return &slot->limiter;
}

void
llm_limiter_unlock(void)
{
	const LlmLimiter *limiter = &shared->slots[locked_slot].limiter;

	my_in_flight[locked_slot] += limiter->in_flight - locked_in_flight;
	if (limiter->probing != locked_probing)
		my_probe[locked_slot] = limiter->probing;
	LWLockRelease(shared->lock);
}

/* Is the target shut, and somebody waiting for it? */
static bool
is_waited_for(const LlmLimiterSlot *slot, TimestampTz now, int64 recent_ms)
{
	return now - slot->used_at < recent_ms * INT64CONST(1000) &&
		   (slot->limiter.half_open || slot->limiter.pause_class != LLM_OK);
}

int
llm_limiter_copy_waiting(TimestampTz now, int64 recent_ms, LlmLimiterSlot **copies)
{
	int n = 0;

	*copies = palloc(sizeof(LlmLimiterSlot) * LLM_MAX_LIMITERS);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < LLM_MAX_LIMITERS; i++)
	{
		if (is_waited_for(&shared->slots[i], now, recent_ms))
			(*copies)[n++] = shared->slots[i];
	}
	LWLockRelease(shared->lock);
	return n;
}
