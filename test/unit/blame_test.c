/*-------------------------------------------------------------------------
 *
 * blame_test.c
 *	  Whose fault a refusal is, and when it is the row's, against a simulated clock:
 *	  a target of 40 rows of which 1, 39 or 40 are refused, with each class; refusals
 *	  by chance beside true limits.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "limiter/limiter_blame.h"
#include "send/retry.h"

#define START INT64CONST(800000000000000)
#define SECOND INT64CONST(1000000)
#define MS INT64CONST(1000)

#define ROWS 40
#define LATENCY (40 * MS)
#define REFUSAL (2 * MS) /* a limit answers at once */

typedef struct Row
{
	bool bad;
	bool over; /* done, or failed */
	bool failed;
	bool in_flight;
	bool limited; /* the provider's limit refuses it */
	TimestampTz lands_at;
	TimestampTz sent_at;
	TimestampTz until;
	uint32 generation;
	int requests;
	int counted;
	LlmRefusal refusal;
} Row;

/* A provider's own limit, which nobody is told of: a bucket of so many requests, filled at so many a second. */
static struct
{
	double rate; /* 0: none */
	double burst;
	double level;
	TimestampTz at;
	int refused;
} bucket;

static LlmLimiter limiter;
static const LlmLimits limits = {0, 0, 64};
static Row rows[10000];
static int nrows;
static TimestampTz now;
static bool until_paused = false; /* run() ends then */
static unsigned random_state = 1;

static double
chance(void)
{
	random_state = random_state * 1103515245u + 12345u;
	return (random_state >> 8 & 0xffff) / 65536.0;
}

static void
fresh(int n)
{
	memset(&limiter, 0, sizeof(limiter));
	memset(rows, 0, sizeof(rows));
	memset(&bucket, 0, sizeof(bucket));
	nrows = n;
	now = START;
}

static void
land_refused(Row *row, LlmErrorClass class, int64 told_ms)
{
	LlmRefused refused = {0};
	LlmVerdict verdict;
	LlmBlame blame;

	row->refusal.row = (uint64) (row - rows) + 1;
	row->refusal.sent_at = row->sent_at;
	row->refusal.told_ms = told_ms;
	blame = llm_blame_judge(&limiter, class, row->generation, &row->refusal, now);
	if (blame == LLM_BLAME_ROW)
		llm_limiter_settle_row(&limiter, &limits, class, row->generation, 0, now);
	else
		llm_limiter_settle(&limiter, &limits, class, row->generation, 0, -1, told_ms, chance(), now);
	if (blame == LLM_BLAME_IN_DOUBT)
		llm_limiter_shorten_pause(&limiter, llm_blame_doubt_ms(&limiter), now);
	row->refusal.refused_at = now;
	row->counted += row->refusal.counts;
	refused = (LlmRefused){row->requests, row->counted, llm_blame_share(&limiter), told_ms};
	verdict = llm_retry_refused(class, &refused, chance(), now);
	row->over = row->failed = verdict.final;
	if (verdict.final)
		llm_blame_absolve(&limiter, row->refusal.row, now);
	row->until = verdict.not_before;
	if (blame != LLM_BLAME_ROW && told_ms <= 0)
		row->until = 0;
}

static void
land_well(Row *row)
{
	llm_limiter_settle(&limiter, &limits, LLM_OK, row->generation, 0, -1, -1, 0.5, now);
	llm_blame_note_pass(&limiter, row->generation, row->sent_at);
	row->over = true;
}

/* Does the provider's limit take one more request now? */
static bool
is_beyond_limit(void)
{
	if (bucket.rate <= 0)
		return false;
	bucket.level = Min(bucket.burst, bucket.level + bucket.rate * (now - bucket.at) / SECOND);
	bucket.at = now;
	if (bucket.level >= 1)
	{
		bucket.level--;
		return false;
	}
	bucket.refused++;
	return true;
}

/* Others first while the target is shut: as refused.c has it. */
static Row *
next_row(void)
{
	Row *oldest = NULL;

	for (int i = 0; i < nrows; i++)
	{
		Row *row = &rows[i];

		if (row->over || row->in_flight || row->until > now)
			continue;
		if (row->requests == 0 || !limiter.half_open)
			return row;
		if (oldest == NULL || row->refusal.refused_at < oldest->refusal.refused_at)
			oldest = row;
	}
	return oldest;
}

static void
send_what_may_leave(TimestampTz *next_at)
{
	LlmWaitReason reason;
	TimestampTz wake_at;
	Row *row;

	while ((row = next_row()) != NULL)
	{
		if (llm_limiter_grant(&limiter, &limits, 1, 0, now, &reason, &wake_at) == 0)
		{
			*next_at = Min(*next_at, wake_at);
			return;
		}
		row->in_flight = true;
		row->generation = limiter.generation;
		row->sent_at = now;
		row->limited = is_beyond_limit();
		row->lands_at = now + (row->limited ? REFUSAL : LATENCY);
		row->requests++;
	}
}

/* Let all rows go until they are over, or so long. */
static void
run(LlmErrorClass class, int64 told_ms, double by_chance, int64 seconds)
{
	TimestampTz next_at;

	for (; now < START + seconds * SECOND; now = Max(next_at, now + MS))
	{
		int left = 0;

		next_at = DT_NOEND;

		for (int i = 0; i < nrows; i++)
		{
			Row *row = &rows[i];

			if (row->in_flight && row->lands_at <= now)
			{
				row->in_flight = false;
				if (row->bad || row->limited || (by_chance > 0 && chance() < by_chance))
					land_refused(row, class, told_ms);
				else
					land_well(row);
			}
			left += !row->over;
		}
		if (left == 0 || (until_paused && limiter.pause_class != LLM_OK))
			return;
		send_what_may_leave(&next_at);
		for (int i = 0; i < nrows; i++)
		{
			if (rows[i].in_flight)
				next_at = Min(next_at, rows[i].lands_at);
			else if (!rows[i].over && rows[i].until > now)
				next_at = Min(next_at, rows[i].until);
		}
	}
}

static void
count(int *done, int *failed, int *requests, int *most)
{
	*done = *failed = *requests = *most = 0;
	for (int i = 0; i < nrows; i++)
	{
		*done += rows[i].over && !rows[i].failed;
		*failed += rows[i].failed;
		*requests += rows[i].requests;
		*most = Max(*most, rows[i].requests);
	}
}

static void
test_class(LlmErrorClass class, const char *what)
{
	int done,
		failed,
		requests,
		most;
	char name[128];

	for (int bad = 0; bad < ROWS; bad += 13)
	{
		fresh(ROWS);
		rows[bad].bad = true;
		run(class, -1, 0, 900);
		count(&done, &failed, &requests, &most);
		snprintf(name, sizeof(name), "P6 %s: row %d of 40 is refused: 39 are done, and it has failed", what, bad + 1);
		ok(done == ROWS - 1 && failed == 1, name);
		snprintf(name, sizeof(name), "%s: with at most five requests more", what);
		ok(requests <= ROWS + 5, name);
	}

	fresh(ROWS);
	for (int i = 0; i < ROWS; i++)
		rows[i].bad = true;
	run(class, -1, 0, 1800);
	count(&done, &failed, &requests, &most);
	snprintf(name, sizeof(name), "P7 %s: all are refused: none fails", what);
	ok(failed == 0 && done == 0, name);
	snprintf(name, sizeof(name), "%s: and nobody is asked twice before all others were", what);
	ok(requests >= 5 && most <= requests / ROWS + 2, name);
	printf("# %s: %d requests in half an hour\n", what, requests);

	/* one good row, the first or one in the middle */
	for (int good = 0; good < ROWS; good += 5)
	{
		fresh(ROWS);
		for (int i = 0; i < ROWS; i++)
			rows[i].bad = (i != good);
		run(class, -1, 0, 24 * 3600);
		count(&done, &failed, &requests, &most);
		snprintf(name, sizeof(name), "P6 %s: 39 of 40 are refused: the one is done", what);
		is(done, 1, name);
		if (good == 0)
			is(failed, 0, "and what was refused after it, without anything that passed since, has not failed");
	}
}

static void
test_chance(double share, int64 told_ms, LlmErrorClass class, const char *what)
{
	int done,
		failed,
		requests,
		most;
	char name[128];
	TimestampTz clean;

	random_state = 1;
	fresh(4000);
	run(LLM_OK, -1, 0, 3600);
	clean = now - START;
	fresh(4000);
	run(class, told_ms, share, 3600);
	count(&done, &failed, &requests, &most);
	snprintf(name, sizeof(name), "%s, %g%% by chance: all 4000 are done", what, share * 100);
	is(done, 4000, name);
	printf("# %s, %g%%: %.2f of the clean rate, %d requests\n", what, share * 100, (double) clean / (now - START), requests);
	snprintf(name, sizeof(name), "%s, %g%%: chance is found out", what, share * 100);
	ok(share < 0.01 || (now - START) < 4 * clean, name);
}

/* What others have of the clean rate while so many requests are refused by chance: the mean of five dice. */
static void
test_share_beside_chance(double share, int64 told_ms, LlmErrorClass class, double least, const char *name)
{
	TimestampTz clean;
	TimestampTz all = 0;

	fresh(8000);
	run(LLM_OK, -1, 0, 3600);
	clean = now - START;
	for (unsigned seed = 1; seed <= 5; seed++)
	{
		random_state = seed * 7919;
		fresh(8000);
		run(class, told_ms, share, 3600);
		all += now - START;
	}
	printf("# %s: %.2f of the clean rate\n", name, 5.0 * clean / all);
	ok(5.0 * clean / all >= least, name);
}

/* A true limit, untold: most of it is used, and few requests are refused. */
static void
test_true_limit(double rate, double burst, double least, double most_refused)
{
	int done,
		failed,
		requests,
		most;
	char name[128];
	double used;

	random_state = 1;
	fresh(8000);
	bucket.rate = rate;
	bucket.burst = bucket.level = burst;
	bucket.at = now;
	run(LLM_ERR_RATE_LIMITED, -1, 0, 3600);
	count(&done, &failed, &requests, &most);
	used = (8000 - burst) / rate * SECOND / (now - START);
	printf("# %g a second, bursts of %g: %.2f of it, %.1f%% refused\n", rate, burst, used, 100.0 * bucket.refused / requests);
	snprintf(name, sizeof(name), "P7 untold, %g a second, bursts of %g: %g of it is used", rate, burst, least);
	ok(done == 8000 && used >= least, name);
	snprintf(name, sizeof(name), "P7 and at most %g%% of the requests are refused", most_refused);
	ok(100.0 * bucket.refused / requests <= most_refused, name);
}

/*
 * A key that is withdrawn after many good answers, among which some were refused by chance: the few rows that come
 * then show it within seconds, however long they were answered.
 */
static void
test_withdrawn(double by_chance, int n, int64 idle, LlmErrorClass class)
{
	int done,
		failed,
		requests,
		most;
	TimestampTz withdrawn;
	char name[128];

	random_state = 1;
	fresh(2000);
	run(class, -1, by_chance, 3600);
	count(&done, &failed, &requests, &most);
	ok(done > 1900, "most of 2000 are done");
	memset(rows, 0, sizeof(rows));
	nrows = n;
	for (int i = 0; i < n; i++)
		rows[i].bad = true;
	withdrawn = now += idle * SECOND;
	until_paused = true;
	run(class, -1, 0, (withdrawn - START) / SECOND + 200);
	until_paused = false;
	printf("# withdrawn, %g%% by chance before, %d rows: %.1f s\n", by_chance * 100, n, (double) (now - withdrawn) / SECOND);
	snprintf(name, sizeof(name), "P7 %g%% by chance, then all of %d rows: the target is shut within 10 s", by_chance * 100, n);
	ok(limiter.pause_class == class && now - withdrawn <= 10 * SECOND, name);
	run(class, -1, 0, (now - START) / SECOND + 600);
	count(&done, &failed, &requests, &most);
	ok(n == 1 || failed == 0, "and no task fails of several");
	ok(requests <= 40, "in few requests");
}

int
main(void)
{
	static const struct
	{
		LlmErrorClass class;
		const char *name;
	} classes[] = {
		{LLM_ERR_AUTH, "401 and 403"},
		{LLM_ERR_QUOTA, "402"},
		{LLM_ERR_CONFIG, "404, 405 and 302"},
		{LLM_ERR_UNKNOWN_MODEL, "an unknown model"},
		{LLM_ERR_RATE_LIMITED, "429, also in a 200"},
		{LLM_ERR_OVERLOADED, "503 and 529"},
	};

	for (int i = 0; i < lengthof(classes); i++)
		test_class(classes[i].class, classes[i].name);
	for (int i = 0; i < 3; i++)
	{
		static const double shares[] = {0.002, 0.01, 0.05};

		test_chance(shares[i], -1, LLM_ERR_OVERLOADED, "503");
		test_chance(shares[i], 100, LLM_ERR_RATE_LIMITED, "429");
		test_chance(shares[i], -1, LLM_ERR_AUTH, "403");
	}
	test_share_beside_chance(0.002, -1, LLM_ERR_OVERLOADED, 0.9, "P6 503 to two in a thousand");
	test_share_beside_chance(0.01, -1, LLM_ERR_OVERLOADED, 0.7, "P6 503 to one in a hundred");
	test_share_beside_chance(0.01, 100, LLM_ERR_RATE_LIMITED, 0.6, "P6 429 that tells 0.1 s to one in a hundred");
	test_true_limit(500, 100, 0.93, 4);
	test_true_limit(500, 50, 0.93, 4);
	test_true_limit(500, 25, 0.88, 4);
	test_true_limit(500, 10, 0.8, 4);
	test_true_limit(100, 100, 0.85, 10);
	test_true_limit(100, 50, 0.85, 10);
	test_true_limit(100, 5, 0.85, 4);
	for (int n = 1; n <= 3; n++)
	{
		test_withdrawn(0, n, 0, LLM_ERR_AUTH);
		test_withdrawn(0.002, n, 0, LLM_ERR_AUTH);
		test_withdrawn(0.002, n, 30, LLM_ERR_QUOTA);
		test_withdrawn(0.05, n, 0, LLM_ERR_AUTH);
		test_withdrawn(0.05, n, 1200, LLM_ERR_AUTH);
	}
	return finish();
}
