/*-------------------------------------------------------------------------
 *
 * limiter_window.c
 *	  How many requests may be in flight to a target.
 *
 * A window of requests, as TCP has one of bytes.  One request leaves first, and one more
 * after its answer; then two leave at once, and no more until these were accepted.  So
 * with a wrong key, or a provider that refuses parallel requests, only one request is
 * refused.  After that the window grows fourfold each round trip up to half of the number
 * at which a refusal came before, and from there by one each round trip.  It grows only
 * when the window is what holds requests back.
 *
 * A model takes seconds to answer, but a provider refuses at once.  So half a second
 * without any answer counts as a round of good answers; otherwise one slow answer would
 * keep all others waiting.
 *
 * Requests that were in flight when the circuit opened take no place in the window.  They
 * may hang for minutes, and would block those that show how the target is now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter/limiter_window.h"

/* By this time a refusal has usually come back. */
#define SILENCE_US INT64CONST(500000)

/* A window of this size has had two requests at once accepted. */
#define SMALL 4.0

/* Growth per answer while it grows fast and is not small: fourfold each round trip. */
#define FAST_STEP 3.0

/* A refusal with fewer in flight is about the rate, not about the number in flight. */
#define NARROWED_FROM 4

/* The first answer of a generation is the probe's; growth starts with the second. */
#define ANSWERS_TO_TRUST 2

void
llm_window_begin(LlmLimiter *limiter, TimestampTz now)
{
	limiter->window = 1;
	limiter->occupied = 0;
	limiter->quiet_since = now;
}

static bool
grows_fast(const LlmLimiter *limiter)
{
	return limiter->threshold <= 0 || limiter->window < limiter->threshold;
}

/*
 * Grow, at most to the limit.  A window as wide as the limit forgets what once narrowed it.
 */
static void
widen(LlmLimiter *limiter, double by)
{
	double most = limiter->concurrency > 0 ? limiter->concurrency : PG_INT32_MAX;
	double goal = limiter->window + by;

	if (limiter->threshold > 0 && grows_fast(limiter))
		goal = Min(goal, limiter->threshold);
	limiter->window = Max(limiter->window, Min(goal, most));
	if (limiter->window >= most)
		limiter->threshold = 0;
}

TimestampTz
llm_window_hear_silence(LlmLimiter *limiter, TimestampTz now)
{
	if (!grows_fast(limiter) || limiter->window >= limiter->concurrency)
		return DT_NOEND;
	limiter->quiet_since = Min(limiter->quiet_since, now);
	if (limiter->occupied > 0 && now - limiter->quiet_since >= SILENCE_US)
	{
		/* from one to two, so that one more leaves; from two to four, so that two leave at once */
		widen(limiter, limiter->window < SMALL ? limiter->window : FAST_STEP * limiter->window);
		limiter->quiet_since = now;
	}
	return limiter->quiet_since + SILENCE_US;
}

void
llm_window_note_answer(LlmLimiter *limiter)
{
	if (limiter->accepted < ANSWERS_TO_TRUST || limiter->held_by != LLM_WAIT_CONCURRENCY)
		return;
	if (!grows_fast(limiter))
		widen(limiter, 1.0 / limiter->window);
	else
		widen(limiter, limiter->window < SMALL ? 1.0 : FAST_STEP);
}

void
llm_window_narrow(LlmLimiter *limiter)
{
	if (limiter->occupied >= NARROWED_FROM)
		limiter->threshold = limiter->occupied / 2;
}
