/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The time, and random numbers for jitter.
 *
 * Whoever decides by the time takes "now" as an argument, so that a test can be
 * its clock; only the loops at the top call this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "clock.h"

TimestampTz
llm_clock_now(void)
{
	return GetCurrentTimestamp();
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
