/*-------------------------------------------------------------------------
 *
 * estimate.c
 *	  What calls will cost before they are made: arithmetic.
 *
 * Where requests of the recipe have taught something, input tokens follow a line over the
 * bytes of a body, output tokens have a mean, and so has what asking again takes.  The
 * interval is of what chance does to the mean of so many calls, and did to what was
 * learned: both shrink with numbers.
 *
 * Where nothing was learned, the interval is that of tokenizers and of answers: wide.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "money/estimate.h"

/* So many requests tell more than what is known of tokenizers. */
#define LEARNED_REQUESTS 20

/*
 * Tokens of a byte, where nothing is known.  Prose is at 0.2 to 0.3, dense JSON and digits
 * at 0.5, and not all of a frame is billed.  Scripts other than Latin have two or three
 * bytes a character, and about one token.
 */
static const LlmGuess frame_per_byte = {0.08, 0.19, 0.40};
static const LlmGuess ascii_per_byte = {0.15, 0.25, 0.45};
static const LlmGuess other_per_byte = {0.16, 0.33, 0.70};

/* A first question may be asked again: so much dearer is it at most, where nothing is known. */
#define AGAIN_HIGH 1.35
#define AGAIN_TYPICAL 1.03

/* Frames from this many tokens on may be read from a provider's cache. */
#define CACHED_TOKENS 1024

/* Standard deviations of an interval: 99 of 100. */
#define DEVIATIONS 2.58

/* What even many requests do not tell. */
#define LEAST_SHARE 0.02

/* Bytes whose spread is below this share of their mean tell no slope. */
#define LEAST_SPREAD 0.02

#define PER_TOKEN 1e-6

/* Requests at a time and their latency, where nothing else is known. */
#define LATENCY_MS 1500
#define START_S 0.2

/*
 * Calls a second that the workers of a database get through at best, however fast a provider answers: claimed, sent,
 * stored and written (bench/RESULTS.md, on two cores).
 */
#define OWN_PACE 5000

/* The line of input tokens over the bytes of a body. */
typedef struct Line
{
	double mean_bytes;
	double mean_tokens;
	double slope;
	double residual; /* variance about the line */
	bool is_known; /* lengths differed enough */
} Line;

static double
variance(double sum, double squared, double n)
{
	double mean = sum / n;

	return Max(squared / n - mean * mean, 0);
}

static Line
fit_line(const LlmRecipeStat *stat)
{
	double n = stat->requests;
	Line line = {stat->bytes / n, stat->input / n, stat->input / stat->bytes, 0, false};
	double spread = variance(stat->bytes, stat->bytes_squared, n);
	double tokens = variance(stat->input, stat->input_squared, n);

	line.residual = tokens;
	if (sqrt(spread) > LEAST_SPREAD * line.mean_bytes)
	{
		double together = stat->bytes_input / n - line.mean_bytes * line.mean_tokens;

		line.slope = Min(Max(together / spread, 0), 2);
		line.residual = Max(tokens - line.slope * line.slope * spread, 0);
		line.is_known = true;
	}
	return line;
}

/* Dollars of an input token, when so large a share is read from or written to a cache. */
static double
input_price(const LlmUnitPrices *prices, const LlmRecipeStat *stat)
{
	double cached = stat->input > 0 ? stat->cached / stat->input : 0;
	double written = stat->input > 0 ? stat->cache_write / stat->input : 0;

	return PER_TOKEN * ((1 - cached - written) * prices->input + cached * prices->cached +
						written * prices->cache_write);
}

/* From what requests of the recipe took. */
static void
from_stat(const LlmEstimateAsk *ask, LlmEstimate *e)
{
	const LlmRecipeStat *stat = &ask->stat;
	double n = stat->requests;
	double mean_bytes = ask->frame_bytes + ask->input_bytes / ask->calls;
	Line line = fit_line(stat);
	double further = line.slope * (mean_bytes - line.mean_bytes);
	double input = Max(line.mean_tokens + further, 1);
	double output = stat->output / n;
	double again = stat->again / n;
	double again_input = stat->again_input / n;
	double again_output = stat->again_output / n;
	double price_in = input_price(&ask->prices, stat);
	double price_out = PER_TOKEN * ask->prices.output;
	double again_cost = again > 0 ? (price_in * again_input + price_out * again_output) / again
								  : price_in * input + price_out * output;
	double deviation;
	double margin;

	e->is_learned = true;
	e->input_tokens = ask->calls * (input + again_input);
	e->output_tokens = ask->calls * (output + again_output);
	e->cost = price_in * e->input_tokens + price_out * e->output_tokens;
	/* of one call; a deviation of answers may go with one of inputs */
	deviation = price_in * sqrt(line.residual) + price_out * sqrt(variance(stat->output, stat->output_squared, n));
	deviation = sqrt(deviation * deviation + again_cost * again_cost * (again + 1 / n) * (1 + again));
	margin = DEVIATIONS * deviation * sqrt(1 / n + 1 / ask->calls) * ask->calls;
	/* asked about lengths that were not seen: the slope counts, and is not that well known */
	margin += (line.is_known ? 0.1 : 0.3) * price_in * fabs(further) * ask->calls;
	margin += LEAST_SHARE * e->cost;
	e->cost_low = Max(e->cost - margin, 0);
	e->cost_high = e->cost + margin;
}

/* Tokens of a body without knowledge. */
static double
body_tokens(const LlmEstimateAsk *ask, double frame, double ascii, double other)
{
	double share = Min(Max(ask->ascii_share, 0), 1);

	return ask->calls * ask->frame_bytes * frame + ask->input_bytes * (share * ascii + (1 - share) * other);
}

static void
from_guesses(const LlmEstimateAsk *ask, LlmEstimate *e)
{
	const LlmUnitPrices *prices = &ask->prices;
	double low = body_tokens(ask, frame_per_byte.low, ascii_per_byte.low, other_per_byte.low);
	double typical = body_tokens(ask, frame_per_byte.typical, ascii_per_byte.typical, other_per_byte.typical);
	double high = body_tokens(ask, frame_per_byte.high, ascii_per_byte.high, other_per_byte.high);
	bool may_be_cached = ask->frame_bytes * frame_per_byte.high >= CACHED_TOKENS;

	low += ask->calls * ask->message_tokens.low;
	typical += ask->calls * ask->message_tokens.typical;
	high += ask->calls * ask->message_tokens.high;
	e->input_tokens = AGAIN_TYPICAL * typical;
	e->output_tokens = AGAIN_TYPICAL * ask->calls * ask->answer_tokens.typical;
	e->cost = PER_TOKEN * (prices->input * e->input_tokens + prices->output * e->output_tokens);
	e->cost_low = PER_TOKEN * ((may_be_cached ? Min(prices->cached, prices->input) : prices->input) * low +
							   prices->output * ask->calls * ask->answer_tokens.low);
	e->cost_high = PER_TOKEN * AGAIN_HIGH *
				   ((may_be_cached ? Max(prices->cache_write, prices->input) : prices->input) * high +
					prices->output * ask->calls * ask->answer_tokens.high);
}

void
llm_estimate(const LlmEstimateAsk *ask, LlmEstimate *estimate)
{
	memset(estimate, 0, sizeof(*estimate));
	estimate->calls = ask->calls;
	estimate->is_priced = ask->is_priced;
	if (ask->calls <= 0)
	{
		estimate->is_priced = true;
		estimate->is_learned = true;
		return;
	}
	if (ask->stat.requests >= LEARNED_REQUESTS && ask->stat.bytes > 0)
		from_stat(ask, estimate);
	else
		from_guesses(ask, estimate);
	if (!ask->is_priced)
		estimate->cost = estimate->cost_low = estimate->cost_high = 0;
}

void
llm_estimate_part(LlmEstimate *estimate, double typical, double least)
{
	estimate->calls *= typical;
	estimate->input_tokens *= typical;
	estimate->output_tokens *= typical;
	estimate->cost *= typical;
	estimate->cost_low *= least;
}

void
llm_estimate_add(LlmEstimate *sum, const LlmEstimate *part)
{
	sum->calls += part->calls;
	sum->input_tokens += part->input_tokens;
	sum->output_tokens += part->output_tokens;
	sum->cost_low += part->cost_low;
	sum->cost += part->cost;
	sum->cost_high += part->cost_high;
	sum->is_priced = sum->is_priced && part->is_priced;
	sum->is_learned = sum->is_learned && part->is_learned;
}

double
llm_estimate_seconds(const LlmEstimate *estimate, const LlmEstimatePace *pace)
{
	double latency_s = (pace->latency_ms > 0 ? pace->latency_ms : LATENCY_MS) / 1000;
	double requests = estimate->calls / Max(pace->calls_each, 1);
	double in_flight = Max(Min(pace->in_flight, requests), 1);
	double seconds = latency_s * ceil(requests / in_flight);

	if (estimate->calls <= 0)
		return 0;
	seconds = Max(seconds, estimate->calls / OWN_PACE);
	if (pace->requests_per_minute > 0)
		seconds = Max(seconds, requests * 60 / pace->requests_per_minute);
	if (pace->tokens_per_minute > 0)
		seconds = Max(seconds, (estimate->input_tokens + estimate->output_tokens) * 60 / pace->tokens_per_minute);
	return START_S + seconds;
}
