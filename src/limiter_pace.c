/*-------------------------------------------------------------------------
 *
 * limiter_pace.c
 *	  The rate that a target bears, found out where nobody told one.
 *
 * A provider that allows one request a second, and does not say so, takes the
 * probe after each cool-down and refuses the next request: one 429 for each
 * answer.  When so few were answered some times in a row it is no accident, and what
 * was answered from one probe to the next is what the provider allows in that time:
 * that becomes the pace.
 *
 * The time may have been rounded up (Retry-After has whole seconds), so a pace that
 * was borne for a while is raised: doubled, until a raise is refused for the first
 * time, then by a tenth, after twice as many answers each time.  A refusal after a
 * raise takes it back.  Any other refusal shows that the pace is not what matters
 * (refusals by chance, a key that others use too), and there is none from then on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter_pace.h"

/*
 * Generations of so few answers, in a row.  Where one request in ten is refused by
 * chance, a generation is so short one time in four, four of them once in two hundred.
 */
#define FEW_ANSWERS 3
#define SHORT_GENERATIONS 4

/* Answers at a pace before it is raised. */
#define PATIENCE 8
#define PATIENCE_MOST 256

/*
 * Refused again and again, it gets no slower than that, a second: as far apart are probes at
 * the most, and from slower ones it would not come back in a day.
 */
#define SLOWEST (1 / 60.0)

#define FIRST_RAISE 2.0
#define LATER_RAISE 1.1

void
llm_pace_note_answer(LlmLimiter *limiter)
{
	if (limiter->pace <= 0 || limiter->held_by != LLM_WAIT_REQUESTS)
		return;
	if (++limiter->pace_answers < limiter->pace_patience)
		return;
	limiter->pace_borne = limiter->pace;
	limiter->pace *= (limiter->pace_patience == PATIENCE) ? FIRST_RAISE : LATER_RAISE;
	limiter->pace_answers = 0;
}

/* So many answers from one probe to the next. */
static void
find_pace(LlmLimiter *limiter, int accepted, TimestampTz now)
{
	int64 us = Max(now - limiter->probed_at, 0) + limiter->cooldown_us;

	limiter->pace = 1e6 * accepted / Max(us, 1);
	limiter->pace_patience = PATIENCE;
}

void
llm_pace_note_refusal(LlmLimiter *limiter, int accepted, TimestampTz now)
{
	bool few = (accepted <= FEW_ANSWERS);

	limiter->short_generations = few ? limiter->short_generations + 1 : 0;
	if (limiter->pace_borne > 0)
	{
		limiter->pace = limiter->pace_borne;
		limiter->pace_patience = Min(limiter->pace_patience * 2, PATIENCE_MOST);
	}
	else if (limiter->pace > 0)
	{
		/* refused at once, it was too fast all the same */
		limiter->pace = few ? Max(limiter->pace / 2, Min(limiter->pace, SLOWEST)) : 0;
		limiter->short_generations = 0;
	}
	else if (accepted > 0 && limiter->short_generations >= SHORT_GENERATIONS)
		find_pace(limiter, accepted, now);
	limiter->pace_borne = 0;
	limiter->pace_answers = 0;
}
