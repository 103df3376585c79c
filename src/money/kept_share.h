/*-------------------------------------------------------------------------
 *
 * kept_share.h
 *	  How many of the questions that a statement would ask have a kept answer, and so
 *	  cost nothing.
 *
 *	  make()   once for each recipe, model and role
 *	  tell()   for each question, however many
 *	  count()  what was found
 *
 * In a backend, inside a transaction.  Of many questions some are looked up: what was found is an
 * interval then, and costs little more for a million than for a thousand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_KEPT_SHARE_H
#define LLM_KEPT_SHARE_H

#include "base/llm_enrich.h"

#include "money/estimate.h"
#include "operation/operation.h"

typedef struct LlmKeptShare LlmKeptShare;

/* Whose questions they are, as in LlmForecastAsk. */
typedef struct LlmKeptAsker
{
	const LlmOperation *op;
	Jsonb *spec;
	const char *model; /* alias, or NULL: the default one */
	Oid role;
} LlmKeptAsker;

/* How many of some questions have a kept answer, and the bytes that tell() was told of them. */
typedef struct LlmKeptCount
{
	LlmGuess calls;
	double bytes;
} LlmKeptCount;

/*
 * In the current context, where all that it needs later goes, too.  NULL: no answer is kept, or this question is not
 * looked up.  "most" questions are looked up before only every second is, so many more before every fourth is, and
 * so on.
 */
extern LlmKeptShare *llm_kept_share_make(const LlmKeptAsker *asker, int most);

/*
 * One question, by its input, which counts for so many bytes; "dice" is any number that says nothing of whether its
 * answer is kept.
 */
extern void llm_kept_share_tell(LlmKeptShare *share, uint32 dice, const char *input, size_t len, double bytes);

/* Would tell() look that one up?  Then "dice" is the same there. */
extern bool llm_kept_share_wants(const LlmKeptShare *share, uint32 dice);

/* What was found up to now; all 0 for NULL. */
extern LlmKeptCount llm_kept_share_count(LlmKeptShare *share);

#endif /* LLM_KEPT_SHARE_H */
