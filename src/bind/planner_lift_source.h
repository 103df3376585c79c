/*-------------------------------------------------------------------------
 *
 * planner_lift_source.h
 *	  Where a column comes from: a sub-select, WITH, VALUES.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_LIFT_SOURCE_H
#define LLM_PLANNER_LIFT_SOURCE_H

#include "base/llm_enrich.h"

#include "bind/planner.h"

/* Where a column comes from. */
typedef struct LlmLiftSource
{
	Query *query; /* whose result it is, or which has the VALUES list */
	int varno; /* of that list; 0: a result */
	int column;
	LlmQueryLevel *outer; /* what is around the query */
	RangeTblEntry *rte; /* of a Var */
	CommonTableExpr *cte; /* of one in WITH */
	SubLink *sublink; /* EXPR_SUBLINK: a query whose result is one column, to which none can be added */
} LlmLiftSource;

/* "node" is of the level's query.  False: it is no column of a sub-select, WITH or VALUES. */
extern bool llm_lift_find_source(Node *node, LlmQueryLevel *level, LlmLiftSource *source);

#endif /* LLM_PLANNER_LIFT_SOURCE_H */
