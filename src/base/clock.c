/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The time, and random numbers for jitter.
 *
 * Code that decides by the time takes "now" as an argument, so that a test can be
 * its clock; only the loops at the top call this.
 *
 * A test of the whole can set the clock forward for all processes of a server, so that it need
 * not wait for what happens once a minute or once a day (test_api.c).  What a machine does
 * in the meantime it does not do: time-outs of the system, of HTTP and of PostgreSQL stay true.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "port/atomics.h"
#include "utils/timestamp.h"

#include "base/clock.h"

/* A step of the wall clock that is smaller is none: time daemons make them all the time. */
#define STEP_US INT64CONST(1000000)

/*
 * Wall clock minus monotonic clock at the server's start, inherited by all its processes;
 * 0: not asked yet.
 */
static int64 started_us = 0;

/* Wall clock minus monotonic clock when this process last looked for a step. */
static int64 seen_us = 0;

/* How far a test has set the clock forward, in microseconds, in shared memory; NULL: there is none. */
static pg_atomic_uint64 *ahead_us = NULL;

void
llm_clock_share(pg_atomic_uint64 *ahead)
{
	ahead_us = ahead;
}

static int64
ahead(void)
{
	return ahead_us == NULL ? 0 : (int64) pg_atomic_read_u64(ahead_us);
}

TimestampTz
llm_clock_now(void)
{
	return GetCurrentTimestamp() + ahead();
}

TimestampTz
llm_clock_of_timers(void)
{
	return GetCurrentTimestamp();
}

void
llm_clock_init(void)
{
	started_us = GetCurrentTimestamp() - llm_clock_monotonic_us();
	seen_us = started_us;
}

TimestampTz
llm_clock_steady(void)
{
	if (started_us == 0)
		llm_clock_init();
	return llm_clock_monotonic_us() + started_us + ahead();
}

/* How far the wall clock has moved against the monotonic one since the server's start. */
static int64
moved_us(void)
{
	if (started_us == 0)
		llm_clock_init();
	return GetCurrentTimestamp() - llm_clock_monotonic_us() - started_us;
}

TimestampTz
llm_clock_to_wall(TimestampTz steady)
{
	return TIMESTAMP_NOT_FINITE(steady) ? steady : steady + moved_us();
}

TimestampTz
llm_clock_from_wall(TimestampTz wall)
{
	return TIMESTAMP_NOT_FINITE(wall) ? wall : wall - moved_us();
}

bool
llm_clock_was_set_back(void)
{
	int64 now_us = GetCurrentTimestamp() - llm_clock_monotonic_us();
	bool set_back = now_us < seen_us - STEP_US;

	seen_us = now_us;
	return set_back;
}

int64
llm_clock_monotonic_us(void)
{
	struct timespec ts;

	/* cannot fail for this clock: POSIX has it wherever PostgreSQL runs */
	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * INT64CONST(1000000) + ts.tv_nsec / 1000;
}

double
llm_clock_jitter(void)
{
	return pg_prng_double(&pg_global_prng_state);
}
