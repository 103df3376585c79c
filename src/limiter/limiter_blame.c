/*-------------------------------------------------------------------------
 *
 * limiter_blame.c
 *	  Whose fault a refusal is: the target's, or that of the row that was asked about.
 *
 * The rule is in limiter_blame.h.  When we exceed a real limit by far, many requests are
 * refused together; when we exceed it by little, refusals come again and again at about the
 * same number in flight.  Refusals by chance come one at a time, at any number in flight.  So
 * two things together mean chance: few of the other requests in flight were refused, and the
 * next refusal came with at least a third more or fewer in flight.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "limiter/limiter_blame.h"

/* When another row passed within this time before a refusal, the row may be at fault. */
#define BESIDE_US INT64CONST(5000000)

/* A pass within this time says that the key is good. */
#define LATELY_US (INT64CONST(600) * 1000 * 1000)

/* First pause while in doubt, five times longer each time; after MOST_DOUBTS the target is blamed. */
#define DOUBT_MS 1000
#define MOST_DOUBTS 3

/* The part of a refusal that a pass earns, and the most that can be saved. */
#define PAYS_SLOW_DOWN 0.05
#define PAYS_PAUSE 0.12
#define MOST_CREDIT 4.0

/* The same where refusals are by chance, as a multiple of the share of rows refused. */
#define CHANCE_MARGIN 3.0
#define LEAST_CHANCE 0.03
#define MOST_CHANCE 0.3

/* Refutations needed to call refusals chance: at first, and at most. */
#define NEEDED_SLOW_DOWN 2
#define NEEDED_PAUSE 1
#define NEEDED_MOST 64

/* Two numbers in flight differ clearly when both hold. */
#define LEVEL_RATIO (4.0 / 3.0)
#define LEVEL_GAP 3

/* If more of the other requests in flight were refused than this, it is no chance. */
#define SIBLINGS_FREE 1
#define SIBLINGS_PART 0.1

/* At this many rows the counts are halved. */
#define ROWS_COUNTED 1024.0

/* The share assumed before anything is known: one row in twenty. */
#define FIRST_REFUSED 0.05
#define FIRST_ROWS 1.0

double
llm_blame_share(const LlmLimiter *limiter)
{
	const LlmBlameNotes *notes = &limiter->blame;

	return (notes->rows_refused + FIRST_REFUSED) / (notes->rows_refused + notes->rows_passed + FIRST_ROWS);
}

static void
count_row(LlmBlameNotes *notes, double *count)
{
	*count += 1;
	if (notes->rows_passed + notes->rows_refused < ROWS_COUNTED)
		return;
	notes->rows_passed /= 2;
	notes->rows_refused /= 2;
}

/* The part of a refusal that a pass earns now. */
static double
pays(const LlmLimiter *limiter, LlmRefusalKind kind)
{
	double share = CHANCE_MARGIN * llm_blame_share(limiter);

	if (!limiter->blame.doubts[kind].by_chance)
		return kind == LLM_REFUSAL_PAUSE ? PAYS_PAUSE : PAYS_SLOW_DOWN;
	share = Max(share, kind == LLM_REFUSAL_PAUSE ? PAYS_PAUSE : LEAST_CHANCE);
	return Min(share, MOST_CHANCE);
}

/* The most credit: more where refusals are by chance, since all requests in flight may meet theirs at once. */
static double
most_credit(const LlmLimiter *limiter, LlmRefusalKind kind)
{
	double most = MOST_CREDIT;

	if (limiter->blame.doubts[kind].by_chance)
		most += pays(limiter, kind) * Max(limiter->occupied, 1);
	return most;
}

/* Refusals do not depend on what we send, so the number in flight when they came is no limit. */
static void
call_it_chance(LlmLimiter *limiter, LlmRefusalKind kind)
{
	LlmDoubt *doubt = &limiter->blame.doubts[kind];

	doubt->by_chance = true;
	doubt->credit = most_credit(limiter, kind);
	if (kind != LLM_REFUSAL_SLOW_DOWN)
		return;
	limiter->threshold = 0;
	if (limiter->pace_kept)
		limiter->pace = 0;
	limiter->pace_kept = false;
}

static void
note_refuted(LlmLimiter *limiter, LlmRefusalKind kind)
{
	LlmDoubt *doubt = &limiter->blame.doubts[kind];
	int first = (kind == LLM_REFUSAL_PAUSE) ? NEEDED_PAUSE : NEEDED_SLOW_DOWN;

	if (++doubt->refuted >= Max(doubt->needed, first))
		call_it_chance(limiter, kind);
}

void
llm_blame_note_pass(LlmLimiter *limiter, uint32 generation, TimestampTz sent_at)
{
	LlmBlameNotes *notes = &limiter->blame;

	count_row(notes, &notes->rows_passed);
	notes->passed_sent_at = Max(notes->passed_sent_at, sent_at);
	if (generation != limiter->generation)
	{
		if (generation + 1 == limiter->generation)
			notes->siblings_passed++;
		return;
	}
	/* the first probe after a pause in doubt has passed: the target was not to blame */
	if (notes->shut_in_doubt == 1)
		note_refuted(limiter, LLM_REFUSAL_PAUSE);
	notes->shut_in_doubt = 0;
	notes->fresh_row = 0;
	notes->fresh_several = false;
	for (int kind = 0; kind < LLM_REFUSAL_KINDS; kind++)
	{
		LlmDoubt *doubt = &notes->doubts[kind];

		doubt->credit = Min(doubt->credit + pays(limiter, kind), Max(doubt->credit, most_credit(limiter, kind)));
	}
}

/* Takes one refusal from the credit; false when there is none. */
static bool
is_paid_for(LlmLimiter *limiter, LlmErrorClass class, LlmRefusalKind kind, int64 told_ms)
{
	LlmDoubt *doubt = &limiter->blame.doubts[kind];

	if (!doubt->by_chance && (class != LLM_ERR_OVERLOADED || told_ms > 0))
		return false;
	if (doubt->credit < 1.0)
		return false;
	doubt->credit -= 1.0;
	return true;
}

/*
 * A row is refused once more, and nothing has passed since it was refused before: what a person has to fix is no
 * chance then, however good the record is.
 */
static bool
is_more_than_chance(const LlmRefusal *refusal, LlmRefusalKind kind)
{
	return kind == LLM_REFUSAL_PAUSE && refusal->refused_at != 0 && !refusal->suspect;
}

/* Was the refusal that ended the last generation a single one, and did the first probe after it pass? */
static bool
came_alone(const LlmBlameNotes *notes)
{
	int siblings = notes->siblings_passed + notes->siblings_refused;

	return !notes->probe_refused && notes->siblings_refused <= SIBLINGS_FREE + SIBLINGS_PART * siblings;
}

/* A refusal is about to end this generation.  Did it come at a clearly different number in flight than the last? */
static bool
is_unlike_a_limit(const LlmLimiter *limiter)
{
	int high = Max(limiter->occupied, limiter->blame.level);
	int low = Min(limiter->occupied, limiter->blame.level);

	return low > 0 && high - low >= LEVEL_GAP && high >= low * LEVEL_RATIO;
}

/* Are refusals that ask us to slow down chance? */
static bool
look_for_chance(LlmLimiter *limiter)
{
	LlmBlameNotes *notes = &limiter->blame;
	LlmDoubt *doubt = &notes->doubts[LLM_REFUSAL_SLOW_DOWN];

	if (doubt->by_chance)
	{
		/* the credit is used up: not chance after all */
		doubt->by_chance = false;
		doubt->refuted = 0;
		doubt->needed = Min(Max(doubt->needed, NEEDED_SLOW_DOWN) * 2, NEEDED_MOST);
	}
	else if (!came_alone(notes))
		doubt->refuted = 0;
	else if (is_unlike_a_limit(limiter))
		note_refuted(limiter, LLM_REFUSAL_SLOW_DOWN);
	notes->level = limiter->occupied;
	notes->siblings_passed = 0;
	notes->siblings_refused = 0;
	notes->probe_refused = false;
	return doubt->by_chance;
}

/* A target that answered recently is paused for a short time first, until another row has been tried. */
static LlmBlame
blame_target(LlmLimiter *limiter, LlmRefusalKind kind, TimestampTz now)
{
	LlmBlameNotes *notes = &limiter->blame;
	LlmDoubt *doubt = &notes->doubts[kind];

	doubt->credit = 0;
	if (kind != LLM_REFUSAL_PAUSE)
		return LLM_BLAME_TARGET;
	if (doubt->by_chance && !limiter->half_open)
	{
		doubt->by_chance = false;
		doubt->refuted = 0;
	}
	if (notes->passed_sent_at <= now - LATELY_US || notes->shut_in_doubt >= MOST_DOUBTS)
		return LLM_BLAME_TARGET;
	notes->shut_in_doubt++;
	return LLM_BLAME_IN_DOUBT;
}

int64
llm_blame_doubt_ms(const LlmLimiter *limiter)
{
	int64 ms = DOUBT_MS;

	for (int i = 1; i < limiter->blame.shut_in_doubt; i++)
		ms *= 5;
	return ms;
}

/*
 * Update what is known of the row, and what counts against it: this refusal, and the one
 * before if it did not count then and something has passed since.
 */
static void
judge_row(LlmBlameNotes *notes, LlmRefusal *refusal)
{
	bool passed_since = refusal->refused_at != 0 && notes->passed_sent_at > refusal->refused_at;
	bool late = passed_since && refusal->counts == 0;
	bool alone;

	if (refusal->refused_at == 0)
	{
		count_row(notes, &notes->rows_refused);
		notes->fresh_several = notes->fresh_several || (notes->fresh_row != 0 && notes->fresh_row != refusal->row);
		notes->fresh_row = refusal->row;
		refusal->first_sent_at = refusal->sent_at;
	}
	refusal->suspect = refusal->suspect || passed_since;
	alone = !notes->fresh_several && (notes->fresh_row == 0 || notes->fresh_row == refusal->row);
	refusal->counts = late ? 1 : 0;
	if (alone && (refusal->suspect || notes->passed_sent_at > refusal->first_sent_at - BESIDE_US))
		refusal->counts++;
}

LlmBlame
llm_blame_judge(LlmLimiter *limiter, LlmErrorClass class, uint32 generation, LlmRefusal *refusal, TimestampTz now)
{
	LlmBlameNotes *notes = &limiter->blame;
	LlmRefusalKind kind = llm_limiter_refusal_kind(class);

	judge_row(notes, refusal);
	if (generation != limiter->generation)
	{
		if (generation + 1 == limiter->generation)
			notes->siblings_refused++;
		return LLM_BLAME_TARGET; /* it has been shut since */
	}
	if (limiter->half_open)
	{
		notes->probe_refused = true;
		return blame_target(limiter, kind, now);
	}
	if (refusal->suspect)
		return LLM_BLAME_ROW;
	if (!is_more_than_chance(refusal, kind) && is_paid_for(limiter, class, kind, refusal->told_ms))
		return LLM_BLAME_ROW;
	if (kind == LLM_REFUSAL_SLOW_DOWN && look_for_chance(limiter))
		return LLM_BLAME_ROW;
	return blame_target(limiter, kind, now);
}

void
llm_blame_absolve(LlmLimiter *limiter, uint64 row, TimestampTz now)
{
	LlmBlameNotes *notes = &limiter->blame;

	if (!limiter->half_open || notes->fresh_several || (notes->fresh_row != 0 && notes->fresh_row != row))
		return;
	notes->fresh_row = 0;
	if (limiter->pause_class != LLM_OK)
		limiter->paused_until = Min(limiter->paused_until, now);
}
