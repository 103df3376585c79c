/*-------------------------------------------------------------------------
 *
 * reserve.c
 *	  What a request may cost at most.
 *
 * A body is JSON around the texts that the model reads; its names, quotes and escapes are more
 * bytes than the tokens that a provider adds around messages.  What some add besides for an
 * answer in a given form is in the margin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "money/reserve.h"
#include "tables/budget.h"

/* Input tokens that no byte of the body stands for. */
#define MARGIN_TOKENS 400
#define VECTOR_MARGIN_TOKENS 16

/* So many requests tell how many tokens a byte has, and the next ones may have so much more. */
#define ENOUGH_REQUESTS 200
#define MORE 1.1

/* An answer under a budget: so many times what it needs, which is this where the operation does not say. */
#define CAP_FACTOR 4
#define USUAL_NEED 4096

/* What a model that reasons may need besides. */
#define REASONING_TOKENS 8192

/* Nanodollars of a token, at a price of one dollar per million. */
#define NANO_PER_TOKEN 1000.0

/* So large that no budget has room for it, and sums of some still fit. */
#define TOO_MUCH 4e18

static int64
round_up(double nano)
{
	return nano >= TOO_MUCH ? (int64) TOO_MUCH : (int64) ceil(nano);
}

LlmWorst
llm_reserve_worst(const LlmDearest *price, int64 overhead, double per_byte, int cap)
{
	double token = price->input * NANO_PER_TOKEN;
	LlmWorst worst = {.each = token * per_byte, .cap = cap};

	/* one more for what a double may lose */
	worst.fixed = round_up(worst.each * overhead + token * (cap > 0 ? MARGIN_TOKENS : VECTOR_MARGIN_TOKENS) +
						   price->output * NANO_PER_TOKEN * cap + 1);
	return worst;
}

/* Short bodies are mostly our words, and rows may have more tokens of a byte: those show in the slope. */
double
llm_reserve_per_byte(const LlmRecipeStat *stat)
{
	double n = stat->requests;
	double spread;
	double slope = 0;

	if (stat->requests < ENOUGH_REQUESTS || stat->bytes <= 0 || stat->per_byte_max <= 0)
		return 1;
	spread = n * stat->bytes_squared - stat->bytes * stat->bytes;
	if (spread > 0)
		slope = (n * stat->bytes_input - stat->bytes * stat->input) / spread;
	return Min(MORE * Max(stat->per_byte_max, slope), 1);
}

int64
llm_reserve_of(const LlmWorst *worst, int64 bytes)
{
	return round_up(worst->fixed + ceil(worst->each * bytes));
}

int
llm_reserve_input(int bytes)
{
	return bytes + MARGIN_TOKENS;
}

int
llm_reserve_cap(int needs, bool reasons, int max_tokens, int most)
{
	int cap = CAP_FACTOR * (needs > 0 ? Min(needs, PG_INT32_MAX / 16) : USUAL_NEED) + (reasons ? REASONING_TOKENS : 0);

	if (max_tokens > 0)
		cap = Min(cap, max_tokens);
	if (most > 0)
		cap = Min(cap, most);
	return cap;
}

char *
llm_reserve_text(int64 nano)
{
	int64 size = nano < 0 ? -nano : nano;
	char *dollars = psprintf("%s%lld.%09lld", nano < 0 ? "-" : "", (long long) (size / LLM_NANO),
							 (long long) (size % LLM_NANO));
	char *end = dollars + strlen(dollars);

	while (end[-1] == '0')
		*--end = '\0';
	if (end[-1] == '.')
		*--end = '\0';
	return dollars;
}
