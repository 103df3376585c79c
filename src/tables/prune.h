/*-------------------------------------------------------------------------
 *
 * prune.h
 *	  Old rows of our tables are deleted, in steps.
 *
 *	  for each kind, in their order: prune(); before RECIPES await_recipe_readers()
 *
 * In a procedure that may commit.  Called by llm.prune().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PRUNE_H
#define LLM_PRUNE_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* In the order in which they are pruned: what refers to others goes first. */
typedef enum LlmPruneKind
{
	LLM_PRUNE_LEDGER,
	LLM_PRUNE_DEAD_LETTERS,
	LLM_PRUNE_JOBS,
	LLM_PRUNE_ANSWERS,
	LLM_PRUNE_NONE,
	LLM_PRUNE_HIDE_RECIPES, /* then await_recipe_readers() */
	LLM_PRUNE_RECIPES,
	LLM_PRUNE_KINDS
} LlmPruneKind;

/* What is deleted of a kind, as users call it; NULL: a step on the way. */
extern const char *llm_prune_name(LlmPruneKind kind);

/* All that is older than "before" and not needed, in steps that commit; how many rows went. */
extern int64 llm_prune(LlmPruneKind kind, TimestampTz before);

/*
 * Wait until every transaction is over that may have found a recipe which is hidden now; false
 * when some take long.  Not inside a transaction that others wait for.
 */
extern bool llm_prune_await_recipe_readers(void);

#endif /* LLM_PRUNE_H */
