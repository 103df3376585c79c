/*-------------------------------------------------------------------------
 *
 * part_test.c
 *	  Parts of a request's usage add up to the whole (P3), and are what they owe.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tap.h"

#include "send/part.h"

#define MOST 200

static int64 weights[MOST];
static int64 parts[MOST];

static int64
sum_of(const int64 *numbers, int n)
{
	int64 sum = 0;

	for (int i = 0; i < n; i++)
		sum += numbers[i];
	return sum;
}

/* Many of them, made by a generator of numbers: the sum is exact, and no part is off by a token or more. */
static void
test_sums(void)
{
	uint64 dice = 88172645463325252UL;
	int wrong_sums = 0;
	int wrong_parts = 0;

	for (int round = 0; round < 2000; round++)
	{
		int n = 1 + round % MOST;
		int64 whole = (int64) (dice % 1000000);
		int64 weight;

		for (int i = 0; i < n; i++)
		{
			dice ^= dice << 13;
			dice ^= dice >> 7;
			dice ^= dice << 17;
			weights[i] = (int64) (dice % 8000);
		}
		llm_part_tokens(whole, weights, n, parts);
		wrong_sums += sum_of(parts, n) != whole ? 1 : 0;
		weight = sum_of(weights, n);
		for (int i = 0; i < n && weight > 0; i++)
		{
			double owed = (double) whole * (double) weights[i] / (double) weight;

			wrong_parts += parts[i] < 0 || parts[i] < owed - 1 || parts[i] > owed + 1 ? 1 : 0;
		}
	}
	is(wrong_sums, 0, "2,000 sums of parts are their whole");
	is(wrong_parts, 0, "each part is within a token of what its weight is owed");
}

static void
test_remainders(void)
{
	int64 uneven[] = {1, 1, 1};
	int64 halves[] = {3, 1, 4};
	int64 none[] = {0, 0, 0, 0};

	llm_part_tokens(10, uneven, 3, parts);
	ok(parts[0] == 4 && parts[1] == 3 && parts[2] == 3, "of equal remainders the first has the token");
	llm_part_tokens(10, halves, 3, parts);
	ok(parts[0] == 4 && parts[1] == 1 && parts[2] == 5, "the largest remainder has it");
	llm_part_tokens(6, none, 4, parts);
	ok(parts[0] == 2 && parts[1] == 2 && parts[2] == 1 && parts[3] == 1, "without weights all are alike");
	llm_part_tokens(0, halves, 3, parts);
	is(sum_of(parts, 3), 0, "nothing is divided into nothing");
}

static void
test_usage(void)
{
	LlmUsage whole = {.known = true, .input = 1001, .cached = 17, .cache_write = 5, .output = 99, .reasoning = 98};
	LlmUsage divided[7];
	LlmUsage sum = {0};
	int64 bytes[] = {1, 900, 3, 77, 0, 12, 12};
	bool within = true;

	llm_part_usage(&whole, bytes, lengthof(bytes), divided);
	for (int i = 0; i < lengthof(bytes); i++)
	{
		sum.input += divided[i].input;
		sum.cached += divided[i].cached;
		sum.cache_write += divided[i].cache_write;
		sum.output += divided[i].output;
		sum.reasoning += divided[i].reasoning;
		within = within && divided[i].known && divided[i].reasoning <= divided[i].output;
	}
	ok(sum.input == 1001 && sum.cached == 17 && sum.cache_write == 5 && sum.output == 99 && sum.reasoning == 98,
	   "each class of tokens adds up");
	ok(within, "reasoning is part of a part's output");
}

int
main(void)
{
	test_sums();
	test_remainders();
	test_usage();
	return finish();
}
