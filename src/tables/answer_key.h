/*-------------------------------------------------------------------------
 *
 * answer_key.h
 *	  What a question is known by in llm.answer.
 *
 *	  is_kept()      may the answer to a recipe be kept, and given again?
 *	  fingerprint()  once for all inputs of a recipe and target
 *	  make_key()     for each input
 *
 * The same bytes in the sender, which asks, and in a backend, which wants to know what will
 * not be asked.  Nothing here is a secret: a key's place in a URL is hashed, not the key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ANSWER_KEY_H
#define LLM_ANSWER_KEY_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"
#include "tables/answer.h"

/*
 * Is any answer to the recipe as good as another, so that one may be kept?  Not while none
 * are kept at all.
 */
extern bool llm_answer_is_kept(const LlmRecipe *recipe);

/*
 * What the requests of a recipe to an endpoint have in common: operation, spec, and the body of an
 * empty input.  "frame" is what the dialect has prepared of the recipe, without a cap of ours; of a
 * recipe for vectors it is not looked at.
 */
extern void llm_answer_fingerprint(const LlmRecipe *recipe, const LlmDialect *dialect, const LlmEndpoint *endpoint,
								   const LlmFrame *frame, uint8 *fingerprint);

/* Who asks, and where. */
typedef struct LlmAnswerAsker
{
	const uint8 *fingerprint;
	Oid role;
	const char *server; /* or NULL */
	const char *url; /* with "%s" in the place of a key; or NULL */
} LlmAnswerAsker;

extern void llm_answer_make_key(const LlmAnswerAsker *asker, const char *input, size_t len, LlmAnswerKey *key);

#endif /* LLM_ANSWER_KEY_H */
