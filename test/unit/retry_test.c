/*-------------------------------------------------------------------------
 *
 * retry_test.c
 *	  What a failed request means for its task, for every class.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "send/retry.h"

#define NOW INT64CONST(800000000000000)
#define SECOND INT64CONST(1000000)
#define MAX_TRIES 3

/* What the first failure of a class brings, and the third. */
typedef struct Expected
{
	LlmErrorClass class;
	const char *name;
	bool charged;
	bool final_first;
	const char *final_third; /* reason, or NULL */
	const char *outcome;
	bool may_be_billed;
} Expected;

static const Expected expected[] = {
	{LLM_ERR_TRANSIENT, "transient", false, false, NULL, "error", false},
	{LLM_ERR_RATE_LIMITED, "rate limited", false, false, NULL, "rate_limited", false},
	{LLM_ERR_OVERLOADED, "overloaded", false, false, NULL, "rate_limited", false},
	{LLM_ERR_TIMEOUT, "timeout", true, false, "timeout", "timeout", true},
	{LLM_ERR_UNKNOWN, "unknown", true, false, "lost", "unknown", true},
	{LLM_ERR_INVALID, "invalid", true, false, "invalid_output", "invalid", true},
	{LLM_ERR_REFUSED, "refused", true, true, "refused", "refused", true},
	{LLM_ERR_TRUNCATED, "truncated", true, true, "truncated", "truncated", true},
	{LLM_ERR_TOO_LONG, "too long", true, true, "too_long", "error", false},
	{LLM_ERR_TOO_LARGE, "too large", true, false, "too_large", "unknown", true},
	{LLM_ERR_BAD_REQUEST, "bad request", true, true, "rejected", "error", false},
	{LLM_ERR_WRONG_KIND, "wrong kind", true, true, "wrong_model", "error", false},
	{LLM_ERR_AUTH, "auth", false, false, NULL, "error", false},
	{LLM_ERR_QUOTA, "quota", false, false, NULL, "error", false},
	{LLM_ERR_UNKNOWN_MODEL, "unknown model", false, false, NULL, "error", false},
	{LLM_ERR_CONFIG, "config", false, false, NULL, "error", false},
	{LLM_ERR_LOCAL, "local", false, false, NULL, "error", false},
};

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void
test_class(const Expected *e)
{
	LlmVerdict first = llm_retry_decide(e->class, 0, 0, MAX_TRIES, 0.5, NOW);
	LlmVerdict third = llm_retry_decide(e->class, MAX_TRIES - 1, MAX_TRIES - 1, MAX_TRIES, 0.5, NOW);
	char name[100];

	snprintf(name, sizeof(name), "%s: the first time", e->name);
	ok(first.charged == e->charged && first.final == e->final_first && first.requeue_now == !e->final_first &&
		   first.not_before == 0,
	   name);
	snprintf(name, sizeof(name), "%s: at max_tries", e->name);
	ok(third.final == (e->final_third != NULL) && (!third.final || same(third.reason, e->final_third)), name);
	snprintf(name, sizeof(name), "%s: in the ledger", e->name);
	ok(same(llm_retry_outcome(e->class), e->outcome) && llm_retry_may_be_billed(e->class) == e->may_be_billed, name);
}

static int64
wait_after(LlmErrorClass class, int tries, int outages, double jitter)
{
	LlmVerdict verdict = llm_retry_decide(class, tries, outages, 100, jitter, NOW);

	if (verdict.final || verdict.requeue_now || !same(verdict.reason, "backoff"))
		return -1;
	return verdict.not_before - NOW;
}

static void
test_backoff(void)
{
	is(wait_after(LLM_ERR_TRANSIENT, 0, 1, 0.5), SECOND / 4, "the second 500 waits for up to half a second");
	is(wait_after(LLM_ERR_TRANSIENT, 0, 2, 0.5), SECOND / 2, "the third for up to one");
	is(wait_after(LLM_ERR_TRANSIENT, 0, 1, 0.0), 0, "with full jitter");
	is(wait_after(LLM_ERR_TRANSIENT, 0, 18, 0.5), 30 * SECOND, "then up to a minute");
	is(wait_after(LLM_ERR_TRANSIENT, 0, 48, 0.5), 300 * SECOND, "at last up to ten");
	is(wait_after(LLM_ERR_LOCAL, 0, 1000000, 0.5), 300 * SECOND, "local trouble is never final");
	is(wait_after(LLM_ERR_TIMEOUT, 1, 40, 0.5), SECOND / 4, "a time-out waits by its tries, not by other failures before it");
	is(wait_after(LLM_ERR_UNKNOWN, 2, 3, 0.5), SECOND / 2, "so does a lost answer");
}

static void
test_giving_up(void)
{
	LlmVerdict verdict = llm_retry_decide(LLM_ERR_TRANSIENT, 0, 49, MAX_TRIES, 0.5, NOW);

	ok(verdict.final && same(verdict.reason, "provider_error") && !verdict.charged,
	   "an input that always gives a 500 is given up in the end");
	verdict = llm_retry_decide(LLM_ERR_RATE_LIMITED, 0, 100000, MAX_TRIES, 0.5, NOW);
	ok(!verdict.final && verdict.requeue_now, "P7 a 429 is never a failure of the task");
	ok(!verdict.outage, "P7 nor one of those that are counted for a back-off");
	verdict = llm_retry_decide(LLM_ERR_AUTH, 2, 100000, MAX_TRIES, 0.5, NOW);
	ok(!verdict.final && !verdict.charged, "a rejected key is never a failure of the task");
	verdict = llm_retry_decide(LLM_ERR_INVALID, 0, 1, 1, 0.5, NOW);
	ok(verdict.final && verdict.charged, "max_tries of one: asked once");
}

static void
test_share(void)
{
	LlmRetrySums sums = {.cost = 0.10,
						 .retry_cost = 0.009,
						 .tokens = 100000,
						 .retry_tokens = 9000,
						 .retries = 90,
						 .retried = 90};

	ok(llm_retry_within_share(&sums, 100, 1, 0.1), "P3 a retry that keeps within the share is affordable");
	ok(!llm_retry_within_share(&sums, 1200, 1, 0.1), "P3 one that would exceed it is not");
	sums.retries = 98;
	ok(llm_retry_within_share(&sums, 100, 1, 0.1), "P3 it is beside a few that are on their way");
	sums.retries = 100;
	ok(!llm_retry_within_share(&sums, 100, 1, 0.1), "P3 unless, a little dearer than the mean, they exceed the share");
	sums.retries = 105;
	ok(!llm_retry_within_share(&sums, 100, 1, 0.1), "P3 nor one beside retries that are on their way");
	ok(llm_retry_within_share(&sums, 100, 1, 0.2), "a larger share allows them");
	sums.retries = 1000000;
	ok(llm_retry_within_share(&sums, 100, 1, 1.0), "the whole share allows any number");
	ok(llm_retry_counts_dollars(&sums), "dollars count where a price is known");
	sums.cost = 0;
	ok(!llm_retry_counts_dollars(&sums), "else tokens");
	sums.retries = 90;
	ok(llm_retry_within_share(&sums, 100, 1, 0.1) && !llm_retry_within_share(&sums, 1200, 1, 0.1),
	   "with the same result");
	sums = (LlmRetrySums){.tokens = 100, .retries = 19};
	ok(llm_retry_within_share(&sums, 1000, 1, 0.0), "the first 20 retries of a job are free");
	sums.retries = 20;
	ok(!llm_retry_within_share(&sums, 1000, 1, 0.0), "the next is not");
	sums.retries = 20 * 128 - 1;
	ok(llm_retry_within_share(&sums, 1000, 128, 0.0), "of requests with 128 tasks the first 20 are, too");
	sums.retries = 20 * 128;
	ok(!llm_retry_within_share(&sums, 1000, 128, 0.0), "and the next is not");
	sums = (LlmRetrySums){.retries = 20};
	ok(llm_retry_within_share(&sums, 0, 1, 0.0), "a retry that costs nothing takes no share");
}

/* A request that carried several. */
static void
test_split(void)
{
	ok(llm_retry_split(LLM_ERR_BAD_REQUEST, 0) == LLM_SPLIT_FREE &&
		   llm_retry_split(LLM_ERR_TOO_LONG, 9) == LLM_SPLIT_FREE,
	   "what one input may be guilty of is split, and charged to none");
	ok(llm_retry_split(LLM_ERR_TIMEOUT, 0) == LLM_SPLIT_ALSO, "a lost answer is charged, and asked for in parts");
	ok(llm_retry_split(LLM_ERR_TRANSIENT, 0) == LLM_SPLIT_NEVER &&
		   llm_retry_split(LLM_ERR_TRANSIENT, 1) == LLM_SPLIT_NEVER &&
		   llm_retry_split(LLM_ERR_TRANSIENT, 2) == LLM_SPLIT_ALSO,
	   "the third 500 in a row may be for one of the inputs");
	ok(llm_retry_split(LLM_ERR_RATE_LIMITED, 99) == LLM_SPLIT_NEVER &&
		   llm_retry_split(LLM_ERR_AUTH, 99) == LLM_SPLIT_NEVER &&
		   llm_retry_split(LLM_OK, 99) == LLM_SPLIT_NEVER,
	   "a limit or a key is nobody's");
}

int
main(void)
{
	for (int i = 0; i < lengthof(expected); i++)
		test_class(&expected[i]);
	is(same(llm_retry_outcome(LLM_OK), "ok"), true, "an answer is ok in the ledger");
	test_backoff();
	test_giving_up();
	test_share();
	test_split();
	return finish();
}
