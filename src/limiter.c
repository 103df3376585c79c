/*-------------------------------------------------------------------------
 *
 * limiter.c
 *	  How much may be sent to one target now.
 *
 * Four gates, from the outside in: a circuit (cool-down or pause, then one
 * probe), requests per minute, tokens per minute, requests in flight.
 *
 * Both rates are token buckets that fill continuously and hold very little: a
 * provider that allows 60 requests a minute may allow one a second and no burst.
 * They run a little below the told rate, since the way to the provider squeezes
 * gaps.  A request of more tokens than the bucket can hold passes when it is full,
 * and overdraws it.  Where no rate is told by the options, the one that answers
 * tell in their headers stands in.
 *
 * Concurrency adapts as TCP does: halved by the answer that starts a cool-down,
 * grown by one for each window of answers.  A circuit opens at a 429 (or kin), at
 * a run of requests that got no answer, and at answers that somebody must mend;
 * the requests that were in flight then tell nothing new and are not listened to,
 * or one 429 among a hundred would become a hundred cool-downs.
 *
 * The wall clock may be set back, so no time that lies ahead is believed to be
 * farther away than it was when it was written down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "limiter.h"

/* Sent at most, as a share of the told rate: gaps of a second may shrink by 50 ms on the way. */
#define PACE 0.95

/*
 * What a requests bucket holds: one request, and 2% so that a late wake-up is made
 * up for (two requests are still 3% farther apart than told), or what 50 ms bring.
 */
#define REQUESTS_HELD 1.02
#define REQUESTS_HELD_S 0.05

/* A tokens bucket holds what one second brings: providers count tokens by the minute. */
#define TOKENS_HELD_S 1.0

/* A bucket this much short of full, or of one request, passes: doubles are not exact. */
#define ROUNDING 1e-6

/* Back-off where the provider names no time. */
#define BACKOFF_BASE_MS 1000
#define BACKOFF_CAP_MS 60000
#define BACKOFF_FLOOR_MS 100

/* On top of a told time: its rounding and our own clock reading, then up to 10% of jitter. */
#define TOLD_MARGIN_MS 20
#define TOLD_JITTER 0.1
#define TOLD_CAP_MS (INT64CONST(24) * 3600 * 1000)

/* So many requests without any answer in a row are an outage, not bad luck. */
#define OUTAGE_STREAK 5

/* A paused target is probed this often; a spent quota comes back more slowly. */
#define PAUSE_MS 60000
#define PAUSE_QUOTA_MS 300000

#define MS_TO_US(ms) ((ms) *INT64CONST(1000))

/* One of the two buckets with the rate that holds for it now. */
typedef struct Bucket
{
	double *level;
	double rate; /* per second; 0 = not limited */
	double capacity;
} Bucket;

/* What an answer says about its target, whatever it means for its task. */
typedef enum Meaning
{
	MEANS_ALIVE, /* the provider took the request and dealt with it */
	MEANS_SLOW_DOWN,
	MEANS_NO_ANSWER,
	MEANS_PAUSE
} Meaning;

static Meaning
meaning_of(LlmErrorClass class)
{
	switch (class)
	{
		case LLM_ERR_RATE_LIMITED:
		case LLM_ERR_OVERLOADED:
			return MEANS_SLOW_DOWN;
		case LLM_ERR_TRANSIENT:
		case LLM_ERR_TIMEOUT:
		case LLM_ERR_UNKNOWN:
		case LLM_ERR_LOCAL:
			return MEANS_NO_ANSWER;
		case LLM_ERR_AUTH:
		case LLM_ERR_QUOTA:
		case LLM_ERR_UNKNOWN_MODEL:
		case LLM_ERR_CONFIG:
			return MEANS_PAUSE;
		case LLM_OK:
		case LLM_ERR_INVALID:
		case LLM_ERR_REFUSED:
		case LLM_ERR_TRUNCATED:
		case LLM_ERR_TOO_LONG:
		case LLM_ERR_TOO_LARGE:
		case LLM_ERR_BAD_REQUEST:
			break;
	}
	return MEANS_ALIVE;
}

static Bucket
requests_bucket(LlmLimiter *limiter, const LlmLimits *limits)
{
	Bucket bucket = {&limiter->requests, limiter->learned_requests_rate, limiter->learned_requests_limit};

	if (limits->requests_per_minute > 0)
	{
		bucket.rate = PACE * limits->requests_per_minute / 60.0;
		bucket.capacity = Max(REQUESTS_HELD, bucket.rate * REQUESTS_HELD_S);
	}
	return bucket;
}

static Bucket
tokens_bucket(LlmLimiter *limiter, const LlmLimits *limits)
{
	Bucket bucket = {&limiter->tokens, limiter->learned_tokens_rate, limiter->learned_tokens_limit};

	if (limits->tokens_per_minute > 0)
	{
		bucket.rate = PACE * limits->tokens_per_minute / 60.0;
		bucket.capacity = Max(1.0, bucket.rate * TOKENS_HELD_S);
	}
	return bucket;
}

/* Add what so many microseconds bring; a bucket without a rate is kept full. */
static void
refill_bucket(const Bucket *bucket, int64 elapsed_us)
{
	if (bucket->rate <= 0)
		*bucket->level = 0;
	else
		*bucket->level = Min(bucket->capacity, *bucket->level + bucket->rate * (elapsed_us / 1e6));
}

/* Bring both buckets up to now.  A fresh limiter starts with full ones. */
static void
refill(LlmLimiter *limiter, const LlmLimits *limits, TimestampTz now)
{
	Bucket requests = requests_bucket(limiter, limits);
	Bucket tokens = tokens_bucket(limiter, limits);

	if (limiter->refilled_at == 0)
	{
		limiter->requests = requests.capacity;
		limiter->tokens = tokens.capacity;
	}
	else if (now > limiter->refilled_at)
	{
		refill_bucket(&requests, now - limiter->refilled_at);
		refill_bucket(&tokens, now - limiter->refilled_at);
	}
	limiter->refilled_at = now;
}

/*
 * How many of "want" units of size "each" the bucket holds; when fewer, *wake_at is
 * when the next will be there.  One that is larger than the bucket needs a full one.
 */
static int
take_from(const Bucket *bucket, int want, double each, TimestampTz now, TimestampTz *wake_at)
{
	double level = *bucket->level;
	double fit;
	double missing;

	if (bucket->rate <= 0 || each <= 0)
		return want;
	if (each > bucket->capacity)
		fit = (level >= bucket->capacity - ROUNDING) ? 1 : 0;
	else
		fit = Max(0.0, floor(level / each + ROUNDING));
	if (fit >= want)
		return want;
	missing = Min(each, bucket->capacity) - (level - fit * each);
	*wake_at = now + (int64) ceil(Max(0.0, missing) / bucket->rate * 1e6);
	return (int) fit;
}

/* The most that may be in flight. */
static int
concurrency_cap(const LlmLimiter *limiter, const LlmLimits *limits)
{
	int cap = limits->max_concurrency > 0 ? limits->max_concurrency : PG_INT32_MAX;

	if (limiter->window > 0 && limiter->window < cap)
		cap = (int) limiter->window;
	return cap;
}

static int64
pause_us(LlmErrorClass class)
{
	return MS_TO_US(class == LLM_ERR_QUOTA ? PAUSE_QUOTA_MS : PAUSE_MS);
}

/*
 * When a circuit that is not closed lets its probe go.  Each end is at most its own
 * length away, however the clock was set.
 */
static TimestampTz
gate_opens_at(LlmLimiter *limiter, TimestampTz now)
{
	if (limiter->pause_class != LLM_OK)
	{
		limiter->paused_until = Min(limiter->paused_until, now + pause_us(limiter->pause_class));
		return limiter->paused_until;
	}
	limiter->not_before = Min(limiter->not_before, now + limiter->cooldown_us);
	return limiter->not_before;
}

/*
 * What an open circuit leaves of "want": nothing, or one probe.
 */
static int
pass_circuit(LlmLimiter *limiter, TimestampTz now, LlmWaitReason *reason, TimestampTz *wake_at)
{
	TimestampTz gate = gate_opens_at(limiter, now);

	*reason = (limiter->pause_class != LLM_OK) ? LLM_WAIT_PAUSED : LLM_WAIT_COOLDOWN;
	if (gate > now)
	{
		*wake_at = gate;
		return 0;
	}
	*wake_at = DT_NOEND;
	return limiter->probing ? 0 : 1;
}

int
llm_limiter_grant(LlmLimiter *limiter, const LlmLimits *limits, int want,
				  int64 tokens_each, TimestampTz now,
				  LlmWaitReason *reason, TimestampTz *wake_at)
{
	Bucket requests = requests_bucket(limiter, limits);
	Bucket tokens = tokens_bucket(limiter, limits);
	TimestampTz at = DT_NOEND;
	int n = want;
	int fit;

	*reason = LLM_WAIT_NONE;
	*wake_at = DT_NOEND;
	if (want <= 0)
		return 0;
	refill(limiter, limits, now);
	if (limiter->half_open)
		n = Min(n, pass_circuit(limiter, now, reason, wake_at));

	/* Each gate that leaves less than the ones before it is the one to wait for. */
	fit = Max(0, concurrency_cap(limiter, limits) - limiter->in_flight);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_CONCURRENCY;
		*wake_at = DT_NOEND;
	}
	fit = take_from(&requests, n, 1.0, now, &at);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_REQUESTS;
		*wake_at = at;
	}
	fit = take_from(&tokens, n, (double) tokens_each, now, &at);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_TOKENS;
		*wake_at = at;
	}

	if (n > 0)
	{
		limiter->requests -= n;
		limiter->tokens -= (double) n * tokens_each;
		limiter->in_flight += n;
		if (limiter->half_open)
			limiter->probing = true;
	}
	return n;
}

/* Open the circuit: what is in flight from now on belongs to the past. */
static void
open_circuit(LlmLimiter *limiter)
{
	limiter->generation++;
	limiter->half_open = true;
	limiter->probing = false;
	limiter->streak = 0;
	limiter->pause_class = LLM_OK;
}

/*
 * How long to stay away, in ms.  A told time is a minimum; without one, exponential
 * back-off with full jitter.
 */
static int64
cooldown_ms(int failures, int64 retry_after_ms, double jitter)
{
	int64 backoff;

	if (retry_after_ms > 0)
	{
		retry_after_ms = Min(retry_after_ms, TOLD_CAP_MS);
		return retry_after_ms + TOLD_MARGIN_MS + (int64) (TOLD_JITTER * jitter * retry_after_ms);
	}
	/* 2^6 s is past the cap */
	backoff = Min(BACKOFF_CAP_MS, (int64) BACKOFF_BASE_MS << Min(failures - 1, 6));
	return Max(BACKOFF_FLOOR_MS, (int64) (jitter * backoff));
}

static void
cool_down(LlmLimiter *limiter, int64 retry_after_ms, double jitter, TimestampTz now)
{
	open_circuit(limiter);
	if (limiter->failures < PG_INT32_MAX)
		limiter->failures++;
	limiter->cooldown_us = MS_TO_US(cooldown_ms(limiter->failures, retry_after_ms, jitter));
	limiter->not_before = now + limiter->cooldown_us;
}

/*
 * Halve what may be in flight; called with the place of the failed request still
 * taken.  A probe is alone, so what counts then is the window that it stands for.
 */
static void
narrow_window(LlmLimiter *limiter)
{
	double base = limiter->in_flight;

	if (limiter->window > 0 && (limiter->half_open || limiter->window < base))
		base = limiter->window;
	limiter->window = Max(1.0, floor(base / 2));
}

/*
 * One more answer: +1 after a window of them, but only where the window is what
 * held us back.  A window as wide as the limit is none.
 */
static void
widen_window(LlmLimiter *limiter, const LlmLimits *limits)
{
	if (limiter->window <= 0)
		return;
	if (limiter->in_flight * 2 >= limiter->window)
		limiter->window += 1.0 / limiter->window;
	if (limits->max_concurrency > 0 && limiter->window >= limits->max_concurrency)
		limiter->window = 0;
}

/*
 * The provider answered.  The probe's answer closes the circuit; only the next one
 * ends the row of cool-downs, so that a target which bears just its probes is asked
 * less and less often.
 */
static void
note_alive(LlmLimiter *limiter, const LlmLimits *limits)
{
	limiter->streak = 0;
	if (limiter->half_open)
	{
		limiter->half_open = false;
		limiter->probing = false;
		limiter->pause_class = LLM_OK;
		return;
	}
	limiter->failures = 0;
	widen_window(limiter, limits);
}

static void
note_no_answer(LlmLimiter *limiter, double jitter, int64 retry_after_ms, TimestampTz now)
{
	limiter->streak++;
	if (limiter->half_open || limiter->streak >= OUTAGE_STREAK)
		cool_down(limiter, retry_after_ms, jitter, now);
}

static void
pause_target(LlmLimiter *limiter, LlmErrorClass class, TimestampTz now)
{
	open_circuit(limiter);
	limiter->pause_class = class;
	limiter->paused_until = now + pause_us(class);
}

void
llm_limiter_settle(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
				   uint32 generation, int64 tokens_estimated, int64 tokens_used,
				   int64 retry_after_ms, double jitter, TimestampTz now)
{
	if (tokens_used >= 0)
		limiter->tokens += (double) (tokens_estimated - tokens_used);

	if (generation == limiter->generation)
	{
		switch (meaning_of(class))
		{
			case MEANS_ALIVE:
				note_alive(limiter, limits);
				break;
			case MEANS_SLOW_DOWN:
				narrow_window(limiter);
				cool_down(limiter, retry_after_ms, jitter, now);
				break;
			case MEANS_NO_ANSWER:
				note_no_answer(limiter, jitter, retry_after_ms, now);
				break;
			case MEANS_PAUSE:
				pause_target(limiter, class, now);
				break;
		}
	}
	limiter->in_flight = Max(0, limiter->in_flight - 1);
}

void
llm_limiter_give_back(LlmLimiter *limiter, uint32 generation, int n, int64 tokens_each)
{
	limiter->in_flight = Max(0, limiter->in_flight - n);
	limiter->requests += n;
	limiter->tokens += (double) n * tokens_each;
	if (n > 0 && generation == limiter->generation)
		limiter->probing = false;
}

/*
 * Take in one kind of limit.  The rate is what flows back between now and "reset",
 * but never more than the limit per minute: a window of fixed length looks faster
 * than it is towards its end.
 *
 * "remaining" was true when the request was admitted.  At first, what is in flight
 * comes off it; from then on our own count of what has left and flown back is the
 * better one, and "remaining" only shows what others use up: it is taken as up to
 * a second old.
 */
static void
learn(const LlmToldLimit *told, int in_flight, double *level, double *rate, double *limit)
{
	double left = (double) told->remaining;

	if (told->limit <= 0 || told->remaining < 0)
	{
		*rate = 0;
		return;
	}
	*level = (*rate <= 0) ? left - in_flight : Min(*level, left + Max(1.0, *rate));
	*limit = (double) told->limit;
	*rate = PACE * told->limit / 60.0;
	if (told->reset_ms > 0 && told->remaining < told->limit)
		*rate = Min(*rate, PACE * (told->limit - told->remaining) * 1000.0 / told->reset_ms);
}

void
llm_limiter_correct(LlmLimiter *limiter, const LlmLimits *limits, const LlmToldLimit *requests,
					const LlmToldLimit *tokens, TimestampTz now)
{
	refill(limiter, limits, now);
	if (limits->requests_per_minute <= 0)
		learn(requests, limiter->in_flight, &limiter->requests,
			  &limiter->learned_requests_rate, &limiter->learned_requests_limit);
	if (limits->tokens_per_minute <= 0)
		learn(tokens, 0, &limiter->tokens,
			  &limiter->learned_tokens_rate, &limiter->learned_tokens_limit);
}

/* Milliseconds of one unit; moves *at behind it.  -1: none of ours. */
static double
read_unit(const char **at)
{
	static const struct
	{
		const char *name;
		double ms;
	} units[] = {
		{"ms", 1},
		{"us", 0.001},
		{"\xc2\xb5s", 0.001},
		{"ns", 0.000001},
		{"s", 1000},
		{"m", 60000},
		{"h", 3600000},
		{"d", 86400000},
	};

	for (int i = 0; i < lengthof(units); i++)
	{
		size_t len = strlen(units[i].name);

		if (strncmp(*at, units[i].name, len) == 0)
		{
			*at += len;
			return units[i].ms;
		}
	}
	return -1;
}

/* An unsigned decimal number; moves *at behind it.  -1: there is none. */
static double
read_number(const char **at)
{
	const char *p = *at;
	double number = 0;
	double place = 1;
	bool digits = false;

	for (; *p >= '0' && *p <= '9'; p++, digits = true)
		number = number * 10 + (*p - '0');
	if (*p == '.')
	{
		for (p++; *p >= '0' && *p <= '9'; p++, digits = true)
			number += (*p - '0') * (place /= 10);
	}
	*at = p;
	return digits ? number : -1;
}

int64
llm_limiter_parse_duration_ms(const char *value)
{
	double total = 0;
	double number;
	double unit;

	if (value == NULL || *value == '\0')
		return -1;
	while (*value != '\0')
	{
		number = read_number(&value);
		if (number < 0)
			return -1;
		if (*value == '\0' && total == 0)
			unit = 1000; /* a bare number is seconds */
		else
			unit = read_unit(&value);
		if (unit < 0)
			return -1;
		total += number * unit;
	}
	/* doubles are not exact: 51.189 s are 51189 ms, not one more */
	return (total > (double) TOLD_CAP_MS) ? TOLD_CAP_MS : (int64) ceil(total - ROUNDING);
}

int64
llm_limiter_parse_count(const char *value)
{
	double number;

	if (value == NULL)
		return -1;
	number = read_number(&value);
	if (number < 0 || *value != '\0' || number > 1e15)
		return -1;
	return (int64) number;
}

void
llm_limiter_unpause(LlmLimiter *limiter)
{
	if (limiter->pause_class == LLM_OK)
		return;
	open_circuit(limiter);
	limiter->not_before = 0;
	limiter->cooldown_us = 0;
}

const char *
llm_limiter_reason_name(LlmWaitReason reason)
{
	switch (reason)
	{
		case LLM_WAIT_NONE:
			break;
		case LLM_WAIT_REQUESTS:
			return "limit: requests per minute";
		case LLM_WAIT_TOKENS:
			return "limit: tokens per minute";
		case LLM_WAIT_CONCURRENCY:
			return "limit: requests in flight";
		case LLM_WAIT_COOLDOWN:
			return "limit: cooling down";
		case LLM_WAIT_PAUSED:
			return "paused";
	}
	return "";
}
