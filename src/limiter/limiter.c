/*-------------------------------------------------------------------------
 *
 * limiter.c
 *	  How much may be sent to one target now.
 *
 * Four gates, from the outside in: a circuit (cool-down or pause, then one
 * probe), requests per minute, tokens per minute, requests in flight.
 *
 * Both rates are kept by buckets (limiter_bucket.c).  Where no rate is told by the
 * options, the one that answers tell in their headers stands in.
 *
 * Concurrency adapts as TCP does (limiter_window.c).  It starts with one request,
 * both for a new target and for one that was shut, unless it was shut for a limit that it
 * had kept for long (ADR 96).  A target that refuses the second
 * request after each cool-down limits the rate, not the number in flight: it gets a
 * pace (limiter_pace.c), which is used like a told rate.
 *
 * The circuit opens at a 429 or a similar refusal, after several requests in a row
 * without an answer, and at errors that a person has to fix.  Answers to requests that
 * were in flight at that moment are ignored: otherwise one overload with a hundred
 * requests in flight would count as a hundred cool-downs.
 *
 * The wall clock may be set back.  So a stored time in the future is never taken to be
 * further away than the wait that it was computed from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "limiter/limiter_blame.h"
#include "limiter/limiter_bucket.h"
#include "limiter/limiter_pace.h"
#include "limiter/limiter_window.h"

/* Back-off where the provider names no time. */
#define BACKOFF_BASE_MS 1000
#define BACKOFF_CAP_MS 60000
#define BACKOFF_FLOOR_MS 100

/*
 * A limit per second that is exceeded by little refuses after many answers, and takes requests again a
 * moment later.  After more than MANY_ANSWERS the back-off is shorter in proportion, down to a floor of its
 * own.  After so many that chance would hardly allow them, the probe's answer opens the window at once as
 * far as it grows fast: a bucket that is full again loses what flows in meanwhile.
 */
#define MANY_ANSWERS 8
#define MANY_FLOOR_MS 30
#define BEYOND_CHANCE 64
#define BEYOND_CHANCE_WINDOWS 4

/* On top of a told time: its rounding and our own clock reading, then up to 10% of jitter. */
#define TOLD_MARGIN_MS 20
#define TOLD_JITTER 0.1
#define TOLD_CAP_MS (INT64CONST(24) * 3600 * 1000)

/*
 * This many requests in a row without an answer are an outage.  The number doubles each
 * time that the first probe was answered, because then certain inputs fail, not the target.
 */
#define OUTAGE_STREAK 5
#define MOST_REFUTED 6

/* A paused target is probed this often; a spent quota comes back more slowly. */
#define PAUSE_MS 60000
#define PAUSE_QUOTA_MS 300000

/*
 * A target that is shut for so long is worth a line in the log.  A refusal that asks for less is met
 * each minute where a limit per minute is, and is said when it is for longer.
 */
#define LONG_SHUT_MS 10000
#define LONG_SLOW_DOWN_MS 60000

#define MS_TO_US(ms) ((ms) *INT64CONST(1000))

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
		case LLM_ERR_DROPPED:
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
		case LLM_ERR_WRONG_KIND:
			break;
	}
	return MEANS_ALIVE;
}

LlmRefusalKind
llm_limiter_refusal_kind(LlmErrorClass class)
{
	Meaning meaning = meaning_of(class);

	if (meaning == MEANS_SLOW_DOWN)
		return LLM_REFUSAL_SLOW_DOWN;
	return meaning == MEANS_PAUSE ? LLM_REFUSAL_PAUSE : LLM_REFUSAL_NONE;
}

bool
llm_limiter_shows_life(LlmErrorClass class)
{
	return meaning_of(class) == MEANS_ALIVE;
}

/* The loosest limit stays in force until no alias has told it for a while. */
void
llm_limiter_tell_concurrency(LlmLimiter *limiter, int max_concurrency, TimestampTz now)
{
	int told = max_concurrency > 0 ? max_concurrency : PG_INT32_MAX;

	if (told < limiter->concurrency && llm_bucket_told_lately(limiter->concurrency_told_at, now))
		return;
	limiter->concurrency = told;
	limiter->concurrency_told_at = now;
}

/* Free places: everything in flight counts against the limit, only this generation against the window. */
static int
free_places(const LlmLimiter *limiter)
{
	int room = limiter->concurrency - limiter->in_flight;

	return Max(0, (int) Min((double) room, floor(limiter->window) - limiter->occupied));
}

static int64
pause_us(LlmErrorClass class)
{
	return MS_TO_US(class == LLM_ERR_QUOTA ? PAUSE_QUOTA_MS : PAUSE_MS);
}

/*
 * When the probe of an open circuit may leave.  Never further away than the length of
 * the pause or cool-down, even if the clock was set back.
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
 * What an open circuit allows: nothing, or one probe.
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

/*
 * How many of "want" have a free place.  The window may grow while no answer comes;
 * *wake_at is when to ask again for that reason.
 */
static int
pass_window(LlmLimiter *limiter, int want, TimestampTz now, TimestampTz *wake_at)
{
	*wake_at = DT_NOEND;
	/* a process that was killed could not say of which generation its requests were */
	limiter->occupied = Min(limiter->occupied, limiter->in_flight);
	if (!limiter->half_open && (double) limiter->occupied + want > limiter->window)
		*wake_at = llm_window_hear_silence(limiter, now);
	return Min(want, free_places(limiter));
}

/* Take what is granted from the buckets; it is in flight now. */
static void
take(LlmLimiter *limiter, const LlmLimits *limits, int n, int64 tokens_each, TimestampTz now)
{
	if (n <= 0)
		return;
	if (limiter->half_open)
		limiter->probing = true;
	if (limiter->accepted == 0)
		limiter->probed_at = now;
	if (limiter->occupied == 0)
		limiter->quiet_since = now;
	llm_bucket_debit(limiter, limits, LLM_BUCKETS_OF_REQUESTS, n, now);
	llm_bucket_debit(limiter, limits, LLM_BUCKETS_OF_TOKENS, (double) n * tokens_each, now);
	limiter->in_flight += n;
	limiter->occupied += n;
}

int
llm_limiter_grant(LlmLimiter *limiter, const LlmLimits *limits, int want,
				  int64 tokens_each, TimestampTz now,
				  LlmWaitReason *reason, TimestampTz *wake_at)
{
	TimestampTz at = DT_NOEND;
	int n = want;
	int fit;

	*reason = LLM_WAIT_NONE;
	*wake_at = DT_NOEND;
	llm_bucket_tell(limiter, limits, now);
	llm_limiter_tell_concurrency(limiter, limits->max_concurrency, now);
	if (want <= 0)
		return 0;
	if (limiter->window <= 0)
		llm_window_begin(limiter, now);
	if (limiter->half_open)
		n = Min(n, pass_circuit(limiter, now, reason, wake_at));

	/* The last gate that reduces the number gives the reason and the time to wait. */
	fit = pass_window(limiter, n, now, &at);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_CONCURRENCY;
		*wake_at = at;
	}
	fit = llm_bucket_fit(limiter, limits, LLM_BUCKETS_OF_REQUESTS, n, 1.0, now, &at);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_REQUESTS;
		*wake_at = at;
	}
	fit = llm_bucket_fit(limiter, limits, LLM_BUCKETS_OF_TOKENS, n, (double) tokens_each, now, &at);
	if (fit < n)
	{
		n = fit;
		*reason = LLM_WAIT_TOKENS;
		*wake_at = at;
	}
	limiter->held_by = *reason;
	take(limiter, limits, n, tokens_each, now);
	return n;
}

/*
 * Open the circuit.  Requests in flight now belong to the old generation; the next ones
 * start as for a new target.
 */
static void
open_circuit(LlmLimiter *limiter, TimestampTz now)
{
	limiter->generation++;
	limiter->half_open = true;
	limiter->probing = false;
	limiter->streak = 0;
	limiter->accepted = 0;
	limiter->out = false;
	limiter->silent_window = 0;
	limiter->told_before_check = 0;
	limiter->pause_class = LLM_OK;
	llm_window_begin(limiter, now);
}

/*
 * How long to stay away, in ms, after so many answers without a refusal.  A told time is a minimum; without
 * one, exponential back-off with full jitter.
 */
static int64
cooldown_ms(int failures, int answers, int64 retry_after_ms, double jitter)
{
	int64 base = BACKOFF_BASE_MS;
	int64 floor_ms = BACKOFF_FLOOR_MS;
	int64 backoff;

	if (retry_after_ms > 0)
	{
		retry_after_ms = Min(retry_after_ms, TOLD_CAP_MS);
		return retry_after_ms + TOLD_MARGIN_MS + (int64) (TOLD_JITTER * jitter * retry_after_ms);
	}
	/* 2^6 s is past the cap */
	if (answers > MANY_ANSWERS)
	{
		base = Max(BACKOFF_FLOOR_MS, base * MANY_ANSWERS / answers);
		floor_ms = MANY_FLOOR_MS;
	}
	backoff = Min(BACKOFF_CAP_MS, base << Min(failures - 1, 6));
	return Max(floor_ms, (int64) (jitter * backoff));
}

static void
cool_down(LlmLimiter *limiter, int answers, int64 retry_after_ms, double jitter, TimestampTz now)
{
	TimestampTz told = limiter->told_before_check;

	open_circuit(limiter, now);
	/* only cool-downs without a told time lengthen the back-off: many 429s with "50 ms" must not */
	if (retry_after_ms <= 0 && limiter->failures < PG_INT32_MAX)
		limiter->failures++;
	limiter->cooldown_us = MS_TO_US(cooldown_ms(limiter->failures, answers, retry_after_ms, jitter));
	/* a check that was refused does not shorten the cool-down it went ahead of */
	limiter->cooldown_us = Max(limiter->cooldown_us, told - now);
	limiter->not_before = now + limiter->cooldown_us;
}

/*
 * A 429 or a similar refusal; the place of the refused request is still taken.  When a
 * probe is refused, that lengthens the cool-down, but says nothing about the right window.
 */
static void
slow_down(LlmLimiter *limiter, LlmErrorClass class, int64 retry_after_ms, double jitter, TimestampTz now)
{
	bool probe = limiter->half_open;
	int accepted = limiter->accepted;

	if (!probe)
		limiter->kept_window = limiter->window;
	if (!probe && (!limiter->pace_kept || class != LLM_ERR_RATE_LIMITED))
		llm_window_narrow(limiter);
	cool_down(limiter, class == LLM_ERR_RATE_LIMITED ? accepted : 0, retry_after_ms, jitter, now);
	limiter->out = (probe && class == LLM_ERR_OVERLOADED);
	limiter->exceeded_little = !probe && class == LLM_ERR_RATE_LIMITED && accepted > BEYOND_CHANCE &&
							   accepted > BEYOND_CHANCE_WINDOWS * limiter->threshold;
	if (probe || class != LLM_ERR_RATE_LIMITED)
		return;
	llm_pace_note_refusal(limiter, accepted, retry_after_ms > 0, now);
	llm_bucket_keep_for_probe(limiter, now);
}

/* The silence was no outage: the window gets its old size back. */
static void
refute_silence(LlmLimiter *limiter)
{
	limiter->silences_refuted = Min(limiter->silences_refuted + 1, MOST_REFUTED);
	limiter->window = Max(limiter->window, limiter->silent_window);
	limiter->silent_window = 0;
}

/*
 * The provider answered.  The probe's answer closes the circuit, but only the next answer
 * resets the back-off.  So a target that answers nothing but probes is asked less and less
 * often.
 */
static void
note_alive(LlmLimiter *limiter)
{
	limiter->streak = 0;
	if (limiter->accepted < PG_INT32_MAX)
		limiter->accepted++;
	if (limiter->half_open)
	{
		limiter->half_open = false;
		limiter->probing = false;
		limiter->out = false;
		limiter->pause_class = LLM_OK;
		limiter->told_before_check = 0;
		if (limiter->pace_kept)
			limiter->window = Max(limiter->window, limiter->kept_window);
		else if (limiter->exceeded_little)
			limiter->window = Max(limiter->window, limiter->threshold);
		limiter->exceeded_little = false;
		if (limiter->silent_window > 0)
			refute_silence(limiter);
		return;
	}
	limiter->failures = 0;
	llm_window_note_answer(limiter);
	llm_pace_note_answer(limiter);
}

/* Not where it is this machine that has no descriptor, or no memory. */
static bool
is_providers_silence(LlmErrorClass class)
{
	return class == LLM_ERR_TRANSIENT || class == LLM_ERR_TIMEOUT || class == LLM_ERR_UNKNOWN;
}

static void
note_no_answer(LlmLimiter *limiter, LlmErrorClass class, double jitter, int64 retry_after_ms, TimestampTz now)
{
	double window = limiter->window;

	limiter->streak++;
	if (limiter->half_open)
	{
		cool_down(limiter, 0, retry_after_ms, jitter, now);
		limiter->out = is_providers_silence(class);
		limiter->silences_refuted = 0;
	}
	else if (limiter->streak >= OUTAGE_STREAK << limiter->silences_refuted)
	{
		cool_down(limiter, 0, retry_after_ms, jitter, now);
		limiter->out = is_providers_silence(class);
		limiter->silent_window = window;
	}
}

static void
pause_target(LlmLimiter *limiter, LlmErrorClass class, TimestampTz now)
{
	open_circuit(limiter, now);
	limiter->out = true;
	limiter->pause_class = class;
	limiter->paused_until = now + pause_us(class);
}

/*
 * Put back into the buckets what the provider did not count: tokens that were not used
 * and, in buckets that follow the provider's own count, all of a refused request.
 */
static void
return_unused(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
			  int64 tokens_estimated, int64 tokens_used, TimestampTz now)
{
	bool refused = (class == LLM_ERR_RATE_LIMITED);

	if (tokens_used >= 0)
		llm_bucket_debit(limiter, limits, LLM_BUCKETS_OF_TOKENS, (double) tokens_used - (double) tokens_estimated, now);
	else if (refused)
		llm_bucket_uncount(limiter, LLM_BUCKETS_OF_TOKENS, (double) tokens_estimated, now);
	if (refused)
		llm_bucket_uncount(limiter, LLM_BUCKETS_OF_REQUESTS, 1, now);
}

void
llm_limiter_settle(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
				   uint32 generation, int64 tokens_estimated, int64 tokens_used,
				   int64 retry_after_ms, double jitter, TimestampTz now)
{
	return_unused(limiter, limits, class, tokens_estimated, tokens_used, now);
	if (generation == limiter->generation)
	{
		limiter->quiet_since = now;
		switch (meaning_of(class))
		{
			case MEANS_ALIVE:
				note_alive(limiter);
				break;
			case MEANS_SLOW_DOWN:
				slow_down(limiter, class, retry_after_ms, jitter, now);
				break;
			case MEANS_NO_ANSWER:
				note_no_answer(limiter, class, jitter, retry_after_ms, now);
				break;
			case MEANS_PAUSE:
				pause_target(limiter, class, now);
				break;
		}
	}
	if (generation == limiter->generation)
		limiter->occupied = Max(0, limiter->occupied - 1);
	limiter->in_flight = Max(0, limiter->in_flight - 1);
}

void
llm_limiter_settle_row(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
					   uint32 generation, int64 tokens_estimated, TimestampTz now)
{
	return_unused(limiter, limits, class, tokens_estimated, -1, now);
	if (generation == limiter->generation)
	{
		limiter->quiet_since = now;
		limiter->streak = 0;
		limiter->probing = false;
		limiter->occupied = Max(0, limiter->occupied - 1);
	}
	limiter->in_flight = Max(0, limiter->in_flight - 1);
}

void
llm_limiter_shorten_pause(LlmLimiter *limiter, int64 ms, TimestampTz now)
{
	if (limiter->pause_class != LLM_OK)
		limiter->paused_until = Min(limiter->paused_until, now + MS_TO_US(ms));
}

int
llm_limiter_grant_check(LlmLimiter *limiter, const LlmLimits *limits, int64 tokens_each, TimestampTz now,
						LlmWaitReason *reason, TimestampTz *wake_at)
{
	TimestampTz not_before = limiter->not_before;
	TimestampTz paused_until = limiter->paused_until;
	double window = limiter->window;
	int granted;

	limiter->not_before = Min(not_before, now);
	limiter->paused_until = Min(paused_until, now);
	/* what hangs there fills the window, and is not waited for */
	if (window > 0)
		limiter->window = Max(window, limiter->occupied + 1.0);
	granted = llm_limiter_grant(limiter, limits, 1, tokens_each, now, reason, wake_at);
	if (window > 0)
		limiter->window = window;
	if (granted > 0 && limiter->half_open && limiter->pause_class == LLM_OK)
		limiter->told_before_check = not_before;
	if (granted == 0)
	{
		limiter->not_before = not_before;
		limiter->paused_until = paused_until;
	}
	return granted;
}

void
llm_limiter_give_back(LlmLimiter *limiter, const LlmLimits *limits, uint32 generation, int n,
					  int64 tokens_each, TimestampTz now)
{
	limiter->in_flight = Max(0, limiter->in_flight - n);
	llm_bucket_debit(limiter, limits, LLM_BUCKETS_OF_REQUESTS, -n, now);
	llm_bucket_debit(limiter, limits, LLM_BUCKETS_OF_TOKENS, -(double) n * tokens_each, now);
	if (n > 0 && generation == limiter->generation)
	{
		limiter->probing = false;
		limiter->occupied = Max(0, limiter->occupied - n);
		limiter->held_by = LLM_WAIT_NONE; /* there was less to send than was granted */
	}
}

void
llm_limiter_correct(LlmLimiter *limiter, const LlmLimits *limits, const LlmToldLimit *requests,
					const LlmToldLimit *tokens, TimestampTz now)
{
	if (limits->requests_per_minute <= 0)
		llm_bucket_learn(limiter, LLM_BUCKETS_OF_REQUESTS, requests, now);
	if (limits->tokens_per_minute <= 0)
		llm_bucket_learn(limiter, LLM_BUCKETS_OF_TOKENS, tokens, now);
}

void
llm_limiter_unpause(LlmLimiter *limiter)
{
	if (limiter->pause_class == LLM_OK)
		return;
	open_circuit(limiter, limiter->quiet_since);
	limiter->out = true; /* until the next answer says that it is not */
	limiter->not_before = 0;
	limiter->cooldown_us = 0;
	limiter->repairs++;
}

void
llm_limiter_note_mended(LlmLimiter *limiter)
{
	limiter->repairs++;
}

LlmLimiterTurn
llm_limiter_turn(LlmLimiter *limiter, LlmErrorClass class, TimestampTz now, TimestampTz *until)
{
	int64 least_ms = meaning_of(class) == MEANS_SLOW_DOWN ? LONG_SLOW_DOWN_MS : LONG_SHUT_MS;

	*until = limiter->half_open ? gate_opens_at(limiter, now) : now;
	if (limiter->shut_said != limiter->half_open && (!limiter->half_open || *until - now >= MS_TO_US(least_ms)))
	{
		limiter->shut_said = limiter->half_open;
		return limiter->half_open ? LLM_TURN_SHUT : LLM_TURN_OPEN;
	}
	return LLM_TURN_NONE;
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
		case LLM_WAIT_ROOM:
			return "limit: too many targets at a time";
	}
	return "";
}
