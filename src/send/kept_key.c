/*-------------------------------------------------------------------------
 *
 * kept_key.c
 *	  What a question is known by among kept answers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "send/kept_key.h"

bool
llm_kept_is_wanted(const LlmSharedRecipe *recipe)
{
	return recipe != NULL && llm_answer_is_kept(recipe->recipe);
}

void
llm_kept_make_key(LlmSharedRecipe *recipe, const LlmRoute *route, const char *input, size_t input_len,
				  LlmAnswerKey *key)
{
	LlmAnswerAsker asker = {llm_flight_fingerprint(recipe, route), route->role, route->target->server,
							route->addresses[recipe->recipe->op->kind].template};

	llm_answer_make_key(&asker, input, input_len, key);
}

LlmAnswerKey *
llm_kept_copy_key(const LlmClaim *claim, LlmSharedRecipe *recipe, const LlmRoute *route)
{
	LlmAnswerKey *key = palloc(sizeof(LlmAnswerKey));

	if (claim->answer_key != NULL)
		*key = *claim->answer_key;
	else
		llm_kept_make_key(recipe, route, claim->input, claim->input_len, key);
	return key;
}
