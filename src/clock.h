/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  The time, and random numbers for jitter, in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CLOCK_H
#define LLM_CLOCK_H

#include "llm_enrich.h"

#include "datatype/timestamp.h"

/* Wall clock: what is stored and shown. */
extern TimestampTz llm_clock_now(void);

/* Microseconds of a clock that never jumps: for latencies and limits. */
extern int64 llm_clock_monotonic_us(void);

/* In [0, 1). */
extern double llm_clock_jitter(void);

#endif /* LLM_CLOCK_H */
