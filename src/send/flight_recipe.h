/*-------------------------------------------------------------------------
 *
 * flight_recipe.h
 *	  Recipes of what is on its way, each loaded once, and the bytes that their
 *	  requests share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FLIGHT_RECIPE_H
#define LLM_FLIGHT_RECIPE_H

#include "base/llm_enrich.h"

#include "send/route.h"

/* A recipe, and its frames by dialect and model; shared by many requests. */
typedef struct LlmSharedRecipe
{
	int64 id; /* hash key: must be first */
	MemoryContext context;
	LlmRecipe *recipe;
	List *frames; /* of SharedFrame */
	int users;
} LlmSharedRecipe;

/* The recipe by id, NULL when it is gone.  Loaded at first use, which is inside a transaction. */
extern LlmSharedRecipe *llm_flight_recipe(int64 id);

/*
 * The bytes that all requests of a recipe to the route's endpoint share; the recipe's.  "cap": tokens that an
 * answer may have; 0: as the call says.
 */
extern LlmFrame *llm_flight_frame(LlmSharedRecipe *shared, const LlmRoute *route, int cap);

/* Under a budget: tokens that an answer may have, and bytes of a request beside the row's own; 0 for vectors. */
extern int llm_flight_cap(const LlmSharedRecipe *shared, const LlmRoute *route);
extern int64 llm_flight_overhead(LlmSharedRecipe *shared, const LlmRoute *route, int cap);

/*
 * What the requests of a recipe by this route have in common, as a SHA-256: of operation,
 * spec, and the body of an empty input.  Good as long as the recipe; that of one for vectors is in the
 * current context.
 */
extern const uint8 *llm_flight_fingerprint(LlmSharedRecipe *shared, const LlmRoute *route);

/* Is an answer of one model of no use beside those of another?  NULL: it is not. */
extern bool llm_recipe_is_of_model(const LlmRecipe *recipe);

/* Drop recipes that no request uses, when there are many. */
extern void llm_flight_trim_recipes(void);

#endif /* LLM_FLIGHT_RECIPE_H */
