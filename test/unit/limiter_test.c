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

#include <math.h>

#include "limiter/limiter.h"
#include "limiter/limiter_pace.h"

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

/* As after many answers: only what the options tell holds back. */
static void
proven(int requests_per_minute, int tokens_per_minute, int max_concurrency)
{
	fresh(requests_per_minute, tokens_per_minute, max_concurrency);
	limiter.window = 1e6;
	limiter.accepted = 1000;
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

static void
give_back(int n)
{
	llm_limiter_give_back(&limiter, &limits, limiter.generation, n, 100, now);
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

	proven(60, 0, 64);
	is(grant(10, 100), 1, "one of ten leaves at once");
	is(reason, LLM_WAIT_REQUESTS, "the others wait for requests per minute");
	ok(wake_at > now && wake_at <= now + 11 * SECOND / 10, "and know for how long");
	now += 3600 * SECOND;
	is(grant(10, 100), 1, "an idle hour saves up no burst");

	proven(60000, 0, 0);
	is(grant(1000, 100), 46, "1000 a second: what 50 ms bring");
}

/* Two routes to one target ask in turn, one of them with requests that need the level to rise. */
static void
test_large_beside_small(void)
{
	int large = 0;
	int small = 0;

	proven(0, 60000, 0);
	for (int i = 0; i < 6000; i++)
	{
		bool first = i % 2 == 0;
		int n = first ? grant(1, 2000) : 0;
		int k = grant(100, 300);

		n += first ? 0 : grant(1, 2000);
		large += n;
		small += k;
		for (; n + k > 0; k--)
			settle(LLM_OK);
		now += 10 * MS;
	}
	ok(large >= 5, "P7 small requests do not keep large ones out");
	ok(small >= 5, "nor large ones small ones");
	printf("# %d large and %d small ones in a minute\n", large, small);
	ok(large * 2000 + small * 300 <= 62000, "and both together keep to the rate");
}

static void
test_tokens_per_minute(void)
{
	int64 sent = 0;

	proven(0, 60000, 0);
	for (int i = 0; i < 6000; i++)
	{
		int n = grant(10, 500);

		sent += n * 500;
		for (int k = 0; k < n; k++)
			settle(LLM_OK);
		now += 10 * MS;
	}
	ok(sent <= 60000 && sent >= 55000, "P7 a minute at 60000 tokens a minute uses them and no more");

	proven(0, 60000, 0);
	is(grant(5, 5000), 1, "a request larger than the bucket leaves when there is something in it");
	is(grant(1, 10), 0, "and overdraws it");
	is(reason, LLM_WAIT_TOKENS, "so that others wait for tokens");
	ok(wake_at > now + 4 * SECOND, "for as long as it takes to flow back");
	now = wake_at;
	is(grant(1, 10), 1, "and leave when told to ask again");

	proven(0, 60000, 0);
	(void) grant(1, 900);
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 900, 100, -1, 0.5, now);
	is(grant(1, 800), 1, "tokens that were not used come back");
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 800, 3000, -1, 0.5, now);
	is(grant(1, 10), 0, "tokens used beyond the estimate are missing");
}

static void
test_absurd_usage(void)
{
	proven(0, 60000, 0);
	(void) grant(1, 500);
	for (int i = 0; i < 3; i++)
		llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 500, INT64CONST(4294967295), -1, 0.5, now);
	is(grant(1, 500), 0, "an absurd usage overdraws the bucket");
	ok(wake_at > now + 50 * SECOND && wake_at < now + 65 * SECOND, "P6 by no more than a minute brings");
	now = wake_at;
	is(grant(1, 500), 1, "after which the next one leaves");
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 500, PG_INT64_MAX, -1, 0.5, now);
	is(grant(1, PG_INT64_MAX), 0, "the largest numbers there are");
	ok(wake_at > now + 50 * SECOND && wake_at < now + 65 * SECOND, "make no difference");

	proven(0, 0, 0);
	llm_limiter_correct(&limiter, &limits, &(LlmToldLimit){-1, -1, -1},
						&(LlmToldLimit){INT64CONST(1000000000000000), INT64CONST(999999999999999), 86400000}, now);
	limiter.tokens.learned.level = 0;
	is(grant(1, INT64CONST(1000000000000)), 0, "a large request waits for a learned rate of next to nothing");
	ok(wake_at > now && wake_at <= now + 86400 * SECOND, "not for ever");
}

static void
test_concurrency(void)
{
	proven(0, 0, 8);
	is(grant(20, 100), 8, "no more than max_concurrency in flight");
	is(reason, LLM_WAIT_CONCURRENCY, "the others wait for it");
	ok(wake_at == DT_NOEND, "until something finishes");
	settle(LLM_OK);
	is(grant(20, 100), 1, "one back, one out");
	give_back(3);
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

	proven(0, 0, 100);
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
	is(grant(100, 100), 1, "P7 after an answered probe the next one leaves, alone");
	is(limiter.in_flight, 1, "all are accounted for");
	for (int i = 0; i < 6; i++)
	{
		for (int n = limiter.in_flight; n > 0; n--)
			settle(LLM_OK);
		(void) grant(100, 100);
	}
	ok(limiter.in_flight >= 50 && limiter.in_flight < 54, "some round trips later half of what met the 429, and hardly more");
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
	for (int i = 0; i < 12; i++)
	{
		(void) grant(1, 100);
		settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 50, 0.5);
		now = limiter.not_before;
	}
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_UNKNOWN, -1, 0.999);
	ok(limiter.not_before - now <= SECOND, "cool-downs of a told length do not lengthen one that nobody told");
	now = limiter.not_before;
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, INT64CONST(1) << 60, 0.5);
	ok(limiter.not_before - now < 2 * 24 * 3600 * SECOND, "an absurd Retry-After is cut to a day");
}

static void
test_outage(void)
{
	proven(0, 0, 64);
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
	is(grant(5, 100), 1, "any answer at all ends it, and sending begins again");
	settle(LLM_OK);
	is(grant(5, 100), 2, "as with a target of which nothing is known");
}

static void
test_pause(void)
{
	uint32 before;

	proven(0, 0, 64);
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
	is(grant(3, 100), 1, "and open again");
	settle(LLM_ERR_QUOTA);
	(void) grant(1, 100);
	ok(wake_at == now + 300 * SECOND, "a spent quota pauses for five minutes");
	now = wake_at;
	(void) grant(1, 100);
	give_back(1);
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
	ok(wake_at <= now + 2 * SECOND, "set back by an hour, which no steady clock is: the bucket does not stand still for it");
	now += 86400 * SECOND;
	is(grant(100, 100), 1, "set forward by a day: no burst");
	settle(LLM_ERR_AUTH);
	now -= 86400 * SECOND;
	(void) grant(1, 100);
	ok(wake_at <= now + 60 * SECOND, "set back while paused: no longer than a minute");
}

/* Two databases ask in turn, each by the time of its pass's beginning: what they send in a minute. */
static int
send_with_old_times(int databases, int64 age)
{
	int sent = 0;

	proven(6000, 0, 0);
	for (TimestampTz clock = START; clock < START + 60 * SECOND; clock += MS)
	{
		for (int i = 0; i < databases; i++)
		{
			now = clock - i * age;
			sent += grant(1000, 100);
		}
	}
	return sent;
}

static void
test_times_of_senders(void)
{
	ok(send_with_old_times(2, 20 * MS) <= 6000, "P7 two databases, one with a time that is 20 ms old, keep the rate");
	ok(send_with_old_times(4, 300 * MS) <= 6000, "P7 so do four, with times up to 0.9 s old");
	ok(send_with_old_times(4, 300 * MS) >= 5500, "and use it");

	proven(60, 0, 0);
	(void) grant(1, 100);
	now -= 5 * SECOND;
	is(grant(1, 100), 0, "five seconds before the last grant: nothing has flowed in");
	ok(wake_at > START && wake_at < START + 2 * SECOND, "and it is known when it will have");
}

/* An alias of the target, with limits of its own. */
typedef struct Alias
{
	LlmLimits limits;
	int sent;
	int64 tokens; /* used by its requests */
} Alias;

/* What is wanted of one request leaves, and is answered at once. */
static void
ask_as(Alias *alias, int want, int64 tokens)
{
	int n;

	limits = alias->limits;
	n = grant(want, tokens);
	alias->sent += n;
	for (; n > 0; n--)
	{
		/* some need more than was thought, some less */
		int64 used = (alias->sent - n) % 2 == 0 ? tokens / 2 : tokens * 3 / 2;

		llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, tokens, used, -1, 0.5, now);
		alias->tokens += used;
	}
}

#define MOST_ALIASES 6

/* All of them have work for so many seconds; who got something is the last in the next turn. */
static void
ask_in_turn(Alias *aliases, int naliases, int seconds)
{
	Alias *turn[MOST_ALIASES];

	for (int i = 0; i < naliases; i++)
		turn[i] = &aliases[i];
	for (TimestampTz end = now + seconds * SECOND; now < end; now += 5 * MS)
	{
		Alias *served[MOST_ALIASES];
		int nserved = 0;
		int nothers = 0;

		for (int i = 0; i < naliases; i++)
		{
			Alias *alias = turn[i];
			int before = alias->sent;

			ask_as(alias, 10, 100);
			if (alias->sent > before)
				served[nserved++] = alias;
			else
				turn[nothers++] = alias;
		}
		memcpy(&turn[nothers], served, sizeof(Alias *) * nserved);
	}
}

static void
test_aliases_of_requests(void)
{
	Alias untold[] = {{.limits = {0, 0, 64}}, {.limits = {100, 0, 64}}};
	Alias looser[] = {{.limits = {1000, 0, 64}}, {.limits = {100, 0, 64}}};
	Alias same[] = {{.limits = {100, 0, 64}}, {.limits = {100, 0, 64}}};
	Alias many[MOST_ALIASES] = {{.limits = {600, 0, 64}}};
	int all = 0;

	proven(0, 0, 0);
	ask_in_turn(untold, 2, 600);
	ok(untold[1].sent > 900, "P6 an alias of 100 a minute has them beside one that is told nothing");
	ok(untold[1].sent <= 1000, "P7 and no more");
	ok(untold[0].sent > 100000, "P6 which is not held back by it");

	proven(0, 0, 0);
	ask_in_turn(looser, 2, 600);
	ok(looser[1].sent > 900, "P6 an alias of 100 a minute has them beside one of 1000");
	ok(looser[1].sent <= 1000, "P7 and no more");
	ok(looser[0].sent + looser[1].sent <= 10000, "P7 both together keep to the 1000");
	ok(looser[0].sent + looser[1].sent > 9000, "and use them");

	proven(0, 0, 0);
	ask_in_turn(same, 2, 600);
	ok(same[0].sent + same[1].sent <= 1000, "P7 two aliases of the same 100 share them");
	ok(same[0].sent > 450 && same[1].sent > 450, "P6 by halves");

	proven(0, 0, 0);
	for (int i = 1; i < MOST_ALIASES; i++)
		many[i].limits.requests_per_minute = 600 - i * 100;
	ask_in_turn(many, MOST_ALIASES, 600);
	for (int i = 0; i < MOST_ALIASES; i++)
	{
		all += many[i].sent;
		ok(many[i].sent <= many[i].limits.requests_per_minute * 10 && many[i].sent > 100,
		   "P7 of six rates for four places each is kept, P6 and none is starved");
	}
	ok(all <= 6000, "P7 and all together keep to the loosest");
}

static void
test_aliases_of_tokens(void)
{
	Alias looser[] = {{.limits = {0, 600000, 64}}, {.limits = {0, 60000, 64}}};
	Alias untold[] = {{.limits = {0, 0, 64}}, {.limits = {0, 60000, 64}}};

	proven(0, 0, 0);
	ask_in_turn(looser, 2, 600);
	ok(looser[1].tokens <= 600000 && looser[1].tokens > 500000, "P7 60000 tokens a minute are kept and used beside 600000");
	ok(looser[0].tokens + looser[1].tokens <= 6000000, "P7 both together keep to the 600000");
	ok(looser[0].tokens + looser[1].tokens > 5000000, "and use them");

	proven(0, 0, 0);
	ask_in_turn(untold, 2, 600);
	ok(untold[1].tokens <= 600000 && untold[1].tokens > 500000, "P7 beside an alias that is told nothing as well");
}

static void
test_aliases_in_flight(void)
{
	proven(0, 0, 64);
	is(grant(10, 100), 10, "ten in flight of an alias that may have 64");
	limits.max_concurrency = 4;
	is(grant(4, 100), 4, "P6 one that may have four gets them beside it");
	limits.max_concurrency = 64;
	is(grant(100, 100), 50, "P7 all together keep to the 64");
	is(limiter.in_flight, 64, "which are in flight");
	settle(LLM_OK);
	limits.max_concurrency = 4;
	now += 9 * SECOND;
	is(grant(4, 100), 1, "nine seconds after the 64 were told they still hold");
	settle(LLM_OK);
	now += 2 * SECOND;
	is(grant(4, 100), 0, "P7 two later four are all that is told");
	llm_limiter_tell_concurrency(&limiter, 64, now);
	is(grant(4, 100), 1, "P6 unless somebody has requests of theirs in flight");
	limits.max_concurrency = 0;
	is(grant(0, 100), 0, "an alias without a limit tells that by asking, whatever it wants");
	limits.max_concurrency = 4;
	is(grant(4, 100), 4, "so that the others are let out beside it");
}

/* What an option told until a moment ago. */
static void
test_changed_option(void)
{
	Alias alias = {.limits = {0, 600000, 64}};
	Alias other = {.limits = {0, 0, 64}};

	proven(0, 0, 0);
	ask_as(&alias, 1, 600);
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 0, 600000, -1, 0.5, now);
	alias.limits.tokens_per_minute = 300000;
	now += 11 * SECOND;
	ask_as(&alias, 1, 600);
	is(alias.sent, 2, "P6 lowered: what was overdrawn under the old rate holds for moments");
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 0, 600000, -1, 0.5, now);
	alias.limits.tokens_per_minute = 400000;
	ask_as(&alias, 1, 600);
	is(alias.sent, 3, "P6 raised: it holds no longer");
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 0, 600000, -1, 0.5, now);
	ask_as(&other, 10, 600);
	is(other.sent, 10, "P6 who is told nothing is held up by none of it");

	proven(0, 0, 0);
	alias = (Alias){.limits = {1000, 0, 64}};
	ask_in_turn(&alias, 1, 60);
	alias.sent = 0;
	alias.limits.requests_per_minute = 100;
	ask_in_turn(&alias, 1, 60);
	ok(alias.sent <= 100 && alias.sent > 90, "P7 lowered to 100 a minute: kept from the first one on");
	alias.sent = 0;
	alias.limits.requests_per_minute = 1000;
	ask_in_turn(&alias, 1, 60);
	ok(alias.sent <= 1000 && alias.sent > 900, "P6 raised again: used from the first one on");
}

/* What comes back goes where it came from. */
static void
test_aliases_give_back(void)
{
	LlmLimits loose = {0, 120000, 64};
	LlmLimits tight = {0, 60000, 64};
	LlmToldBucket *told = limiter.tokens.told;

	proven(0, 120000, 64);
	(void) grant(1, 100);
	give_back(1);
	limits = tight;
	(void) grant(1, 100);
	ok(told[0].bucket.level == 1760 && told[1].bucket.level == 830, "a request counts for its own rate and the looser one");
	limits = loose;
	(void) grant(1, 100);
	ok(told[0].bucket.level == 1660 && told[1].bucket.level == 830, "one of the looser rate not for the tighter one");
	give_back(1);
	ok(told[0].bucket.level == 1760 && told[1].bucket.level == 830, "nor does it when it is given back");
	limits = tight;
	llm_limiter_settle(&limiter, &limits, LLM_OK, limiter.generation, 100, 40, -1, 0.5, now);
	ok(told[0].bucket.level == 1820 && told[1].bucket.level == 890, "what was not used comes back to both");
}

/* All that is in flight is answered, and as much as may leave does. */
static int
round_trip(int want)
{
	for (int n = limiter.in_flight; n > 0; n--)
		settle(LLM_OK);
	now += 50 * MS;
	return grant(want, 100);
}

static void
test_first_requests(void)
{
	int rounds = 0;

	fresh(0, 0, 64);
	is(grant(64, 100), 1, "P7 to a target of which nothing is known one request leaves");
	is(reason, LLM_WAIT_CONCURRENCY, "the others wait for its answer");
	settle(LLM_ERR_AUTH);
	is(grant(64, 100), 0, "P7 a wrong key is met by one request");

	fresh(0, 0, 256);
	(void) grant(256, 100);
	is(round_trip(256), 1, "P7 after its answer the next one leaves, alone");
	is(round_trip(256), 2, "then two at a time");
	for (; limiter.in_flight < 256; rounds++)
		(void) round_trip(256);
	is(rounds, 4, "and in four more round trips 256");
	is(round_trip(1000), 256, "which is the limit");

	fresh(0, 0, 256);
	for (int i = 0; i < 100; i++)
	{
		(void) grant(256, 100);
		give_back(limiter.in_flight - 1);
		settle(LLM_OK);
		now += 50 * MS;
	}
	ok(limiter.window <= 5, "a target that is asked one by one earns nothing by it");
}

static void
test_silence(void)
{
	fresh(0, 0, 64);
	(void) grant(64, 100);
	is(grant(64, 100), 0, "one request is out");
	ok(wake_at == now + SECOND / 2, "half a second without a word counts as a good one");
	now = wake_at - 1;
	is(grant(64, 100), 0, "not less");
	now++;
	is(grant(64, 100), 1, "then a second one leaves");
	now = wake_at;
	is(grant(64, 100), 2, "then two at once");
	now = wake_at;
	is(grant(64, 100), 12, "then sixteen are out");
	now = wake_at;
	is(limiter.in_flight + grant(64, 100), 64, "after two seconds all that may");
	(void) grant(64, 100);
	ok(wake_at == DT_NOEND, "and from then on only an answer counts");
	settle_as(limiter.generation, LLM_ERR_RATE_LIMITED, 1000, 0.0);
	now = limiter.not_before;
	is(grant(64, 100), 1, "a probe after a 429");
	now += 60 * SECOND;
	is(grant(64, 100), 0, "P7 is waited for, however long it takes");

	fresh(0, 0, 64);
	(void) grant(64, 100);
	now -= 3600 * SECOND;
	(void) grant(64, 100);
	ok(wake_at <= now + SECOND / 2, "a clock that is set back does not prolong the silence");
}

static void
test_window(void)
{
	int rounds = 0;
	double before;

	proven(0, 0, 64);
	(void) grant(64, 100);
	settle_as(limiter.generation, LLM_ERR_OVERLOADED, 1000, 0.0);
	is((int64) limiter.threshold, 32, "half of what was in flight is where care begins");
	for (int i = 0; i < 63; i++)
		settle_as(0, LLM_ERR_OVERLOADED, 1000, 0.0);
	is((int64) limiter.threshold, 32, "once for all that were in flight");
	now = limiter.not_before;
	(void) grant(1, 100);
	settle_as(limiter.generation, LLM_ERR_OVERLOADED, 1000, 0.0);
	is((int64) limiter.threshold, 32, "a probe that is refused says nothing about it");
	now = limiter.not_before;
	(void) grant(1, 100);
	settle(LLM_OK);
	while (limiter.window < 32 && rounds++ < 10)
		(void) round_trip(100);
	is((int64) limiter.window, 32, "the window grows fast up to there");
	before = limiter.window;
	for (int n = limiter.in_flight; n > 0; n--)
		settle(LLM_OK);
	ok(limiter.window > before && limiter.window < before + 1.01, "then by about one for a window of answers");
	for (rounds = 0; limiter.window < 64 && rounds < 100; rounds++)
		(void) round_trip(100);
	ok(rounds > 20 && rounds < 100, "until it is as wide as the limit");
	is(round_trip(100), 64, "which holds again");
	is((int64) limiter.threshold, 0, "and the refusal is forgotten");
}

static void
test_give_back_refused(void)
{
	LlmToldLimit told = {60, 40, 20000};
	LlmToldLimit none = {-1, -1, -1};
	double level;

	proven(0, 0, 64);
	(void) grant(1, 100);
	settle(LLM_OK);
	llm_limiter_correct(&limiter, &limits, &told, &told, now);
	level = limiter.requests.learned.level;
	(void) grant(10, 3);
	for (int i = 0; i < 10; i++)
		llm_limiter_settle(&limiter, &limits, LLM_ERR_RATE_LIMITED, 0, 3, -1, 1000, 0.5, now);
	ok(limiter.requests.learned.level == level && limiter.tokens.learned.level == 40, "P7 what was refused was not counted where answers tell the limits");

	proven(60, 6000, 64);
	(void) grant(1, 50);
	llm_limiter_correct(&limiter, &limits, &none, &none, now);
	llm_limiter_settle(&limiter, &limits, LLM_ERR_RATE_LIMITED, 0, 50, -1, 1000, 0.5, now);
	ok(limiter.requests.told[0].bucket.level < 0.1 && limiter.tokens.told[0].bucket.level < 46, "it was where the options tell them");
}

/*
 * A provider with a bucket and some way to it.  It tells no limits but Retry-After;
 * refusals come sooner than answers.
 */
typedef struct Provider
{
	double rate; /* per second */
	double burst;
	int64 latency;
	int64 refusal;
	bool whole_seconds; /* Retry-After is rounded up to them */
	double chance; /* of a refusal, whatever the bucket holds */
	double hang; /* chance that no answer comes in two seconds */
	double level;
	TimestampTz filled_at;
	uint64 dice;
} Provider;

typedef struct Request
{
	TimestampTz back_at;
	LlmErrorClass class;
	int64 retry_after_ms;
	uint32 generation;
} Request;

typedef struct Outcome
{
	int answered;
	int refused;
	int crowded; /* refusals within the Retry-After of the one before */
	int64 elapsed;
} Outcome;

#define MOST_IN_FLIGHT 64

/* In [0,1).  A counter, of which the bits are mixed. */
static double
throw_dice(Provider *provider)
{
	uint64 bits = ++provider->dice * UINT64CONST(0x9E3779B97F4A7C15);

	bits = (bits ^ (bits >> 32)) * UINT64CONST(0xD6E8FEB86659FD93);
	bits = (bits ^ (bits >> 32)) * UINT64CONST(0xD6E8FEB86659FD93);
	return (bits >> 40) / 16777216.0;
}

static Request
ask(Provider *provider)
{
	Request request = {now + provider->latency, LLM_OK, -1, limiter.generation};

	provider->level = Min(provider->burst, provider->level + provider->rate * (now - provider->filled_at) / 1e6);
	provider->filled_at = now;
	if (provider->hang > 0 && throw_dice(provider) < provider->hang)
	{
		request.class = LLM_ERR_TIMEOUT;
		request.back_at = now + 2 * SECOND;
		return request;
	}
	if (provider->level >= 1.0 - 1e-9 && throw_dice(provider) >= provider->chance)
	{
		provider->level -= 1.0;
		return request;
	}
	request.class = LLM_ERR_RATE_LIMITED;
	request.back_at = now + provider->refusal;
	request.retry_after_ms = (int64) ceil(Max(1.0 - provider->level, 0.05 * provider->rate) / provider->rate * 1000);
	if (provider->whole_seconds)
		request.retry_after_ms = (request.retry_after_ms + 999) / 1000 * 1000;
	return request;
}

/* Have so many rows answered, none of them told anything but by the answers. */
static Outcome
enrich(Provider *provider, int rows)
{
	Request flying[MOST_IN_FLIGHT];
	int nflying = 0;
	int ready = rows;
	TimestampTz cool_until = 0;
	Outcome outcome = {0};

	fresh(0, 0, MOST_IN_FLIGHT);
	provider->level = provider->burst;
	provider->filled_at = now;
	while (outcome.answered < rows)
	{
		TimestampTz next = DT_NOEND;

		for (int n = ready > 0 ? grant(MOST_IN_FLIGHT, 100) : 0; n > 0; n--)
		{
			if (ready == 0)
			{
				give_back(n);
				break;
			}
			ready--;
			flying[nflying++] = ask(provider);
			if (flying[nflying - 1].class != LLM_ERR_RATE_LIMITED)
				continue;
			outcome.refused++;
			if (now < cool_until)
				outcome.crowded++;
			else
				cool_until = now + flying[nflying - 1].retry_after_ms * MS;
		}
		if (ready > 0)
			next = wake_at;
		for (int i = 0; i < nflying; i++)
			next = Min(next, flying[i].back_at);
		now = Max(next, now + 1);
		for (int i = 0; i < nflying;)
		{
			Request request = flying[i];

			if (request.back_at > now)
			{
				i++;
				continue;
			}
			settle_as(request.generation, request.class, request.retry_after_ms, throw_dice(provider));
			if (request.class == LLM_OK)
				outcome.answered++;
			else
				ready++;
			flying[i] = flying[--nflying];
		}
	}
	outcome.elapsed = now - START;
	return outcome;
}

/* No burst, and nothing told: each 429 starts a cool-down of its own. */
static void
test_untold_without_burst(void)
{
	static const double rates[] = {1, 3, 10, 100};
	static const int64 latencies[] = {0, 30, 400, 1500, 2500, 6000};
	char name[150];

	for (int r = 0; r < lengthof(rates); r++)
		for (int l = 0; l < lengthof(latencies); l++)
			for (int whole = 0; whole < 2; whole++)
			{
				Provider provider = {.rate = rates[r],
									 .burst = 1,
									 .latency = latencies[l] * MS,
									 .refusal = Min(latencies[l], 5) * MS,
									 .whole_seconds = whole};
				Outcome outcome = enrich(&provider, 47);

				snprintf(name, sizeof(name), "P7 not told, %g a second, %lld ms: %d refused in %.1f s%s", rates[r],
						 (long long) latencies[l], outcome.refused, outcome.elapsed / 1e6,
						 whole ? ", Retry-After in whole seconds" : "");
				is(outcome.crowded, 0, name);
			}
}

static void
test_untold_rates(void)
{
	Provider slow = {.rate = 1, .burst = 1, .latency = 20 * MS, .refusal = 5 * MS, .whole_seconds = true};
	Provider fast = {.rate = 100, .burst = 1, .latency = 20 * MS, .refusal = 5 * MS, .whole_seconds = true};
	Provider bursty = {.rate = 10, .burst = 20, .latency = 20 * MS, .refusal = 5 * MS, .whole_seconds = true};
	Provider unlucky = {.rate = 1e6, .burst = 1e6, .latency = 2 * MS, .refusal = 2 * MS, .chance = 0.1, .dice = 1};
	Outcome outcome = enrich(&slow, 470);

	printf("# one a second: %d refused in %.1f s\n", outcome.refused, outcome.elapsed / 1e6);
	ok(outcome.refused < 15, "P7 one a second, not told: the pace is found out");
	ok(outcome.elapsed < 1.1 * 469 * SECOND, "and used to nine tenths");
	outcome = enrich(&fast, 5000);
	printf("# a hundred a second: %d refused in %.1f s\n", outcome.refused, outcome.elapsed / 1e6);
	ok(outcome.elapsed < 2 * 50 * SECOND, "a pace that was too slow at first is raised: half of 100 a second");
	is(outcome.crowded, 0, "P7 and each 429 starts a cool-down of its own");
	outcome = enrich(&bursty, 1000);
	printf("# ten a second, bursts of 20: %d refused in %.1f s\n", outcome.refused, outcome.elapsed / 1e6);
	ok(outcome.elapsed < 2 * 98 * SECOND, "half of 10 a second at least with bursts of 20");
	outcome = enrich(&unlucky, 20000);
	printf("# one in ten refused by chance: %d refused in %.1f s\n", outcome.refused, outcome.elapsed / 1e6);
	ok(outcome.elapsed < 20000 / 50 * SECOND, "one in ten refused by chance, Retry-After 50 ms: no pace that does not help");
}

/* A rate nobody told, and a small burst: what that leaves over makes no pace too fast to keep. */
static void
test_untold_with_burst(void)
{
	static const double rates[] = {0.5, 1, 2, 5};
	char name[150];

	for (int r = 0; r < lengthof(rates); r++)
		for (int burst = 2; burst <= 6; burst++)
		{
			Provider provider = {.rate = rates[r], .burst = burst, .latency = 20 * MS, .refusal = 5 * MS};
			Outcome outcome = enrich(&provider, 1000);

			snprintf(name, sizeof(name), "P7 not told, %g a second, bursts of %d: %d refused in %.1f s", rates[r], burst,
					 outcome.refused, outcome.elapsed / 1e6);
			ok(outcome.refused <= 75 && outcome.elapsed < 1.4 * 1000 / rates[r] * SECOND, name);
		}
}

/* The longest that any of so many providers took, which differ by their dice alone; seconds. */
static double
longest(Provider provider, int rows)
{
	int64 most = 0;

	for (int i = 0; i < 1000; i++)
	{
		provider.dice = (uint64) i << 32;
		most = Max(most, enrich(&provider, rows).elapsed);
	}
	return most / 1e6;
}

/* Refused by chance: a pace that is found out for it is soon given up, and nobody crawls. */
static void
test_refused_by_chance(void)
{
	static const struct
	{
		Provider provider;
		int rows;
		double bound; /* seconds */
		const char *name;
	} runs[] = {
		{{.latency = 50 * MS, .chance = 0.1}, 1000, 40, "one in ten refused by chance: no run of a thousand crawls"},
		{{.latency = 2 * SECOND, .chance = 0.1}, 500, 500, "nor where an answer takes two seconds"},
		{{.latency = 50 * MS, .chance = 0.3}, 500, 90, "nor where three in ten are refused"},
		{{.latency = 50 * MS, .chance = 0.1, .hang = 0.02}, 600, 30, "nor where requests hang for two seconds meanwhile"},
	};

	for (int i = 0; i < lengthof(runs); i++)
	{
		Provider provider = runs[i].provider;
		double seconds;

		provider.rate = provider.burst = 1e6;
		provider.refusal = 20 * MS;
		seconds = longest(provider, runs[i].rows);
		printf("# %.1f s at the most\n", seconds);
		ok(seconds < runs[i].bound, runs[i].name);
	}
}

/* Somebody else uses up all that a target allows. */
static void
test_pace_refused(void)
{
	proven(0, 0, 0);
	limiter.pace = 1;
	llm_pace_note_refusal(&limiter, 1, true, now);
	ok(limiter.pace == 0.5, "a pace that is refused after few answers is halved");
	llm_pace_note_refusal(&limiter, 1, true, now);
	ok(limiter.pace == 0, "and given up when that did not help");
	for (int i = 0; i < 4; i++)
	{
		limiter.probed_at = now - SECOND;
		llm_pace_note_refusal(&limiter, 1, true, now);
	}
	ok(limiter.pace > 0, "to be found out again");
	limiter.pace = 1;
	for (int i = 0; i < 20; i++)
	{
		limiter.pace_halved = false; /* as if it had been raised meanwhile */
		llm_pace_note_refusal(&limiter, 1, true, now);
	}
	ok(limiter.pace >= 1 / 60.0, "refused again and again, a pace gets no slower than a request a minute");
	limiter.pace = 0.001;
	limiter.pace_halved = false;
	llm_pace_note_refusal(&limiter, 1, true, now);
	ok(limiter.pace >= 0.001 && limiter.pace < 0.002, "one that was found out slower than that stays");
}

/* A quota that was lowered: what was borne before does not keep the pace from being found out. */
static void
test_pace_after_many(void)
{
	int refusals = 0;

	proven(0, 0, 0);
	for (int i = 0; i < 100; i++)
		llm_pace_note_refusal(&limiter, 100000, true, now);
	while (limiter.pace <= 0 && refusals++ < 100)
	{
		limiter.probed_at = now - SECOND;
		llm_pace_note_refusal(&limiter, 1, true, now);
	}
	is(refusals, 6, "after any number of long generations six short ones tell a pace");
}

/* A provider that counts 60 a minute, tells it in headers, and answers after 100 ms. */
static void
test_learned_limits(void)
{
	double bucket = 60;
	int rejected = 0;
	int sent = 0;
	LlmToldLimit none = {-1, -1, -1};

	proven(0, 0, 8);
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

	proven(60, 0, 8);
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

/* What there is to say after an answer of that class. */
static LlmLimiterTurn
turn_after(LlmErrorClass class, int64 retry_after_ms)
{
	TimestampTz until;

	(void) grant(1, 1);
	settle_as(limiter.generation, class, retry_after_ms, 0.9);
	return llm_limiter_turn(&limiter, class, now, &until);
}

/* A target that is shut for long is said once, and that it is open once. */
static void
test_turns(void)
{
	proven(0, 0, 100);
	is(turn_after(LLM_OK, 0), LLM_TURN_NONE, "nothing to say of a target that answers");
	is(turn_after(LLM_ERR_AUTH, 0), LLM_TURN_SHUT, "the key is refused");
	now += 61 * SECOND;
	is(turn_after(LLM_ERR_AUTH, 0), LLM_TURN_NONE, "it was said already");
	now += 61 * SECOND;
	is(turn_after(LLM_OK, 0), LLM_TURN_OPEN, "it goes on");
	is(turn_after(LLM_OK, 0), LLM_TURN_NONE, "which was said, too");
	is(turn_after(LLM_ERR_RATE_LIMITED, 20000), LLM_TURN_NONE, "a limit per minute is nothing to say");
	now += 30 * SECOND;
	is(turn_after(LLM_OK, 0), LLM_TURN_NONE, "nor that it is over");
	is(turn_after(LLM_ERR_RATE_LIMITED, 86400000), LLM_TURN_SHUT, "a day of it is");
}

/* Somebody who asks on purpose does not wait for what hangs. */
static void
test_check_beside_silence(void)
{
	fresh(0, 0, 4);
	is(grant(1, 1), 1, "the first request leaves, and hangs");
	is(grant(1, 1), 0, "the window is full of it");
	is(llm_limiter_grant_check(&limiter, &limits, 1, now, &reason, &wake_at), 1, "a check leaves beside it");
	is(grant(1, 1), 0, "and makes no room for others");
	is(llm_limiter_grant_check(&limiter, &limits, 1, now, &reason, &wake_at), 1, "another one, too");
	is(llm_limiter_grant_check(&limiter, &limits, 1, now, &reason, &wake_at), 1, "as many as the target takes");
	is(llm_limiter_grant_check(&limiter, &limits, 1, now, &reason, &wake_at), 0, "and no more");
}

int
main(void)
{
	test_requests_per_minute();
	test_tokens_per_minute();
	test_large_beside_small();
	test_absurd_usage();
	test_concurrency();
	test_one_429_of_a_hundred();
	test_backoff();
	test_outage();
	test_pause();
	test_clock_jumps();
	test_times_of_senders();
	test_aliases_of_requests();
	test_aliases_of_tokens();
	test_aliases_in_flight();
	test_changed_option();
	test_aliases_give_back();
	test_window();
	test_first_requests();
	test_silence();
	test_give_back_refused();
	test_untold_without_burst();
	test_untold_rates();
	test_untold_with_burst();
	test_refused_by_chance();
	test_pace_refused();
	test_pace_after_many();
	test_learned_limits();
	test_parsing();
	test_turns();
	test_check_beside_silence();
	return finish();
}
