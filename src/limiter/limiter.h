/*-------------------------------------------------------------------------
 *
 * limiter.h
 *	  How much may be sent to one target now: requests and tokens per minute,
 *	  requests in flight, cool-downs, and one probe after them.
 *
 * One limiter per (host, key fingerprint, model), since that is what a provider
 * counts; it lives in shared memory (shmem.c), one for all databases.  Pure
 * arithmetic: "now" is an argument, and the caller holds the limiter's lock.
 *
 *	  grant()     how many may leave now; what it grants is in flight, and
 *	              belongs to the limiter's generation of that moment
 *	  settle()    for each granted request exactly once, or
 *	  give_back() for granted requests that were not sent after all
 *	  correct()   after settle(), when the answer told rate limits
 *
 * Aliases of one target share it, each with the limits that its own options tell:
 * each is kept to its own, and all together to the loosest.
 *
 * A process that ends with requests in flight gives them back on its way out;
 * nothing here can know that it is gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_H
#define LLM_LIMITER_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* Limits as told by the options; 0 = not told. */
typedef struct LlmLimits
{
	int requests_per_minute;
	int tokens_per_minute;
	int max_concurrency;
} LlmLimits;

typedef enum LlmWaitReason
{
	LLM_WAIT_NONE = 0,
	LLM_WAIT_REQUESTS, /* requests per minute */
	LLM_WAIT_TOKENS, /* tokens per minute */
	LLM_WAIT_CONCURRENCY,
	LLM_WAIT_COOLDOWN, /* after a 429 or an outage */
	LLM_WAIT_PAUSED, /* key or model paused: see pause_class */
	LLM_WAIT_ROOM /* too many targets: no limiter was free (limiter_shared.h) */
} LlmWaitReason;

/* Fills continuously, up to what it can hold. */
typedef struct LlmBucket
{
	TimestampTz refilled_at; /* right as of here; 0: fresh, which is full */
	double level; /* what is left; less than 0 when overdrawn */
} LlmBucket;

/* Different rates that aliases of one target are told at the same time, and each has a bucket for. */
#define LLM_TOLD_PLACES 4

typedef struct LlmToldBucket
{
	int per_minute; /* as the options tell it; 0: a free place */
	TimestampTz told_at; /* when an alias last told it */
	LlmBucket bucket;
} LlmToldBucket;

/* All that holds for one kind: requests per minute, or tokens. */
typedef struct LlmBuckets
{
	LlmToldBucket told[LLM_TOLD_PLACES];
	LlmBucket learned;
	double learned_rate; /* per second, from answers' headers; 0 = not told there */
	double learned_limit;
} LlmBuckets;

/* Refusals that ask us to send less, and those that a person has to fix. */
typedef enum LlmRefusalKind
{
	LLM_REFUSAL_SLOW_DOWN, /* 429, 503 and similar */
	LLM_REFUSAL_PAUSE, /* the key, the quota, the model, the address */
	LLM_REFUSAL_NONE /* any other answer, and no answer */
} LlmRefusalKind;

#define LLM_REFUSAL_KINDS LLM_REFUSAL_NONE

/* What is known of refusals of one kind. */
typedef struct LlmDoubt
{
	double credit; /* refusals that are put down to chance before the target is blamed */
	int refuted; /* how often a refusal turned out not to be the target's fault */
	int needed; /* how many of these make refusals chance; 0: the initial number */
	bool by_chance; /* refusals do not depend on what we send */
} LlmDoubt;

/* Whose fault refusals are: see limiter_blame.h. */
typedef struct LlmBlameNotes
{
	LlmDoubt doubts[LLM_REFUSAL_KINDS];
	TimestampTz passed_sent_at; /* when the latest request that was not refused had left */
	double rows_passed; /* recently */
	double rows_refused; /* recently, each row once */
	uint64 fresh_row; /* refused for the first time since the last pass; 0: none */
	bool fresh_several; /* several such rows */
	int shut_in_doubt; /* in a row, since the last pass */
	int level; /* requests in flight when the last generation was refused */
	int siblings_passed; /* of what was in flight then */
	int siblings_refused;
	bool probe_refused; /* since then */
} LlmBlameNotes;

/*
 * All plain data, fixed size: it lives in shared memory.  Zeroed = fresh: closed, with
 * a window of one request.
 *
 *	  closed     half_open is false: requests leave as the buckets and the window allow
 *	  cooling    half_open, before the gate (not_before, or paused_until when
 *	             pause_class is set): nothing leaves
 *	  half open  half_open, after the gate: one probe leaves; its answer closes the
 *	             circuit or starts the next cool-down
 *
 * Each cool-down and each pause starts a new generation.  A request of an older
 * one, in flight since before, frees its place when it comes back and changes
 * nothing else, whatever it says.
 */
typedef struct LlmLimiter
{
	int in_flight;
	int concurrency; /* the loosest max_concurrency told recently; 0 = none yet */
	TimestampTz concurrency_told_at;
	LlmWaitReason held_by; /* why the last grant was less than wanted; NONE when it was not */
	TimestampTz turned_away_at; /* when a route with nothing in flight last found no free place (route.c) */

	/* limiter_bucket.c */
	LlmBuckets requests;
	LlmBuckets tokens;
	LlmBucket paced; /* requests, where there is a pace */

	/* limiter_window.c */
	double window; /* how many of a generation may be in flight; 0 = nothing was sent yet */
	int occupied; /* how many of this generation are in flight */
	double threshold; /* below it the window grows fast; 0 = not known */
	TimestampTz quiet_since; /* the last answer, or what has counted as one */

	/* limiter_pace.c */
	double pace; /* learned, per second; 0 = none */
	double pace_borne; /* the pace before it was raised, which the target took; 0 = not raised */
	int pace_answers; /* since the pace was last changed */
	int pace_patience; /* answers before it is raised */
	bool pace_met; /* a raise was refused */
	bool pace_halved; /* halved since the last raise: refused after few answers without a raise */
	bool pace_kept; /* found after many answers: between what was borne and what was refused */
	double pace_top; /* the slowest that was refused since it was found; 0 = none */
	int pace_rises; /* beyond pace_top, in a row */
	int pace_doubts; /* that the rate is why a kept pace is refused */
	int pace_spared; /* refusals that no pace is kept for, since others did not come from the rate */
	int pace_spare; /* the next time that it is given up */
	TimestampTz pace_refused_at; /* the last refusal of a generation */
	double kept_window; /* the window when a kept pace was refused */
	int short_generations; /* consecutive generations that ended after very few answers */
	double short_pace; /* the fastest rate in one of these, per second */
	double generation_answers; /* answers per generation, moving average; 0 = not known */

	/* the circuit */
	uint32 generation; /* cool-downs and pauses so far; wraps around */
	TimestampTz probed_at; /* its first request left */
	int accepted; /* requests of the generation that the provider dealt with */
	bool exceeded_little; /* it cools down for a limit that was kept for long before */
	bool half_open; /* cooling, or waiting for the probe's answer */
	bool out; /* half_open for want of an answer, or since a person has to fix something: no limit */
	bool probing; /* the one probe after a cool-down is out */
	int streak; /* consecutive requests without an answer */
	int silences_refuted; /* consecutive cool-downs after silence whose first probe was answered */
	int failures; /* consecutive cool-downs without a told length, for the back-off */
	double silent_window; /* the window before a cool-down after silence; 0: this is no such cool-down */
	int64 cooldown_us; /* length of the running cool-down */
	TimestampTz not_before; /* end of the cool-down */
	TimestampTz told_before_check; /* not_before as it was when a check went ahead of it; 0: none did */
	LlmErrorClass pause_class; /* LLM_OK, or why the target is paused */
	TimestampTz paused_until; /* probed then, or when the catalog changes */

	bool shut_said; /* llm_limiter_turn() has told that it is shut, and not yet that it is open */
	uint32 repairs; /* how often the cause of a pause was fixed, or a check found it fixed */

	LlmBlameNotes blame; /* limiter_blame.c */
} LlmLimiter;

/* What an answer's headers told of one kind of limit; -1 where nothing was told. */
typedef struct LlmToldLimit
{
	int64 limit;
	int64 remaining;
	int64 reset_ms; /* until all of the limit is there again */
} LlmToldLimit;

/*
 * How many of "want" requests of about "tokens_each" tokens may leave now.  When
 * fewer than wanted, *reason says why and *wake_at when to ask again (DT_NOEND when
 * only a finished request can change it).  The caller keeps limiter->generation with
 * the request: settle() and give_back() need it.
 *
 * The loosest max_concurrency told recently limits everything in flight.  The caller
 * itself keeps an alias to a tighter one.
 */
extern int llm_limiter_grant(LlmLimiter *limiter, const LlmLimits *limits, int want,
							 int64 tokens_each, TimestampTz now,
							 LlmWaitReason *reason, TimestampTz *wake_at);

/*
 * One request of llm.check(): as grant(), but it may leave during a cool-down or a pause,
 * unless a probe is in flight.
 */
extern int llm_limiter_grant_check(LlmLimiter *limiter, const LlmLimits *limits, int64 tokens_each,
								   TimestampTz now, LlmWaitReason *reason, TimestampTz *wake_at);

/*
 * Tells the max_concurrency of a route that has requests in flight but asks for no more;
 * 0 = no limit.  grant() tells it by itself.
 */
extern void llm_limiter_tell_concurrency(LlmLimiter *limiter, int max_concurrency, TimestampTz now);

/*
 * One granted request came back.  generation is the limiter's when it was granted;
 * tokens_estimated is what grant() was told, tokens_used what the provider counted
 * (-1: unknown, the estimate stands); retry_after_ms is -1 when not told; jitter is
 * the caller's random number in [0,1).
 */
extern void llm_limiter_settle(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
							   uint32 generation, int64 tokens_estimated, int64 tokens_used,
							   int64 retry_after_ms, double jitter, TimestampTz now);

/*
 * The same for a refusal that says nothing about the target (limiter_blame.h): it frees its
 * place, and if it was the probe, another one may leave.
 */
extern void llm_limiter_settle_row(LlmLimiter *limiter, const LlmLimits *limits, LlmErrorClass class,
								   uint32 generation, int64 tokens_estimated, TimestampTz now);

/* After settle() has paused the target: probe it after this many ms, if that is sooner than planned. */
extern void llm_limiter_shorten_pause(LlmLimiter *limiter, int64 ms, TimestampTz now);

extern LlmRefusalKind llm_limiter_refusal_kind(LlmErrorClass class);

/* Does an answer of this class show that the provider dealt with the request? */
extern bool llm_limiter_shows_life(LlmErrorClass class);

/* n requests that were granted with these limits in this generation were not sent: undoes the grant. */
extern void llm_limiter_give_back(LlmLimiter *limiter, const LlmLimits *limits, uint32 generation, int n,
								  int64 tokens_each, TimestampTz now);

/*
 * Learn from the headers of a successful answer how many requests and tokens are left.
 * This limits only what the options do not limit, and only while answers keep telling it.
 */
extern void llm_limiter_correct(LlmLimiter *limiter, const LlmLimits *limits,
								const LlmToldLimit *requests, const LlmToldLimit *tokens,
								TimestampTz now);

/*
 * A header's duration in milliseconds, rounded up: "6m0s", "120ms", "1h2m3.5s", or
 * plain seconds.  -1 for anything else, and for NULL.
 */
extern int64 llm_limiter_parse_duration_ms(const char *value);

/* A header's plain count, or -1. */
extern int64 llm_limiter_parse_count(const char *value);

/* The catalog changed: a paused target may be probed at once. */
extern void llm_limiter_unpause(LlmLimiter *limiter);

/* llm.check() was answered: waits that were told before are over. */
extern void llm_limiter_note_mended(LlmLimiter *limiter);

/* What is to be told of a target, once each. */
typedef enum LlmLimiterTurn
{
	LLM_TURN_NONE,
	LLM_TURN_SHUT, /* for a while that somebody may want to know of */
	LLM_TURN_OPEN /* again */
} LlmLimiterTurn;

/*
 * After settle(): has an answer of this class shut the target for long, or opened it again?
 * *until is when it is tried next.
 */
extern LlmLimiterTurn llm_limiter_turn(LlmLimiter *limiter, LlmErrorClass class, TimestampTz now,
									   TimestampTz *until);

extern const char *llm_limiter_reason_name(LlmWaitReason reason);

#endif /* LLM_LIMITER_H */
