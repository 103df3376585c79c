/*-------------------------------------------------------------------------
 *
 * limiter_window.c
 *	  How many requests may be in flight to a target.
 *
 * A window of requests, as TCP has one of bytes.  It begins with one request, and
 * with one more after its answer; then two leave at once, and no more until that was
 * borne.  So a wrong key, and a provider that takes no two requests at a time, have
 * no more than one to refuse.  After that the window grows fourfold each round trip,
 * up to half of where a refusal was met before, and from there by one each round
 * trip.  Only what the window held back makes it grow.
 *
 * A model takes seconds to answer, but a provider refuses at once.  So half a
 * second in which nothing came back counts as a round of good answers, or one
 * slow answer would keep all others waiting.
 *
 * What was in flight when the circuit opened takes no place in the window: it may
 * hang for minutes, and would keep those out that are to show how the target is now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter/limiter_window.h"

/* A refusal is back by then, as a rule. */
#define SILENCE_US INT64CONST(500000)

/* A window of this size has borne two requests at once. */
#define SMALL 4.0

/* For each answer while it grows fast, and is not small: fourfold a round trip. */
#define FAST_STEP 3.0

/* A refusal with fewer in flight tells of a rate, not of a number at a time. */
#define NARROWED_FROM 4

/* The second answer of a generation is the first to a request that was not sent to try. */
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
 * Grow by so much, as far as there is any use in it.  A window as wide as the limit has
 * overcome what once narrowed it.
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
