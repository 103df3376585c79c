/*-------------------------------------------------------------------------
 *
 * fit.h
 *	  Texts that are too long for the model that is asked are cut, where the option "truncate" says so.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FIT_H
#define LLM_FIT_H

#include "base/llm_enrich.h"

#include "catalog/habit.h"
#include "operation/operation.h"

/*
 * The text as it is sent to a model of so many tokens of context (0: not known), beside so many bytes of ours: "str"
 * itself, or a palloc'd piece of it.
 */
extern const char *llm_fit(const LlmRecipe *recipe, const char *str, size_t len, int context_tokens, int64 overhead,
						   size_t *kept);

/*
 * A text of so many tokens was refused as too long, whatever was known of the context.  What is assumed from now on, in
 * the current context; a name of NULL where that would be too little to ask with, or the call wants no cut.
 */
extern LlmLearned llm_fit_less(const LlmRecipe *recipe, int64 sent_tokens, int context_tokens);

#endif /* LLM_FIT_H */
