/*-------------------------------------------------------------------------
 *
 * fit.c
 *	  Texts that are too long for the model that is asked are cut, where the option "truncate" says so.
 *
 * How much fits is an option of the server or the model, or comes with the known prices.  Where nobody knows,
 * a refusal tells: half of what was sent is assumed from then on, as a habit of the host.  That costs a
 * request each time, and none of them is charged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/fdw_habit.h"
#include "dialect/dialect.h"
#include "send/fit.h"

/* Of the context, in percent: our estimate may be off by the rest. */
#define FILLED_PERCENT 90

/* Less than this is no context that anybody has. */
#define LEAST_TOKENS 1000

const char *
llm_fit(const LlmRecipe *recipe, const char *str, size_t len, int context_tokens, int64 overhead, size_t *kept)
{
	int64 room = (int64) context_tokens * FILLED_PERCENT / 100 - overhead * 10 / LLM_BYTES_OF_TEN_TOKENS;
	const char *cut = str;
	size_t keep = len;
	int64 tokens;

	*kept = len;
	if (recipe->params.truncate == LLM_TRUNCATE_NOT || context_tokens == 0 || room <= 0)
		return str;
	while ((tokens = llm_dialect_estimate_tokens(cut, *kept)) > room && keep > 1)
	{
		if (cut != str)
			pfree(unconstify(char *, cut));
		/* the part that is kept may have more tokens per byte than the whole: then once more */
		keep = Min(keep - 1, (size_t) ((double) keep * (double) room / (double) tokens));
		cut = llm_truncate(str, len, recipe->params.truncate, keep, kept);
	}
	return cut;
}

LlmLearned
llm_fit_less(const LlmRecipe *recipe, int64 sent_tokens, int context_tokens)
{
	int64 fits = (context_tokens > 0 ? Min(sent_tokens, context_tokens) : sent_tokens) / 2;
	LlmLearned learned = {NULL, NULL};

	if (recipe->params.truncate == LLM_TRUNCATE_NOT || fits < LEAST_TOKENS)
		return learned;
	learned.name = LLM_HABIT_CONTEXT_TOKENS;
	learned.value = psprintf("%d", (int) Min(fits, PG_INT32_MAX));
	return learned;
}
