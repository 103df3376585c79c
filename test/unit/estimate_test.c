/*-------------------------------------------------------------------------
 *
 * estimate_test.c
 *	  What calls will cost before they are made: does chance stay in the interval?
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <math.h>

#include "money/estimate.h"

static uint32 dice = 12345;

static double
throw_dice(void)
{
	dice = dice * 1103515245 + 12345;
	return ((dice >> 8) & 0xffff) / 65536.0;
}

/* A request of so many bytes: tokens and dollars as a provider would count them. */
static void
request(double bytes, double *input, double *output)
{
	*input = 20 + 0.2 * bytes * (0.9 + 0.2 * throw_dice());
	*output = 1 + 100 * throw_dice();
}

static LlmEstimateAsk
make_ask(double calls, double each)
{
	LlmEstimateAsk ask = {0};

	ask.calls = calls;
	ask.input_bytes = calls * each;
	ask.frame_bytes = 500;
	ask.ascii_share = 1;
	ask.answer_tokens = (LlmGuess){1, 50, 150};
	ask.is_priced = true;
	ask.prices = (LlmUnitPrices){0.25, 0.025, 0.3125, 2};
	return ask;
}

static void
learn(LlmRecipeStat *stat, int n, double each)
{
	for (int i = 0; i < n; i++)
	{
		double bytes = 500 + each * 2 * throw_dice();
		double input;
		double output;

		request(bytes, &input, &output);
		stat->requests++;
		stat->bytes += bytes;
		stat->input += input;
		stat->output += output;
		stat->output_max = Max(stat->output_max, output);
		stat->bytes_squared += bytes * bytes;
		stat->bytes_input += bytes * input;
		stat->input_squared += input * input;
		stat->output_squared += output * output;
		if (throw_dice() < 0.1)
		{
			stat->again++;
			stat->again_input += input * 1.2;
			stat->again_output += output;
		}
	}
}

/* What so many calls cost in the end. */
static double
run_calls(int n, double each)
{
	double cost = 0;

	for (int i = 0; i < n; i++)
	{
		double bytes = 500 + each * 2 * throw_dice();
		double input;
		double output;
		double times = throw_dice() < 0.1 ? 2.1 : 1;

		request(bytes, &input, &output);
		cost += times * (0.25e-6 * input + 2e-6 * output);
	}
	return cost;
}

/* How many of 200 estimates hold, and the widest interval. */
static int
hits(int learned, int calls, double learned_each, double each, double *widest)
{
	int within = 0;

	*widest = 0;
	for (int i = 0; i < 200; i++)
	{
		LlmEstimateAsk ask = make_ask(calls, each);
		LlmEstimate estimate;
		double cost;

		learn(&ask.stat, learned, learned_each);
		llm_estimate(&ask, &estimate);
		cost = run_calls(calls, each);
		within += cost >= estimate.cost_low && cost <= estimate.cost_high;
		*widest = Max(*widest, (estimate.cost_high - estimate.cost_low) / (estimate.cost_high + estimate.cost_low));
	}
	return within;
}

static void
test_intervals(void)
{
	double widest;

	ok(hits(0, 100, 0, 300, &widest) >= 190, "without knowledge the interval is wide enough");
	ok(hits(20, 100, 300, 300, &widest) >= 190, "with little knowledge, too");
	ok(hits(300, 300, 300, 300, &widest) >= 190, "with more of it the interval holds");
	ok(widest < 0.15, "and is less than 15% either way");
	ok(hits(300, 300, 300, 1500, &widest) >= 190, "about longer texts than those that taught");
	ok(hits(300, 3, 300, 300, &widest) >= 190, "about a few calls");
	ok(widest > 0.2, "which chance makes wide");
}

static void
test_edges(void)
{
	LlmEstimateAsk ask = make_ask(0, 0);
	LlmEstimate estimate;
	LlmEstimate sum = {.is_priced = true, .is_learned = true};
	LlmEstimatePace pace = {.latency_ms = 1000, .in_flight = 10};

	llm_estimate(&ask, &estimate);
	ok(estimate.cost_high == 0 && estimate.is_priced, "no calls cost nothing");
	ask = make_ask(10, 100);
	ask.is_priced = false;
	llm_estimate(&ask, &estimate);
	ok(!estimate.is_priced && estimate.cost_high == 0 && estimate.input_tokens > 0, "tokens are known without a price");
	llm_estimate_add(&sum, &estimate);
	ok(!sum.is_priced, "a sum with an unknown part has no price");
	is((int64) sum.calls, 10, "but calls");
	estimate.calls = 100;
	ok(fabs(llm_estimate_seconds(&estimate, &pace) - 10.2) < 0.01, "ten at a time take a tenth of the time");
	pace.requests_per_minute = 60;
	ok(fabs(llm_estimate_seconds(&estimate, &pace) - 100.2) < 0.01, "a limit makes it longer");
	pace = (LlmEstimatePace){.latency_ms = 10, .in_flight = 1000, .calls_each = 100};
	estimate.calls = 1000000;
	ok(fabs(llm_estimate_seconds(&estimate, &pace) - 200.2) < 0.01, "no provider makes our own work faster");
}

int
main(void)
{
	test_intervals();
	test_edges();
	return finish();
}
