/*-------------------------------------------------------------------------
 *
 * kept_key.h
 *	  What a question is known by among kept answers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_KEPT_KEY_H
#define LLM_KEPT_KEY_H

#include "base/llm_enrich.h"

#include "send/flight_recipe.h"
#include "send/route.h"
#include "tables/answer_key.h"
#include "tables/queue.h"

/*
 * Is any answer to the recipe as good as another, so that one may be kept?  Not while none
 * are kept at all.
 */
extern bool llm_kept_is_wanted(const LlmSharedRecipe *recipe);

/* The key of an input that is asked with this recipe by this route; in a transaction, or not. */
extern void llm_kept_make_key(LlmSharedRecipe *recipe, const LlmRoute *route, const char *input, size_t input_len,
							  LlmAnswerKey *key);

/* The same for a claimed task, in the current context; it may be there already. */
extern LlmAnswerKey *llm_kept_copy_key(const LlmClaim *claim, LlmSharedRecipe *recipe, const LlmRoute *route);

#endif /* LLM_KEPT_KEY_H */
