/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  The time, and random numbers for jitter, in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CLOCK_H
#define LLM_CLOCK_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

/* Wall clock: what is stored and shown; llm.clock() in SQL.  It may jump, so nothing waits by it. */
extern TimestampTz llm_clock_now(void);

/* The wall clock by which the system's timers go off, which no test can set. */
extern TimestampTz llm_clock_of_timers(void);

/* By shmem.c: where it is kept by how many microseconds now() and steady() are ahead; not 0 in tests only. */
extern void llm_clock_share(pg_atomic_uint64 *ahead);

/* Called by init.c while the library is preloaded: from here on all processes agree on steady(). */
extern void llm_clock_init(void);

/*
 * The time by which everything that waits is decided: that of the wall clock at the
 * server's start, and what a clock that never jumps counted since.  The same in all
 * processes of a server; not to be stored in a table, nor shown.
 */
extern TimestampTz llm_clock_steady(void);

/* A steady time as the wall clock would say it now, and back.  What is not finite stays. */
extern TimestampTz llm_clock_to_wall(TimestampTz steady);
extern TimestampTz llm_clock_from_wall(TimestampTz wall);

/* Was the wall clock set back since this process last asked?  Seconds that NTP takes back are no matter. */
extern bool llm_clock_was_set_back(void);

/* Microseconds of a clock that never jumps: for latencies and limits. */
extern int64 llm_clock_monotonic_us(void);

/* In [0, 1). */
extern double llm_clock_jitter(void);

#endif /* LLM_CLOCK_H */
