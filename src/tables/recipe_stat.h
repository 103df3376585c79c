/*-------------------------------------------------------------------------
 *
 * recipe_stat.h
 *	  llm.recipe_stat: what requests of a recipe to a model have taken so far.
 *
 *	  sender:   add() for each settlement that is stored, store() now and then, get()
 *	  backend:  read(), between own_begin() and own_end()
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_RECIPE_STAT_H
#define LLM_RECIPE_STAT_H

#include "base/llm_enrich.h"

#include "tables/queue.h"
#include "utils/jsonb.h"

/* Sums over requests whose usage the provider told.  Bytes are those of request bodies. */
typedef struct LlmRecipeStat
{
	int64 requests; /* first askings */
	double bytes;
	double input; /* tokens of all classes */
	double cached;
	double cache_write;
	double output;
	double output_max; /* of one request */
	double per_byte_max; /* input tokens per byte, of one request */
	double bytes_squared;
	double bytes_input;
	double input_squared;
	double output_squared;
	int64 again; /* askings after a charged failure */
	double again_input;
	double again_output;
	double latency_ms; /* of first askings */
} LlmRecipeStat;

/* The sums of one recipe and model that are to be stored. */
typedef struct LlmRecipeStatRow
{
	int64 recipe;
	const char *server;
	const char *model;
	LlmRecipeStat sums;
} LlmRecipeStatRow;

/* Does the settlement tell anything?  Then add it to the sums. */
extern bool llm_recipe_stat_tells(const LlmSettlement *settlement);
extern void llm_recipe_stat_add(LlmRecipeStat *sums, const LlmSettlement *settlement);

/* Add rows to what the table has, in one statement; no two of them are of the same recipe and model. */
extern void llm_recipe_stat_store(const LlmRecipeStatRow *rows, int n);

/* In the sender: the same by its number; all zero where nothing is. */
extern void llm_recipe_stat_get(int64 recipe, const char *server, const char *model, LlmRecipeStat *stat);

/* What is known of a recipe by its content; all zero where nothing is. */
extern void llm_recipe_stat_read(const char *operation, Jsonb *spec, const char *server, const char *model,
								 LlmRecipeStat *stat);

/*
 * A server gets another name: what was learned of it is known under that, too.  In a user's transaction, for which
 * the sender does not wait: so rows that it may write stay.
 */
extern void llm_recipe_stat_rename_server(const char *name, const char *new_name);

#endif /* LLM_RECIPE_STAT_H */
