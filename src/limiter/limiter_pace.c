/*-------------------------------------------------------------------------
 *
 * limiter_pace.c
 *	  The rate that a target bears, found out where nobody told one.
 *
 * A provider that allows one request a second, and does not say so, takes the
 * probe after each cool-down and refuses the next request: one 429 for each
 * answer.  When so few were answered some times in a row, and not many more before,
 * it is no accident, and what was answered from one probe to the next is what the
 * provider allows in that time: that becomes the pace.  Of those times the fastest
 * counts, since a request that hangs makes one long; and a little less of it, since
 * what a small burst leaves over is answered besides.
 *
 * The time may have been rounded up (Retry-After has whole seconds), so a pace that
 * was borne for a while is raised: doubled, until a raise is refused for the first
 * time, then by a tenth, after twice as many answers each time.  A refusal after a
 * raise takes it back.  A refusal without one, after few answers, halves the pace,
 * once before it is raised again.  Any other refusal shows that the pace is not what
 * matters (refusals by chance, a key that others use too), and there is none from then on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter/limiter_pace.h"

/*
 * Generations of so few answers, in a row.  Where one request in ten is refused by
 * chance, a generation is so short one time in four, four of them once in two hundred.
 */
#define FEW_ANSWERS 3
#define SHORT_GENERATIONS 4

/*
 * The last generation's part in the average, in which none counts for more than so many
 * answers: six of one answer each bring it from there to FEW_ANSWERS.
 */
#define AVERAGE_PART 0.25
#define MANY_ANSWERS 12

/* Answers at a pace before it is raised; fewer where they would take longer than that, in seconds. */
#define PATIENCE 8
#define PATIENCE_LEAST 2
#define PATIENCE_SECONDS 10
#define PATIENCE_MOST 256

/*
 * Halved again and again, it gets no slower than that, a second: as far apart are probes at
 * the most, and from slower ones it would not come back in a day.
 */
#define SLOWEST (1 / 60.0)

/* So much of the fastest short generation is the pace. */
#define PACE_PART 0.95

#define FIRST_RAISE 2.0
#define LATER_RAISE 1.1

/* How many answers a pace is to be borne for, as long as no raise was refused. */
static int
first_patience(double pace)
{
	return (int) Max(PATIENCE_LEAST, Min(PATIENCE, PATIENCE_SECONDS * pace));
}

void
llm_pace_note_answer(LlmLimiter *limiter)
{
	if (limiter->pace <= 0 || limiter->held_by != LLM_WAIT_REQUESTS)
		return;
	if (++limiter->pace_answers < limiter->pace_patience)
		return;
	limiter->pace_borne = limiter->pace;
	limiter->pace *= limiter->pace_met ? LATER_RAISE : FIRST_RAISE;
	limiter->pace_answers = 0;
	limiter->pace_halved = false;
	if (!limiter->pace_met)
		limiter->pace_patience = first_patience(limiter->pace);
}

/* No pace, and nothing that tells one. */
static void
forget_pace(LlmLimiter *limiter)
{
	limiter->pace = 0;
	limiter->short_generations = 0;
	limiter->short_pace = 0;
}

/* A generation has ended where there is no pace: after so many answers, in this time from probe to probe. */
static void
look_for_pace(LlmLimiter *limiter, int accepted, int64 us)
{
	double answers = Min(accepted, MANY_ANSWERS);
	double average = limiter->generation_answers;

	average = average <= 0 ? answers : average + AVERAGE_PART * (answers - average);
	limiter->generation_answers = average;
	if (accepted > FEW_ANSWERS)
	{
		forget_pace(limiter);
		return;
	}
	limiter->short_generations++;
	limiter->short_pace = Max(limiter->short_pace, 1e6 * accepted / Max(us, 1));
	if (limiter->short_generations < SHORT_GENERATIONS || limiter->short_pace <= 0 ||
		average > FEW_ANSWERS + 0.1)
		return;
	limiter->pace = PACE_PART * limiter->short_pace;
	limiter->pace_patience = first_patience(limiter->pace);
	limiter->pace_met = false;
	limiter->pace_halved = false;
}

void
llm_pace_note_refusal(LlmLimiter *limiter, int accepted, TimestampTz now)
{
	if (limiter->pace <= 0)
		look_for_pace(limiter, accepted, Max(now - limiter->probed_at, 0) + limiter->cooldown_us);
	else if (limiter->pace_borne > 0)
	{
		limiter->pace = limiter->pace_borne;
		limiter->pace_patience = Min(Max(limiter->pace_patience, PATIENCE) * 2, PATIENCE_MOST);
		limiter->pace_met = true;
	}
	else if (accepted <= FEW_ANSWERS && !limiter->pace_halved)
	{
		limiter->pace = Max(limiter->pace / 2, Min(limiter->pace, SLOWEST));
		limiter->pace_halved = true;
	}
	else
		forget_pace(limiter);
	limiter->pace_borne = 0;
	limiter->pace_answers = 0;
}
