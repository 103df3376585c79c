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
 * A faster target with a small burst ends its generations after some tens of answers: a window lets
 * requests leave together, which overruns the burst long before the rate is used.  There, unless refusals
 * tell a time to wait, a pace is kept from the first such generation on.  It begins with the rate of that
 * generation's answers and is doubled until it is refused, then goes halfway between what was borne and
 * what was refused, and, once these are close, up by little steps that grow while none is refused.  Requests
 * leave evenly, so the number in flight need not be searched again after a refusal.  Refusals that come
 * soon, or of a pace that was borne, are doubts that the rate is the cause; with too many of them the pace
 * is given up for a while.
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

/*
 * A pace is kept after a generation of more answers than KEPT_FROM.  With more than KEPT_TO, the target has a large
 * burst, or counts by windows, and is used well without.
 */
#define KEPT_FROM 8
#define KEPT_TO 300

/* How long a kept pace is tried before it is raised, while it is searched and when it is found; seconds. */
#define SEARCH_S 0.15
#define HELD_S 1.0

/* Closer than this to what was refused, the search is over; then it is raised by so much, and twice that next. */
#define NEAR_TOP 0.96
#define RISE 0.02
#define MOST_RISES 5

/* A kept pace that is refused without a raise comes down to what was answered meanwhile, within these bounds. */
#define CUT_LEAST 0.97
#define CUT_MOST 0.6

/*
 * A refusal before FEW_KEPT answers is one doubt, that of a pace that was borne two; one
 * after KEPT_TO answers takes all away.  With more than MOST_DOUBTS the pace is given up, and so many refusals,
 * twice as many the next time, begin no new one.
 */
#define FEW_KEPT 40
#define MOST_DOUBTS 12
#define FIRST_SPARED 32
#define MOST_SPARED 4096

/* The slowest pace that is kept, per second: slower targets end their generations after few answers. */
#define KEPT_LEAST 20

/* Answers before the pace is raised, as long as no raise was refused. */
static int
first_patience(double pace)
{
	return (int) Max(PATIENCE_LEAST, Min(PATIENCE, PATIENCE_SECONDS * pace));
}

/* Count answers from here: a pace that was found is tried for longer than one that is searched. */
static void
keep_trying(LlmLimiter *limiter)
{
	bool found = limiter->pace_top > 0 && limiter->pace >= NEAR_TOP * limiter->pace_top;

	limiter->pace_answers = 0;
	limiter->pace_patience = (int) Max(PATIENCE, limiter->pace * (found ? HELD_S : SEARCH_S));
}

/* A kept pace was borne for long enough. */
static void
raise_kept(LlmLimiter *limiter)
{
	double pace = limiter->pace;

	limiter->pace_borne = pace;
	if (limiter->pace_top <= 0)
		limiter->pace = pace * FIRST_RAISE;
	else if (pace < NEAR_TOP * limiter->pace_top)
		limiter->pace = (pace + limiter->pace_top) / 2;
	else
	{
		limiter->pace = pace * (1 + RISE * (1 << limiter->pace_rises));
		limiter->pace_rises = Min(limiter->pace_rises + 1, MOST_RISES);
	}
	keep_trying(limiter);
}

void
llm_pace_note_answer(LlmLimiter *limiter)
{
	if (limiter->pace <= 0 || limiter->held_by != LLM_WAIT_REQUESTS)
		return;
	if (++limiter->pace_answers < limiter->pace_patience)
		return;
	if (limiter->pace_kept)
	{
		raise_kept(limiter);
		return;
	}
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
	limiter->pace_kept = false;
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

/* A generation of many answers has ended: the pace that they came at is where the search begins. */
static bool
begin_to_keep(LlmLimiter *limiter, int accepted, int64 us)
{
	double pace = 1e6 * accepted / Max(us, 1);

	if (accepted <= KEPT_FROM || accepted > KEPT_TO || pace < KEPT_LEAST)
		return false;
	if (limiter->pace_spared > 0)
	{
		limiter->pace_spared--;
		return false;
	}
	limiter->pace = pace;
	limiter->pace_kept = true;
	limiter->pace_top = 0;
	limiter->pace_rises = 0;
	limiter->pace_doubts = 0;
	limiter->threshold = 0;
	keep_trying(limiter);
	return true;
}

/* A kept pace was refused: is it the rate? */
static bool
is_doubtful(LlmLimiter *limiter, int accepted)
{
	if (accepted > KEPT_TO)
		limiter->pace_doubts = 0;
	else if (limiter->pace_borne <= 0)
		limiter->pace_doubts += 2;
	else if (accepted < FEW_KEPT)
		limiter->pace_doubts++;
	return limiter->pace_doubts > MOST_DOUBTS;
}

/* A kept pace was refused, us after the refusal before. */
static void
lower_kept(LlmLimiter *limiter, int accepted, int64 us)
{
	double pace = limiter->pace;
	double answered = 1e6 * accepted / Max(us, 1);

	if (is_doubtful(limiter, accepted))
	{
		forget_pace(limiter);
		limiter->pace_spare = Min(Max(2 * limiter->pace_spare, FIRST_SPARED), MOST_SPARED);
		limiter->pace_spared = limiter->pace_spare;
		return;
	}
	limiter->pace_top = pace;
	limiter->pace_rises = 0;
	if (limiter->pace_borne > 0)
		limiter->pace = limiter->pace_borne;
	else
		limiter->pace = Min(Max(answered, CUT_MOST * pace), CUT_LEAST * pace);
	keep_trying(limiter);
}

void
llm_pace_note_refusal(LlmLimiter *limiter, int accepted, bool told, TimestampTz now)
{
	if (limiter->pace_kept)
		lower_kept(limiter, accepted, now - limiter->pace_refused_at);
	else if (limiter->pace <= 0)
	{
		if (told || !begin_to_keep(limiter, accepted, now - limiter->probed_at))
			look_for_pace(limiter, accepted, Max(now - limiter->probed_at, 0) + limiter->cooldown_us);
	}
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
	limiter->pace_refused_at = now;
}
