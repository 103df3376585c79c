/*-------------------------------------------------------------------------
 *
 * limiter_blame.h
 *	  Whose fault a refusal is: the target's, or that of the row that was asked about.
 *
 * A 401 may mean that the key is wrong, or that a firewall dislikes one text; a 503 that
 * the provider is overloaded, or that it answers one request in a hundred so on any day.
 * That the target is to blame is a hypothesis, which one success refutes:
 *
 *	  a row refused for the first time    blames the target, unless passes have paid for it
 *	  the probe after that                is of another row (refused.c)
 *	    it passes                         what was refused before is suspect: its own fault, perhaps
 *	    it is refused, too                the target stays shut, for longer
 *	  a suspect is refused again          counts against the row, and not against the target
 *	  a row never refused before is       nothing counts against any row
 *	    refused, and nothing passed since
 *
 * Passes pay for refusals where these have been seen not to depend on us: for a key, when a
 * shut target answered its first probe; for limits, when refusals came at clearly different
 * numbers in flight, each for itself.  An untold 503 is paid for from the beginning, by twenty
 * passes.  When refusals become more than the passes pay for, the target is to blame again,
 * and more is needed the next time.
 *
 *	  judge()      at each refusal, before settle() or settle_row()
 *	  note_pass()  at each other answer, after settle()
 *
 * Pure, as limiter.h; the caller holds the limiter's lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_BLAME_H
#define LLM_LIMITER_BLAME_H

#include "limiter/limiter.h"

typedef enum LlmBlame
{
	LLM_BLAME_TARGET, /* settle() */
	LLM_BLAME_IN_DOUBT, /* settle(), and shorten_pause() by llm_blame_doubt_ms(): it answered others lately */
	LLM_BLAME_ROW /* settle_row() */
} LlmBlame;

/* A refused request, and what is known of its row.  All zero for a row that was not refused before. */
typedef struct LlmRefusal
{
	uint64 row; /* any number that is the row's alone; not 0 */
	TimestampTz sent_at; /* of this request */
	int64 told_ms; /* Retry-After; -1 when not told */
	TimestampTz first_sent_at; /* of the row's first request that was refused */
	TimestampTz refused_at; /* the last time before; 0: never */
	bool suspect; /* something passed after it had been refused; judge() brings it up to date */
	int counts; /* set by judge(): so many refusals count against the row now, this one and perhaps the last one */
} LlmRefusal;

extern LlmBlame llm_blame_judge(LlmLimiter *limiter, LlmErrorClass class, uint32 generation,
								LlmRefusal *refusal, TimestampTz now);

/* How long a target that is shut in doubt stays so: ms. */
extern int64 llm_blame_doubt_ms(const LlmLimiter *limiter);

/* A request of this generation that left at sent_at was answered, for good or bad, and not refused. */
extern void llm_blame_note_pass(LlmLimiter *limiter, uint32 generation, TimestampTz sent_at);

/* The part of rows that were refused lately, each counted once; more than 0, less than 1. */
extern double llm_blame_share(const LlmLimiter *limiter);

/* The row that the target was shut for is at fault itself: one request may try. */
extern void llm_blame_absolve(LlmLimiter *limiter, uint64 row, TimestampTz now);

#endif /* LLM_LIMITER_BLAME_H */
