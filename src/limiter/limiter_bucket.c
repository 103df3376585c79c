/*-------------------------------------------------------------------------
 *
 * limiter_bucket.c
 *	  Requests and tokens per minute.
 *
 * Each rate is a token bucket that fills continuously and holds very little: a
 * provider that allows 60 requests a minute may mean one a second and no burst.
 * Buckets fill a little slower than the told rate, because the network can shorten the
 * gaps between requests.  A request of more tokens than a bucket can hold may leave when
 * the bucket is full; its level is then below zero.
 *
 * Several aliases may share a target and have different rates in their options.  Each
 * told rate has a bucket.  A request must fit into the bucket of its own rate and into
 * those of all looser rates, and is taken from all of these.  So an alias keeps to its
 * own rate, is not slowed by what looser aliases send, and all together keep to the
 * loosest rate.  A rate that no alias has told for a while (the option was changed)
 * holds nothing back, but its bucket is still updated in case it is told again.
 *
 * There is room for LLM_TOLD_PLACES rates.  If more are in use, a rate without a place
 * uses the bucket of the next tighter one.
 *
 * Rates from answers' headers apply to the target as a whole: all requests count, and
 * they hold back where the options tell no rate.  The pace holds back all requests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "limiter/limiter_bucket.h"

/* The share of the told rate that is used: a gap of a second may arrive 75 ms shorter. */
#define PACE 0.93

/*
 * What a bucket of requests holds: one request and 1%, to make up for a late wake-up
 * (two requests are still 6% further apart than told); or what flows in within 50 ms.
 */
#define REQUESTS_HELD 1.01
#define REQUESTS_HELD_S 0.05

/* What the pace lets go together where it is fast: a sender wakes up by the millisecond. */
#define PACED_HELD_S 0.006

/* A bucket of tokens holds what flows in within a second: providers count tokens by the minute. */
#define TOKENS_HELD_S 1.0

/*
 * No level falls below what flows in within this time.  Providers count by the minute, and
 * an absurd usage that one of them reports must not hold anything up for longer.
 */
#define DEBT_S 60.0

/* The longest wait for a bucket; keeps the arithmetic within an int64. */
#define LONGEST_WAIT_US 86400e6

/*
 * A bucket that was refilled at a later time than now is left alone.  If that time is
 * further ahead than this, the clock was set back, and the bucket would never fill.
 */
#define BELIEVED_AHEAD_US (INT64CONST(60) * 1000 * 1000)

/* A route that waits asks every few seconds (route.c), and tells its options each time. */
#define TOLD_HOLDS_US (INT64CONST(10) * 1000 * 1000)

/* The least level at which one request may leave: one request, or one token. */
#define LEAST 1.0

/* Tolerance when comparing levels: doubles are not exact. */
#define ROUNDING 1e-6

/* A bucket as seen by a request that is counted in it. */
typedef struct View
{
	LlmBucket *bucket;
	double rate; /* per second */
	double capacity;
	bool holds; /* the request must fit into it, not only be counted */
} View;

#define MOST_VIEWS (LLM_TOLD_PLACES + 2)

static LlmBuckets *
buckets_of(LlmLimiter *limiter, LlmBucketKind kind)
{
	return (kind == LLM_BUCKETS_OF_REQUESTS) ? &limiter->requests : &limiter->tokens;
}

static int
told_by(const LlmLimits *limits, LlmBucketKind kind)
{
	return (kind == LLM_BUCKETS_OF_REQUESTS) ? limits->requests_per_minute : limits->tokens_per_minute;
}

bool
llm_bucket_told_lately(TimestampTz told_at, TimestampTz now)
{
	return told_at > now - TOLD_HOLDS_US && told_at < now + BELIEVED_AHEAD_US;
}

/* The place of this very rate, or NULL. */
static LlmToldBucket *
find_place(LlmBuckets *buckets, int per_minute)
{
	for (int i = 0; i < LLM_TOLD_PLACES; i++)
	{
		if (buckets->told[i].per_minute == per_minute)
			return &buckets->told[i];
	}
	return NULL;
}

/* A free place, or else the one unused for longest; NULL when all are in use. */
static LlmToldBucket *
find_idle_place(LlmBuckets *buckets, TimestampTz now)
{
	LlmToldBucket *idle = NULL;

	for (int i = 0; i < LLM_TOLD_PLACES; i++)
	{
		LlmToldBucket *place = &buckets->told[i];

		if (!llm_bucket_told_lately(place->told_at, now) && (idle == NULL || place->told_at < idle->told_at))
			idle = place;
	}
	return idle;
}

/* The loosest of those tighter than this, or NULL. */
static LlmToldBucket *
find_next_tighter(LlmBuckets *buckets, int per_minute)
{
	LlmToldBucket *next = NULL;

	for (int i = 0; i < LLM_TOLD_PLACES; i++)
	{
		LlmToldBucket *place = &buckets->told[i];

		if (place->per_minute < per_minute && (next == NULL || place->per_minute > next->per_minute))
			next = place;
	}
	return next;
}

/*
 * The rate used for this told one: itself or, if it has no place, the next tighter one;
 * 0 for none.
 */
static int
kept_rate(LlmBuckets *buckets, int per_minute, TimestampTz now)
{
	LlmToldBucket *tighter;

	if (per_minute <= 0 || find_place(buckets, per_minute) != NULL || find_idle_place(buckets, now) != NULL)
		return per_minute;
	tighter = find_next_tighter(buckets, per_minute);
	return tighter != NULL ? tighter->per_minute : per_minute;
}

/*
 * A place for a rate that has none; NULL when it has to use a tighter rate's.  The tightest
 * of all cannot do that: it takes the place of the next one, which then uses its bucket.
 */
static LlmToldBucket *
choose_place(LlmBuckets *buckets, int per_minute, TimestampTz now)
{
	LlmToldBucket *chosen = find_idle_place(buckets, now);

	if (chosen != NULL || find_next_tighter(buckets, per_minute) != NULL)
		return chosen;
	chosen = &buckets->told[0];
	for (int i = 1; i < LLM_TOLD_PLACES; i++)
	{
		if (buckets->told[i].per_minute < chosen->per_minute)
			chosen = &buckets->told[i];
	}
	return chosen;
}

static void
tell(LlmBuckets *buckets, int per_minute, TimestampTz now)
{
	LlmToldBucket *place = find_place(buckets, per_minute);

	if (per_minute <= 0)
		return;
	if (place == NULL)
	{
		place = choose_place(buckets, per_minute, now);
		if (place == NULL)
			return;
		memset(place, 0, sizeof(*place));
		place->per_minute = per_minute;
	}
	place->told_at = now;
}

void
llm_bucket_tell(LlmLimiter *limiter, const LlmLimits *limits, TimestampTz now)
{
	tell(&limiter->requests, limits->requests_per_minute, now);
	tell(&limiter->tokens, limits->tokens_per_minute, now);
}

/*
 * Bring a bucket up to now; a fresh one is full.  "now" may be older than the last refill
 * by another sender, since a sender reads the clock before it stores answers.  Nothing must
 * flow in twice for the same time.
 */
static void
refill(const View *view, TimestampTz now)
{
	LlmBucket *bucket = view->bucket;
	int64 elapsed = now - bucket->refilled_at;
	double level = bucket->level;

	if (bucket->refilled_at == 0)
		level = view->capacity;
	else if (elapsed > 0)
		level += view->rate * (elapsed / 1e6);
	bucket->level = Min(view->capacity, level);
	if (elapsed > 0 || elapsed <= -BELIEVED_AHEAD_US)
		bucket->refilled_at = now;
}

static View
view_told(LlmToldBucket *place, LlmBucketKind kind, int kept, TimestampTz now)
{
	View view = {.bucket = &place->bucket, .rate = PACE * place->per_minute / 60.0};

	if (kind == LLM_BUCKETS_OF_REQUESTS)
		view.capacity = Max(REQUESTS_HELD, view.rate * REQUESTS_HELD_S);
	else
		view.capacity = Max(1.0, view.rate * TOKENS_HELD_S);
	view.holds = (place->per_minute == kept || llm_bucket_told_lately(place->told_at, now));
	return view;
}

/* All buckets that count a request with such limits, brought up to now; how many. */
static int
view_buckets(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind, TimestampTz now, View *views)
{
	LlmBuckets *buckets = buckets_of(limiter, kind);
	int told = told_by(limits, kind);
	int kept = kept_rate(buckets, told, now);
	int n = 0;

	if (kind == LLM_BUCKETS_OF_REQUESTS && limiter->pace > 0)
		views[n++] = (View){&limiter->paced, limiter->pace, Max(REQUESTS_HELD, limiter->pace * PACED_HELD_S), true};
	if (buckets->learned_rate > 0)
		views[n++] = (View){&buckets->learned, buckets->learned_rate, buckets->learned_limit, told <= 0};
	for (int i = 0; i < LLM_TOLD_PLACES && kept > 0; i++)
	{
		if (buckets->told[i].per_minute >= kept)
			views[n++] = view_told(&buckets->told[i], kind, kept, now);
	}
	for (int i = 0; i < n; i++)
		refill(&views[i], now);
	return n;
}

/*
 * How many fit into one bucket; when fewer than wanted, *wake_at is when the next one will.
 * One request may take a bucket of tokens below zero.  If a large request had to wait until
 * the level is high enough, smaller ones of others could keep it below that for ever.
 */
static int
fit_into(const View *view, int want, double each, TimestampTz *wake_at)
{
	double level = view->bucket->level;
	double least = Min(each, LEAST);
	double fit = Max(0.0, floor(level / each + ROUNDING));
	double missing;

	if (fit < 1 && level >= least - ROUNDING)
		fit = 1;
	if (fit >= want)
		return want;
	missing = least - (level - fit * each);
	*wake_at = view->bucket->refilled_at + (int64) Min(ceil(Max(0.0, missing) / view->rate * 1e6), LONGEST_WAIT_US);
	return (int) fit;
}

int
llm_bucket_fit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
			   int want, double each, TimestampTz now, TimestampTz *wake_at)
{
	View views[MOST_VIEWS];
	int nviews = view_buckets(limiter, limits, kind, now, views);
	int n = want;

	if (each <= 0)
		return want;
	for (int i = 0; i < nviews; i++)
	{
		TimestampTz at = DT_NOEND;
		int fit = views[i].holds ? fit_into(&views[i], want, each, &at) : want;

		/* the next one needs all buckets that are short of it */
		if (fit < n)
			*wake_at = at;
		else if (fit == n && fit < want)
			*wake_at = Max(*wake_at, at);
		n = Min(n, fit);
	}
	return n;
}

/* What is overdrawn by more than the most, for another cause, stays so. */
static void
debit(const View *view, double amount)
{
	double level = view->bucket->level - amount;

	if (amount > 0)
		level = Max(level, Min(view->bucket->level, -DEBT_S * view->rate));
	view->bucket->level = Min(view->capacity, level);
}

void
llm_bucket_debit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
				 double amount, TimestampTz now)
{
	View views[MOST_VIEWS];
	int nviews = view_buckets(limiter, limits, kind, now, views);

	for (int i = 0; i < nviews; i++)
		debit(&views[i], amount);
}

void
llm_bucket_uncount(LlmLimiter *limiter, LlmBucketKind kind, double amount, TimestampTz now)
{
	LlmBuckets *buckets = buckets_of(limiter, kind);
	View view = {&buckets->learned, buckets->learned_rate, buckets->learned_limit, true};

	if (view.rate <= 0)
		return;
	refill(&view, now);
	debit(&view, -amount);
}

/*
 * The rate is what flows back between now and "reset", but never more than the limit
 * per minute: a window of fixed length looks faster than it is towards its end.
 *
 * "remaining" was true when the request was admitted.  At first, what is in flight
 * comes off it; from then on our own count of what has left and flown back is the
 * better one, and "remaining" only shows what others use up: it is taken as up to
 * a second old.
 */
void
llm_bucket_learn(LlmLimiter *limiter, LlmBucketKind kind, const LlmToldLimit *told, TimestampTz now)
{
	LlmBuckets *buckets = buckets_of(limiter, kind);
	View view = {&buckets->learned, buckets->learned_rate, buckets->learned_limit, true};
	double left = (double) told->remaining;
	int in_flight = (kind == LLM_BUCKETS_OF_REQUESTS) ? limiter->in_flight : 0;
	double rate = PACE * told->limit / 60.0;

	if (told->limit <= 0 || told->remaining < 0)
	{
		buckets->learned_rate = 0;
		return;
	}
	refill(&view, now);
	if (view.rate <= 0)
		buckets->learned.level = left - in_flight;
	else
		buckets->learned.level = Min(buckets->learned.level, left + Max(1.0, view.rate));
	if (told->reset_ms > 0 && told->remaining < told->limit)
		rate = Min(rate, PACE * (told->limit - told->remaining) * 1000.0 / told->reset_ms);
	buckets->learned_limit = (double) told->limit;
	buckets->learned_rate = rate;
}

void
llm_bucket_keep_for_probe(LlmLimiter *limiter, TimestampTz now)
{
	View view = {&limiter->paced, limiter->pace, REQUESTS_HELD, true};

	if (limiter->pace <= 0)
		return;
	refill(&view, now);
	limiter->paced.level = 1.0 - limiter->pace * (limiter->cooldown_us / 1e6);
}
