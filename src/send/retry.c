/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  What a failed request means for its task; the table is in retry.h.
 *
 * One row per class, so that what waits, what is charged, what is final and what
 * the ledger says can be read side by side.  The sender asks once per request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "send/retry.h"
#include "tables/job_count.h"

/* A task's own back-off: 0.5 s doubled each time, with full jitter, up to a cap. */
#define BACKOFF_BASE_MS 500
#define BACKOFF_CAP_MS 60000
#define BACKOFF_LATE_CAP_MS 600000

/* From here on the late cap holds. */
#define LATE_OUTAGES 20

/* A provider that fails one input this often will not get it right. */
#define GIVE_UP_OUTAGES 50

/* Retries of a job that no share forbids, where a request carries one task. */
#define FREE_RETRIES 20

/* Retries that are not over are reckoned by a mean, which every other time they exceed a little. */
#define ABOVE_THE_MEAN 1.05

typedef enum Again
{
	AGAIN_NEVER,
	AGAIN_AT_ONCE,
	AGAIN_BY_TRIES, /* back-off that grows with the charged failures */
	AGAIN_BY_OUTAGES /* back-off that grows with the failures of this kind */
} Again;

typedef struct Rule
{
	Again again;
	bool charged;
	bool may_be_billed;
	LlmSplit split;
	const char *reason; /* when final; NULL: never */
	const char *outcome;
} Rule;

static const Rule rules[] = {
	[LLM_OK] = {AGAIN_NEVER, false, true, LLM_SPLIT_NEVER, NULL, "ok"},
	[LLM_ERR_TRANSIENT] = {AGAIN_BY_OUTAGES, false, false, LLM_SPLIT_ALSO, "provider_error", "error"},
	[LLM_ERR_RATE_LIMITED] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "rate_limited"},
	[LLM_ERR_OVERLOADED] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "rate_limited"},
	[LLM_ERR_TIMEOUT] = {AGAIN_BY_TRIES, true, true, LLM_SPLIT_ALSO, "timeout", "timeout"},
	[LLM_ERR_UNKNOWN] = {AGAIN_BY_TRIES, true, true, LLM_SPLIT_ALSO, "lost", "unknown"},
	[LLM_ERR_INVALID] = {AGAIN_AT_ONCE, true, true, LLM_SPLIT_NEVER, "invalid_output", "invalid"},
	[LLM_ERR_REFUSED] = {AGAIN_NEVER, true, true, LLM_SPLIT_FREE, "refused", "refused"},
	[LLM_ERR_TRUNCATED] = {AGAIN_NEVER, true, true, LLM_SPLIT_NEVER, "truncated", "truncated"},
	[LLM_ERR_TOO_LONG] = {AGAIN_NEVER, true, false, LLM_SPLIT_FREE, "too_long", "error"},
	[LLM_ERR_TOO_LARGE] = {AGAIN_AT_ONCE, true, true, LLM_SPLIT_FREE, "too_large", "unknown"},
	[LLM_ERR_BAD_REQUEST] = {AGAIN_NEVER, true, false, LLM_SPLIT_FREE, "rejected", "error"},
	[LLM_ERR_WRONG_KIND] = {AGAIN_NEVER, true, false, LLM_SPLIT_NEVER, LLM_WRONG_MODEL_REASON, "error"},
	[LLM_ERR_AUTH] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "error"},
	[LLM_ERR_QUOTA] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "error"},
	[LLM_ERR_UNKNOWN_MODEL] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "error"},
	[LLM_ERR_CONFIG] = {AGAIN_AT_ONCE, false, false, LLM_SPLIT_NEVER, NULL, "error"},
	[LLM_ERR_DROPPED] = {AGAIN_BY_OUTAGES, false, true, LLM_SPLIT_NEVER, NULL, "unknown"},
	[LLM_ERR_LOCAL] = {AGAIN_BY_OUTAGES, false, false, LLM_SPLIT_NEVER, NULL, "error"},
};

/* A provider that fails so often in a row may do so for one of the inputs. */
#define SPLIT_OUTAGES 3

/* When a refusal is the task's own fault; the table is in retry.h. */
typedef struct RefusalRule
{
	int least;
	int most;
	double odds;
	int64 first_wait_ms;
	const char *reason;
} RefusalRule;

static const RefusalRule refusal_rules[] = {
	[LLM_ERR_RATE_LIMITED] = {5, 24, 1e-6, 100, "rejected"},
	[LLM_ERR_OVERLOADED] = {5, 24, 1e-6, 100, "rejected"},
	[LLM_ERR_AUTH] = {3, 6, 1e-3, 1000, "rejected"},
	[LLM_ERR_QUOTA] = {3, 6, 1e-3, 1000, "rejected"},
	[LLM_ERR_UNKNOWN_MODEL] = {3, 6, 1e-3, 1000, "rejected"},
	[LLM_ERR_CONFIG] = {3, 6, 1e-3, 1000, "rejected"},
};

/* Of a told time: its rounding and our own clock reading, then up to 10% of jitter. */
#define TOLD_MARGIN_MS 20
#define TOLD_JITTER 0.1

/* A wait grows by so much with each refusal, and has at most half of itself as jitter. */
#define REFUSED_FACTOR 5
#define REFUSED_JITTER 0.5

static const Rule *
rule_of(LlmErrorClass class)
{
	Assert(class >= 0 && class < lengthof(rules) && rules[class].outcome != NULL);
	return &rules[class];
}

static bool
is_final(const Rule *rule, int tries, int outages, int max_tries)
{
	if (rule->reason == NULL)
		return false;
	if (rule->again == AGAIN_NEVER)
		return true;
	if (rule->charged)
		return tries + 1 >= max_tries;
	return outages + 1 >= GIVE_UP_OUTAGES;
}

/* Full jitter: anything from 0 up to the cap that so many earlier failures have earned. */
static int64
backoff_us(int earlier, int64 cap_ms, double jitter)
{
	/* 2^11 times the base is past every cap */
	int64 most_ms = Min(cap_ms, (int64) BACKOFF_BASE_MS << Min(earlier - 1, 11));

	return (int64) (jitter * most_ms * 1000);
}

LlmVerdict
llm_retry_decide(LlmErrorClass class, int tries, int outages, int max_tries,
				 double jitter, TimestampTz now)
{
	const Rule *rule = rule_of(class);
	LlmVerdict verdict = {0};
	int earlier = (rule->again == AGAIN_BY_TRIES) ? tries : outages;

	verdict.charged = rule->charged;
	verdict.outage = (rule->again == AGAIN_BY_OUTAGES);
	if (is_final(rule, tries, outages, max_tries))
	{
		verdict.final = true;
		verdict.reason = rule->reason;
	}
	else if (rule->again == AGAIN_AT_ONCE || earlier <= 0)
		verdict.requeue_now = true;
	else
	{
		int64 cap_ms = (earlier + 1 < LATE_OUTAGES) ? BACKOFF_CAP_MS : BACKOFF_LATE_CAP_MS;

		verdict.not_before = now + backoff_us(earlier, cap_ms, jitter);
		verdict.reason = "backoff";
	}
	return verdict;
}

bool
llm_retry_is_refusal(LlmErrorClass class)
{
	return class < lengthof(refusal_rules) && refusal_rules[class].reason != NULL;
}

/* So many refusals in a row happen to one task in 1/odds where so large a share is refused by chance. */
static int
refusals_beyond_chance(const RefusalRule *rule, double share)
{
	double n = ceil(log(rule->odds) / log(Max(Min(share, 0.999), 1e-9)));

	return (int) Max((double) rule->least, Min(n, (double) rule->most));
}

static int64
wait_ms(const RefusalRule *rule, const LlmRefused *refused, double jitter)
{
	int64 ms = rule->first_wait_ms;

	for (int i = 1; i < refused->refusals && ms < BACKOFF_CAP_MS; i++)
		ms *= REFUSED_FACTOR;
	ms = (int64) (Min(ms, BACKOFF_CAP_MS) * (1 - REFUSED_JITTER * jitter));
	if (refused->told_ms <= 0)
		return ms;
	return Max(ms, refused->told_ms + TOLD_MARGIN_MS + (int64) (TOLD_JITTER * jitter * refused->told_ms));
}

LlmVerdict
llm_retry_refused(LlmErrorClass class, const LlmRefused *refused, double jitter, TimestampTz now)
{
	const RefusalRule *rule = &refusal_rules[class];
	LlmVerdict verdict = {0};

	Assert(llm_retry_is_refusal(class));
	if (refused->counted >= refusals_beyond_chance(rule, refused->share))
	{
		verdict.final = true;
		verdict.charged = true;
		verdict.reason = rule->reason;
		return verdict;
	}
	verdict.requeue_now = true;
	verdict.not_before = now + wait_ms(rule, refused, jitter) * 1000;
	return verdict;
}

bool
llm_retry_counts_dollars(const LlmRetrySums *sums)
{
	return sums->cost > 0 && sums->tokens > 0;
}

bool
llm_retry_within_share(const LlmRetrySums *sums, int64 tokens, int together, double share)
{
	bool dollars = llm_retry_counts_dollars(sums);
	double total = dollars ? sums->cost : (double) sums->tokens;
	double spent = dollars ? sums->retry_cost : (double) sums->retry_tokens;
	double this_one = dollars ? tokens * sums->cost / sums->tokens : (double) tokens;
	double each = sums->retried > 0 ? spent / sums->retried : this_one;
	double to_come = (Max(sums->retries - sums->retried, 0) * each + Max(each, this_one)) * ABOVE_THE_MEAN;

	return sums->retries < (int64) FREE_RETRIES * Max(together, 1) || spent + to_come <= share * (total + to_come);
}

const char *
llm_retry_outcome(LlmErrorClass class)
{
	return rule_of(class)->outcome;
}

bool
llm_retry_may_be_billed(LlmErrorClass class)
{
	return rule_of(class)->may_be_billed;
}

LlmSplit
llm_retry_split(LlmErrorClass class, int outages)
{
	const Rule *rule = rule_of(class);

	/* what backs off by outages may be anybody's at first */
	if (rule->again == AGAIN_BY_OUTAGES && outages + 1 < SPLIT_OUTAGES)
		return LLM_SPLIT_NEVER;
	return rule->split;
}
