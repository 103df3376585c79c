/*-------------------------------------------------------------------------
 *
 * part.c
 *	  What each task has of the tokens of a request that carried several.
 *
 * Each part is what its weight is owed, rounded down; what is left over goes, one token
 * each, to those whose rounding took most.  Of equals the first has it, so that the same
 * request is divided in the same way, whenever that is asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "send/part.h"

/* A part's own number, and what its rounding took. */
typedef struct Rest
{
	double taken; /* below 1 */
	int number;
} Rest;

static int
compare_rests(const void *a, const void *b)
{
	const Rest *left = a;
	const Rest *right = b;

	if (left->taken != right->taken)
		return left->taken < right->taken ? 1 : -1;
	return left->number - right->number;
}

void
llm_part_tokens(int64 whole, const int64 *weights, int n, int64 *parts)
{
	Rest *rests;
	double weight = 0;
	int64 left = whole;

	if (n == 1)
	{
		parts[0] = whole;
		return;
	}
	rests = palloc(sizeof(Rest) * n);
	for (int i = 0; i < n; i++)
		weight += weights[i];
	for (int i = 0; i < n; i++)
	{
		double owed = (double) whole * (weight > 0 ? (double) weights[i] / weight : 1.0 / n);

		parts[i] = Min((int64) owed, left);
		rests[i].taken = owed - (double) parts[i];
		rests[i].number = i;
		left -= parts[i];
	}
	qsort(rests, n, sizeof(Rest), compare_rests);
	for (int i = 0; left > 0; i = (i + 1) % n)
	{
		parts[rests[i].number]++;
		left--;
	}
	pfree(rests);
}

void
llm_part_usage(const LlmUsage *whole, const int64 *weights, int n, LlmUsage *parts)
{
	int64 *tokens;

	if (n == 1)
	{
		parts[0] = *whole;
		return;
	}
	tokens = palloc(sizeof(int64) * n);
	memset(parts, 0, sizeof(LlmUsage) * n);
	llm_part_tokens(whole->input, weights, n, tokens);
	for (int i = 0; i < n; i++)
	{
		parts[i].known = whole->known;
		parts[i].input = tokens[i];
	}
	llm_part_tokens(whole->cached, weights, n, tokens);
	for (int i = 0; i < n; i++)
		parts[i].cached = tokens[i];
	llm_part_tokens(whole->cache_write, weights, n, tokens);
	for (int i = 0; i < n; i++)
		parts[i].cache_write = tokens[i];
	llm_part_tokens(whole->reasoning, weights, n, tokens);
	for (int i = 0; i < n; i++)
		parts[i].reasoning = parts[i].output = tokens[i];
	llm_part_tokens(whole->output - whole->reasoning, weights, n, tokens);
	for (int i = 0; i < n; i++)
		parts[i].output += tokens[i];
	pfree(tokens);
}
