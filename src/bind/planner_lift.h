/*-------------------------------------------------------------------------
 *
 * planner_lift.h
 *	  Calls that were given a column of their own, so that their marker can travel.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_LIFT_H
#define LLM_PLANNER_LIFT_H

#include "base/llm_enrich.h"

#include "bind/planner.h"

/* Move calls out of all columns that the statement stores. */
extern void llm_planner_lift(Query *query, LlmFound *found);

#endif /* LLM_PLANNER_LIFT_H */
