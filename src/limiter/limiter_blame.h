/*-------------------------------------------------------------------------
 *
 * limiter_blame.h
 *	  Whose fault a refusal is: the target's, or that of the row that was asked about.
 *
 * A 401 may mean that the key is wrong, or that a firewall dislikes one text.  A 503 may
 * mean overload, or be one of the few that some providers always send.  That the target is
 * to blame is a hypothesis, and one success refutes it (ADR 40).  A "pass" is an answer that
 * is no refusal.
 *
 *	  a row is refused for the first time   the target is blamed, unless there is credit
 *	  the next probe                        takes another row (refused.c)
 *	    it passes                           the row refused before is now suspect
 *	    it is refused, too                  the target stays shut, for longer
 *	  a suspect is refused again            counts against the row, not against the target
 *	  another new row is refused, and       counts against no row
 *	    nothing has passed in between
 *
 * Credit: where refusals have been seen not to depend on what we send, each pass earns a part
 * of a refusal that is put down to chance.  For a key this is so once a shut target answered
 * its first probe; for limits, once single refusals came at clearly different numbers in
 * flight.  For a 503 without a told time it is so from the start: twenty passes earn one.
 * When refusals use up the credit, the target is blamed again, and more evidence is needed
 * the next time.  A refused key, quota or model is not put down to chance where a row is refused again
 * and nothing has passed since (ADR 117).
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

/* A refused request, and what is known of its row.  All zero for a row that was never refused. */
typedef struct LlmRefusal
{
	uint64 row; /* a number unique to the row; not 0 */
	TimestampTz sent_at; /* of this request */
	int64 told_ms; /* Retry-After; -1 when not told */
	TimestampTz first_sent_at; /* of the row's first request that was refused */
	TimestampTz refused_at; /* the last time before; 0: never */
	bool suspect; /* something passed after it had been refused; judge() brings it up to date */
	int counts; /* set by judge(): refusals that count against the row now, this one and perhaps the last one */
} LlmRefusal;

extern LlmBlame llm_blame_judge(LlmLimiter *limiter, LlmErrorClass class, uint32 generation,
								LlmRefusal *refusal, TimestampTz now);

/* For how many ms a target is shut that may not be to blame. */
extern int64 llm_blame_doubt_ms(const LlmLimiter *limiter);

/* A request of this generation, sent at sent_at, was answered and not refused, whatever the answer. */
extern void llm_blame_note_pass(LlmLimiter *limiter, uint32 generation, TimestampTz sent_at);

/* The share of rows refused recently, each counted once; between 0 and 1, both excluded. */
extern double llm_blame_share(const LlmLimiter *limiter);

/* The row for which the target was shut is itself at fault: let a probe leave at once. */
extern void llm_blame_absolve(LlmLimiter *limiter, uint64 row, TimestampTz now);

#endif /* LLM_LIMITER_BLAME_H */
