/*-------------------------------------------------------------------------
 *
 * rooms_test.c
 *	  The table of limiters: what one role may fill, who makes room when it is full, and
 *	  what a process that dies takes along.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"

#include "base/clock.h"
#include "limiter/limiter_shared.h"

#define SECOND INT64CONST(1000000)
#define KEY UINT64CONST(77)
#define HOST "https://api.example.com"

/* What the file under test has from the server. */
Oid MyDatabaseId = 1;
static LWLockPadded tranche;
static TimestampTz now = INT64CONST(800000000000000);
static pg_on_exit_callback at_exit = NULL;
static bool held = false;

LWLockPadded *
GetNamedLWLockTranche(const char *name)
{
	return &tranche;
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	held = true;
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	held = false;
}

bool
LWLockHeldByMe(LWLock *lock)
{
	return held;
}

void
on_shmem_exit(pg_on_exit_callback function, Datum arg)
{
	at_exit = function;
}

void *
palloc(Size size)
{
	return malloc(size);
}

void
llm_shmem_require_preload(void)
{
}

TimestampTz
llm_clock_steady(void)
{
	return now += 1; /* no two uses are of the same moment */
}

static void
fresh(void)
{
	static void *memory = NULL;

	if (memory != NULL)
		at_exit(0, (Datum) 0);
	free(memory);
	memory = malloc(llm_limiter_memory.size());
	llm_limiter_memory.init(false, memory);
	MyDatabaseId = 1;
}

/* How a role has "n" targets of its own from number "first" on: shut, or with a request in flight; how many got room. */
static int
take(Oid role, int first, int n, bool shut, int in_flight)
{
	int got = 0;

	for (int i = first; i < first + n; i++)
	{
		char model[32];
		LlmLimiter *limiter;

		snprintf(model, sizeof(model), "m-%u-%d", role, i);
		limiter = llm_limiter_lock(HOST, KEY, model, role, true);
		if (limiter == NULL)
			continue;
		limiter->half_open = shut;
		limiter->in_flight = in_flight;
		llm_limiter_unlock();
		got++;
	}
	return got;
}

/* Does the limiter exist?  A look does not count as a use here. */
static bool
has(Oid role, int i)
{
	TimestampTz before = now;
	char model[32];
	LlmLimiter *limiter;

	snprintf(model, sizeof(model), "m-%u-%d", role, i);
	limiter = llm_limiter_lock(HOST, KEY, model, role, false);
	if (limiter == NULL)
		return false;
	llm_limiter_unlock();
	now = before;
	return true;
}

static int
count(Oid role, int n)
{
	int found = 0;

	for (int i = 0; i < n; i++)
		found += has(role, i);
	return found;
}

static void
test_bound(void)
{
	LlmLimiter *limiter;
	int kept;

	fresh();
	take(10, 0, 1, false, 0);
	now += 60 * SECOND; /* nobody asks for it meanwhile */
	is(take(20, 0, 1100, true, 0), 1100, "a role has more targets than it has room for: each has its turn");
	is(count(20, 1100), LLM_MAX_LIMITERS_OF_ROLE, "P6: and it has so many at a time");
	ok(has(10, 0), "P6: what another role's target has learnt stays, though nobody has asked for it for a minute");

	/* a key that changes makes other targets of the same ones */
	fresh();
	take(10, 0, 1, false, 0);
	now += 60 * SECOND;
	for (int key = 0; key < 40; key++)
	{
		for (int i = 0; i < 40; i++)
		{
			limiter = llm_limiter_lock(HOST, KEY + key, i % 2 == 0 ? "even" : "odd", 20, true);
			limiter->half_open = true;
			llm_limiter_unlock();
		}
	}
	kept = 0;
	for (int key = 0; key < 40; key++)
	{
		limiter = llm_limiter_lock(HOST, KEY + key, "odd", 20, false);
		kept += limiter != NULL;
		if (limiter != NULL)
			llm_limiter_unlock();
	}
	is(kept, 40, "a target with another key is another one");
	ok(has(10, 0), "P6: and pushes no other role's away");

	/* the same role elsewhere */
	fresh();
	take(20, 0, LLM_MAX_LIMITERS_OF_ROLE, true, 1);
	is(take(20, 200, 1, false, 0), 0, "a role whose requests are all under way waits for one of them");
	is(take(30, 0, 1, false, 0), 1, "P6: and others do not");
	MyDatabaseId = 2;
	is(take(20, 300, 1, false, 0), 1, "in another database it has others");
}

static void
test_full(void)
{
	int least = LLM_MAX_LIMITERS;

	/* all are waited for: the newcomer takes from those who have most */
	fresh();
	for (Oid role = 1; role <= 8; role++)
		take(role, 0, LLM_MAX_LIMITERS_OF_ROLE, true, 0);
	is(take(9, 0, LLM_MAX_LIMITERS_OF_ROLE, true, 0), LLM_MAX_LIMITERS_OF_ROLE, "a full table has room for one more role");
	for (Oid role = 1; role <= 9; role++)
		least = Min(least, count(role, LLM_MAX_LIMITERS_OF_ROLE));
	ok(least >= LLM_MAX_LIMITERS / 9 / 2, "P6: and all keep at least half of an equal share");

	/* who has one keeps it */
	fresh();
	take(100, 0, 1, true, 0);
	for (Oid role = 1; role <= 8; role++)
		take(role, 0, LLM_MAX_LIMITERS_OF_ROLE, true, 0);
	take(9, 0, 1000, true, 0);
	ok(has(100, 0), "P6: the only target of a role is not given to somebody who has more");

	/* first what is shut and nobody waits for, then what nobody waits for */
	fresh();
	take(100, 0, 1, false, 0);
	take(100, 1, 1, true, 0);
	now += 60 * SECOND;
	for (Oid role = 1; role <= 8; role++)
		take(role, 0, role == 8 ? LLM_MAX_LIMITERS_OF_ROLE - 2 : LLM_MAX_LIMITERS_OF_ROLE, true, 0);
	is(take(9, 0, 1, true, 0), 1, "a newcomer has room");
	ok(has(100, 0) && !has(100, 1), "what is shut and nobody waits for goes first");

	/* what is in flight stays */
	fresh();
	for (Oid role = 1; role <= 8; role++)
		take(role, 0, LLM_MAX_LIMITERS_OF_ROLE, false, 1);
	now += 60 * SECOND;
	is(take(9, 0, 1, false, 0), 0, "nothing is given away that has requests in flight");
	is(count(1, LLM_MAX_LIMITERS_OF_ROLE), LLM_MAX_LIMITERS_OF_ROLE, "and nothing is lost by asking");
	at_exit(0, (Datum) 0);
	is(take(9, 0, 1, false, 0), 1, "P2: what a process had in flight ends with it");
}

static void
test_shown(void)
{
	LlmLimiterSlot *copies = NULL;

	fresh();
	take(10, 0, 3, true, 0);
	take(10, 3, 2, false, 0);
	is(llm_limiter_copy_waiting(now + SECOND, 10000, &copies), 3, "those that are shut are shown");
	free(copies);
	is(llm_limiter_copy_waiting(now + 60 * SECOND, 10000, &copies), 0, "while somebody waits for them");
	free(copies);
}

int
main(void)
{
	test_bound();
	test_full();
	test_shown();
	return finish();
}
