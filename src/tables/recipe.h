/*-------------------------------------------------------------------------
 *
 * recipe.h
 *	  llm.recipe: what the rows of a job share, found by its content.
 *
 * In a backend between own_begin() and own_end(), in the sender inside a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_RECIPE_H
#define LLM_RECIPE_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

/* SHA-256 of operation and content, in the current context. */
extern bytea *llm_recipe_hash(const char *operation, const Jsonb *spec);

/* The recipe of this content, made where there is none. */
extern int64 llm_recipe_find_or_add(const char *operation, Jsonb *spec);

#endif /* LLM_RECIPE_H */
