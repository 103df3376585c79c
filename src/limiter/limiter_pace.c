/*-------------------------------------------------------------------------
 *
 * limiter_pace.c
 *	  The rate that a target accepts, learned where none is told.
 *
 * A provider that allows one request a second, and does not say so, answers the probe
 * after each cool-down and refuses the next request: one 429 per answer.  When several
 * generations in a row end after so few answers, and those before were not much longer,
 * that is no accident.  The number of answers from one probe to the next is what the
 * provider allows in that time, and becomes the pace.  The fastest of these generations
 * counts, since a request that hangs makes one look slow.  The pace is a little below
 * that rate, since some of the answers may come from a small burst allowance.
 *
 * The measured time may be too long (Retry-After has whole seconds).  So a pace that was
 * accepted for a while is raised: doubled until a raise is refused for the first time,
 * then by a tenth, after twice as many answers each time.  A refusal after a raise takes
 * the raise back.  A refusal after few answers without a raise halves the pace, once
 * between two raises.  Any other refusal shows that the rate is not the cause (refusals
 * by chance, others using the same key), and the pace is dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter/limiter_pace.h"

/*
 * A short generation has at most FEW_ANSWERS; SHORT_GENERATIONS in a row make a pace.  If
 * one request in ten is refused by chance, one generation in four is that short, and four
 * in a row happen once in two hundred times.
 */
#define FEW_ANSWERS 3
#define SHORT_GENERATIONS 4

/*
 * Weight of the last generation in the moving average, and the most that one counts for:
 * six generations of one answer bring the average from there to FEW_ANSWERS.
 */
#define AVERAGE_PART 0.25
#define MANY_ANSWERS 12

/* Answers before a pace is raised; fewer if they would take longer than PATIENCE_SECONDS. */
#define PATIENCE 8
#define PATIENCE_LEAST 2
#define PATIENCE_SECONDS 10
#define PATIENCE_MOST 256

/*
 * The slowest pace, per second.  Probes are at most that far apart, and from a slower pace
 * it would take more than a day to recover.
 */
#define SLOWEST (1 / 60.0)

/* The pace as a share of the rate in the fastest short generation. */
#define PACE_PART 0.95

#define FIRST_RAISE 2.0
#define LATER_RAISE 1.1

/* Answers before the pace is raised, as long as no raise was refused. */
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

/* Drop the pace and what was collected to find one. */
static void
forget_pace(LlmLimiter *limiter)
{
	limiter->pace = 0;
	limiter->short_generations = 0;
	limiter->short_pace = 0;
}

/* Without a pace, a generation has ended: its number of answers, and the time from probe to probe. */
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
