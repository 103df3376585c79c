/*-------------------------------------------------------------------------
 *
 * limiter_test.c
 *	  The limiter against a simulated clock and small simulated providers.
 *	  Nothing sleeps.  The tests of P7 (limits are respected before they are hit)
 *	  begin with its name.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "limiter.h"

#define START INT64CONST(800000000000000)
#define SECOND INT64CONST(1000000)
#define MS INT64CONST(1000)

static LlmLimiter limiter;
static LlmLimits limits;
static LlmWaitReason reason;
static TimestampTz wake_at;
static TimestampTz now;

static void
fresh(int requests_per_minute, int tokens_per_minute, int max_concurrency)
{
	memset(&limiter, 0, sizeof(limiter));
	limits.requests_per_minute = requests_per_minute;
	limits.tokens_per_minute = tokens_per_minute;
	limits.max_concurrency = max_concurrency;
	now = START;
}

static int
grant(int want, int64 tokens_each)
{
	return llm_limiter_grant(&limiter, &limits, want, tokens_each, now, &reason, &wake_at);
}

static void
settle_as(uint32 generation, LlmErrorClass class, int64 retry_after_ms, double jitter)
{
	llm_limiter_settle(&limiter, &limits, class, generation, 0, -1, retry_after_ms, jitter, now);
}

static void
settle(LlmErrorClass class)
{
	settle_as(limiter.generation, class, -1, 0.5);
}

/* A provider that allows a request each "gap" and nothing in advance. */
typedef struct StrictProvider
{
	TimestampTz last;
	int64 gap;
	int rejected;
} StrictProvider;

static void
arrive(StrictProvider *provider, TimestampTz at)
{
	if (provider->last != 0 && at - provider->last < provider->gap)
		provider->rejected++;
	else
		provider->last = at;
}

/* Send "rows" one by one as granted, each wake-up and each way late by a bit. */
static void
send_rows(StrictProvider *provider, int rows)
{
	for (int sent = 0; sent < rows;)
	{
		if (grant(rows - sent, 100) == 0)
		{
			now = wake_at + (sent % 4) * 5 * MS;
			continue;
		}
		arrive(provider, now + (sent % 3) * 10 * MS);
		settle(LLM_OK);
		sent++;
	}
}

static void
test_requests_per_minute(void)
{
	StrictProvider provider = {0, SECOND, 0};

	fresh(60, 0, 64);
	send_rows(&provider, 47);
	is(provider.rejected, 0, "P7 47 rows at 60 a minute: no 429 from a provider without burst");
	ok(now - START <= 46 * SECOND * 11 / 10, "P7 47 rows at 60 a minute: at most 1.1 times 46 s");

	fresh(60, 0, 64);
	is(grant(10, 100), 1, "one of ten leaves at once");
	is(reason, LLM_WAIT_REQUESTS, "the others wait for requests per minute");
	ok(wake_at > now && wake_at <= now + 11 * SECOND / 10, "and know for how long");
	now += 3600 * SECOND;
	is(grant(10, 100), 1, "an idle hour saves up no burst");

	fresh(60000, 0, 0);
	is(grant(1000, 100), 47, "1000 a second: what 50 ms bring");
}

static void
test_tokens_per_minute(void)
{
	int64 sent = 0;

	fresh(0, 60000, 0);
	for (int i = 0; i < 6000; i++)
	{
		int n = grant(10, 500);

		sent += n * 500;
		for (int k = 0; k < n; k++)
			settle(LLM_OK);
		now += 10 * MS;
	}
	ok(sent <= 60000 && sent >= 55000, "P7 a minute at 60000 tokens a minute uses them and no more");

	fresh(0, 60000, 0);
	is(grant(5, 5000), 1, "a request larger than the bucket leaves when it is full");
	is(grant(1, 10), 0, "and overdraws it");
	is(reason, LLM_WAIT_TOKENS, "so that others wait for tokens");
	ok(wake_at > now + 4 * SECOND, "for as long as it takes to flow back");
	now = wake_at;
	is(grant(1, 10), 1, "and leave when told to ask again");

	fresh(0, 60000, 0);
	(void) grant(1, 900);
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 900, 100, -1, 0.5, now);
	is(grant(1, 800), 1, "tokens that were not used come back");
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 800, 3000, -1, 0.5, now);
	is(grant(1, 10), 0, "tokens used beyond the estimate are missing");
}

static void
test_concurrency(void)
{
	fresh(0, 0, 8);
	is(grant(20, 100), 8, "no more than max_concurrency in flight");
	is(reason, LLM_WAIT_CONCURRENCY, "the others wait for it");
	ok(wake_at == DT_NOEND, "until something finishes");
	settle(LLM_OK);
	is(grant(20, 100), 1, "one back, one out");
	llm_limiter_give_back(&limiter, limiter.generation, 3, 100);
	is(limiter.in_flight, 5, "given back as if never granted");
	is(grant(2, 100), 2, "a smaller want is met");
	is(reason, LLM_WAIT_NONE, "and waits for nothing");
	is(grant(0, 100), 0, "nothing wanted, nothing granted");
}

/* 100 in flight: one 429, then the rest of them, half 429 as well. */
static void
test_one_429_of_a_hundred(void)
{
	TimestampTz gate;
	uint32 before;
	int extra = 0;

	fresh(0, 0, 100);
	is(grant(100, 100), 100, "a hundred in flight");
	before = limiter.generation;
	settle_as(before, LLM_ERR_RATE_LIMITED, 2000, 0.0);
	gate = limiter.not_before;
	ok(gate >= now + 2 * SECOND, "P7 Retry-After is a minimum");
	ok(gate <= now + 22 * SECOND / 10, "and not much exceeded");
	for (int i = 0; i < 60; i++)
	{
		now += 10 * MS;
		extra += grant(10, 100);
		settle_as(before, i % 2 == 0 ? LLM_ERR_RATE_LIMITED : LLM_OK, 2000, 0.9);
	}
	is(limiter.not_before, gate, "P7 requests that were in flight do not extend the cool-down");
	is(extra, 0, "P7 nothing leaves while cooling down");
	ok(reason == LLM_WAIT_COOLDOWN && wake_at == gate, "the wait ends when it ends");

	now = gate;
	is(grant(10, 100), 1, "P7 one probe leaves after it");
	is(grant(10, 100), 0, "P7 and no second one");
	ok(wake_at == DT_NOEND, "until the probe is back");
	for (int i = 0; i < 38; i++)
		settle_as(before, i % 2 == 0 ? LLM_ERR_RATE_LIMITED : LLM_OK, 2000, 0.9);
	is(grant(10, 100), 0, "P7 late answers, good or bad, say nothing about the probe");
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 2000, 0.5);
	is(grant(10, 100), 0, "P7 a probe that is refused starts the next cool-down");
	now = wake_at;
	is(grant(10, 100), 1, "with one probe after it");
	settle(LLM_OK);
	settle_as(before, LLM_ERR_RATE_LIMITED, 2000, 0.5);
	is(grant(100, 100), 25, "an answered probe lets a window through: 100, halved twice");
	is(limiter.in_flight, 25, "all are accounted for");
}

static void
test_backoff(void)
{
	int64 longest = 0;

	fresh(0, 0, 4);
	for (int i = 0; i < 12; i++)
	{
		is(grant(1, 100), 1, "a probe");
		settle_as(limiter.generation, LLM_ERR_OVERLOADED, -1, 0.999);
		longest = limiter.not_before - now;
		if (i == 0)
			ok(longest > 990 * MS && longest <= SECOND, "without Retry-After the first back-off is up to 1 s");
		if (i == 1)
			ok(longest > 1990 * MS && longest <= 2 * SECOND, "the second up to 2 s");
		now = limiter.not_before;
	}
	ok(longest > 59 * SECOND && longest <= 60 * SECOND, "none exceeds a minute");
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_OVERLOADED, -1, 0.0);
	ok(limiter.not_before - now >= 100 * MS, "no jitter makes it vanish");
	now = limiter.not_before;
	(void) grant(1, 100);
	settle(LLM_OK);
	is(limiter.failures, 14 - 1, "the probe alone does not forgive");
	(void) grant(1, 100);
	settle(LLM_OK);
	is(limiter.failures, 0, "the next answer does");
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, INT64CONST(1) << 60, 0.5);
	ok(limiter.not_before - now < 2 * 24 * 3600 * SECOND, "an absurd Retry-After is cut to a day");
}

static void
test_outage(void)
{
	fresh(0, 0, 64);
	(void) grant(64, 100);
	for (int i = 0; i < 4; i++)
		settle(LLM_ERR_TRANSIENT);
	settle(LLM_OK);
	for (int i = 0; i < 4; i++)
		settle(LLM_ERR_TIMEOUT);
	is(grant(1, 100), 1, "failures with answers in between are bad luck");
	settle(LLM_ERR_UNKNOWN);
	is(grant(1, 100), 0, "five in a row are an outage");
	is(reason, LLM_WAIT_COOLDOWN, "which is waited out");
	now = wake_at;
	is(grant(10, 100), 1, "with one probe");
	settle(LLM_ERR_TRANSIENT);
	is(grant(10, 100), 0, "whose failure goes on with it");
	now = wake_at;
	(void) grant(10, 100);
	settle(LLM_ERR_BAD_REQUEST);
	is(grant(5, 100), 5, "any answer at all ends it");
}

static void
test_pause(void)
{
	uint32 before;

	fresh(0, 0, 64);
	(void) grant(64, 100);
	before = limiter.generation;
	settle(LLM_ERR_AUTH);
	settle_as(before, LLM_ERR_AUTH, -1, 0.5);
	is(grant(1, 100), 0, "a rejected key pauses the target");
	ok(reason == LLM_WAIT_PAUSED && wake_at == now + 60 * SECOND, "for a minute");
	now = wake_at;
	is(grant(10, 100), 1, "then one probe");
	is(limiter.pause_class, LLM_ERR_AUTH, "until it is answered the reason stands");
	settle(LLM_ERR_AUTH);
	is(grant(1, 100), 0, "rejected again, paused again");
	llm_limiter_unpause(&limiter);
	is(grant(10, 100), 1, "a changed catalog: probed at once");
	settle_as(before, LLM_ERR_AUTH, -1, 0.5);
	is(limiter.pause_class, LLM_OK, "answers to the old key pause nothing");
	settle(LLM_OK);
	is(grant(3, 100), 3, "and open again");
	settle(LLM_ERR_QUOTA);
	(void) grant(1, 100);
	ok(wake_at == now + 300 * SECOND, "a spent quota pauses for five minutes");
	now = wake_at;
	(void) grant(1, 100);
	llm_limiter_give_back(&limiter, limiter.generation, 1, 100);
	is(grant(1, 100), 1, "a probe that was not sent makes room for another");
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 2000, 0.5);
	(void) grant(1, 100);
	is(reason, LLM_WAIT_COOLDOWN, "a probe that meets a limit ends the pause and cools down");
	llm_limiter_unpause(&limiter);
	is(grant(1, 100), 0, "which a changed catalog does not cut short");
}

static void
test_clock_jumps(void)
{
	fresh(60, 0, 64);
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 2000, 0.0);
	now -= 3600 * SECOND;
	is(grant(1, 100), 0, "set back by an hour while cooling down: still cooling");
	ok(wake_at <= now + 3 * SECOND, "but no longer than told");
	now = wake_at;
	is(grant(1, 100), 1, "and over then");
	settle(LLM_OK);
	now -= 3600 * SECOND;
	(void) grant(1, 100);
	ok(wake_at <= now + 2 * SECOND, "set back by an hour: the bucket fills as before");
	now += 86400 * SECOND;
	is(grant(100, 100), 1, "set forward by a day: no burst");
	settle(LLM_ERR_AUTH);
	now -= 86400 * SECOND;
	(void) grant(1, 100);
	ok(wake_at <= now + 60 * SECOND, "set back while paused: no longer than a minute");
}

static void
test_window(void)
{
	int rounds = 0;

	fresh(0, 0, 64);
	(void) grant(64, 100);
	settle_as(limiter.generation, LLM_ERR_OVERLOADED, 1000, 0.0);
	is((int64) limiter.window, 32, "the window is halved");
	for (int i = 0; i < 63; i++)
		settle_as(0, LLM_ERR_OVERLOADED, 1000, 0.0);
	is((int64) limiter.window, 32, "once for all that were in flight");
	now = limiter.not_before;
	(void) grant(1, 100);
	settle(LLM_OK);
	is(grant(100, 100), 32, "so many leave then");
	for (int i = 0; i < 32; i++)
		settle(LLM_OK);
	ok(limiter.window > 32 && limiter.window < 33.01, "a window of answers widens it by about one");
	while (limiter.window > 0 && rounds++ < 100)
	{
		for (int n = grant(100, 100); n > 0; n--)
			settle(LLM_OK);
	}
	ok(rounds > 30 && rounds < 100, "until it is as wide as the limit");
	is(grant(100, 100), 64, "which holds again");
	fresh(0, 0, 0);
	is(grant(1000, 100), 1000, "no limit told, none made up");
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 1000, 0.0);
	is((int64) limiter.window, 500, "until the provider says so");
}

/* A provider that counts 60 a minute, tells it in headers, and answers after 100 ms. */
static void
test_learned_limits(void)
{
	double bucket = 60;
	int rejected = 0;
	int sent = 0;
	LlmToldLimit none = {-1, -1, -1};

	fresh(0, 0, 8);
	for (; sent < 150; now += 100 * MS)
	{
		int n = grant(150 - sent, 100);

		bucket = Min(60.0, bucket + 0.1);
		for (int i = 0; i < n; i++)
		{
			LlmToldLimit told = {60, 0, 0};

			if (bucket < 1)
				rejected++;
			else
				bucket -= 1;
			told.remaining = (int64) bucket;
			told.reset_ms = (int64) ((60 - bucket) * 1000);
			settle(LLM_OK);
			llm_limiter_correct(&limiter, &limits, &told, &none, now);
		}
		sent += n;
	}
	is(rejected, 0, "P7 limits told by answers are kept without being hit");
	ok(now - START < 110 * SECOND, "and used");

	llm_limiter_correct(&limiter, &limits, &none, &none, now);
	is(grant(8, 100), 8, "what answers tell no more does not limit");

	fresh(60, 0, 8);
	llm_limiter_correct(&limiter, &limits, &(LlmToldLimit){10000, 9999, 6}, &none, now);
	is(grant(8, 100), 1, "what the options tell stands");
}

static void
test_parsing(void)
{
	is(llm_limiter_parse_duration_ms("6m0s"), 360000, "6m0s");
	is(llm_limiter_parse_duration_ms("120ms"), 120, "120ms");
	is(llm_limiter_parse_duration_ms("51.189s"), 51189, "51.189s");
	is(llm_limiter_parse_duration_ms("1h2m3s"), 3723000, "1h2m3s");
	is(llm_limiter_parse_duration_ms("1h2m3.5s"), 3723500, "1h2m3.5s");
	is(llm_limiter_parse_duration_ms("20"), 20000, "20");
	is(llm_limiter_parse_duration_ms("0.25"), 250, "0.25");
	is(llm_limiter_parse_duration_ms("0"), 0, "0");
	is(llm_limiter_parse_duration_ms("300us"), 1, "300us is rounded up");
	is(llm_limiter_parse_duration_ms("\xc2\xb5s"), -1, "a unit without a number");
	is(llm_limiter_parse_duration_ms("5 apples"), -1, "5 apples");
	is(llm_limiter_parse_duration_ms("-5s"), -1, "-5s");
	is(llm_limiter_parse_duration_ms(""), -1, "nothing");
	is(llm_limiter_parse_duration_ms(NULL), -1, "no header");
	is(llm_limiter_parse_duration_ms("99999999999999999999h"), INT64CONST(86400000), "an absurd one is cut to a day");
	is(llm_limiter_parse_count("200000"), 200000, "a count");
	is(llm_limiter_parse_count("2e5"), -1, "not a plain count");
	is(llm_limiter_parse_count("99999999999999999999"), -1, "too large a count");
	is(llm_limiter_parse_count(NULL), -1, "no count");
}

int
main(void)
{
	test_requests_per_minute();
	test_tokens_per_minute();
	test_concurrency();
	test_one_429_of_a_hundred();
	test_backoff();
	test_outage();
	test_pause();
	test_clock_jumps();
	test_window();
	test_learned_limits();
	test_parsing();
	return finish();
}
