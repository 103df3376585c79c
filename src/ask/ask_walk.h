/*-------------------------------------------------------------------------
 *
 * ask_walk.h
 *	  What stands in a node of a finished plan: the plans below it, and its expressions.
 *
 * Lists are new, in the current context; what they hold is the plan's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_WALK_H
#define LLM_ASK_WALK_H

#include "base/llm_enrich.h"

#include "nodes/plannodes.h"

/* The plans directly below; of Plan. */
extern List *llm_plan_children(const Plan *plan);

/* What is evaluated for its rows; of expressions, and lists of them. */
extern List *llm_plan_row_expressions(const Plan *plan);

/* What is evaluated when it begins, and again when it is scanned again; its sub-selects that are read once among it. */
extern List *llm_plan_start_expressions(const Plan *plan);

#endif /* LLM_ASK_WALK_H */
