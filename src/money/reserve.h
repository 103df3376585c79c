/*-------------------------------------------------------------------------
 *
 * reserve.h
 *	  What a request may cost at most.  Arithmetic only.
 *
 * No text has more tokens than bytes, and one of a recipe of which many requests are known hardly more of a byte
 * than those.  Each token may be of the dearest class of input, and the answer may be as long as the request allows.
 * All amounts are nanodollars (tables/budget.h), rounded up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_RESERVE_H
#define LLM_RESERVE_H

#include "base/llm_enrich.h"

#include "tables/recipe_stat.h"

/* The dearest prices of a model, US dollars per million tokens. */
typedef struct LlmDearest
{
	double input; /* of any class, and of any tier */
	double output;
} LlmDearest;

/* A request of one row, by the bytes that are the row's own: input, and what its second asking repeats. */
typedef struct LlmWorst
{
	double each; /* for each of these bytes */
	int64 fixed; /* for the rest of the request, and the longest answer */
	int cap; /* tokens of the answer, at most */
} LlmWorst;

/*
 * "overhead": bytes of the body around the row's own; "per_byte": tokens of a byte; "cap": 0 where no answer is
 * written, for a vector.
 */
extern LlmWorst llm_reserve_worst(const LlmDearest *price, int64 overhead, double per_byte, int cap);

/* Tokens of a byte, by what requests of the recipe to the model have taken. */
extern double llm_reserve_per_byte(const LlmRecipeStat *stat);
extern int64 llm_reserve_of(const LlmWorst *worst, int64 bytes);

/* Input tokens that are reserved for a body of so many bytes. */
extern int llm_reserve_input(int bytes);

/*
 * Tokens that an answer may have under a budget: four times what the operation needs (0: not known), more
 * where the model may reason; and no more than the call (0: any number) and the model (0: not known) allow.
 */
extern int llm_reserve_cap(int needs, bool reasons, int max_tokens, int most);

/* Dollars as text, without zeros at the end, in the current context. */
extern char *llm_reserve_text(int64 nano);

#endif /* LLM_RESERVE_H */
